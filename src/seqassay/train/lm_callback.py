"""What happens between two steps of a language model's training: figures, evaluation, best weights, checkpoints, stops.

One callback and not six, so that a checkpoint always holds the state after the step it belongs to, and comes after
whatever was written for that step.
"""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint

from seqassay.errors import SeqassayError
from seqassay.models.causal_lm import CausalLm
from seqassay.predict.stop import StopRequested
from seqassay.train.lm_dev import DevSet, perplexity_of
from seqassay.train.lm_kill import KillRule
from seqassay.train.lm_loggers import Ending, Trackers, params_of
from seqassay.train.lm_metrics import COLUMNS, METRICS_FILE, MetricsFile
from seqassay.train.lm_module import LmModule, StepBatches
from seqassay.train.lm_settings import number_of_steps, tokens_per_step

CHECKPOINT_FILE = "checkpoint.ckpt"
_LINE_EVERY_S = 10.0
_EVALUATION_TOKENS = {"cpu": 8192, "cuda": 65536}  # of a batch

logger = logging.getLogger(__name__)


class StopFlag:
    """SIGTERM and Ctrl-C wait for the end of the step; a second one acts as it did before."""

    def __init__(self) -> None:
        self.name: str | None = None
        self._before: dict[int, Any] = {}

    def install(self) -> None:
        """From now on; in another thread than the main one nothing is installed."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._set)

    def restore(self) -> None:
        """As it was before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _set(self, number: int, _: FrameType | None) -> None:
        self.name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        self.restore()


@dataclass
class Progress:
    """Where a training stands; all of it goes into its checkpoints."""

    step: int = 0
    wall_s: float = 0.0
    aside_s: float = 0.0  # of it, on evaluation and checkpoints
    best_loss: float = math.inf
    best_step: int = -1
    last_loss: float = math.inf  # on the dev split
    losses: list[float] = field(default_factory=list)  # of the steps since the last row of metrics.csv
    norms: list[float] = field(default_factory=list)


