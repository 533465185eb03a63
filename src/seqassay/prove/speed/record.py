"""The record of a speed benchmark, ``metrics.json``: checked here before anything is written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from seqassay.errors import SeqassayError
from seqassay.measure.schema import check_schema
from seqassay.prove.record import check_figure_of_runs, figures_in

FORMAT, VERSION = "seqassay-speed", "1.0"
_SHARES = ("share_of_peak", "finite", "packing_efficiency")


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
        check_figure_of_runs(figure, place, range_of(place), needs_reason=place != "gate")
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
