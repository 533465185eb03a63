"""`seqassay lm train` as typed."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("lightning", reason="the extra train is not installed")

from seqassay.train import lm_callback

Run = Callable[..., int]
SHAPE = "--d-model 16 --n-layers 1 --n-heads 2 --context 16"
HOW = "--batch 4 --device cpu --threads 1 -q"


@pytest.fixture
def tokens(run: Run) -> str:
    Path("text").mkdir()
    words = random.Random(1).choices(("alpha", "beta", "gamma"), k=2000)
    Path("text/train.txt").write_text(" ".join(words[:1800]))
    Path("text/valid.txt").write_text(" ".join(words[1800:]))
    assert run("lm", "data", "build", "text", "--characters", "-o", "tokens", "--no-progress") == 0
    return "tokens"


def test_train_then_again_then_export(run: Run, tokens: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"lm train {tokens} -o out {SHAPE} {HOW} --token-budget 1000 --eval-windows 5".split()
    capsys.readouterr()
    assert run(*words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "16 steps, 1,024 tokens" in lines[0]
    assert lines[1].startswith("best: step ")
    assert lines[2].startswith("last: step 16, dev loss ")
    assert lines[3].startswith("dev: ")
    assert "5 of " in lines[3]
    assert run(*words) == 0
    assert capsys.readouterr().out.startswith("out: the training ended before; nothing to do\n")
    assert run("lm", "export", "out", "exported") == 0
    assert run("lm", "train", tokens, "-o", "more", "--checkpoint", "out/last", *HOW.split(), "--steps", "3") == 0
    assert json.loads(Path("more/training.json").read_text())["training"]["steps"] == 3


def test_the_kill_rule_is_exit_code_5(run: Run, tokens: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"lm train {tokens} -o out {SHAPE} {HOW} --steps 10 --baseline 1 --kill-tokens 64".split()
    assert run(*words) == 5
    assert "the kill rule ended the training after 128 tokens" in capsys.readouterr().err
    assert json.loads(Path("out/training.json").read_text())["status"] == "killed"


def test_the_rate_finder_and_the_overfit_check_train_nothing(
    run: Run, tokens: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"lm train {tokens} -o out {SHAPE} {HOW} --learning-rate 0.02".split()
    assert run(*words, "--find-lr") == 0
    assert "suggestion (steepest fall): --learning-rate " in capsys.readouterr().out
    assert [path.name for path in Path("out").iterdir()] == ["lr_find.json"]
    assert run(*words, "--overfit-check") == 0
    assert "tokens learnt by heart: loss from " in capsys.readouterr().out
    assert [path.name for path in Path("out").iterdir()] == ["lr_find.json"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (f"{SHAPE}", "give --steps or --token-budget"),
        ("--steps 3", "give --checkpoint DIR, or a budget or a shape"),
        (f"{SHAPE} --checkpoint x --steps 3", "--checkpoint and --n-heads exclude each other"),
        (f"{SHAPE} --steps 3 --precision fp8", "--precision is 'fp8'"),
        (f"{SHAPE} --steps 3 --logger carrier-pigeon", "carrier-pigeon"),
        (f"{SHAPE} --steps 3 --find-lr --overfit-check", "exclude each other"),
        ("--d-model 16 --n-layers 1 --n-heads 3 --steps 3", "heads"),
        (f"{SHAPE} --context 100000 --steps 3", "the training text has"),
    ],
)
def test_what_cannot_be_trained_is_exit_code_2(
    run: Run, tokens: str, capsys: pytest.CaptureFixture[str], words: str, message: str
) -> None:
    assert run("lm", "train", tokens, "-o", "out", "--device", "cpu", *words.split()) == 2
    assert message in capsys.readouterr().err.replace("\n", " ")
    assert not Path("out").exists()


def test_sigterm_leaves_a_checkpoint_of_the_step_it_was_in(run: Run, tokens: str) -> None:
    words = f"lm train {tokens} -o out {SHAPE} {HOW} --steps 1000000 --log-every 1 --eval-windows 1".split()
    command = [sys.executable, "-m", "seqassay", *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    metrics, end = Path("out/metrics.csv"), time.monotonic() + 120
    while time.monotonic() < end and not (metrics.exists() and metrics.read_text().count("\n") > 3):
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "stopped by SIGTERM; what was committed is kept" in said
    assert "seqassay lm train tokens -o out" in said
    import torch

    kept = torch.load(Path("out") / lm_callback.CHECKPOINT_FILE, weights_only=True)
    assert kept["global_step"] == int(metrics.read_text().splitlines()[-1].split(",")[0])
