"""Trackers by their real packages, read back; and ones that fail."""

from __future__ import annotations

import csv
import json
import logging
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from lm_support import settings, tiny_plan, write_tokens

pytest.importorskip("lightning", reason="the extra train is not installed")

import lightning.pytorch as pl

from seqassay.errors import ResourceError, UsageError
from seqassay.text.token_files import open_token_files
from seqassay.train import lm_loggers
from seqassay.train.lm import train_lm
from seqassay.train.lm_loggers import TRACKERS_FILE, Ending

MISSING = "the extra tracking is not installed"
STEPS = [4, 8, 10, 12, 16, 20, 24, 28, 30]  # rows: every fourth step, and evaluations every tenth


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokens(tmp_path_factory.mktemp("loggers"))


class Gone(Exception):
    """Ends a training in the middle."""


class RaiseAt(pl.Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise Gone


def train_in_two_parts(tokens: Path, folder: Path, **changes: Any) -> None:
    """A checkpoint after step 15, an end after step 21: rows 16 and 20 are computed twice."""
    plan = tiny_plan(open_token_files(tokens).vocab_size)
    asked = settings(tokens, folder, checkpoint_steps=15, **changes)
    with pytest.raises(Gone):
        train_lm(asked, plan, callbacks=[RaiseAt(21)])
    assert train_lm(asked, plan).record["status"] == "done"


def column(folder: Path, name: str) -> dict[int, float]:
    with (folder / "metrics.csv").open(newline="") as file:
        return {int(row["step"]): float(row[name]) for row in csv.DictReader(file) if row[name]}


def test_tensorboard_has_every_row_once(tokens: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason=MISSING)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train_in_two_parts(tokens, tmp_path / "run", loggers=("tensorboard",), tags=("stage=ranking",))
    events = EventAccumulator(str(tmp_path / "run/tensorboard")).Reload()
    assert [event.step for event in events.Scalars("train_loss")] == STEPS
    for name in ("train_loss", "dev_loss", "learning_rate"):
        wanted = column(tmp_path / "run", name)
        assert {event.step: event.value for event in events.Scalars(name)} == pytest.approx(wanted)
    assert "stage/text_summary" in events.Tags()["tensors"]


def test_mlflow_has_runs_of_many_trainings_in_one_store(tokens: Path, tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason=MISSING)
    from mlflow.tracking import MlflowClient

    store = tmp_path / "sweep" / "mlflow.db"
    given: dict[str, Any] = {"loggers": ("mlflow",), "tracking": str(store), "experiment": "sweep 1"}
    train_in_two_parts(tokens, tmp_path / "first", **given, run_name="wide, seed 0", tags=("stage=final", "seed=0"))
    plan = tiny_plan(open_token_files(tokens).vocab_size)
    train_lm(settings(tokens, tmp_path / "second", **given), plan)
    client = MlflowClient(tracking_uri=f"sqlite:///{store}")
    experiment = client.get_experiment_by_name("sweep 1")
    assert experiment is not None
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"wide, seed 0", "second"}
    run = runs["wide, seed 0"]
    assert run.info.status == "FINISHED"
    assert {name: run.data.tags[name] for name in ("stage", "seed", "status")} == {
        "stage": "final", "seed": "0", "status": "done",
    }  # fmt: skip
    assert (run.data.params["d_model"], run.data.params["learning_rate"]) == ("16", "0.01")
    for name in ("train_loss", "dev_perplexity"):
        history = client.get_metric_history(run.info.run_id, name)
        wanted = column(tmp_path / "first", name)
        assert len(history) == len(wanted)
        assert {point.step: point.value for point in history} == pytest.approx(wanted)
    said = json.loads((tmp_path / "first/training.json").read_text())
    assert said["trackers"]["mlflow"]["run_id"] == run.info.run_id
    assert run.data.metrics["best_dev_loss"] == said["training"]["best"]["dev_loss"]


def test_a_store_that_a_stop_cut_off_is_made_again(tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason=MISSING)
    (tmp_path / "mlflow.db.partial").write_bytes(b"SQLite format 3, and no more")
    (tmp_path / "mlflow.db.partial-journal").write_bytes(b"half")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert lm_loggers.mlflow_experiment(uri, "sweep") == lm_loggers.mlflow_experiment(uri, "sweep")
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def wandb_records(file: Path) -> Iterator[bytes]:
    """Records of a run file: LevelDB's log format after a header of 7 bytes; the package has no reader in Python."""
    content, at, parts = file.read_bytes(), 7, b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:  # a header does not fit into the block's end
            at += 32768 - at % 32768
        length, kind = struct.unpack_from("<HB", content, at + 4)
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield parts
            parts = b""


