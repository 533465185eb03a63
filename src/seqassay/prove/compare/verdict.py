"""The agreement gate: do the two sides give enough rows the same label?

At every level compared, the share of rows with the same label has to be at least a limit. Rows that one side lacks, or
leaves without a call, count as rows that do not agree. Shares are compared as exact fractions, as
`evaluate`'s gate does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from seqassay.prove.gate import PASSED, SKIPPED, UNDECIDED, exact

FAILED = "FAILED"
ALL_REACH_IT = "at every level the agreement and its whole interval reach the limit"
NO_LIMIT = "no limit was given (--min-agreement)"
_DECIMALS = 12  # of interval ends
_NEXT_STEPS = {
    FAILED: [
        "Do not take one side for the other.",
        "See in mismatches.tsv which rows flipped, how far from the decision boundary, and which are missing.",
        "Flips near the boundary come from precision and batches; flips far from it from another model, chunk length, "
        "input or a fault.",
    ],
    UNDECIDED: [
        "Do not take one side for the other on this evidence.",
        "Compare more sequences: the interval narrows with their number.",
    ],
}


def agreement_gate(levels: Sequence[Mapping[str, Any]], limit: float | None) -> dict[str, Any]:
    """The verdict of every level, and of all: PASSED when each is, FAILED when one is, else UNDECIDED."""
    if limit is None:
        return {"limit": None, "verdict": SKIPPED, "reason": NO_LIMIT, "levels": [], "next_steps": []}
    decided = [_level(level, exact(limit)) for level in levels]
    verdicts = [level["verdict"] for level in decided]
    verdict = FAILED if FAILED in verdicts else PASSED if set(verdicts) == {PASSED} else UNDECIDED
    return {
        "metric": "agreement_with_missing",
        "rule": f"agreement >= {limit:g} at every level, with its whole 95% interval",
        "limit": limit,
        "verdict": verdict,
        "reason": ALL_REACH_IT
        if verdict == PASSED
        else "; ".join(f"{level['level']}: {level['reason']}" for level in decided if level["verdict"] == verdict),
        "levels": decided,
        "next_steps": _NEXT_STEPS.get(verdict, []),
    }


def _level(level: Mapping[str, Any], limit: Fraction) -> dict[str, Any]:
    labels = level["labels"]
    figure = labels["agreement_with_missing"]
    agreeing = labels["virus_in_both"] + labels["others_in_both"]
    entry = {"level": level["level"], "value": figure["value"], "interval_95": figure["interval_95"], "n": figure["n"]}
    if figure["value"] is None:
        return {**entry, "verdict": UNDECIDED, "reason": "no row has a label on either side"}
    reached = Fraction(agreeing, figure["n"]) >= limit
    low, high = (Fraction(repr(round(end, _DECIMALS))) for end in figure["interval_95"])
    if reached and low >= limit:
        return {**entry, "verdict": PASSED, "reason": "the agreement and its whole interval reach the limit"}
    if not reached and high < limit:
        return {**entry, "verdict": FAILED, "reason": "the agreement and its whole interval are below the limit"}
    return {**entry, "verdict": UNDECIDED, "reason": "the interval of the agreement straddles the limit"}
