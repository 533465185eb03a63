"""Runs of a sweep by Ray Tune, on this machine or on a cluster (Liaw et al. 2018).

A trial is one task. Ray decides where and when; the sweep's folder, which every machine has to see, holds all that
counts, so that a trial that Ray starts again, on whatever machine, goes on from its checkpoint.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from seqassay.errors import ResourceError, SeqassayError, UsageError, require_package
from seqassay.measure.progress import RunProgress
from seqassay.predict.stop import StopRequested
from seqassay.prove.sweep.engines import OnDone, told
from seqassay.prove.sweep.plan import Task
from seqassay.prove.sweep.run import RUN_FILE, failed_run, write_run

RAY_FOLDER = "ray"
_OBJECT_STORE_BYTES = 128 * 2**20  # nothing large goes through it
_RETRIES = 1  # of a trial whose process or machine is lost
Result = TypeVar("Result")


class RayTune:
    """One Ray session for all stages of a sweep."""

    def __init__(self, *, jobs: int | None, threads: int, device: str, address: str | None, folder: Path) -> None:
        require_package("ray", extra="sweep", purpose="--engine ray")
        # Ray reads these when it is imported or started.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # runs have logs of their own
        os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C is the sweep's
        import ray

        self._jobs, self._threads, self._folder = jobs, threads, folder
        more: dict[str, Any] = {"address": address}
        if address is None:
            more = {
                "num_cpus": max(os.cpu_count() or 1, threads * (jobs or 1)),
                "object_store_memory": _OBJECT_STORE_BYTES,
                "include_dashboard": False,
            }
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **more)
        except Exception as error:  # Ray raises Exception itself
            ray.shutdown()
            what = "cannot be started" if address is None else f"cannot be reached at {address}"
            raise SeqassayError(
                f"Ray {what}: {str(error).strip().splitlines()[0]}",
                hint="Ray gives up after 30 s, which a busy machine may need longer than: try again, or --engine local",
            ) from error
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():  # Ray's own end the process without a word
                signal.signal(number, handler)
        n_gpus = ray.cluster_resources().get("GPU", 0)  # type: ignore[no-untyped-call]
        self._gpus = 0 if device == "cpu" else int(min(1, n_gpus))
        if device.startswith("cuda") and not self._gpus:
            ray.shutdown()
            raise UsageError(f"--device is {device}; the Ray cluster has no GPU", hint="leave it out, or add a GPU")

    def run(self, tasks: Sequence[Task], files: Mapping[str, Any], on_done: OnDone) -> None:
        """See `engines.Engine.run`."""
        from ray import tune

        if not tasks:
            return
        by_name = {task.name: _anywhere(task) for task in tasks}

        class Told(tune.Callback):
            """Tells of trials as they end; Ray writes it to disk as well, where it has nobody to tell."""

            def __init__(self, tell: OnDone) -> None:
                self._tell: OnDone | None = tell

            def __getstate__(self) -> dict[str, Any]:
                return {"_tell": None}

            def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
                task = by_name[trial.config["task"]]
                if self._tell is not None and (task.folder / RUN_FILE).is_file():
                    self._tell(task)

        trainable = tune.with_resources(
            tune.with_parameters(_trial, tasks=by_name, files=dict(files)), {"cpu": self._threads, "gpu": self._gpus}
        )
        tuner = tune.Tuner(
            trainable,
            param_space={"task": tune.grid_search(list(by_name))},
            tune_config=tune.TuneConfig(
                max_concurrent_trials=self._jobs, trial_dirname_creator=lambda trial: trial.trial_id
            ),
            run_config=tune.RunConfig(
                name=tasks[0].stage,
                storage_path=str(self._folder / RAY_FOLDER),
                failure_config=tune.FailureConfig(max_failures=_RETRIES),
                callbacks=[Told(on_done)],
                verbose=0,
            ),
        )
        with _stops():
            grid = tuner.fit()
        for number in range(len(grid)):
            result = grid[number]
            task = by_name[(result.config or {})["task"]]
            kind, message, hint = (result.metrics or {}).get("told") or ("", "", "")
            if kind:
                raise (ResourceError if kind == "full" else SeqassayError)(message, hint=hint)
            if not (task.folder / RUN_FILE).is_file():
                why = str(result.error).strip().splitlines()[-1] if result.error else "its trial ended without a word"
                write_run(task, failed_run(task, why), files)
                on_done(task)

    def call(self, do: Callable[[RunProgress], Result], progress: RunProgress) -> Result:
        """See `engines.Engine.call`: where the trials run, which may be another machine."""
        import ray

        del progress  # it is of this process
        remote: Any = ray.remote(num_cpus=self._threads, num_gpus=self._gpus)(_call)
        with _stops():
            found: Result = ray.get(remote.remote(do))
        return found

    def close(self) -> None:
        """End the session; what runs in it is lost back to its last checkpoint."""
        import ray

        ray.shutdown()


@contextlib.contextmanager
def _stops() -> Iterator[None]:
    """A stop that Ray's compiled part has wrapped into a SystemError comes out as itself."""
    try:
        yield
    except SystemError as error:
        if isinstance(error.__cause__, StopRequested):
            raise error.__cause__ from None
        raise


def _anywhere(task: Task) -> Task:
    """The task with whole paths: a trial works in a folder of its own."""
    asked = task.evaluate
    shots_from = None if asked.shots_from is None else asked.shots_from.absolute()
    inputs, probes = (tuple(str(Path(place).absolute()) for place in places) for places in (asked.inputs, asked.probes))
    evaluate = dataclasses.replace(asked, inputs=inputs, probes=probes, shots_from=shots_from)
    train = dataclasses.replace(task.train, tokens=task.train.tokens.absolute())
    return dataclasses.replace(task, train=train, evaluate=evaluate)


def _trial(config: Mapping[str, Any], *, tasks: Mapping[str, Task], files: Mapping[str, Any]) -> None:
    from ray import tune

    tune.report({"told": told(tasks[config["task"]], files)})


def _call(do: Callable[[RunProgress], Result]) -> Result:
    return do(RunProgress(unit="runs"))
