"""What a calibration error could be at best: its interval over taxa, and what a calibrated score would show.

Fragments of one taxon are right or wrong together, so a split of few taxa gives even a perfectly calibrated score an
error. How large: the scores are carried to the viral shares that the whole split has at them (isotonic regression),
which calibrates them on it exactly; then taxa are drawn with replacement, and the error of each sample is that of a
score without any fault, on as many taxa that hang together as they do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import IsotonicRegression

from _mini_figures import Resampling, ScoredFragments, number
from seqassay.evaluate.reliability import expected_calibration_error

BAR = 0.03

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def errors_over_taxa(f: ScoredFragments, resampling: Resampling) -> dict[str, Any]:
    """Of all fragments, and of the groups of the held-out metagenome study alone; both labels counted alike."""
    of_study = np.char.startswith(f.groups, "metagenome")
    return {
        "bar": BAR,
        "all": error_over_taxa(f, f.scored, resampling),
        "metagenome study": error_over_taxa(f, f.scored[of_study[f.scored]], resampling),
    }


def error_over_taxa(f: ScoredFragments, rows: IntArray, resampling: Resampling) -> dict[str, Any]:
    """Calibration error of some fragments, its samples, and those of a calibrated score."""
    labels, score = f.labels[rows], f.score[rows]
    taxon = np.unique(f.taxa[rows], return_inverse=True)[1]
    n_viral, n_taxa = int(labels.sum()), len(np.unique(taxon))
    said: dict[str, Any] = {"n": len(rows), "n_viral": n_viral, "n_taxa": n_taxa}
    if not 0 < n_viral < len(rows):
        return {**said, "reason": "figures need fragments of both labels"}
    once = balanced(labels, np.ones(len(rows)))
    calibrated = IsotonicRegression(out_of_bounds="clip").fit(score, labels, once).predict(score)
    rng = np.random.default_rng(resampling.seed)
    resampled, floor = [], []
    for _ in range(resampling.n_samples):
        times = np.bincount(rng.integers(0, n_taxa, n_taxa), minlength=n_taxa)[taxon].astype(np.float64)
        if len(np.unique(labels[times > 0])) == 2:
            weights = balanced(labels, times)
            resampled.append(expected_calibration_error(labels, score, weights))
            floor.append(expected_calibration_error(labels, calibrated, weights))
    return {
        **said,
        "expected_calibration_error": number(expected_calibration_error(labels, score, once)),
        "resampled_95": percentiles(resampled),
        "of_a_calibrated_score": {
            "mean": number(float(np.mean(floor))),
            "resampled_95": percentiles(floor),
            "share_above_bar": number(float(np.mean(np.array(floor) > BAR))),
        },
    }


def balanced(labels: IntArray, weights: FloatArray) -> FloatArray:
    """Weights under which both labels count alike."""
    of_label = np.array([weights[labels == 0].sum(), weights[labels == 1].sum()])
    found: FloatArray = weights / of_label[labels]
    return found


def percentiles(values: list[float]) -> list[float | None]:
    """Between which 95% of the samples lie."""
    return [number(value) for value in np.percentile(values, [2.5, 97.5]).tolist()]
