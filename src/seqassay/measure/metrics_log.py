"""Metrics as they come: kept by name and place, with mean, least and greatest; JSONL history and a JSON summary."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from seqassay.errors import SeqassayError

Label = str | int


class MetricsLog:
    """Rows of numbers, each with labels that say what they are of, such as a part and a shape.

    What a summary says is worked out from the rows, so that history and summary can't differ.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        self._rows: list[dict[str, Any]] = []
        for row in rows:
            self.add(row["values"], **row["labels"])

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, values: Mapping[str, float], **labels: Label) -> None:
        """Keep a row.

        Raises:
            SeqassayError: a value that is no finite number; it is not kept.
        """
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                place = ", ".join(f"{key} {label}" for key, label in labels.items())
                raise SeqassayError(f"{name} came out as {value}{f' ({place})' if place else ''}: it is no figure")
        self._rows.append({"labels": dict(labels), "values": dict(values)})

    def extend(self, other: MetricsLog) -> None:
        """Keep another log's rows after those here."""
        self._rows += other.rows()

    def rows(self, **labels: Label) -> list[dict[str, Any]]:
        """Rows with these labels (and any others), in the order they came."""
        return [row for row in self._rows if labels.items() <= row["labels"].items()]

    def values(self, name: str, **labels: Label) -> list[float]:
        """Every value of a metric in rows with these labels."""
        return [row["values"][name] for row in self.rows(**labels) if name in row["values"]]

    def figure(self, name: str, **labels: Label) -> dict[str, Any]:
        """Mean of a metric with n, standard deviation, least and greatest; one value has no deviation.

        Raises:
            SeqassayError: there is no value.
        """
        found = self.values(name, **labels)
        if not found:
            raise SeqassayError(f"no value of {name} was kept for {labels}")
        return _figure(found)

    def summary(self, *, by: Iterable[str]) -> list[dict[str, Any]]:
        """Figures of all metrics, for each combination of these labels."""
        groups: dict[tuple[tuple[str, Label], ...], dict[str, list[float]]] = {}
        by = tuple(by)
        for row in self._rows:
            group = groups.setdefault(tuple((key, row["labels"][key]) for key in by if key in row["labels"]), {})
            for name, value in row["values"].items():
                group.setdefault(name, []).append(value)
        return [
            {**dict(labels), **{name: _figure(values) for name, values in group.items()}}
            for labels, group in groups.items()
        ]

    def history(self) -> bytes:
        """JSONL: one line a row, labels first."""
        lines = (json.dumps({**row["labels"], **row["values"]}, allow_nan=False) for row in self._rows)
        return "".join(f"{line}\n" for line in lines).encode()

    def summary_json(self, *, by: Iterable[str]) -> bytes:
        """`summary` as JSON."""
        return (json.dumps(self.summary(by=by), indent=1, allow_nan=False) + "\n").encode()


def _figure(values: list[float]) -> dict[str, Any]:
    found = np.asarray(values, np.float64)
    return {
        "value": math.fsum(values) / len(values),
        "n": len(values),
        "sd": float(found.std(ddof=1)) if len(values) > 1 else None,
        "min": float(found.min()),
        "max": float(found.max()),
    }
