"""ROC and precision-recall curves of a two-class classifier, with few points, and how scores are spread.

A curve of a million scores has a million points and looks like one of two hundred. Points are added where the curve
leaves the line between its neighbours most, until the area under the lines is that of the whole curve.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seqassay.errors import InputError, UsageError
from seqassay.evaluate.classification import CLASS_NAMES, FloatArray, IntArray, Ranking, check_examples

MAX_POINTS = 200
AREA_KEPT = 1e-3  # the area under the kept points differs from the whole curve's by no more
HISTOGRAM_BINS = 20
_TICKS = 1_000_000  # scores have six decimals: bins are counted in whole ticks, so that no score falls beside its bin


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of a curve by falling threshold, with straight lines between them.

    Attributes:
        x, y: false-positive rate and recall (ROC), or recall and precision.
        thresholds: calling every score of at least this gives the point; infinite where nothing is called.
        n_thresholds: distinct scores; a curve with fewer points was thinned.
        area: under all points, by the trapezoid rule.
    """

    x: FloatArray
    y: FloatArray
    thresholds: FloatArray
    n_thresholds: int
    area: float

    @property
    def area_of_points(self) -> float:
        """Area under the points that were kept."""
        return _area(self.x, self.y)


def roc_curve(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    *,
    max_points: int | None = MAX_POINTS,
) -> Curve:
    """False-positive rate and recall, from (0, 0) to (1, 1); its area is `classification.roc_auc`.

    Args:
        max_points: thinned to this many, or more where the area would change by more than ``AREA_KEPT``; None keeps
            all.

    Raises:
        InputError: a class has no example.
    """
    true_K, false_K, ranking = _one_pass(labels, scores, weights)
    thresholds = np.concatenate([[np.inf], ranking.sorted_scores[ranking.bounds_K[:-1]]])
    return _curve(false_K / false_K[-1], true_K / true_K[-1], thresholds, max_points)


def precision_recall_curve(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    *,
    max_points: int | None = MAX_POINTS,
) -> Curve:
    """Recall and precision, from the highest score on, whose precision is carried back to where nothing is called.

    So the area of a perfect ranking is 1. It is not average precision else, which takes steps for lines. Thinned as
    `roc_curve`.
    """
    true_K, false_K, ranking = _one_pass(labels, scores, weights)
    called_K = true_K + false_K
    kept = np.flatnonzero(called_K > 0)
    precision = true_K[kept] / called_K[kept]
    thresholds = ranking.sorted_scores[ranking.bounds_K[kept - 1]]
    return _curve(
        np.concatenate([[0.0], true_K[kept] / true_K[-1]]),
        np.concatenate([precision[:1], precision]),
        np.concatenate([[np.inf], thresholds]),
        max_points,
    )


def histogram(probabilities: npt.ArrayLike, *, bins: int = HISTOGRAM_BINS) -> tuple[FloatArray, IntArray]:
    """Edges ``[bins + 1]`` of bins of one width from 0 to 1, and probabilities in each; the last bin holds 1 too.

    Raises:
        InputError: something that is no probability.
        UsageError: a number of bins that does not divide a million.
    """
    if bins < 1 or _TICKS % bins:
        raise UsageError(f"{bins} bins: a number that divides {_TICKS:,} is needed")
    values = np.asarray(probabilities, np.float64)
    if len(values):
        values = check_examples(np.zeros(len(values)), values, probabilities=True).scores
    which = np.minimum(np.round(values * _TICKS).astype(np.int64) // (_TICKS // bins), bins - 1)
    return np.arange(bins + 1) / bins, np.bincount(which, minlength=bins).astype(np.int64)


def _one_pass(
    labels: npt.ArrayLike, scores: npt.ArrayLike, weights: npt.ArrayLike | None
) -> tuple[FloatArray, FloatArray, Ranking]:
    examples = check_examples(labels, scores, weights)
    ranking = Ranking(examples)
    true_SK, false_SK = ranking.called(examples.weights[None, ranking.order])
    for name, total in zip(CLASS_NAMES, (false_SK[0, -1], true_SK[0, -1]), strict=True):
        if not total:
            raise InputError(f"a curve needs both classes, and there is no example of class {name}")
    return true_SK[0], false_SK[0], ranking


def _curve(x: FloatArray, y: FloatArray, thresholds: FloatArray, max_points: int | None) -> Curve:
    if max_points is not None and max_points < 2:
        raise UsageError(f"a curve has at least 2 points, not {max_points}")
    area, n_thresholds = _area(x, y), int(np.isfinite(thresholds).sum())
    kept = np.arange(len(x)) if max_points is None or len(x) <= max_points else _thinned(x, y, area, max_points)
    return Curve(x[kept], y[kept], thresholds[kept], n_thresholds, area)


def _thinned(x: FloatArray, y: FloatArray, area: float, max_points: int) -> IntArray:
    """Points to keep: always the ends, then those that bring the lines nearest to the curve, greedily.

    The stretch between two kept points with the largest area between curve and line is parted where the curve is
    farthest from the line (Douglas & Peucker 1973, by area and with a given number of points).
    """
    kept = {0, len(x) - 1}
    stretches: list[tuple[float, int, int, int]] = []
    area_kept = _area(x[[0, -1]], y[[0, -1]])

    def consider(first: int, last: int) -> None:
        if last - first > 1:
            missed, farthest = _beside_the_line(x[first : last + 1], y[first : last + 1])
            heapq.heappush(stretches, (-missed, first, first + farthest, last))

    consider(0, len(x) - 1)
    # half the limit: the sum of pieces is rounded otherwise than the area of the result
    while stretches and (len(kept) < max_points or abs(area_kept - area) > AREA_KEPT / 2):
        _, first, middle, last = heapq.heappop(stretches)
        kept.add(middle)
        area_kept += _area(x[[first, middle, last]], y[[first, middle, last]]) - _area(
            x[[first, last]], y[[first, last]]
        )
        consider(first, middle)
        consider(middle, last)
    return np.array(sorted(kept), np.int64)


def _beside_the_line(x: FloatArray, y: FloatArray) -> tuple[float, int]:
    """How far a stretch lies from the line between its ends, summed along it; and its farthest inner point."""
    run, rise = float(x[-1] - x[0]), float(y[-1] - y[0])
    length = float(np.hypot(run, rise))
    distance = np.hypot(x - x[0], y - y[0])  # of a stretch that comes back to where it began
    if length:
        distance = np.abs(run * (y - y[0]) - rise * (x - x[0])) / length
    along = np.abs(np.diff(x)) + np.abs(np.diff(y))
    return float(((distance[1:] + distance[:-1]) * along).sum() / 2), 1 + int(np.argmax(distance[1:-1]))


def _area(x: FloatArray, y: FloatArray) -> float:
    return float((np.diff(x) * (y[1:] + y[:-1])).sum() / 2)
