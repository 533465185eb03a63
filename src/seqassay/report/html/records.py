"""Records as `seqassay report` takes them: read whole, and held against the schema of their kind."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from seqassay.errors import InputError, SeqassayError, UsageError
from seqassay.measure.schema import KINDS, check_schema, schema

FILE_NAMES = ("metrics.json", "run.json")


@dataclass(frozen=True, slots=True)
class Record:
    """A record, and where it is."""

    kind: str
    content: dict[str, Any]
    path: Path
    sha256: str = ""

    @property
    def folder(self) -> Path:
        """Where its command's other files are."""
        return self.path.parent

    @property
    def name(self) -> str:
        """What its command was told to call the output folder: the same wherever the folder is now."""
        given = self.content.get("output_dir") or self.content.get("settings", {}).get("output_dir") or ""
        return Path(str(given)).name or "record"


def read_record(path: Path) -> Record:
    """Read a record, or the one of a folder.

    Raises:
        InputError: not a whole record of a known kind and version, or one with an impossible figure; says where.
    """
    if path.is_dir():
        held = [path / name for name in FILE_NAMES if (path / name).is_file()]
        if len(held) != 1:
            found = "both" if held else "neither"
            raise InputError(f"holds {found} of {' and '.join(FILE_NAMES)}: name the record itself", path=path)
        path = held[0]
    try:
        data = path.read_bytes()
        content = json.loads(data, parse_constant=_refuse)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path=path) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"is no whole record: {error}", path=path, hint="write it again, or name another") from error
    kind = _kind_of(content, path)
    try:
        check_schema(content, kind)
    except SeqassayError as error:
        raise InputError(error.message, path=path, hint="make it again, or name another") from error
    return Record(kind, content, path, hashlib.sha256(data).hexdigest())


def read_records(paths: Sequence[Path]) -> list[Record]:
    """Read every record once.

    Raises:
        UsageError: one record given twice.
        InputError: see ``read_record``.
    """
    records: list[Record] = []
    for path in paths:
        record = read_record(path)
        if record.sha256 in {other.sha256 for other in records}:
            raise UsageError(f"{path}: is the same record as one before it", hint="name every record once")
        records.append(record)
    return records


def _kind_of(content: Any, path: Path) -> str:
    kinds = {schema(kind)["properties"]["format"]["const"]: kind for kind in KINDS}
    said = content.get("format") if isinstance(content, dict) else None
    if not isinstance(said, str) or said not in kinds:
        raise InputError(
            f"is no record of a known kind (its format is {said!r})",
            path=path,
            hint=f"known: {', '.join(kinds)}",
        )
    versions = schema(kinds[said])["properties"]["version"]["enum"]
    if content.get("version") not in versions:
        raise InputError(
            f"is of version {content.get('version')!r}; read here: {', '.join(versions)}",
            path=path,
            hint="make it again",
        )
    return kinds[said]


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")
