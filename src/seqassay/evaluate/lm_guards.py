"""Guards that a language model's figures cannot lie: each raises an error that names the likely bug.

They look at a scorer or at hidden states from outside, so that a bug anywhere below (attention, batching, labels)
shows. Shape letters: S sequences, L tokens of each, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seqassay.errors import SeqassayError

Floats = npt.NDArray[np.float64]
Tokens = npt.NDArray[np.int64]
# Hidden states or logits of each token of each sequence: [S, L] to [S, L, anything].
Encode = Callable[[Tokens], Tensor]
# Losses in nats of every token but the first of each sequence: [S, L] to [S, L - 1].
Score = Callable[[Tokens], Floats]

UNTRAINED_SLACK_NATS = 0.5  # first weights of standard deviation 0.02 add up to 0.1 at 1,024 wide
_AT_ONCE = 4096  # sequences of a guard that are scored together


class LmGuardError(SeqassayError):
    """A figure of a language model would be wrong; the hint names the likely bug."""


def check_causality(
    encode: Encode, vocab_size: int, *, length: int = 16, seed: int = 0, tolerance: float = 1e-4
) -> None:
    """A token's output must not move when a later token changes, and must move when it changes itself.

    Every position is changed in turn, in one batch.

    Args:
        encode: the model, on sequences of equal length.
        tolerance: of the largest move that rounding may make, relative to the outputs' standard deviation.

    Raises:
        LmGuardError: the future leaks, or a token does not count.
    """
    tokens_L = np.random.default_rng(seed).integers(0, vocab_size, length)
    changed_SL = np.tile(tokens_L, (length + 1, 1))
    places = np.arange(length)
    changed_SL[places, places] = (tokens_L + max(1, vocab_size // 2)) % vocab_size
    with torch.no_grad():
        outputs = encode(changed_SL).double().flatten(2).cpu()
    limit = tolerance * float(outputs.std())
    moved_SL = (outputs[:-1] - outputs[-1]).abs().amax(dim=2) > limit
    leaks = moved_SL.tril(-1)  # row: the token that was changed; column: the token whose output is looked at
    if bool(leaks.any()):
        change, place = (int(x) for x in leaks.nonzero()[0])
        raise LmGuardError(
            f"the output at token {place} moves when token {change} changes, which comes later: the future leaks",
            hint="likely bug: the causal mask is missing, is off by one, or positions of a batch are mixed up",
        )
    dead = [i for i in range(length) if not bool(moved_SL[i, i])]
    if dead:
        raise LmGuardError(
            f"the output at token {dead[0]} does not move when that token changes",
            hint="likely bug: the mask hides a token from itself, or inputs are shifted",
        )


def check_untrained_loss(loss_nats: float, vocab_size: int, *, slack_nats: float = UNTRAINED_SLACK_NATS) -> None:
    """Before training a model knows nothing: its loss is about ``ln V``.

    Raises:
        LmGuardError: it is not.
    """
    expected = math.log(vocab_size)
    if math.isfinite(loss_nats) and abs(loss_nats - expected) <= slack_nats:
        return
    known = (
        f"loss before training is {loss_nats:.3f} nats; for a vocabulary of {vocab_size:,} it is about {expected:.3f}"
    )
    if loss_nats < expected:
        raise LmGuardError(
            known,
            hint="likely bug: the target is visible to the model (labels not shifted, or the future leaks), or padding "
            "is counted as tokens",
        )
    raise LmGuardError(known, hint="likely bug: first weights are too large, or logits are scaled twice")


def check_labels(score: Score, vocab_size: int, *, length: int = 4, seed: int = 0, tolerance: float = 1e-3) -> None:
    """Each loss must be that of the next token, given all tokens before it and nothing else.

    The probabilities of all last tokens sum to 1 when none is seen while it is predicted; the first weights of a
    model hardly attend, so that a leak in attention may show here after training only (`check_causality` shows it
    before). And the loss of the last one depends on the token just before it.

    Args:
        score: what figures are computed with. It is given V + 1 sequences of ``length`` tokens.
        tolerance: of the sum of probabilities.

    Raises:
        LmGuardError: a number of losses other than ``length - 1``, or labels that are shifted wrongly.
    """
    tokens_L = np.random.default_rng(seed).integers(0, vocab_size, length)
    total = 0.0
    for first in range(0, vocab_size, _AT_ONCE):
        last_S = np.arange(first, min(first + _AT_ONCE, vocab_size))
        tokens_SL = np.tile(tokens_L, (len(last_S), 1))
        tokens_SL[:, -1] = last_S
        losses = np.asarray(score(tokens_SL), np.float64)
        if losses.shape != (len(last_S), length - 1):
            raise LmGuardError(
                f"{length} tokens of a sequence give {losses.shape[-1]} losses; they have to be {length - 1}",
                hint="likely bug: every token but the first is to be scored, exactly once",
            )
        total += float(np.exp(-losses[:, -1]).sum())
    if abs(total - 1) > tolerance:
        raise LmGuardError(
            f"the probabilities of all {vocab_size:,} tokens after one context sum to {total:.6g}, not to 1",
            hint="likely bug: labels are not shifted (a token predicts itself), the future leaks, or log-probabilities "
            "are not normalised over the whole vocabulary in float32",
        )
    tokens_SL = np.tile(tokens_L, (2, 1))
    tokens_SL[1, -2] = (tokens_L[-2] + 1) % vocab_size
    before, after = np.asarray(score(tokens_SL), np.float64)[:, -1]
    if before == after:
        raise LmGuardError(
            "the loss of the last token does not depend on the token before it",
            hint="likely bug: labels are shifted by more than one, or the context is cut too early",
        )
