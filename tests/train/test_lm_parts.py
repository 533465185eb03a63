"""Parts of a language model's training: schedule, kill rule, metrics file, dev loss, settings."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seqassay.errors import InputError, MissingExtraError, UsageError
from seqassay.models.attention import PackedLayout
from seqassay.models.causal_lm import CausalLmConfig
from seqassay.models.lm_files import build_lm
from seqassay.train.lm_dev import DevSet, perplexity_of
from seqassay.train.lm_kill import Baseline, KillRule, read_baseline
from seqassay.train.lm_loggers import require_loggers
from seqassay.train.lm_metrics import COLUMNS, MetricsFile
from seqassay.train.lm_settings import LmTrainSettings, Schedule, number_of_steps, schedule_of


def settings(**given: Any) -> LmTrainSettings:
    return LmTrainSettings(tokens=Path("t"), output_dir=Path("o"), **{"steps": 100, **given})


def test_the_schedule_warms_up_in_a_line_and_falls_as_half_a_cosine() -> None:
    schedule = Schedule(learning_rate=1.0, min_lr_ratio=0.1, warmup_steps=4, n_steps=15)
    assert [schedule.at(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert schedule.at(4) == 1.0
    assert schedule.at(9) == pytest.approx(0.55)  # half-way
    assert schedule.at(14) == pytest.approx(0.1)
    rates = [schedule.at(step) for step in range(4, 15)]
    assert rates == sorted(rates, reverse=True)
    assert Schedule(1.0, 0.1, 0, 1).at(0) == 1.0


def test_a_token_budget_ends_with_the_next_whole_step() -> None:
    asked = settings(steps=None, token_budget=1001, batch=4, accumulate=5)
    assert number_of_steps(asked, context_tokens=10) == 6
    assert schedule_of(settings(), 10).warmup_steps == 5
    assert schedule_of(settings(warmup_steps=0), 10).at(0) == 1e-3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": 0}, "--steps is 0"),
        ({"steps": None}, "give --steps or --token-budget"),
        ({"token_budget": 5}, "give --steps or --token-budget"),
        ({"learning_rate": math.nan}, "--learning-rate is nan"),
        ({"dropout": 1.0}, "--dropout is 1"),
        ({"beta2": -0.1}, "--beta2 is -0.1"),
        ({"weight_decay": -1.0}, "--weight-decay is -1"),
        ({"batch": 3, "devices": 2}, "cannot share it evenly"),
        ({"warmup_steps": 101}, "--warmup-steps is 101"),
        ({"checkpoint_minutes": 0.0}, "--checkpoint-minutes is 0"),
    ],
)
def test_settings_out_of_their_range(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        settings(**given)


def test_a_baseline_is_a_value_or_a_curve(tmp_path: Path) -> None:
    assert read_baseline("12.5").at(10**9) == 12.5
    (tmp_path / "metrics.csv").write_text("tokens,dev_perplexity\n100,20\n150,\n200,10\n")
    for given in (str(tmp_path), str(tmp_path / "metrics.csv")):
        found = read_baseline(given)
        assert [found.at(n) for n in (99, 100, 150, 200, 1000)] == [None, 20, 15, 10, 10]
    (tmp_path / "metrics.csv").write_text("tokens,dev_perplexity\n100,\n")
    with pytest.raises(UsageError, match="no evaluation yet"):
        read_baseline(str(tmp_path))
    (tmp_path / "metrics.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match=r"is not the metrics\.csv"):
        read_baseline(str(tmp_path))
    for bad in ("nowhere", "nan", "0.5"):
        with pytest.raises(UsageError, match="--baseline is"):
            read_baseline(bad)


def test_the_kill_rule_wants_a_million_bad_tokens_in_a_row() -> None:
    rule = KillRule(Baseline((0,), (10.0,)), margin=0.5, n_tokens=1_000_000)
    m = 1_000_000
    # bad, bad for 0.9M, good, bad, bad for 0.999999M, bad for 1M
    seen = [(0, 10.5), (900_000, 12.0), (m, 10.49), (2 * m, 11.0), (3 * m - 1, 11.0)]
    assert not any(rule.see(tokens, perplexity) for tokens, perplexity in seen)
    assert rule.verdict is None
    assert rule.see(3 * m, 10.5)
    assert rule.verdict == {
        "dev_perplexity": 10.5,
        "baseline_perplexity": 10.0,
        "margin": 0.5,
        "worse_since_tokens": 2 * m,
        "tokens_seen": 3 * m,
    }


def test_before_its_first_evaluation_a_baseline_says_nothing() -> None:
    rule = KillRule(Baseline((100,), (10.0,)), margin=0.5, n_tokens=1)
    assert not rule.see(50, 99.0)
    assert rule.worse_since_tokens is None


def test_metrics_are_cut_back_to_a_step_and_go_on(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "metrics.csv")
    metrics.cut_back(0)
    for step in (4, 8, 12):
        metrics.add({name: step if name == "step" else 0.1 for name in COLUMNS})
    with metrics.path.open("ab") as file:
        file.write(b"16,0.1,0")  # a power failure
    metrics.cut_back(8)
    metrics.add({"step": 9, "train_loss": None})
    assert [line.split(",")[0] for line in metrics.path.read_text().splitlines()] == ["step", "4", "8", "9"]


@pytest.mark.parametrize("content", [b"step\n\xff\n", b"a,b\n1,2\n", b"step,tokens\n4,8\n"])
def test_metrics_that_are_none_are_an_error_that_names_them(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "metrics.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"metrics\.csv: these are not the rows of a training"):
        MetricsFile(tmp_path / "metrics.csv").cut_back(8)
    assert (tmp_path / "metrics.csv").read_bytes() == content


@pytest.mark.parametrize("n_tokens", [2, 8, 9, 10, 41])
def test_the_dev_loss_is_that_of_every_token_but_the_first(n_tokens: int) -> None:
    model = build_lm(CausalLmConfig(vocab_size=11, d_model=8, n_layers=1, n_heads=2, d_ff=16, context=8), seed=1)
    tokens = np.random.default_rng(1).integers(0, 11, n_tokens).astype(np.uint16)
    dev = DevSet.of(tokens, 8, None)
    assert dev.n_scored_tokens == n_tokens - 1
    expected, done = 0.0, 1
    while done < n_tokens:  # window by window: each begins where the one before ended, the last one earlier
        stop = min(n_tokens, done + 8)
        piece = torch.from_numpy(tokens[max(0, stop - 9) : stop].astype(np.int64))
        with torch.no_grad():
            logits = model.logits(model(piece[:-1], PackedLayout.from_lengths([len(piece) - 1]), exact=True)).double()
        expected += float(F.cross_entropy(logits, piece[1:], reduction="none")[-(stop - done) :].sum())
        done = stop
    model.train()
    assert dev.loss_sum(model, batch_tokens=24) == pytest.approx(expected, abs=1e-4)
    assert model.training
    shares = [dev.loss_sum(model, batch_tokens=8, rank=rank, n_ranks=3) for rank in range(3)]
    assert sum(shares) == pytest.approx(expected, abs=1e-4)


def test_a_bounded_dev_set_lies_evenly_over_the_split() -> None:
    dev = DevSet.of(np.zeros(801, np.uint16), 8, 5)
    assert [window.start for window in dev.windows] == [0, 200, 400, 592, 792]
    said = dev.said()
    assert (said["windows"], said["of_windows"], said["scored_tokens"], said["split_tokens"]) == (5, 100, 40, 801)
    assert len(DevSet.of(np.zeros(801, np.uint16), 8, 1000).windows) == 100


def test_perplexity_does_not_overflow() -> None:
    assert perplexity_of(math.log(2)) == pytest.approx(2)
    assert math.isfinite(perplexity_of(1e6))


def test_a_logger_that_is_not_installed_is_an_error_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'seqassay\[tracking\]'"):
        require_loggers(["mlflow"])
