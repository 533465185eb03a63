"""How many of a sample's sequences are viral, and how many of those called viral are not.

Probabilities hold for a sample of the composition that the calibration assumed. For another one their odds are
multiplied by the ratio of prior odds; the share of viral sequences that explains the sample's own scores best is found
by expectation maximisation (Saerens, Latinne & Decaestecker 2002). The q-value of a sequence is the expected share of
false calls among all that score at least as high: the mean of one minus the probability over them (the positive false
discovery rate of Storey 2003, with posterior probabilities in place of p-values, as in Käll et al. 2008).

This stands on the calibration, and a calibration knows nothing of events rarer than it has seen, and is off on taxa
that it has not seen. `Assurance` says so when a false discovery rate would need a false-positive rate that its
sequences could not have shown, or came to another on taxa that were held out of the fit.

Scores come as a histogram over ticks of 1e-6, as they are printed: memory does not depend on the sample's size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

TICKS = 1_000_000  # probability p is tick round(p · TICKS)
FEWEST_SEQUENCES = 100  # scored; below, a share estimated from them says nothing
FEWEST_EVENTS = 10  # false positives that a calibration must have been able to see at a rate that it vouches for
# Times the wanted rate: what it may come to on held-out taxa to be vouched for. Those taxa are few, so in a sample of
# others the rate lies further off still: at 1.44 times here, `mini` came to 1.7 times on 20,000 fragments of others.
LIKE_WANTED = (0.75, 1.33)
_CHI2_95 = 3.841  # likelihood-ratio interval, one degree of freedom

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Composition:
    """Estimated share of viral sequences among those with a score.

    Attributes:
        n_scored: sequences with a score.
        prior: share that the probabilities assume.
        viral_share: maximum-likelihood estimate; NaN without scores.
        interval_95: likelihood-ratio interval; it knows of sampling noise, not of a sample unlike the calibration's.
    """

    n_scored: int
    prior: float
    viral_share: float
    interval_95: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Assurance:
    """Whether the calibration can vouch for a false discovery rate; ``reason`` says why not."""

    can_tell: bool
    reason: str


def estimate_composition(counts_by_tick: IntArray, prior: float) -> Composition:
    """The share of viral sequences that makes the observed probabilities likeliest.

    Args:
        counts_by_tick: sequences at every score, ``[TICKS + 1]``.
        prior: share of viral sequences that the probabilities assume.
    """
    ticks = np.flatnonzero(counts_by_tick)
    n = counts_by_tick[ticks].astype(float)
    if not len(ticks):
        return Composition(0, prior, math.nan, (math.nan, math.nan))
    ratio = _likelihood_ratio(ticks, prior)
    share = prior
    for _ in range(2000):
        posterior = share * ratio / (share * ratio + 1 - share)
        updated = float((n * posterior).sum() / n.sum())
        done = abs(updated - share) < 1e-7
        share = updated
        if done:
            break

    grid = np.unique(np.concatenate([[0.0, share, 1.0], np.logspace(-5, 0, 400), 1 - np.logspace(-5, 0, 400)]))
    with np.errstate(divide="ignore"):
        log_likelihood = np.array([float((n * np.log(pi * ratio + 1 - pi)).sum()) for pi in grid.tolist()])
    inside = grid[2 * (log_likelihood.max() - log_likelihood) <= _CHI2_95]
    return Composition(int(n.sum()), prior, share, (float(inside.min()), float(inside.max())))


def q_values(counts_by_tick: IntArray, composition: Composition) -> FloatArray:
    """q-value of every score, ``[TICKS + 1]``; NaN where nothing scores as high."""
    false_share = 1 - posterior(np.arange(TICKS + 1), composition)
    n_above = np.cumsum(counts_by_tick[::-1])[::-1].astype(float)
    expected_false = np.cumsum((counts_by_tick * false_share)[::-1])[::-1]
    q = np.full(TICKS + 1, np.nan)
    np.divide(expected_false, n_above, out=q, where=n_above > 0)
    return q


def posterior(ticks: IntArray, composition: Composition) -> FloatArray:
    """Probability of virus at every tick in a sample of the estimated composition."""
    ratio, share = _likelihood_ratio(ticks, composition.prior), composition.viral_share
    return share * ratio / (share * ratio + 1 - share)


def assurance(
    counts_by_tick: IntArray,
    composition: Composition,
    fdr: float,
    *,
    n_calibration_others: int,
    held_out_rate: float | None = None,
) -> Assurance:
    """Whether calls at a false discovery rate lie within what the calibration could see.

    Args:
        fdr: the wanted false discovery rate.
        n_calibration_others: sequences of others that the calibration was fitted on.
        held_out_rate: what the rate came to on taxa held out of the calibration, at the sample's length; NaN where
            nothing would have been called, None where it was not measured.
    """
    if composition.n_scored < FEWEST_SEQUENCES:
        return Assurance(False, f"only {composition.n_scored} sequences have a score; {FEWEST_SEQUENCES} are needed")
    low, high = composition.interval_95
    if low <= 1e-5:
        return Assurance(False, f"the scores are as likely without any viral sequence (share up to {high:.2%})")
    q = q_values(counts_by_tick, composition)
    called = np.flatnonzero(q <= fdr)
    n_called = int(counts_by_tick[called].sum())
    if not n_called:
        return Assurance(False, f"no sequence is sure enough for a false discovery rate of {fdr:g}")
    false_positive_rate = fdr * n_called / (composition.n_scored * (1 - composition.viral_share))
    seen = FEWEST_EVENTS / n_calibration_others
    if false_positive_rate < seen:
        return Assurance(
            False,
            f"with {composition.viral_share:.1%} viral, a false discovery rate of {fdr:g} needs a false-positive rate "
            f"of {false_positive_rate:.2g}; the calibration ({n_calibration_others:,} others) vouches for {seen:.2g}",
        )
    if held_out_rate is not None and not LIKE_WANTED[0] * fdr <= held_out_rate <= LIKE_WANTED[1] * fdr:
        seen_as = "nothing would have been called" if math.isnan(held_out_rate) else f"it came to {held_out_rate:.2g}"
        return Assurance(False, f"on taxa held out of the calibration, a rate of {fdr:g} was not kept: {seen_as}")
    return Assurance(True, "")


def ticks_of(scores: FloatArray) -> IntArray:
    """Tick of every probability; -1 where there is none (NaN)."""
    known = ~np.isnan(scores)
    ticks = np.full(len(scores), -1, np.int64)
    ticks[known] = np.round(scores[known] * TICKS).astype(np.int64)
    return ticks


def histogram(ticks: IntArray) -> IntArray:
    """Sequences at every score, ``[TICKS + 1]``; those without one are left out."""
    return np.bincount(ticks[ticks >= 0], minlength=TICKS + 1)


def _likelihood_ratio(ticks: IntArray, prior: float) -> FloatArray:
    """P(score | virus) over P(score | other): the odds of the probability over the prior odds.

    A printed 0 or 1 stands for anything up to half a tick from it.
    """
    p = np.clip(ticks / TICKS, 0.5 / TICKS, 1 - 0.5 / TICKS)
    ratio: FloatArray = p / (1 - p) * (1 - prior) / prior
    return ratio
