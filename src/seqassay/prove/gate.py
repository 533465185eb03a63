"""The accuracy gate: may the candidate take the baseline's place?

Accuracy may drop by less than a limit, strictly, as an absolute difference of fractions: with 0.05, from 0.93 to above
0.88. Drop and limit are compared as exact fractions (0.95 − 0.90 < 0.05 is true in floating point).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

Verdict = Literal["PASSED", "DEPLOYMENT HALTED", "UNDECIDED", "SKIPPED"]
PASSED: Verdict = "PASSED"
HALTED: Verdict = "DEPLOYMENT HALTED"
UNDECIDED: Verdict = "UNDECIDED"
SKIPPED: Verdict = "SKIPPED"

_DECIMALS = 12  # of interval ends, which are sums of floating-point weights


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict and why."""

    verdict: Verdict
    reason: str


def decide(drop: Fraction, interval: tuple[float, float] | None, limit: Fraction, *, why_no_interval: str) -> Decision:
    """PASSED when drop and its whole interval are below the limit, DEPLOYMENT HALTED when none of it is.

    Without an interval a drop of the limit or more halts, and a smaller one is not proven to be smaller.

    Args:
        drop: baseline's accuracy minus the candidate's.
        interval: 95% interval of the drop.
    """
    below = drop < limit
    if interval is None or any(map(math.isnan, interval)):
        if not below:
            return Decision(HALTED, f"the drop is not below the limit; it has no interval ({why_no_interval})")
        return Decision(UNDECIDED, f"the drop is below the limit, but it has no interval ({why_no_interval})")
    low, high = (Fraction(repr(round(end, _DECIMALS))) for end in interval)
    if below and high < limit:
        return Decision(PASSED, "the drop and its whole interval are below the limit")
    if not below and low >= limit:
        return Decision(HALTED, "the drop and its whole interval are at or above the limit")
    return Decision(UNDECIDED, "the interval of the drop straddles the limit: this test set cannot tell")


def exact(value: float) -> Fraction:
    """The decimal number that a person wrote, exactly."""
    return Fraction(repr(float(value)))


def next_steps(verdict: Verdict) -> list[str]:
    """What to do about a gate that did not pass."""
    if verdict == HALTED:
        return [
            "Do not deploy the candidate; keep the baseline in place.",
            "See by group and by length where accuracy was lost, and in predictions.tsv which sequences flipped.",
            "If labels, test set or baseline figures are in doubt, check them first; a mistake there halts as well.",
            "Train or calibrate the candidate again, then evaluate it on the same test set.",
        ]
    if verdict == UNDECIDED:
        return [
            "Do not deploy the candidate on this evidence.",
            "Evaluate on more genomes: the interval narrows with the number of genomes, not of sequences.",
            "With figures alone as the baseline, give the baseline's bundle (--baseline): on the same sequences the "
            "interval of the difference is much narrower.",
        ]
    return []


def next_steps_on_sequences(path: str) -> list[str]:
    """What to do where heads were compared, and not what `predict` gives with them."""
    return [
        "Do not deploy the candidate on this evidence: it is of heads alone.",
        f"Compare the bundles on the labelled sequences: --test {path}",
    ]
