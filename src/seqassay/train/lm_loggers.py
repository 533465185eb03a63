"""Trackers besides metrics.csv: TensorBoard, MLflow and Weights & Biases, each by its own package, each an extra.

One that cannot be opened ends the command before the first step. One that fails later is dropped with a warning and
its reason in ``training.json``: the training goes on, and metrics.csv has every row. A training that goes on appends
to the same run: what was logged after the checkpoint is computed again, and is not logged twice.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from seqassay.config import settings_as_json
from seqassay.durable import TEMPORARY_SUFFIX
from seqassay.errors import ResourceError, SeqassayError, UsageError, require_package
from seqassay.train.lm_settings import LmTrainSettings, LoggerName
from seqassay.train.output_folder import read_json, write_json

TRACKING_EXTRA = "tracking"
TRACKERS_FILE = "trackers.json"  # which runs of the trackers are this training's
Ending = Literal["done", "killed", "stopped", "failed"]
_PARAMS_AT_ONCE, _LONGEST_PARAM = 100, 500  # of MLflow
_CURVE = "train_loss"  # in every row

logger = logging.getLogger(__name__)


class Tracker(Protocol):
    """Where rows of metrics.csv go as well."""

    said: dict[str, str]  # what finds the run again, for `TRACKERS_FILE`

    def log(self, row: Mapping[str, float], step: int) -> None:
        """Figures of a step."""

    def close(self, ending: Ending, figures: Mapping[str, float]) -> None:
        """How it ended, and the figures of the whole training."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a tracker is opened with.

    Attributes:
        params: the training's settings and its model's shape: flat, JSON types.
        step: optimizer steps done before.
        last_step: of the last row that was logged before, which may be one after the checkpoint.
        before: the tracker's `Tracker.said` of the first start; empty at that.
    """

    settings: LmTrainSettings
    params: Mapping[str, Any]
    step: int
    last_step: int
    before: Mapping[str, str]

    @property
    def folder(self) -> Path:
        """The training's."""
        return self.settings.output_dir

    @property
    def run_name(self) -> str:
        """What the run is called."""
        return self.settings.run_name or self.folder.absolute().name


def require_loggers(names: Sequence[LoggerName]) -> None:
    """Say how to install what the chosen loggers need.

    Raises:
        MissingExtraError: with the command.
    """
    for name in names:
        require_package(name, extra=TRACKING_EXTRA, purpose=f"--logger {name}")


@contextlib.contextmanager
def beginning_errors(name: LoggerName) -> Iterator[None]:
    """Errors of a tracker that cannot begin, in plain words.

    Raises:
        UsageError: it cannot write where it should.
        ResourceError: the disk is full.
    """
    try:
        yield
    except Exception as error:  # these packages raise whatever those below them raise
        full = any(words in str(error) for words in ("disk is full", "No space left"))
        kind = ResourceError if full else UsageError
        raise kind(
            f"--logger {name} cannot begin: {_short(error)}",
            hint=f"mend that, or train without --logger {name}: metrics.csv has the same figures",
        ) from error


