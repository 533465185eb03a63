"""`seqassay train finetune`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import typer

from seqassay.cli.console import console_log, resumable
from seqassay.cli.train_encoders import CHECKPOINTS_KEPT
from seqassay.config import resolve_settings


def finetune_command(
    dataset: Path = typer.Argument(
        None, metavar="DATASET", help="Folder with train.fa.gz and valid.fa.gz: labelled records, best whole genomes."
    ),
    encoder: str = typer.Option(
        None,
        "-e",
        "--encoder",
        metavar="DIR_OR_NAME",
        help="Folder, weight file, fetched encoder, or part of a bundle: mini:protein, mini:nucleotide.",
    ),
    layers: int = typer.Option(
        None, "--layers", metavar="N", help="How many of the last layers learn; 0 trains the head alone."
    ),
    output_dir: Path = typer.Option(
        None, "-o", "--output-dir", metavar="OUT", help="Folder for checkpoints, OUT/encoder and OUT/head.safetensors."
    ),
    chunk_length: int = typer.Option(None, metavar="BASES", help="Longest chunks to train on (default: 300)."),
    steps: int = typer.Option(None, metavar="N", help="(default: 2000)"),
    max_minutes: float = typer.Option(None, metavar="M", help="End the schedule in this time (default: no limit)."),
    learning_rate: float = typer.Option(None, metavar="RATE", help="Of the encoder's layers (default: 5e-5)."),
    bases_per_step: int = typer.Option(
        None, metavar="N", help="Bases a batch; fewer need less memory (default: 30000)."
    ),
    evaluate_every: int = typer.Option(
        None, metavar="STEPS", help="Steps between evaluations and checkpoints (default: 200)."
    ),
    seed: int = typer.Option(None, metavar="N", help="(default: 1)"),
    device: str = typer.Option(None, metavar="auto|cpu|cuda|cuda:N", help="Where to train (default: auto)."),
    precision: str = typer.Option(
        None, metavar="bf16|float32", help="Of the matrix products while training (default: bf16)."
    ),
    threads: int = typer.Option(None, metavar="N", help="CPU threads (default: what the machine gives)."),
    quiet: bool = typer.Option(False, "-q", "--quiet", help="No line for every evaluation."),
) -> None:
    """Train the last layers of a published encoder and a new head on labelled records.

    A DNABERT-S class encoder reads all six frames, an ESM-2 class one those without a stop. Headers read
    `>ID label=viral|other group=NAME`. The test split is never read. Stopped, the same command goes on.
    """
    given = {key: value for key, value in locals().items() if key != "quiet"}
    from seqassay.train.finetune_command import FineTuneSettings, finetune

    settings = resolve_settings(FineTuneSettings, {}, given)
    with resumable(CHECKPOINTS_KEPT), console_log(logging.WARNING if quiet else logging.INFO):
        record = finetune(settings)
    typer.echo("\n".join(summary(record, settings.output_dir)))


def summary(record: dict[str, Any], folder: Path) -> list[str]:
    """What a person wants to know of a finished fine-tuning."""
    best = next(row for row in record["history"] if row["step"] == record["best_step"])
    figures = ", ".join(
        f"{name} {value:.4f}"
        for name, value in best.items()
        if name.startswith(("auc", "balanced")) and value is not None  # of groups that are too small
    )
    parameters, encoder = record["parameters"], folder / record["encoder"]["path"]
    other, option = ("protein", "nucleotide") if record["side"] == "nucleotide" else ("nucleotide", "protein")
    return [
        f"{parameters['trained']:,} parameters trained, {parameters['frozen']:,} frozen; "
        f"the weights are those of step {record['best_step']:,} of {record['steps']:,}: {figures}",
        f"encoder {record['encoder']['digest'][:12]} in {encoder}",
        f"head {folder / record['head']['path']}",
        f"train a joint head with: seqassay train features DATASET --{option} {encoder} --{other} …",
    ]
