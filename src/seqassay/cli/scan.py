"""`seqassay scan`."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from seqassay.config import resolve_settings
from seqassay.errors import StoppedError
from seqassay.predict.stop import StopRequested, stop_on_signals

if TYPE_CHECKING:
    from seqassay.predict.scan_settings import ScanSettings


def register(app: typer.Typer) -> None:
    """Add the command to the app."""

    @app.command(name="scan", no_args_is_help=True)
    def scan_command(
        inputs: list[str] = typer.Argument(
            None, metavar="INPUT", help="Contigs as FASTA or FASTQ, plain or compressed; - is stdin."
        ),
        output_dir: Path = typer.Option(None, "-o", "--output-dir", metavar="OUT", help="Folder for the outputs."),
        model: str = typer.Option(None, "-m", "--model", metavar="NAME_OR_DIR", help="Model bundle (default: mini)."),
        window: int = typer.Option(
            None, metavar="BASES", help="Length of a window (default: 10 of the bundle's chunks)."
        ),
        step: int = typer.Option(
            None, metavar="BASES", help="From one window to the next, at most the window (default: 5 chunks)."
        ),
        min_region: int = typer.Option(None, metavar="BASES", help="Shortest region to report (default: 3000)."),
        plots: bool = typer.Option(None, "--plots/--no-plots", help="Draw plots/CONTIG.png (default: yes)."),
        max_plots: int = typer.Option(
            None, metavar="N", help="Most contigs to plot, those with the most viral bases first (default: 50)."
        ),
        resume: bool = typer.Option(None, "--resume", help="Go on with the interrupted scan in OUT."),
        force: bool = typer.Option(None, "--force", help="Replace the scan in OUT; other files there are left alone."),
        device: str = typer.Option(None, metavar="auto|cpu|cuda|cuda:N", help="Where to compute (default: auto)."),
        precision: str = typer.Option(None, metavar="float32|bf16|fp16|exact", help="(default: what the bundle names)"),
        threads: int = typer.Option(None, metavar="N", help="CPU threads (default: what the machine gives)."),
        batch: int = typer.Option(None, metavar="TOKENS", help="Token budget of a batch (default: by device)."),
        progress: bool = typer.Option(True, "--progress/--no-progress", help="Show progress."),
    ) -> None:
        """Score windows along contigs or genomes, and call viral regions such as prophages.

        Writes track.tsv (a row for every window), contigs.tsv (a row for every contig), regions.bed, regions.gff3,
        plots/, report.html, run.json and run.log. Needs the extra `scan`: pip install 'seqassay[scan]'.
        """
        given = {name: value for name, value in locals().items() if name not in ("app", "progress")}
        given["inputs"] = tuple(inputs) if inputs else None
        from seqassay.predict.scan_settings import ScanSettings

        run(resolve_settings(ScanSettings, {}, given), show_progress=progress)


def run(settings: ScanSettings, *, show_progress: bool) -> None:
    """Run one scan with its progress line, and print its summary."""
    try:
        with stop_on_signals():
            _run(settings, show_progress=show_progress)
    except StopRequested as stop:
        raise StoppedError(f"stopped by {stop} before or after the scan itself") from None


def _run(settings: ScanSettings, *, show_progress: bool) -> None:
    # PyTorch takes seconds to import: `--help` and wrong options don't wait for it
    from seqassay.measure.progress import RunProgress
    from seqassay.predict.runlog import RunLog
    from seqassay.predict.scan import scan
    from seqassay.report.scan_summary import scan_summary
    from seqassay.report.terminal import ConsoleLogHandler, ProgressReporter, error_console

    console, progress = error_console(), RunProgress(unit="windows")
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(RunLog(verbose=False).attached(ConsoleLogHandler(console, logging.WARNING)))
        if show_progress:
            stack.enter_context(ProgressReporter(progress, console))
        result = scan(settings, log=log, progress=progress)
    if result.was_done:
        typer.echo(f"{result.folder}: the scan was done already; nothing to do")
    else:
        typer.echo(scan_summary(result.record))
