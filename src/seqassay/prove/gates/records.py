"""Records that figures are taken from: reading them whole, and finding a figure at its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqassay.errors import InputError, UsageError
from seqassay.measure.record_files import read_record_file
from seqassay.prove.gates.criteria import KINDS, range_of
from seqassay.prove.record_checks import check_content

# What the items of a record's lists go by.
_ITEM_NAMES = ("level", "stage", "group", "shape")
_WITH_INTERVAL_BESIDE = ("viral_share", "drop")
_SLACK = 1e-9


@dataclass(frozen=True, slots=True)
class Record:
    """A record that was read whole and checked."""

    path: Path
    kind: str
    sha256: str
    content: dict[str, Any]

    def identity(self) -> dict[str, Any]:
        """What a gate record says of it."""
        return {
            "path": str(self.path),
            "kind": self.kind,
            "format": self.content["format"],
            "version": self.content["version"],
            "sha256": self.sha256,
            "written_at": self.content["written_at"],
            "command": self.content["provenance"]["command"],
        }


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a record; ``value`` is None where the record has it as undefined."""

    value: float | None
    interval: tuple[float, float] | None
    n: int | None
    exact: str | None  # the fraction that ``value`` is rounded from, where the record has it
    is_difference: bool
    range: tuple[float, float]
    why: str  # why there is no value or no interval, as far as the record says


def read_record(path: Path) -> Record:
    """Read a record, or the one of a folder.

    Raises:
        InputError: not a whole record of a known kind and version, or one with a figure that cannot be.
    """
    path, content, sha256 = read_record_file(path)
    kind = _kind_of(content, path)
    check_content(content, kind, path)
    if kind == "run" and content["status"] != "done":
        raise InputError(
            f"the run is {content['status']}: only a finished one can be judged", path=path, hint="resume it first"
        )
    return Record(path, kind, sha256, content)


def read_records(paths: list[Path]) -> list[Record]:
    """Read every record once.

    Raises:
        UsageError: one record given twice would be judged twice.
        InputError: see ``read_record``.
    """
    records: list[Record] = []
    for path in paths:
        record = read_record(path)
        twin = next((other for other in records if other.sha256 == record.sha256), None)
        if twin is not None:
            raise UsageError(f"{record.path}: is the same record as {twin.path}", hint="name every record once")
        records.append(record)
    return records


def find(record: Record, path: str) -> Figure | None:
    """The figure at a place; None where the record has no such place.

    Items of lists go by their level, stage, group or shape, or by their number from 0.

    Raises:
        InputError: what stands there is no figure, or one outside its possible range.
    """
    parent, found, name = _walk(record.content, path)
    if parent is None:
        return None
    if name in ("value", "difference") and isinstance(parent, Mapping) and "interval_95" in parent:
        found, path = parent, path.rpartition(".")[0]
    if isinstance(found, Mapping) and ("value" in found or "difference" in found):
        form = "value" if "value" in found else "difference"
        entry, value = found, found[form]
    elif found is None or (isinstance(found, (int, float)) and not isinstance(found, bool)):
        form, value = "difference" if name == "drop" else "number", found
        entry = parent if name in _WITH_INTERVAL_BESIDE and isinstance(parent, Mapping) else {}
    else:
        below = ", ".join(map(str, found)) if isinstance(found, Mapping) else type(found).__name__
        raise InputError(f"{path} is no figure; there is: {below}", path=record.path)
    interval = entry.get("interval_95")
    figure = Figure(
        value,
        (interval[0], interval[1]) if interval and None not in interval else None,
        entry.get("n"),
        entry.get("exact"),
        form == "difference",
        range_of(record.kind, path, form),
        entry.get("why_undefined") or entry.get("why_no_interval") or "",
    )
    _check(record, path, figure)
    return figure


def _check(record: Record, path: str, figure: Figure) -> None:
    low, high = figure.range
    for number in (figure.value, *(figure.interval or ())):
        if number is not None and not low - _SLACK <= number <= high + _SLACK:
            raise InputError(f"{path} is {number}, outside {low:g} to {high:g}", path=record.path)


def _walk(content: dict[str, Any], path: str) -> tuple[Any, Any, str]:
    """What holds the place, what stands there, and its last name; nothing holds a place that is not there."""
    parent: Any = None
    here: Any = content
    for name in path.split("."):
        parent = here
        if isinstance(here, Mapping) and name in here:
            here = here[name]
        elif isinstance(here, list):
            named = [item for item in here if isinstance(item, Mapping) and name in map(item.get, _ITEM_NAMES)]
            if not named and name.isdecimal() and int(name) < len(here):
                named = [here[int(name)]]
            if not named:
                return None, None, name
            here = named[0]
        else:
            return None, None, name
    return parent, here, path.rpartition(".")[2]


def _kind_of(content: Any, path: Path) -> str:
    formats = {name: (kind, versions) for kind, (name, versions) in KINDS.items()}
    if not isinstance(content, dict) or content.get("format") not in formats:
        said = content.get("format") if isinstance(content, dict) else None
        known = "metrics.json of `evaluate`, `compare`, `benchmark` and `lm evaluate`, and run.json of `predict`"
        raise InputError(f"is no record that a gate can be set on (its format is {said!r})", path=path, hint=known)
    kind, versions = formats[content["format"]]
    if content.get("version") not in versions:
        raise InputError(
            f"is of version {content.get('version')!r}; read here: {', '.join(versions)}",
            path=path,
            hint="make it again",
        )
    return kind
