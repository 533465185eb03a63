"""What is looked at before a training is worth its time: guards, one batch learnt by heart, and the learning rate."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqassay.errors import UsageError
from seqassay.evaluate.lm_guards import LmGuardError, Tokens, check_causality, check_untrained_loss
from seqassay.models.attention import PackedLayout
from seqassay.models.causal_lm import CausalLm
from seqassay.text.windows import TrainingWindows
from seqassay.train.lm_module import loss_of, make_optimizer
from seqassay.train.lm_settings import LmTrainSettings

Context = Callable[[], contextlib.AbstractContextManager[Any]]

_LOWEST_RATE, _HIGHEST_RATE = 1e-6, 1.0
_RATES = 100  # steps from the lowest to the highest
_SMOOTHING = 0.9  # of the losses
_BLOWN_UP = 3.0  # times the least smoothed loss: nothing is learnt beyond
_OVERFIT_STEPS, _OVERFIT_SHARE = 500, 0.1  # of the loss before training
_OVERFIT_WINDOWS, _OVERFIT_TOKENS = 2, 32


def check_before_training(
    model: CausalLm, windows: TrainingWindows, *, untrained: bool, device: torch.device, context: Context
) -> float:
    """The model looks at no later token and, where it is untrained, knows nothing; the loss of the first batch.

    Raises:
        LmGuardError: names the likely bug.
    """
    was_training = model.training
    model.eval()
    length = min(16, model.config.context)

    def encode(tokens_SL: Tokens) -> Tensor:
        n, width = tokens_SL.shape
        with context():
            hidden_TD: Tensor = model(
                torch.from_numpy(tokens_SL).flatten().to(device), PackedLayout.from_lengths([width] * n, device)
            )
        return hidden_TD.float().view(n, width, -1)

    half_precision = False
    with context():
        half_precision = torch.is_autocast_enabled(device.type)
    check_causality(encode, model.config.vocab_size, length=length, tolerance=1e-2 if half_precision else 1e-4)
    inputs, targets = windows.batch(0)
    with torch.no_grad(), context():
        batch = (torch.from_numpy(inputs).to(device), torch.from_numpy(targets).to(device))
        loss = float(loss_of(model, batch, PackedLayout.from_lengths([inputs.shape[1]] * len(inputs), device)))
    if untrained:
        check_untrained_loss(loss, model.config.vocab_size)
    model.train(was_training)
    return loss


@dataclass(frozen=True, slots=True)
class OverfitResult:
    """One batch that was trained on again and again.

    Attributes:
        first_loss, last_loss: nats.
        steps: until the loss was a tenth of the first.
        n_tokens: of the batch.
    """

    first_loss: float
    last_loss: float
    steps: int
    n_tokens: int


def overfit_one_batch(
    model: CausalLm, windows: TrainingWindows, settings: LmTrainSettings, *, device: torch.device, context: Context
) -> OverfitResult:
    """A copy of the model learns a few windows by heart, at the full learning rate, without dropout or decay.

    Raises:
        LmGuardError: it does not: the gradients, the optimizer or the labels are wrong, or the rate is.
    """
    length = min(_OVERFIT_TOKENS, model.config.context)
    inputs, targets = (x[:_OVERFIT_WINDOWS, :length] for x in windows.batch(0))
    batch = (torch.from_numpy(inputs.copy()).to(device), torch.from_numpy(targets.copy()).to(device))
    layout = PackedLayout.from_lengths([length] * len(inputs), device)
    learner = copy.deepcopy(model).train()
    learner.dropout = 0.0
    optimizer = torch.optim.AdamW(learner.parameters(), lr=settings.learning_rate, weight_decay=0.0, fused=True)
    first = loss = math.inf
    for step in range(_OVERFIT_STEPS):
        loss = _step(learner, optimizer, batch, layout, settings, context)
        first = loss if step == 0 else first
        if not math.isfinite(loss):
            break
        if loss <= _OVERFIT_SHARE * first:
            return OverfitResult(first, loss, step + 1, inputs.size)
    raise LmGuardError(
        f"{inputs.size} tokens are not learnt by heart: the loss goes from {first:.3f} to {loss:.3f} in "
        f"{_OVERFIT_STEPS} steps at learning rate {settings.learning_rate:.3g}",
        hint="likely bug: parameters that the optimizer does not have, gradients that are cut off, or labels that "
        "belong to other inputs; or the rate does not fit (--find-lr), or the model is too small for any text",
    )


@dataclass(frozen=True, slots=True)
class RateCurve:
    """Losses while the learning rate grows by a constant factor each step (Smith 2017).

    Attributes:
        rates, losses: of every step; losses are smoothed (exponential mean, corrected for its start).
        suggestion: the rate where the smoothed loss falls fastest per decade; None where it never falls.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float | None


def find_learning_rate(
    model: CausalLm, windows: TrainingWindows, settings: LmTrainSettings, *, device: torch.device, context: Context
) -> RateCurve:
    """Train a copy of the model on the first batches at rates from 1e-6 to 1, until the loss blows up.

    Raises:
        UsageError: the first loss is not finite.
    """
    learner = copy.deepcopy(model).train()
    optimizer = make_optimizer(learner, settings)
    rates: list[float] = []
    losses: list[float] = []
    mean = 0.0
    for step in range(_RATES):
        rate = _LOWEST_RATE * (_HIGHEST_RATE / _LOWEST_RATE) ** (step / (_RATES - 1))
        for group in optimizer.param_groups:
            group["lr"] = rate
        inputs, targets = (torch.from_numpy(x).to(device) for x in windows.batch(step))
        layout = PackedLayout.from_lengths([inputs.shape[1]] * len(inputs), device)
        loss = _step(learner, optimizer, (inputs, targets), layout, settings, context)
        if not math.isfinite(loss):
            break
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss
        smooth = mean / (1 - _SMOOTHING ** (step + 1))
        rates.append(rate)
        losses.append(smooth)
        if smooth > _BLOWN_UP * min(losses):
            break
    if len(losses) < 3:
        raise UsageError("the loss is not finite at the smallest rates", hint="check the checkpoint that is begun with")
    lowest = int(np.argmin(losses))
    slopes = np.gradient(np.array(losses), np.log10(rates))[: lowest + 1]
    steepest = int(np.argmin(slopes))
    return RateCurve(tuple(rates), tuple(losses), rates[steepest] if slopes[steepest] < 0 else None)


def _step(
    model: CausalLm,
    optimizer: torch.optim.Optimizer,
    batch: tuple[Tensor, Tensor],
    layout: PackedLayout,
    settings: LmTrainSettings,
    context: Context,
) -> float:
    optimizer.zero_grad(set_to_none=True)
    with context():
        loss = loss_of(model, batch, layout)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
    optimizer.step()
    return float(loss.detach())
