"""Intervals from bootstrap samples: quantiles against scipy, scales, differences, effective numbers of units."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqassay.errors import UsageError
from seqassay.evaluate.intervals import difference_interval, effective_number, figure_interval, student_t


@pytest.mark.parametrize("degrees", [1, 2, 3.7, 9.2, 30, 30.1, 99, 5000.5, 1e6])
@pytest.mark.parametrize("share", [0.5, 0.6, 0.95, 0.975, 0.995])
def test_quantiles_are_scipys(degrees: float, share: float) -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is the reference")
    assert student_t(share, degrees) == pytest.approx(stats.t.ppf(share, degrees), rel=1e-8, abs=1e-8)


def test_no_quantile_of_nothing() -> None:
    for share, degrees in ((0.3, 5), (1.0, 5), (0.9, 0)):
        with pytest.raises(UsageError, match="no quantile"):
            student_t(share, degrees)


def test_effective_number_of_units() -> None:
    assert effective_number(np.array([3.0, 3.0, 0.0, 3.0])) == pytest.approx(3)
    assert effective_number(np.array([100.0, 1.0, 1.0])) == pytest.approx(102**2 / 10_002)
    assert effective_number(np.zeros(2)) == 0


def test_an_interval_by_hand() -> None:
    samples = np.array([0.8, 0.9, np.nan, 0.85, 0.95])
    low, high = figure_interval("recall", 0.9, samples, 10)
    spread = np.std([0.8, 0.9, 0.85, 0.95], ddof=1) * np.sqrt(10 / 9) / (0.9 * 0.1)
    log_odds = np.log(9) + np.array([-1, 1]) * 2.2621571627 * spread
    assert (low, high) == pytest.approx(tuple(1 / (1 + np.exp(-log_odds))), abs=1e-9)
    assert 0.9 - low > high - 0.9  # a longer tail below
    low, high = figure_interval("mcc", -0.5, samples, 10)
    spread = np.std([0.8, 0.9, 0.85, 0.95], ddof=1) * np.sqrt(10 / 9) / 0.75
    assert (low, high) == pytest.approx(tuple(np.tanh(np.arctanh(-0.5) + np.array([-1, 1]) * 2.2621571627 * spread)))


def test_of_many_units_it_is_the_normal_interval() -> None:
    samples = np.random.default_rng(0).normal(0.5, 0.01, 20_000)
    low, high = figure_interval("accuracy", 0.5, samples, 1e6)
    assert (low, high) == pytest.approx((0.5 - 0.0196, 0.5 + 0.0196), abs=3e-4)
    low, high = difference_interval("accuracy", (0.5, 0.5), np.stack([samples, samples[::-1]]), 1e6)
    assert (low, high) == pytest.approx((-0.0277, 0.0277), rel=0.03)


def test_what_two_models_share_cancels_out() -> None:
    rng = np.random.default_rng(1)
    shared = rng.normal(0, 0.02, 2000)
    first, second = 0.95 + shared + rng.normal(0, 0.001, 2000), 0.94 + shared
    low, high = difference_interval("roc_auc", (0.95, 0.94), np.stack([first, second]), 40)
    assert 0 < low < 0.01 < high
    assert difference_interval("roc_auc", (0.95, 0.95), np.stack([first, first]), 40) == (0, 0)


shares = st.floats(0.01, 0.99)


@settings(deadline=None)
@given(shares, shares, st.floats(1e-4, 0.2), st.floats(5, 500), st.sampled_from(["accuracy", "mcc"]))
def test_an_interval_holds_its_figure_and_stays_in_range(
    first: float, second: float, spread: float, n_units: float, figure: str
) -> None:
    samples = np.random.default_rng(2).normal([[first], [second]], spread, (2, 50))
    low, high = figure_interval(figure, first, samples[0], n_units)
    assert (-1 if figure == "mcc" else 0) <= low <= first <= high <= 1
    low, high = difference_interval(figure, (first, second), samples, n_units)
    assert (-2 if figure == "mcc" else -1) <= low <= first - second <= high <= (2 if figure == "mcc" else 1)
    backwards = difference_interval(figure, (second, first), samples[::-1], n_units)
    assert backwards == pytest.approx((-high, -low), abs=0.03)  # by other draws


@pytest.mark.parametrize(("value", "n_units"), [(1.0, 10), (0.0, 10), (0.5, 1.0)])
def test_the_end_of_the_range_has_no_scale(value: float, n_units: float) -> None:
    with pytest.raises(UsageError, match="has no symmetric scale"):
        figure_interval("accuracy", value, np.array([0.1, 0.2]), n_units)
