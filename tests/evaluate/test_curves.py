"""Curves: against scikit-learn, thinned without losing area, and counted into bins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqassay.errors import InputError, UsageError
from seqassay.evaluate.classification import roc_auc
from seqassay.evaluate.curves import AREA_KEPT, histogram, precision_recall_curve, roc_curve


@pytest.mark.parametrize("weighted", [False, True])
def test_curves_are_those_of_scikit_learn(weighted: bool) -> None:
    reference = pytest.importorskip("sklearn.metrics", reason="scikit-learn is the reference")
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 2, 400)
    scores = np.round(rng.normal(labels, 1.5), 1)  # with many ties
    weights = rng.random(400) + 0.01 if weighted else None
    curve = roc_curve(labels, scores, weights, max_points=None)
    x, y, thresholds = reference.roc_curve(labels, scores, sample_weight=weights, drop_intermediate=False)
    assert np.allclose(curve.x, x, atol=1e-12) and np.allclose(curve.y, y, atol=1e-12)
    assert np.array_equal(curve.thresholds, thresholds)
    assert curve.n_thresholds == len(np.unique(scores))
    assert curve.area == pytest.approx(reference.auc(x, y), abs=1e-12)
    curve = precision_recall_curve(labels, scores, weights, max_points=None)
    precision, recall, thresholds = reference.precision_recall_curve(labels, scores, sample_weight=weights)
    # The reference goes from the highest score to a precision of 1 where nothing is called; here that score's stays.
    assert np.allclose(curve.x, recall[::-1], atol=1e-12)
    assert np.allclose(curve.y, [precision[-2], *precision[:-1][::-1]], atol=1e-12)
    assert np.array_equal(curve.thresholds, [np.inf, *thresholds[::-1]])


def test_a_perfect_ranking_has_the_area_1() -> None:
    labels, scores = [0] * 50 + [1] * 50, np.arange(100) / 100
    assert roc_curve(labels, scores).area == precision_recall_curve(labels, scores).area == 1


@pytest.mark.parametrize("n", [300, 20_000])
@pytest.mark.parametrize("share", [0.5, 0.01])
@pytest.mark.parametrize("distance", [0.0, 1.0, 4.0])
def test_thinned_curves_keep_their_ends_and_their_area(n: int, share: float, distance: float) -> None:
    rng = np.random.default_rng(1)
    labels = (rng.random(n) < share).astype(int)
    labels[:2] = 0, 1
    scores = rng.normal(labels * distance, 1)
    curve = roc_curve(labels, scores)
    assert len(curve.x) <= 200
    assert (curve.x[0], curve.y[0], curve.x[-1], curve.y[-1]) == (0, 0, 1, 1)
    assert curve.n_thresholds == n
    assert curve.area_of_points == pytest.approx(roc_auc(labels, scores), abs=AREA_KEPT)
    assert (np.diff(curve.x) >= 0).all() and (np.diff(curve.y) >= 0).all() and (np.diff(curve.thresholds) < 0).all()
    precision_recall = precision_recall_curve(labels, scores)
    assert len(precision_recall.x) <= 200
    assert precision_recall.area_of_points == pytest.approx(precision_recall.area, abs=AREA_KEPT)
    assert (precision_recall.x[0], precision_recall.x[-1]) == (0, 1)


rows = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 200)), min_size=2, max_size=300).filter(
    lambda rows: {label for label, _ in rows} == {0, 1}
)


@settings(deadline=None)
@given(rows, st.integers(2, 12))
def test_points_are_added_until_the_area_is_kept(rows: list[tuple[int, int]], max_points: int) -> None:
    labels, scores = np.array(rows).T
    for curve_of in (roc_curve, precision_recall_curve):
        whole, thinned = curve_of(labels, scores, max_points=None), curve_of(labels, scores, max_points=max_points)
        assert abs(thinned.area_of_points - whole.area_of_points) <= AREA_KEPT
        assert thinned.area == whole.area == pytest.approx(whole.area_of_points, abs=1e-12)
        on_the_whole = {(x, y) for x, y in zip(whole.x.tolist(), whole.y.tolist(), strict=True)}
        assert {(x, y) for x, y in zip(thinned.x.tolist(), thinned.y.tolist(), strict=True)} <= on_the_whole
        if len(whole.x) > max_points:
            assert len(thinned.x) >= max_points


def test_a_curve_of_one_class_or_one_point_is_refused() -> None:
    with pytest.raises(InputError, match="no example of class Non-Viral"):
        roc_curve([1, 1], [0.1, 0.2])
    with pytest.raises(InputError, match="no example of class Viral"):
        precision_recall_curve([0, 0], [0.1, 0.2])
    with pytest.raises(UsageError, match="at least 2 points"):
        roc_curve([0, 1], [0.1, 0.2], max_points=1)


def test_a_score_on_an_edge_is_in_the_bin_above_it() -> None:
    edges, counts = histogram([0, 0.05, 0.15, 0.149999, 0.5, 0.999999, 1])  # 0.15 / 0.05 is 2.99… in floating point
    assert edges.tolist()[:4] == [0, 0.05, 0.1, 0.15]
    assert {b: n for b, n in enumerate(counts.tolist()) if n} == {0: 1, 1: 1, 2: 1, 3: 1, 10: 1, 19: 2}
    assert histogram([])[1].tolist() == [0] * 20
    with pytest.raises(InputError, match="no probabilities"):
        histogram([1.2])
    with pytest.raises(UsageError, match="divides"):
        histogram([0.1], bins=3)
