"""Training of a language model: against a plain loop, bit for bit after a kill, and whatever ends it early."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lm_support import curve, settings, tiny_plan, write_tokens
from safetensors.torch import load_file

pytest.importorskip("lightning", reason="the extra train is not installed")

import lightning.pytorch as pl

from seqassay import durable
from seqassay.errors import InputError, ResourceError, SeqassayError, UsageError
from seqassay.evaluate.lm_guards import LmGuardError
from seqassay.measure.schema import check_schema
from seqassay.models.attention import PackedLayout
from seqassay.models.causal_lm import CausalLm
from seqassay.models.lm_files import build_lm, export_lm, load_lm, save_lm
from seqassay.text.token_files import open_token_files
from seqassay.text.windows import TrainingWindows
from seqassay.train import lm_start
from seqassay.train.lm import check_overfit, find_rate, train_lm
from seqassay.train.lm_dev import DevSet
from seqassay.train.lm_module import DivergedError
from seqassay.train.lm_settings import schedule_of


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokens(tmp_path_factory.mktemp("lm"))


@pytest.fixture(scope="module")
def vocab_size(tokens: Path) -> int:
    return open_token_files(tokens).vocab_size


class Gone(Exception):
    """Ends a training in the middle."""


class RaiseAt(pl.Callback):
    """Ends the process's training without warning after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise Gone


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_same(first: Path, second: Path) -> None:
    assert curve(first) == curve(second)
    for name in ("best", "last"):
        one, other = weights(first / name), weights(second / name)
        assert all(torch.equal(one[key], other[key]) for key in one)
    records = [json.loads((folder / "training.json").read_text())["training"] for folder in (first, second)]
    for record in records:
        for name in ("wall_s", "aside_s", "tokens_per_s"):
            del record[name]
    assert records[0] == records[1]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_losses_and_weights_are_those_of_a_plain_loop(
    tokens: Path, vocab_size: int, tmp_path: Path, accumulate: int
) -> None:
    plan = tiny_plan(vocab_size)
    asked = settings(tokens, tmp_path / "run", steps=12, log_every=1, batch=4 // accumulate, accumulate=accumulate)
    train_lm(asked, plan)
    model = build_lm(plan.config, seed=0)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    norms = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices}, {"params": norms, "weight_decay": 0.0}], lr=1e-2, betas=(0.9, 0.95), weight_decay=0.1
    )
    windows = TrainingWindows(open_token_files(tokens).split("train").tokens, 16, 4, seed=0)
    schedule, losses = schedule_of(asked, 16), []
    for step in range(12):
        inputs, targets = (torch.from_numpy(x) for x in windows.batch(step))
        hidden = model(inputs.flatten(), PackedLayout.from_lengths([16] * 4), exact=True)
        loss = F.cross_entropy(hidden @ model.embed_tokens.weight.T, targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = schedule.at(step)
        optimizer.step()
        losses.append(loss.item())
    rows = curve(tmp_path / "run")
    assert [float(row["train_loss"]) for row in rows] == pytest.approx(losses, abs=2e-4)
    assert [int(row["tokens"]) for row in rows] == [64 * step for step in range(1, 13)]
    trained = weights(tmp_path / "run/last")
    for name, parameter in model.named_parameters():
        assert torch.allclose(trained[name], parameter, atol=2e-3), name


def test_a_training_learns_and_leaves_models_that_load(tokens: Path, vocab_size: int, tmp_path: Path) -> None:
    result = train_lm(settings(tokens, tmp_path / "run", steps=150), tiny_plan(vocab_size))
    training = result.record["training"]
    check_schema(json.loads((tmp_path / "run/training.json").read_text()), "lm_training")
    assert training["first_batch_loss"] == pytest.approx(np.log(vocab_size), abs=0.1)
    assert training["last"]["dev_loss"] < 0.6 * training["first_batch_loss"]
    assert training["best"]["dev_loss"] == min(float(r["dev_loss"]) for r in curve(tmp_path / "run") if r["dev_loss"])
    assert (training["steps"], training["tokens_seen"]) == (150, 150 * 64)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "best", "last", "metrics.csv", "training.json",
    ]  # fmt: skip
    for name in ("best", "last"):
        loaded = load_lm(tmp_path / "run" / name)
        assert loaded.said["training"]["dev_loss"] == training[name]["dev_loss"]
        assert loaded.tokenizer_path is not None
        # Computed anew: the loop's figures are of the weights that it wrote, at every evaluation.
        dev = DevSet.of(open_token_files(tokens).split("valid").tokens, 16, None)
        assert dev.loss_sum(loaded.model, batch_tokens=64) / dev.n_scored_tokens == pytest.approx(
            training[name]["dev_loss"], abs=1e-5
        )
    assert load_lm(tmp_path / "run").path == tmp_path / "run/best"
    export_lm(tmp_path / "run", tmp_path / "exported")
    before = (tmp_path / "run/training.json").read_bytes()
    assert train_lm(settings(tokens, tmp_path / "run", steps=150), tiny_plan(vocab_size)).was_done
    assert (tmp_path / "run/training.json").read_bytes() == before


