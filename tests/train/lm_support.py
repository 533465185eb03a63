"""A small text whose next character can be learnt, as token files, and settings of a training of a second."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

from seqassay.models.lm_plan import LmPlan, ShapeSettings, plan_of_shape
from seqassay.text.build import BuildSettings, build_token_files
from seqassay.train.lm_settings import LmTrainSettings

WORDS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")


def write_tokens(folder: Path, *, seed: int = 1) -> Path:
    """Token files of characters: 4,000 words to train on, 300 to evaluate on."""
    rng = random.Random(seed)
    text = folder / "text"
    text.mkdir(parents=True)
    for split, n in (("train", 4000), ("valid", 300)):
        (text / f"{split}.txt").write_text(" ".join(rng.choices(WORDS, k=n)) + "\n")
    out = folder / "tokens"
    build_token_files(BuildSettings(inputs=(str(text),), output_dir=out, characters=True))
    return out


def tiny_plan(vocab_size: int, **changes: Any) -> LmPlan:
    """2 layers, 16 wide, a context of 16."""
    shape: dict[str, Any] = {"d_model": 16, "n_layers": 2, "n_heads": 2, "context": 16, **changes}
    return plan_of_shape(ShapeSettings(vocab_size=vocab_size, **shape))


def settings(tokens: Path, out: Path, **changes: Any) -> LmTrainSettings:
    """30 steps of 4 windows on one thread."""
    given: dict[str, Any] = {
        "steps": 30, "batch": 4, "learning_rate": 1e-2, "device": "cpu", "threads": 1,
        "evaluate_every": 10, "log_every": 4,
    }  # fmt: skip
    return LmTrainSettings(tokens=tokens, output_dir=out, **{**given, **changes})


def curve(folder: Path) -> list[dict[str, str]]:
    """Rows of metrics.csv without what depends on the clock."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "tokens_per_s"} for row in csv.DictReader(file)]
