"""The guard of generation: continuations read again without a cache."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from seqassay.engine.generate import Continuation
from seqassay.evaluate.lm_guards import LmGuardError
from seqassay.models.attention import PackedLayout
from seqassay.models.causal_lm import CausalLm
from seqassay.models.lm_loss import target_log_probs

_CHECKED_TOKENS = 4096
_LIMIT_NATS = 1e-3  # rounding of float32 moves a log-probability by 1e-5


class CacheGuard:
    """Whether log-probabilities from kept keys and values are those of the same tokens read at once."""

    def __init__(self, model: CausalLm) -> None:
        self._model = model
        self._n_tokens = 0
        self._worst_nats = self._wall_s = 0.0

    def check(
        self, numbers: Sequence[int], prompts: Sequence[Sequence[int]], found: Sequence[Sequence[Continuation]]
    ) -> None:
        """Check the continuations that are longest within their first windows, up to a few thousand tokens.

        Args:
            numbers: of the prompts, from 0 on.
            prompts: their tokens.
            found: what followed each.

        Raises:
            LmGuardError: a log-probability differs.
        """
        began = time.monotonic()
        context, device = self._model.config.context, self._model.embed_tokens.weight.device
        first_windows = [
            (number, kept, one, min(len(one.tokens), context + 1 - len(kept)))
            for number, kept, samples in zip(numbers, [list(ids[-context:]) for ids in prompts], found, strict=True)
            for one in samples
        ]
        first_windows.sort(key=lambda window: -window[3])
        n_before = np.cumsum([0, *(len(kept) + n - 1 for _, kept, _, n in first_windows[:-1])])
        checked = [window for window, before in zip(first_windows, n_before, strict=True) if before < _CHECKED_TOKENS]
        checked.sort(key=lambda window: len(window[1]) + window[3])
        layout = PackedLayout.from_lengths([len(kept) + n - 1 for _, kept, _, n in checked], device)
        tokens_T = torch.tensor(
            [t for _, kept, one, n in checked for t in (*kept, *one.tokens[: n - 1])], device=device
        )
        ends = layout.offsets[1:].tolist()
        places_N = torch.tensor([i for (*_, n), end in zip(checked, ends, strict=True) for i in range(end - n, end)])
        targets_N = torch.tensor([t for _, _, one, n in checked for t in one.tokens[:n]], device=device)
        with torch.no_grad():
            hidden_ND = self._model(tokens_T, layout)[places_N.to(device)]
            again_N = target_log_probs(self._model, hidden_ND, targets_N).double().cpu().numpy()
        kept_N = np.array([value for _, _, one, n in checked for value in one.log_probs[:n]])
        difference_N = np.abs(again_N - kept_N)
        worst = int(difference_N.argmax())
        if not difference_N[worst] <= _LIMIT_NATS * max(1.0, float(np.abs(again_N).max())):
            of = np.repeat([number for number, *_ in checked], [n for *_, n in checked])[worst]
            raise LmGuardError(
                f"a log-probability of prompt {of + 1}'s continuation differs by {difference_N[worst]:.2g} nats from "
                "that of the same tokens read at once",
                hint="likely bug: kept keys and values are of other tokens, or at other positions",
            )
        self._n_tokens += len(kept_N)
        self._worst_nats = max(self._worst_nats, float(difference_N[worst]))
        self._wall_s += time.monotonic() - began

    def section(self) -> dict[str, Any]:
        """As the record has it."""
        return {
            "name": "cache",
            "says": f"the log-probabilities of {self._n_tokens:,} tokens are those of the same read at once, without a "
            "cache",
            "value": self._worst_nats,
            "passed": True,
            "wall_s": round(self._wall_s, 3),
        }
