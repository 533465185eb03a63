"""SmallBench: four probe tasks asked and counted; every item is kept as it is scored, so that a stop loses little."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seqassay.digests import file_sha256
from seqassay.durable import disk_errors
from seqassay.errors import InputError, UsageError
from seqassay.evaluate.continuations import Question, Score, batches_of_questions, score_questions
from seqassay.evaluate.smallbench import accuracy, best, make_questions, mean_accuracy
from seqassay.measure.progress import RunProgress
from seqassay.models.causal_lm import CausalLm
from seqassay.prove.kept_lines import GrowingFile, take_up
from seqassay.prove.lm.settings import LmEvaluateSettings
from seqassay.prove.outputs import METRICS
from seqassay.text.probes import TASKS, ProbeItem, ProbeSet, ProbeTask, find_probes, find_shots
from seqassay.text.tokenizer import TextTokenizer

ITEMS = "smallbench_items.jsonl"
_CHANCE = 0.5  # two continuations
_BETWEEN_SHOTS = "\n\n"


@dataclass(frozen=True, slots=True)
class ScoredItem:
    """One line of the items' file.

    Attributes:
        log_probs: of each continuation, in nats.
        tokens: of each continuation.
        prompt_tokens: that were read; cut_tokens: that did not fit into the context.
        by_average, by_sum: the continuation of the highest log-probability per token, and in all.
    """

    id: str
    answer: int
    log_probs: tuple[float, ...]
    tokens: tuple[int, ...]
    prompt_tokens: int
    cut_tokens: int
    by_average: int
    by_sum: int


def read_sets(settings: LmEvaluateSettings) -> list[ProbeSet]:
    """The probe sets that were asked for."""
    return find_probes([Path(place) for place in settings.probes])


def check_probes(settings: LmEvaluateSettings) -> dict[str, str]:
    """Read all that the probes need, the rows for shots as well; digests of the files, by task.

    Raises:
        UsageError, InputError: a file or rows are missing, or bad.
    """
    sets = read_sets(settings) if settings.asks_probes else []
    training = _training_rows(sets, settings)
    for one in sets:
        _shots(one, training.get(one.task.name), settings)
    digests = {one.task.name: file_sha256(one.path) for one in sets}
    return digests | {f"{name}, shots": file_sha256(rows.path) for name, rows in training.items()}


def run_smallbench(
    model: CausalLm,
    tokenizer: TextTokenizer,
    sets: Sequence[ProbeSet],
    settings: LmEvaluateSettings,
    identity: Mapping[str, Any],
    device: torch.device,
    progress: RunProgress,
    *,
    context_tokens: int,
) -> dict[str, Any]:
    """Ask every task, and count.

    Args:
        identity: of the checkpoint; items of another one are not gone on with.

    Raises:
        InputError: no training rows for the shots, or several files that could hold them.
        UsageError: items of another model, text or setting are there, with --resume.
    """
    asked = {one.task.name: one.items[: settings.max_samples] for one in sets}
    training = _training_rows(sets, settings)
    shots = {one.task.name: _shots(one, training.get(one.task.name), settings) for one in sets}
    about = {
        "checkpoint": identity,
        "sets": {one.task.name: file_sha256(one.path) for one in sets},
        "shots": shots,
        "context_tokens": context_tokens,
    }
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    path = settings.output_dir / ITEMS
    done, file = _begin(path, digest, resume=settings.resume)
    n_resumed = len(done)
    progress.begin_stage("smallbench")
    progress.total_sequences = sum(map(len, asked.values()))
    progress.done_sequences = 0
    with file:
        for one in sets:
            todo = [item for item in asked[one.task.name] if item.id not in done]
            progress.skip_shard(len(asked[one.task.name]) - len(todo))
            prompts = [shots[one.task.name] + one.task.prompt(item.texts) for item in todo]
            asked_for = [(prompt, one.task.continuations) for prompt in prompts]
            questions = make_questions(tokenizer, asked_for, context_tokens)
            for batch in batches_of_questions(questions, settings.batch):
                scores = score_questions(model, [questions[i] for i in batch], device=device)
                scored = [_scored(todo[i], questions[i], found) for i, found in zip(batch, scores, strict=True)]
                done |= {item.id: item for item in scored}
                file.add("".join(json.dumps(asdict(item)) + "\n" for item in scored))
                progress.end_shard(len(batch))
    tasks = {one.task.name: _counted(one, [done[item.id] for item in asked[one.task.name]]) for one in sets}
    return {
        "method": {
            "prompts": {name: TASKS[name].template for name in tasks},
            "continuations": {name: list(TASKS[name].continuations) for name in tasks},
            "prefix": None,
            "shots": settings.shots,
            "shots_seed": settings.shots_seed,
            "shots_files": {
                name: {"path": str(one.path), "sha256": file_sha256(one.path), "rows": len(one.items)}
                for name, one in training.items()
            },
            "context_tokens": context_tokens,
            "truncation": "left, of prompt and continuation together, as lm-evaluation-harness",
            "rule": "the continuation of the higher log-probability per token (average), or in all (sum); ties: first",
            "interval": "Wilson 1927; of the mean over tasks: Zou & Donner 2008",
        },
        "tasks": tasks,
        "average": {
            rule: _mean([task[rule] for task in tasks.values()]) for rule in ("by_average", "by_sum", "majority")
        },
        "items": ITEMS,
        "resumed_items": n_resumed,
    }


def _training_rows(sets: Sequence[ProbeSet], settings: LmEvaluateSettings) -> dict[str, ProbeSet]:
    """Where each task's shots come from.

    Raises:
        UsageError: one file of shots for several tasks.
    """
    if not settings.shots:
        return {}
    if settings.shots_from is not None and settings.shots_from.is_file() and len(sets) > 1:
        raise UsageError(
            f"--shots-from {settings.shots_from}: is one file, and {len(sets)} tasks are asked",
            hint="name a folder with a file for each, or ask one task: --probes FILE",
        )
    return {one.task.name: find_shots(one, settings.shots_from) for one in sets}


def _shots(one: ProbeSet, training: ProbeSet | None, settings: LmEvaluateSettings) -> str:
    """Answered prompts that go before every prompt of a task: rows of its training file, drawn by the seed."""
    if training is None:
        return ""
    asked = [item.texts for item in one.items]
    rows = tuple(row for row in training.items if row.texts not in asked)
    if len(rows) < settings.shots:
        raise InputError(
            f"has {len(rows)} rows that are not asked about, and {settings.shots} shots are wanted", path=training.path
        )
    drawn = np.random.default_rng(settings.shots_seed).choice(len(rows), settings.shots, replace=False)
    return "".join(_answered(one.task, rows[i]) + _BETWEEN_SHOTS for i in drawn)


def _answered(task: ProbeTask, item: ProbeItem) -> str:
    return task.prompt(item.texts) + task.continuations[item.answer]


def _begin(path: Path, digest: str, *, resume: bool) -> tuple[dict[str, ScoredItem], GrowingFile]:
    """Items of an earlier run, where they are to be gone on with, and the file for the others."""
    identity = {"format": "seqassay-smallbench-items", "version": "1.0", "identity": digest}
    of_another = "its items are of another model, other probes, shots or context"
    with disk_errors():
        path.parent.mkdir(parents=True, exist_ok=True)
        items, file = take_up(path, identity, _read_item, resume=resume, of_another=of_another)
        (path.parent / METRICS).unlink(missing_ok=True)  # an earlier record's items these are not
    return {item.id: item for item in items}, file


def _read_item(said: dict[str, Any]) -> ScoredItem:
    """A line of the items' file.

    Raises:
        TypeError, ValueError: it is none that was written here.
    """
    item = ScoredItem(**{**said, "log_probs": tuple(said["log_probs"]), "tokens": tuple(said["tokens"])})
    averages = [value / length for value, length in zip(item.log_probs, item.tokens, strict=True)]
    chosen = (best(averages), best(item.log_probs))
    if not all(map(math.isfinite, item.log_probs)) or (item.by_average, item.by_sum) != chosen:
        raise ValueError("the choices are not those of the log-probabilities")
    return item


def _scored(item: ProbeItem, asked: Question, scores: Sequence[Score]) -> ScoredItem:
    log_probs = tuple(score.log_prob for score in scores)
    lengths = tuple(map(len, asked.continuations))
    averages = [value / length for value, length in zip(log_probs, lengths, strict=True)]
    return ScoredItem(
        item.id,
        item.answer,
        log_probs,
        lengths,
        max(map(len, asked.prompts)),
        asked.n_cut,
        best(averages),
        best(log_probs),
    )


def _counted(one: ProbeSet, items: Sequence[ScoredItem]) -> dict[str, Any]:
    """A task's accuracies, with what a guess and the larger class would have, on the items that were asked."""
    n = len(items)
    classes = Counter(item.answer for item in items)
    largest, n_largest = min(classes.items(), key=lambda pair: (-pair[1], pair[0]))
    return {
        "source": one.task.source,
        "path": str(one.path),
        "sha256": file_sha256(one.path),
        "scope": "whole" if n == len(one.items) else "partial",
        "rows": len(one.items),
        "n": n,
        "by_average": accuracy(sum(item.by_average == item.answer for item in items), n),
        "by_sum": accuracy(sum(item.by_sum == item.answer for item in items), n),
        "chance": _CHANCE,
        "majority": {**accuracy(n_largest, n), "continuation": one.task.continuations[largest]},
        "predicted": {
            continuation: sum(item.by_average == i for item in items)
            for i, continuation in enumerate(one.task.continuations)
        },
        "truncated_prompts": sum(item.cut_tokens > 0 for item in items),
        "cut_tokens": sum(item.cut_tokens for item in items),
    }


def _mean(figures: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    mean, (low, high) = mean_accuracy([(figure["value"], tuple(figure["interval_95"])) for figure in figures])
    return {
        "value": mean,
        "n": sum(figure["n"] for figure in figures),
        "tasks": len(figures),
        "interval_95": [low, high],
    }
