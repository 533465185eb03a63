"""What the figures of a sweep's run depend on: by content and never by place, so that a folder may be moved or copied.

A run in the folder is taken up where all of this is the same; anything else is refused, and what differs is named.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from seqassay.config import settings_as_json
from seqassay.errors import UsageError
from seqassay.prove.lm.settings import LmEvaluateSettings
from seqassay.prove.sweep.plan import Task
from seqassay.train.lm import TRAINING_FILE, check_baseline
from seqassay.train.lm_kill import read_baseline
from seqassay.train.lm_start import identity_of_settings
from seqassay.train.output_folder import read_json

FORM = 2  # 1 had the places of probes, settings of profiling, and of the baseline the name alone
# What changes no figure but those of time, and what is known by its content.
_FREE = frozenset(
    {
        "tokens", "inputs", "output_dir", "checkpoint", "device", "threads", "loggers", "tracking", "experiment",
        "run_name", "tags", "force", "resume", "baseline", "checkpoint_steps", "checkpoint_minutes", "run_id",
    }
)  # fmt: skip
# Finalists are profiled together, and `profile.json` has the settings of that; no run has a figure of them.
_FREE_OF_EVALUATION = _FREE | {
    field.name
    for field in dataclasses.fields(LmEvaluateSettings)
    if field.name.startswith(("latency_", "throughput_", "scaling_", "memory_"))
    or (field.name.startswith("skip_") and field.name != "skip_smallbench")
}
_PLACES_OF_PROBES = ("probes", "shots_from")
_HINT = "give the same settings to go on, choose another --output-dir, or begin again with --force"


def identity_of(task: Task, files: Mapping[str, Any]) -> dict[str, Any]:
    """What a task's figures depend on, as JSON types.

    Args:
        files: digests of tokens, tokenizer and probes.
    """
    train = {k: v for k, v in settings_as_json(task.train).items() if k not in _FREE}
    evaluate = {k: v for k, v in settings_as_json(task.evaluate).items()
                if k not in _FREE_OF_EVALUATION and k not in _PLACES_OF_PROBES}  # fmt: skip
    said = {
        "form": FORM, "experiment": task.experiment, "stage": task.stage, "seed": task.seed,
        "baseline": _baseline(task), "model": asdict(task.model.config), "train": train, "evaluate": evaluate,
        **{name: found for name, found in files.items() if name != "probes" or task.stage == "final"},
    }  # fmt: skip
    as_written: dict[str, Any] = json.loads(json.dumps(said))  # sets of shapes are tuples here, lists in a file
    return as_written


def check_same(task: Task, files: Mapping[str, Any], there: Mapping[str, Any]) -> None:
    """A finished run is of this task.

    Args:
        there: the identity in its ``run.json``.

    Raises:
        UsageError: it is of other settings, files, or another baseline; names what differs.
    """
    here = identity_of(task, files)
    if "form" not in there:
        there = _of_form_1(task, here, there)
    ours, theirs = here["baseline"], there.get("baseline")
    if _name(ours) != _name(theirs):
        raise UsageError(
            f"{task.folder}: holds a run of other settings: the baseline is {_name(theirs) or 'itself'} there, "
            f"{_name(ours) or 'itself'} here",
            hint=_HINT,
        )
    if isinstance(ours, dict) and isinstance(theirs, dict) and ours != theirs:
        if theirs["curve_sha256"] is not None and ours["curve_sha256"] is not None:
            raise UsageError(
                f"{task.folder}: was held against another curve of the baseline {task.baseline!r} than the one in "
                f"{task.train.baseline}",
                hint="bring that curve back (metrics.csv), choose another --output-dir, or begin again with --force",
            )
        there = {**there, "baseline": ours}  # one of the two had no curve to be ended by: what is finished is whole
    if there != here:
        name, ours, theirs = _difference(here, there)
        raise UsageError(
            f"{task.folder}: holds a run of other settings: {name} is {_short(theirs)} there, {_short(ours)} here",
            hint=_HINT,
        )


def begun_as(task: Task, files: Mapping[str, Any], *, against_baseline: bool = True) -> Task:
    """The task, as its unfinished training was begun: one that had no baseline's curve goes on without it.

    Args:
        against_baseline: look at the baseline too; False as long as that has no curve.

    Raises:
        UsageError: the training is of other settings, files, or another baseline; names what differs.
    """
    folder = task.train.output_dir
    path = folder / TRAINING_FILE
    if not path.is_file():
        return task
    there = read_json(path).get("identity")
    if not isinstance(there, dict):
        raise UsageError(f"{path}: is not the record of a language model's training", hint="choose another folder")
    here = json.loads(json.dumps({
        **identity_of_settings(task.train), "model": asdict(task.model.config), "tokenizer": files["tokenizer"],
        **{f"{split}_tokens": files["tokens"][split] for split in ("train", "valid") if split in files["tokens"]},
    }))  # fmt: skip
    ours = here.pop("baseline")
    for name, value in here.items():
        if there.get(name) != value:
            where, mine, theirs = _difference({name: value}, {name: there.get(name)})
            raise UsageError(
                f"{folder}: holds a training of other settings: {where} is {_short(theirs)} there, {_short(mine)} here",
                hint=_HINT,
            )
    if against_baseline and there.get("baseline") is None and ours is not None:
        return dataclasses.replace(task, train=dataclasses.replace(task.train, baseline=None))
    if against_baseline:
        check_baseline(folder, there.get("baseline"), ours, task.train.baseline)
    return task


def _baseline(task: Task) -> dict[str, str | None] | None:
    if task.baseline is None:
        return None
    curve = None if task.train.baseline is None else read_baseline(task.train.baseline).sha256
    return {"experiment": task.baseline, "curve_sha256": curve}


def _name(baseline: Any) -> str | None:
    return baseline["experiment"] if isinstance(baseline, dict) else None


def _of_form_1(task: Task, here: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, Any]:
    """An identity of the first form in today's, as far as it says enough for that."""
    evaluate = {k: v for k, v in there.get("evaluate", {}).items() if k not in _FREE_OF_EVALUATION}
    found = {**there, "form": FORM}
    asked = settings_as_json(task.evaluate)
    if all(evaluate.get(name) == asked[name] for name in _PLACES_OF_PROBES):
        evaluate = {k: v for k, v in evaluate.items() if k not in _PLACES_OF_PROBES}
        found |= {"probes": here["probes"]} if "probes" in here else {}
    if there.get("baseline") is not None:
        found["baseline"] = {"experiment": there["baseline"], "curve_sha256": None}
    return {**found, "evaluate": evaluate}


def _difference(here: Any, there: Any, path: str = "") -> tuple[str, Any, Any]:
    """The first setting that differs, with its two values."""
    if not (isinstance(here, dict) and isinstance(there, dict)):
        return path, here, there
    name = next(key for key in [*here, *there] if here.get(key) != there.get(key))
    return _difference(here.get(name), there.get(name), f"{path}.{name}" if path else name)


def _short(value: object) -> str:
    """A value; of a digest its first places."""
    text = str(value)
    is_digest = len(text) == 64 and not set(text) - set("0123456789abcdef")
    return f"{text[:12]}…" if is_digest else text
