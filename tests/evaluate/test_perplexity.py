"""Losses of windows against one sequence at a time in float64; units, intervals, and planted bugs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import sharp_lm

from seqassay.evaluate import perplexity as module
from seqassay.evaluate.lm_guards import LmGuardError
from seqassay.evaluate.perplexity import (
    ScoredBatch,
    UnitSums,
    batches_of,
    check_noise,
    perplexity,
    ratio_interval,
    score_windows,
    unit_edges,
)
from seqassay.models.attention import PackedLayout
from seqassay.models.causal_lm import CausalLm, CausalLmConfig
from seqassay.models.lm_files import build_lm
from seqassay.models.lm_loss import logits_in_chunks
from seqassay.text.windows import EvaluationWindow, evaluation_windows

V = 37
CONFIG = CausalLmConfig(vocab_size=V, d_model=16, n_layers=2, n_heads=2, d_ff=24, context=8)
TOKENS = np.random.default_rng(3).integers(0, V, 61).astype(np.uint16)
SPANS = [(0, 5), (5, 6), (6, 30), (30, 61)]


MODEL = sharp_lm(CONFIG)


def scored(stride: int, prefix_id: int | None, batch_tokens: int, model: CausalLm = MODEL) -> tuple[np.ndarray, ...]:
    windows = evaluation_windows(SPANS, context_tokens=8, stride_tokens=stride, has_prefix=prefix_id is not None)
    losses, ranks = np.full(len(TOKENS), np.nan), np.full(len(TOKENS), -1)
    for batch in batches_of(windows, batch_tokens):
        found = score_windows(model, TOKENS, batch, prefix_id=prefix_id)
        losses[found.places_N], ranks[found.places_N] = found.losses_N, found.ranks_N
    return losses, ranks


@pytest.mark.parametrize("prefix_id", [None, 7])
@pytest.mark.parametrize("stride", [1, 3, 8])
def test_losses_are_those_of_each_window_alone_in_float64(stride: int, prefix_id: int | None) -> None:
    losses, ranks = scored(stride, prefix_id, 1000)
    in_float64 = sharp_lm(CONFIG).double()
    n_checked = 0
    for window in evaluation_windows(SPANS, context_tokens=8, stride_tokens=stride, has_prefix=prefix_id is not None):
        text = [int(token) for token in TOKENS[window.start + window.has_prefix : window.stop]]
        text = [int(prefix_id or 0)] * window.has_prefix + text
        with torch.no_grad():
            inputs = torch.tensor(text[:-1])
            hidden = in_float64(inputs, PackedLayout.from_lengths([len(inputs)]), exact=True)
            logits = F.linear(hidden, in_float64.head_weight_VD)
            log_probs = logits.log_softmax(-1)
        for place in range(window.stop - window.n_scored, window.stop):
            row = log_probs[place - window.start - 1]
            assert losses[place] == pytest.approx(-row[int(TOKENS[place])].item(), abs=1e-4)
            assert ranks[place] == int((row > row[int(TOKENS[place])]).sum())
            n_checked += 1
    n_firsts = 0 if prefix_id is not None else len(SPANS)
    assert n_checked == len(TOKENS) - n_firsts
    assert int(np.isnan(losses).sum()) == n_firsts


def test_batches_do_not_move_losses() -> None:
    whole, _ = scored(3, 7, 10_000)
    for batch_tokens in (1, 9, 20):
        assert scored(3, 7, batch_tokens)[0] == pytest.approx(whole, abs=2e-5)


def test_batches_keep_the_budget_and_the_order() -> None:
    windows = [EvaluationWindow(0, n + 1, n, False) for n in (5, 3, 4, 9, 2)]
    batches = list(batches_of(iter(windows), 8))
    assert [[window.n_inputs for window in batch] for batch in batches] == [[5, 3], [4], [9], [2]]


def test_a_model_of_equal_logits_is_right_as_often_as_argmax_is() -> None:
    flat = build_lm(CONFIG, seed=1).eval()
    with torch.no_grad():
        flat.embed_tokens.weight.fill_(1.0)
    losses, ranks = scored(8, 7, 1000, flat)
    assert ranks.tolist() == TOKENS.tolist()  # of equals, those with a smaller id come first
    assert losses == pytest.approx(math.log(V))


def test_a_loss_that_is_no_number_is_refused() -> None:
    broken = sharp_lm(CONFIG)
    with torch.no_grad():
        broken.head_weight_VD[0] = torch.nan
    with pytest.raises(LmGuardError, match="the loss of token 1 is nan\nlikely bug: weights"):
        score_windows(broken, TOKENS, [EvaluationWindow(0, 4, 3, False)], prefix_id=None)


def batch_of(places: list[int], losses: list[float], ranks: list[int]) -> ScoredBatch:
    return ScoredBatch(np.array(places), np.array(losses), np.array(ranks))


def test_sums_by_unit_and_a_token_that_is_scored_twice() -> None:
    sums = UnitSums(np.array([0, 3, 5]), (1, 3))
    sums.add(batch_of([1, 4], [2.0, 1.0], [0, 2]))
    sums.add(batch_of([2], [0.5], [7]))
    assert sums.losses_U.tolist() == [2.5, 1.0]
    assert sums.scored_U.tolist() == [2, 1]
    assert sums.hits_KU.tolist() == [[1, 0], [1, 1]]
    assert (sums.loss_sum, sums.n_scored) == (3.5, 3)
    for places in ([2], [3, 3]):
        with pytest.raises(LmGuardError, match=f"token {places[0]} is scored twice"):
            sums.add(batch_of(places, [1.0] * len(places), [0] * len(places)))


def test_units_are_documents_where_there_are_enough_of_them() -> None:
    edges, unit = unit_edges(np.arange(0, 21 * 10, 10), 8)
    assert (edges.tolist(), unit) == (list(range(0, 210, 10)), "documents")
    edges, unit = unit_edges(np.array([0, 9_990, 10_000]), 64)
    assert unit == "blocks of 200 tokens" and len(edges) == 51 and edges[-1] == 10_000
    edges, unit = unit_edges(np.array([0, 130]), 64)
    assert (edges.tolist(), unit) == ([0, 64, 130], "blocks of 64 tokens")


def interval(x: np.ndarray, w: np.ndarray) -> tuple[float, float]:
    found = ratio_interval(x, w)
    assert not isinstance(found, str)
    return found


def test_intervals_of_ratios() -> None:
    assert ratio_interval(np.arange(4.0), np.ones(4)) == "4 units are worth 4.0 of equal size: too few"
    x, w = np.array([1.0, 2, 3, 4, 5, 6]), np.ones(6)
    low, high = interval(x, w)
    half = 2.5705818366147395 * np.std(x, ddof=1) / math.sqrt(6)  # Student's t with 5 degrees of freedom
    assert (low, high) == pytest.approx((3.5 - half, 3.5 + half))
    w = np.array([5.0, 4, 9, 6, 3, 8, 0])  # of equal ratios; a unit without weight does not count
    assert ratio_interval(2 * w, w) == pytest.approx((2, 2))


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    n_held = 0
    for _ in range(1000):
        w = rng.integers(20, 60, 25).astype(float)
        x = w * (3 + rng.normal(0, 0.5, 25))
        low, high = interval(x, w)
        n_held += low <= 3 <= high
    assert 925 <= n_held <= 975


def test_a_hopeless_perplexity_is_not_computed() -> None:
    assert perplexity(2.0) == pytest.approx(math.e**2)
    assert perplexity(690.0) == pytest.approx(math.exp(690))
    assert perplexity(691.0) is None and perplexity(1e9) is None


def test_noise_can_not_be_predicted() -> None:
    def score(tokens: np.ndarray) -> np.ndarray:
        windows = list(evaluation_windows([(0, len(tokens))], context_tokens=8, has_prefix=False))
        return score_windows(MODEL, tokens, windows, prefix_id=None).losses_N

    assert check_noise(score, V, n_tokens=65) > math.log(V)


def unshifted(tokens: np.ndarray) -> np.ndarray:
    """As if the target were among the inputs: a trained copy of it is nearly certain."""
    return np.full(len(tokens) - 1, 0.05)


def a_little(tokens: np.ndarray) -> np.ndarray:
    """One token in six is seen."""
    seen = np.arange(len(tokens) - 1) % 6 == 0
    return np.where(seen, 0.05, math.log(V))


@pytest.mark.parametrize("score", [unshifted, a_little])
def test_a_leak_of_the_target_shows_in_noise(score: Callable[[np.ndarray], np.ndarray]) -> None:
    with pytest.raises(LmGuardError, match=r"nothing can be below 3\.6109\nlikely bug: the target is visible"):
        check_noise(score, V, n_tokens=257)


def test_windows_that_leak_show_in_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted bug in the scorer itself: each hidden state is that of the target, under a model that copies."""
    copier = build_lm(replace(CONFIG, d_model=64, n_heads=2), seed=1).eval()
    with torch.no_grad():
        copier.embed_tokens.weight.mul_(60)
    chunks = logits_in_chunks

    def shifted(model: CausalLm, hidden_ND: torch.Tensor) -> object:
        return chunks(model, hidden_ND.roll(-1, 0))

    def score(tokens: np.ndarray) -> np.ndarray:
        windows = list(evaluation_windows([(0, len(tokens))], context_tokens=8, has_prefix=False))
        return score_windows(copier, tokens, windows, prefix_id=None).losses_N

    check_noise(score, V, n_tokens=65)
    monkeypatch.setattr(module, "logits_in_chunks", shifted)
    with pytest.raises(LmGuardError, match="the target is visible"):
        check_noise(score, V, n_tokens=65)
