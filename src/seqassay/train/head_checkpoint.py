"""What a head's training keeps: the best weights by value, the metrics of every epoch, checkpoints to go on from."""

from __future__ import annotations

import csv
import io
import logging
import math
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from seqassay.durable import write_durably
from seqassay.errors import ModelError
from seqassay.train.head import CHECKPOINT_FILE
from seqassay.train.head_batches import EpochBatches
from seqassay.train.head_module import METRIC_NAMES, HeadModule
from seqassay.train.head_recipes import HeadRecipe

METRICS_FILE = "metrics.csv"
_LINE_EVERY_S = 30.0

logger = logging.getLogger(__name__)


class BestAndCheckpoint(Checkpoint):
    """Keeps the best weights by value, ends training without progress, and commits checkpoints.

    One callback and not three, so that a checkpoint always holds the state after the epoch it belongs to.
    """

    def __init__(self, folder: Path, recipe: HeadRecipe, batches: EpochBatches, every_n_steps: int) -> None:
        self._folder, self._recipe, self._batches, self._every = folder, recipe, batches, every_n_steps
        self.best_loss, self.best_epoch, self.waited = math.inf, -1, 0
        self.best_state: dict[str, Tensor] = {}
        self.history: list[dict[str, Any]] = []
        self._loaded: dict[str, Any] | None = None
        self._running: dict[str, Any] = {}
        self._last_line = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take up where the checkpoint stands, stopped or not."""
        assert isinstance(pl_module, HeadModule)
        if self._loaded is not None:
            pl_module.running = self._loaded["running"]
            # Lightning restores a loader within an epoch, but not at the end of one; its iterator has not begun yet.
            self._batches.load_state_dict(self._loaded["batches"])
        self._write_metrics()
        trainer.should_stop = self.waited >= self._recipe.patience

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Commit a checkpoint every so many steps, and say every half minute how far it is."""
        del outputs, batch
        n_batches = int(trainer.num_training_batches)
        # The last batch's checkpoint is the epoch's, after validation.
        if trainer.global_step % self._every == 0 and batch_idx + 1 < n_batches:
            self._commit(trainer, pl_module)
        if time.monotonic() - self._last_line > _LINE_EVERY_S:
            self._last_line = time.monotonic()
            logger.info("epoch %d, step %d of %d in it", trainer.current_epoch, batch_idx + 1, n_batches)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """After validation: best weights, early stopping, metrics, checkpoint."""
        assert isinstance(pl_module, HeadModule)
        check_weights(pl_module)
        row = pl_module.epoch_row()
        self.history.append(row)
        if row["valid_loss"] < self.best_loss:
            self.best_loss, self.best_epoch, self.waited = row["valid_loss"], row["epoch"], 0
            # A copy: the tensors of a state_dict are the weights themselves and go on changing.
            self.best_state = {name: t.detach().cpu().clone() for name, t in pl_module.model.state_dict().items()}
        else:
            self.waited += 1
            trainer.should_stop = self.waited >= self._recipe.patience
        auc = row["valid_roc_auc"]
        logger.info(
            "epoch %d, step %d: training loss %.4f, validation loss %.4f, accuracy %.4f, ROC-AUC %s%s",
            row["epoch"], row["step"], row["train_loss"], row["valid_loss"], row["valid_accuracy"],
            "–" if auc is None else f"{auc:.4f}", " (best)" if self.waited == 0 else "",
        )  # fmt: skip
        for tracker in trainer.loggers:
            tracker.log_metrics({k: v for k, v in row.items() if v is not None}, step=row["step"])
        self._write_metrics()
        self._commit(trainer, pl_module)
        self._last_line = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of this."""
        return {
            "best_loss": self.best_loss,
            "best_epoch": self.best_epoch,
            "waited": self.waited,
            "best_state": self.best_state,
            "history": self.history,
            "running": dict(self._running),
            "batches": self._batches.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.best_loss, self.best_epoch = state_dict["best_loss"], state_dict["best_epoch"]
        self.waited, self.best_state = state_dict["waited"], state_dict["best_state"]
        self.history, self._loaded = state_dict["history"], state_dict

    def _commit(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, HeadModule)
        self._running = pl_module.running
        trainer.save_checkpoint(self._folder / CHECKPOINT_FILE)

    def _write_metrics(self) -> None:
        """The metrics of every epoch, whole. Lightning's own CSV logger would drop those from before a resume."""
        text = io.StringIO()
        writer = csv.DictWriter(text, METRIC_NAMES, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.history)
        write_durably(self._folder / METRICS_FILE, [text.getvalue().encode()])


def check_weights(module: HeadModule) -> None:
    """Refuse weights that are not finite.

    Raises:
        ModelError: names the tensor and the step.
    """
    for name, tensor in module.model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(
                f"{name} holds NaN or infinite values after step {module.global_step}",
                hint="try a smaller --learning-rate",
            )


class DurableCheckpointIO(CheckpointIO):
    """Checkpoints that are whole or absent and are read as tensors and plain values only.

    Lightning writes through a file in the system's temporary folder, and unpickles what it reads.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write and sync under a temporary name beside the file, then rename."""
        del storage_options
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_durably(Path(path), [buffer.getvalue()])

    def load_checkpoint(self, path: Any, map_location: Any | None = None, weights_only: bool | None = None) -> Any:
        """Read back; a ModelError where it is damaged."""
        del map_location, weights_only
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise ModelError(
                f"{path}: the checkpoint cannot be read: {(str(error) or type(error).__name__).splitlines()[0][:200]}",
                hint="begin again with --force",
            ) from error

    def remove_checkpoint(self, path: Any) -> None:
        """Remove one."""
        Path(path).unlink(missing_ok=True)
