"""Runs of a sweep on this machine: in this process one after the other, or several at a time in processes of their own.

Ray's is in `ray_engine`. Whichever it is, a task is done by `run_task` with the same settings and number of threads, so
that the figures are the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch

from seqassay.errors import ResourceError, SeqassayError
from seqassay.measure.progress import RunProgress
from seqassay.predict.stop import StopRequested, stop_on_signals
from seqassay.prove.sweep.plan import Task
from seqassay.prove.sweep.run import RUN_FILE, failed_run, is_full_disk, run_task, write_run

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

_PATIENCE_S = 60.0  # for a checkpoint, after SIGTERM

OnDone = Callable[[Task], None]
Result = TypeVar("Result")


class Engine(Protocol):
    """What runs tasks."""

    def run(self, tasks: Sequence[Task], files: Mapping[str, Any], on_done: OnDone) -> None:
        """Every task has its ``run.json`` at the end.

        Args:
            on_done: called for each as it ends, in this process.

        Raises:
            StopRequested: SIGTERM or Ctrl-C; what runs has a checkpoint.
            ResourceError: the disk is full.
        """

    def call(self, do: Callable[[RunProgress], Result], progress: RunProgress) -> Result:
        """Do something where tasks are done, when none is."""

    def close(self) -> None:
        """End what was started."""


class InProcess:
    """One after the other, here: nothing to start, nothing to install."""

    def call(self, do: Callable[[RunProgress], Result], progress: RunProgress) -> Result:
        """See `Engine.call`."""
        return do(progress)

    def run(self, tasks: Sequence[Task], files: Mapping[str, Any], on_done: OnDone) -> None:
        """See `Engine.run`."""
        for task in tasks:
            run_task(task, files)
            on_done(task)

    def close(self) -> None:
        """Nothing was started."""


@dataclass
class _Worker:
    """A process that runs one task after the other, and the task that it has."""

    process: SpawnProcess
    pipe: Connection
    slot: int
    task: Task | None = None


@dataclass
class Processes:
    """Several at a time, each worker in a process of its own that does many tasks.

    A worker that dies (killed for its memory, say) takes its task with it, and no other: another takes its place.

    Attributes:
        jobs: workers.
    """

    jobs: int
    _workers: list[_Worker] = field(default_factory=list)

    def run(self, tasks: Sequence[Task], files: Mapping[str, Any], on_done: OnDone) -> None:
        """See `Engine.run`."""
        waiting = list(reversed(tasks))
        try:
            for slot in range(len(self._workers), min(self.jobs, len(tasks))):
                self._start(slot)
            for worker in self._workers:
                self._give(worker, waiting, files)
            while busy := {worker.pipe: worker for worker in self._workers if worker.task is not None}:
                for pipe in wait(list(busy)):
                    worker = busy[pipe]  # type: ignore[index]
                    task = worker.task
                    assert task is not None
                    worker.task = None
                    worker = self._end_of_task(worker, task, files)
                    on_done(task)
                    self._give(worker, waiting, files)
        except BaseException:
            self.close()
            raise

    def call(self, do: Callable[[RunProgress], Result], progress: RunProgress) -> Result:
        """See `Engine.call`: in this process, when the workers are gone."""
        self.close()
        return do(progress)

    def close(self) -> None:
        """End the workers; one that trains writes a checkpoint first."""
        for worker in self._workers:
            if worker.task is not None:
                worker.process.terminate()
            worker.pipe.close()
        for worker in self._workers:
            worker.process.join(_PATIENCE_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers = []

    def _end_of_task(self, worker: _Worker, task: Task, files: Mapping[str, Any]) -> _Worker:
        """What the worker says of its task; the worker, or the one in its place."""
        try:
            said = worker.pipe.recv()
        except EOFError:
            worker.process.join()
            self._workers.remove(worker)
            if not (task.folder / RUN_FILE).is_file():
                write_run(task, failed_run(task, _death(worker.process.exitcode)), files)
            return self._start(worker.slot)
        if said is None:
            return worker
        kind, message, hint = said
        if kind == "stopped":
            raise StopRequested(message)
        raise (ResourceError if kind == "full" else SeqassayError)(message, hint=hint)

    def _give(self, worker: _Worker, waiting: list[Task], files: Mapping[str, Any]) -> None:
        if waiting:
            worker.task = waiting.pop()
            worker.pipe.send((_on_slot(worker.task, worker.slot), dict(files)))

    def _start(self, slot: int) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs,), name=f"sweep-{slot}", daemon=True)
        process.start()
        theirs.close()
        worker = _Worker(process, ours, slot)
        self._workers.append(worker)
        return worker


def local_engine(jobs: int) -> Engine:
    """In this process, or in as many as there are jobs."""
    return InProcess() if jobs == 1 else Processes(jobs)


def _on_slot(task: Task, slot: int) -> Task:
    """The task on the CUDA device of its worker, where there are several."""
    n_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if n_devices < 2 or task.train.device not in ("auto", "cuda"):
        return task
    device = f"cuda:{slot % n_devices}"
    train = dataclasses.replace(task.train, device=device)
    return dataclasses.replace(task, train=train, evaluate=dataclasses.replace(task.evaluate, device=device))


def _work(pipe: Connection) -> None:
    """The body of a worker: tasks from a pipe until it is closed."""
    os.setsid()  # Ctrl-C on the terminal is for the sweep, which tells its workers
    _follow_parent()
    with contextlib.suppress(StopRequested, BrokenPipeError, EOFError):
        while True:
            task, files = pipe.recv()
            with stop_on_signals():
                pipe.send(told(task, files))


def told(task: Task, files: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Do a task in a process that cannot raise errors in the sweep's: kind, message and hint of one, or None."""
    try:
        run_task(task, files)
    except StopRequested as stop:
        return "stopped", str(stop), ""
    except SeqassayError as error:
        return ("full" if is_full_disk(error) else "failed"), error.message, error.hint
    return None


def _follow_parent() -> None:
    """When the sweep is gone, however it went, this process stops as after SIGTERM: with a checkpoint."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _death(status: int | None) -> str:
    if status is not None and status < 0:
        name = signal.Signals(-status).name
        return f"its process was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"its process ended with exit code {status}"
