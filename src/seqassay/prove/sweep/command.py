"""`seqassay lm sweep`: rank every experiment, train the best again with several seeds, and decide."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import shlex
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import util
from pathlib import Path
from typing import Any

import torch

from seqassay.config import settings_as_json
from seqassay.durable import TEMPORARY_SUFFIX, disk_errors
from seqassay.engine.precision import resolve_device
from seqassay.errors import ResourceError, StoppedError, UsageError
from seqassay.measure.progress import RunProgress
from seqassay.measure.provenance import device_name, provenance, utc_now
from seqassay.prove.lm.smallbench import check_probes
from seqassay.prove.sweep.config import SweepConfig, read_config
from seqassay.prove.sweep.decide import decide
from seqassay.prove.sweep.engines import Engine, local_engine
from seqassay.prove.sweep.identity import begun_as
from seqassay.prove.sweep.outputs import OUTPUTS, write_outputs
from seqassay.prove.sweep.plan import Planned, Task, evaluation_of, plan_sweep, task_of
from seqassay.prove.sweep.profile import PROFILE_FILE, profile_finalists
from seqassay.prove.sweep.record import FORMAT, KIND, SWEEP_FILE, VERSION, check_record
from seqassay.prove.sweep.results import Run, Stage
from seqassay.prove.sweep.run import ERROR_FILE, RUN_FILE, read_run
from seqassay.prove.sweep.selection import Selection, select_finalists
from seqassay.prove.sweep.settings import SweepSettings
from seqassay.prove.sweep.starts import STARTS_FILE, Starts
from seqassay.prove.sweep.tables import summarise
from seqassay.prove.sweep.watch import Watch
from seqassay.text.token_files import TokenFiles, open_token_files
from seqassay.train.lm_loggers import beginning_errors, mlflow_experiment, require_loggers
from seqassay.train.lm_settings import LoggerName
from seqassay.train.output_folder import only_writer, write_json

STAGES: tuple[Stage, ...] = ("ranking", "final")
TRACKING_FILE, MLFLOW_EXPERIMENT = "mlflow.db", "seqassay-sweep"
_OURS = frozenset({SWEEP_FILE, PROFILE_FILE, STARTS_FILE, TRACKING_FILE, "mlruns", "ray", *STAGES, *OUTPUTS})

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sweep:
    """A sweep that ended: its record (``sweep.json``), and the folder it is in."""

    record: dict[str, Any]
    folder: Path


@dataclass
class _Work:
    """What the steps of one sweep share."""

    settings: SweepSettings
    config: SweepConfig
    planned: tuple[Planned, ...]
    tokens: TokenFiles
    files: Mapping[str, Any]
    engine: Engine
    more: Mapping[str, Any]
    progress: RunProgress
    starts: Starts
    runs: list[Run] = field(default_factory=list)

    def task(self, planned: Planned, stage: Stage, seed: int, **more: Any) -> Task:
        """One training, with what all of them share."""
        tags = (f"stage={stage}", f"seed={seed}", f"experiment={planned.name}",
                *(f"{axis}={value}" for axis, value in planned.experiment.axes.items()))  # fmt: skip
        return task_of(
            self.config, planned, stage, seed, self.tokens.folder, self.settings.output_dir.absolute(),
            run_name=f"{stage} {planned.name} seed {seed}", tags=tags, **self.more, **more,
        )  # fmt: skip


def plan_only(settings: SweepSettings) -> tuple[SweepConfig, tuple[Planned, ...]]:
    """What a sweep would train; nothing is written.

    Raises:
        InputError: the file, an experiment without a plan, or the tokens; names the line.
    """
    config = read_config(settings.config)
    return config, plan_sweep(config, open_token_files(_tokens(settings, config)))


def sweep_lm(settings: SweepSettings, *, progress: RunProgress | None = None) -> Sweep:
    """Plan, rank, choose, train the finalists, decide, and write the outputs; goes on with what is in the folder.

    Raises:
        InputError: the file, an experiment without a plan, or the tokens; nothing was trained.
        UsageError: something is in the way in the output folder.
        StoppedError: experiments failed; the others are finished and judged.
        StopRequested: SIGTERM or Ctrl-C; finished runs are kept, the others have checkpoints.
        ResourceError: the disk is full; what is finished is kept.
    """
    began_s = time.monotonic()
    try:
        record = _sweep(settings, progress or RunProgress(unit="tokens"), began_s)
    except ResourceError as error:
        hint = f"{error.hint}; the same command goes on" if error.hint else "the same command goes on"
        raise ResourceError(error.message, hint=hint) from error
    failed = record["failed"]
    if failed:
        raise StoppedError(
            f"{len(failed)} of {len(record['runs'])} runs failed, the others are finished and judged: "
            + "; ".join(f"{one['run']}: {one['why']}" for one in failed),
            hint=f"the same command tries them again; the record is {settings.output_dir / SWEEP_FILE}",
        )
    return Sweep(record, settings.output_dir)


def _sweep(settings: SweepSettings, progress: RunProgress, began_s: float) -> dict[str, Any]:
    """The steps of a sweep; returns its record."""
    config, planned = plan_only(settings)
    tokens = open_token_files(_tokens(settings, config))
    loggers = _loggers(settings)
    folder = settings.output_dir
    with disk_errors(path=folder):
        _check_folder(folder)
        with contextlib.ExitStack() as stack:
            stack.enter_context(only_writer(folder))
            if settings.force:
                _clear(folder)
            starts = stack.enter_context(Starts(folder, began_s))
            engine = stack.enter_context(contextlib.closing(_engine(settings)))
            work = _Work(
                settings, config, planned, tokens, _digests(tokens, config), engine, _shared(settings, loggers),
                progress, starts,
            )  # fmt: skip
            _check_begun(work)
            work.progress.begin_work()
            if "mlflow" in loggers:
                uri = f"sqlite:///{folder.absolute() / TRACKING_FILE}"
                with beginning_errors("mlflow"):
                    mlflow_experiment(uri, MLFLOW_EXPERIMENT)  # before several processes want to make it
                logger.info("live: mlflow ui --backend-store-uri %s", shlex.quote(uri))
            _rank(work)
            selection = select_finalists(work.runs, config.axes, config.baseline)
            _write(work, selection)
            finals = _train_finalists(work, selection)
            _profile(work, finals)
            return _write(work, selection, is_finished=True)


def _check_begun(work: _Work) -> None:
    """What the folder holds of any experiment is of this file and these tokens, before hours of training."""
    protocol = work.config.protocol
    seeds: dict[Stage, tuple[int, ...]] = {"ranking": (protocol.ranking_seed,), "final": protocol.final_seeds}
    for stage in STAGES:
        for planned, seed in itertools.product(work.planned, seeds[stage]):
            task = work.task(planned, stage, seed)
            if read_run(task, work.files) is None:
                begun_as(task, work.files, against_baseline=False)


def _rank(work: _Work) -> None:
    """The baseline first: the others are ended by the kill rule against its curve."""
    protocol, baseline = work.config.protocol, work.config.baseline
    seed = protocol.ranking_seed
    first = next(one for one in work.planned if one.name == baseline)
    tasks = [work.task(first, "ranking", seed)]
    curve = str(tasks[0].train.output_dir)
    _run_stage(work, "ranking the baseline", tasks, n_finalists=None)
    done = work.runs[0].status == "done"
    if not done:
        logger.warning("the baseline's ranking failed: no experiment can be ended by the kill rule")
    others = [one for one in work.planned if one.name != baseline]
    more = {"baseline": curve} if done else {}
    _run_stage(work, "ranking", [work.task(one, "ranking", seed, **more) for one in others], n_finalists=None)


def _train_finalists(work: _Work, selection: Selection) -> list[tuple[Task, Run]]:
    by_name = {one.name: one for one in work.planned}
    seeds = work.config.protocol.final_seeds
    # One seed of all before the next of any: a sweep that is stopped has pairs to compare.
    tasks = [work.task(by_name[name], "final", seed) for seed in seeds for name in selection.finalists]
    runs = _run_stage(work, "final", tasks, n_finalists=len(selection.finalists))
    return list(zip(tasks, runs, strict=True))


def _profile(work: _Work, finals: Sequence[tuple[Task, Run]]) -> None:
    """Speed and memory of the finalists, measured together when nothing else of the sweep runs."""
    settings = evaluation_of(
        work.config.evaluate, work.tokens.folder, device=work.settings.device, threads=work.more["threads"]
    )
    measure = functools.partial(profile_finalists, finals, settings, work.settings.output_dir.absolute())
    measured = work.engine.call(measure, work.progress)
    work.runs = [run for run in work.runs if run.stage != "final"] + measured


def _run_stage(work: _Work, name: str, tasks: Sequence[Task], *, n_finalists: int | None) -> list[Run]:
    """Do what is not done yet, and take up what all of them came to."""
    found = {task.name: read_run(task, work.files) for task in tasks}
    todo = [task for task in tasks if (run := found[task.name]) is None or run.status == "failed"]
    todo = [begun_as(task, work.files) for task in todo]
    for task in todo:
        (task.folder / RUN_FILE).unlink(missing_ok=True)
        (task.folder / ERROR_FILE).unlink(missing_ok=True)
    protocol = work.config.protocol
    # As long as the finalists are not chosen: the baseline, one an axis, and the best of all.
    n = min(len(work.planned), len(work.config.axes) + 2) if n_finalists is None else n_finalists
    total = len(work.planned) * protocol.ranking_tokens + n * len(protocol.final_seeds) * protocol.final_tokens
    before = sum(protocol.ranking_tokens if run.stage == "ranking" else protocol.final_tokens for run in work.runs)
    with Watch(work.progress, name, tasks, before=before, total=total):
        work.progress.resumed_sequences += sum(
            task.n_tokens for task in tasks if task.name not in {one.name for one in todo}
        )
        work.engine.run(todo, work.files, lambda task: _say(work, task))
    runs = [_run_of(work, task) for task in tasks]
    work.runs += runs
    return runs


def _run_of(work: _Work, task: Task) -> Run:
    run = read_run(task, work.files)
    assert run is not None  # `Engine.run` sees to it
    return run


def _say(work: _Work, task: Task) -> None:
    run = _run_of(work, task)
    loss = run.figures["valid_loss"]
    told = "" if loss is None else f", valid loss {loss:.4f}, perplexity {run.figures['valid_token_perplexity']:.2f}"
    logger.info("%s: %s%s%s", run.name, run.status, told, f" ({run.why})" if run.why else "")


def _write(work: _Work, selection: Selection, *, is_finished: bool = False) -> dict[str, Any]:
    """Record, tables, pictures and report, as far as the sweep is."""
    config = work.config
    decision = decide(work.runs, config.baseline, margin=config.protocol.margin) if is_finished else None
    failed = [{"run": run.name, "why": run.why, "folder": run.folder} for run in work.runs if run.status == "failed"]
    record = {
        "format": FORMAT,
        "version": VERSION,
        "kind": KIND,
        "status": "done" if is_finished else "running",
        "written_at": utc_now(),
        "settings": settings_as_json(work.settings),
        "config": config.as_json(),
        "identity": dict(work.files),
        "baseline": config.baseline,
        "axes": {name: list(values) for name, values in config.axes.items()},
        "experiments": [one.as_json() for one in work.planned],
        "runs": [run.as_json() for run in work.runs],
        "summary": summarise(work.runs),
        "selection": selection.as_json(),
        "decision": None if decision is None else decision.as_json(),
        "failed": failed,
        "device": device_name(resolve_device(work.settings.device)),
        "provenance": provenance(),
        **work.starts.said(),
        "notes": _notes(work),
    }
    check_record(record)
    write_json(work.settings.output_dir / SWEEP_FILE, record)
    write_outputs(record, work.settings.output_dir)
    return record


def _notes(work: _Work) -> list[str]:
    notes = []
    killed = [run.name for run in work.runs if run.status == "killed"]
    if killed:
        notes.append(f"ended by the kill rule, and left out of the choice: {', '.join(killed)}")
    return notes


def _tokens(settings: SweepSettings, config: SweepConfig) -> Path:
    tokens = settings.tokens or config.protocol.tokens
    if tokens is None:
        raise UsageError(f"{config.path}: names no tokens", hint="write tokens: FOLDER into it, or give --tokens")
    return tokens


def _digests(files: TokenFiles, config: SweepConfig) -> dict[str, Any]:
    splits = files.manifest["splits"]
    return {
        "tokenizer": files.tokenizer_digest,
        "tokens": {name: split["files"]["tokens"]["sha256"] for name, split in splits.items()},
        "probes": check_probes(evaluation_of(config.evaluate, files.folder)),
    }


def _engine(settings: SweepSettings) -> Engine:
    if settings.engine == "local":
        return local_engine(_jobs(settings))
    from seqassay.prove.sweep.ray_engine import RayTune

    return RayTune(
        jobs=settings.jobs, threads=_threads(settings), device=settings.device, address=settings.ray_address,
        folder=settings.output_dir.absolute(),
    )  # fmt: skip


def _jobs(settings: SweepSettings) -> int:
    on_cuda = resolve_device(settings.device).type == "cuda" and settings.device in ("auto", "cuda")
    return settings.jobs or (torch.cuda.device_count() if on_cuda else 1)


def _threads(settings: SweepSettings) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return settings.threads or max(1, cores // _jobs(settings))


def _shared(settings: SweepSettings, loggers: tuple[LoggerName, ...]) -> dict[str, Any]:
    """Settings of `lm train` that all trainings of a sweep have."""
    return {
        "device": settings.device,
        "threads": _threads(settings),
        "loggers": loggers,
        "tracking": str(settings.output_dir.absolute() / TRACKING_FILE) if "mlflow" in loggers else None,
        "experiment": MLFLOW_EXPERIMENT,
    }


def _loggers(settings: SweepSettings) -> tuple[LoggerName, ...]:
    if settings.loggers is not None:
        require_loggers(settings.loggers)
        return settings.loggers
    return ("mlflow",) if util.find_spec("mlflow") is not None else ()


def _check_folder(folder: Path) -> None:
    """The folder is absent, empty, or a sweep's.

    Raises:
        UsageError: names what is in the way.
    """
    if not folder.is_dir():
        return
    odd = sorted(p.name for p in folder.iterdir() if p.name not in _OURS and not p.name.endswith(TEMPORARY_SUFFIX))
    if odd:
        raise UsageError(f"{folder}: holds {odd[0]}, which no sweep wrote", hint="choose another --output-dir")


def _clear(folder: Path) -> None:
    for name in _OURS:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
