"""`seqassay lm`: small language models, from a parameter budget to figures."""

from __future__ import annotations

import typer

from seqassay.cli import lm_data
from seqassay.cli.lm_build import build_command
from seqassay.cli.lm_compare import compare_command
from seqassay.cli.lm_evaluate import evaluate_command
from seqassay.cli.lm_export import export_command
from seqassay.cli.lm_generate import generate_command
from seqassay.cli.lm_harness import harness_command
from seqassay.cli.lm_score_text import score_text_command
from seqassay.cli.lm_sweep import sweep_command
from seqassay.cli.lm_train import train_command


def register(app: typer.Typer) -> None:
    """Add the command group to the app; each subcommand has a module of its own, and one line here."""
    lm = typer.Typer(help="Small language models: build to a parameter budget, evaluate, export.", no_args_is_help=True)
    lm.command("build", no_args_is_help=True)(build_command)
    lm.command("compare", no_args_is_help=True)(compare_command)
    lm.command("evaluate", no_args_is_help=True)(evaluate_command)
    lm.command("export", no_args_is_help=True)(export_command)
    lm.command("generate", no_args_is_help=True)(generate_command)
    lm.command("harness", no_args_is_help=True)(harness_command)
    lm.command("score-text", no_args_is_help=True)(score_text_command)
    lm.command("sweep", no_args_is_help=True)(sweep_command)
    lm.command("train", no_args_is_help=True)(train_command)
    lm_data.register(lm)
    app.add_typer(lm, name="lm")
