"""Tasks of a run: the harness's own, those of folders, and SmallBench's four as the harness defines tasks."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
from lm_eval.tasks import TaskManager

from seqassay.errors import InputError, SeqassayError, UsageError
from seqassay.prove.lm_harness.settings import LmHarnessSettings
from seqassay.text.probes import TASKS, ProbeSet, find_probes, find_shots

GROUP = "smallbench"
_PREFIX = f"{GROUP}_"


def load_tasks(settings: LmHarnessSettings) -> dict[str, Any]:
    """The tasks that were named, with their data, as `lm_eval.evaluate` takes them.

    Raises:
        UsageError: a task that is known nowhere, or SmallBench without its files.
        InputError: a task's data cannot be had.
    """
    for folder in settings.include:
        if not folder.is_dir():
            raise InputError("no such folder", path=folder)
    of_the_harness = [name for name in settings.tasks if not _is_smallbench(name)]
    manager = TaskManager(  # its own tasks are 14,000 files to look through
        include_path=[str(folder) for folder in settings.include] or None, include_defaults=bool(of_the_harness)
    )
    sets = _asked_sets(settings)
    if settings.shots and settings.shots_from is not None and settings.shots_from.is_file() and len(sets) > 1:
        raise UsageError(
            f"--shots-from {settings.shots_from}: is one file, and {len(sets)} tasks are asked",
            hint="name a folder with a file for each, or ask one task: --tasks smallbench_qa",
        )
    probes = {f"{_PREFIX}{one.task.name}": probe_task(one, settings) for one in sets}
    known = {*manager.all_tasks, *probes, GROUP}
    specs: list[Any] = []
    for name in settings.tasks:
        if _is_smallbench(name):
            specs += _of_smallbench(name, probes, settings.probes)
        elif name in known or Path(name).suffix in (".yaml", ".yml"):
            specs.append(name)
        else:
            near = difflib.get_close_matches(name, known, n=3)
            raise UsageError(
                f"--tasks: {name} is no task that the harness knows",
                hint=f"did you mean {' or '.join(near)}?" if near else "folders of your own tasks: --include FOLDER",
            )
    loaded: dict[str, Any] = {}
    for spec in specs:
        name = spec["task"] if isinstance(spec, dict) else spec
        for part, found in _load(manager, spec, name).items():
            loaded.setdefault(part, {}).update(found)
    return loaded


def _load(manager: Any, spec: Any, name: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = manager.load([spec])
    except SeqassayError:
        raise
    except Exception as error:  # data sets' code raises what it likes
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        raise InputError(
            f"the task {name} cannot be loaded: {first_line(error)}",
            hint="its data come from the Hugging Face Hub, once: is it reachable, and the task's extra package there?",
        ) from error
    return found


def first_line(error: Exception) -> str:
    """What another package's error says, in a line."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


def _of_smallbench(name: str, probes: Mapping[str, dict[str, Any]], places: Sequence[str]) -> list[dict[str, Any]]:
    if not places:
        raise UsageError(
            f"--tasks {name} needs the rows of its tasks", hint="name their folder, or a file: --probes PLACE"
        )
    if name == GROUP:
        return list(probes.values())
    if name not in probes:
        raise UsageError(
            f"--tasks: {name} has no rows in --probes {' '.join(places)}",
            hint=f"tasks are {', '.join(f'{_PREFIX}{task}' for task in TASKS)}, with a file each",
        )
    return [probes[name]]


def _is_smallbench(name: str) -> bool:
    return name == GROUP or name.startswith(_PREFIX)


def probe_files(settings: LmHarnessSettings) -> list[Path]:
    """The files of SmallBench that a run reads."""
    sets = _asked_sets(settings)
    shots = [find_shots(one, settings.shots_from) for one in sets] if settings.shots else []
    return [one.path for one in (*sets, *shots)]


def _asked_sets(settings: LmHarnessSettings) -> list[ProbeSet]:
    """The sets of SmallBench's tasks that are named, or all of the group."""
    if not settings.probes or not any(map(_is_smallbench, settings.tasks)):
        return []
    sets = find_probes([Path(place) for place in settings.probes])
    return [one for one in sets if GROUP in settings.tasks or f"{_PREFIX}{one.task.name}" in settings.tasks]


def probe_task(one: ProbeSet, settings: LmHarnessSettings) -> dict[str, Any]:
    """A SmallBench task as the harness defines tasks: the same prompts, rows of local files, no network."""
    template = one.task.template
    for name in one.task.fields:
        template = template.replace(f"{{{name}}}", f"{{{{{name}}}}}")
    wants_shots = bool(settings.shots)
    return {
        "task": f"{_PREFIX}{one.task.name}",
        "custom_dataset": _reader(one, find_shots(one, settings.shots_from) if wants_shots else None),
        "output_type": "multiple_choice",
        "test_split": "test",
        "training_split": "train" if wants_shots else None,
        "fewshot_split": "train" if wants_shots else None,
        "doc_to_text": template,
        "doc_to_choice": list(one.task.continuations),
        "doc_to_target": "answer_index",
        "target_delimiter": "",  # continuations begin with their space
        "metric_list": [
            {"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")
        ],
        "metadata": {"version": 1.0},
    }


def _reader(one: ProbeSet, shots: ProbeSet | None) -> Callable[..., Any]:
    def read(**_: Any) -> Any:
        parts = {"test": one} if shots is None else {"test": one, "train": shots}
        return datasets.DatasetDict(
            {name: datasets.Dataset.from_list([_row(item) for item in part.items]) for name, part in parts.items()}
        )

    def _row(item: Any) -> dict[str, Any]:
        return {**item.texts, "answer_index": item.answer, "id": item.id}

    return read
