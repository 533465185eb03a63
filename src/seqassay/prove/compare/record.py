"""The record of a comparison, ``metrics.json``: checked here before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqassay.errors import SeqassayError
from seqassay.prove.record import figures_in

FORMAT, VERSION = "seqassay-comparison", "1.0"
_SLACK = 1e-9
# Figures that are no share of something, by the last names of their place.
_SIGNED = ("mean_signed",)
_COSINES = "cosine"


def check_record(record: Mapping[str, Any]) -> None:
    """No figure out of its possible range, and counts that add up.

    Raises:
        SeqassayError: names the figure (a bug here; nothing is written).
    """
    for place, figure in figures_in(record):
        if "value" in figure:
            _check_figure(figure, place)
    for level in record["levels"]:
        name, rows = level["level"], level["rows"]
        for side in ("a", "b"):
            _expect(f"{name}: rows of {side.upper()}", rows["in_both"] + rows[f"only_{side}"], rows[side])
        if "labels" not in level:
            continue
        labels = level["labels"]
        flips = labels["virus_in_a_others_in_b"] + labels["others_in_a_virus_in_b"]
        alone = labels["called_in_a_alone"] + labels["called_in_b_alone"]
        called = labels["virus_in_both"] + labels["others_in_both"] + flips
        _expect(f"{name}: flips", level["flips"]["n"], flips)
        _expect(f"{name}: rows by label", called + alone + labels["called_in_neither"], rows["in_both"])
        _expect(f"{name}: rows with a label on both sides", labels["agreement"]["n"], called)
        _expect(
            f"{name}: rows of either side",
            labels["agreement_with_missing"]["n"],
            called + alone + rows["only_a"] + rows["only_b"],
        )


def _check_figure(figure: Mapping[str, Any], place: str) -> None:
    """A value and its interval lie where they can; values of embeddings have no upper bound."""
    low, high = range_of(place)
    value, interval = figure["value"], figure.get("interval_95")
    for number in () if value is None else (value, *(interval or ())):
        if not low - _SLACK <= number <= high + _SLACK:
            raise SeqassayError(f"{place} came out as {number}, outside {low:g} to {high:g}")
    if interval is not None and not interval[0] - _SLACK <= value <= interval[1] + _SLACK:
        raise SeqassayError(f"{place}: {value} lies outside its own interval, {interval[0]} to {interval[1]}")
    if (value is None) != ("why_undefined" in figure):
        raise SeqassayError(f"{place}: undefined without a reason, or a reason without need")


def range_of(place: str) -> tuple[float, float]:
    """The range of the figure that a place in the record names."""
    names = place.split(".")
    signed = _COSINES in names or names[-1] in _SIGNED
    is_of_embedding = "differences" in names and "scores" not in names
    return (-1.0 if signed else 0.0), float("inf") if is_of_embedding else 1.0


def _expect(name: str, counted: int, expected: int) -> None:
    if counted != expected:
        raise SeqassayError(f"{name} are {counted:,}, but there are {expected:,}")
