"""`seqassay dataset`: build training data from labelled sequences, and fetch RefSeq releases to build from."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from seqassay.cli.console import console_log, repeatable, watched
from seqassay.errors import UsageError

if TYPE_CHECKING:
    from seqassay.train.dataset_build import BuildSettings
    from seqassay.train.dataset_download import FetchProgress

PLAIN_INTERVAL_S, LIVE_INTERVAL_S = 30.0, 0.5


def register(app: typer.Typer) -> None:
    """Add the command group to the app."""
    dataset = typer.Typer(help="Build labelled datasets, and fetch sequences for them.", no_args_is_help=True)
    dataset.command("build", no_args_is_help=True)(build_command)
    dataset.command("fetch", no_args_is_help=True)(fetch_command)
    app.add_typer(dataset, name="dataset")


def build_command(
    inputs: list[str] = typer.Argument(
        ...,
        metavar="[FIELD=VALUE,…:]INPUT...",
        help="FASTA, CSV or GenBank files, or the folder of a fetch. Fields hold for all records of an input: "
        "label=viral:phages.fa, split=train:train.fa.gz.",
    ),
    output_dir: Path = typer.Option(..., "-o", "--output-dir", metavar="DIR", help="Folder to make."),
    chunk_length: str = typer.Option(
        ..., "--chunk-length", metavar="N|none", help="Bases of a chunk: 300, 500, …; none keeps whole records."
    ),
    table: str = typer.Option(
        None, "--table", metavar="FILE", help="CSV or TSV: id, and any of label, group, taxon, family, study, split."
    ),
    groups: str = typer.Option(None, "--groups", metavar="A,B,…", help="Keep these groups only."),
    split_by: str = typer.Option(
        None, "--split-by", metavar="genome|taxon|family|study", help="Draw the splits, these units whole."
    ),
    fractions: str = typer.Option(
        None, "--fractions", metavar="A,B,C", help="Of train, valid and test, with --split-by. (default: 0.8,0.1,0.1)"
    ),
    split_table: str = typer.Option(
        None, "--split-table", metavar="FILE", help="CSV or TSV: id, genome, taxon, family or study; and split."
    ),
    frames: str = typer.Option(
        None,
        "--frames",
        metavar="annotated|stop-free|any",
        help="What a chunk needs: a frame of an annotated protein (default for GenBank), a stop-free frame (default "
        "for others), nothing.",
    ),
    keep_ambiguous: bool = typer.Option(
        False, "--keep-ambiguous", help="Keep chunks with letters other than A, C, G, T."
    ),
    genetic_code: int = typer.Option(1, "--genetic-code", metavar="N", help="NCBI table number of the frames."),
    skip_unannotated: bool = typer.Option(
        False, "--skip-unannotated", help="Leave out GenBank records without proteins."
    ),
    drop_shared_genomes: bool = typer.Option(
        False, "--drop-shared-genomes", help="Leave genomes that are in two splits to the later one; else refuse."
    ),
    balance: str = typer.Option(
        None, "--balance", metavar="SPLITS|all", help="Even out the labels, and the groups of other: train, or all."
    ),
    max_shared: float = typer.Option(
        0.1, "--max-shared", metavar="SHARE", help="Largest part of a record's 31-mers that another split may hold."
    ),
    drop_near_duplicates: bool = typer.Option(
        False, "--drop-near-duplicates", help="Drop the training records that share more, instead of refusing."
    ),
    sketch_scale: int = typer.Option(
        20, "--sketch-scale", metavar="N", help="Compare one 31-mer in N; 1 compares all of them."
    ),
    seed: int = typer.Option(42, "--seed", metavar="N", help="Of all draws."),
    force: bool = typer.Option(False, "--force", help="Replace the dataset in DIR."),
    progress: bool = typer.Option(True, "--progress/--no-progress", help="Show progress."),
) -> None:
    """Make train, valid and test sets of labelled sequences, with a manifest of what is in them and what is not.

    A genome is never in two splits, and near-duplicates between splits are refused or dropped. The same inputs and
    settings give the same bytes.
    """
    # NumPy and the readers take a second to import: `--help` doesn't wait for them
    from seqassay.train.dataset_build import DEFAULT_FRACTIONS, BuildSettings
    from seqassay.train.dataset_chunks import ChunkRule

    if fractions is not None and split_by is None:
        raise UsageError("--fractions are for splits that are drawn", hint="say by what unit: --split-by taxon")
    rule = ChunkRule(_chunk_length(chunk_length), cast(Any, frames), not keep_ambiguous, genetic_code)
    settings = BuildSettings(
        inputs=tuple(inputs),
        output_dir=output_dir,
        table=table,
        groups=tuple(filter(None, (groups or "").split(","))),
        split_table=split_table,
        split_by=cast(Any, split_by),
        fractions=DEFAULT_FRACTIONS if fractions is None else _fractions(fractions),
        rule=rule,
        skips_unannotated=skip_unannotated,
        drops_shared_genomes=drop_shared_genomes,
        balance=_splits(balance),
        max_shared=max_shared,
        drops_near_duplicates=drop_near_duplicates,
        sketch_scale=sketch_scale,
        seed=seed,
        force=force,
    )
    manifest = _build(settings, show_progress=progress)
    typer.echo("\n".join([*summary_lines(manifest), f"in {output_dir}"]))


def fetch_command(
    groups: list[str] = typer.Argument(
        ..., metavar="GROUP...", help="viral, vertebrate_mammalian, protozoa, plant, invertebrate, fungi, bacteria, …"
    ),
    output_dir: Path = typer.Option(None, "-o", "--output-dir", metavar="DIR", help="Folder for the files."),
    kind: str = typer.Option("gbff", "--format", metavar="gbff|fna", help="GenBank with annotation, or FASTA."),
    max_files: int = typer.Option(
        None, "--max-files", min=1, metavar="N", help="Of every group. (default: all; bacteria has thousands)"
    ),
    list_only: bool = typer.Option(False, "--list", help="List the files and download nothing."),
    base_url: str = typer.Option(None, "--base-url", metavar="URL", help="A mirror of refseq/release/."),
    timeout_s: float = typer.Option(
        60.0, "--timeout", min=0.1, metavar="S", help="Longest silence of the server, in seconds."
    ),
    attempts: int = typer.Option(6, "--attempts", min=1, metavar="N", help="In a row without a byte."),
    progress: bool = typer.Option(True, "--progress/--no-progress", help="Show progress."),
) -> None:
    """Download genomic files of the current RefSeq release; goes on where it was cut, and checks every file.

    Exit codes: 1 the network or the server fails, 2 unknown group or another release in DIR, 3 stopped, 4 disk full.
    """
    from seqassay.train.dataset_download import FetchProgress, Patience
    from seqassay.train.dataset_fetch import BASE_URL, fetch_release, list_release

    if kind not in ("gbff", "fna"):
        raise UsageError(f"--format is {kind!r}; it can be gbff or fna")
    patience = Patience(timeout_s=timeout_s, attempts=attempts)
    options: dict[str, Any] = {
        "kind": kind, "max_files": max_files, "base_url": base_url or BASE_URL, "patience": patience
    }  # fmt: skip
    if list_only:
        with console_log(logging.WARNING):
            release, files = list_release(groups, **options)
        typer.echo("\n".join([f"RefSeq release {release}, {len(files)} files", *(file.url for file in files)]))
        return
    if output_dir is None:
        raise UsageError("no folder given", hint="name one with -o, or list the files with --list")
    state = FetchProgress()
    with console_log(logging.WARNING), repeatable(), _fetch_lines(state, shown=progress):
        manifest = fetch_release(output_dir, groups, progress=state, **options)
    total = sum(file["bytes"] for file in manifest["files"])
    typer.echo(f"RefSeq release {manifest['release']}: {len(manifest['files'])} files, {total / 1e6:,.1f} MB")
    by_gzip = sum(file["checked"] == "gzip" for file in manifest["files"])
    typer.echo(
        f"checked by their MD5: {len(manifest['files']) - by_gzip}, by gzip's checksum (none is listed): {by_gzip}"
    )
    typer.echo(f"downloaded now: {state.fetched_bytes / 1e6:,.1f} MB")
    typer.echo(f"in {output_dir}")


def summary_lines(manifest: dict[str, Any]) -> list[str]:
    """What a person wants to know of a built dataset."""
    unit = manifest["unit"]
    lines = [
        f"{'split':<6} {'label':<6} {'group':<20} {'records':>9} {unit if unit == 'chunks' else '':>9} {'bases':>13}"
    ]
    for split, labels in manifest["counts"].items():
        for label, groups in labels.items():
            for group, count in groups.items():
                chunks = f"{count['chunks']:,}" if unit == "chunks" else ""
                lines.append(
                    f"{split:<6} {label:<6} {group:<20} {count['records']:>9,} {chunks:>9} {count['bases']:>13,}"
                )
    lines.append(f"read: {manifest['input']['records']:,} records, {manifest['input']['bases']:,} bases")
    for what, unit_name in (("left_out_records", "records"), ("left_out_chunks", "chunks")):
        for reason, count in manifest[what].items():
            lines.append(f"left out: {count[unit_name]:,} {unit_name} ({reason.replace('_', ' ')})")
    shared = manifest["in_two_splits"]
    if any(shared.values()):
        names = {"taxon": "taxa", "family": "families", "study": "studies"}
        shown = ", ".join(f"{n:,} {names[key] if n > 1 else key}" for key, n in shared.items() if n)
        lines.append(f"in more than one split: {shown} (no genome)")
    near = manifest["near_duplicates"]
    lines += [
        f"31-mers of {row['of']} in {row['within']}: mean {row['mean']:.2%}, p99 {row['p99']:.2%}, "
        f"max {row['max']:.2%} of a record"
        for row in near.get("splits_after", near["splits"])
        if row["max"] is not None
    ]
    return lines


def _build(settings: BuildSettings, *, show_progress: bool) -> dict[str, Any]:
    from seqassay.measure.progress import RunProgress
    from seqassay.train.dataset_build import build_dataset

    state = RunProgress()
    with watched(state, show_progress=show_progress, unfinished=f"{settings.output_dir} was not written"):
        return build_dataset(settings, state)


@contextlib.contextmanager
def _fetch_lines(state: FetchProgress, *, shown: bool) -> Iterator[None]:
    """Show a download from a thread of its own: a live line on a terminal, else a line at once and one every 30 s."""
    import threading
    import time

    from rich.live import Live
    from rich.text import Text

    from seqassay.report.terminal import error_console

    if not shown:
        yield
        return
    console, started, ended = error_console(), time.monotonic(), threading.Event()

    def line() -> Text:
        return Text(fetch_line(state, time.monotonic() - started))

    live = Live(line(), console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def run() -> None:
        while not ended.wait(LIVE_INTERVAL_S if live else PLAIN_INTERVAL_S):
            if live:
                live.update(line(), refresh=True)
            else:
                console.print(line())

    with live or contextlib.nullcontext():
        if not live:
            console.print(line())
        thread = threading.Thread(target=run, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(5)


def fetch_line(state: FetchProgress, elapsed_s: float) -> str:
    """Elapsed time, file, bytes, rate and time to go of a download, on one line."""
    from seqassay.report.terminal import clock

    line = f"[{clock(elapsed_s)}]"
    if state.file:
        total = f" of {state.file_total_bytes / 1e6:,.1f}" if state.file_total_bytes else ""
        line += f" file {state.file_number} of {state.n_files}, {state.file}: {state.file_bytes / 1e6:,.1f}{total} MB"
        rate = state.fetched_bytes / max(elapsed_s, 1e-9)
        line += f", {rate / 1e6:,.1f} MB/s"
        if state.file_total_bytes and rate:
            line += f", ETA of this file {clock((state.file_total_bytes - state.file_bytes) / rate)}"
    return f"{line} {state.note}".rstrip()


def _chunk_length(text: str) -> int | None:
    if text == "none":
        return None
    if not text.isascii() or not text.isdigit():
        raise UsageError(f"--chunk-length is {text!r}", hint="give a number of bases (300, 500), or none")
    return int(text)


def _fractions(text: str) -> dict[str, float]:
    try:
        train, valid, test = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"--fractions is {text!r}", hint="give three numbers that add up to 1: train,valid,test"
        ) from None
    return {"train": train, "valid": valid, "test": test}


def _splits(text: str | None) -> tuple[str, ...]:
    if text == "all":
        return ("train", "valid", "test")
    return tuple(filter(None, (text or "").split(",")))
