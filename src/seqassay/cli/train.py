"""`seqassay train`: features of labelled records, and heads trained on them."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Any

import typer

from seqassay.cli.console import console_log, resumable
from seqassay.cli.train_encoders import encoders_command
from seqassay.cli.train_finetune import finetune_command
from seqassay.config import resolve_settings

_KEPT = "what was committed is kept"


def register(app: typer.Typer) -> None:
    """Add the command group to the app."""
    train = typer.Typer(help="Train encoders, or a head on the features of others.", no_args_is_help=True)
    train.command("encoders", no_args_is_help=True)(encoders_command)
    train.command("finetune", no_args_is_help=True)(finetune_command)
    train.command("features", no_args_is_help=True)(features_command)
    train.command("head", no_args_is_help=True)(head_command)
    app.add_typer(train, name="train")


def features_command(
    input: Path = typer.Argument(
        None, metavar="DATASET_OR_FASTA", help="A dataset folder (train, valid, test), or one labelled FASTA file."
    ),
    output_dir: Path = typer.Option(
        None, "-o", "--output-dir", metavar="OUT", help="Folder for the features; one below it for each split."
    ),
    model: str = typer.Option(None, "-m", "--model", metavar="NAME_OR_DIR", help="Bundle whose encoders to use."),
    nucleotide: str = typer.Option(None, metavar="DIR", help="Or a nucleotide encoder: a name or a folder,"),
    protein: str = typer.Option(None, metavar="DIR", help="with a protein encoder"),
    chunk_length: int = typer.Option(None, metavar="N", help="and a chunk length (default: the dataset's)."),
    genetic_code: int = typer.Option(None, metavar="N", help="NCBI table number, with encoders (default: 1)."),
    ambiguity: str = typer.Option(
        None, metavar="drop|X", help="Codons with an ambiguous base, with encoders (default: drop)."
    ),
    split: str = typer.Option(None, metavar="NAME", help="One split of a dataset, or what one FASTA file is."),
    dtype: str = typer.Option(None, metavar="float32|bf16", help="Number format of the features (default: float32)."),
    device: str = typer.Option(None, metavar="auto|cpu|cuda|cuda:N", help="Where to compute (default: auto)."),
    precision: str = typer.Option(None, metavar="float32|bf16|fp16|exact", help="(default: what the bundle names)"),
    threads: int = typer.Option(None, metavar="N", help="CPU threads (default: what the machine gives)."),
    batch: int = typer.Option(None, metavar="TOKENS", help="Token budget of a batch (default: by device)."),
    shard_size: int = typer.Option(None, metavar="N", help="Records in a shard (default: 4096)."),
    resume: bool = typer.Option(None, "--resume", help="Go on with the interrupted run in OUT."),
    force: bool = typer.Option(None, "--force", help="Replace the features in OUT."),
    progress: bool = typer.Option(True, "--progress/--no-progress", help="Show progress."),
) -> None:
    """Embed every stop-free frame of labelled records, into files that `train head` reads.

    Headers read `>ID label=viral group=phage [taxon="…"] [genome=G] [frames=F1,R2]`.
    """
    given = {name: value for name, value in locals().items() if name != "progress"}
    from seqassay.measure.progress import RunProgress
    from seqassay.report.terminal import ProgressReporter, error_console
    from seqassay.train.features import FeatureSettings, make_features

    settings = resolve_settings(FeatureSettings, {}, given)
    counter = RunProgress()
    with contextlib.ExitStack() as stack:
        stack.enter_context(resumable(_KEPT, option="--resume"))
        stack.enter_context(console_log(logging.WARNING))
        if progress:
            stack.enter_context(ProgressReporter(counter, error_console()))
        splits = make_features(settings, progress=counter)
    for said in splits:
        counts = said["counts"]
        typer.echo(
            f"{said['split']}: {counts['frames']:,} frames of {said['identity']['merged_dim']} values "
            f"({counts['viral_frames']:,} viral), from {counts['records']:,} records "
            f"({counts['records_without_frame']:,} without a frame)"
        )
    typer.echo(f"in {settings.output_dir}, {sum(f['bytes'] for said in splits for f in said['files']) / 1e6:,.1f} MB")


def head_command(
    train: Path = typer.Option(None, "--train", metavar="FEATURES", help="Features to train on."),
    valid: Path = typer.Option(
        None, "--valid", metavar="FEATURES", help="Features that decide when to stop, and which weights are best."
    ),
    output_dir: Path = typer.Option(None, "-o", "--output-dir", metavar="OUT", help="Folder for the head."),
    test: Path = typer.Option(None, "--test", metavar="FEATURES", help="Features to evaluate on, once, at the end."),
    recipe: str = typer.Option(None, metavar="default|reference", help="How to train (default: default)."),
    seed: int = typer.Option(None, metavar="N", help="(default: 42)"),
    max_epochs: int = typer.Option(None, metavar="N", help="(default: the recipe's, as for the three below)"),
    batch_size: int = typer.Option(None, metavar="FRAMES"),
    learning_rate: float = typer.Option(None, metavar="RATE"),
    patience: int = typer.Option(None, metavar="EPOCHS", help="Epochs without a lower validation loss before the end."),
    init: Path = typer.Option(None, "--init", metavar="HEAD", help="A head to begin with, of the same encoders."),
    taxa_apart: bool = typer.Option(None, "--taxa-apart", help="Refuse a taxon that is in two of the sets."),
    bundle: Path = typer.Option(None, "--bundle", metavar="DIR", help="Also write a bundle for `predict -m DIR`."),
    name: str = typer.Option(None, metavar="NAME", help="The bundle's name (default: its folder's)."),
    nucleotide: Path = typer.Option(None, metavar="DIR", help="Where the bundle's encoders are, if they were moved"),
    protein: Path = typer.Option(None, metavar="DIR", help="since the features were made."),
    device: str = typer.Option(None, metavar="auto|cpu|cuda|cuda:N", help="Where to train (default: cpu)."),
    threads: int = typer.Option(None, metavar="N", help="CPU threads (default: what the machine gives)."),
    checkpoint_every: int = typer.Option(
        None, metavar="STEPS", help="Steps between checkpoints within an epoch (default: 1000)."
    ),
    resume: bool = typer.Option(None, "--resume", help="Go on with the interrupted training in OUT."),
    force: bool = typer.Option(None, "--force", help="Replace the training in OUT, and the bundle."),
    quiet: bool = typer.Option(False, "-q", "--quiet", help="No line for every epoch."),
) -> None:
    """Train a classifier head on features, and keep its best weights on the validation set.

    Writes head.safetensors (with what it was trained on), metrics.csv (every epoch) and training.json.
    """
    given = {key: value for key, value in locals().items() if key != "quiet"}
    from seqassay.train.head import HeadSettings, train_head

    settings = resolve_settings(HeadSettings, {}, given)
    with resumable(_KEPT, option="--resume"), console_log(logging.WARNING if quiet else logging.INFO):
        result = train_head(settings)
    if result.was_done:
        typer.echo(f"{result.folder}: the training was done already; nothing to do")
    else:
        typer.echo("\n".join(head_summary(result.record, result.folder)))


def head_summary(record: dict[str, Any], folder: Path) -> list[str]:
    """What a person wants to know of a finished training."""
    training = record["training"]
    lines = [
        f"recipe {record['head']['recipe']}, seed {record['head']['seed']}: {training['epochs']} epochs, "
        f"{training['steps']:,} steps; the weights are those of epoch {training['best_epoch']}"
    ]
    for name in ("validation", "test"):
        for unit in ("frames", "chunks") if record[name] else ():
            figures = record[name][unit]
            shown = ", ".join(
                f"{label} {'–' if figures[key] is None else format(figures[key], '.4f')}"
                for label, key in (("ROC-AUC", "roc_auc"), ("accuracy", "accuracy"), ("F1", "f1"))
            )
            lines.append(f"{name}, {figures['n']:,} {unit}: {shown}")
    lines.append(f"head {folder / record['head']['path']}")
    if record["bundle"]:
        lines += [f"bundle {record['bundle']['name']} {record['bundle']['digest'][:12]} in {record['bundle']['path']}"]
        lines += [f"use it with: seqassay predict -m {record['bundle']['path']} …"]
    return lines
