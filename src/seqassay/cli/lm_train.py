"""`seqassay lm train`: train a language model on token files; the same command goes on where it was stopped."""

from __future__ import annotations

import logging
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from seqassay.cli.console import console_log
from seqassay.cli.lm_build import plan_of_options
from seqassay.config import option_name, resolve_settings
from seqassay.errors import GateError, StoppedError, UsageError
from seqassay.predict.stop import StopRequested, stop_on_signals

if TYPE_CHECKING:
    from seqassay.models.lm_plan import LmPlan
    from seqassay.train.lm_settings import LmTrainSettings

_MODEL = (
    "total_params", "embedding_ratio", "glu_expansion", "n_heads", "context", "tied", "norm", "positions", "d_model",
    "n_layers", "d_ff",
)  # fmt: skip


def train_command(
    tokens: Path = typer.Argument(None, metavar="TOKENS", help="Token files that `lm data build` wrote."),
    output_dir: Path = typer.Option(None, "-o", "--output-dir", metavar="RUN", help="Folder of the training."),
    checkpoint: Path = typer.Option(None, metavar="DIR", help="The model to begin with; or a new one, from"),
    total_params: int = typer.Option(None, metavar="N", help="a budget (see `lm build`), or"),
    d_model: int = typer.Option(None, metavar="N", help="a shape: width,"),
    n_layers: int = typer.Option(None, metavar="N", help="layers,"),
    n_heads: int = typer.Option(None, metavar="N", help="heads,"),
    d_ff: int = typer.Option(None, metavar="N", help="feed-forward width."),
    embedding_ratio: float = typer.Option(None, metavar="X", help="As for `lm build`, like the five below."),
    glu_expansion: float = typer.Option(None, metavar="X"),
    context: int = typer.Option(None, metavar="TOKENS", help="(default: 512)"),
    tied: bool = typer.Option(None, "--tied/--untied"),
    norm: str = typer.Option(None, metavar="rmsnorm|layernorm"),
    positions: str = typer.Option(None, metavar="rotary|learned"),
    steps: int = typer.Option(None, metavar="N", help="Optimizer steps; or"),
    token_budget: int = typer.Option(None, metavar="N", help="tokens to train on."),
    batch: int = typer.Option(
        None, metavar="WINDOWS", help="Windows of a micro-batch, over all devices (default: 32)."
    ),
    accumulate: int = typer.Option(None, metavar="N", help="Micro-batches of a step (default: 1)."),
    order: str = typer.Option(None, metavar="shuffled|random", help="Of the windows (default: shuffled)."),
    learning_rate: float = typer.Option(None, metavar="RATE", help="After the warm-up (default: 1e-3)."),
    min_lr_ratio: float = typer.Option(None, metavar="X", help="Of it, at the last step (default: 0.1)."),
    warmup_steps: int = typer.Option(None, metavar="N", help="(default: 5% of the steps)"),
    weight_decay: float = typer.Option(None, metavar="X", help="Of matrices (default: 0.1)."),
    beta1: float = typer.Option(None, metavar="X", help="Of AdamW (default: 0.9)."),
    beta2: float = typer.Option(None, metavar="X", help="(default: 0.95)"),
    clip: float = typer.Option(None, metavar="NORM", help="Largest norm of the gradient (default: 1)."),
    dropout: float = typer.Option(None, metavar="X", help="(default: 0)"),
    seed: int = typer.Option(None, metavar="N", help="Of first weights, windows and dropout (default: 0)."),
    precision: str = typer.Option(None, metavar="auto|float32|bf16", help="(default: bf16 on CUDA, else float32)"),
    device: str = typer.Option(None, metavar="auto|cpu|cuda|cuda:N", help="Where to train (default: auto)."),
    devices: int = typer.Option(None, metavar="N", help="How many, data-parallel (default: 1)."),
    threads: int = typer.Option(None, metavar="N", help="CPU threads (default: what the machine gives)."),
    evaluate_every: int = typer.Option(None, metavar="STEPS", help="(default: a tenth of the steps)"),
    eval_windows: int = typer.Option(None, metavar="N", help="Windows of the dev split to evaluate on (default: all)."),
    checkpoint_steps: int = typer.Option(None, metavar="N", help="A checkpoint every N steps (default: 1000),"),
    checkpoint_minutes: float = typer.Option(None, metavar="X", help="and every X minutes (default: 10)."),
    log_every: int = typer.Option(None, metavar="STEPS", help="A row of metrics.csv (default: 10)."),
    loggers: list[str] = typer.Option(
        None, "--logger", metavar="tensorboard|wandb|mlflow", help="Also log there; may be given several times."
    ),
    tracking: str = typer.Option(
        None, metavar="FILE|URI", help="MLflow's store: an SQLite file or a server (default: RUN/mlflow.db)."
    ),
    experiment: str = typer.Option(None, metavar="NAME", help="Of MLflow; W&B's project (default: seqassay)."),
    run_name: str = typer.Option(None, metavar="NAME", help="There (default: that of the folder)."),
    tags: list[str] = typer.Option(None, "--tag", metavar="NAME=VALUE", help="There; several times."),
    baseline: str = typer.Option(
        None, metavar="PPL_OR_RUN", help="Kill rule: a dev perplexity, or another training whose curve to compare with."
    ),
    kill_margin: float = typer.Option(None, metavar="PPL", help="How much worse counts (default: 0.5),"),
    kill_tokens: int = typer.Option(None, metavar="TOKENS", help="and for how many tokens (default: 1,000,000)."),
    find_lr: bool = typer.Option(False, "--find-lr", help="Don't train: print how the loss falls with the rate."),
    overfit_check: bool = typer.Option(False, "--overfit-check", help="Don't train: learn one batch by heart."),
    force: bool = typer.Option(None, "--force", help="Begin again: remove the training in RUN."),
    quiet: bool = typer.Option(False, "-q", "--quiet", help="No lines while it trains."),
) -> None:
    """Train a decoder-only language model; the same command goes on where it was stopped, to the same result.

    Writes best/ and last/ (models), metrics.csv and training.json. Exit code 5: the kill rule ended it.
    """
    given = {name: value for name, value in locals().items() if value is not None}
    for name in ("find_lr", "overfit_check", "quiet"):
        given.pop(name, None)
    if find_lr and overfit_check:
        raise UsageError("--find-lr and --overfit-check exclude each other")
    for name in ("loggers", "tags"):
        if not given.get(name):
            given.pop(name, None)
    shape = {name: given.pop(name) for name in _MODEL if name in given}
    from seqassay.train.lm_settings import LmTrainSettings

    if find_lr or overfit_check:
        given.pop("token_budget", None)
        given["steps"] = 1  # neither looks at the schedule
    settings = resolve_settings(LmTrainSettings, {}, given)
    with console_log(logging.WARNING if quiet else logging.INFO):
        try:
            with stop_on_signals():
                plan = _plan_of(settings, shape)
                if find_lr:
                    _print_rates(settings, plan)
                elif overfit_check:
                    _print_overfit(settings, plan)
                else:
                    _train(settings, plan)
        except StopRequested as stop:
            if find_lr or overfit_check:
                raise StoppedError(f"stopped by {stop}; nothing was written") from None
            words = [word for word in sys.argv[1:] if word != "--force"]
            raise StoppedError(
                f"stopped by {stop}; what was committed is kept",
                hint=f"go on with:\n  {shlex.join(['seqassay', *words])}",
            ) from None


