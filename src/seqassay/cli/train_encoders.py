"""`seqassay train encoders`."""

from __future__ import annotations

import logging
from pathlib import Path

import typer

from seqassay.cli.console import console_log, resumable
from seqassay.config import resolve_settings

CHECKPOINTS_KEPT = "what was learnt up to the last evaluation is kept"


def encoders_command(
    dataset: Path = typer.Argument(
        None, metavar="DATASET", help="Folder with train.fa.gz and valid.fa.gz: labelled records, best whole genomes."
    ),
    output_dir: Path = typer.Option(
        None, "-o", "--output-dir", metavar="OUT", help="Folder for checkpoints and, at the end, OUT/bundle."
    ),
    name: str = typer.Option(None, metavar="NAME", help="The bundle's name (default: OUT's)."),
    steps: int = typer.Option(None, metavar="N", help="Steps of each encoder's training (default: 12000)."),
    pretrain_steps: int = typer.Option(None, metavar="N", help="Steps on masked tokens before (default: 0)."),
    finish_steps: int = typer.Option(
        None, metavar="N", help="Nucleotide steps with made-up sequences after (default: 1500)."
    ),
    max_minutes: float = typer.Option(None, metavar="M", help="Time for each of these (default: no limit)."),
    seed: int = typer.Option(None, metavar="N", help="(default: 1)"),
    device: str = typer.Option(None, metavar="auto|cpu|cuda|cuda:N", help="Where to train (default: auto)."),
    threads: int = typer.Option(None, metavar="N", help="CPU threads (default: what the machine gives)."),
    quiet: bool = typer.Option(False, "-q", "--quiet", help="No line for every evaluation."),
) -> None:
    """Train small encoders and heads on labelled records, calibrate them, and write a bundle for `predict`.

    Headers read `>ID label=viral|other group=NAME [taxon="…"]`. The test split is never read. Stopped, the same
    command goes on from its checkpoints.
    """
    given = {key: value for key, value in locals().items() if key != "quiet"}
    from seqassay.train.encoder_command import EncoderSettings, train_encoders

    settings = resolve_settings(EncoderSettings, {}, given)
    with resumable(CHECKPOINTS_KEPT), console_log(logging.WARNING if quiet else logging.INFO):
        bundle = train_encoders(settings)
    typer.echo(f"bundle {bundle.name} {bundle.digest[:12]} in {bundle.path}")
    typer.echo(f"use it with: seqassay predict -m {bundle.path} …")
