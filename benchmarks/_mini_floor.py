"""What a calibration error could be at best: its interval over taxa, and what a calibrated score would show.

Fragments of one taxon are right or wrong together, so a split of few taxa gives even a perfectly calibrated score an
error. How large: the scores are carried to the viral shares that the whole split has at them (isotonic regression),
which calibrates them on it exactly; then taxa are drawn with replacement, and the error of each sample is that of a
score without any fault, on as many taxa that hang together as they do.

And what could a better calibration come to? Half of the split's own taxa calibrate the score anew (logistic regression
on its log-odds), and the other half shows the error: no calibration set is nearer to these taxa than they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import IsotonicRegression

from _mini_figures import Resampling, ScoredFragments, number
from seqassay.evaluate.reliability import expected_calibration_error
from seqassay.train.calibrate import logistic_regression

BAR = 0.03
N_HALVINGS = 200
_FEWEST = 10  # fragments of a label in half of the taxa
_SMALLEST = 1e-6  # as scores are printed; beyond it a score has no log-odds to calibrate

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def errors_over_taxa(f: ScoredFragments, resampling: Resampling) -> dict[str, Any]:
    """Of all fragments of a length, and of the held-out metagenome study alone; both labels counted alike."""
    of_study = np.char.startswith(f.groups, "metagenome")
    return {
        "bar": BAR,
        "all": error_over_taxa([f], [f.scored], resampling),
        "metagenome study": error_over_taxa([f], [f.scored[of_study[f.scored]]], resampling),
    }


def error_of_all_lengths(by_length: Sequence[ScoredFragments], resampling: Resampling) -> dict[str, Any]:
    """Of the fragments of all lengths as one sample; every length and label counted alike."""
    return error_over_taxa(by_length, [f.scored for f in by_length], resampling)


def error_over_taxa(
    parts: Sequence[ScoredFragments], rows: Sequence[IntArray], resampling: Resampling
) -> dict[str, Any]:
    """Calibration error of some fragments of each part, its samples, and what could be.

    Every label of every part counts alike.
    """
    labels = np.concatenate([part.labels[chosen] for part, chosen in zip(parts, rows, strict=True)])
    score = np.concatenate([part.score[chosen] for part, chosen in zip(parts, rows, strict=True)])
    taxa = np.concatenate([part.taxa[chosen] for part, chosen in zip(parts, rows, strict=True)])
    alike = labels + 2 * np.repeat(np.arange(len(rows)), [len(chosen) for chosen in rows])
    taxon = np.unique(taxa, return_inverse=True)[1]
    n_taxa = len(np.unique(taxa))
    said: dict[str, Any] = {"n": len(labels), "n_viral": int(labels.sum()), "n_taxa": n_taxa}
    if np.bincount(alike, minlength=2 * len(parts)).min() == 0:
        return {**said, "reason": "figures need fragments of both labels"}
    once = balanced(alike, np.ones(len(labels)))
    calibrated = IsotonicRegression(out_of_bounds="clip").fit(score, labels, once).predict(score)
    rng = np.random.default_rng(resampling.seed)
    resampled, floor = [], []
    for _ in range(resampling.n_samples):
        times = np.bincount(rng.integers(0, n_taxa, n_taxa), minlength=n_taxa)[taxon].astype(np.float64)
        if np.bincount(alike, times, minlength=2 * len(parts)).min() > 0:
            weights = balanced(alike, times)
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
        "on_half_of_the_taxa": error_by_halves(labels, score, alike, taxon, rng),
    }


def error_by_halves(
    labels: IntArray, score: FloatArray, alike: IntArray, taxon: IntArray, rng: np.random.Generator
) -> dict[str, Any] | None:
    """Error on one half of the taxa: of the score, and of the score as the other half calibrates it.

    None where a half may have hardly any fragments of one label.
    """
    bounded = np.clip(score, _SMALLEST, 1 - _SMALLEST)
    log_odds = np.log(bounded / (1 - bounded))
    as_it_is, anew = [], []
    for _ in range(N_HALVINGS):
        here = (rng.permutation(taxon.max() + 1) % 2 == 0)[taxon]
        there = ~here
        if min(np.bincount(alike[half], minlength=alike.max() + 1).min() for half in (here, there)) < _FEWEST:
            return None
        weights_here, weights = (balanced(alike[half], np.ones(int(half.sum()))) for half in (here, there))
        constant, weight = logistic_regression(log_odds[here, None], labels[here], weights_here)
        probability = 1 / (1 + np.exp(-(constant + weight * log_odds[there])))
        as_it_is.append(expected_calibration_error(labels[there], score[there], weights))
        anew.append(expected_calibration_error(labels[there], probability, weights))
    return {
        "n_halvings": N_HALVINGS,
        "as_it_is": {"mean": number(float(np.mean(as_it_is))), "halvings_95": percentiles(as_it_is)},
        "calibrated_by_the_other_half": {"mean": number(float(np.mean(anew))), "halvings_95": percentiles(anew)},
        "share_where_as_it_is_is_lower": number(float(np.mean(np.array(as_it_is) < np.array(anew)))),
    }


def balanced(alike: IntArray, weights: FloatArray) -> FloatArray:
    """Weights under which every number of ``alike`` counts the same."""
    found: FloatArray = weights / np.bincount(alike, weights)[alike]
    return found


def percentiles(values: list[float]) -> list[float | None]:
    """Between which 95% of the samples lie."""
    return [number(value) for value in np.percentile(values, [2.5, 97.5]).tolist()]
