"""What a model answered, kept as it answers: a run that was stopped goes on without asking again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqassay.durable import disk_errors
from seqassay.errors import UsageError

FILE = "responses.jsonl"
_FORMAT, _VERSION = "seqassay-harness-responses", "1.0"


class Responses:
    """Answers by what was asked; a JSON line each, after a line that names the model.

    Attributes:
        n_used: requests that an earlier run had answered.
    """

    def __init__(self, path: Path | None, known: dict[str, list[Any]]) -> None:
        self._path = path
        self._known = known
        self.n_used = 0

    @classmethod
    def nowhere(cls) -> Responses:
        """Nothing is kept."""
        return cls(None, {})

    @classmethod
    def open(cls, path: Path, identity: str, *, resume: bool) -> Responses:
        """An empty file, or with ``resume`` the answers of a stopped run.

        Args:
            identity: of the model and of all that changes its answers.

        Raises:
            UsageError: the answers that are there are another model's.
            ResourceError: the disk is full.
        """
        header = json.dumps({"format": _FORMAT, "version": _VERSION, "identity": identity}) + "\n"
        kept, known = header, dict[str, list[Any]]()
        with disk_errors(path=path):
            if resume and path.exists():
                lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
                if lines and lines[0] != header:
                    raise UsageError(
                        f"{path}: its answers are of another model or context",
                        hint="begin again (--force), or choose another --output-dir",
                    )
                for line in lines[1:]:
                    if not line.endswith("\n"):
                        break  # cut off when the run before was stopped: this one is asked again
                    said = json.loads(line)
                    known[said["asked"]] = said["answer"]
                    kept += line
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(kept, encoding="utf-8")
        return cls(path, known)

    def find(self, kind: str, asked: Sequence[tuple[Any, ...]]) -> list[Any]:
        """The answer to each, or None; those that are there count as used."""
        found = [self._known.get(_key(kind, one)) for one in asked]
        self.n_used += sum(answer is not None for answer in found)
        return found

    def add(self, kind: str, answered: Sequence[tuple[tuple[Any, ...], Sequence[Any]]]) -> None:
        """Keep answers, durably.

        Raises:
            ResourceError: the disk is full.
        """
        if self._path is None:
            return
        lines = "".join(json.dumps({"asked": _key(kind, one), "answer": answer}) + "\n" for one, answer in answered)
        with disk_errors(path=self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())


def _key(kind: str, asked: tuple[Any, ...]) -> str:
    return hashlib.sha256(json.dumps([kind, *asked], sort_keys=True, default=str).encode()).hexdigest()
