"""`seqassay benchmark speed`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from seqassay.cli.console import gate_error, watched
from seqassay.config import resolve_settings

if TYPE_CHECKING:
    from seqassay.prove.speed.settings import SpeedSettings

LIVE_INTERVAL_S = 5.0


def register(group: typer.Typer) -> None:
    """Add the command to the group."""

    @group.command(name="speed", no_args_is_help=True)
    def speed_command(
        candidate: str = typer.Argument(
            None,
            metavar="CANDIDATE",
            help="Protein encoder: a name, folder, weight file, or BUNDLE:protein (default: FastESM2_650).",
        ),
        output_dir: Path = typer.Option(None, "-o", "--output-dir", metavar="OUT", help="Folder for the outputs."),
        baseline: str = typer.Option(
            None, metavar="ENCODER", help="What the candidate is to be faster than (default: esm2_t36_3B_UR50D)."
        ),
        candidate_only: bool = typer.Option(None, "--candidate-only", help="Measure no baseline; there is no verdict."),
        sequences: list[str] = typer.Option(
            None, "--sequences", metavar="FILE", help="Proteins to embed (default: synthetic); may be repeated."
        ),
        translate: int = typer.Option(
            None, metavar="BASES", help="FILE holds nucleotides: stop-free frames of chunks of so many bases."
        ),
        n_sequences: int = typer.Option(None, metavar="N", help="Sequences to embed (default: 100)."),
        random_weights: bool = typer.Option(
            None, "--random-weights", help="A name means its published shape with random weights."
        ),
        warm_ups: int = typer.Option(None, metavar="N", help="Warm-ups of the classic protocol (default: 10)."),
        runs: int = typer.Option(None, metavar="N", help="Timed runs of the classic protocol (default: 3)."),
        pairs: int = typer.Option(None, metavar="N", help="Pairs that the verdict stands on (default: 20)."),
        min_speedup: float = typer.Option(None, metavar="RATIO", help="Least speed-up that passes (default: 2)."),
        device: str = typer.Option(None, metavar="auto|cpu|cuda|cuda:N", help="Where to compute."),
        precision: str = typer.Option(None, metavar="float32|bf16|fp16|exact", help="Number format."),
        baseline_precision: str = typer.Option(None, metavar="NAME", help="The baseline's, where it is another."),
        batch: int = typer.Option(None, metavar="TOKENS", help="Token budget of a batch (default: by device)."),
        threads: int = typer.Option(None, metavar="N", help="CPU threads (default: what the machine gives)."),
        seed: int = typer.Option(None, metavar="N", help="Of sequences, weights, order and resampling (default: 42)."),
        force: bool = typer.Option(None, "--force", help="Replace the benchmark in OUT."),
        progress: bool = typer.Option(True, "--progress/--no-progress", help="Show progress."),
    ) -> None:
        """Measure how much faster a protein encoder embeds sequences than another.

        Both embed the same sequences on the same device. The report has the classic protocol (warm-ups, then timed
        runs) and a paired one, whose median ratio with its 95% interval the verdict stands on: PASSED (exit code 0)
        when all of it reaches --min-speedup, FAILED or UNDECIDED (both 5) else. Writes metrics.json and
        reports/speed_benchmark.md.
        """
        given = {name: value for name, value in locals().items() if name not in ("group", "progress")}
        given["sequences"] = list(sequences) if sequences else None
        from seqassay.prove.speed.settings import SpeedSettings

        run(resolve_settings(SpeedSettings, {}, given), show_progress=progress)


def run(settings: SpeedSettings, *, show_progress: bool) -> None:
    """Run one benchmark, and print what came out.

    Raises:
        GateError: there is a limit, and it was not shown to be reached.
        StoppedError: Ctrl-C or SIGTERM; nothing was written.
    """
    # PyTorch takes seconds to import: `--help` and wrong options don't wait for it
    from seqassay.measure.progress import RunProgress
    from seqassay.prove.gate import PASSED, SKIPPED
    from seqassay.prove.speed.command import benchmark_speed
    from seqassay.report.speed import gate_line, speed_summary
    from seqassay.report.terminal import ProgressReporter, error_console

    progress, console = RunProgress(unit="passes"), error_console()
    # drawing the line takes about a millisecond of what is measured: seldom enough not to be seen in it
    interval_s = LIVE_INTERVAL_S if console.is_terminal else None
    with watched(progress, show_progress=False, unfinished="nothing was written"), contextlib.ExitStack() as shown:
        if show_progress:
            shown.enter_context(ProgressReporter(progress, console, interval_s=interval_s))
        record = benchmark_speed(settings, progress=progress)
    typer.echo(speed_summary(record, str(settings.output_dir)))
    if record["verdict"] not in (PASSED, SKIPPED):
        raise gate_error(record["gate"], gate_line(record["gate"]))
