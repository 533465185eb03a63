"""Training a language model on CUDA devices: bf16, resumed, and data-parallel on several."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("lightning", reason="the extra train is not installed")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

SHAPE = "--d-model 64 --n-layers 2 --n-heads 2 --context 32 --steps 60 --batch 8 --learning-rate 0.003 -q"


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    text = "the quick brown fox jumps over the lazy dog and the cat sat on the mat\n"
    (tmp_path / "train.txt").write_text(text * 200)
    (tmp_path / "valid.txt").write_text(text * 10)
    words = ["lm", "data", "build", f"train={tmp_path / 'train.txt'}", f"valid={tmp_path / 'valid.txt'}"]
    seqassay(tmp_path, *words, "--characters", "-o", "tokens", "--no-progress")
    return tmp_path / "tokens"


def seqassay(folder: Path, *words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "seqassay", *words], cwd=folder, capture_output=True, text=True, timeout=600,
        env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def losses(folder: Path) -> tuple[float, float]:
    training = json.loads((folder / "training.json").read_text())["training"]
    return training["first_batch_loss"], training["last"]["dev_loss"]


def test_bf16_on_one_device_learns_as_float32_on_the_cpu_does(tokens: Path, tmp_path: Path) -> None:
    seqassay(tmp_path, "lm", "train", str(tokens), "-o", "gpu", *SHAPE.split(), "--device", "cuda")
    seqassay(tmp_path, "lm", "train", str(tokens), "-o", "cpu", *SHAPE.split(), "--device", "cpu")
    assert json.loads((tmp_path / "gpu/training.json").read_text())["precision"] == "bf16"
    (first, last), (_, expected) = losses(tmp_path / "gpu"), losses(tmp_path / "cpu")
    assert last < first - 0.5
    assert last == pytest.approx(expected, abs=0.05)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_two_devices_train_as_one(tokens: Path, tmp_path: Path) -> None:
    for devices in ("1", "2"):
        words = ["--device", "cuda", "--devices", devices, "--precision", "float32"]
        seqassay(tmp_path, "lm", "train", str(tokens), "-o", devices, *SHAPE.split(), *words)
    assert losses(tmp_path / "2")[1] == pytest.approx(losses(tmp_path / "1")[1], abs=0.02)
