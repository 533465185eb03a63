"""`seqassay gate` as a command, on records that the other commands made."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import exit_code
from typer.main import get_command

from seqassay.cli.main import build_app
from seqassay.measure.schema import check_schema
from seqassay.prove.comparison import OF_HEADS
from seqassay.prove.gates.settings import GateSettings
from seqassay.train.output_folder import only_writer

EXAMPLE = Path(__file__).parents[2] / "examples/gates.yaml"
CODONS = {"viral": ("ATG", "GAT", "AAA", "TTT", "GTT"), "other": ("GCC", "CGC", "GGC", "CTG", "GAG")}


@pytest.fixture(scope="module")
def made(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, their comparison and two evaluations, in a folder."""
    folder = tmp_path_factory.mktemp("records")
    rng = np.random.default_rng(1)
    lines = []
    for i in range(600):
        label = ("viral", "other")[i % 2]
        bases = "".join(rng.choice(np.array(CODONS[label]), 40))
        lines.append(f">s{i} label={label} group={('phage', 'bacteria')[i % 2]} record=g{i}\n{bases}\n")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        run = partial(exit_code, patched)
        Path("test.fa").write_text("".join(lines))
        for name, budget in (("float32", "8192"), ("bf16", "2048")):
            options = ("-m", str(tiny_bundle), "--device", "cpu", "--threads", "1", "--batch", budget, "--quiet")
            assert run("predict", "test.fa", "-o", name, *options) == 0
        assert run("compare", "float32", "bf16", "-o", "comparison", "--no-progress") == 0
        options = ("--test", "test.fa", "--device", "cpu", "--threads", "1", "--no-progress")
        assert run("evaluate", str(tiny_bundle), *options, "-o", "evaluation") == 0
        assert run("evaluate", str(tiny_bundle), *options, "-o", "same", "--baseline", str(tiny_bundle)) == 0
    return folder


@pytest.fixture
def records(made: Path, run: Callable[..., int], tmp_path: Path) -> None:
    """What was made once, to be changed in this folder."""
    del run  # it is what makes this folder the current one
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)


def written() -> dict[str, Any]:
    return json.loads(Path("gates/metrics.json").read_text())