class Trackers:
    """All trackers of a training; the first process's, where there are several.

    Attributes:
        said: of each tracker, what finds its run again; and ``failed``: why it was dropped.
    """

    def __init__(self) -> None:
        self._open: dict[LoggerName, Tracker] = {}
        self.said: dict[str, dict[str, str]] = {}

    def open(self, settings: LmTrainSettings, params: Mapping[str, Any], *, step: int, last_step: int) -> None:
        """Begin their runs, or go on with those of `TRACKERS_FILE`.

        Raises:
            UsageError: one cannot write where it should.
            ResourceError: the disk is full.
        """
        place = settings.output_dir / TRACKERS_FILE
        before = read_json(place) if place.is_file() else {}
        for name in dict.fromkeys(settings.loggers):
            beginning = Beginning(settings, params, step, last_step, before.get(name, {}))
            try:
                with beginning_errors(name):
                    tracker = _TRACKERS[name](beginning)
            except SeqassayError:
                self.close("failed", {})
                raise
            self._open[name] = tracker
            self.said[name] = tracker.said
        if self._open:
            write_json(place, {**before, **self.said})

    def log(self, row: Mapping[str, float], step: int) -> None:
        """A row to every tracker that still works."""
        self._each(lambda tracker: tracker.log(row, step), f"at step {step:,}")

    def close(self, ending: Ending, figures: Mapping[str, float]) -> None:
        """End all runs; a second time does nothing."""
        self._each(lambda tracker: tracker.close(ending, figures), "at its end")
        self._open = {}

    def _each(self, act: Callable[[Tracker], None], when: str) -> None:
        for name, tracker in list(self._open.items()):
            self._try(name, partial(act, tracker), when)

    def _try(self, name: LoggerName, act: Callable[[], None], when: str) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - a tracker's trouble, whatever it is, is not the training's
            del self._open[name]
            why = f"{when}: {_short(error)}"
            self.said[name] = {**self.said[name], "failed": why}
            logger.warning("--logger %s failed %s; the training goes on, and metrics.csv has every row", name, why)


class _TensorBoard:
    """Event files in ``tensorboard/``; a start purges what was logged after its first step."""

    def __init__(self, beginning: Beginning) -> None:
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        place = beginning.folder / "tensorboard"
        self.said = {"path": str(place)}
        self._writer = SummaryWriter(str(place), purge_step=beginning.step + 1)
        params = {name: value if isinstance(value, (bool, int, float)) else str(value)
                  for name, value in beginning.params.items()}  # fmt: skip
        # The page of parameters wants figures by which runs are compared; their values are those of the curves.
        events = hparams(params, {"dev_loss": 0, "dev_perplexity": 0})  # type: ignore[no-untyped-call]
        for event in events:
            self._writer._get_file_writer().add_summary(event)  # type: ignore[no-untyped-call]
        for tag in beginning.settings.tags:
            name, _, value = tag.partition("=")
            self._writer.add_text(name, value)
        self._writer.flush()

    def log(self, row: Mapping[str, float], step: int) -> None:
        for name, value in row.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self, ending: Ending, figures: Mapping[str, float]) -> None:
        del ending, figures  # they are the curves' own
        self._writer.close()


