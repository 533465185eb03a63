"""`seqassay lm sweep`: many trainings that differ in a few settings, and which of them is better."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from seqassay.config import resolve_settings

if TYPE_CHECKING:
    from seqassay.prove.sweep.settings import SweepSettings


def sweep_command(
    config: Path = typer.Argument(..., metavar="CONFIG.yaml", help="Experiments, what they inherit, token budgets."),
    output_dir: Path = typer.Option(..., "-o", "--output-dir", metavar="OUT", help="Folder of the sweep."),
    tokens: Path = typer.Option(None, metavar="TOKENS", help="Token files (default: those that the file names)."),
    engine: str = typer.Option(
        None, metavar="local|ray", help="On this machine, or by Ray Tune on any number (default: local)."
    ),
    jobs: int = typer.Option(
        None, metavar="N", help="Trainings at a time (default: one for every CUDA device, else one)."
    ),
    threads: int = typer.Option(None, metavar="N", help="CPU threads of each (default: the cores over the jobs)."),
    device: str = typer.Option(None, metavar="auto|cpu|cuda|cuda:N", help="Where to train (default: auto)."),
    ray_address: str = typer.Option(None, metavar="ADDRESS", help="A Ray cluster that runs (default: one of its own)."),
    loggers: list[str] = typer.Option(
        None,
        "--logger",
        metavar="tensorboard|wandb|mlflow|none",
        help="Also log there; several times (default: mlflow, where it is installed).",
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Plan and print every experiment; train nothing."),
    force: bool = typer.Option(None, "--force", help="Begin again: remove the sweep in OUT."),
    progress: bool = typer.Option(True, "--progress/--no-progress", help="Show a progress line."),
) -> None:
    """Rank experiments, train the best with several seeds, and say whether any is better than the baseline.

    Every experiment is planned before anything is trained. The same command goes on where it was stopped. Writes
    sweep.json, and below ranking/ and final/ a folder a run. Exit code 3: experiments failed, the others are judged.
    """
    given: dict[str, Any] = {name: value for name, value in locals().items() if name not in ("dry_run", "progress")}
    given["loggers"] = None if not loggers else [name for name in loggers if name != "none"]
    from seqassay.prove.sweep.settings import SweepSettings

    settings = resolve_settings(SweepSettings, {}, given)
    if dry_run:
        _print_plan(settings)
    else:
        _run(settings, show_progress=progress)


def _print_plan(settings: SweepSettings) -> None:
    # PyTorch takes seconds to import: `--help` and wrong options don't wait for it
    from seqassay.prove.sweep.command import plan_only

    config, planned = plan_only(settings)
    width = max(len(one.name) for one in planned)
    typer.echo(f"{'experiment':<{width}}  parameters      off  width  layers  heads   d_ff  ratio  expansion")
    for one in planned:
        plan, shape = one.model, one.model.config
        off = f"{plan.deviations['total_params']:+.2%}" if plan.deviations else ""
        mark = "  baseline" if one.name == config.baseline else ""
        typer.echo(
            f"{one.name:<{width}}  {plan.n_params:>10,}  {off:>7}  {shape.d_model:>5}  {shape.n_layers:>6}  "
            f"{shape.n_heads:>5}  {shape.d_ff:>5}  {plan.embedding_ratio:.3f}  {plan.glu_expansion:>9.3f}{mark}"
        )


def _run(settings: SweepSettings, *, show_progress: bool) -> None:
    import contextlib

    from seqassay.cli.console import console_log, resumable
    from seqassay.measure.progress import RunProgress
    from seqassay.prove.sweep.command import sweep_lm
    from seqassay.report.sweep import sweep_summary
    from seqassay.report.terminal import ProgressReporter, error_console

    progress = RunProgress(unit="tokens")
    with contextlib.ExitStack() as stack:
        stack.enter_context(console_log(logging.INFO, only="seqassay.prove.sweep"))
        stack.enter_context(resumable("finished runs are kept, those that ran have checkpoints"))
        if show_progress:
            stack.enter_context(ProgressReporter(progress, error_console()))
        sweep = sweep_lm(settings, progress=progress)
    typer.echo(sweep_summary(sweep.record, str(sweep.folder)))
