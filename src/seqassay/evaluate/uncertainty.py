"""How sure a figure is: bootstrap intervals over clusters, and paired tests of two sets of calls.

Examples cut from one genome resemble each other: samples are of whole clusters (genomes, taxa, studies), never of
examples. A sample is a weight for every cluster, so scores are sorted once and a sample costs one pass over them.
Shape letters: N examples, S bootstrap samples, C clusters, G groups.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from seqassay.errors import InputError, UsageError
from seqassay.evaluate.classification import (
    CLASS_NAMES,
    FIGURES,
    Examples,
    FloatArray,
    IntArray,
    Ranking,
    check_examples,
    outcome,
    rates,
)
from seqassay.evaluate.intervals import difference_interval, effective_number, figure_interval

# With fewer clusters of a class than this (of equal size; of unequal ones more), resampling them says next to nothing
# about the spread: no interval is given. Below FEW_CLUSTERS intervals hold the truth, but more often than they claim.
FEWEST_CLUSTERS = 5
FEW_CLUSTERS = 15
WILSON_OF_CLUSTERS = "Wilson 1927, of units: every one is alike, and resampling them shows no spread"
_SHARES = ("accuracy", "recall", "specificity")
_DECIMALS = 12  # figures of samples that differ by less are the same but for rounding
_MOST_UNDEFINED = 0.05  # share of bootstrap samples without the figure, above which its interval is not given
_SAMPLED_VALUES = 2**19  # weights in memory at a time (4 MiB); four times more or fewer are slower
_EXACT_PAIRS = 10_000  # discordant pairs up to which McNemar's test sums integers (0.05 s)


@dataclass(frozen=True, slots=True)
class Balance:
    """Groups that count by a given weight and not by their number of examples.

    Attributes:
        codes: group of every example, 0 … G − 1.
        group_weights: weight of each group; 0 leaves its examples out.
    """

    codes: IntArray
    group_weights: FloatArray

    def weights(self) -> FloatArray:
        """A weight for every example: its group's, shared by the group's examples."""
        n_G = np.bincount(self.codes, minlength=len(self.group_weights))
        weights: FloatArray = (self.group_weights / np.maximum(n_G, 1))[self.codes]
        return weights


@dataclass(frozen=True, slots=True)
class Interval:
    """Interval of a bootstrap; ``low`` and ``high`` are NaN where ``reason`` says why there is none.

    Attributes:
        by: another method, where resampling shows no spread.
    """

    low: float
    high: float
    n_samples: int
    n_undefined: int
    reason: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Figures of one or several sets of scores in the same samples of clusters.

    Attributes:
        samples: by name of the score set, then of the figure: ``float64[S]``.
        values: the figures of the examples themselves, by the same names.
        n_clusters: clusters drawn from; ``n_clusters_by_class``: those with an example of class 0, of class 1.
        effective_by_class: how many clusters of equal size those of a class are worth.
    """

    samples: Mapping[str, Mapping[str, FloatArray]]
    values: Mapping[str, Mapping[str, float]]
    n_clusters: int
    n_clusters_by_class: tuple[int, int]
    effective_by_class: tuple[float, float]

    def effective(self, figure: str) -> float:
        """Effective clusters that a figure rests on: those of the class that has fewer."""
        return min(self.effective_by_class[needed] for needed in FIGURES[figure])

    def interval(self, figure: str, of: str, *, minus: str | None = None, level: float = 0.95) -> Interval:
        """Interval of a figure, or of its difference to another score set's in the same samples; see `intervals`.

        Where all or none of a share's examples are right, every sample is the same: the interval is then Wilson's, of
        the clusters.

        Raises:
            UsageError: no such figure or score set; a level that is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise UsageError(f"an interval's level is between 0 and 1, not {level}")
        names = (of, minus) if minus else (of,)
        for name in names:
            if name not in self.samples or figure not in self.samples[name]:
                raise UsageError(f"no figure {figure!r} of {name!r} in this bootstrap")
        samples_KS = np.stack([self.samples[name][figure] for name in names])
        n_undefined = int(np.isnan(samples_KS).any(axis=0).sum())
        reason, by, ends = self._why_too_few(figure), "", (math.nan, math.nan)
        if not reason and n_undefined > _MOST_UNDEFINED * samples_KS.shape[1]:
            reason = f"undefined in {n_undefined} of {samples_KS.shape[1]} samples"
        if not reason:
            constant = [_the_same(row) for row in samples_KS]
            values = [self.values[name][figure] for name in names]
            n = self.effective(figure)
            if any(value is not None for value in constant):
                by, ends, reason = self._without_spread(figure, names, constant, level)
            elif minus:
                ends = difference_interval(figure, (values[0], values[1]), samples_KS, n, level=level)
            else:
                ends = figure_interval(figure, values[0], samples_KS[0], n, level=level)
        return Interval(*ends, samples_KS.shape[1], n_undefined, reason, by)

    def _why_too_few(self, figure: str) -> str:
        for needed in FIGURES[figure]:
            n, effective = self.n_clusters_by_class[needed], self.effective_by_class[needed]
            if n < FEWEST_CLUSTERS:
                return f"{n} clusters of class {CLASS_NAMES[needed]}: too few to resample"
            if effective < FEWEST_CLUSTERS:
                return (
                    f"{n} clusters of class {CLASS_NAMES[needed]} are worth {effective:.1f} of equal size: "
                    "too few to resample"
                )
        return ""

    def _without_spread(
        self, figure: str, names: tuple[str, ...], constant: list[float | None], level: float
    ) -> tuple[str, tuple[float, float], str]:
        """Method, ends, and why there are none, where at least one score set has the same figure in every sample."""
        nothing = (math.nan, math.nan)
        if len(names) == 2 and constant[0] == constant[1]:
            return "", (0.0, 0.0), ""  # no sample tells them apart
        value = next(value for value in constant if value is not None)
        if figure not in _SHARES or value not in (0.0, 1.0):
            return "", nothing, f"{value:g} in every sample: resampling cannot tell how far from it the truth may be"
        n = self.effective(figure)
        ends = [
            figure_interval(figure, self.values[name][figure], self.samples[name][figure], n, level=level)
            if value is None
            else share_interval(value * n, n, level=level)
            for name, value in zip(names, constant, strict=True)
        ]
        if len(names) == 1:
            return WILSON_OF_CLUSTERS, ends[0], ""
        # Square and add (Newcombe 1998): the two are taken as independent, since no sample shows how they go together.
        first, second = (self.values[name][figure] for name in names)
        low = first - second - math.hypot(first - ends[0][0], ends[1][1] - second)
        high = first - second + math.hypot(ends[0][1] - first, second - ends[1][0])
        return f"Newcombe 1998, of {WILSON_OF_CLUSTERS}", (max(-1.0, low), min(1.0, high)), ""


def bootstrap(
    labels: npt.ArrayLike,
    score_sets: Mapping[str, npt.ArrayLike],
    clusters: npt.ArrayLike,
    *,
    weights: npt.ArrayLike | None = None,
    balance: Balance | None = None,
    thresholds: Mapping[str, FloatArray] | None = None,
    n_samples: int = 1000,
    seed: int = 0,
) -> Bootstrap:
    """All figures of every score set in samples of whole clusters, drawn with replacement, as many as there are.

    1,000 samples of 50,000 examples take about five seconds a score set on one core.

    Args:
        score_sets: by name; all see the same samples, so that differences are paired.
        thresholds: of the same names, for every example the score from which it is called virus; 0.5 without any.
        clusters: of every example; any values that compare (record numbers, names).
        balance: groups keep their weight in every sample, whatever their number of examples in it.

    Raises:
        InputError: see `check_examples`.
        UsageError: clusters of another length; no score set; fewer than one sample.
    """
    cluster_N = np.unique(np.asarray(clusters), return_inverse=True)[1].reshape(-1).astype(np.int64)
    if not score_sets or n_samples < 1:
        raise UsageError("a bootstrap needs at least one set of scores and one sample")
    checked = {name: check_examples(labels, scores, weights) for name, scores in score_sets.items()}
    if any(len(examples) != len(cluster_N) for examples in checked.values()):
        raise UsageError(f"there are {len(cluster_N):,} clusters for another number of examples")
    n_clusters = int(cluster_N.max()) + 1
    groups = balance or Balance(np.zeros(len(cluster_N), np.int64), np.ones(1))
    sums = {
        name: _Sums(examples, cluster_N, n_clusters, groups, 0.5 if thresholds is None else thresholds[name])
        for name, examples in checked.items()
    }
    n_at_a_time = max(1, _SAMPLED_VALUES // len(cluster_N))
    samples: dict[str, dict[str, list[FloatArray]]] = {name: {} for name in checked}
    rng = np.random.default_rng(seed)
    for first in range(0, n_samples, n_at_a_time):
        n = min(n_at_a_time, n_samples - first)
        drawn = rng.integers(0, n_clusters, (n, n_clusters)) + np.arange(n)[:, None] * n_clusters
        times_SC = np.bincount(drawn.reshape(-1), minlength=n * n_clusters).reshape(n, n_clusters).astype(np.float64)
        for name, summed in sums.items():
            for figure, values in summed.figures(times_SC, balanced=balance is not None).items():
                samples[name].setdefault(figure, []).append(values)
    first_set = next(iter(checked.values()))
    is_viral, weight_N = first_set.is_viral, first_set.weights if balance is None else balance.weights()
    by_class = (len(np.unique(cluster_N[~is_viral])), len(np.unique(cluster_N[is_viral])))
    joined = {
        name: {figure: np.concatenate(parts) for figure, parts in figures.items()} for name, figures in samples.items()
    }
    once = np.ones((1, n_clusters))
    of_all = {
        name: {figure: float(found[0]) for figure, found in summed.figures(once, balanced=balance is not None).items()}
        for name, summed in sums.items()
    }
    worth = [
        effective_number(np.bincount(cluster_N, weight_N * of_class).astype(np.float64))
        for of_class in (~is_viral, is_viral)
    ]
    return Bootstrap(joined, of_all, n_clusters, by_class, (worth[0], worth[1]))


class _Sums:
    """One score set, summed over clusters as far as a figure allows."""

    def __init__(
        self, examples: Examples, cluster_N: IntArray, n_clusters: int, groups: Balance, threshold: float | FloatArray
    ) -> None:
        n_groups = len(groups.group_weights)
        cell = (cluster_N * n_groups + groups.codes) * 4 + outcome(examples, threshold)
        outcomes = np.bincount(cell, examples.weights, minlength=n_clusters * n_groups * 4)
        self._outcomes_CG4 = outcomes.reshape(n_clusters, n_groups * 4)
        self._group_weights = groups.group_weights
        self._ranking = Ranking(examples)
        order = self._ranking.order
        self._cluster_N, self._group_N, self._weight_N = cluster_N[order], groups.codes[order], examples.weights[order]

    def figures(self, times_SC: FloatArray, *, balanced: bool) -> dict[str, FloatArray]:
        """Every figure in samples that hold each cluster so many times."""
        outcomes_SG4 = (times_SC @ self._outcomes_CG4).reshape(len(times_SC), len(self._group_weights), 4)
        weights_SN = times_SC[:, self._cluster_N] * self._weight_N
        if balanced:
            in_group_SG = outcomes_SG4.sum(axis=2)
            factor_SG = np.divide(
                self._group_weights, in_group_SG, out=np.zeros_like(in_group_SG), where=in_group_SG > 0
            )
            outcomes_SG4 *= factor_SG[:, :, None]
            weights_SN *= factor_SG[:, self._group_N]
        return {**rates(outcomes_SG4.sum(axis=1)), **self._ranking.figures(weights_SN)}


@dataclass(frozen=True, slots=True)
class McNemar:
    """McNemar's test of two sets of calls of the same examples, which are taken as independent.

    Attributes:
        only_first_right, only_second_right: the pairs that differ.
        p_exact: two-sided binomial test.
        p_mid: mid-p value (Fagerland, Lydersen & Laake 2013), which holds its level and is less timid.
    """

    only_first_right: int
    only_second_right: int
    p_exact: float
    p_mid: float


def mcnemar(labels: npt.ArrayLike, first_calls: npt.ArrayLike, second_calls: npt.ArrayLike) -> McNemar:
    """Is one set of calls right more often than the other on the same examples?

    Up to 10,000 pairs that differ are summed as integers (exact to the last bit), more in floating point (1e-8).

    Raises:
        InputError: lists of different lengths, or values other than 0 and 1.
    """
    truth = check_examples(labels, first_calls).is_viral
    first = check_examples(labels, first_calls, probabilities=True).scores
    second = check_examples(labels, second_calls, probabilities=True).scores
    if not (np.isin(first, (0, 1)) & np.isin(second, (0, 1))).all():
        raise InputError("McNemar's test compares calls (0 or 1), not scores")
    first_right, second_right = (first == 1) == truth, (second == 1) == truth
    b, c = int((first_right & ~second_right).sum()), int((~first_right & second_right).sum())
    tail, at_fewest = _binomial_half(min(b, c), b + c)
    p_mid = 1 - at_fewest / 2 if b == c else 2 * tail - at_fewest
    return McNemar(b, c, min(1.0, 2 * tail), p_mid)


def share_interval(k: float, n: float, *, level: float = 0.95) -> tuple[float, float]:
    """Interval (Wilson 1927) of a share of which ``k`` of ``n`` independent examples were seen.

    Raises:
        UsageError: no example, or more seen than there are.
    """
    if not 0 <= k <= n or n == 0:
        raise UsageError(f"{k} of {n} is no share")
    z = NormalDist().inv_cdf((1 + level) / 2)
    centre = (k + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(k * (n - k) / n + z * z / 4)
    return max(0.0, centre - half), min(1.0, centre + half)


def _the_same(samples_S: FloatArray) -> float | None:
    """The figure that every sample has, if they all have one."""
    low, high = float(np.nanmin(samples_S)), float(np.nanmax(samples_S))
    return round(low, _DECIMALS) if high - low < 10.0**-_DECIMALS else None


def _binomial_half(k: int, n: int) -> tuple[float, float]:
    """P(X ≤ k) and P(X = k) of n fair coins, k ≤ n / 2."""
    if n <= _EXACT_PAIRS:
        term = total = 1
        for i in range(k):
            term = term * (n - i) // (i + 1)
            total += term
        return total / 2**n, term / 2**n
    at_k = math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2))
    ratios = np.cumprod(np.arange(k, 0, -1) / np.arange(n - k + 1, n + 1))  # P(X = k − 1) / P(X = k), and so on down
    return at_k * (1 + float(ratios.sum())), at_k
