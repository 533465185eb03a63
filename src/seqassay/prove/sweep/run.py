"""One run of a sweep: train, evaluate, and one file that says what it came to.

``run.json`` comes last and is whole or absent: a run that has one is done, and is not done again. Whatever runs the
sweep (one process, several, or Ray's on many machines) does no more than call `run_task` for every task.
"""

from __future__ import annotations

import csv
import errno
import logging
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqassay.durable import disk_errors, write_durably
from seqassay.errors import ResourceError, SeqassayError, StoppedError, UsageError
from seqassay.predict.stop import StopRequested
from seqassay.prove.lm.command import evaluate_lm
from seqassay.prove.sweep.identity import check_same, identity_of
from seqassay.prove.sweep.plan import Task
from seqassay.prove.sweep.results import Run, Status
from seqassay.train.lm import train_lm
from seqassay.train.lm_metrics import METRICS_FILE
from seqassay.train.output_folder import read_json, write_json

RUN_FILE, LOG_FILE, ERROR_FILE = "run.json", "log.txt", "error.txt"

logger = logging.getLogger(__name__)


def run_task(task: Task, files: Mapping[str, Any]) -> None:
    """Train and evaluate, and write ``run.json``; what was begun before goes on.

    An experiment that fails, whatever the reason, is a result: its ``run.json`` says why, the sweep goes on.

    Args:
        files: digests of tokens and tokenizer, for the identity.

    Raises:
        StopRequested: SIGTERM or Ctrl-C; the training has a checkpoint.
        ResourceError: the disk is full, which the next run would meet as well.
    """
    with disk_errors(path=task.folder):
        task.folder.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(task.folder / LOG_FILE, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        package = logging.getLogger("seqassay")
        level = package.level
        package.setLevel(min(logging.INFO, level or logging.INFO))
        package.addHandler(handler)
        try:
            run = _train_and_evaluate(task)
        except StoppedError as error:
            raise StopRequested(error.message) from error
        except Exception as error:  # one experiment's failure, whatever it is, leaves the others
            if is_full_disk(error):
                raise
            write_durably(task.folder / ERROR_FILE, [traceback.format_exc().encode("utf-8", "backslashreplace")])
            run = failed_run(task, words_of(error))
        finally:
            package.removeHandler(handler)
            package.setLevel(level)
            handler.close()
        write_run(task, run, files)


def write_run(task: Task, run: Run, files: Mapping[str, Any]) -> None:
    """Say what a task came to."""
    write_json(task.folder / RUN_FILE, {"identity": identity_of(task, files), "run": run.as_json()})


def read_run(task: Task, files: Mapping[str, Any]) -> Run | None:
    """What a task came to before; None where that is not known, or it failed, and is to be tried again.

    Raises:
        UsageError: its folder holds a run of other settings; names what differs.
    """
    path = task.folder / RUN_FILE
    if not path.is_file():
        return None
    said = read_json(path)
    there = said.get("identity")
    if not isinstance(there, dict):
        raise UsageError(f"{path}: is not the run of a sweep", hint="choose another --output-dir")
    check_same(task, files, there)
    return Run.from_json(said["run"])


def failed_run(task: Task, why: str) -> Run:
    """A run without figures."""
    return _run(task, "failed", why, _planned_figures(task))


def is_full_disk(error: BaseException) -> bool:
    """Whether an error is about the disk, and not about this experiment."""
    if isinstance(error, ResourceError):
        return error.__cause__ is not None and is_full_disk(error.__cause__)
    # Libraries written in Rust or C, and SQLite, give the text alone.
    is_said = any(words in str(error) for words in ("No space left on device", "database or disk is full"))
    return is_said or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


def words_of(error: BaseException) -> str:
    """An error in a line."""
    if isinstance(error, SeqassayError):
        return error.message
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0] if said else 'no message'}"


def curve_of(folder: Path) -> tuple[tuple[int, float], ...]:
    """(training tokens, dev loss) of a training's evaluations so far."""
    path = folder / METRICS_FILE
    if not path.is_file():
        return ()
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["dev_loss"]]
    return tuple((int(row["tokens"]), float(row["dev_loss"])) for row in rows)


def _train_and_evaluate(task: Task) -> Run:
    training = train_lm(task.train, task.model).record
    figures = _planned_figures(task) | _training_figures(task, training["training"])
    if training["killed"] is not None:
        killed = training["killed"]
        why = (
            f"kill rule after {killed['tokens_seen']:,} tokens: dev perplexity {killed['dev_perplexity']:.2f}, the "
            f"baseline's is {killed['baseline_perplexity']:.2f}"
        )
        return _run(task, "killed", why, figures)
    record = evaluate_lm(task.evaluate).record
    return _run(task, "done", None, figures | _evaluation_figures(record))


def _run(task: Task, status: Status, why: str | None, figures: Mapping[str, float | None]) -> Run:
    curve = curve_of(task.train.output_dir)
    return Run(task.experiment, task.axes, task.stage, task.seed, status, why, task.name, figures, curve)


def _planned_figures(task: Task) -> dict[str, float | None]:
    plan = task.model
    embeddings = plan.embedding_ratio * plan.n_params
    return {
        "parameters": plan.n_params,
        "embedding_parameters": round(embeddings),
        "embedding_ratio_achieved": plan.embedding_ratio,
        "glu_expansion_achieved": plan.glu_expansion,
    }


def _training_figures(task: Task, training: Mapping[str, Any]) -> dict[str, float | None]:
    return {
        "tokens_seen": training["tokens_seen"],
        "training_flop": float(training["tokens_seen"]) * task.flop_per_token,
        "training_wall_s": training["wall_s"],
        "training_tokens_per_s": training["tokens_per_s"],
    }


def _evaluation_figures(record: Mapping[str, Any]) -> dict[str, float | None]:
    figures: dict[str, float | None] = {}
    for split in ("valid", "test"):
        values = record["splits"].get(split, {}).get("values", {})
        for ours, theirs in (("loss", "loss"), ("token_perplexity", "token_perplexity"), ("bits_per_byte",) * 2):
            figures[f"{split}_{ours}"] = values.get(theirs, {}).get("value")
    if record["smallbench"] is not None:
        figures["smallbench_by_average"] = record["smallbench"]["average"]["by_average"]["value"]
    return figures
