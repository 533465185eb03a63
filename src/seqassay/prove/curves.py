"""The curves of a scored test set as parts of the record: ROC, precision-recall, calibration, spread of the scores."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from seqassay.errors import SeqassayError
from seqassay.evaluate.classification import CLASS_NAMES
from seqassay.evaluate.curves import AREA_KEPT, Curve, histogram, precision_recall_curve, roc_curve
from seqassay.evaluate.reliability import ReliabilityCurve
from seqassay.evaluate.uncertainty import share_interval

ROC_AXES = ("false_positive_rate", "recall")
PRECISION_RECALL_AXES = ("recall", "precision")
_SLACK = 1e-9

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


def curves_of(labels: IntArray, scores: FloatArray) -> dict[str, Any]:
    """ROC and precision-recall curve, each with the reason where a class is missing."""
    n_viral = int(labels.sum())
    if n_viral in (0, len(labels)):
        why = {"why_undefined": f"no scored example of class {CLASS_NAMES[0] if n_viral else CLASS_NAMES[1]}"}
        return {"roc": why, "precision_recall": dict(why)}
    return {
        "roc": _curve(roc_curve(labels, scores), *ROC_AXES),
        "precision_recall": _curve(precision_recall_curve(labels, scores), *PRECISION_RECALL_AXES),
    }


def calibration_bins(curve: ReliabilityCurve, intervals: list[list[float] | None]) -> list[dict[str, Any]]:
    """One entry for every bin of the reliability curve.

    Args:
        intervals: of the viral share of every bin, by resampling units. Wilson's interval, which takes sequences as
            independent, stands beside it: it is too narrow where genomes give many sequences, and the only one where
            resampling gives none.
    """
    rows = []
    for b, interval in enumerate(intervals):
        n, share = int(curve.n[b]), float(curve.viral_share[b])
        rows.append(
            {
                "lowest": float(curve.lowest[b]),
                "highest": float(curve.highest[b]),
                "n": n,
                "mean_score": float(curve.mean_probability[b]),
                "viral_share": {"value": share, "interval_95": interval, "n": n},
                "wilson_95": list(share_interval(round(share * n), n)),
            }
        )
    return rows


def score_histogram(labels: IntArray, scores: FloatArray) -> dict[str, Any]:
    """Scored sequences of both labels by score, in bins of one width."""
    edges, viral = histogram(scores[labels == 1])
    return {"edges": edges.tolist(), "viral": viral.tolist(), "others": histogram(scores[labels == 0])[1].tolist()}


def check_curves(curves: Mapping[str, Any], n_scored: int) -> None:
    """Curves are monotone, in range, from end to end, and their areas and counts add up.

    Raises:
        SeqassayError: names the curve (a bug here, or a record that was changed).
    """
    for name, (x, y) in (("roc", ROC_AXES), ("precision_recall", PRECISION_RECALL_AXES)):
        if "why_undefined" not in curves[name]:
            _check_curve(curves[name], x, y, f"curves.{name}")
    if "why_undefined" not in curves["roc"]:
        roc = curves["roc"]
        _expect(roc["recall"] == sorted(roc["recall"]), "curves.roc: recall falls along the curve")
        ends = (roc["false_positive_rate"][0], roc["recall"][0], roc["false_positive_rate"][-1], roc["recall"][-1])
        _expect(np.allclose(ends, (0, 0, 1, 1), atol=_SLACK), "curves.roc: does not run from (0, 0) to (1, 1)")
    if "calibration" in curves:
        _check_bins(curves["calibration"], n_scored)
        spread = curves["histogram"]
        in_bins = sum(spread["viral"]) + sum(spread["others"])
        _expect(in_bins == n_scored, f"curves.histogram holds {in_bins:,} of {n_scored:,} scored sequences")
        same = len(spread["viral"]) == len(spread["others"]) == len(spread["edges"]) - 1
        _expect(same, "curves.histogram: not one count for every bin")
        _expect(_rises(spread["edges"]), "curves.histogram: edges do not rise")


def _curve(curve: Curve, x: str, y: str) -> dict[str, Any]:
    """Points of a curve; the threshold of a point where nothing is called is null."""
    thresholds = [value if math.isfinite(value) else None for value in curve.thresholds.tolist()]
    return {
        x: curve.x.tolist(),
        y: curve.y.tolist(),
        "thresholds": thresholds,
        "points": len(thresholds),
        "n_thresholds": curve.n_thresholds,
        "area": curve.area,
        "area_of_points": curve.area_of_points,
    }


def _check_curve(curve: Mapping[str, Any], x: str, y: str, place: str) -> None:
    columns = [curve[name] for name in (x, y, "thresholds")]
    _expect({len(column) for column in columns} == {curve["points"]}, f"{place}: columns of different length")
    for name in (x, y):
        outside = [value for value in curve[name] if not -_SLACK <= value <= 1 + _SLACK]
        _expect(not outside, f"{place}: {name} holds {outside[:1]}, outside 0 to 1")
    _expect(curve[x] == sorted(curve[x]), f"{place}: {x} falls along the curve")
    finite = [value for value in curve["thresholds"] if value is not None]
    _expect(_rises([-value for value in finite]), f"{place}: thresholds do not fall")
    changed = abs(curve["area"] - curve["area_of_points"])
    _expect(changed <= AREA_KEPT + _SLACK, f"{place}: thinning changed its area by {changed:g}")


def _check_bins(bins: list[Mapping[str, Any]], n_scored: int) -> None:
    in_bins = sum(row["n"] for row in bins)
    _expect(in_bins == n_scored, f"curves.calibration holds {in_bins:,} of {n_scored:,} scored sequences")
    for i, row in enumerate(bins):
        place = f"curves.calibration[{i}]"
        inside = row["lowest"] - _SLACK <= row["mean_score"] <= row["highest"] + _SLACK
        _expect(inside, f"{place}: its mean score is {row['mean_score']}, outside the bin")
        low, high = row["wilson_95"]
        around = low - _SLACK <= row["viral_share"]["value"] <= high + _SLACK
        _expect(around, f"{place}: Wilson's interval does not hold its own share")
    _expect(_rises([row["lowest"] for row in bins]), "curves.calibration: bins do not rise")


def _rises(values: list[float]) -> bool:
    return all(a < b for a, b in itertools.pairwise(values))


def _expect(holds: bool, message: str) -> None:
    if not holds:
        raise SeqassayError(message)
