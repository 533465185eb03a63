"""A gate record (``metrics.json``) as the table on the terminal.

A view only: every number here stands in the record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqassay.report.layout import aligned

_HEADER = ("gate", "record", "figure", "limit", "95% interval", "verdict")
_NOTHING = "–"
_UNSAID = ("the limit is", "the interval straddles")  # reasons that figure, limit and interval already show


def gate_table(record: Mapping[str, Any]) -> str:
    """One line for every gate and record that holds its metric, the reasons that need words, and all verdicts."""
    rows, notes = [_HEADER], []
    for gate in record["gates"]:
        for result in gate["results"] or ({"verdict": gate["verdict"], "reason": gate["reason"]},):
            rows.append(
                (
                    gate["name"],
                    result.get("record", _NOTHING),
                    _number(result.get("value")),
                    gate["rule"],
                    _interval(result),
                    result["verdict"],
                )
            )
            if not result["reason"].startswith(_UNSAID):
                notes.append(f"{gate['name']}: {result['reason']}")
    return "\n".join([*aligned(rows), "", *dict.fromkeys(notes), *([""] if notes else []), verdict_line(record)])


def verdict_line(record: Mapping[str, Any]) -> str:
    """The verdict over all gates, with how many came out how."""
    counted = ", ".join(f"{n} {verdict}" for verdict, n in record["counts"].items() if n)
    return f"{record['verdict']}: of {len(record['gates'])} gates {counted}"


def _interval(result: Mapping[str, Any]) -> str:
    if result.get("value") is None:
        return _NOTHING
    interval = result["interval_95"]
    return "none: by value" if interval is None else f"{_number(interval[0])} to {_number(interval[1])}"


def _number(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:.6g}"
