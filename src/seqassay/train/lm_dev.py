"""The loss on the dev split while a model trains: all of it, or windows spread evenly over it.

The figure of a finished model, with words, bytes and intervals, is that of the evaluation; this one chooses the best
weights and draws the curve.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from seqassay.models.attention import PackedLayout
from seqassay.models.causal_lm import CausalLm
from seqassay.models.lm_loss import target_log_probs
from seqassay.text.windows import EvaluationWindow, Tokens, evaluation_batches, evaluation_windows

LARGEST_LOSS_NATS = 700.0  # its exponential is the last that fits a float64


@dataclass(frozen=True, slots=True)
class DevSet:
    """Rolling windows of the dev split; every token they score is scored once.

    Attributes:
        tokens: of the split.
        windows: those that are scored.
        n_windows_in_all: of the split.
        context_tokens: of the model; windows begin where the one before ended.
    """

    tokens: Tokens
    windows: tuple[EvaluationWindow, ...]
    n_windows_in_all: int
    context_tokens: int

    @classmethod
    def of(cls, tokens: Tokens, context_tokens: int, n_windows: int | None) -> DevSet:
        """All windows, or this many of them, evenly over the split."""
        windows = tuple(evaluation_windows([(0, len(tokens))], context_tokens=context_tokens, has_prefix=False))
        chosen = windows
        if n_windows is not None and n_windows < len(windows):
            chosen = tuple(windows[i] for i in np.linspace(0, len(windows) - 1, n_windows).round().astype(int))
        return cls(tokens, chosen, len(windows), context_tokens)

    @property
    def n_scored_tokens(self) -> int:
        """Targets of the windows."""
        return sum(window.n_scored for window in self.windows)

    def said(self) -> dict[str, Any]:
        """What a figure of this set is of, as JSON types."""
        return {
            "split": "valid",
            "windows": len(self.windows),
            "of_windows": self.n_windows_in_all,
            "scored_tokens": self.n_scored_tokens,
            "split_tokens": len(self.tokens),
            "context_tokens": self.context_tokens,
            "stride_tokens": self.context_tokens,
            "prefix": None,
        }

    def loss_sum(
        self,
        model: CausalLm,
        *,
        batch_tokens: int,
        rank: int = 0,
        n_ranks: int = 1,
        between: Callable[[], None] = lambda: None,
    ) -> float:
        """Sum of the losses in nats, float64, of this rank's share of the batches.

        Args:
            model: left in the mode in which it was.
            batch_tokens: budget of a batch.
            between: called before every batch; may raise.
        """
        device = model.embed_tokens.weight.device
        was_training = model.training
        model.eval()
        total = 0.0
        try:
            windows_at_once = max(1, batch_tokens // self.context_tokens)
            batches = evaluation_batches(self.tokens, self.windows, prefix_id=None, batch_windows=windows_at_once)
            for number, batch in enumerate(batches):
                if number % n_ranks != rank:
                    continue
                between()
                layout = PackedLayout.from_lengths([batch.inputs.shape[1]] * len(batch.inputs), device)
                with torch.no_grad():
                    hidden_TD = model(torch.from_numpy(batch.inputs).flatten().to(device), layout)
                    targets_T = torch.from_numpy(batch.targets).flatten().to(device)
                    log_probs_T = target_log_probs(model, hidden_TD, targets_T)
                scored_T = torch.from_numpy(np.ascontiguousarray(batch.is_scored)).flatten()
                total -= float(log_probs_T.cpu().double()[scored_T].sum())
        finally:
            model.train(was_training)
        return total


def perplexity_of(loss_nats: float) -> float:
    """The exponential of a mean loss, capped so that it cannot overflow."""
    return math.exp(min(loss_nats, LARGEST_LOSS_NATS))
