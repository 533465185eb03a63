"""Where a sweep stands, read from its folders: the same for every engine."""

from __future__ import annotations

import csv
import threading
from collections.abc import Sequence
from types import TracebackType

from seqassay.measure.progress import RunProgress
from seqassay.prove.sweep.plan import Task
from seqassay.prove.sweep.run import RUN_FILE
from seqassay.train.lm_metrics import METRICS_FILE

_EVERY_S = 2.0


class Watch:
    """Keeps a `RunProgress` up to date from a thread of its own while a stage runs.

    Tokens are counted, not runs: a final one takes many times as long as one of the ranking. One that was killed or
    failed counts as a whole one.

    Args:
        before: tokens of the stages before this one.
        total: tokens of the whole sweep, as far as is known.
    """

    def __init__(self, progress: RunProgress, stage: str, tasks: Sequence[Task], *, before: int, total: int) -> None:
        self._progress, self._stage, self._tasks, self._before = progress, stage, tasks, before
        self._open = list(tasks)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        progress.total_sequences = total

    def __enter__(self) -> Watch:
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._ended.set()
        self._thread.join(5)
        self._look()

    def _run(self) -> None:
        while not self._ended.wait(_EVERY_S):
            self._look()

    def _look(self) -> None:
        self._open = [task for task in self._open if not (task.folder / RUN_FILE).is_file()]
        n_done = len(self._tasks) - len(self._open)
        tokens = self._before + sum(task.n_tokens for task in self._tasks) - sum(task.n_tokens for task in self._open)
        running = []
        for task in self._open:
            row = _last_row(task)
            if row is None:
                continue
            tokens += min(task.n_tokens, row[0])
            seed = f" seed {task.seed}" if task.stage == "final" else ""
            loss = "" if row[1] is None else f" dev loss {row[1]:.3f}"
            running.append(f"{task.experiment}{seed}{loss}")
        said = f", {'; '.join(running)}" if running and self._open else ""
        self._progress.stage = f"{self._stage}, {n_done} of {len(self._tasks)} done{said}"
        self._progress.done_sequences = tokens


def _last_row(task: Task) -> tuple[int, float | None] | None:
    """Training tokens and the last dev loss of a training that has begun; None where none has."""
    path = task.train.output_dir / METRICS_FILE
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if None not in row.values()]
    except OSError:
        return None
    if not rows:
        return None
    losses = [row["dev_loss"] for row in rows if row["dev_loss"]]
    return int(rows[-1]["tokens"]), float(losses[-1]) if losses else None
