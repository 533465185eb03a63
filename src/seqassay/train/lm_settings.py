"""How a language model is trained: settings with their units and ranges, and what follows from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seqassay.config import check_at_least, option_name
from seqassay.errors import UsageError
from seqassay.text.windows import Order

TrainingPrecision = Literal["auto", "float32", "bf16"]
LoggerName = Literal["tensorboard", "wandb", "mlflow"]
WARMUP_SHARE = 0.05  # of all steps, where no number is given
_POSITIVE = ("steps", "token_budget", "batch", "accumulate", "learning_rate", "clip", "evaluate_every", "eval_windows")
_POSITIVE_TOO = ("checkpoint_steps", "checkpoint_minutes", "log_every", "devices", "threads", "kill_tokens")
_SHARES = ("min_lr_ratio", "beta1", "beta2", "dropout")


@dataclass(frozen=True, kw_only=True)
class LmTrainSettings:
    """Everything a training can be told, but the model that it begins with.

    Raises:
        UsageError: a value out of its range, or two settings that exclude each other.
    """

    tokens: Path  # a folder of token files with the splits train and valid
    output_dir: Path
    checkpoint: Path | None = None  # a model to begin with; None: one that was planned
    steps: int | None = None  # optimizer steps
    token_budget: int | None = None  # instead of steps: tokens to train on, to the next whole step
    batch: int = 32  # windows of a context each in a micro-batch, over all devices
    accumulate: int = 1  # micro-batches of an optimizer step
    order: Order = "shuffled"
    learning_rate: float = 1e-3  # at the end of the warm-up
    min_lr_ratio: float = 0.1  # of the learning rate, at the last step
    warmup_steps: int | None = None  # None: 5% of the steps
    weight_decay: float = 0.1  # of matrices; norms and biases have none
    beta1: float = 0.9
    beta2: float = 0.95
    clip: float = 1.0  # largest norm of the gradient
    dropout: float = 0.0
    seed: int = 0  # of first weights, windows and dropout
    precision: TrainingPrecision = "auto"  # bf16 on CUDA, float32 on the CPU
    device: str = "auto"  # auto, cpu, cuda, cuda:N
    devices: int = 1  # how many: data-parallel (DDP)
    threads: int | None = None  # CPU threads; None: what the machine gives
    evaluate_every: int | None = None  # optimizer steps; None: a tenth of them
    eval_windows: int | None = None  # of the dev split, evenly over it; None: all of it
    checkpoint_steps: int = 1000
    checkpoint_minutes: float = 10.0
    log_every: int = 10  # optimizer steps of a row of metrics.csv
    loggers: tuple[LoggerName, ...] = ()  # besides metrics.csv
    tracking: str | None = None  # MLflow's store: an SQLite file, or a server's URI; None: mlflow.db in output_dir
    experiment: str = "seqassay"  # MLflow's experiment, W&B's project
    run_name: str | None = None  # there; None: the name of output_dir
    tags: tuple[str, ...] = ()  # there: NAME=VALUE
    baseline: str | None = None  # dev perplexity, or another training's folder or metrics.csv, for the kill rule
    kill_margin: float = 0.5  # of dev perplexity
    kill_tokens: int = 1_000_000
    force: bool = False

    def __post_init__(self) -> None:
        for name in _POSITIVE + _POSITIVE_TOO:
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise UsageError(f"{option_name(name)} is {value:g}; it has to be above 0")
        for name in _SHARES:
            value = getattr(self, name)
            if not 0 <= value <= 1 or (name != "min_lr_ratio" and value == 1):
                raise UsageError(f"{option_name(name)} is {value:g}; it lies between 0 and 1")
        for name in ("weight_decay", "kill_margin", "seed", "warmup_steps"):
            value = getattr(self, name)
            if value is not None and not (value >= 0 and math.isfinite(value)):
                raise UsageError(f"{option_name(name)} is {value:g}; it has to be at least 0")
        check_at_least(self, seed=0, batch=1, accumulate=1, steps=1, token_budget=1, threads=1, devices=1)
        if (self.steps is None) == (self.token_budget is None):
            raise UsageError("how long to train: give --steps or --token-budget, one of them")
        if self.tracking is not None and "mlflow" not in self.loggers:
            raise UsageError("--tracking is where MLflow writes; --logger mlflow is not given")
        for tag in self.tags:
            if not tag.partition("=")[0] or "=" not in tag:
                raise UsageError(f"--tag is {tag!r}; it has to be NAME=VALUE")
        if self.batch % self.devices:
            raise UsageError(f"--batch is {self.batch}; {self.devices} devices cannot share it evenly")
        if self.warmup_steps is not None and self.steps is not None and self.warmup_steps > self.steps:
            raise UsageError(f"--warmup-steps is {self.warmup_steps:,}, more than the {self.steps:,} steps")


@dataclass(frozen=True, slots=True)
class Schedule:
    """Linear warm-up, then half a cosine (Loshchilov and Hutter 2017); a function of the step alone."""

    learning_rate: float
    min_lr_ratio: float
    warmup_steps: int
    n_steps: int

    def at(self, step: int) -> float:
        """The learning rate of a step, from 0; never 0 in the warm-up."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, self.n_steps - 1 - self.warmup_steps)
        share = self.min_lr_ratio + (1 - self.min_lr_ratio) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return self.learning_rate * share


def tokens_per_step(settings: LmTrainSettings, context_tokens: int) -> int:
    """Targets of an optimizer step, over all devices."""
    return settings.batch * settings.accumulate * context_tokens


def number_of_steps(settings: LmTrainSettings, context_tokens: int) -> int:
    """Optimizer steps: those asked for, or as many as the token budget needs."""
    if settings.steps is not None:
        return settings.steps
    assert settings.token_budget is not None
    return -(-settings.token_budget // tokens_per_step(settings, context_tokens))


def schedule_of(settings: LmTrainSettings, context_tokens: int) -> Schedule:
    """The learning rate of every step."""
    n_steps = number_of_steps(settings, context_tokens)
    warmup = math.ceil(WARMUP_SHARE * n_steps) if settings.warmup_steps is None else min(n_steps, settings.warmup_steps)
    return Schedule(settings.learning_rate, settings.min_lr_ratio, warmup, n_steps)
