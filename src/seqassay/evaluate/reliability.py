"""Whether probabilities hold: reliability curve, expected calibration error, Brier score, log loss.

Bins have equal mass, not equal width: a model's probabilities crowd at the ends, and a bin of equal width with three
examples in it says nothing. Equal probabilities are never parted, so with many ties there are fewer bins than asked.
Examples may have weights: a calibration error holds for the composition that the weights make, and for no other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seqassay.errors import UsageError
from seqassay.evaluate.classification import FloatArray, IntArray, check_examples

BINS = 15
# What log loss takes a probability of 0 or 1 for, as scikit-learn does: an impossible event that happened costs 36.
_SMALLEST = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True)
class ReliabilityCurve:
    """Bins of rising probability, each with about the same weight.

    Attributes:
        mean_probability: of the bin's examples.
        viral_share: of the bin's examples, by weight.
        weight: of the bin; ``n``: its examples.
        lowest, highest: probabilities in the bin.
    """

    mean_probability: FloatArray
    viral_share: FloatArray
    weight: FloatArray
    n: IntArray
    lowest: FloatArray
    highest: FloatArray

    @property
    def expected_calibration_error(self) -> float:
        """Mean distance of a bin's mean probability from its viral share, by weight; 0 to 1.

        The figure falls with fewer bins and rises with fewer examples, so it goes with the number of both.
        """
        distance = np.abs(self.mean_probability - self.viral_share)
        return float((distance * self.weight).sum() / self.weight.sum())

    @property
    def maximum_calibration_error(self) -> float:
        """The largest of these distances."""
        return float(np.abs(self.mean_probability - self.viral_share).max())


def reliability_curve(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, weights: npt.ArrayLike | None = None, *, n_bins: int = BINS
) -> ReliabilityCurve:
    """Mean probability and viral share in ``n_bins`` bins of equal weight.

    Examples of equal probability go together into the bin where the middle of their weight lies.

    Raises:
        InputError: see `check_examples`; a probability outside 0 to 1.
        UsageError: fewer than one bin.
    """
    if n_bins < 1:
        raise UsageError(f"a reliability curve needs at least one bin, not {n_bins}")
    examples = check_examples(labels, probabilities, weights, probabilities=True)
    kept = np.flatnonzero(examples.weights > 0)
    is_viral, weight = examples.is_viral[kept].astype(np.float64), examples.weights[kept]
    values, value_of = np.unique(examples.scores[kept], return_inverse=True)
    weight_K = np.bincount(value_of, weight)
    middle_K = np.cumsum(weight_K) - weight_K / 2
    bin_K = np.minimum((n_bins * middle_K / weight_K.sum()).astype(np.int64), n_bins - 1)
    bin_K = np.unique(bin_K, return_inverse=True)[1]  # empty bins are none
    bin_N = bin_K[value_of]
    weight_B = np.bincount(bin_N, weight).astype(np.float64)
    first_K = np.flatnonzero(np.diff(bin_K, prepend=-1))
    last_K = np.append(first_K[1:], len(values)) - 1
    lowest, highest = values[first_K], values[last_K]
    # A mean of equal numbers must not leave their range by rounding.
    mean = np.clip(np.bincount(bin_N, weight * examples.scores[kept]) / weight_B, lowest, highest)
    share = np.clip(np.bincount(bin_N, weight * is_viral) / weight_B, 0.0, 1.0)
    return ReliabilityCurve(mean, share, weight_B, np.bincount(bin_N), lowest, highest)


def expected_calibration_error(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, weights: npt.ArrayLike | None = None, *, n_bins: int = BINS
) -> float:
    """Mean distance of mean probability and viral share over bins of equal weight; see `ReliabilityCurve`."""
    return reliability_curve(labels, probabilities, weights, n_bins=n_bins).expected_calibration_error


def brier_score(labels: npt.ArrayLike, probabilities: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float:
    """Mean squared distance of the probability from the label; 0 to 1, and 0.25 for a constant 0.5."""
    examples = check_examples(labels, probabilities, weights, probabilities=True)
    return float(np.average((examples.scores - examples.is_viral) ** 2, weights=examples.weights))


def log_loss(labels: npt.ArrayLike, probabilities: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float:
    """Mean negative logarithm (natural) of the probability of what was true; 0.69 for a constant 0.5.

    Probabilities nearer than 2.2e-16 to 0 or 1 count as that near, so that one wrong certainty costs 36 and not all.
    """
    examples = check_examples(labels, probabilities, weights, probabilities=True)
    of_truth = np.where(examples.is_viral, examples.scores, 1 - examples.scores)
    return float(np.average(-np.log(np.clip(of_truth, _SMALLEST, 1 - _SMALLEST)), weights=examples.weights))


def bootstrap_reliability(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    clusters: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    *,
    n_bins: int = BINS,
    n_samples: int = 1000,
    seed: int = 0,
) -> tuple[FloatArray, FloatArray]:
    """Calibration error of every sample of clusters ``[S]``, and the viral share of every bin in it ``[S, B]``.

    The bins are those of the whole set. Noise only ever adds to a calibration error, so its samples lie above the
    error itself; the viral shares have no such bias, and their intervals are those to draw. NaN where a sample leaves
    a bin empty.
    """
    examples = check_examples(labels, probabilities, weights, probabilities=True)
    curve = reliability_curve(labels, probabilities, weights, n_bins=n_bins)
    bin_N = np.searchsorted(curve.highest, examples.scores).clip(0, len(curve.highest) - 1)
    cluster_N = np.unique(np.asarray(clusters), return_inverse=True)[1].reshape(-1)
    n_clusters, n_of_curve = int(cluster_N.max()) + 1, len(curve.n)

    def summed(values: FloatArray) -> FloatArray:
        flat = np.bincount(cluster_N * n_of_curve + bin_N, values, minlength=n_clusters * n_of_curve)
        return flat.reshape(n_clusters, n_of_curve).astype(np.float64)

    sums_C3B = np.concatenate(
        [summed(examples.weights * part) for part in (np.ones(len(examples)), examples.scores, examples.is_viral)],
        axis=1,
    )
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, n_clusters, (n_samples, n_clusters))
    times_SC = np.stack([np.bincount(sample, minlength=n_clusters) for sample in drawn]).astype(np.float64)
    weight_SB, probability_SB, viral_SB = np.split(times_SC @ sums_C3B, 3, axis=1)
    distance_S, total_S = np.abs(probability_SB - viral_SB).sum(axis=1), weight_SB.sum(axis=1)
    error_S = np.divide(distance_S, total_S, out=np.full(n_samples, np.nan), where=total_S > 0)
    share_SB = np.divide(viral_SB, weight_SB, out=np.full_like(viral_SB, np.nan), where=weight_SB > 0)
    return error_S, np.clip(share_SB, 0.0, 1.0)
