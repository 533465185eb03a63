"""Every figure of a scored test set, with its number of examples and its interval, as parts of the record.

Figures are about the examples that have a score; how many have none, and why, stands beside them. Intervals are 95%,
by bootstrap over whole genomes or taxa (see `seqassay.evaluate.intervals`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from seqassay.evaluate.classification import (
    CLASS_NAMES,
    FIGURES,
    Metrics,
    metrics,
)
from seqassay.evaluate.intervals import effective_number, figure_interval
from seqassay.evaluate.reliability import (
    BINS,
    bootstrap_reliability,
    brier_score,
    expected_calibration_error,
    log_loss,
    reliability_curve,
)
from seqassay.evaluate.uncertainty import FEW_CLUSTERS, FEWEST_CLUSTERS, Bootstrap, Interval, bootstrap
from seqassay.models.calibration import Calibration
from seqassay.predict.consensus import NO_FRAME
from seqassay.prove.curves import calibration_bins, curves_of, score_histogram
from seqassay.prove.record import number
from seqassay.prove.scores import ScoredExamples, count_statuses
from seqassay.prove.test_set import Examples

SAMPLES, SEED = 1000, 0
INTERVAL = (
    "95%, bootstrap over units: Student's t of log-odds (Fisher's z of mcc), degrees of freedom from the effective "
    "number of units of the class that has fewer"
)
LENGTH_EDGES = (0, 100, 150, 250, 300, 500, 1000, 3000)  # bases; the last bin has no end
_KNOWN = 0.95  # share of samples in which a figure has to be defined
_SAMPLED_CLUSTERS = 2**22  # drawn at a time by `bootstrap_reliability`: 32 MiB

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]


def set_statistics(examples: Examples, units: IntArray) -> dict[str, Any]:
    """What the test set holds, scored or not."""
    n, viral = len(examples), int(examples.labels.sum())
    lengths = examples.lengths
    return {
        "sequences": n,
        "viral": viral,
        "others": n - viral,
        "viral_share": viral / n,
        "majority_class": CLASS_NAMES[int(2 * viral > n)],
        "majority_accuracy": max(viral, n - viral) / n,
        "genomes": len(np.unique(examples.genomes)),
        "taxa": len(np.unique(examples.taxa[examples.taxa != ""])),
        "without_taxon": int((examples.taxa == "").sum()),
        "units": len(np.unique(units)),
        "units_viral": len(np.unique(units[examples.labels == 1])),
        "units_others": len(np.unique(units[examples.labels == 0])),
        "bases": None if lengths is None else int(lengths.sum()),
        "length": None
        if lengths is None
        else {"min": int(lengths.min()), "median": float(np.median(lengths)), "max": int(lengths.max())},
    }


def effective_units(examples: Examples, scores: ScoredExamples, units: IntArray) -> dict[str, float]:
    """How many units of equal size those of each label are worth, by their scored sequences."""
    return {
        name: round(
            effective_number(np.bincount(units[scores.has_score & (examples.labels == label)]).astype(float)), 1
        )
        for label, name in enumerate(("others", "viral"))
    }


def notes_on_intervals(effective: dict[str, float]) -> list[str]:
    """That intervals rest on few units, where they do."""
    few = [f"{n:g} {name}" for name, n in effective.items() if n < FEW_CLUSTERS]
    if not few:
        return []
    return [
        f"intervals rest on few units ({' and '.join(few)}, counted as units of equal size): with fewer than "
        f"{FEW_CLUSTERS} of a class they are wider than they need be, with fewer than {FEWEST_CLUSTERS} there are none"
    ]


def coverage(examples: Examples, scores: ScoredExamples) -> dict[str, Any]:
    """How many examples have a score, and why the others have none."""
    has_score, labels = scores.has_score, examples.labels
    unscored = count_statuses(scores.status[~has_score])
    viral = count_statuses(scores.status[~has_score & (labels == 1)])
    return {
        "scored": int(has_score.sum()),
        "unscored": int((~has_score).sum()),
        "by_nucleotides_alone": int((has_score & (scores.status == NO_FRAME)).sum()),
        "by_status": count_statuses(scores.status),
        "unscored_by_reason": {
            name: {"sequences": n, "viral": viral.get(name, 0), "others": n - viral.get(name, 0)}
            for name, n in unscored.items()
            if n
        },
    }


def overall(examples: Examples, scores: ScoredExamples, units: IntArray) -> dict[str, Any]:
    """All figures and the confusion matrix."""
    kept = scores.has_score
    labels, score = examples.labels[kept], scores.score[kept]
    found, samples = _figures(labels, score, units[kept], scores.threshold[kept])
    return {
        "values": {name: figure(found, samples, name) for name in FIGURES},
        "confusion_matrix": {
            "classes": list(CLASS_NAMES),
            "rows": "truth",
            "columns": "calls",
            "matrix": [[round(cell) for cell in row] for row in found.confusion.matrix()],
        },
        "majority_accuracy": max(found.n_viral, found.n - found.n_viral) / found.n,
    }


def by_group(examples: Examples, scores: ScoredExamples, units: IntArray) -> list[dict[str, Any]]:
    """For every group: the share of it that is called right, and its ROC-AUC against the other class.

    A group of one label is set against all examples of the other label, wherever they are from.
    """
    rows = []
    for name in np.unique(examples.groups).tolist():
        of_group = examples.groups == name
        n_viral = int(examples.labels[of_group].sum())
        row = {"group": name, **_counts(of_group, examples, scores)}
        compared, against = of_group, "within the group"
        if n_viral in (0, row["sequences"]):
            label = int(n_viral > 0)
            compared, against = of_group | (examples.labels != label), "all others" if label else "all viral"
        wanted = ["recall"] * (n_viral > 0) + ["specificity"] * (n_viral < row["sequences"]) + ["roc_auc"]
        rows.append({**row, "roc_auc_against": against, **_subset(compared, examples, scores, units, wanted, row)})
    return rows


def by_length(examples: Examples, scores: ScoredExamples, units: IntArray) -> list[dict[str, Any]] | None:
    """Figures of sequences of similar length; None where lengths are not known."""
    if examples.lengths is None:
        return None
    rows = []
    for low, high in zip(LENGTH_EDGES, (*LENGTH_EDGES[1:], None), strict=True):
        in_bin = (examples.lengths >= low) & (examples.lengths < (math.inf if high is None else high))
        if in_bin.any():
            row = {"from": low, "below": high, **_counts(in_bin, examples, scores)}
            wanted = ["accuracy", "recall", "specificity", "roc_auc"]
            rows.append({**row, **_subset(in_bin, examples, scores, units, wanted, row)})
    return rows


def calibration_and_curves(
    examples: Examples, scores: ScoredExamples, units: IntArray, fitted: Calibration | None, *, known: bool = True
) -> dict[str, Any]:
    """Whether scores can be read as probabilities, for a sample composed as this test set is; and all curves.

    Args:
        fitted: the calibration that the scores went through; None where they went through none.
        known: whether that is known.
    """
    kept = scores.has_score
    labels, score = examples.labels[kept], scores.score[kept]
    error_S, share_SB = _resampled_reliability(labels, score, units[kept])
    curve = reliability_curve(labels, score)
    n = len(labels)
    bin_N = np.searchsorted(curve.highest, score).clip(0, len(curve.n) - 1)
    shares = [
        _interval_of_bin(curve.viral_share[b], share_SB[:, b], units[kept][bin_N == b]) for b in range(len(curve.n))
    ]
    said = {
        "calibrated": fitted is not None if known else None,
        "prior": None if fitted is None else fitted.prior,
        "viral_share": float(labels.mean()),
        # No interval_95: resampling only ever adds to this error.
        "expected_calibration_error": {
            "value": expected_calibration_error(labels, score),
            "n": n,
            "bins": len(curve.n),
            "bins_wanted": BINS,
            "resampled_95": _percentiles(error_S),
        },
        "maximum_calibration_error": {"value": curve.maximum_calibration_error, "n": n},
        "brier_score": {"value": brier_score(labels, score), "n": n},
        "log_loss": {"value": log_loss(labels, score), "n": n},
    }
    drawn = {"calibration": calibration_bins(curve, shares), "histogram": score_histogram(labels, score)}
    return {"calibration": said, "curves": {**curves_of(labels, score), **drawn}}


def figure(found: Metrics, samples: Bootstrap, name: str, of: str = "scores") -> dict[str, Any]:
    """One figure with its number of examples and its interval, or why there is none."""
    value = number(getattr(found, name))
    entry: dict[str, Any] = {"value": value, "interval_95": None, "n": found.n}
    if value is None:
        return {**entry, "why_undefined": found.undefined[name]}
    return {**entry, **interval_entry(samples.interval(name, of))}


def interval_entry(interval: Interval) -> dict[str, Any]:
    """An interval as the record has it."""
    if interval.reason:
        return {"interval_95": None, "why_no_interval": interval.reason}
    entry: dict[str, Any] = {"interval_95": [interval.low, interval.high]}
    return {**entry, "interval_by": interval.by} if interval.by else entry


def _figures(labels: IntArray, score: FloatArray, units: IntArray, threshold: FloatArray) -> tuple[Metrics, Bootstrap]:
    found = metrics(labels, score, threshold=threshold)
    thresholds = {"scores": threshold}
    samples = bootstrap(labels, {"scores": score}, units, thresholds=thresholds, n_samples=SAMPLES, seed=SEED)
    return found, samples


def _counts(which: BoolArray, examples: Examples, scores: ScoredExamples) -> dict[str, int]:
    n, scored = int(which.sum()), int((which & scores.has_score).sum())
    return {
        "sequences": n,
        "viral": int(examples.labels[which].sum()),
        "scored": scored,
        "unscored": n - scored,
        "genomes": len(np.unique(examples.genomes[which])),
    }


def _subset(
    which: BoolArray,
    examples: Examples,
    scores: ScoredExamples,
    units: IntArray,
    wanted: list[str],
    row: dict[str, Any],
) -> dict[str, Any]:
    """Some figures of some examples; undefined where none of the row's own has a score."""
    kept = which & scores.has_score
    if not row["scored"]:
        return {
            name: {"value": None, "interval_95": None, "n": 0, "why_undefined": "none is scored"} for name in wanted
        }
    found, samples = _figures(examples.labels[kept], scores.score[kept], units[kept], scores.threshold[kept])
    n_viral = found.n_viral
    n_of = {"recall": n_viral, "specificity": found.n - n_viral}
    return {name: {**figure(found, samples, name), "n": n_of.get(name, found.n)} for name in wanted}


