"""`seqassay predict`."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import typer

from seqassay.config import PredictSettings, read_settings_file, resolve_settings
from seqassay.errors import StoppedError
from seqassay.predict.stop import StopRequested, stop_on_signals


def register(app: typer.Typer) -> None:
    """Add the command to the app."""

    @app.command(name="predict", no_args_is_help=True)
    def predict_command(
        inputs: list[str] = typer.Argument(
            None, metavar="INPUT", help="FASTA or FASTQ, plain or compressed; - is stdin."
        ),
        output_dir: Path = typer.Option(None, "-o", "--output-dir", metavar="OUT", help="Folder for the outputs."),
        model: str = typer.Option(None, "-m", "--model", metavar="NAME_OR_DIR", help="Model bundle (default: mini)."),
        pairing: str = typer.Option(
            None, metavar="none|two-files|interleaved", help="How mates are given (default: none)."
        ),
        chunk_rule: str = typer.Option(
            None, metavar="even|reference", help="How long sequences are cut (default: as the bundle says)."
        ),
        genetic_code: int = typer.Option(None, metavar="N", help="NCBI table number (default: as the bundle says)."),
        ambiguity: str = typer.Option(
            None, metavar="drop|X", help="Codons with an ambiguous base (default: as the bundle says)."
        ),
        fdr: float = typer.Option(
            None, metavar="RATE", help="Call virus at this false discovery rate (default: by score)."
        ),
        threshold: float = typer.Option(
            None, metavar="SCORE", help="Call virus from this score on (default: as the bundle says)."
        ),
        resume: bool = typer.Option(None, "--resume", help="Go on with the interrupted run in OUT."),
        force: bool = typer.Option(None, "--force", help="Replace the run in OUT; other files there are left alone."),
        keep_intermediate: bool = typer.Option(None, "--keep-intermediate", help="Keep the shards after the run."),
        device: str = typer.Option(None, metavar="auto|cpu|cuda|cuda:N", help="Where to compute (default: auto)."),
        precision: str = typer.Option(None, metavar="float32|bf16|fp16|exact", help="(default: what the bundle names)"),
        threads: int = typer.Option(None, metavar="N", help="CPU threads (default: what the machine gives)."),
        batch: int = typer.Option(None, metavar="TOKENS", help="Token budget of a batch (default: by device)."),
        prefetch: int = typer.Option(None, metavar="N", help="Shards prepared ahead of the device (default: 1)."),
        shard_size: int = typer.Option(None, metavar="N", help="Sequences in a shard (default: 8192)."),
        progress: bool = typer.Option(None, "--progress/--no-progress", help="Show progress (default: yes)."),
        verbose: bool = typer.Option(None, "-v", "--verbose", help="Log every step to the terminal."),
        quiet: bool = typer.Option(None, "-q", "--quiet", help="Print warnings and errors only."),
        log_file: Path = typer.Option(None, metavar="FILE", help="Where the log goes (default: OUT/run.log)."),
        config: Path = typer.Option(
            None, metavar="FILE.yaml", help="Settings by their option names; options override it."
        ),
    ) -> None:
        """Call every read or contig virus or others.

        Writes sequences.tsv (one row for every input sequence), prediction_results.txt,
        prediction_results_highestscore.csv, viral.fasta.gz or viral.fastq.gz, report.html, run.json and run.log.
        """
        given = {name: value for name, value in locals().items() if name not in ("app", "config")}
        given["inputs"] = tuple(inputs) if inputs else None
        run(resolve_settings(PredictSettings, read_settings_file(config) if config else {}, given))


def run(settings: PredictSettings) -> None:
    """Run one prediction with its progress line, and print its summary."""
    try:
        with stop_on_signals():
            _run(settings)
    except StopRequested as stop:
        raise StoppedError(f"stopped by {stop} before or after the run itself") from None


def _run(settings: PredictSettings) -> None:
    # PyTorch takes seconds to import: `--help` and wrong options don't wait for it
    from seqassay.measure.progress import RunProgress
    from seqassay.predict.run import predict
    from seqassay.predict.runlog import RunLog
    from seqassay.report.terminal import ConsoleLogHandler, ProgressReporter, error_console, summary

    console, progress = error_console(), RunProgress()
    level = logging.INFO if settings.verbose else logging.WARNING
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(RunLog(verbose=settings.verbose).attached(ConsoleLogHandler(console, level)))
        if settings.log_file is not None:
            log.open(settings.log_file)
        if settings.progress and not settings.quiet:
            stack.enter_context(ProgressReporter(progress, console))
        result = predict(settings, log=log, progress=progress)
    if settings.quiet:
        return
    if result.was_done:
        typer.echo(f"{result.folder}: the run was done already; nothing to do")
    else:
        typer.echo(summary(result.record))
