"""`seqassay benchmark speed` as a command: options, exit codes, what a stop leaves."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.main import get_command

from seqassay.cli.main import build_app
from seqassay.models.esm2 import Esm2, Esm2Config
from seqassay.models.weights import save_esm2
from seqassay.prove.speed.settings import SpeedSettings

FEW = ("--n-sequences", "2", "--warm-ups", "1", "--runs", "2", "--pairs", "6", "--device", "cpu", "--threads", "1")
Speed = Callable[..., int]


@pytest.fixture
def speed(run: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> Speed:
    """Benchmark ``small`` against ``large`` into ``out``; the device's peak takes no time."""
    torch.manual_seed(0)
    for name, shape in (("small", Esm2Config(1, 16, 2)), ("large", Esm2Config(2, 32, 2))):
        save_esm2(Esm2(shape), name)
    monkeypatch.setattr("seqassay.prove.speed.peak._CPU_SIZES", (256,))
    monkeypatch.setattr("seqassay.prove.speed.measuring.WARM_LIMIT_S", 0.01)
    return lambda *words: run("benchmark", "speed", "./small", "--baseline", "./large", "-o", "out", *FEW, *words)


def test_the_installed_command(speed: Speed) -> None:
    command = [Path(sys.executable).with_name("seqassay"), "benchmark", "speed", "./small", "--candidate-only"]
    done = subprocess.run([*command, "-o", "out", *FEW], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "candidate  small (1 × 16, " in done.stdout
    assert "passes" in done.stderr
    assert json.loads(Path("out/metrics.json").read_text())["verdict"] == "SKIPPED"


def test_options_are_the_settings() -> None:
    group = get_command(build_app()).commands["benchmark"]  # type: ignore[attr-defined]
    fields = {field.name for field in dataclasses.fields(SpeedSettings)}
    assert {parameter.name for parameter in group.commands["speed"].params} - {"progress"} == fields


@pytest.mark.parametrize(
    ("limit", "code", "words"),
    [("0.000001", 0, "PASSED"), ("1000000", 5, "FAILED: speed-up")],
)
def test_the_verdict_is_the_exit_code(speed: Speed, capsys, limit: str, code: int, words: str) -> None:
    assert speed("--min-speedup", limit) == code
    shown = capsys.readouterr()
    assert words in shown.out + shown.err
    assert "record     out/metrics.json" in shown.out
    assert ("Next steps:" in shown.err) is (code == 5)
    assert Path("out/reports/speed_benchmark.md").is_file()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--pairs", "-1"), "--pairs is -1"),
        (("--baseline", "esm2_t6_8M"), "did you mean esm2_t6_8M_UR50D"),
        (("--sequences", "nothing.fa"), "nothing.fa"),
        (("--sequences", "rubbish.fa"), "rubbish.fa"),
        (("--sequences", "empty.fa"), "empty.fa"),
        (("--precision", "int3"), "--precision is 'int3'"),
        (("--random-weights",), "--random-weights"),
    ],
)
def test_bad_usage_ends_with_2_and_writes_nothing(speed: Speed, capsys, options: tuple[str, ...], words: str) -> None:
    Path("rubbish.fa").write_text("rubbish\n")
    Path("empty.fa").write_text("")
    assert speed(*options) == 2
    assert words in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_benchmark_ends_with_3_and_writes_nothing(
    speed: Speed, capsys, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def stopped(*_: object, **__: object) -> None:
        os.kill(os.getpid(), number)
        time.sleep(5)

    monkeypatch.setattr("seqassay.prove.speed.measuring.Bench.pairs", stopped)
    assert speed() == 3
    assert "nothing was written" in capsys.readouterr().err
    assert not Path("out").exists()
