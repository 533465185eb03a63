"""Windows over a stream of tokens: drawn ones to train on, rolling ones that score every token exactly once.

A training batch is a pure function of (seed, step): nothing is remembered from one step to the next, so a run that
goes on after a kill sees the batches that it would have seen, and memory does not grow with the text. The numbers come
from splitmix64 (Steele, Lea and Flood 2014) and a Feistel network over it, not from NumPy's generators, whose streams
may change between versions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from seqassay.errors import InputError, UsageError

Order = Literal["shuffled", "random"]
Tokens = npt.NDArray[np.integer[Any]]  # (n_tokens,); memory-mapped uint16 or uint32
Ids = npt.NDArray[np.int64]
_Words = npt.NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FEISTEL_ROUNDS = 6


@dataclass(frozen=True, slots=True)
class TrainingWindows:
    """Batches of windows of one split.

    Attributes:
        tokens: shape (n_tokens,).
        context_tokens: length of a window.
        batch_windows: windows in a batch, over all ranks.
        seed: of the order; 0 or more.
        order: ``shuffled``: epochs without repetition, over windows that lie end to end from another first token in
            every epoch; ``random``: every window begins anywhere, with repetition (as nanoGPT draws them).

    Raises:
        InputError: the text has fewer than ``context_tokens`` + 1 tokens.
        UsageError: a setting out of its range.
    """

    tokens: Tokens
    context_tokens: int
    batch_windows: int
    seed: int
    order: Order = "shuffled"

    def __post_init__(self) -> None:
        for name, value, least in (
            ("context", self.context_tokens, 1),
            ("batch", self.batch_windows, 1),
            ("seed", self.seed, 0),
        ):
            if value < least:
                raise UsageError(f"the {name} is {value}; it has to be at least {least}")
        if len(self.tokens) < self.context_tokens + 1:
            raise InputError(
                f"the training text has {len(self.tokens):,} tokens, and a context of {self.context_tokens:,} needs "
                f"{self.context_tokens + 1:,}",
                hint="give more text, or a shorter context",
            )

    @property
    def windows_per_epoch(self) -> int:
        """Windows of a shuffled epoch; less than two contexts of tokens are left out of each."""
        return max(1, (len(self.tokens) - 1) // self.context_tokens - 1)

    def batch(self, step: int, *, rank: int = 0, n_ranks: int = 1) -> tuple[Ids, Ids]:
        """Inputs and targets of one step, each of shape (batch_windows / n_ranks, context_tokens).

        Args:
            step: from 0.
            rank, n_ranks: of the batch, the windows ``rank``, ``rank + n_ranks``, … are given.

        Raises:
            UsageError: the batch cannot be shared evenly.
        """
        if self.batch_windows % n_ranks:
            raise UsageError(f"a batch of {self.batch_windows} windows cannot be shared by {n_ranks} workers evenly")
        numbers = np.arange(rank, self.batch_windows, n_ranks, dtype=np.int64) + step * self.batch_windows
        starts = self.starts(numbers)
        at = starts[:, None] + np.arange(self.context_tokens + 1, dtype=np.int64)
        window = self.tokens[at].astype(np.int64)
        return window[:, :-1], window[:, 1:]

    def starts(self, numbers: Ids) -> Ids:
        """Index of the first token of the windows with these numbers, counted from the first of step 0."""
        if self.order == "random":
            n_starts = len(self.tokens) - self.context_tokens
            return (_random(self.seed, numbers.astype(np.uint64)) % np.uint64(n_starts)).astype(np.int64)
        n_windows = self.windows_per_epoch
        epochs, within = np.divmod(numbers, n_windows)
        starts = np.empty_like(numbers)
        n_phases = min(self.context_tokens, len(self.tokens) - n_windows * self.context_tokens)
        for epoch in np.unique(epochs).tolist():
            of_epoch = epochs == epoch
            phase = int(_random(self.seed, np.array([epoch], np.uint64))[0] % np.uint64(n_phases))
            key = int(_random(self.seed, np.array([~epoch], np.int64).view(np.uint64))[0])
            starts[of_epoch] = phase + self.context_tokens * permuted(within[of_epoch], n_windows, key)
        return starts


def permuted(indices: Ids, n: int, key: int) -> Ids:
    """Where a permutation of ``range(n)``, chosen by the key, sends these indices; nothing of size n is made.

    A Feistel network over the least power of four that holds n; who lands outside is sent on until inside.
    """
    half_bits = np.uint64(max(1, ((n - 1).bit_length() + 1) // 2))
    mask = np.uint64((1 << int(half_bits)) - 1)
    keys = _random(key, np.arange(_FEISTEL_ROUNDS, dtype=np.uint64))
    found = indices.astype(np.uint64)
    outside = np.ones(len(found), np.bool_)
    while outside.any():
        left, right = found[outside] >> half_bits, found[outside] & mask
        for round_key in keys:
            left, right = right, left ^ (_mixed(right + round_key) & mask)
        found[outside] = (left << half_bits) | right
        outside = found >= np.uint64(n)
    return found.astype(np.int64)


def _random(seed: int, counters: _Words) -> _Words:
    """One 64-bit number for every counter of the stream that the seed names."""
    start = _mixed(np.array([seed & (2**64 - 1)], np.uint64))
    return _mixed(start + (counters + np.uint64(1)) * _GOLDEN)


def _mixed(words: _Words) -> _Words:
    """The finaliser of splitmix64: a bijection of 64-bit words."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


