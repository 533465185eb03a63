"""One split: scored in rolling windows, and its figures side by side."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from seqassay.errors import InputError
from seqassay.evaluate.perplexity import (
    LARGEST_PERPLEXITY,
    UnitSums,
    batches_of,
    perplexity,
    ratio_interval,
    score_windows,
    unit_edges,
)
from seqassay.measure.progress import RunProgress
from seqassay.models.causal_lm import CausalLm
from seqassay.prove.lm.guards import check_every_token_scored, check_text
from seqassay.text.token_files import SplitTokens
from seqassay.text.tokenizer import TextTokenizer
from seqassay.text.windows import evaluation_windows, n_scored_tokens

_OVER = f"over {LARGEST_PERPLEXITY:g}"
Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """How every split is scored.

    Attributes:
        prefix_id: goes before every span; None: a span's first token is not scored.
    """

    windows: str
    context_tokens: int
    stride_tokens: int
    prefix_id: int | None
    top_k: tuple[int, ...]
    batch_tokens: int
    max_batches: int | None


def evaluate_split(
    model: CausalLm,
    tokenizer: TextTokenizer,
    split: SplitTokens,
    method: Method,
    device: torch.device,
    *,
    comes_back: bool,
    progress: RunProgress,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Figures of a split, and what the guards found that look at scored tokens.

    Args:
        comes_back: decoding the tokens gives the text.

    Raises:
        InputError: nothing to score.
        LmGuardError: tokens left out or doubled, or a loss that is no number.
    """
    has_prefix = method.prefix_id is not None
    spans = list(split.documents()) if method.windows == "documents" else [(0, len(split.tokens))]
    n_to_score = n_scored_tokens(spans, has_prefix=has_prefix)
    if n_to_score < 1:
        raise InputError(f"{split.name}: has no token to score", hint="give more text, or a tokenizer with a prefix")
    edges, unit = unit_edges(split.offsets, method.context_tokens)
    sums = UnitSums(edges, method.top_k)
    windows = evaluation_windows(
        spans, context_tokens=method.context_tokens, stride_tokens=method.stride_tokens, has_prefix=has_prefix
    )
    progress.begin_part(f"scoring {split.name}", "tokens", n_to_score)
    n_batches, began = 0, time.monotonic()
    batches = batches_of(windows, method.batch_tokens)
    for batch in islice(batches, method.max_batches):
        scored = score_windows(model, split.tokens, batch, prefix_id=method.prefix_id, device=device)
        sums.add(scored)
        n_batches += 1
        progress.done_sequences += len(scored.places_N)
    scoring_s = time.monotonic() - began

    is_whole = next(batches, None) is None  # by the windows, not by the count, which the guard holds against the text
    guards = []
    if is_whole:
        guards.append(check_every_token_scored(sums, split, windows=method.windows, has_prefix=has_prefix))
    separator = tokenizer.separator.id if split.n_separators and tokenizer.separator is not None else None
    by_document = _spelled(split, split.offsets.astype(np.int64), sums.seen, separator, tokenizer)
    n_bytes, n_words = (int(counts.sum()) for counts in by_document)
    if is_whole and has_prefix and comes_back:
        guards.append(check_text(split, n_bytes, n_words))
    bytes_U, words_U = by_document if unit == "documents" else _spelled(split, edges, sums.seen, separator, tokenizer)
    n_separators = 0 if separator is None else int((split.tokens[sums.seen] == separator).sum())
    record = {
        "scope": "whole" if is_whole else "partial",
        "scored_share": sums.n_scored / n_to_score,
        "n": {
            "scored_tokens": sums.n_scored,
            "tokens": len(split.tokens),
            "separators": split.n_separators,
            "scored_separators": n_separators,
            "unscored_first_tokens": 0 if has_prefix else len(spans),
            "words": n_words,
            "bytes": n_bytes,
            "documents": split.n_documents,
            "batches": n_batches,
        },
        "unit": {"name": unit, "n": int((sums.scored_U > 0).sum())},
        "values": _values(sums, bytes_U, words_U, n_bytes, n_words),
        "scoring_s": round(scoring_s, 3),
    }
    return record, guards


