"""`seqassay lm evaluate` as typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., int]
TEXT = "The cat sat on the mat.\nIt saw the hat and the bat.\n" * 20


@pytest.fixture
def built(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    Path("train.txt").write_text(TEXT)
    Path("valid.txt").write_text(TEXT[:200])
    assert run("lm", "data", "build", "train=train.txt", "valid=valid.txt", "--characters", "-o", "tokens") == 0
    words = ["--tokenizer", "tokens/tokenizer.json", "--d-model", 16, "--n-layers", 1, "--n-heads", 2, "--context", 16]
    assert run("lm", "build", *words, "-o", "model") == 0
    capsys.readouterr()


@pytest.mark.usefixtures("built")
def test_figures_are_printed_and_written(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run("lm", "evaluate", "model", "tokens", "-o", "out", "--device", "cpu", "--top-k", "1, 3", "--skip-profiling")
        == 0
    )
    shown = capsys.readouterr().out
    record = json.loads(Path("out/metrics.json").read_text())
    values = record["splits"]["valid"]["values"]
    assert list(record["splits"]) == ["valid"] and "top_3_accuracy" in values
    assert f"{values['bits_per_byte']['value']:.6g}" in shown and "199 tokens scored" in shown
    assert shown.rstrip().endswith("record  out/metrics.json")
    report = Path("out/summary.md").read_text()
    assert f"| bits per byte | {values['bits_per_byte']['value']:.6g} |" in report
    assert run("report", "out") == 0
    assert run("lm", "evaluate", "model", "tokens", "-o", "out") == 2
    assert "the output folder is not empty" in capsys.readouterr().err
    words = ["--force", "--skip-profiling", "--splits", "train,valid", "--max-batches", 1, "--batch", 64]
    assert run("lm", "evaluate", "model", "tokens", "-o", "out", *words) == 0
    shown = capsys.readouterr().out
    assert shown.index("train: PARTIAL, the first") < shown.index("valid: PARTIAL, the first")


@pytest.mark.usefixtures("built")
def test_what_is_refused(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    Path("other.txt").write_text("A ~ that the vocabulary lacks")
    for words, message in (
        (["model", "tokens", "--top-k", "one"], "--top-k is 'one'; it is whole numbers"),
        (["model", "tokens", "--windows", "rolling"], "--windows is 'rolling'; it has to be one of"),
        (["model", "other.txt"], "other.txt, line 1: column"),
        (["model", "nothing"], "nothing: no such file or folder"),
        (["tokens", "tokens"], "tokens"),
        (["model", "--latency-shapes", "1x8,16"], "--latency-shapes is '16'; it is sequences x tokens, as in 1x128"),
        (["model", "--throughput-shape", "4xall"], "--throughput-shape is '4xall'; it is whole numbers with an x"),
        (["model", "--memory-shape", "1x17"], "1x17 has sequences of 17 tokens; the model was made for 16"),
        (["model", "--scaling-batches", "1;2"], "--scaling-batches is '1;2'; it is whole numbers with commas"),
        (["model", "--skip-profiling"], "every part is skipped"),
    ):
        assert run("lm", "evaluate", *words, "-o", "out") == 2
        assert message in capsys.readouterr().err
        assert not Path("out").exists()


@pytest.mark.usefixtures("built")
def test_speed_alone(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--latency-shapes", "1x4,2x16", "--latency-runs", 20, "--skip-throughput", "--skip-memory"]
    words += ["--scaling-batches", "2,1", "--scaling-runs", 2, "--run-id", "mine", "--device", "cpu"]
    assert run("lm", "evaluate", "model", "-o", "speed", *words) == 0
    shown = capsys.readouterr().out
    record = json.loads(Path("speed/metrics.json").read_text())
    assert [entry["shape"] for entry in record["profiling"]["latency"]] == ["1x4", "2x16"]
    assert [entry["shape"] for entry in record["profiling"]["scaling"]] == ["1x16", "2x16"]
    assert "Latency of a scoring pass" in shown and "\nrun     mine\nguards  " in shown
    assert record["splits"] == {} and record["run"]["id"] == "mine"
    assert record["settings"]["latency_shapes"] == [[1, 4], [2, 16]]
