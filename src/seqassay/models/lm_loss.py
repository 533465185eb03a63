"""Losses and log-probabilities of a language model from its hidden states, a few tokens at a time, in float32.

Logits of 8,192 tokens over a vocabulary of 32,768 take 1 GB. Here a chunk of them exists at a time, of ``CHUNK_BYTES``
at most; training computes the gradients of a chunk while its logits are there (as in Hsu et al. 2024, Liger-Kernel), so
that they are never needed again.

Shape letters: T tokens, D hidden width, V vocabulary, B tokens of a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seqassay.models.causal_lm import CausalLm

CHUNK_BYTES = 32 << 20  # of float32 logits; more are slower for the cache
# On a CPU they should stay in its cache, without products of few rows. 2,048 tokens, 4,096 words, loss and gradients,
# one Zen 4 core: 130 ms with 4 MB, 154 with 1 or 16, 200 with all 32 MB at once.
_CPU_CHUNK_BYTES, _FEWEST_ROWS = 4 << 20, 256
NO_TARGET = -100  # a target that does not count


def cross_entropy(
    model: CausalLm,
    hidden_TD: Tensor,
    targets_T: Tensor,
    *,
    n_targets: int | None = None,
    chunk_bytes: int | None = None,
) -> Tensor:
    """Mean loss in nats over the targets that count, a float32 scalar with gradients.

    Args:
        hidden_TD: from the model's `forward`.
        targets_T: the token that follows each one, or `NO_TARGET`.
        n_targets: what the sum is divided by (default: how many targets count; on a GPU, counting them waits for it).

    Raises:
        ValueError: no target counts.
    """
    if n_targets is None:
        n_targets = int((targets_T != NO_TARGET).sum())
    if n_targets < 1:
        raise ValueError("no token has a target: the loss is not defined")
    weight_VD = model.head_weight_VD
    rows = _rows(weight_VD, chunk_bytes)
    if len(targets_T) <= rows:  # one chunk: torch's own, which keeps its log-probabilities for the backward pass
        logits_TV = model.logits(hidden_TD)
        return F.cross_entropy(logits_TV, targets_T, ignore_index=NO_TARGET, reduction="sum") / n_targets
    loss: Tensor = _CrossEntropy.apply(hidden_TD, weight_VD, targets_T, rows, n_targets)  # type: ignore[no-untyped-call]
    return loss


def target_log_probs(
    model: CausalLm, hidden_TD: Tensor, targets_T: Tensor, *, chunk_bytes: int | None = None
) -> Tensor:
    """Natural logarithm of each target's probability, float32 ``[T]``; without gradients."""
    found_T = torch.empty(len(targets_T), device=hidden_TD.device)
    for part, logits_BV in logits_in_chunks(model, hidden_TD, chunk_bytes=chunk_bytes):
        picked_B = logits_BV.gather(1, targets_T[part, None]).squeeze(1)
        found_T[part] = picked_B - torch.logsumexp(logits_BV, dim=1)
    return found_T


def logits_in_chunks(
    model: CausalLm, hidden_TD: Tensor, *, chunk_bytes: int | None = None
) -> Iterator[tuple[slice, Tensor]]:
    """Float32 logits ``[B, V]`` of consecutive tokens with the tokens they are of; without gradients."""
    n_rows = _rows(model.head_weight_VD, chunk_bytes)
    for first in range(0, len(hidden_TD), n_rows):
        part = slice(first, min(first + n_rows, len(hidden_TD)))
        with torch.no_grad():
            logits_BV = model.logits(hidden_TD[part])
        yield part, logits_BV


def _rows(weight_VD: Tensor, chunk_bytes: int | None) -> int:
    row_bytes = 4 * len(weight_VD)
    most = max(1, (chunk_bytes or CHUNK_BYTES) // row_bytes)
    if chunk_bytes is not None or weight_VD.device.type != "cpu":
        return most
    return min(most, max(_FEWEST_ROWS, _CPU_CHUNK_BYTES // row_bytes))


class _CrossEntropy(torch.autograd.Function):
    """Forward computes the gradients as well, chunk by chunk; backward scales them."""

    @staticmethod
    def forward(
        ctx: Any, hidden_TD: Tensor, weight_VD: Tensor, targets_T: Tensor, n_rows: int, n_targets: int
    ) -> Tensor:
        total = torch.zeros((), device=hidden_TD.device)
        wants_hidden, wants_weight = ctx.needs_input_grad[:2]
        d_hidden_TD = torch.empty_like(hidden_TD) if wants_hidden else None
        d_weight_VD = torch.zeros_like(weight_VD) if wants_weight else None
        for first in range(0, len(hidden_TD), n_rows):
            part = slice(first, first + n_rows)
            x_BD, target_B = hidden_TD[part], targets_T[part]
            # Under autocast the product is in half precision; what follows is float32 in any case.
            product_BV = F.linear(x_BD, weight_VD)
            log_probs_BV = torch.log_softmax(product_BV, dim=1, dtype=torch.float32)
            counts_B1 = (target_B != NO_TARGET)[:, None]
            place_B1 = torch.where(counts_B1, target_B[:, None], 0)
            total -= (log_probs_BV.gather(1, place_B1) * counts_B1).sum()
            if not (wants_hidden or wants_weight):
                continue
            d_logits_BV = log_probs_BV.exp_()
            d_logits_BV.scatter_add_(1, place_B1, torch.full_like(place_B1, -1, dtype=torch.float32))
            d_product_BV = d_logits_BV.mul_(counts_B1 / n_targets).to(product_BV.dtype)
            if d_hidden_TD is not None:
                d_hidden_TD[part] = d_product_BV @ weight_VD.to(product_BV.dtype)
            if d_weight_VD is not None:
                d_weight_VD += d_product_BV.T @ x_BD.to(product_BV.dtype)
        ctx.save_for_backward(d_hidden_TD, d_weight_VD)
        return total / n_targets

    @staticmethod
    def backward(ctx: Any, *d_loss: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        d_hidden_TD, d_weight_VD = ctx.saved_tensors
        scale = d_loss[0]
        return (
            None if d_hidden_TD is None else d_hidden_TD * scale,
            None if d_weight_VD is None else d_weight_VD * scale,
            None, None, None,
        )  # fmt: skip
