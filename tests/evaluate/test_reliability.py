import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqassay.errors import InputError, UsageError
from seqassay.evaluate.reliability import (
    bootstrap_reliability,
    brier_score,
    expected_calibration_error,
    log_loss,
    reliability_curve,
)


def test_curve_by_hand() -> None:
    curve = reliability_curve([0, 0, 1, 1, 0, 1], [0.1, 0.2, 0.3, 0.6, 0.7, 0.8], n_bins=2)
    assert np.allclose(curve.mean_probability, [0.2, 0.7])
    assert np.allclose(curve.viral_share, [1 / 3, 2 / 3])
    assert curve.n.tolist() == [3, 3]
    assert np.allclose([curve.lowest, curve.highest], [[0.1, 0.6], [0.3, 0.8]])
    assert curve.expected_calibration_error == pytest.approx((abs(0.2 - 1 / 3) + abs(0.7 - 2 / 3)) / 2)
    assert curve.maximum_calibration_error == pytest.approx(abs(0.2 - 1 / 3))


def test_equal_probabilities_are_never_parted() -> None:
    curve = reliability_curve([0, 1, 0, 1, 0, 1, 1, 1], [0.25] * 4 + [0.75] * 4, n_bins=15)
    assert curve.n.tolist() == [4, 4]
    assert curve.expected_calibration_error == pytest.approx(0.125 + 0.0)


def test_weights_make_the_composition() -> None:
    # Right for a balanced set: 80% of what scores 0.8 is viral. With a tenth of the viral weight it is not.
    labels, scores = np.repeat([1, 0, 1, 0], [80, 20, 20, 80]), np.repeat([0.8, 0.2], 100)
    assert expected_calibration_error(labels, scores) == pytest.approx(0, abs=1e-12)
    weights = np.where(labels == 1, 0.1, 1.0)
    error = (abs(0.8 - 8 / 28) * 28 + abs(0.2 - 2 / 82) * 82) / 110
    assert expected_calibration_error(labels, scores, weights) == pytest.approx(error)


def test_bins_are_even_and_errors_small_where_probabilities_hold() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random(20_000)
    labels = (rng.random(20_000) < truth).astype(int)
    curve = reliability_curve(labels, truth)
    assert len(curve.n) == 15 and set(curve.n.tolist()) <= {1333, 1334}
    assert curve.expected_calibration_error < 0.02
    assert expected_calibration_error(labels, truth**2) > 0.1
    reference = pytest.importorskip("sklearn.calibration", reason="scikit-learn is the reference")
    share, mean = reference.calibration_curve(labels, truth, n_bins=15, strategy="quantile")
    assert np.allclose(curve.viral_share, share, atol=2e-3) and np.allclose(curve.mean_probability, mean, atol=1e-3)


@pytest.mark.parametrize("weighted", [False, True])
def test_losses_are_those_of_scikit_learn(weighted: bool) -> None:
    reference = pytest.importorskip("sklearn.metrics", reason="scikit-learn is the reference")
    rng = np.random.default_rng(2)
    labels, scores = rng.integers(0, 2, 300), np.round(rng.random(300), 2)
    weights = rng.random(300) if weighted else None
    assert {0.0, 1.0} & set(scores.tolist())
    expected = reference.brier_score_loss(labels, scores, sample_weight=weights)
    assert brier_score(labels, scores, weights) == pytest.approx(expected, abs=1e-12)
    expected = reference.log_loss(labels, scores, sample_weight=weights)
    assert log_loss(labels, scores, weights) == pytest.approx(expected, abs=1e-12)


def test_a_constant_half() -> None:
    assert brier_score([0, 1], [0.5, 0.5]) == 0.25
    assert log_loss([0, 1], [0.5, 0.5]) == pytest.approx(math.log(2))
    assert math.isfinite(log_loss([1], [0.0]))


@pytest.mark.parametrize("score", [-0.1, 1.01, math.inf])
def test_what_is_no_probability_is_refused(score: float) -> None:
    for figure in (reliability_curve, brier_score, log_loss):
        with pytest.raises(InputError, match="no probabilities"):
            figure([0, 1], [0.5, score])
    with pytest.raises(UsageError, match="at least one bin"):
        reliability_curve([0, 1], [0.5, 0.6], n_bins=0)


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20), st.integers(1, 5)), min_size=1, max_size=60),
    st.integers(1, 20),
)
def test_nothing_is_lost_and_ranges_hold(rows: list[tuple[int, int, int]], n_bins: int) -> None:
    labels, scores, weights = (np.array(column) for column in zip(*rows, strict=True))
    curve = reliability_curve(labels, scores / 20, weights, n_bins=n_bins)
    assert curve.n.sum() == len(rows) and curve.weight.sum() == pytest.approx(weights.sum())
    assert 1 <= len(curve.n) <= n_bins
    assert (curve.viral_share * curve.weight).sum() == pytest.approx(weights[labels == 1].sum())
    assert (curve.lowest <= curve.mean_probability).all() and (curve.mean_probability <= curve.highest).all()
    assert (curve.highest[:-1] < curve.lowest[1:]).all()
    assert 0 <= curve.expected_calibration_error <= curve.maximum_calibration_error + 1e-12 <= 1 + 1e-12


def test_bootstrap_of_the_curve() -> None:
    rng = np.random.default_rng(3)
    clusters = np.repeat(np.arange(100), 10)
    scores = np.round(rng.random(1000), 2)
    labels = (rng.random(1000) < scores).astype(int)
    curve = reliability_curve(labels, scores, n_bins=5)
    errors, shares = bootstrap_reliability(labels, scores, clusters, n_bins=5, n_samples=200, seed=4)
    assert errors.shape == (200,) and shares.shape == (200, 5)
    low, high = np.percentile(shares, [2.5, 97.5], axis=0)
    assert (low <= curve.viral_share).all() and (curve.viral_share <= high).all()
    # one sample the slow way, with the bins of the whole set
    sample = np.random.default_rng(4).integers(0, 100, (200, 100))[0]
    rows = np.concatenate([np.flatnonzero(clusters == c) for c in sample])
    bins = np.searchsorted(curve.highest, scores)
    expected = sum(abs(scores[rows][bins[rows] == b].sum() - labels[rows][bins[rows] == b].sum()) for b in range(5))
    assert errors[0] == pytest.approx(expected / len(rows))
