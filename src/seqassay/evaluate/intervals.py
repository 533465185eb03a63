"""Intervals of figures from the spread of their bootstrap samples, honest where there are few units.

The percentiles of a bootstrap of 20 to 200 genomes hold the truth in 90 to 93 of 100 test sets, not in 95
(``benchmarks/statistics_check.py``): a sample's spread is that of n − 1 units and not n, its ends are those of a normal
and not of Student's t, and a share near 1 has a longer tail below than above. Here the standard deviation of the
samples is widened for all three: t with one degree of freedom less than there are units, on a scale (log-odds;
Fisher's z of a correlation) where shares are symmetric. Units of unequal size count as so many equal ones (Kish 1965).
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt

from seqassay.errors import UsageError

FloatArray = npt.NDArray[np.float64]

_DRAWS = 20_000  # of a difference's two figures: its ends are within 2% of its width
_NODES = 64
_CORRELATIONS = ("mcc",)  # figures from −1 to 1


def effective_number(weights: FloatArray) -> float:
    """How many units of equal weight are worth as much as these (Kish 1965): (Σw)² / Σw²; 0 without any."""
    total, squares = float(weights.sum()), float((weights**2).sum())
    return total**2 / squares if squares else 0.0


def figure_interval(
    figure: str, value: float, samples_S: FloatArray, n_units: float, *, level: float = 0.95
) -> tuple[float, float]:
    """Ends of a figure's interval.

    Args:
        value: the figure, within its range and not at its ends.
        samples_S: of the bootstrap, NaN where undefined.
        n_units: effective number of units; more than 1.

    Raises:
        UsageError: a figure at the end of its range, or no more than one unit.
    """
    spread = math.sqrt(_covariance(figure, np.array([value]), samples_S[None], n_units)[0, 0])
    middle, half = _scaled(figure, value), student_t((1 + level) / 2, n_units - 1) * spread
    return _unscaled(figure, middle - half), _unscaled(figure, middle + half)


def difference_interval(
    figure: str, values: tuple[float, float], samples_2S: FloatArray, n_units: float, *, level: float = 0.95
) -> tuple[float, float]:
    """Ends of the interval of first minus second, in the same samples of units.

    Both figures are drawn on their own scale from one bivariate t, with the covariance of the samples, and subtracted:
    what the two share cancels out, and each keeps its tails.

    Raises:
        UsageError: as `figure_interval`.
    """
    covariance = _covariance(figure, np.array(values), samples_2S, n_units)
    rng = np.random.default_rng(0)
    normal_D2 = rng.standard_normal((_DRAWS, 2))
    normal_D2 = np.concatenate([normal_D2, -normal_D2])  # so that their mean is none of chance's
    chi_square_D = np.tile(rng.chisquare(n_units - 1, _DRAWS), 2)
    drawn_D2 = (normal_D2 @ _root(covariance)) * np.sqrt((n_units - 1) / chi_square_D)[:, None]
    first, second = (_unscaled_array(figure, _scaled(figure, value) + drawn_D2[:, i]) for i, value in enumerate(values))
    low, high = np.percentile(first - second, [50 * (1 - level), 50 * (1 + level)]).tolist()
    found = values[0] - values[1]
    return min(low, found), max(high, found)


@cache
def student_t(share: float, degrees: float) -> float:
    """Quantile of Student's t: a share of it lies below.

    With t = √ν·tan φ its distribution is an integral of cos^(ν − 1), by Gauss and Legendre here; scipy's to 1e-8.

    Raises:
        UsageError: a share that is not from a half to below 1, or degrees of freedom that are not above 0.
    """
    if not 0.5 <= share < 1 or not degrees > 0:
        raise UsageError(f"no quantile {share} of Student's t with {degrees} degrees of freedom")
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    scale = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(math.pi)

    def below(angle: float) -> float:
        angles = angle * (nodes + 1) / 2
        return 0.5 + scale * float((weights * np.cos(angles) ** (degrees - 1)).sum()) * angle / 2

    # from 10 standard deviations on, or a right angle, nothing of note is left
    low, high = 0.0, min(math.pi / 2, math.atan(40 / math.sqrt(degrees)) if degrees > 30 else math.pi / 2)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) < share else (low, middle)
    return math.sqrt(degrees) * math.tan((low + high) / 2)


def _covariance(figure: str, values_K: FloatArray, samples_KS: FloatArray, n_units: float) -> FloatArray:
    """Covariance of figures on their symmetric scale, widened for the number of units (delta method)."""
    lowest = -1.0 if figure in _CORRELATIONS else 0.0
    if not ((values_K > lowest) & (values_K < 1)).all() or not n_units > 1:
        raise UsageError(f"{figure} of {values_K.tolist()} in {n_units:g} units has no symmetric scale")
    known = ~np.isnan(samples_KS).any(axis=0)
    covariance = np.atleast_2d(np.cov(samples_KS[:, known])) * n_units / (n_units - 1)
    steepness_K = 1 / (1 - values_K**2) if figure in _CORRELATIONS else 1 / (values_K * (1 - values_K))
    widened: FloatArray = covariance * np.outer(steepness_K, steepness_K)
    return widened


def _root(covariance: FloatArray) -> FloatArray:
    """A symmetric root, of a singular matrix too (two models that call alike)."""
    values, vectors = np.linalg.eigh(covariance)
    root: FloatArray = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    return root


def _scaled(figure: str, value: float) -> float:
    return math.atanh(value) if figure in _CORRELATIONS else math.log(value / (1 - value))


def _unscaled(figure: str, value: float) -> float:
    return float(_unscaled_array(figure, np.array([value]))[0])


def _unscaled_array(figure: str, values: FloatArray) -> FloatArray:
    half = np.tanh(values) if figure in _CORRELATIONS else (1 + np.tanh(values / 2)) / 2
    unscaled: FloatArray = half
    return unscaled