def _spelled(
    split: SplitTokens,
    edges: Counts,
    seen: npt.NDArray[np.bool_],
    separator: int | None,
    tokenizer: TextTokenizer,
) -> tuple[Counts, Counts]:
    """Bytes and words of the text that the scored tokens of each unit spell; a word belongs to where it begins.

    Exact where units are documents; a character that is cut between two blocks counts in both.
    """
    bytes_U, words_U = np.zeros(len(edges) - 1, np.int64), np.zeros(len(edges) - 1, np.int64)
    cuts = np.union1d(edges, split.offsets)
    in_word = False
    for begin, end in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
        ids = split.tokens[begin:end][seen[begin:end]]
        if separator is not None:
            ids = ids[ids != separator]
        text = tokenizer.decode(ids) if len(ids) else ""
        if split.offsets[np.searchsorted(split.offsets, begin)] == begin:
            in_word = False  # a document begins
        unit = int(np.searchsorted(edges, begin, "right")) - 1
        bytes_U[unit] += len(text.encode("utf-8", "replace"))
        words_U[unit] += len(text.split()) - (in_word and bool(text) and not text[0].isspace())
        in_word = not text[-1].isspace() if text else in_word
    return bytes_U, words_U


def _values(sums: UnitSums, bytes_U: Counts, words_U: Counts, n_bytes: int, n_words: int) -> dict[str, Any]:
    """Every figure with what it is over, and its interval."""
    nats, n = sums.loss_sum, sums.n_scored
    per_token = ratio_interval(sums.losses_U, sums.scored_U.astype(np.float64))
    per_word = ratio_interval(sums.losses_U, _adding_up(words_U, n_words))
    per_byte = ratio_interval(sums.losses_U, _adding_up(bytes_U, n_bytes))
    values = {
        "loss": _figure(nats / n, per_token, n, "tokens", lambda x: x),
        "token_perplexity": _figure(nats / n, per_token, n, "tokens", perplexity),
        "word_perplexity": _figure(nats / n_words if n_words else None, per_word, n_words, "words", perplexity),
        "byte_perplexity": _figure(nats / n_bytes if n_bytes else None, per_byte, n_bytes, "bytes", perplexity),
        "bits_per_byte": _figure(
            nats / n_bytes if n_bytes else None, per_byte, n_bytes, "bytes", lambda x: x / math.log(2)
        ),
    }
    for k, hits_U in zip(sums.top_k, sums.hits_KU, strict=True):
        interval = ratio_interval(hits_U.astype(np.float64), sums.scored_U.astype(np.float64))
        values[f"top_{k}_accuracy"] = _figure(int(hits_U.sum()) / n, interval, n, "tokens", lambda x: min(1.0, x))
    return values


def _adding_up(counts_U: Counts, total: int) -> Floats:
    """Counts of blocks, made to sum to the whole: characters that are cut in two are in two of them."""
    counted = int(counts_U.sum())
    scaled: Floats = counts_U * np.float64(total / counted if counted else 1)
    return scaled


def _figure(
    ratio: float | None,
    interval: tuple[float, float] | str,
    n: int,
    of: str,
    transform: Callable[[float], float | None],
) -> dict[str, Any]:
    """A figure of a ratio; what is too large to compute, or has nothing to be over, is null with the reason."""
    value = None if ratio is None else transform(ratio)
    ends = None if isinstance(interval, str) else [transform(end) for end in interval]
    reason = "" if value is not None else f"the scored text has no {of}" if ratio is None else _OVER
    why = "" if not isinstance(interval, str) else interval
    if ends is not None and (value is None or None in ends):
        ends, why = None, _OVER if ratio is not None else reason
    return {"value": value, "reason": reason, "interval_95": ends, "why_no_interval": why, "n": n, "of": of}
