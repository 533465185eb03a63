"""A sweep at toy size: ranking, finalists, decision; failures, stops, and engines that come to the same figures."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from seqassay.errors import ResourceError, StoppedError, UsageError
from seqassay.predict.stop import StopRequested, stop_on_signals
from seqassay.prove.sweep import engines as engines_module
from seqassay.prove.sweep.command import plan_only, sweep_lm
from seqassay.prove.sweep.engines import Engine, InProcess, Processes
from seqassay.prove.sweep.plan import Task, task_of
from seqassay.prove.sweep.record import check_record
from seqassay.prove.sweep.results import FIGURES
from seqassay.prove.sweep.run import read_run, run_task
from seqassay.prove.sweep.settings import SweepSettings
from seqassay.text.build import BuildSettings, build_token_files

WORDS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")
SWEEP = """
ranking_tokens: 768
final_tokens: 1_024
final_seeds: [1, 2]
kill_tokens: 256
kill_margin: 2
defaults: {d_model: 16, n_layers: 1, n_heads: 2, context: 16, batch: 4, learning_rate: 1e-2, evaluate_every: 4}
experiments:
- {name: plain}
- {name: wide, overrides: {d_ff: 96}}
- {name: slow, overrides: {learning_rate: 1e-6}}
- {name: wild, overrides: {learning_rate: 1e30}}
evaluate: {splits: [test], top_k: [], latency_shapes: [1x8], latency_runs: 10, skip_throughput: true, skip_memory: true}
"""
OF_THE_CLOCK = {"training_wall_s", "training_tokens_per_s", "latency_ms", "latency_sd_ms"}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep's file beside its tokens: characters of 1,500 words to train on."""
    folder, rng = tmp_path_factory.mktemp("sweep"), random.Random(1)
    (folder / "text").mkdir()
    for split, n in (("train", 1500), ("valid", 60), ("test", 60)):
        (folder / "text" / f"{split}.txt").write_text(" ".join(rng.choices(WORDS, k=n)) + "\n")
    tokens = folder / "tokens"
    build_token_files(BuildSettings(inputs=(str(folder / "text"),), output_dir=tokens, characters=True))
    path = folder / "sweep.yaml"
    path.write_text(f"tokens: {tokens}\n{SWEEP}")
    return path


def settings(config: Path, out: Path, **more: Any) -> SweepSettings:
    given: dict[str, Any] = {"threads": 1, "device": "cpu", "loggers": (), **more}
    return SweepSettings(config=config, output_dir=out, **given)


def record_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "sweep.json").read_bytes())
    return found


def without_clock(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {**run, "figures": {k: v for k, v in run["figures"].items() if k not in OF_THE_CLOCK}} for run in record["runs"]
    ]