def _resampled_reliability(labels: IntArray, score: FloatArray, units: IntArray) -> tuple[FloatArray, FloatArray]:
    """As `bootstrap_reliability`, in pieces: it holds two numbers for every sample and genome."""
    at_a_time = max(1, min(SAMPLES, _SAMPLED_CLUSTERS // len(np.unique(units))))
    parts = [
        bootstrap_reliability(labels, score, units, n_samples=min(at_a_time, SAMPLES - first), seed=SEED + first)
        for first in range(0, SAMPLES, at_a_time)
    ]
    return np.concatenate([errors for errors, _ in parts]), np.concatenate([shares for _, shares in parts])


def _interval_of_bin(share: float, samples_S: FloatArray, units: IntArray) -> list[float] | None:
    """Of the viral share of a calibration bin, by its units; None where they are few or all of one label."""
    n_units = effective_number(np.bincount(units).astype(np.float64))
    if n_units < FEWEST_CLUSTERS or not 0 < share < 1 or np.isnan(samples_S).mean() > 1 - _KNOWN:
        return None
    return list(figure_interval("recall", float(share), samples_S, n_units))


def _percentiles(values: FloatArray) -> list[float] | None:
    known = values[~np.isnan(values)]
    if len(known) < _KNOWN * len(values):
        return None
    low, high = np.percentile(known, [2.5, 97.5]).tolist()
    return [low, high] if low < high else None  # no width is no certainty