def test_wandb_offline_has_every_row_once(tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason=MISSING)
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "wandb"))
    train_in_two_parts(tokens, tmp_path / "run", loggers=("wandb",), tags=("stage=ranking",), run_name="wide")
    files = sorted((tmp_path / "run/wandb").glob("offline-run-*/run-*.wandb"))
    assert len({file.name for file in files}) == 1  # one run, in two pieces
    found: list[tuple[int, float]] = []
    for content in (content for file in files for content in wandb_records(file)):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(content)
        if record.WhichOneof("record_type") == "run":
            assert (record.run.display_name, record.run.project) == ("wide", "seqassay")
            assert list(record.run.tags) == ["stage=ranking"]
        items = {item.key or item.nested_key[0]: item.value_json for item in record.history.item}
        if "train_loss" in items:
            found.append((int(items["_step"]), float(items["train_loss"])))
    assert [step for step, _ in found] == STEPS
    assert dict(found) == pytest.approx(column(tmp_path / "run", "train_loss"))


class Breaks:
    """A tracker that works until a step."""

    def __init__(self, _: lm_loggers.Beginning) -> None:
        self.said = {"path": "nowhere"}

    def log(self, row: Mapping[str, float], step: int) -> None:
        assert row["tokens"] == 64 * step
        if step == 12:
            raise OSError("No space left on device")

    def close(self, ending: Ending, figures: Mapping[str, float]) -> None:
        raise AssertionError("it was dropped before")


def test_a_tracker_that_fails_later_is_dropped_with_a_warning_and_the_training_goes_on(
    tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(lm_loggers._TRACKERS, "tensorboard", Breaks)
    monkeypatch.setattr(lm_loggers, "require_package", lambda *_, **__: None)
    plan = tiny_plan(open_token_files(tokens).vocab_size)
    with caplog.at_level(logging.WARNING, logger="seqassay"):
        record = train_lm(settings(tokens, tmp_path / "run", loggers=("tensorboard",)), plan).record
    assert record["status"] == "done"
    assert record["trackers"]["tensorboard"]["failed"] == "at step 12: No space left on device"
    assert list(column(tmp_path / "run", "train_loss")) == STEPS
    warnings = [entry.getMessage() for entry in caplog.records if "--logger" in entry.getMessage()]
    assert len(warnings) == 1
    assert "the training goes on, and metrics.csv has every row" in warnings[0]


@pytest.mark.parametrize(
    ("text", "error"), [("(sqlite3) database or disk is full", ResourceError), ("no such host", UsageError)]
)
def test_a_tracker_that_cannot_begin_ends_the_command_before_the_first_step(
    tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, error: type[Exception]
) -> None:
    def fails(_: lm_loggers.Beginning) -> Breaks:
        raise RuntimeError(f"{text}\nand forty lines of trace")

    monkeypatch.setitem(lm_loggers._TRACKERS, "mlflow", fails)
    monkeypatch.setattr(lm_loggers, "require_package", lambda *_, **__: None)
    plan = tiny_plan(open_token_files(tokens).vocab_size)
    asked = settings(tokens, tmp_path / "run", loggers=("mlflow",))
    with pytest.raises(error, match=r"--logger mlflow cannot begin") as found:
        train_lm(asked, plan)
    assert text in str(found.value)
    assert "trace" not in str(found.value)
    assert not (tmp_path / "run" / TRACKERS_FILE).exists()
    assert column(tmp_path / "run", "train_loss") == {}


def test_where_and_how_to_track_are_checked(tokens: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--logger mlflow is not given"):
        settings(tokens, tmp_path / "run", tracking="store.db")
    for tag in ("alone", "=value"):
        with pytest.raises(UsageError, match="it has to be NAME=VALUE"):
            settings(tokens, tmp_path / "run", tags=(tag,))
    uri = lm_loggers.mlflow_uri(settings(tokens, tmp_path / "run", loggers=("mlflow",), tracking="http://host:5000"))
    assert uri == "http://host:5000"
