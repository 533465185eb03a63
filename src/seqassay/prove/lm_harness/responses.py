"""What a model answered, kept as it answers: a run that was stopped goes on without asking again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from seqassay.prove.kept_lines import GrowingFile, take_up

FILE = "responses.jsonl"
_FORMAT, _VERSION = "seqassay-harness-responses", "2.0"
_DIGITS = 64  # of a SHA-256
_ANSWERS: dict[str, tuple[type, ...]] = {
    "loglikelihood": (float, bool, int),  # nats, greedy or not, tokens of the prompt that were left out
    "loglikelihood_rolling": (float,),
    "generate_until": (str, int),
}


class Responses:
    """Answers by what was asked; a JSON line each, after a line that names the model.

    Attributes:
        n_used: requests that an earlier run had answered.
    """

    def __init__(self, file: GrowingFile | None, known: dict[str, list[Any]]) -> None:
        self._file = file
        self._known = known
        self.n_used = 0

    @classmethod
    def nowhere(cls) -> Responses:
        """Nothing is kept."""
        return cls(None, {})

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path, identity: str, *, resume: bool) -> Iterator[Responses]:
        """An empty file, or with ``resume`` the answers of a stopped run.

        Args:
            identity: of the model and of all that changes its answers.

        Raises:
            UsageError: the answers that are there are another model's.
            InputError: a line is damaged.
            ResourceError: the disk is full.
        """
        header = {"format": _FORMAT, "version": _VERSION, "identity": identity}
        answers, file = take_up(
            path, header, _read_answer, resume=resume, of_another="its answers are of another model or context"
        )
        with file:
            yield cls(file, dict(answers))

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
        if self._file is not None:
            lines = (json.dumps({"asked": _key(kind, one), "answer": answer}) + "\n" for one, answer in answered)
            self._file.add("".join(lines))


def _key(kind: str, asked: tuple[Any, ...]) -> str:
    digest = hashlib.sha256(json.dumps([kind, *asked], sort_keys=True, default=str).encode()).hexdigest()
    return f"{kind} {digest}"


def _read_answer(said: dict[str, Any]) -> tuple[str, list[Any]]:
    """What was asked, and the answer.

    Raises:
        KeyError, TypeError, ValueError: it is none that was written here.
    """
    asked, answer = said["asked"], said["answer"]
    kind, digest = asked.split(" ")
    types = tuple(map(type, answer))
    if types != _ANSWERS[kind] or len(digest) != _DIGITS or (types[0] is float and not math.isfinite(answer[0])):
        raise ValueError("no answer to such a request")
    return asked, answer
