"""Records as `seqassay report` takes them: read whole, and held against the schema of their kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqassay.errors import InputError, SeqassayError, UsageError
from seqassay.measure.record_files import read_record_file
from seqassay.measure.schema import KINDS, check_schema, schema

Check = Callable[[dict[str, Any], str, Path], None]


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


def check_shape(content: dict[str, Any], kind: str, path: Path) -> None:
    """Hold a record against its schema.

    Raises:
        InputError: names the file and the place.
    """
    try:
        check_schema(content, kind)
    except SeqassayError as error:
        raise InputError(error.message, path=path, hint="make it again, or name another") from error


def read_record(path: Path, check: Check = check_shape) -> Record:
    """Read a record, or the one of a folder.

    Args:
        check: refuses content of a kind that cannot be.

    Raises:
        InputError: not a whole record of a known kind and version, or one with an impossible figure; says where.
    """
    path, content, sha256 = read_record_file(path)
    kind = _kind_of(content, path)
    if kind == "lm_training" and content.get("status") in ("running", "failed"):
        raise InputError(
            f"the training is {content['status']}: there is a page of one that has ended", path=path,
            hint="go on with it: give its `seqassay lm train` command again",
        )  # fmt: skip
    check(content, kind, path)
    return Record(kind, content, path, sha256)


def read_records(paths: Sequence[Path], check: Check = check_shape) -> list[Record]:
    """Read every record once.

    Raises:
        UsageError: one record given twice.
        InputError: see ``read_record``.
    """
    records: list[Record] = []
    for path in paths:
        record = read_record(path, check)
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