@dataclass(frozen=True, slots=True)
class EvaluationWindow:
    """Inputs are the tokens from ``start`` to before ``stop - 1``; the target of each is the token after it.

    Attributes:
        start: index of the first input; where ``has_prefix``, the prefix token stands at this place.
        stop: one past the last target.
        n_scored: of the targets, the last ones count; those before them were scored by an earlier window.
        has_prefix: the first input is the prefix token, which is no part of the text.
    """

    start: int
    stop: int
    n_scored: int
    has_prefix: bool

    @property
    def n_inputs(self) -> int:
        """Length of the window."""
        return self.stop - self.start - 1


@dataclass(frozen=True, slots=True)
class EvaluationBatch:
    """Windows of one length L, side by side: nothing is padded.

    Attributes:
        inputs, targets: shape (n_windows, L).
        n_scored: shape (n_windows,); of a row's targets, the last ones count.
    """

    inputs: Ids
    targets: Ids
    n_scored: Ids

    @property
    def is_scored(self) -> npt.NDArray[np.bool_]:
        """Which targets count; shape (n_windows, L)."""
        length = self.targets.shape[1]
        scored: npt.NDArray[np.bool_] = np.arange(length) >= length - self.n_scored[:, None]
        return scored


def evaluation_windows(
    spans: Iterable[tuple[int, int]], *, context_tokens: int, stride_tokens: int | None = None, has_prefix: bool
) -> Iterator[EvaluationWindow]:
    """Rolling windows, in order, in which every token of the spans is a scored target exactly once.

    The first window of a span scores all that it holds; each one after it moves on by the stride and sees as much of
    what came before as the context allows. With a stride of the whole context (lm-evaluation-harness's rolling
    windows) a token sees half a context on average; with a stride of 1 all see a whole one.

    Args:
        spans: begin and end of what is scored on its own: the whole stream, or document by document.
        context_tokens: longest input, the prefix token included.
        stride_tokens: from 1 to the context; None for the context.
        has_prefix: a prefix token goes before every span. Without it a span's first token is not scored: nothing
            comes before it.

    Raises:
        UsageError: a setting out of its range.
    """
    stride = context_tokens if stride_tokens is None else stride_tokens
    if context_tokens < 1:
        raise UsageError(f"the context is {context_tokens}; it has to be at least 1")
    if not 1 <= stride <= context_tokens:
        raise UsageError(f"the stride is {stride}; it lies between 1 and the context, {context_tokens}")
    return _windows(spans, context_tokens, stride, has_prefix)


def _windows(
    spans: Iterable[tuple[int, int]], context_tokens: int, stride: int, has_prefix: bool
) -> Iterator[EvaluationWindow]:
    for begin, end in spans:
        first = begin - 1 if has_prefix else begin  # the first input, and before it there is none
        done = first + 1  # targets before this index are scored
        while done < end:
            stop = min(end, done + (context_tokens if done == first + 1 else stride))
            start = max(first, stop - 1 - context_tokens)
            yield EvaluationWindow(start, stop, stop - done, has_prefix and start == first)
            done = stop


def n_scored_tokens(spans: Iterable[tuple[int, int]], *, has_prefix: bool) -> int:
    """How many targets `evaluation_windows` scores: all tokens, or all but the first of every span."""
    return sum(max(0, end - begin - (not has_prefix)) for begin, end in spans)


def evaluation_batches(
    tokens: Tokens, windows: Iterable[EvaluationWindow], *, prefix_id: int | None, batch_windows: int
) -> Iterator[EvaluationBatch]:
    """The windows' tokens, those of one length together; short documents may come later than long ones.

    Args:
        tokens: what the windows index, shape (n_tokens,).
        windows: as `evaluation_windows` gives them.
        prefix_id: needed where windows have a prefix.
        batch_windows: the most windows of a batch.
    """
    if batch_windows < 1:
        raise UsageError(f"the batch is {batch_windows}; it has to be at least 1")
    waiting: dict[int, list[EvaluationWindow]] = {}
    for window in windows:
        of_length = waiting.setdefault(window.n_inputs, [])
        of_length.append(window)
        if len(of_length) == batch_windows:
            yield _batch(tokens, of_length, prefix_id)
            of_length.clear()
    for of_length in waiting.values():
        if of_length:
            yield _batch(tokens, of_length, prefix_id)


def _batch(tokens: Tokens, windows: list[EvaluationWindow], prefix_id: int | None) -> EvaluationBatch:
    rows = np.empty((len(windows), windows[0].n_inputs + 1), np.int64)
    for row, window in zip(rows, windows, strict=True):
        if window.has_prefix:
            if prefix_id is None:
                raise UsageError("the windows have a prefix token, and the tokenizer has none")
            row[0] = prefix_id
            row[1:] = tokens[window.start + 1 : window.stop]
        else:
            row[:] = tokens[window.start : window.stop]
    return EvaluationBatch(rows[:, :-1], rows[:, 1:], np.array([window.n_scored for window in windows], np.int64))
