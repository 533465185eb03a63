"""Windows: which tokens are drawn to train on, and that every token is scored once."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqassay.errors import InputError, UsageError
from seqassay.text.windows import (
    TrainingWindows,
    evaluation_batches,
    evaluation_windows,
    n_scored_tokens,
    permuted,
)


def training_windows(n_tokens: int, context: int, batch: int = 4, seed: int = 0, order: str = "shuffled"):
    return TrainingWindows(np.arange(n_tokens, dtype=np.uint16), context, batch, seed, order)  # type: ignore[arg-type]


@settings(deadline=None)
@given(n=st.integers(1, 3000), key=st.integers(0, 2**64 - 1))
def test_permuted_is_a_permutation(n: int, key: int) -> None:
    assert sorted(permuted(np.arange(n), n, key).tolist()) == list(range(n))


def test_keys_and_places_of_a_permutation_look_independent() -> None:
    """Over 2,000 keys, each of 12 items comes to each of 12 places about equally often (χ², 121 degrees, 1e-6)."""
    counts = np.zeros((12, 12))
    for key in range(2000):
        counts[np.arange(12), permuted(np.arange(12), 12, key)] += 1
    expected = 2000 / 12
    assert ((counts - expected) ** 2 / expected).sum() < 209


@pytest.mark.parametrize("order", ["shuffled", "random"])
@settings(deadline=None)
@given(
    n_tokens=st.integers(2, 400),
    context=st.integers(1, 40),
    batch=st.integers(1, 9),
    seed=st.integers(0, 99),
    step=st.integers(0, 60),
)
def test_a_batch_is_a_function_of_seed_and_step(
    order: str, n_tokens: int, context: int, batch: int, seed: int, step: int
) -> None:
    context = min(context, n_tokens - 1)
    x, y = training_windows(n_tokens, context, batch, seed, order).batch(step)
    again = training_windows(n_tokens, context, batch, seed, order).batch(step)
    assert x.shape == y.shape == (batch, context)
    assert np.array_equal(x, again[0])
    assert np.array_equal(y, x + 1)  # the tokens are their own places: every target is the token after its input
    assert x.min() >= 0
    assert y.max() < n_tokens


def test_known_starts() -> None:
    """These numbers may never change: they are what makes a resumed run the same run under any NumPy."""
    assert training_windows(1000, 10, seed=7).starts(np.arange(6)).tolist() == KNOWN["shuffled"]
    assert training_windows(1000, 10, seed=7, order="random").starts(np.arange(6)).tolist() == KNOWN["random"]


@settings(deadline=None)
@given(n_tokens=st.integers(20, 500), context=st.integers(1, 9), seed=st.integers(0, 9), epoch=st.integers(0, 3))
def test_no_token_twice_in_a_shuffled_epoch(n_tokens: int, context: int, seed: int, epoch: int) -> None:
    windows = training_windows(n_tokens, context, seed=seed)
    n = windows.windows_per_epoch
    starts = windows.starts(np.arange(n * epoch, n * (epoch + 1))).tolist()
    seen = Counter(i for start in starts for i in range(start, start + context))
    assert set(seen.values()) == {1}
    assert len(seen) > n_tokens - 1 - 2 * context
    assert max(seen) < n_tokens - 1, "the last token is only ever a target"


def test_epochs_and_seeds_differ() -> None:
    first, second = training_windows(1000, 10, batch=98, seed=1), training_windows(1000, 10, batch=98, seed=2)
    starts = [tuple(windows.batch(step)[0][:, 0].tolist()) for windows in (first, second) for step in range(3)]
    assert len(set(starts)) == 6
    assert len({start[0] % 10 for start in starts}) > 1, "the first token of an epoch moves"


def test_random_windows_begin_anywhere() -> None:
    windows = training_windows(60, 10, batch=2000, order="random")
    starts = Counter(windows.batch(0)[0][:, 0].tolist())
    assert sorted(starts) == list(range(50))
    assert max(starts.values()) < 80  # 40 on average


def test_ranks_share_a_batch() -> None:
    windows = training_windows(500, 8, batch=6)
    whole = windows.batch(3)[0]
    assert np.array_equal(windows.batch(3, rank=1, n_ranks=2)[0], whole[1::2])
    with pytest.raises(UsageError, match="6 windows cannot be shared by 4"):
        windows.batch(0, n_ranks=4)


def test_a_text_shorter_than_the_context() -> None:
    with pytest.raises(InputError, match="has 1 tokens, and a context of 8 needs 9"):
        training_windows(1, 8)
    with pytest.raises(UsageError, match="context is 0"):
        training_windows(10, 0)
    with pytest.raises(UsageError, match="seed is -1"):
        training_windows(10, 2, seed=-1)


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=5),
    context=st.integers(1, 12),
    stride=st.integers(1, 12),
    has_prefix=st.booleans(),
)
def test_every_token_is_scored_once_with_all_the_context_there_is(
    lengths: list[int], context: int, stride: int, has_prefix: bool
) -> None:
    stride = min(stride, context)
    ends = np.cumsum(lengths).tolist()
    spans = list(zip([0, *ends[:-1]], ends, strict=True))
    scored: Counter[int] = Counter()
    for window in evaluation_windows(spans, context_tokens=context, stride_tokens=stride, has_prefix=has_prefix):
        begin, end = next(span for span in spans if span[0] < window.stop <= span[1])
        assert 1 <= window.n_inputs <= context
        assert window.has_prefix == (has_prefix and window.start == begin - 1)
        assert window.start >= begin - has_prefix, "a window never looks into the document before it"
        assert window.stop <= end
        first = begin - has_prefix
        for target in range(window.stop - window.n_scored, window.stop):
            scored[target] += 1
            n_before = target - window.start
            assert n_before >= min(target - first, context - stride + 1)
    expected = {i for begin, end in spans for i in range(begin if has_prefix else begin + 1, end)}
    assert scored == Counter(dict.fromkeys(expected, 1))
    assert n_scored_tokens(spans, has_prefix=has_prefix) == len(expected)


def test_windows_by_hand() -> None:
    windows = evaluation_windows([(0, 7)], context_tokens=4, has_prefix=True)
    assert [(w.start, w.stop, w.n_scored) for w in windows] == [(-1, 4, 4), (2, 7, 3)]
    windows = evaluation_windows([(0, 7)], context_tokens=4, stride_tokens=2, has_prefix=False)
    assert [(w.start, w.stop, w.n_scored) for w in windows] == [(0, 5, 4), (2, 7, 2)]


@pytest.mark.parametrize(("context", "stride"), [(0, 1), (4, 0), (4, 5)])
def test_settings_out_of_range(context: int, stride: int) -> None:
    with pytest.raises(UsageError):
        evaluation_windows([(0, 9)], context_tokens=context, stride_tokens=stride, has_prefix=True)


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    context=st.integers(1, 9),
    has_prefix=st.booleans(),
    batch=st.integers(1, 4),
)
def test_batches_hold_the_windows(lengths: list[int], context: int, has_prefix: bool, batch: int) -> None:
    tokens = np.arange(sum(lengths), dtype=np.uint16)
    ends = np.cumsum(lengths).tolist()
    spans = list(zip([0, *ends[:-1]], ends, strict=True))
    windows = evaluation_windows(spans, context_tokens=context, has_prefix=has_prefix)
    scored: list[int] = []
    for one in evaluation_batches(tokens, windows, prefix_id=9999, batch_windows=batch):
        assert one.inputs.shape == one.targets.shape
        assert len(one.inputs) <= batch
        for x, y, of_row in zip(one.inputs, one.targets, one.is_scored, strict=True):
            assert y[:-1].tolist() == x[1:].tolist()
            assert x[0] == 9999 or x[0] == y[0] - 1
            scored += y[of_row].tolist()
    expected = [i for begin, end in spans for i in range(begin if has_prefix else begin + 1, end)]
    assert sorted(scored) == expected


def test_a_prefix_needs_its_token() -> None:
    windows = evaluation_windows([(0, 3)], context_tokens=2, has_prefix=True)
    with pytest.raises(UsageError, match="has none"):
        list(evaluation_batches(np.arange(3), windows, prefix_id=None, batch_windows=1))


KNOWN = {"shuffled": [665, 715, 495, 425, 895, 515], "random": [175, 475, 728, 545, 797, 144]}
