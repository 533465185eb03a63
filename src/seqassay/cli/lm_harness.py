"""`seqassay lm harness`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from seqassay.config import resolve_settings
from seqassay.errors import require_package

if TYPE_CHECKING:
    from seqassay.prove.lm_harness.settings import LmHarnessSettings


def harness_command(
    checkpoint: Path = typer.Argument(..., metavar="CHECKPOINT", help="The model's folder."),
    tasks: str = typer.Option(
        ..., metavar="NAMES", help="With commas between: of the harness, of --include, or smallbench (with --probes)."
    ),
    output_dir: Path = typer.Option(..., "-o", "--output-dir", metavar="OUT", help="Folder for record and items."),
    include: list[Path] = typer.Option(None, metavar="FOLDER", help="Tasks of your own, as the harness has them."),
    probes: list[str] = typer.Option(
        None, metavar="PLACE", help="SmallBench: a folder of sentiment, nli, qa, paraphrase .jsonl, or such a file."
    ),
    shots: int = typer.Option(None, metavar="N", help="Answered examples before every prompt (default: the task's)."),
    shots_from: Path = typer.Option(
        None, metavar="PLACE", help="SmallBench's training rows: a folder, or a file (default: train/ in --probes)."
    ),
    limit: int = typer.Option(None, metavar="N", help="Ask the first N rows of every task alone."),
    context: int = typer.Option(None, metavar="TOKENS", help="Tokens seen at a time (default: the model's context)."),
    seed: int = typer.Option(None, metavar="N", help="Seed that draws the shots (default: 1234)."),
    batch: int = typer.Option(None, metavar="TOKENS", help="Token budget of a batch (default: 16384)."),
    device: str = typer.Option(None, metavar="auto|cpu|cuda|cuda:N", help="Where to compute (default: auto)."),
    threads: int = typer.Option(None, metavar="N", help="CPU threads (default: what the machine gives)."),
    force: bool = typer.Option(None, "--force", help="Replace the run in OUT."),
    resume: bool = typer.Option(None, "--resume", help="Go on with the answers of a stopped run."),
    progress: bool = typer.Option(True, "--progress/--no-progress", help="Show a progress line."),
) -> None:
    """Ask tasks of lm-evaluation-harness: any of its own, SmallBench's four, or those of a folder.

    The harness makes the requests and counts; the model answers them here, a prompt that is asked about several times
    read once. Writes metrics.json, reports/lm_harness.md and harness_items.jsonl. The harness's own tasks fetch their
    data from the Hugging Face Hub.
    """
    given: dict[str, Any] = {name: value for name, value in locals().items() if name != "progress"}
    given["tasks"] = [name.strip() for name in tasks.split(",") if name.strip()]
    given |= {name: list(given[name]) if given[name] else None for name in ("include", "probes")}
    from seqassay.prove.lm_harness.settings import LmHarnessSettings

    run(resolve_settings(LmHarnessSettings, {}, given), show_progress=progress)


def run(settings: LmHarnessSettings, *, show_progress: bool) -> None:
    """Run the harness, and print the figures."""
    require_package("lm_eval", extra="harness", purpose="`lm harness`", package="lm-eval")
    os.environ.setdefault("TQDM_DISABLE", "1")  # the harness's own bars; read when it is imported
    # PyTorch and the harness take seconds to import: `--help` and wrong options don't wait for them
    from seqassay.cli.console import watched
    from seqassay.measure.progress import RunProgress
    from seqassay.prove.lm_harness.command import run_harness
    from seqassay.report.lm_harness import lm_harness_summary

    progress = RunProgress(unit="requests")
    with watched(progress, show_progress=show_progress, unfinished="the tasks were not finished"):
        result = run_harness(settings, progress=progress)
    typer.echo(lm_harness_summary(result.record, str(result.folder)))