class _Mlflow:
    """A run of an MLflow store: parameters and tags once, metrics by step."""

    def __init__(self, beginning: Beginning) -> None:
        from mlflow.entities import Param
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        settings, folder = beginning.settings, beginning.folder
        uri = mlflow_uri(settings)
        experiment_id = mlflow_experiment(uri, settings.experiment)
        self._client = MlflowClient(tracking_uri=uri)
        self._run_id, self._logged_to = beginning.before.get("run_id", ""), 0
        if self._run_id and self._has(self._run_id):  # wherever the store was when it began
            with contextlib.suppress(MlflowException):  # nothing was logged yet
                history = self._client.get_metric_history(self._run_id, _CURVE)
                self._logged_to = max((point.step for point in history), default=0)
            self._client.update_run(self._run_id, status="RUNNING")
        else:
            tags = {"folder": str(folder.absolute()), **_as_mapping(settings.tags)}
            run = self._client.create_run(experiment_id, run_name=beginning.run_name, tags=tags)
            self._run_id = run.info.run_id
            params = [Param(name, str(value)[:_LONGEST_PARAM]) for name, value in beginning.params.items()]
            for first in range(0, len(params), _PARAMS_AT_ONCE):
                self._client.log_batch(self._run_id, params=params[first : first + _PARAMS_AT_ONCE])
        self.said = {"uri": uri, "experiment_id": experiment_id, "run_id": self._run_id}

    def _has(self, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            self._client.get_run(run_id)
        except MlflowException:
            return False
        return True

    def log(self, row: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        if step <= self._logged_to:
            return
        now_ms = int(time.time() * 1000)
        metrics = [Metric(name, float(value), now_ms, step) for name, value in row.items()]
        self._client.log_batch(self._run_id, metrics=metrics)

    def close(self, ending: Ending, figures: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        metrics = [Metric(name, float(value), now_ms, 0) for name, value in figures.items()]
        self._client.log_batch(self._run_id, metrics=metrics)
        self._client.set_tag(self._run_id, "status", ending)
        status = {"done": "FINISHED", "killed": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}[ending]
        self._client.set_terminated(self._run_id, status)


class _Wandb:
    """A run of Weights & Biases: online, or in ``wandb/`` where its environment says ``WANDB_MODE=offline``."""

    def __init__(self, beginning: Beginning) -> None:
        import wandb

        settings = beginning.settings
        self._run = wandb.init(
            project=settings.experiment,
            name=beginning.run_name,
            dir=str(beginning.folder),
            id=beginning.before.get("run_id"),
            resume="allow",
            config=dict(beginning.params),
            tags=list(settings.tags),
            allow_val_change=True,
            settings=wandb.Settings(console="off"),  # the terminal is ours
        )
        self.said = {"run_id": self._run.id}
        self._logged_to = beginning.last_step if "run_id" in beginning.before else 0

    def log(self, row: Mapping[str, float], step: int) -> None:
        if step > self._logged_to:
            self._run.log(dict(row), step=step)

    def close(self, ending: Ending, figures: Mapping[str, float]) -> None:
        self._run.summary.update({**figures, "status": ending})
        self._run.finish(exit_code=int(ending == "failed"))


def mlflow_uri(settings: LmTrainSettings) -> str:
    """The URI of MLflow's store: as given, or of the SQLite file."""
    given = settings.tracking or str(settings.output_dir / "mlflow.db")
    return given if "://" in given else f"sqlite:///{Path(given).absolute()}"


def mlflow_experiment(uri: str, name: str) -> str:
    """The experiment of this name, made where there is none; its id. The store itself is made where it is absent.

    Artifacts lie beside an SQLite file, in ``mlruns``; by default they go to where the command was typed. Call it
    before several processes begin runs there: making a store twice at the same time fails.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    # It says every table that it makes, and prints the trace of an error that it raises as well.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    is_file, path = uri.startswith("sqlite:///"), Path(uri.removeprefix("sqlite:///"))
    place = path.parent
    if is_file:
        place.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _make_store(path)
    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(name, artifact_location=str(place / "mlruns") if is_file else None))
    except MlflowException:  # another process was faster
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return str(found.experiment_id)


def _make_store(path: Path) -> None:
    """An empty store, whole or absent: one that a stop cut off can be opened by no version of MLflow."""
    from mlflow.tracking import MlflowClient

    unfinished = path.with_name(path.name + TEMPORARY_SUFFIX)
    for left in path.parent.glob(f"{unfinished.name}*"):  # SQLite's journal as well
        left.unlink()
    MlflowClient(tracking_uri=f"sqlite:///{unfinished.absolute()}")
    unfinished.replace(path)


def params_of(settings: LmTrainSettings, model: Mapping[str, Any]) -> dict[str, Any]:
    """Settings, without where things lie, and the model's shape: what runs are compared by."""
    places = ("output_dir", "tracking", "experiment", "run_name", "tags", "loggers", "force")
    said = {name: value for name, value in settings_as_json(settings).items() if name not in places}
    return {name: value for name, value in {**said, **model}.items() if value is not None}


def _as_mapping(tags: Sequence[str]) -> dict[str, str]:
    return {name: value for name, _, value in (tag.partition("=") for tag in tags)}


def _short(error: Exception) -> str:
    text = error.message if isinstance(error, SeqassayError) else str(error)
    lines = text.strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]


_TRACKERS: dict[LoggerName, Callable[[Beginning], Tracker]] = {
    "tensorboard": _TensorBoard,
    "mlflow": _Mlflow,
    "wandb": _Wandb,
}
