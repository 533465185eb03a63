"""The speed gate: does the candidate reach the wanted speed-up?

PASSED when the median ratio of the pairs and its whole 95% interval reach the limit, FAILED when none of it does, else
UNDECIDED; so too where there is no baseline to compare with, though one was wanted. As in `evaluate`'s gate, figures
and limit are compared as exact fractions.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from seqassay.prove.gate import PASSED, UNDECIDED, exact

FAILED = "FAILED"
CANDIDATE_ONLY = "no baseline was wanted (--candidate-only)"
_DECIMALS = 12  # of interval ends
_DONT = "Do not deploy the candidate as the faster one."
_NEXT_STEPS = {
    FAILED: [
        _DONT,
        "See the share of the peak: a small one points to batches that are too small for the device (--batch).",
        "Measure on sequences like those it will meet (--sequences): short ones gain less.",
    ],
    UNDECIDED: [
        _DONT,
        "End what else runs on the machine, and give more pairs (--pairs): the interval narrows with their number.",
    ],
}


def speed_gate(speed_up: Mapping[str, Any], limit: float, *, when_undefined: str = UNDECIDED) -> dict[str, Any]:
    """The verdict over the speed-up of pairs.

    Args:
        when_undefined: the verdict where there is no speed-up; its reason is the figure's own.
    """
    if speed_up["value"] is None:
        verdict, reason = when_undefined, speed_up["why_undefined"]
    else:
        verdict, reason = _decide(speed_up, exact(limit))
    return {
        "metric": "speed_up",
        "rule": f"speed-up >= {limit:g} with its whole 95% interval",
        "limit": limit,
        "value": speed_up["value"],
        "interval_95": speed_up["interval_95"],
        "n": speed_up["n"],
        "verdict": verdict,
        "reason": reason,
        "next_steps": _next_steps(verdict, is_defined=speed_up["value"] is not None),
    }


def _decide(speed_up: Mapping[str, Any], limit: Fraction) -> tuple[str, str]:
    reached = Fraction(repr(round(speed_up["value"], _DECIMALS))) >= limit
    if speed_up["interval_95"] is None:
        return UNDECIDED, f"the speed-up has no interval ({speed_up['why_no_interval']})"
    low, high = (Fraction(repr(round(end, _DECIMALS))) for end in speed_up["interval_95"])
    if reached and low >= limit:
        return PASSED, "the speed-up and its whole interval reach the limit"
    if not reached and high < limit:
        return FAILED, "the speed-up and its whole interval are below the limit"
    return UNDECIDED, "the interval of the speed-up straddles the limit"


def _next_steps(verdict: str, *, is_defined: bool) -> list[str]:
    if verdict not in _NEXT_STEPS:
        return []
    return (
        _NEXT_STEPS[verdict] if is_defined else [_DONT, "Put right what the reason names, and run the benchmark again."]
    )
