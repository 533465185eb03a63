"""A language model in training, as a Lightning module: loss, optimizer, learning rate, gradient norm.

Windows, dropout and learning rate are functions of (seed, step), so that no random state has to be kept. Losses and
gradient norms stay on the device until they are asked for: reading one waits for the device.

Shape letters: W windows of a micro-batch, L tokens of a window, T = W · L.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from seqassay.errors import SeqassayError
from seqassay.models.attention import PackedLayout
from seqassay.models.causal_lm import CausalLm
from seqassay.models.linear import count_steps
from seqassay.models.lm_loss import cross_entropy
from seqassay.text.windows import TrainingWindows
from seqassay.train.lm_settings import LmTrainSettings, schedule_of

Batch = tuple[Tensor, Tensor]


class DivergedError(SeqassayError):
    """A loss or a gradient is not finite; keeps step and learning rate as data."""

    def __init__(self, what: str, value: float, step: int, learning_rate: float) -> None:
        super().__init__(
            f"the {what} is {value} at step {step:,}, learning rate {learning_rate:.3g}; the last good checkpoint is "
            "kept",
            hint="begin again (--force) with a smaller --learning-rate, a longer warm-up or a smaller --clip; "
            "--find-lr suggests a rate",
        )
        self.step, self.learning_rate = step, learning_rate


class StepBatches:
    """Micro-batches of all steps in one pass, of one rank; goes on from any of them.

    The position is looked up when the first batch is asked for, not when the iterator is made.
    """

    def __init__(self, windows: TrainingWindows, n_batches: int) -> None:
        self._windows, self._n_batches = windows, n_batches
        self.position, self.rank, self.n_ranks = 0, 0, 1

    def __len__(self) -> int:
        return self._n_batches

    def __iter__(self) -> Iterator[Batch]:
        while self.position < self._n_batches:
            inputs, targets = self._windows.batch(self.position, rank=self.rank, n_ranks=self.n_ranks)
            self.position += 1
            yield torch.from_numpy(inputs), torch.from_numpy(targets)

    def state_dict(self) -> dict[str, int]:
        """Micro-batches that were given out."""
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there."""
        self.position = state["position"]


class LmModule(pl.LightningModule):
    """One model in training."""

    def __init__(self, model: CausalLm, settings: LmTrainSettings) -> None:
        super().__init__()
        self.model, self.settings = model, settings
        model.dropout = settings.dropout
        self.schedule = schedule_of(settings, model.config.context)
        self.unread: list[tuple[int, Tensor, Tensor]] = []  # step, loss, gradient norm: not looked at yet
        self._micro_losses: list[Tensor] = []
        self._layout: PackedLayout | None = None
        self._parameters_to_clip = list(model.parameters())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW (Loshchilov and Hutter 2019); decay on matrices only; the rate is set before every step."""
        return make_optimizer(self.model, self.settings)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Learning rate and random numbers of this micro-batch."""
        del batch
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.schedule.at(self.global_step)
        if self.settings.dropout:
            place = self.settings.seed, batch_idx, self.global_rank
            torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0]))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Mean loss of a micro-batch."""
        del batch_idx
        inputs_WL, _ = batch
        if self._layout is None or self._layout.cu_seqlens.device != inputs_WL.device:
            self._layout = PackedLayout.from_lengths([inputs_WL.shape[1]] * len(inputs_WL), inputs_WL.device)
        loss = loss_of(self.model, batch, self._layout)
        self._micro_losses.append(loss.detach())
        return loss

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by norm, and keep the norm that there was."""
        del optimizer, gradient_clip_val, gradient_clip_algorithm
        norm = torch.nn.utils.clip_grad_norm_(self._parameters_to_clip, self.settings.clip)
        losses = self._micro_losses
        loss = losses[0] if len(losses) == 1 else torch.stack(losses).mean()
        self.unread.append((self.global_step, loss, norm.detach()))
        self._micro_losses = []

    def read(self) -> list[tuple[int, float, float]]:
        """Step, loss and gradient norm of the steps since the last time; waits for the device.

        Raises:
            DivergedError: one of them is not finite; names the first.
        """
        if not self.unread:
            return []
        losses = torch.stack([loss for _, loss, _ in self.unread])
        if self.trainer.world_size > 1:
            losses = self.trainer.strategy.reduce(losses, reduce_op="mean")
        norms = torch.stack([norm for _, _, norm in self.unread])
        found = list(
            zip((step for step, _, _ in self.unread), losses.float().tolist(), norms.float().tolist(), strict=True)
        )
        self.unread = []
        for step, loss, norm in found:
            for what, value in (("loss", loss), ("gradient norm", norm)):
                if not math.isfinite(value):
                    raise DivergedError(what, value, step, self.schedule.at(step))
        return found


def loss_of(model: CausalLm, batch: Batch, layout: PackedLayout) -> Tensor:
    """Mean loss in nats of a micro-batch ``([W, L], [W, L])``, with gradients."""
    inputs_WL, targets_WL = batch
    hidden_TD = model(inputs_WL.flatten(), layout)
    return cross_entropy(model, hidden_TD, targets_WL.flatten(), n_targets=targets_WL.numel())


def make_optimizer(model: CausalLm, settings: LmTrainSettings) -> torch.optim.AdamW:
    """Two groups: matrices, and what is not decayed."""
    groups: list[dict[str, Any]] = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(settings.beta1, settings.beta2), fused=True)
    count_steps(optimizer)
    return optimizer
