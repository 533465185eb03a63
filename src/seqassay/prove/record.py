"""The record of an evaluation, ``metrics.json``: built elsewhere, checked here before anything is written."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from seqassay.errors import SeqassayError
from seqassay.prove.curves import check_curves

FORMAT, VERSION = "seqassay-evaluation", "2.0"
# What figures are of, as ``method.scores`` has it.
SCORES_OF_PREDICT = "as `predict` gives them"
SCORES_GIVEN = "as they were given: predictions that were at hand"
SCORES_OF_HEAD = "of the head on stop-free frames alone, uncalibrated"
# Ranges of figures that are not shares.
_RANGES = {"mcc": (-1.0, 1.0), "log_loss": (0.0, math.inf)}
_SLACK = 1e-9


def number(value: float) -> float | None:
    """A figure as JSON has it: null where it is undefined."""
    return None if math.isnan(value) else float(value)


def check_record(record: Mapping[str, Any]) -> None:
    """No figure out of its possible range, and counts that add up.

    Raises:
        SeqassayError: names the figure (a bug here; nothing is written).
    """
    for place, figure in figures_in(record):
        if "value" in figure:
            _check_figure(figure, place)
        if "difference" in figure:
            _check_difference(figure, place)
    n, scored = record["test_set"]["sequences"], record["scored"]
    for name, total in (
        ("scored and unscored", scored["scored"] + scored["unscored"]),
        ("viral and others", record["test_set"]["viral"] + record["test_set"]["others"]),
        ("scored and unscored by group", sum(row["scored"] + row["unscored"] for row in record["by_group"])),
        ("statuses", sum(scored["by_status"].values())),
    ):
        if total != n:
            raise SeqassayError(f"{name} are {total:,}, but there are {n:,} sequences")
    in_matrix = sum(map(sum, record["confusion_matrix"]["matrix"]))
    if in_matrix != scored["scored"]:
        raise SeqassayError(f"the confusion matrix holds {in_matrix:,} of {scored['scored']:,} scored sequences")
    check_curves(record["curves"], scored["scored"])
    if record["comparison"] is not None and "baseline_curves" in record["comparison"]:
        check_curves(record["comparison"]["baseline_curves"], record["comparison"]["n"])


def figures_in(part: Any, place: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every part of a record that holds a ``value`` or a ``difference``, with its place."""
    if isinstance(part, list):
        for i, item in enumerate(part):
            yield from figures_in(item, f"{place}[{i}]")
    elif isinstance(part, Mapping):
        if "value" in part or "difference" in part:
            yield place, part
        for name, item in part.items():
            yield from figures_in(item, f"{place}.{name}" if place else str(name))


def check_figure_of_runs(
    figure: Mapping[str, Any], place: str, bounds: tuple[float, float], *, needs_reason: bool = True
) -> None:
    """A benchmark's figure: within its bounds, and between its extremes and the ends of its interval.

    Args:
        needs_reason: an undefined one says why.

    Raises:
        SeqassayError: names the place.
    """
    low, high = bounds
    value, ends = figure["value"], figure.get("interval_95") or (None, None)
    least, most = figure.get("min"), figure.get("max")
    for found in (value, least, most, *ends):
        if found is not None and not low - _SLACK <= found <= high + _SLACK:
            raise SeqassayError(f"{place} came out as {found}, outside {low:g} to {high:g}")
    if value is None:
        if needs_reason and "why_undefined" not in figure:
            raise SeqassayError(f"{place}: undefined without a reason")
        return
    for name, first, last in (("its extremes", least, most), ("its own interval", *ends)):
        if first is not None and last is not None and not first * (1 - _SLACK) <= value <= last * (1 + _SLACK):
            raise SeqassayError(f"{place}: {value} lies outside {name}, {first} to {last}")


def _check_figure(figure: Mapping[str, Any], place: str) -> None:
    low, high = range_of(place)
    interval = figure.get("interval_95") or []
    for value in (figure["value"], *interval):
        if value is not None and not low - _SLACK <= value <= high + _SLACK:
            raise SeqassayError(f"{place} came out as {value}, outside {low:g} to {high:g}")
    _check_order(interval, place)


def _check_difference(figure: Mapping[str, Any], place: str) -> None:
    low, high = range_of(place)
    interval = figure.get("interval_95") or []
    for value in (figure["difference"], *interval):
        if value is not None and abs(value) > high - low + _SLACK:
            raise SeqassayError(f"{place}: a difference of {value}, but its figures lie in {low:g} to {high:g}")
    _check_order(interval, place)


def range_of(place: str) -> tuple[float, float]:
    """The range of the figure that a place in the record names, as in ``comparison.figures.mcc.candidate``."""
    return next((_RANGES[part] for part in place.split(".") if part in _RANGES), (0.0, 1.0))


def _check_order(interval: list[float], place: str) -> None:
    if interval and not interval[0] <= interval[1]:
        raise SeqassayError(f"{place}: an interval from {interval[0]} to {interval[1]}")
