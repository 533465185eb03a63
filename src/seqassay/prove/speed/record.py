"""The record of a speed benchmark, ``metrics.json``: checked here before anything is written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from seqassay.errors import SeqassayError
from seqassay.measure.schema import check_schema
from seqassay.prove.record import figures_in

FORMAT, VERSION = "seqassay-speed", "1.0"
_SHARES = ("share_of_peak", "finite", "packing_efficiency")
_SLACK = 1e-9


def range_of(place: str) -> tuple[float, float]:
    """The range of the figure that a place in the record names: shares to 1, seconds, rates and ratios without end."""
    return (0.0, 1.0) if any(name in _SHARES for name in place.split(".")) else (0.0, math.inf)


def check_record(record: Mapping[str, Any]) -> None:
    """Everything is as the schema has it, every figure in its range and between its extremes, and counts add up.

    Raises:
        SeqassayError: names the figure (a bug here, or a record that was changed).
    """
    check_schema(record, "speed")
    for place, figure in figures_in(record):
        _check_figure(figure, place)
    for role, entry in record["models"].items():
        if entry is None:
            continue
        counted = {"classic": record["settings"]["runs"], "paired": record["settings"]["pairs"]}
        for protocol, n in counted.items():
            times = entry[protocol]
            if times is not None and len(times["samples_s"]) != n:
                raise SeqassayError(f"{role}: {len(times['samples_s'])} {protocol} runs, but {n} were asked for")
        if entry["work"]["sequences"] != record["sequences"]["n"]:
            raise SeqassayError(f"{role} embedded {entry['work']['sequences']} of {record['sequences']['n']} sequences")
    pairs, speed_up = record["pairs"], record["values"]["speed_up"]
    if (pairs is None) and speed_up["value"] is not None:
        raise SeqassayError("a speed-up without pairs")
    if pairs is not None and len(pairs["ratios"]) != record["settings"]["pairs"]:
        raise SeqassayError(f"{len(pairs['ratios'])} ratios, but {record['settings']['pairs']} pairs were asked for")


def _check_figure(figure: Mapping[str, Any], place: str) -> None:
    low, high = range_of(place)
    value, interval = figure["value"], figure.get("interval_95")
    ends = [] if interval is None else interval
    for number in (value, figure.get("min"), figure.get("max"), *ends):
        if number is not None and not low - _SLACK <= number <= high + _SLACK:
            raise SeqassayError(f"{place} came out as {number}, outside {low:g} to {high:g}")
    if value is None:
        if "why_undefined" not in figure and place != "gate":
            raise SeqassayError(f"{place}: undefined without a reason")
        return
    least, most = figure.get("min"), figure.get("max")
    for name, bounds in (("its extremes", (least, most)), ("its own interval", (*ends, None, None)[:2])):
        if None not in bounds and not bounds[0] * (1 - _SLACK) <= value <= bounds[1] * (1 + _SLACK):
            raise SeqassayError(f"{place}: {value} lies outside {name}, {bounds[0]} to {bounds[1]}")
