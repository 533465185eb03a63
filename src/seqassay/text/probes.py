"""Probe tasks (SmallBench): JSON lines of four public tasks, read strictly, and their prompts word for word.

Sentiment is SST-2, nli RTE, qa BoolQ, paraphrase MRPC, with the fields of their sources; other fields of a row are
let be. A prompt and each of its two continuations are joined as they are: continuations begin with a space.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from seqassay.errors import InputError, UsageError

TaskName = Literal["sentiment", "nli", "qa", "paraphrase"]


@dataclass(frozen=True, slots=True)
class ProbeTask:
    """What a task's rows look like and how they are asked.

    Attributes:
        name: also that of its file, without ``.jsonl``.
        template: of the prompt, over the text fields.
        fields: that hold text.
        label_field: that holds the label.
        labels: label in the file → index of its continuation.
        continuations: the two that are compared.
        source: the public set that it is.
    """

    name: TaskName
    template: str
    fields: tuple[str, ...]
    label_field: str
    labels: tuple[tuple[str | int | bool, int], ...]
    continuations: tuple[str, str]
    source: str

    def prompt(self, texts: Mapping[str, str]) -> str:
        """The prompt of an item."""
        return self.template.format(**texts)


TASKS: Mapping[str, ProbeTask] = MappingProxyType(
    {
        task.name: task
        for task in (
            ProbeTask(
                "sentiment",
                "Sentence: {sentence}\nSentiment:",
                ("sentence",),
                "label",
                ((1, 0), (0, 1)),
                (" positive", " negative"),
                "SST-2",
            ),
            ProbeTask(
                "nli",
                "Premise: {sentence1}\nHypothesis: {sentence2}\nRelation:",
                ("sentence1", "sentence2"),
                "label",
                (("entailment", 0), ("not_entailment", 1)),
                (" entailment", " not entailment"),
                "RTE",
            ),
            ProbeTask(
                "qa",
                "Passage: {passage}\nQuestion: {question}\nAnswer:",
                ("passage", "question"),
                "answer",
                ((True, 0), (False, 1)),
                (" yes", " no"),
                "BoolQ",
            ),
            ProbeTask(
                "paraphrase",
                "Sentence 1: {sentence1}\nSentence 2: {sentence2}\nParaphrase:",
                ("sentence1", "sentence2"),
                "label",
                ((1, 0), (0, 1)),
                (" yes", " no"),
                "MRPC",
            ),
        )
    }
)


@dataclass(frozen=True, slots=True)
class ProbeItem:
    """One row.

    Attributes:
        id: task, and line of the file from 1: ``qa:17``.
        texts: by field.
        answer: index of the right continuation.
    """

    id: str
    texts: Mapping[str, str]
    answer: int


@dataclass(frozen=True, slots=True)
class ProbeSet:
    """The rows of a task's file, in order."""

    task: ProbeTask
    path: Path
    items: tuple[ProbeItem, ...]

    @property
    def class_counts(self) -> dict[str, int]:
        """Rows by the continuation that is right."""
        counts = Counter(item.answer for item in self.items)
        return {continuation: counts[i] for i, continuation in enumerate(self.task.continuations)}


def read_probes(path: Path, task: ProbeTask) -> ProbeSet:
    """All rows of a JSON lines file.

    Raises:
        InputError: names the file and the line: no JSON object, a field missing, empty or of another type, a label
            that is none, no row at all.
    """
    items = []
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path=path) from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            items.append(_item(line, task, path, number))
        elif number < len(lines):
            raise InputError("the line is empty; every line holds one row", path=path, line=number)
    if not items:
        raise InputError("the file holds no row", path=path)
    return ProbeSet(task, path, tuple(items))


def find_probes(places: list[Path]) -> list[ProbeSet]:
    """The sets in files that are called after a task (``qa.jsonl``), or in folders that hold such files.

    Raises:
        UsageError: a file that is called after no task, or a task twice.
        InputError: a folder without such a file; a bad row.
    """
    paths: list[Path] = []
    for place in places:
        if place.is_dir():
            inside = [place / f"{name}.jsonl" for name in TASKS if (place / f"{name}.jsonl").is_file()]
            if not inside:
                raise InputError("the folder has no file of a task", path=place, hint=_known_files())
            paths += inside
        else:
            paths.append(place)
    sets: dict[str, ProbeSet] = {}
    for path in paths:
        if not path.exists():
            raise InputError("no such file", path=path)
        name = path.name.removesuffix(".jsonl")
        if name not in TASKS:
            raise UsageError(f"{path}: of which task is this?", hint=_known_files())
        if name in sets:
            raise UsageError(f"{path}: the task {name} is given twice", hint=f"the other is {sets[name].path}")
        sets[name] = read_probes(path, TASKS[name])
    return list(sets.values())


def find_shots(one: ProbeSet, place: Path | None = None) -> ProbeSet:
    """The training rows of a task: ``qa.jsonl``, or the only file called ``qa_….jsonl`` (or with ``-`` or ``.``).

    Args:
        place: a folder with such a file, or the file itself, whatever it is called; None: ``train/`` beside the task's
            own file.

    Raises:
        InputError: there is no such file, or there are several; a bad row.
    """
    task = one.task
    folder = place or one.path.parent / "train"
    if place is not None and place.is_file():
        return read_probes(place, task)
    exact = folder / f"{task.name}.jsonl"
    found = sorted(path for sign in "_-." for path in folder.glob(f"{task.name}{sign}*.jsonl") if path != exact)
    if exact.is_file():
        return read_probes(exact, task)
    if len(found) > 1:
        raise InputError(
            f"{len(found)} files could hold the training rows of {task.name}: "
            + ", ".join(path.name for path in found),
            path=folder,
            hint=f"name one: --shots-from {found[0]}",
        )
    if not found:
        raise InputError(
            f"no file {task.name}.jsonl or {task.name}_….jsonl: shots are rows of the training set",
            path=folder,
            hint="name the folder of the training sets, or the file: --shots-from PLACE",
        )
    return read_probes(found[0], task)


def _known_files() -> str:
    return "files are called " + ", ".join(f"{name}.jsonl ({task.source})" for name, task in TASKS.items())


def _item(line: bytes, task: ProbeTask, path: Path, number: int) -> ProbeItem:
    def error(message: str, hint: str = "") -> InputError:
        return InputError(message, path=path, line=number, hint=hint)

    try:
        row: Any = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as fault:
        raise error(f"not UTF-8: byte 0x{line[fault.start]:02x} at byte {fault.start + 1} of the line") from None
    except (ValueError, RecursionError) as fault:
        raise error(f"is not JSON: {fault}") from None
    if not isinstance(row, dict):
        raise error(f"holds a JSON {type(row).__name__}, not an object")
    wanted = (*task.fields, task.label_field)
    missing = [name for name in wanted if name not in row]
    if missing:
        raise error(f"lacks {' and '.join(missing)}", f"a row of {task.name} has {', '.join(wanted)}")
    for name in task.fields:
        if not isinstance(row[name], str):
            raise error(f"{name} is a JSON {type(row[name]).__name__}, not text")
        if not row[name].strip():
            raise error(f"{name} is empty")
    label = row[task.label_field]
    # True == 1 in Python, and a label of another type is another label
    found = [index for known, index in task.labels if type(known) is type(label) and known == label]
    if not found:
        known_labels = ", ".join(json.dumps(known) for known, _ in task.labels)
        raise error(f"{task.label_field} is {json.dumps(label)[:60]}", f"labels of {task.name} are {known_labels}")
    return ProbeItem(f"{task.name}:{number}", {name: row[name] for name in task.fields}, found[0])