@pytest.fixture(scope="module")
def reference(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep that nothing stopped."""
    out = tmp_path_factory.mktemp("reference")
    with pytest.raises(StoppedError, match=r"1 of 8 runs failed.*wild \(ranking, seed 0\): the (loss|gradient norm)"):
        sweep_lm(settings(config, out))
    return out


def test_one_fails_one_is_killed_and_the_others_are_judged(reference: Path) -> None:
    record = record_of(reference)
    check_record(record)
    statuses = {(run["experiment"], run["stage"], run["seed"]): run["status"] for run in record["runs"]}
    assert statuses == {
        ("plain", "ranking", 0): "done", ("wide", "ranking", 0): "done", ("slow", "ranking", 0): "killed",
        ("wild", "ranking", 0): "failed", **{(n, "final", s): "done" for n in ("plain", "wide") for s in (1, 2)},
    }  # fmt: skip
    assert record["status"] == "done"
    assert record["axes"] == {"d_ff": [96], "learning_rate": [1e-2, 1e-6, 1e30]}
    assert record["selection"]["finalists"] == ["plain", "wide"]
    assert [c["finalist"] for c in record["decision"]["comparisons"]] == ["wide"]
    assert [one["run"] for one in record["failed"]] == ["wild (ranking, seed 0)"]
    assert "Traceback" in (reference / "ranking/wild-seed0/error.txt").read_text()
    killed = next(run for run in record["runs"] if run["status"] == "killed")
    assert "kill rule after" in killed["why"]
    assert killed["figures"]["tokens_seen"] < 768


def test_figures_are_those_of_the_parts(reference: Path) -> None:
    record = record_of(reference)
    run = next(r for r in record["runs"] if (r["experiment"], r["stage"], r["seed"]) == ("wide", "final", 2))
    figures, folder = run["figures"], reference / run["folder"]
    evaluation = json.loads((folder / "evaluation/metrics.json").read_bytes())
    training = json.loads((folder / "training/training.json").read_bytes())
    assert set(figures) == set(FIGURES)
    assert figures["test_loss"] == evaluation["splits"]["test"]["values"]["loss"]["value"]
    assert figures["valid_loss"] is None  # splits: [test]
    assert figures["tokens_seen"] == 1024 == run["curve"][-1][0]
    assert figures["parameters"] == training["model"]["params"]
    vocab = training["model"]["config"]["vocab_size"]
    multiplied = vocab * 16 + 4 * 16 * 16 + 3 * 16 * 96
    assert figures["training_flop"] == 1024 * (6 * multiplied + 12 * 16 * 16)
    assert figures["embedding_parameters"] == vocab * 16
    assert figures["latency_ms"] > 0
    assert figures["peak_memory_bytes"] is None


def test_the_same_command_does_nothing_twice_but_what_failed(
    config: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "sweep"
    shutil.copytree(reference, out, ignore=shutil.ignore_patterns("wild*"))
    # Its training has ended: taken up from another folder, with the baseline's curve in another place than it was.
    (out / "ranking/slow-seed0/run.json").unlink()
    trained = (out / "ranking/slow-seed0/training/training.json").read_bytes()
    asked = []

    def counted(task: Task, files: Mapping[str, Any]) -> None:
        asked.append(task.name)
        run_task(task, files)

    monkeypatch.setattr(engines_module, "run_task", counted)
    with pytest.raises(StoppedError, match="wild"):
        sweep_lm(settings(config, out))
    assert asked == ["ranking/slow-seed0", "ranking/wild-seed0"]
    assert (out / "ranking/slow-seed0/training/training.json").read_bytes() == trained
    assert record_of(out)["starts"]["n"] == 2
    assert without_clock(record_of(out)) == without_clock(record_of(reference))


def test_a_stop_keeps_what_is_finished_and_goes_on_to_the_same_figures(
    config: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "sweep"
    # The ranking is as in the reference: it is not trained again.
    shutil.copytree(reference / "ranking", out / "ranking", ignore=shutil.ignore_patterns("wild*"))

    def stopped(task: Task, files: Mapping[str, Any]) -> None:
        if task.name == "final/wide-seed1":
            raise StopRequested("SIGTERM")
        run_task(task, files)

    with monkeypatch.context() as patched:
        patched.setattr(engines_module, "run_task", stopped)
        with pytest.raises(StopRequested):
            sweep_lm(settings(config, out))
    assert record_of(out)["status"] == "running"
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*/*/run.json") if "wild" not in str(path)}
    assert len(kept) == 4
    with pytest.raises(StoppedError, match="wild"):
        sweep_lm(settings(config, out))
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert without_clock(record_of(out)) == without_clock(record_of(reference))


def test_a_full_disk_ends_the_sweep_and_what_is_done_stays(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seqassay.prove.sweep import run as run_module

    write = run_module.write_json

    def full(path: Path, content: Mapping[str, Any]) -> None:
        if "wide" in str(path):
            raise OSError(28, "No space left on device", str(path))
        write(path, content)

    monkeypatch.setattr(run_module, "write_json", full)
    with pytest.raises(ResourceError, match="disk is full"):
        sweep_lm(settings(config, tmp_path / "sweep"))
    assert (tmp_path / "sweep/ranking/plain-seed0/run.json").is_file()


def test_other_settings_in_the_same_folder(config: Path, reference: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "sweep", tmp_path / "other.yaml"
    shutil.copytree(reference, out)
    other.write_text(config.read_text().replace("d_ff: 96", "d_ff: 64"))
    with pytest.raises(UsageError, match=r"ranking/wide-seed0: holds a run of other settings: model.d_ff is 96 there"):
        sweep_lm(settings(other, out))


def test_a_folder_that_is_no_sweep(config: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").touch()
    with pytest.raises(UsageError, match=r"thesis\.docx, which no sweep wrote"):
        sweep_lm(settings(config, tmp_path, force=True))
    assert (tmp_path / "thesis.docx").exists()


def tasks_of(config: Path, out: Path, names: tuple[str, ...]) -> tuple[list[Task], dict[str, Any]]:
    read, planned = plan_only(settings(config, out))
    by_name = {one.name: one for one in planned}
    tokens = config.parent / "tokens"
    tasks = [task_of(read, by_name[n], "ranking", 0, tokens, out, threads=1, device="cpu") for n in names]
    return tasks, {"tokenizer": "t", "tokens": {}}


def in_process(config: Path, out: Path, names: tuple[str, ...]) -> dict[str, Any]:
    tasks, files = tasks_of(config, out, names)
    InProcess().run(tasks, files, lambda task: None)
    return comparable(tasks, files)


def comparable(tasks: list[Task], files: Mapping[str, Any]) -> dict[str, Any]:
    runs = {task.experiment: read_run(task, files) for task in tasks}
    assert all(runs.values())
    return {
        name: (run.status, run.why, run.curve, {k: v for k, v in run.figures.items() if k not in OF_THE_CLOCK})
        for name, run in runs.items()
        if run is not None
    }


def test_processes_come_to_the_same_bits_and_one_that_is_killed_loses_its_task_alone(
    config: Path, tmp_path: Path
) -> None:
    tasks, files = tasks_of(config, tmp_path / "two", ("slow", "plain", "wide"))
    victim = dataclasses.replace(tasks[0], train=dataclasses.replace(tasks[0].train, token_budget=10_000_000))
    engine = Processes(2)
    ended: list[str] = []

    def kill() -> None:
        until = time.monotonic() + 120
        while not (victim.train.output_dir / "training.json").is_file() and time.monotonic() < until:
            time.sleep(0.05)
        next(w for w in engine._workers if w.task is not None and w.task.name == victim.name).process.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    engine.run([victim, *tasks[1:]], files, lambda task: ended.append(task.experiment))
    killer.join()
    engine.close()
    run = read_run(victim, files)
    assert run is not None
    assert (run.status, run.why) == ("failed", "its process was ended by SIGKILL (out of memory?)")
    assert sorted(ended) == ["plain", "slow", "wide"]
    assert comparable(tasks[1:], files) == in_process(config, tmp_path / "one", ("plain", "wide"))


def test_ray_comes_to_the_same_bits(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    from seqassay.prove.sweep.ray_engine import RayTune

    names = ("plain", "wild")
    tasks, files = tasks_of(config, tmp_path / "ray", names)
    monkeypatch.chdir(config.parent)  # places are as the file has them; trials work elsewhere
    tasks = [dataclasses.replace(task, train=dataclasses.replace(task.train, tokens=Path("tokens")),
                                 evaluate=dataclasses.replace(task.evaluate, inputs=("tokens",)))
             for task in tasks]  # fmt: skip
    with stop_on_signals():
        engine: Engine = RayTune(jobs=1, threads=1, device="cpu", address=None, folder=tmp_path / "ray")
        with pytest.raises(StopRequested, match="SIGTERM"):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
    ended: list[str] = []
    lock = threading.Lock()  # what is told has such, and Ray writes its callbacks to disk

    def tell(task: Task) -> None:
        with lock:
            ended.append(task.experiment)

    try:
        engine.run(tasks, files, tell)
    finally:
        engine.close()
    assert sorted(ended) == ["plain", "wild"]
    assert comparable(tasks, files) == in_process(config, tmp_path / "here", names)


def test_all_trainings_are_runs_of_one_store(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Task] = []

    def stopped(task: Task, files: Mapping[str, Any]) -> None:
        asked.append(task)
        raise StopRequested("SIGTERM")

    monkeypatch.setattr(engines_module, "run_task", stopped)
    with pytest.raises(StopRequested):
        sweep_lm(settings(config, tmp_path / "sweep", loggers=("mlflow",)))
    train = asked[0].train
    assert (train.loggers, train.experiment) == (("mlflow",), "seqassay-sweep")
    assert train.tracking == str(tmp_path / "sweep/mlflow.db")
    assert train.run_name == "ranking plain seed 0"
    assert train.tags == ("stage=ranking", "seed=0", "experiment=plain", "learning_rate=0.01")
