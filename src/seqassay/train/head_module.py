"""The head in training, as a Lightning module: loss, optimizer, learning rate, metrics of every epoch.

Shape letters: B frames of a batch, N frames of a set, D merged width, H hidden units, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqassay.errors import ModelError
from seqassay.models.head import ClassifierHead
from seqassay.train.head_batches import Batch
from seqassay.train.head_metrics import binary_metrics
from seqassay.train.head_recipes import HeadRecipe

METRIC_NAMES = (
    "epoch",
    "step",
    "learning_rate",
    "train_loss",
    "train_accuracy",
    *(f"valid_{name}" for name in ("loss", "accuracy", "precision", "recall", "f1", "roc_auc")),
)


class ScaledHead(nn.Module):
    """A head behind the scaling of its inputs; ``folded`` is the head that does both."""

    def __init__(self, head: ClassifierHead, mean_D: Tensor, deviation_D: Tensor) -> None:
        super().__init__()
        self.head = head
        self.mean_D: Tensor
        self.deviation_D: Tensor
        self.register_buffer("mean_D", mean_D)
        self.register_buffer("deviation_D", deviation_D)

    def forward(self, x_BD: Tensor) -> Tensor:
        """Logits ``[B, 2]``."""
        logits: Tensor = self.head((x_BD - self.mean_D) / self.deviation_D)
        return logits


def folded(state: Mapping[str, Tensor]) -> ClassifierHead:
    """A plain head in ``eval`` mode from the state of a `ScaledHead`: (x − m) / s goes into the first layer."""
    inner = {name.removeprefix("head."): tensor.cpu() for name, tensor in state.items() if name.startswith("head.")}
    mean_D, deviation_D = state["mean_D"].cpu().double(), state["deviation_D"].cpu().double()
    weight_HD = inner["hidden_layer.weight"].double() / deviation_D
    inner["hidden_layer.bias"] = (inner["hidden_layer.bias"].double() - weight_HD @ mean_D).float()
    inner["hidden_layer.weight"] = weight_HD.float()
    head = ClassifierHead(weight_HD.shape[1], weight_HD.shape[0])
    head.load_state_dict(inner)
    return head.eval()


class HeadModule(pl.LightningModule):
    """One head in training: loss, optimizer, metrics of every epoch."""

    def __init__(self, model: ScaledHead, recipe: HeadRecipe, class_weights_C: Tensor | None) -> None:
        super().__init__()
        self.model, self.recipe = model, recipe
        self.class_weights_C: Tensor | None
        self.register_buffer("class_weights_C", class_weights_C, persistent=False)
        self.running = {"loss": 0.0, "correct": 0, "frames": 0}  # of the epoch so far
        self.valid: dict[str, Any] = {}
        self._valid_logits: list[Tensor] = []
        self._valid_labels: list[Tensor] = []

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD or AdamW; the rate is set before every step."""
        recipe = self.recipe
        if recipe.optimizer == "sgd":
            return torch.optim.SGD(self.model.parameters(), lr=recipe.learning_rate, momentum=recipe.momentum)
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim < 2]  # biases and batch norm are not decayed
        groups = [
            {"params": decayed, "weight_decay": recipe.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=recipe.learning_rate)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Rate and random numbers of this step."""
        del batch, batch_idx
        recipe = self.recipe
        n_batches = int(self.trainer.num_training_batches)
        torch.manual_seed((recipe.seed << 32) + self.global_step)
        rate = recipe.learning_rate_at(self.current_epoch, self.global_step, n_batches)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Cross-entropy of one batch."""
        del batch_idx
        x_BD, labels_B = batch
        logits_B2 = self.model(x_BD)
        loss = F.cross_entropy(logits_B2, labels_B, weight=self.class_weights_C)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ModelError(
                f"the loss is {value} at step {self.global_step} (epoch {self.current_epoch})",
                hint="the features are damaged, or the rate is too high: try a smaller --learning-rate",
            )
        self.running["loss"] += value * len(labels_B)
        self.running["correct"] += int((logits_B2.detach().argmax(1) == labels_B).sum())
        self.running["frames"] += len(labels_B)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Logits of one batch, kept."""
        del batch_idx
        self._valid_logits.append(self.model(batch[0]).cpu())
        self._valid_labels.append(batch[1].cpu())

    def on_validation_epoch_end(self) -> None:
        """The metrics of the validation set."""
        logits_N2, labels_N = torch.cat(self._valid_logits), torch.cat(self._valid_labels)
        self._valid_logits, self._valid_labels = [], []
        weights = None if self.class_weights_C is None else self.class_weights_C.cpu()
        self.valid = validation_metrics(logits_N2, labels_N, self.recipe, weights)
        if not math.isfinite(self.valid["loss"]):
            raise ModelError(
                f"the validation loss is {self.valid['loss']} after step {self.global_step}",
                hint="the features are damaged, or the rate is too high: try a smaller --learning-rate",
            )

    def epoch_row(self) -> dict[str, Any]:
        """The metrics of the epoch that ends; the training figures are of the weights as they were, with dropout."""
        frames = self.running["frames"]
        row = {
            "epoch": self.current_epoch,
            "step": self.global_step,
            "learning_rate": self.trainer.optimizers[0].param_groups[0]["lr"],
            "train_loss": self.running["loss"] / frames,
            "train_accuracy": self.running["correct"] / frames,
            **{f"valid_{name}": value for name, value in self.valid.items()},
        }
        self.running = {"loss": 0.0, "correct": 0, "frames": 0}
        return {name: row[name] for name in METRIC_NAMES}


def validation_metrics(
    logits_N2: Tensor, labels_N: Tensor, recipe: HeadRecipe, class_weights_C: Tensor | None
) -> dict[str, Any]:
    """Loss (as the recipe computes it, in double precision) and the metrics of `binary_metrics`."""
    logits_N2 = logits_N2.double()
    losses_N = F.cross_entropy(logits_N2, labels_N, reduction="none")
    if recipe.mean_of_batches:
        loss = torch.stack([part.mean() for part in torch.split(losses_N, recipe.batch_size)]).mean()
    elif class_weights_C is not None:
        weights_N = class_weights_C.double()[labels_N]
        loss = (losses_N * weights_N).sum() / weights_N.sum()
    else:
        loss = losses_N.mean()
    scores_N = torch.softmax(logits_N2, dim=1)[:, 1].numpy()
    return {"loss": float(loss), **binary_metrics(labels_N.numpy(), scores_N)}
