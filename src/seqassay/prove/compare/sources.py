"""What is compared: the folder of a run with its result files, one result file, or a file of embeddings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seqassay.engine.embedding_files import SUFFIXES
from seqassay.errors import InputError
from seqassay.models.bundle import file_sha256
from seqassay.predict.folder import RUN_RECORD
from seqassay.predict.record import RECORD_FORMAT
from seqassay.prove.compare.identity import Identity, identity_of_run
from seqassay.prove.compare.tables import TABLE_OF, Level, level_of

_PICKLED = (".pt", ".pth", ".pkl")
_FINISH_IT = "compare finished runs only: go on with it (the same command with --resume) first"


@dataclass(frozen=True, slots=True)
class Source:
    """One side.

    Attributes:
        side: "A" or "B".
        kind: ``run`` (a folder), ``result file`` or ``embeddings``.
        tables: result files by what their rows are about; none for embeddings.
        sha256: what the run recorded of its result files, by name.
        run: what ``run.json`` says, where there is one that vouches for the files.
    """

    side: str
    path: Path
    kind: str
    tables: dict[Level, Path] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)
    identity: Identity = field(default_factory=Identity)
    run: Mapping[str, Any] | None = None

    def check_unchanged(self, path: Path, sha256: str) -> None:
        """Refuse a result file that is not the one that its run wrote.

        Raises:
            InputError: it was changed since.
        """
        if self.sha256.get(path.name, sha256) != sha256:
            raise InputError("was changed since its run wrote it (another SHA-256 than in run.json)", path=path)


def open_source(side: str, path: Path) -> Source:
    """What lies at a path; no rows are read yet.

    A result file that lies beside the ``run.json`` of the run that wrote it, byte for byte, has that run's identity.

    Raises:
        InputError: nothing that can be compared; says why.
    """
    if path.is_dir():
        return _run_folder(side, path)
    if not path.exists():
        raise InputError("no such file or folder", path=path)
    if path.suffix in SUFFIXES:
        return Source(side, path, "embeddings")
    if path.suffix in _PICKLED:
        raise InputError(
            "pickled files are not read: they can run any program", path=path,
            hint=f"embeddings are compared from {', '.join(SUFFIXES)}, as `seqassay embed` writes them",
        )  # fmt: skip
    tables = {level_of(path): path}
    record = _record_beside(path)
    if record is None:
        return Source(side, path, "result file", tables)
    return Source(side, path, "result file", tables, identity=identity_of_run(record), run=record)


def common_levels(a: Source, b: Source) -> list[Level]:
    """What can be compared of two sides, frames first; none for embeddings.

    Raises:
        InputError: nothing can.
    """
    levels = [level for level in a.tables if level in b.tables]
    if not levels and not a.kind == b.kind == "embeddings":
        has = [", ".join(source.tables) or source.kind for source in (a, b)]
        raise InputError(
            f"nothing to compare: A ({a.path}) holds {has[0]}, B ({b.path}) holds {has[1]}",
            hint="give two runs, two result files of one kind, a run and a result file, or two files of embeddings",
        )
    return levels


def _run_folder(side: str, folder: Path) -> Source:
    record = _read_record(folder / RUN_RECORD)
    try:
        if record["status"] != "done":
            raise InputError(f"the run is not finished: its status is {record['status']!r}", path=folder / RUN_RECORD,
                             hint=_FINISH_IT)  # fmt: skip
        sha256 = {output["name"]: output["sha256"] for output in record["outputs"]}
        identity = identity_of_run(record)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"not the record of a run: {error!r}", path=folder / RUN_RECORD) from error
    tables: dict[Level, Path] = {level: folder / name for level, name in TABLE_OF.items()}
    for path in tables.values():
        if not path.is_file():
            raise InputError("this result file of the finished run is gone", path=path, hint="make it again: --force")
    return Source(side, folder, "run", tables, sha256, identity, record)


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(
            f"holds no {RUN_RECORD}: it is no run of `seqassay predict`, or one that has not begun", path=path.parent,
            hint=f"of another program's results name the file itself, such as {path.parent / TABLE_OF['frames']}",
        ) from error  # fmt: skip
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path=path) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"is not JSON: {error}", path=path) from error
    if not isinstance(record, dict) or record.get("format") != RECORD_FORMAT:
        raise InputError(f"not the record of a run (its format is not {RECORD_FORMAT!r})", path=path)
    if not str(record.get("version", "")).startswith("1."):
        raise InputError(f"is of version {record.get('version')!r}; 1.x is read here", path=path)
    return record


def _record_beside(path: Path) -> dict[str, Any] | None:
    """The record of the run that wrote this very file; None where there is none to be sure of."""
    if not (path.parent / RUN_RECORD).is_file():
        return None
    try:
        record = _read_record(path.parent / RUN_RECORD)
        written = {output["name"]: output["sha256"] for output in record["outputs"]}
        identity_of_run(record)
    except (InputError, KeyError, TypeError, AttributeError):
        return None
    return record if written.get(path.name) == file_sha256(path) else None