def _plan_of(settings: LmTrainSettings, shape: dict[str, Any]) -> LmPlan | None:
    if settings.checkpoint is not None:
        if shape:
            raise UsageError(f"--checkpoint and {option_name(next(iter(shape)))} exclude each other")
        return None
    if not shape:
        return None
    from seqassay.text.token_files import open_token_files

    return plan_of_options({**shape, "vocab_size": open_token_files(settings.tokens).vocab_size})


def _train(settings: LmTrainSettings, plan: LmPlan | None) -> None:
    from seqassay.train.lm import train_lm

    result = train_lm(settings, plan)
    record, folder = result.record, result.folder
    if result.was_done:
        typer.echo(f"{folder}: the training ended before; nothing to do")
    training, dev = record["training"], record["data"]["dev"]
    typer.echo(
        f"{record['model']['params']:,} parameters, {training['steps']:,} steps, {training['tokens_seen']:,} tokens "
        f"({training['epochs']:.2f} epochs) in {training['wall_s']:.1f} s ({training['aside_s']:.1f} of them "
        f"evaluation and checkpoints): {training['tokens_per_s']:,.0f} tokens/s"
    )
    for name in ("best", "last"):
        figures = training[name]
        typer.echo(
            f"{name}: step {figures['step']:,}, dev loss {figures['dev_loss']:.4f}, perplexity "
            f"{figures['dev_perplexity']:.3f}, in {folder / figures['path']}"
        )
    part = "all" if dev["windows"] == dev["of_windows"] else f"{dev['windows']:,} of {dev['of_windows']:,}"
    typer.echo(
        f"dev: {dev['scored_tokens']:,} tokens, {part} windows of {dev['context_tokens']:,}, {record['precision']}"
    )
    if record["killed"] is not None:
        verdict = record["killed"]
        raise GateError(
            f"the kill rule ended the training after {verdict['tokens_seen']:,} tokens: dev perplexity "
            f"{verdict['dev_perplexity']:.3f}, the baseline's is {verdict['baseline_perplexity']:.3f}, at least "
            f"{verdict['margin']:g} worse since token {verdict['worse_since_tokens']:,}"
        )


def _print_rates(settings: LmTrainSettings, plan: LmPlan | None) -> None:
    from seqassay.train.lm import RATES_FILE, find_rate

    curve = find_rate(settings, plan)
    typer.echo(f"{'learning rate':>13}  {'loss':>7}")
    every = max(1, len(curve.rates) // 25)
    lowest, highest = min(curve.losses), max(curve.losses)
    for rate, loss in list(zip(curve.rates, curve.losses, strict=True))[::every]:
        bar = "█" * round(40 * (loss - lowest) / (highest - lowest)) if highest > lowest else ""
        typer.echo(f"{rate:13.2e}  {loss:7.4f}  {bar}".rstrip())
    shown = "none: the loss never falls" if curve.suggestion is None else f"--learning-rate {curve.suggestion:.1e}"
    typer.echo(f"suggestion (steepest fall): {shown}; curve in {settings.output_dir / RATES_FILE}")


def _print_overfit(settings: LmTrainSettings, plan: LmPlan | None) -> None:
    from seqassay.train.lm import check_overfit

    result = check_overfit(settings, plan)
    typer.echo(
        f"{result.n_tokens} tokens learnt by heart: loss from {result.first_loss:.3f} to {result.last_loss:.3f} in "
        f"{result.steps} steps"
    )
