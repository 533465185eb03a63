"""`seqassay lm`: small language models, from a parameter budget to figures."""

from __future__ import annotations

import typer

from seqassay.cli import lm_data
from seqassay.cli.lm_build import build_command
from seqassay.cli.lm_evaluate import evaluate_command
from seqassay.cli.lm_export import export_command
from seqassay.cli.lm_train import train_command


def register(app: typer.Typer) -> None:
    """Add the command group to the app; each subcommand has a module of its own, and one line here."""
    lm = typer.Typer(help="Small language models: build to a parameter budget, evaluate, export.", no_args_is_help=True)
    lm.command("build", no_args_is_help=True)(build_command)
    lm.command("evaluate", no_args_is_help=True)(evaluate_command)
    lm.command("export", no_args_is_help=True)(export_command)
    lm.command("train", no_args_is_help=True)(train_command)
    lm_data.register(lm)
    app.add_typer(lm, name="lm")
