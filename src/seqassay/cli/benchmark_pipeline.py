"""`seqassay benchmark pipeline`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from seqassay.cli.console import watched
from seqassay.config import option_name, resolve_settings
from seqassay.errors import SeqassayError, UsageError

if TYPE_CHECKING:
    from seqassay.prove.pipeline.settings import PipelineSettings

_LISTS = ("workers", "sweep_batch", "sweep_prefetch")


def register(group: typer.Typer) -> None:
    """Add the command to the group."""

    @group.command(name="pipeline", no_args_is_help=True)
    def pipeline_command(
        inputs: list[str] = typer.Argument(None, metavar="INPUT", help="FASTA or FASTQ, plain or compressed."),
        output_dir: Path = typer.Option(None, "-o", "--output-dir", metavar="OUT", help="Folder for the outputs."),
        model: str = typer.Option(None, "-m", "--model", metavar="NAME_OR_DIR", help="Model bundle (default: mini)."),
        pairing: str = typer.Option(
            None, metavar="none|two-files|interleaved", help="How mates are given (default: none)."
        ),
        device: str = typer.Option(None, metavar="auto|cpu|cuda|cuda:N", help="Where to compute (default: auto)."),
        precision: str = typer.Option(None, metavar="float32|bf16|fp16|exact", help="(default: what the bundle names)"),
        threads: int = typer.Option(None, metavar="N", help="CPU threads (default: what the machine gives)."),
        batch: int = typer.Option(None, metavar="TOKENS", help="Token budget of a batch (default: by device)."),
        prefetch: int = typer.Option(None, metavar="N", help="Shards prepared ahead of the device (default: 1)."),
        shard_size: int = typer.Option(None, metavar="N", help="Sequences in a shard (default: 8192)."),
        repeats: int = typer.Option(
            None, metavar="N", help="Runs of every case (default: 6, the fewest for intervals)."
        ),
        workers: str = typer.Option(None, metavar="1,2,…", help="Scaling: cores given to the engine, a case each."),
        sweep_batch: str = typer.Option(None, metavar="TOKENS,…", help="Token budgets to try."),
        sweep_prefetch: str = typer.Option(None, metavar="N,…", help="Depths of reading ahead to try."),
        reference: bool = typer.Option(
            None, "--reference", help="Run the published procedure on the same input (extra: reference)."
        ),
        baseline_s: float = typer.Option(
            None, "--baseline-s", metavar="SECONDS", help="Speed-up over this wall time, which you measured."
        ),
        seed: int = typer.Option(None, metavar="N", help="Of the order of runs and of resampling (default: 42)."),
        force: bool = typer.Option(None, "--force", help="Replace the benchmark in OUT."),
        progress: bool = typer.Option(True, "--progress/--no-progress", help="Show progress."),
    ) -> None:
        """Measure the whole of `predict` end to end, each run in a process of its own.

        Stages, throughput, packing, waits, utilisation and memory; with --workers its scaling; with --sweep-batch and
        --sweep-prefetch a recommended setting; with --reference the speed-up over the published procedure. Writes
        metrics.json and reports/pipeline_benchmark.md. A case that fails is named, and the exit code is 1.
        """
        given = {name: value for name, value in locals().items() if name not in ("group", "progress")}
        given["inputs"] = tuple(inputs) if inputs else ()
        given |= {name: numbers(name, given[name]) for name in _LISTS}
        from seqassay.prove.pipeline.settings import PipelineSettings

        run(resolve_settings(PipelineSettings, {}, given), show_progress=progress)


def numbers(name: str, text: str | None) -> list[int] | None:
    """The whole numbers of a list with commas between.

    Raises:
        UsageError: something else stands there.
    """
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"{option_name(name)} is {text!r}; it takes whole numbers with commas between") from None


def run(settings: PipelineSettings, *, show_progress: bool) -> None:
    """Run one benchmark, and print what came out.

    Raises:
        SeqassayError: a case failed; the others are reported.
    """
    # PyTorch takes seconds to import: `--help` and wrong options don't wait for it
    from seqassay.measure.progress import RunProgress
    from seqassay.prove.pipeline.command import benchmark_pipeline
    from seqassay.report.pipeline import failure_line, pipeline_summary

    progress = RunProgress()
    with watched(progress, show_progress=show_progress, unfinished="the benchmark was not finished"):
        record = benchmark_pipeline(settings, progress=progress)
    typer.echo(pipeline_summary(record, str(settings.output_dir)))
    if failed := failure_line(record):
        raise SeqassayError(f"a case failed: {failed}", hint="the figures above are of the others")