EXACT: dict[str, Any] = {  # the seed of dropout's numbers is made of it: any size has to do
    "seed": 2026_11_22,
    "accumulate": 2,
    "dropout": 0.1,
    "checkpoint_steps": 5,
    "evaluate_every": 7,
    "log_every": 4,
}


@pytest.fixture(scope="module")
def uninterrupted(tokens: Path, vocab_size: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    train_lm(settings(tokens, folder, **EXACT), tiny_plan(vocab_size))
    return folder


def test_after_a_kill_the_curve_and_the_weights_are_the_same_bit_for_bit(
    tokens: Path, vocab_size: int, tmp_path: Path, uninterrupted: Path
) -> None:
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
import lightning.pytorch as pl
from lm_support import settings, tiny_plan
from seqassay.train.lm import train_lm
class Kill(pl.Callback):
    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 18:
            os.kill(os.getpid(), signal.SIGKILL)
train_lm(settings(Path({str(tokens)!r}), Path('run'), **{EXACT!r}), tiny_plan({vocab_size}), callbacks=[Kill()])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (tmp_path / "run/checkpoint.ckpt").is_file()
    assert json.loads((tmp_path / "run/training.json").read_text())["status"] == "running"
    train_lm(settings(tokens, tmp_path / "run", **EXACT), tiny_plan(vocab_size))
    assert_same(tmp_path / "run", uninterrupted)


@pytest.mark.parametrize("steps", [(3,), (5,), (14, 15, 29), (30,)])
def test_stopped_anywhere_and_as_often_as_one_likes(
    tokens: Path, vocab_size: int, tmp_path: Path, uninterrupted: Path, steps: tuple[int, ...]
) -> None:
    for step in steps:
        with pytest.raises(Gone):
            train_lm(settings(tokens, tmp_path / "run", **EXACT), tiny_plan(vocab_size), callbacks=[RaiseAt(step)])
    train_lm(settings(tokens, tmp_path / "run", **EXACT), tiny_plan(vocab_size))
    assert_same(tmp_path / "run", uninterrupted)


def test_two_processes_train_as_one(tokens: Path, vocab_size: int, tmp_path: Path) -> None:
    """DDP over gloo, which Lightning starts by running the command a second time."""
    shape = ["--d-model", "16", "--n-layers", "2", "--n-heads", "2", "--context", "16"]
    words = ["-m", "seqassay", "lm", "train", str(tokens), *shape, "--steps", "12", "--batch", "4", "--device", "cpu"]
    words += ["--learning-rate", "0.01", "--threads", "1", "--log-every", "4", "-q"]
    for name, devices in (("one", "1"), ("two", "2")):
        done = subprocess.run(
            [sys.executable, *words, "--devices", devices, "-o", name],
            cwd=tmp_path, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    one, two = curve(tmp_path / "one"), curve(tmp_path / "two")
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert a["step"] == b["step"]
        assert float(a["train_loss"]) == pytest.approx(float(b["train_loss"]), abs=2e-4)
        assert (a["dev_loss"] == "") == (b["dev_loss"] == "")
        if a["dev_loss"]:
            assert float(a["dev_loss"]) == pytest.approx(float(b["dev_loss"]), abs=2e-4)


def test_a_loss_that_is_not_finite_ends_it_with_step_and_rate(tokens: Path, vocab_size: int, tmp_path: Path) -> None:
    class Poison(pl.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            if trainer.global_step == 13:
                pl_module.model.layers[0].down.weight.data[0, 0] = float("nan")

    asked = settings(tokens, tmp_path / "run", checkpoint_steps=5)
    with pytest.raises(
        DivergedError, match=r"the loss is nan at step 13, learning rate 0.0\d+; the last good"
    ) as found:
        train_lm(asked, tiny_plan(vocab_size), callbacks=[Poison()])
    assert found.value.exit_code == 1
    assert found.value.learning_rate == schedule_of(asked, 16).at(13)
    kept = torch.load(tmp_path / "run/checkpoint.ckpt", weights_only=True)
    assert kept["global_step"] == 10
    assert all(bool(t.isfinite().all()) for t in kept["state_dict"].values())
    assert json.loads((tmp_path / "run/training.json").read_text())["status"] == "failed"
    assert all("nan" not in row.values() for row in curve(tmp_path / "run"))


def test_a_full_disk_leaves_the_checkpoint_before_whole(
    tokens: Path, vocab_size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: Path
) -> None:
    real, stage = durable.stage, 0

    def full_at_the_third(path: Path, pieces: Any) -> int:
        nonlocal stage
        if path.name == "checkpoint.ckpt":
            stage += 1
            if stage == 3:
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return real(path, pieces)

    monkeypatch.setattr(durable, "stage", full_at_the_third)
    with pytest.raises(ResourceError, match="the disk is full"):
        train_lm(settings(tokens, tmp_path / "run", **EXACT), tiny_plan(vocab_size))
    assert torch.load(tmp_path / "run/checkpoint.ckpt", weights_only=True)["global_step"] == 10
    monkeypatch.setattr(durable, "stage", real)
    train_lm(settings(tokens, tmp_path / "run", **EXACT), tiny_plan(vocab_size))
    assert_same(tmp_path / "run", uninterrupted)


def test_the_kill_rule_ends_it_and_says_so(tokens: Path, vocab_size: int, tmp_path: Path) -> None:
    asked = settings(tokens, tmp_path / "run", baseline="1.5", kill_tokens=640)
    record = train_lm(asked, tiny_plan(vocab_size)).record
    assert record["status"] == "killed"
    assert record["training"]["steps"] == 20
    assert record["training"]["steps_planned"] == 30
    assert record["killed"]["worse_since_tokens"] == 640
    assert record["killed"]["tokens_seen"] == 1280
    assert load_lm(tmp_path / "run/last").said["training"]["step"] == 20
    assert train_lm(asked, tiny_plan(vocab_size)).record["status"] == "killed"


def test_a_model_is_not_killed_by_its_own_curve(tokens: Path, vocab_size: int, tmp_path: Path) -> None:
    train_lm(settings(tokens, tmp_path / "first"), tiny_plan(vocab_size))
    asked = settings(tokens, tmp_path / "run", baseline=str(tmp_path / "first"), kill_tokens=1)
    assert train_lm(asked, tiny_plan(vocab_size)).record["status"] == "done"


def test_a_checkpoint_is_begun_with_and_its_tokenizer_must_be_that_of_the_tokens(
    tokens: Path, vocab_size: int, tmp_path: Path
) -> None:
    plan = tiny_plan(vocab_size)
    save_lm(build_lm(plan.config, 3), tmp_path / "untrained", plan=plan, seed=3, tokenizer=tokens / "tokenizer.json")
    asked = settings(tokens, tmp_path / "run", checkpoint=tmp_path / "untrained")
    first = train_lm(asked).record
    again = train_lm(settings(tokens, tmp_path / "again", checkpoint=tmp_path / "run/best")).record
    assert again["training"]["first_batch_loss"] < first["training"]["first_batch_loss"] - 0.5  # no guard of ln V
    other = tmp_path / "other"
    other.mkdir()
    (other / "train.txt").write_text("another alphabet: qwjk\n" * 20)
    (other / "valid.txt").write_text("another alphabet\n" * 5)
    from seqassay.text.build import BuildSettings, build_token_files

    build_token_files(BuildSettings(inputs=(str(other),), output_dir=tmp_path / "foreign", characters=True))
    with pytest.raises(InputError, match="the tokens are those of tokenizer"):
        train_lm(settings(tmp_path / "foreign", tmp_path / "x", checkpoint=tmp_path / "untrained"))
    with pytest.raises(InputError, match="the model has a vocabulary of 4"):
        train_lm(settings(tokens, tmp_path / "x"), tiny_plan(4))
    with pytest.raises(UsageError, match="give --checkpoint DIR, or a budget"):
        train_lm(settings(tokens, tmp_path / "x"))
    assert not (tmp_path / "x").exists()


def test_other_settings_are_no_reason_to_go_on(tokens: Path, vocab_size: int, tmp_path: Path) -> None:
    asked = settings(tokens, tmp_path / "run")
    train_lm(asked, tiny_plan(vocab_size))
    with pytest.raises(UsageError, match=r"other settings: learning-rate is 0.01 there, 0.02 here"):
        train_lm(replace(asked, learning_rate=2e-2), tiny_plan(vocab_size))
    with pytest.raises(UsageError, match="other settings: model is"):
        train_lm(asked, tiny_plan(vocab_size, n_layers=1))
    record = train_lm(replace(asked, learning_rate=2e-2, force=True), tiny_plan(vocab_size)).record
    assert record["settings"]["learning_rate"] == 2e-2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match=r"holds thesis\.tex"):
        train_lm(settings(tokens, tmp_path / "mine", force=True), tiny_plan(vocab_size))


def test_what_was_changed_since_the_stop_is_no_reason_to_go_on(tokens: Path, vocab_size: int, tmp_path: Path) -> None:
    shutil.copytree(tokens, tmp_path / "tokens")
    run, asked = tmp_path / "run", settings(tmp_path / "tokens", tmp_path / "run", checkpoint_steps=2)
    with pytest.raises(Gone):
        train_lm(asked, tiny_plan(vocab_size), callbacks=[RaiseAt(3)])
    for path, content, message in (
        (tmp_path / "tokens/train.bin", lambda old: bytes([old[0] ^ 1]) + old[1:], r"train\.bin: was changed"),
        (
            tmp_path / "tokens/tokenizer.json",
            lambda old: old.replace(b'"a"', b'"A"'),
            r"tokenizer\.json: has the digest",
        ),
        (run / "checkpoint.ckpt", lambda _: b"", r"checkpoint\.ckpt: the checkpoint cannot be read: EOFError|Ran out"),
        (run / "training.json", None, r"holds a checkpoint without training\.json"),
    ):
        before = path.read_bytes()
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content(before))
        with pytest.raises(SeqassayError, match=message) as caught:
            train_lm(asked, tiny_plan(vocab_size))
        assert caught.value.exit_code == 2 and caught.value.hint
        path.write_bytes(before)
    assert train_lm(asked, tiny_plan(vocab_size)).record["status"] == "done"


def test_guards_run_before_the_first_step(
    tokens: Path, vocab_size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = CausalLm.forward

    def leaks(self: CausalLm, tokens_T: Any, layout: Any, **more: Any) -> Any:
        hidden_TD = real(self, tokens_T, layout, **more)
        return hidden_TD + hidden_TD.roll(-1, 0)

    with monkeypatch.context() as patch, pytest.raises(LmGuardError, match="the future leaks"):
        patch.setattr(CausalLm, "forward", leaks)
        train_lm(settings(tokens, tmp_path / "leaks"), tiny_plan(vocab_size))

    def loud(config: Any, seed: int) -> CausalLm:
        model = build_lm(config, seed)
        model.embed_tokens.weight.data *= 100
        return model

    monkeypatch.setattr(lm_start, "build_lm", loud)
    with pytest.raises(LmGuardError, match="loss before training is"):
        train_lm(settings(tokens, tmp_path / "loud"), tiny_plan(vocab_size))
    assert not (tmp_path / "loud/training.json").exists()


def test_one_batch_is_learnt_by_heart_or_the_error_says_what_is_wrong(
    tokens: Path, vocab_size: int, tmp_path: Path
) -> None:
    asked = settings(tokens, tmp_path / "run")
    result = check_overfit(asked, tiny_plan(vocab_size))
    assert result.last_loss <= 0.1 * result.first_loss
    with pytest.raises(LmGuardError, match="32 tokens are not learnt by heart"):
        check_overfit(replace(asked, learning_rate=1e-7), tiny_plan(vocab_size))
    assert not (tmp_path / "run").exists()


def test_the_rate_that_is_suggested_trains(tokens: Path, vocab_size: int, tmp_path: Path) -> None:
    found = find_rate(settings(tokens, tmp_path / "run"), tiny_plan(vocab_size))
    assert found.suggestion is not None
    assert 1e-4 < found.suggestion < 0.5
    said = json.loads((tmp_path / "run/lr_find.json").read_text())
    assert said["suggestion"] == found.suggestion
    assert len(said["rates"]) == len(said["losses"]) > 50
    record = train_lm(settings(tokens, tmp_path / "run", learning_rate=found.suggestion), tiny_plan(vocab_size)).record
    assert record["training"]["last"]["dev_loss"] < record["training"]["first_batch_loss"] - 0.2
