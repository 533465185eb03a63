"""The guards of an evaluation: run before any figure, on what figures are computed with; what each found is kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqassay.evaluate.lm_guards import (
    UNTRAINED_SLACK_NATS,
    Floats,
    LmGuardError,
    check_causality,
    check_labels,
    check_untrained_loss,
)
from seqassay.evaluate.lm_guards import Tokens as TokenRows
from seqassay.evaluate.perplexity import UnitSums, batches_of, check_noise, score_windows
from seqassay.models.attention import PackedLayout
from seqassay.models.causal_lm import CausalLm
from seqassay.text.token_files import SplitTokens
from seqassay.text.windows import Tokens, evaluation_windows

_NOISE_WINDOWS = 4  # contexts of random tokens
_BATCH_TOKENS = 8_192


def run_guards(
    model: CausalLm, device: torch.device, *, context_tokens: int, stride_tokens: int, is_untrained: bool | None
) -> list[dict[str, Any]]:
    """Causality, label shift, noise, and the loss of an untrained model.

    Raises:
        LmGuardError: one is violated; names the likely bug.
    """
    vocab_size = model.config.vocab_size

    def score(tokens: Tokens) -> Floats:
        windows = evaluation_windows(
            [(0, len(tokens))], context_tokens=context_tokens, stride_tokens=stride_tokens, has_prefix=False
        )
        losses = np.full(len(tokens), np.nan)
        for batch in batches_of(windows, _BATCH_TOKENS):
            scored = score_windows(model, tokens, batch, prefix_id=None, device=device)
            losses[scored.places_N] = scored.losses_N
        return losses[1:]

    def score_rows(tokens_SL: TokenRows) -> Floats:
        n, length = tokens_SL.shape
        spans = [(i * length, (i + 1) * length) for i in range(n)]
        tokens = tokens_SL.reshape(-1)
        losses = np.full(len(tokens), np.nan)
        windows = evaluation_windows(spans, context_tokens=context_tokens, has_prefix=False)
        for batch in batches_of(windows, _BATCH_TOKENS):
            scored = score_windows(model, tokens, batch, prefix_id=None, device=device)
            losses[scored.places_N] = scored.losses_N
        return losses.reshape(n, length)[:, 1:]

    def encode(tokens_SL: TokenRows) -> Tensor:
        n, length = tokens_SL.shape
        layout = PackedLayout.from_lengths([length] * n, device)
        hidden_TD: Tensor = model(torch.from_numpy(tokens_SL).to(device).flatten(), layout)
        return hidden_TD.view(n, length, -1)

    length = min(3, context_tokens + 1)
    causality, labels = "no output moves when a later token changes", "next tokens' probabilities sum to 1"
    causal_length = min(16, model.config.context)
    found = [
        _ran("causality", causality, lambda: check_causality(encode, vocab_size, length=causal_length)),
        _ran("labels", labels, lambda: check_labels(score_rows, vocab_size, length=length)),
    ]
    n_noise = _NOISE_WINDOWS * context_tokens + 1
    at_least = f"loss of {n_noise - 1:,} random tokens is not below ln V = {math.log(vocab_size):.4f} nats"
    noise = _ran("noise", at_least, lambda: check_noise(score, vocab_size, n_tokens=n_noise))
    found.append(noise)
    if is_untrained:
        says = f"loss of random tokens is ln V ± {UNTRAINED_SLACK_NATS:g} nats, for the weights are the first ones"

        def untrained() -> float:
            check_untrained_loss(noise["value"], vocab_size)
            return float(noise["value"])

        found.append(_ran("untrained", says, untrained))
    return found


def _ran(name: str, says: str, check: Callable[[], float | None]) -> dict[str, Any]:
    began = time.monotonic()
    value = check()
    return _passed(name, says, value, time.monotonic() - began)


def _passed(name: str, says: str, value: float | None, wall_s: float = 0.0) -> dict[str, Any]:
    """The record's row of a guard that held; one that doesn't raises."""
    return {"name": name, "says": says, "value": value, "passed": True, "wall_s": round(wall_s, 3)}


def check_every_token_scored(sums: UnitSums, split: SplitTokens, *, windows: str, has_prefix: bool) -> dict[str, Any]:
    """Scored tokens are the tokens of the text, as the manifest counted them when it was tokenised.

    Raises:
        LmGuardError: they are not.
    """
    expected = len(split.tokens) - (split.n_separators if windows == "documents" else 0)
    n_spans = 1 if windows == "stream" else split.n_documents
    expected -= 0 if has_prefix else n_spans
    if sums.n_scored != expected or int(sums.seen.sum()) != expected:
        raise LmGuardError(
            f"{split.name}: {sums.n_scored:,} tokens were scored, {int(sums.seen.sum()):,} of them different; the text "
            f"has {expected:,} to score",
            hint="likely bug: windows leave tokens out, or padding is counted",
        )
    return _passed(f"scored tokens of {split.name}", "every token of the text is scored exactly once", float(expected))


def check_text(split: SplitTokens, n_bytes: int, n_words: int) -> dict[str, Any]:
    """What the scored tokens spell has the bytes and words of the text, as they were counted before it was tokenised.

    Raises:
        LmGuardError: it has not.
    """
    if (n_bytes, n_words) != (split.n_bytes, split.n_words):
        raise LmGuardError(
            f"{split.name}: the scored tokens spell {n_bytes:,} bytes in {n_words:,} words; the text has "
            f"{split.n_bytes:,} in {split.n_words:,}",
            hint="likely bug: tokens were lost or doubled, or are another tokenizer's",
        )
    return _passed(f"text of {split.name}", "the scored tokens spell the bytes and words of the text", float(n_bytes))
