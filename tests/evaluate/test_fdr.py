from __future__ import annotations

import numpy as np
import pytest

from seqassay.evaluate.fdr import (
    TICKS,
    assurance,
    estimate_composition,
    histogram,
    posterior,
    q_values,
    ticks_of,
)


def sample(n: int, share: float, *, seed: int, separation: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities calibrated for equal shares: log-odds are normal about ± separation² / 2."""
    rng = np.random.default_rng(seed)
    viral = rng.random(n) < share
    log_odds = rng.normal(np.where(viral, 1, -1) * separation**2 / 2, separation)
    return viral, 1 / (1 + np.exp(-log_odds))


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9])
def test_the_share_of_a_calibrated_sample_is_found(share: float) -> None:
    viral, scores = sample(20_000, share, seed=int(1000 * share))
    found = estimate_composition(histogram(ticks_of(scores)), 0.5)
    low, high = found.interval_95
    assert found.n_scored == 20_000
    assert found.viral_share == pytest.approx(viral.mean(), abs=0.01)
    assert low <= found.viral_share <= high
    assert high - low < 0.03


def test_samples_of_one_kind() -> None:
    for share in (0.0, 1.0):
        _, scores = sample(5000, share, seed=3)
        low, high = estimate_composition(histogram(ticks_of(scores)), 0.5).interval_95
        assert low <= share <= high


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_the_false_discovery_rate_is_what_was_asked_for(share: float) -> None:
    viral, scores = sample(50_000, share, seed=11, separation=2.0)
    ticks = ticks_of(scores)
    counts = histogram(ticks)
    composition = estimate_composition(counts, 0.5)
    called = q_values(counts, composition)[ticks] <= 0.05
    assert called.sum() > 400
    assert 0.03 < 1 - viral[called].mean() < 0.07


def test_q_values_by_hand() -> None:
    counts = np.zeros(TICKS + 1, np.int64)
    counts[[200_000, 600_000, 900_000]] = [1, 2, 1]
    composition = estimate_composition(counts, 0.5)
    p = posterior(np.array([200_000, 600_000, 900_000]), composition)
    q = q_values(counts, composition)
    assert q[900_000] == pytest.approx(1 - p[2])
    assert q[600_000] == pytest.approx((1 - p[2] + 2 * (1 - p[1])) / 3)
    assert q[200_000] == pytest.approx((1 - p[2] + 2 * (1 - p[1]) + 1 - p[0]) / 4)
    assert q[700_000] == q[900_000]
    assert np.isnan(q[900_001])


def test_nothing_scored() -> None:
    counts = histogram(ticks_of(np.array([np.nan, np.nan])))
    composition = estimate_composition(counts, 0.5)
    assert composition.n_scored == 0
    assert np.isnan(composition.viral_share)
    assert np.isnan(q_values(counts, composition)).all()
    assert "only 0 sequences" in assurance(counts, composition, 0.05, n_calibration_others=1000).reason


@pytest.mark.parametrize(
    ("share", "n", "n_others", "reason"),
    [
        (0.5, 20_000, 10_000, ""),
        (0.5, 50, 10_000, "only 50 sequences"),
        (0.0, 20_000, 10_000, "as likely without any viral"),
        (0.02, 20_000, 3_000, "needs a false-positive rate"),
    ],
)
def test_what_can_be_told(share: float, n: int, n_others: int, reason: str) -> None:
    _, scores = sample(n, share, seed=5)
    counts = histogram(ticks_of(scores))
    said = assurance(counts, estimate_composition(counts, 0.5), 0.05, n_calibration_others=n_others)
    assert said.can_tell == (not reason)
    assert reason in said.reason


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (None, ""),
        (0.038, ""),
        (0.066, ""),
        (0.037, "came to 0.037"),
        (0.067, "came to 0.067"),
        (np.nan, "nothing would"),
    ],
)
def test_a_rate_that_held_out_taxa_did_not_keep_is_not_vouched_for(rate: float | None, words: str) -> None:
    _, scores = sample(20_000, 0.5, seed=5)
    counts = histogram(ticks_of(scores))
    composition = estimate_composition(counts, 0.5)
    said = assurance(counts, composition, 0.05, n_calibration_others=10_000, held_out_rate=rate)
    assert said.can_tell == (not words)
    assert words in said.reason


def test_no_sequence_is_sure_enough() -> None:
    _, scores = sample(5000, 0.3, seed=9, separation=0.4)
    counts = histogram(ticks_of(scores))
    said = assurance(counts, estimate_composition(counts, 0.5), 0.01, n_calibration_others=100_000)
    assert "no sequence is sure enough" in said.reason


def test_printed_zero_and_one_are_no_certainty() -> None:
    counts = np.zeros(TICKS + 1, np.int64)
    counts[[0, TICKS]] = [9000, 1000]
    found = estimate_composition(counts, 0.5)
    assert found.viral_share == pytest.approx(0.1, abs=1e-4)
    assert 0 < q_values(counts, found)[TICKS] < 1e-4