class LmCallback(Checkpoint):
    """Rows of metrics, evaluation on the dev split, best weights, kill rule, checkpoints by step and by time."""

    def __init__(
        self,
        folder: Path,
        module: LmModule,
        dev: DevSet,
        batches: StepBatches,
        kill_rule: KillRule | None,
        trackers: Trackers,
        save_best: Callable[[CausalLm, Progress], None],
    ) -> None:
        settings, context = module.settings, module.model.config.context
        self._folder, self._dev, self._batches, self._save_best = folder, dev, batches, save_best
        self.kill_rule, self.trackers, self.progress = kill_rule, trackers, Progress()
        self._settings = settings
        self._n_steps = number_of_steps(settings, context)
        self._tokens_per_step = tokens_per_step(settings, context)
        self._evaluate_every = settings.evaluate_every or math.ceil(self._n_steps / 10)
        self._metrics = MetricsFile(folder / METRICS_FILE)
        self._stop = StopFlag()
        self._wall_before = self._began = self._last_line = self._last_commit = 0.0
        self._row_step, self._row_s = 0, 0.0  # of the last row: for tokens a second
        self._aside_s = 0.0  # spent on evaluation and checkpoints since then

    @property
    def tokens_seen(self) -> int:
        """Training tokens, over all devices."""
        return self.progress.step * self._tokens_per_step

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take up where the checkpoint stands."""
        assert isinstance(pl_module, LmModule)
        # Lightning restores a loader's state in some places of an epoch only; its iterator has not begun yet.
        self._batches.position = self.progress.step * self._settings.accumulate
        if trainer.is_global_zero:
            last_step = self._metrics.cut_back(self.progress.step)
            params = params_of(self._settings, asdict(pl_module.model.config))
            self.trackers.open(self._settings, params, step=self.progress.step, last_step=last_step)
        now = time.monotonic()
        self._wall_before = self.progress.wall_s
        self._began = self._last_line = self._last_commit = self._row_s = now
        self._row_step = self.progress.step
        trainer.should_stop = self.kill_rule is not None and self.kill_rule.verdict is not None
        self._stop.install()
        if self.progress.step:
            logger.info("going on from step %s of %s", f"{self.progress.step:,}", f"{self._n_steps:,}")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After a step (not after each of its micro-batches): whatever is due."""
        del outputs, batch, batch_idx
        assert isinstance(pl_module, LmModule)
        step = trainer.global_step
        if step == self.progress.step:
            return
        self.progress.step = step
        last = step == self._n_steps
        evaluates = last or step % self._evaluate_every == 0
        logs = evaluates or step % self._settings.log_every == 0
        # Several devices agree on it where they meet anyway.
        stop_name = self._asked_to_stop(trainer) if logs or trainer.world_size == 1 else None
        due = last or stop_name is not None or step % self._settings.checkpoint_steps == 0
        if logs:
            due |= self._all_agree(
                trainer, time.monotonic() - self._last_commit > 60 * self._settings.checkpoint_minutes
            )
        if logs or due:
            self._take_figures(pl_module)
        dev_loss = None
        if evaluates:
            began = time.monotonic()
            dev_loss = self._evaluate(trainer, pl_module)
            self._set_aside(time.monotonic() - began)
        if logs:
            self._add_row(trainer, pl_module, dev_loss)
        killed = evaluates and self._is_killed(trainer)
        if due or killed:
            self._commit(trainer)
        if stop_name is not None:
            raise StopRequested(stop_name)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Signals as before; the trackers' runs end."""
        del trainer, pl_module
        killed = self.kill_rule is not None and self.kill_rule.verdict is not None
        self._end("killed" if killed else "done")

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """As at any end."""
        del trainer, pl_module
        self._end("stopped" if isinstance(exception, (StopRequested, KeyboardInterrupt)) else "failed")

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of this."""
        p = self.progress
        return {
            **{name: getattr(p, name) for name in ("step", "aside_s", "best_loss", "best_step", "last_loss")},
            "wall_s": self._wall_s(),
            "losses": list(p.losses),
            "norms": list(p.norms),
            "worse_since_tokens": self.kill_rule and self.kill_rule.worse_since_tokens,
            "verdict": self.kill_rule and self.kill_rule.verdict,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        state = dict(state_dict)
        worse_since, verdict = state.pop("worse_since_tokens"), state.pop("verdict")
        if self.kill_rule is not None:
            self.kill_rule.worse_since_tokens, self.kill_rule.verdict = worse_since, verdict
        self.progress = Progress(**state)
        self._wall_before, self._began = self.progress.wall_s, time.monotonic()

    def _end(self, ending: Ending) -> None:
        self._stop.restore()
        p = self.progress
        p.wall_s = self._wall_s()
        best = {
            "best_dev_loss": p.best_loss,
            "best_dev_perplexity": perplexity_of(p.best_loss),
            "best_step": p.best_step,
        }
        self.trackers.close(ending, {} if p.best_step < 0 else best)

    def _wall_s(self) -> float:
        return self._wall_before + (time.monotonic() - self._began if self._began else 0.0)

    def _asked_to_stop(self, trainer: pl.Trainer) -> str | None:
        if trainer.world_size == 1:
            return self._stop.name
        agreed = trainer.strategy.reduce_boolean_decision(self._stop.name is not None, all=False)
        return (self._stop.name or "another process") if agreed else None

    def _all_agree(self, trainer: pl.Trainer, decision: bool) -> bool:
        return decision if trainer.world_size == 1 else bool(trainer.strategy.broadcast(decision))

    def _take_figures(self, module: LmModule) -> None:
        for _, loss, norm in module.read():
            self.progress.losses.append(loss)
            self.progress.norms.append(norm)

    def _evaluate(self, trainer: pl.Trainer, module: LmModule) -> float:
        """Mean dev loss; new best weights are written at once."""

        def check_stop() -> None:
            if self._stop.name is not None and trainer.world_size == 1:
                raise StopRequested(self._stop.name)  # the evaluation belongs to the step: both are done again

        with trainer.precision_plugin.forward_context():
            total = self._dev.loss_sum(
                module.model,
                batch_tokens=_EVALUATION_TOKENS["cuda" if module.device.type == "cuda" else "cpu"],
                rank=trainer.global_rank,
                n_ranks=trainer.world_size,
                between=check_stop,
            )
        if trainer.world_size > 1:
            summed = torch.tensor(total, dtype=torch.float64, device=module.device)
            total = float(trainer.strategy.reduce(summed, reduce_op="sum"))
        loss = total / self._dev.n_scored_tokens
        p = self.progress
        if not math.isfinite(loss):
            raise SeqassayError(
                f"the dev loss is {loss} after step {p.step:,}, learning rate {module.schedule.at(p.step - 1):.3g}; "
                "the last good checkpoint is kept",
                hint="begin again (--force) with a smaller --learning-rate",
            )
        p.last_loss = loss
        is_best = loss < p.best_loss
        if is_best:
            p.best_loss, p.best_step = loss, p.step
            if trainer.is_global_zero:
                self._save_best(module.model, p)
        logger.info(
            "step %s of %s: dev loss %.4f, perplexity %.3f over %s tokens%s",
            f"{p.step:,}", f"{self._n_steps:,}", loss, perplexity_of(loss), f"{self._dev.n_scored_tokens:,}",
            " (best)" if is_best else "",
        )  # fmt: skip
        return loss

    def _add_row(self, trainer: pl.Trainer, module: LmModule, dev_loss: float | None) -> None:
        p = self.progress
        now = time.monotonic()
        elapsed = now - self._row_s - self._aside_s
        speed = (p.step - self._row_step) * self._tokens_per_step / elapsed if elapsed > 0 else None
        row: dict[str, Any] = dict(
            zip(
                COLUMNS,
                (
                    p.step, self.tokens_seen, module.schedule.at(p.step - 1),
                    math.fsum(p.losses) / len(p.losses), math.fsum(p.norms) / len(p.norms), dev_loss,
                    None if dev_loss is None else perplexity_of(dev_loss), None if speed is None else round(speed, 1),
                ),
                strict=True,
            )
        )  # fmt: skip
        if trainer.is_global_zero:
            self._metrics.add(row)
            self.trackers.log({k: v for k, v in row.items() if v is not None and k != "step"}, p.step)
        p.losses, p.norms = [], []
        self._row_step, self._row_s, self._aside_s = p.step, now, 0.0
        if speed and now - self._last_line > _LINE_EVERY_S:
            self._last_line = now
            left_s = round((self._n_steps - p.step) * self._tokens_per_step / speed)
            logger.info(
                "step %s of %s, %s tokens, loss %.4f, learning rate %.3g, %s tokens/s, %d:%02d:%02d left",
                f"{p.step:,}", f"{self._n_steps:,}", f"{self.tokens_seen:,}", row["train_loss"], row["learning_rate"],
                f"{speed:,.0f}", left_s // 3600, left_s // 60 % 60, left_s % 60,
            )  # fmt: skip

    def _is_killed(self, trainer: pl.Trainer) -> bool:
        rule = self.kill_rule
        if rule is None or not rule.see(self.tokens_seen, perplexity_of(self.progress.last_loss)):
            return False
        trainer.should_stop = True
        return True

    def _commit(self, trainer: pl.Trainer) -> None:
        began = time.monotonic()
        if trainer.is_global_zero:
            self._metrics.sync()
        trainer.save_checkpoint(self._folder / CHECKPOINT_FILE)
        self._last_commit = time.monotonic()
        self._set_aside(self._last_commit - began)

    def _set_aside(self, seconds: float) -> None:
        self._aside_s += seconds
        self.progress.aside_s += seconds