def test_the_installed_command_and_the_example_file(records: None) -> None:
    shutil.copy(EXAMPLE, "gates.yaml")
    command = [Path(sys.executable).with_name("seqassay"), "gate", "float32", "bf16/run.json", "comparison"]
    done = subprocess.run(
        [*command, "--gates", "gates.yaml", "-o", "gates"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[0].split() == [
        "gate", "record", "figure", "limit", "95%", "interval", "verdict",
    ]  # fmt: skip
    assert "PASSED: of 4 gates 4 PASSED" in done.stdout
    record = written()
    assert (record["format"], record["verdict"]) == ("seqassay-gate", "PASSED")
    assert [entry["kind"] for entry in record["identity"]["records"]] == ["run", "run", "comparison"]
    assert record["gates"][0]["results"][0]["interval_95"][0] > 0.99
    places = {"run": "float32/run.json", "comparison": "comparison/metrics.json", "evaluation": "same/metrics.json"}
    for kind, place in {**places, "gate": "gates/metrics.json"}.items():
        check_schema(json.loads(Path(place).read_text()), kind)
    again = subprocess.run(
        [*command, "--gates", "gates.yaml", "-o", "gates"], capture_output=True, text=True, check=False
    )
    assert again.returncode == 2
    assert "is not empty" in again.stderr


@pytest.mark.parametrize(
    ("gates", "verdict", "code"),
    [
        ("drop: {metric: accuracy_drop, below: 0.05}", "PASSED", 0),
        ("gpu: {metric: gpu_utilisation, above: 0.8}", "UNDECIDED", 5),  # the runs are on the CPU
        ("scaling: {metric: scaling, at_least: 1.9}", "MISSING", 5),
        ("speed: {metric: wall_time, below: 1.0e-6}", "FAILED", 5),
        ("length: {metric: by_length.0.accuracy, above: 0.000001}", "PASSED", 0),
        ("auc: {metric: values.roc_auc, above: 0.000001}", "PASSED", 0),
        ("gone: {metric: values.roc_auk, above: 0.5}", None, 2),
    ],
)
def test_verdicts_and_exit_codes(
    records: None, run: Callable[..., int], gates: str, verdict: str | None, code: int, capsys: Any
) -> None:
    Path("gates.yaml").write_text(f"gates:\n  {gates}\n")
    assert run("gate", "float32", "same", "--gates", "gates.yaml", "-o", "gates") == code
    printed = capsys.readouterr()
    if verdict is None:
        assert "gates.yaml, line 2" in printed.err
        assert not Path("gates").exists()
    else:
        assert verdict in printed.out
        assert written()["gates"][0]["verdict"] == verdict


@pytest.mark.parametrize(
    ("place", "old", "new", "words"),
    [
        ("float32/run.json", '"efficiency": 0.', '"efficiency": 3.', "packing.efficiency is 3."),
        ("float32/run.json", '"wall_s"', '"wall_time_s"', "the record lacks wall_s"),
        ("same/metrics.json", '"version": "2.0"', '"version": "7.1"', "is of version '7.1'"),
        ("comparison/metrics.json", '"in_both": 600', '"in_both": 601', "rows of A are"),
    ],
)
def test_a_changed_record_is_refused(
    records: None, run: Callable[..., int], place: str, old: str, new: str, words: str, capsys: Any
) -> None:
    text = Path(place).read_text()
    assert old in text
    Path(place).write_text(text.replace(old, new, 1))
    Path("gates.yaml").write_text("gates:\n  time: {metric: wall_time, below: 99}\n")
    assert run("gate", place, "--gates", "gates.yaml") == 2
    assert f"{place}: " in (error := capsys.readouterr().err)
    assert words in error


def test_a_drop_of_heads_alone_is_undecided(records: None, run: Callable[..., int], capsys: Any) -> None:
    record = json.loads(Path("same/metrics.json").read_text())
    record["gate"] |= {"verdict": "UNDECIDED", "reason": f"{OF_HEADS} tiny alone, uncalibrated"}
    record["verdict"] = "UNDECIDED"
    Path("heads.json").write_text(json.dumps(record))
    Path("gates.yaml").write_text("gates:\n  drop: {metric: accuracy_drop, below: 0.05}\n")
    assert run("gate", "heads.json", "--gates", "gates.yaml") == 5
    assert "drop: figures are of the head of tiny alone" in capsys.readouterr().out


def test_without_a_baseline_the_drop_is_missing(records: None, run: Callable[..., int], capsys: Any) -> None:
    Path("gates.yaml").write_text("gates:\n  drop: {metric: accuracy_drop, below: 0.05}\n")
    assert run("gate", "evaluation", "--gates", "gates.yaml") == 5
    assert "evaluation/metrics.json: holds no accuracy_drop" in capsys.readouterr().out


def test_of_two_gates_in_one_folder_the_later_is_refused(
    records: None, run: Callable[..., int], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both began when the folder was empty; the other one is writing, or ended first."""
    Path("gates.yaml").write_text("gates:\n  time: {metric: wall_time, below: 9999}\n")
    words = ("gate", "float32", "--gates", "gates.yaml", "-o", "gates")
    with only_writer(Path("gates")):
        assert run(*words) == 2
    assert "gates: another run is working there" in capsys.readouterr().err
    others = Path("gates/metrics.json")
    monkeypatch.setattr("seqassay.prove.gates.command.check_record", lambda _: others.write_text("the other's"))
    assert run(*words) == 2
    assert "gates: the output folder is not empty (it holds metrics.json)" in capsys.readouterr().err
    assert others.read_text() == "the other's"


def test_the_options_are_the_settings() -> None:
    command = get_command(build_app()).commands["gate"]  # type: ignore[attr-defined]
    assert {option.name for option in command.params} == {field.name for field in dataclasses.fields(GateSettings)}
