"""`seqassay lm harness`: the steps from a checkpoint and names of tasks to a record."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from lm_eval.evaluator import evaluate

from seqassay.config import settings_as_json
from seqassay.digests import file_sha256
from seqassay.durable import disk_errors
from seqassay.errors import ResourceError, SeqassayError, StoppedError, is_out_of_memory
from seqassay.measure.progress import RunProgress
from seqassay.measure.provenance import device_name, provenance, utc_now
from seqassay.predict.stop import StopRequested
from seqassay.prove.lm.inputs import Checkpoint, chosen_context, open_on_device
from seqassay.prove.lm_harness.adapter import SeqassayLM
from seqassay.prove.lm_harness.record import (
    FORMAT,
    KIND,
    VERSION,
    check_record,
    group_figures,
    items_of,
    task_figures,
)
from seqassay.prove.lm_harness.responses import FILE, Responses
from seqassay.prove.lm_harness.settings import LmHarnessSettings
from seqassay.prove.lm_harness.tasks import first_line, load_tasks, probe_files
from seqassay.prove.outputs import METRICS, check_place, write_report_and_record
from seqassay.report.lm_harness import lm_harness_report
from seqassay.train.output_folder import only_writer

REPORT, ITEMS = "lm_harness.md", "harness_items.jsonl"


@dataclass(frozen=True, slots=True)
class LmHarness:
    """A finished run: its record (``metrics.json``), and the folder it is in."""

    record: dict[str, Any]
    folder: Path


def run_harness(settings: LmHarnessSettings, *, progress: RunProgress | None = None) -> LmHarness:
    """Load the tasks, ask the model, have the harness count, and write the outputs.

    Raises:
        UsageError: settings that cannot work, an unknown task, or something in the output folder's way.
        InputError: a task's data cannot be had.
        ModelError: a checkpoint that cannot be used.
        LmGuardError: a log-probability that is no number.
        StoppedError: SIGTERM or Ctrl-C; answers so far are kept.
        ResourceError: out of memory, or the disk is full.
    """
    progress = progress or RunProgress(unit="requests")
    began = time.monotonic()
    _check_place(settings)
    checkpoint, device = open_on_device(settings.checkpoint, settings.device, settings.threads)
    context = chosen_context(settings.context, checkpoint.folder.model.config.context)
    try:
        with disk_errors(), _quiet_libraries():
            progress.begin_stage("loading tasks")
            tasks = load_tasks(settings)
    except StopRequested as stop:
        raise StoppedError(f"stopped by {stop}; nothing was asked yet", hint="run it again") from None
    with disk_errors(), only_writer(settings.output_dir):
        _check_place(settings)  # again: another command may have written there meanwhile
        with _kept_answers(settings, checkpoint, context) as responses:
            (settings.output_dir / METRICS).unlink(missing_ok=True)  # an earlier record's answers these are not
            model = SeqassayLM(
                checkpoint, context_tokens=context, batch_tokens=settings.batch, device=device, responses=responses,
                progress=progress,
            )  # fmt: skip
            progress.begin_work()
            progress.begin_stage("asking")
            with _quiet_libraries():
                results = _evaluated(model, tasks, settings)
            record = _record(settings, checkpoint, context, model, results, responses, device)
            record["wall_s"] = round(time.monotonic() - began, 3)
            check_record(record)
            items = (f"{json.dumps(item, ensure_ascii=False)}\n".encode() for item in items_of(results))
            write_report_and_record(settings.output_dir, REPORT, lm_harness_report(record), record, {ITEMS: items})
    return LmHarness(record, settings.output_dir)


@contextmanager
def _kept_answers(settings: LmHarnessSettings, checkpoint: Checkpoint, context: int) -> Iterator[Responses]:
    """Answers of a stopped run, and those to come; whatever ends this one, they stay and its error says so.

    Raises:
        UsageError, InputError: the answers that are there cannot be gone on with.
        StoppedError: SIGTERM or Ctrl-C.
    """
    said = {name: value for name, value in checkpoint.identity().items() if name != "path"}
    identity = json.dumps({"checkpoint": said, "context_tokens": context}, sort_keys=True)
    path = settings.output_dir / FILE
    kept = f"the answers so far are in {path}"
    again = "go on with the same command and --resume (in place of --force)"
    with Responses.open(path, hashlib.sha256(identity.encode()).hexdigest(), resume=settings.resume) as responses:
        try:
            yield responses
        except StopRequested as stop:
            raise StoppedError(f"stopped by {stop}; {kept}", hint=again) from None
        except ResourceError as error:
            raise ResourceError(error.message, hint=f"{error.hint}; {kept}: {again}") from error


def _check_place(settings: LmHarnessSettings) -> None:
    """Find what is in the way of the outputs; what a stopped run left is named as such."""
    folder = settings.output_dir
    is_stopped = (folder / FILE).exists() and not (folder / METRICS).exists()
    check_place(
        folder, force=settings.force, what="run of the harness", resume=settings.resume, is_interrupted=is_stopped
    )


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Only errors of the harness and of its data sets' package are shown: the rest would cover the progress line."""
    loggers = [logging.getLogger(name) for name in ("lm_eval", "lm-eval", "datasets")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _evaluated(model: SeqassayLM, tasks: dict[str, Any], settings: LmHarnessSettings) -> dict[str, Any]:
    """What the harness counts."""
    for task in tasks["tasks"].values():
        if settings.shots is not None:
            task.set_config(key="num_fewshot", value=settings.shots)
        elif task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=settings.seed)
    try:
        results: dict[str, Any] = evaluate(
            lm=model, task_dict=tasks, limit=settings.limit, bootstrap_iters=1000, log_samples=True
        )
    except Exception as error:  # a task's own code raises what it likes
        if isinstance(error, SeqassayError | OSError):
            raise
        if not is_out_of_memory(error):
            raise SeqassayError(
                f"the harness ended with {first_line(error)}",
                hint="a task's own code or templates may be at fault: does each task run alone, with --limit 1?",
            ) from error
        raise ResourceError(
            f"out of memory with a batch of {settings.batch:,} tokens", hint="give a smaller one: --batch"
        ) from error
    return results


