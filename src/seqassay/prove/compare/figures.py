"""Figures of two tables of one kind: agreement of labels, differences of scores, and what the flips are like.

Shape letters: P pairs of rows, K score columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seqassay.evaluate.uncertainty import share_interval
from seqassay.predict.consensus import STATUSES
from seqassay.prove.compare.pairing import Pairing, Rows
from seqassay.prove.compare.tables import TABLE_OF, Table

FloatArray = npt.NDArray[np.float64]

WILSON = "Wilson 1927, rows taken as independent"
NORMAL = "normal, rows taken as independent"
RANKS = "order statistics, rows taken as independent"
NEAR = (0.01, 0.05, 0.1)  # distances from the decision boundary that flips are counted within
_Z = 1.959963984540054
ROUNDING = 1e-12  # 0.2 - 0.1999 is a little more than 0.0001 in floating point
_AT_BOUNDARY = 1e-6  # where rounding decides the label
_NO_PAIR = "no row has this on both sides"


@dataclass(frozen=True, slots=True)
class Mismatches:
    """Rows that differ; flips are numbers of pairs, the farthest from the boundary first.

    Attributes:
        distance: of every flip from the decision boundary, NaN without scores.
        called_a_alone, called_b_alone: pairs with a call on one side.
    """

    flips: Rows
    distance: FloatArray
    called_a_alone: Rows
    called_b_alone: Rows


def compare_tables(a: Table, b: Table, pairing: Pairing, tolerance: float) -> tuple[dict[str, Any], Mismatches]:
    """Every figure of one level, as the record has it, and the rows behind the ones that differ."""
    ours, theirs = a.labels[pairing.in_a], b.labels[pairing.in_b]
    both = (ours >= 0) & (theirs >= 0)
    flips = np.flatnonzero(both & (ours != theirs))
    distance = boundary_distance(a.apart[pairing.in_a[flips]], b.apart[pairing.in_b[flips]])
    farthest_first = np.argsort(-distance, kind="stable")  # NaN last, in file order
    mismatches = Mismatches(
        flips[farthest_first],
        distance[farthest_first],
        np.flatnonzero((ours >= 0) & (theirs < 0)),
        np.flatnonzero((ours < 0) & (theirs >= 0)),
    )
    record: dict[str, Any] = {
        "level": a.level,
        "table": TABLE_OF[a.level],
        "rows": _rows(a, b, pairing),
        "labels": _labels(ours, theirs, mismatches, pairing),
        "scores": _scores(a, b, pairing, tolerance),
        "flips": _flips(mismatches.distance),
    }
    if "status" in a.facts:
        record["statuses_changed"] = _statuses(a, b, pairing)
    return record, mismatches


def boundary_distance(ours: FloatArray, theirs: FloatArray) -> FloatArray:
    """How far from the decision boundary the side of a flip lies that is farther from it; NaN without both scores.

    Args:
        ours, theirs: scores less their boundaries.
    """
    distance: FloatArray = np.maximum(np.abs(ours), np.abs(theirs))
    return distance


def share(k: int, n: int) -> dict[str, Any]:
    """A share with its 95% interval."""
    if n == 0:
        return {"value": None, "interval_95": None, "n": 0, "why_undefined": _NO_PAIR}
    return {"value": k / n, "interval_95": list(share_interval(k, n)), "n": n, "interval_by": WILSON}


def spread(differences: FloatArray, *, signed: bool = True) -> dict[str, Any]:
    """Mean, median, 95th percentile, maximum and standard deviation of differences, with n and intervals.

    Args:
        signed: the differences have signs, and their mean and spread are given as well.
    """
    size = np.sort(np.abs(differences))
    figures = {
        "mean_absolute": mean(size, low=0.0),
        "median_absolute": quantile(size, 0.5),
        "p95_absolute": quantile(size, 0.95),
        "max_absolute": _alone(float(size[-1]) if len(size) else None, len(size), "the largest of those seen"),
    }
    if signed:
        sd = float(differences.std(ddof=1)) if len(differences) > 1 else None
        figures |= {
            "mean_signed": mean(differences),
            "sd_signed": _alone(sd, len(differences), "none is worked out for a standard deviation"),
        }
    return figures


def mean(values: FloatArray, *, low: float = -1.0, high: float = 1.0) -> dict[str, Any]:
    """A mean with its 95% interval, cut to what such a mean can be: ``low`` to ``high``."""
    n = len(values)
    if n < 2:
        return _alone(float(values[0]) if n else None, n, "one row has no spread")
    centre, half = float(values.mean()), _Z * float(values.std(ddof=1)) / math.sqrt(n)
    if half == 0:
        return _alone(centre, n, "all rows are alike, and no width is no certainty")
    interval = [max(low, centre - half), min(high, centre + half)]
    return {"value": centre, "interval_95": interval, "n": n, "interval_by": NORMAL}


def quantile(ascending: FloatArray, q: float) -> dict[str, Any]:
    """A quantile with the 95% interval between two order statistics, which assumes no distribution."""
    n = len(ascending)
    if n == 0:
        return _alone(None, 0, "")
    value = float(np.quantile(ascending, q))
    half = _Z * math.sqrt(n * q * (1 - q))
    low, high = math.floor(n * q - half) - 1, math.ceil(n * q + half)
    if low < 0 or high >= n:
        return _alone(value, n, "too few rows")
    return {
        "value": value,
        "interval_95": [float(ascending[low]), float(ascending[high])],
        "n": n,
        "interval_by": RANKS,
    }


def _alone(value: float | None, n: int, why_no_interval: str) -> dict[str, Any]:
    """A figure without an interval."""
    if value is None:
        return {"value": None, "interval_95": None, "n": n, "why_undefined": _NO_PAIR if n == 0 else "a single row"}
    return {"value": value, "interval_95": None, "n": n, "why_no_interval": why_no_interval}


def _rows(a: Table, b: Table, pairing: Pairing) -> dict[str, Any]:
    return {
        **pairing.counts(),
        "labels_against_scores": {"a": _against_scores(a), "b": _against_scores(b)},
    }


def _against_scores(table: Table) -> int:
    """Rows whose label is not what their score calls for: a fault of the file, or calls made by another rule."""
    apart = table.apart  # NaN compares as False
    return int((((table.labels == 1) & (apart < -_AT_BOUNDARY)) | ((table.labels == 0) & (apart > _AT_BOUNDARY))).sum())


def _labels(
    ours: npt.NDArray[np.int8], theirs: npt.NDArray[np.int8], mismatches: Mismatches, pairing: Pairing
) -> dict[str, Any]:
    counts = {(x, y): int(((ours == x) & (theirs == y)).sum()) for x in (0, 1) for y in (0, 1)}
    agreeing, n = counts[0, 0] + counts[1, 1], sum(counts.values())
    alone = len(mismatches.called_a_alone), len(mismatches.called_b_alone)
    missing = len(pairing.only_a) + len(pairing.only_b)
    return {
        "virus_in_both": counts[1, 1],
        "others_in_both": counts[0, 0],
        "virus_in_a_others_in_b": counts[1, 0],
        "others_in_a_virus_in_b": counts[0, 1],
        "called_in_a_alone": alone[0],
        "called_in_b_alone": alone[1],
        "called_in_neither": int(((ours < 0) & (theirs < 0)).sum()),
        "agreement": share(agreeing, n),
        # Rows that one side lacks, or does not call, do not agree: half a file never passes for the whole.
        "agreement_with_missing": share(agreeing, n + sum(alone) + missing),
    }


def _scores(a: Table, b: Table, pairing: Pairing, tolerance: float) -> dict[str, Any]:
    """Differences B minus A of every score column that both sides have; a row is alike when all of them are."""
    if not (a.columns and b.columns):
        without = " and ".join(side for side, table in (("A", a), ("B", b)) if not table.columns)
        return {"compared": False, "why_not": f"{without} has no score columns"}
    difference_PK = b.scores_NK[pairing.in_b] - a.scores_NK[pairing.in_a]
    difference_PK = difference_PK[~np.isnan(difference_PK).any(axis=1)]
    within = int((np.abs(difference_PK) <= tolerance + ROUNDING).all(axis=1).sum())
    return {
        "compared": True,
        "tolerance": tolerance,
        "within_tolerance": share(within, len(difference_PK)),
        "identical": share(int((difference_PK == 0).all(axis=1).sum()), len(difference_PK)),
        "differences": {name: spread(difference_PK[:, k]) for k, name in enumerate(a.columns)},
    }


def _flips(distance: FloatArray) -> dict[str, Any]:
    """How near the boundary the flips are; "within" counts those whose scores on both sides are."""
    known = distance[~np.isnan(distance)]
    record: dict[str, Any] = {"n": len(distance), "with_scores": len(known)}
    if len(known):
        within = {limit: int((known <= limit).sum()) for limit in NEAR}
        record["near_boundary"] = [{"within": limit, "count": k, **share(k, len(known))} for limit, k in within.items()]
        record["largest_distance"] = float(known.max())
        record["median_distance"] = float(np.median(known))
    return record


def _statuses(a: Table, b: Table, pairing: Pairing) -> list[dict[str, Any]]:
    """How many sequences have another status on the other side, by both statuses."""
    ours, theirs = a.facts["status"][pairing.in_a], b.facts["status"][pairing.in_b]
    n_SS = np.bincount(ours * len(STATUSES) + theirs, minlength=len(STATUSES) ** 2).reshape(len(STATUSES), -1)
    return [{"a": STATUSES[i], "b": STATUSES[j], "n": int(n_SS[i, j])} for i, j in np.argwhere(n_SS).tolist() if i != j]