def _record(
    settings: LmHarnessSettings,
    checkpoint: Checkpoint,
    context: int,
    model: SeqassayLM,
    results: Mapping[str, Any],
    responses: Responses,
    device: torch.device,
) -> dict[str, Any]:
    prefix = checkpoint.tokenizer.prefix
    tasks = task_figures(results)
    return {
        "format": FORMAT,
        "version": VERSION,
        "kind": KIND,
        "written_at": utc_now(),
        "identity": {
            "checkpoint": checkpoint.identity(),
            "probes": {str(path): file_sha256(path) for path in probe_files(settings)},
        },
        "settings": settings_as_json(settings),
        "method": {
            "harness": metadata.version("lm-eval"),
            "context_tokens": context,
            "truncation": "left, of prompt and continuation together",
            "prefix": None if prefix is None else prefix.text,
            "seed": settings.seed,
            "standard_error": "the harness's, over rows: exact for means, else 1,000 bootstrap draws",
        },
        "device": device_name(device),
        "tasks": tasks,
        "groups": group_figures(results),
        "requests": {
            "n": model.n_requests,
            "resumed": responses.n_used,
            "truncated": model.truncated,
            "cut_tokens": model.cut_tokens,
        },
        "items": ITEMS,
        "notes": _notes(tasks, model, checkpoint),
        "provenance": provenance(),
    }


def _notes(tasks: Mapping[str, Any], model: SeqassayLM, checkpoint: Checkpoint) -> list[str]:
    notes = []
    if checkpoint.is_untrained:
        notes.append("the model is untrained: its weights are the first ones of its seed")
    for name, task in tasks.items():
        if task["scope"] == "partial":
            notes.append(f"{name}: partial, the first {task['n']:,} of {task['rows']:,} rows were asked")
        notes += [
            f"{name}: {metric['name']} is {metric['reason']}" for metric in task["metrics"] if metric["value"] is None
        ]
    if model.truncated:
        notes.append(
            f"prompts longer than the context: {model.truncated:,} of {model.n_requests:,} requests; "
            f"{model.cut_tokens:,} tokens were left out at their beginnings"
        )
    return notes
