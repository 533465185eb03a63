"""The training loop: what it restores, what it repeats bit for bit, and how it goes on after a kill."""

from __future__ import annotations

import csv
import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from head_support import write_features
from safetensors.torch import load_file

from seqassay.errors import ModelError, ResourceError, UsageError
from seqassay.models.head import ClassifierHead
from seqassay.models.weights import load_head
from seqassay.train.feature_files import FeatureSet
from seqassay.train.head import HeadSettings, train_head

pytest.importorskip("lightning", reason="the extra train is not installed")

from seqassay.train import head as head_module
from seqassay.train import head_checkpoint
from seqassay.train.head_batches import EpochBatches, InOrder, mean_and_deviation
from seqassay.train.head_checkpoint import DurableCheckpointIO
from seqassay.train.head_module import HeadModule, ScaledHead, folded
from seqassay.train.head_recipes import RECIPES


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("features")
    train = write_features(folder / "train", n_records=60, seed=1)
    return train, write_features(folder / "valid", split="valid", n_records=40, seed=2)


@pytest.fixture
def settings(sets: tuple[Path, Path], tmp_path: Path) -> HeadSettings:
    """Four epochs of some eight steps, a checkpoint every three."""
    return HeadSettings(
        train=sets[0],
        valid=sets[1],
        output_dir=tmp_path / "head",
        max_epochs=4,
        batch_size=16,
        checkpoint_every=3,
        threads=1,
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "head.safetensors")


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def files(folder: Path) -> list[str]:
    """What a training leaves, but TensorBoard's files, which it writes where that is installed."""
    return sorted(path.name for path in folder.iterdir() if path.name != "tensorboard")


def test_a_training_leaves_head_metrics_and_record(settings: HeadSettings) -> None:
    result = train_head(settings)
    folder = settings.output_dir
    assert files(folder) == ["head.safetensors", "metrics.csv", "training.json"]
    assert [int(row["epoch"]) for row in rows(folder)] == [0, 1, 2, 3]
    record = json.loads((folder / "training.json").read_text())
    assert record["status"] == "done"
    assert record["training"]["epochs"] == 4
    assert record["recipe_changes"] == {"batch_size": 16, "max_epochs": 4}
    best = min(rows(folder), key=lambda row: float(row["valid_loss"]))
    assert record["training"]["best_epoch"] == int(best["epoch"])
    # the saved head, read back and run by itself, has the figures that the best epoch was logged with
    valid = FeatureSet(settings.valid)
    logits = load_head(folder / "head.safetensors")(valid.rows(np.arange(len(valid)))).double()
    accuracy = (logits.argmax(1) == valid.labels_F).double().mean()
    assert float(accuracy) == pytest.approx(float(best["valid_accuracy"]))
    assert result.record["validation"]["frames"]["roc_auc"] == pytest.approx(float(best["valid_roc_auc"]), abs=1e-4)
    assert result.record["test"] is None


@pytest.mark.parametrize("recipe", ["default", "reference"])
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(settings: HeadSettings, recipe: str) -> None:
    settings = replace(settings, recipe=recipe)
    places = [settings.output_dir.with_name(name) for name in ("a", "b", "c")]
    for place, seed in zip(places, (7, 7, 8), strict=True):
        train_head(replace(settings, output_dir=place, seed=seed))
    a, b, c = map(weights, places)
    assert_same(a, b)
    assert (places[0] / "head.safetensors").read_bytes() == (places[1] / "head.safetensors").read_bytes()
    assert not torch.equal(a["output_layer.weight"], c["output_layer.weight"])


def test_the_best_weights_are_restored_and_not_the_last(
    settings: HeadSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Validation losses as we say; the head saved has to be the one of the lowest, which is neither first nor last."""
    losses, states = iter([0.9, 0.5, 0.7, 0.8]), []
    original = HeadModule.on_validation_epoch_end

    def scripted(self: HeadModule) -> None:
        original(self)
        states.append({name: tensor.clone() for name, tensor in self.model.state_dict().items()})
        self.valid["loss"] = next(losses)

    monkeypatch.setattr(HeadModule, "on_validation_epoch_end", scripted)
    record = train_head(settings).record
    assert record["training"]["best_epoch"] == 1
    assert_same(weights(settings.output_dir), folded(states[1]).state_dict())
    for other in (states[0], states[3]):
        assert not torch.equal(folded(other).output_layer.weight, weights(settings.output_dir)["output_layer.weight"])


def test_training_stops_after_patience_epochs_without_a_lower_loss(
    settings: HeadSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([0.9, 0.5, 0.7, 0.5, 0.6, 0.1])
    original = HeadModule.on_validation_epoch_end

    def scripted(self: HeadModule) -> None:
        original(self)
        self.valid["loss"] = next(losses)

    monkeypatch.setattr(HeadModule, "on_validation_epoch_end", scripted)
    record = train_head(replace(settings, max_epochs=20, patience=3)).record
    assert record["training"]["epochs"] == 5  # 0.5 again is not lower
    assert record["training"]["best_epoch"] == 1


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def stop_after_commit(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the commit of this number (from 1) end the run, after the file has its name."""
    original, count = DurableCheckpointIO.save_checkpoint, 0

    def save(self: DurableCheckpointIO, *arguments: Any, **options: Any) -> None:
        nonlocal count
        original(self, *arguments, **options)
        count += 1
        if count == number:
            raise Killed

    monkeypatch.setattr(DurableCheckpointIO, "save_checkpoint", save)


@pytest.mark.parametrize("recipe", ["default", "reference"])
def test_stopped_at_every_commit_and_resumed(
    settings: HeadSettings, recipe: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = replace(settings, recipe=recipe)
    train_head(settings)
    expected = rows(settings.output_dir)
    for number in range(1, 40):
        stopped = replace(settings, output_dir=tmp_path / f"stopped{number}")
        with monkeypatch.context() as patch:
            stop_after_commit(number, patch)
            try:
                train_head(stopped)
            except Killed:
                pass
            else:
                break
        train_head(replace(stopped, resume=True))
        assert_same(weights(stopped.output_dir), weights(settings.output_dir))
        assert rows(stopped.output_dir) == expected, f"stopped after commit {number}"
    assert number > 4 * 2  # every epoch has commits within it and one at its end


def test_stopped_again_and_again(settings: HeadSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    train_head(settings)
    stopped = replace(settings, output_dir=tmp_path / "stopped")
    for _ in range(30):
        with monkeypatch.context() as patch:
            stop_after_commit(2, patch)
            try:
                train_head(replace(stopped, resume=True))
            except Killed:
                continue
        break
    assert_same(weights(stopped.output_dir), weights(settings.output_dir))
    assert rows(stopped.output_dir) == rows(settings.output_dir)


def test_stopped_between_early_stopping_and_saving(
    settings: HeadSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    original = HeadModule.on_validation_epoch_end

    def rising(self: HeadModule) -> None:
        original(self)
        self.valid["loss"] = 1.0 + self.current_epoch

    def killed(*_: Any) -> None:
        raise Killed

    monkeypatch.setattr(HeadModule, "on_validation_epoch_end", rising)
    early = replace(settings, patience=2)
    with monkeypatch.context() as patch:
        patch.setattr(head_module, "save_trained_head", killed)
        with pytest.raises(Killed):
            train_head(early)
    again = train_head(replace(early, resume=True)).record
    whole = train_head(replace(early, output_dir=tmp_path / "whole")).record
    assert again["training"] == whole["training"]
    assert again["training"]["epochs"] == 3
    assert_same(weights(early.output_dir), weights(tmp_path / "whole"))


KILLED = """
import os, signal, sys
from pathlib import Path
from seqassay import durable
from seqassay.train.head import HeadSettings, train_head

folder, train, valid, n = sys.argv[1:5]
original, calls = os.fsync, iter(range(10**6))

def fsync(descriptor):
    if next(calls) == int(n):
        os.kill(os.getpid(), signal.SIGKILL)
    original(descriptor)

durable.os.fsync = fsync
train_head(HeadSettings(train=Path(train), valid=Path(valid), output_dir=Path(folder), max_epochs=4, batch_size=16,
                        checkpoint_every=3, threads=1))
"""


@pytest.mark.parametrize("sync", [3, 14])  # before the first commit, and while a later one is written
def test_killed_and_resumed(settings: HeadSettings, tmp_path: Path, sync: int) -> None:
    train_head(settings)
    killed = replace(settings, output_dir=tmp_path / "killed")
    words = [str(killed.output_dir), str(settings.train), str(settings.valid), str(sync)]
    done = subprocess.run([sys.executable, "-c", KILLED, *words], capture_output=True, timeout=300, check=False)
    assert done.returncode == -9, done.stderr.decode()
    train_head(replace(killed, resume=True))
    assert_same(weights(killed.output_dir), weights(settings.output_dir))
    assert rows(killed.output_dir) == rows(settings.output_dir)
    assert files(killed.output_dir) == ["head.safetensors", "metrics.csv", "training.json"]


def test_a_finished_training_is_not_done_again(settings: HeadSettings) -> None:
    train_head(settings)
    again = train_head(replace(settings, resume=True))
    assert again.was_done
    with pytest.raises(UsageError, match="holds a training already"):
        train_head(settings)
    with pytest.raises(UsageError, match=r"max_epochs.*4.*5"):
        train_head(replace(settings, resume=True, max_epochs=5))
    assert train_head(replace(settings, force=True, max_epochs=5)).record["training"]["epochs"] == 5


def test_a_damaged_checkpoint_is_an_error_that_names_it(
    settings: HeadSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_after_commit(3, patch)
        with pytest.raises(Killed):
            train_head(settings)
    path = settings.output_dir / "checkpoint.ckpt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"checkpoint\.ckpt.*cannot be read") as error:
        train_head(replace(settings, resume=True))
    assert "--force" in error.value.hint


def test_a_full_disk_is_a_resource_error_and_leaves_the_last_commit(
    settings: HeadSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = head_checkpoint.write_durably, iter(range(1000))

    def full(path: Path, pieces: list[bytes]) -> None:
        if path.name == "checkpoint.ckpt" and next(calls) == 4:
            raise OSError(28, "No space left on device", str(path))
        original(path, pieces)

    with monkeypatch.context() as patch:
        patch.setattr(head_checkpoint, "write_durably", full)
        with pytest.raises(ResourceError, match="disk is full") as caught:
            train_head(settings)
    words = shlex.split(caught.value.hint.splitlines()[-1])
    assert words[:3] == ["seqassay", "train", "head"]
    assert words[-1] == "--resume"
    for option, value in (("--train", settings.train), ("--valid", settings.valid), ("--max-epochs", 4)):
        assert words[words.index(option) + 1] == str(value)
    train_head(replace(settings, resume=True))
    whole = replace(settings, output_dir=settings.output_dir.with_name("whole"))
    train_head(whole)
    assert_same(weights(settings.output_dir), weights(whole.output_dir))


def test_a_loss_that_is_not_finite_names_the_step(settings: HeadSettings, tmp_path: Path) -> None:
    bad = write_features(tmp_path / "bad", n_records=60, bad_value=float("nan"))
    with pytest.raises(ModelError, match=r"the loss is nan at step \d+ \(epoch 0\)"):
        train_head(replace(settings, train=bad, recipe="reference"))
    with pytest.raises(ModelError, match=r"the validation loss is nan after step \d+"):
        valid = write_features(tmp_path / "badvalid", split="valid", n_records=60, bad_value=float("nan"))
        train_head(replace(settings, valid=valid, output_dir=tmp_path / "other"))


def test_the_reference_recipe_is_the_reference_s_own_loop(sets: tuple[Path, Path], tmp_path: Path) -> None:
    """Same batches and dropout through plain PyTorch as VirNucPro's train.py writes it: the same weights."""
    settings = HeadSettings(
        train=sets[0], valid=sets[1], output_dir=tmp_path / "head", recipe="reference", max_epochs=23, patience=23
    )
    record = train_head(settings).record
    recipe = replace(RECIPES["reference"], max_epochs=23, patience=23)
    train, valid = FeatureSet(sets[0]), FeatureSet(sets[1])
    torch.manual_seed(42)
    head = ClassifierHead(train.merged_dim)
    optimizer = torch.optim.SGD(head.parameters(), lr=2e-4, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.85)
    batches, step, best, best_state, rates = EpochBatches(train, recipe), 0, float("inf"), {}, []
    for _ in range(23):
        head.train()
        rates.append(optimizer.param_groups[0]["lr"])
        for x, y in batches:
            torch.manual_seed((42 << 32) + step)
            optimizer.zero_grad()
            F.cross_entropy(head(x), y).backward()
            optimizer.step()
            step += 1
        head.eval()
        with torch.no_grad():
            losses = [
                float(
                    F.cross_entropy(head(valid.rows(np.arange(i, min(i + 32, len(valid))))), valid.labels_F[i : i + 32])
                )
                for i in range(0, len(valid), 32)
            ]
        loss = sum(losses) / len(losses)
        if loss < best:
            best, best_state = loss, {name: tensor.clone() for name, tensor in head.state_dict().items()}
        scheduler.step()
    history = record["training"]["history"]
    assert [row["learning_rate"] for row in history] == rates
    assert record["training"]["best_validation_loss"] == pytest.approx(best, abs=1e-6)
    found = weights(settings.output_dir)
    assert found.keys() == best_state.keys()
    for name, tensor in best_state.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-6, rtol=0)


def test_init_goes_on_from_a_head(settings: HeadSettings, tmp_path: Path) -> None:
    train_head(settings)
    second = replace(settings, output_dir=tmp_path / "second", init=settings.output_dir / "head.safetensors")
    first_loss = float(rows(settings.output_dir)[0]["train_loss"])
    train_head(second)
    assert float(rows(second.output_dir)[0]["train_loss"]) < first_loss


def test_batches_are_all_frames_once_in_an_order_of_their_own(sets: tuple[Path, Path]) -> None:
    features = FeatureSet(sets[0])
    recipe = replace(RECIPES["default"], batch_size=16)
    batches = EpochBatches(features, recipe)
    epochs = [torch.cat([x for x, _ in batches]) for _ in range(2)]
    assert len(epochs[0]) == len(features)
    everything = features.rows(np.arange(len(features)))
    for epoch in epochs:
        torch.testing.assert_close(epoch.sort(dim=0)[0], everything.sort(dim=0)[0], atol=0, rtol=0)
    assert not torch.equal(epochs[0], epochs[1])
    again = EpochBatches(features, recipe)
    again.load_state_dict({"epoch": 1, "position": 2})
    rest = torch.cat([x for x, _ in again])
    assert torch.equal(rest, epochs[1][2 * 16 :])


@pytest.mark.parametrize(("size", "lengths"), [(2, [2, 2, 3]), (3, [3, 4]), (4, [4, 3]), (7, [7]), (8, [7])])
def test_no_batch_of_one(tmp_path: Path, size: int, lengths: list[int]) -> None:
    """Batch norm cannot learn from one frame."""
    features = FeatureSet(write_features(tmp_path / "f", n_records=60, seed=3))
    features.labels_F = features.labels_F[:7]
    batches = EpochBatches(features, replace(RECIPES["default"], batch_size=size))
    assert [len(y) for _, y in batches] == lengths
    assert len(batches) == len(lengths)


def test_the_scaling_is_folded_into_the_head(sets: tuple[Path, Path]) -> None:
    features = FeatureSet(sets[0])
    mean, deviation = mean_and_deviation(features)
    x = torch.cat([x for x, _ in InOrder(features)])
    torch.testing.assert_close(mean, x.double().mean(0).float())
    torch.testing.assert_close(deviation, x.double().std(0, correction=0).float())
    torch.manual_seed(0)
    scaled = ScaledHead(ClassifierHead(features.merged_dim), mean, deviation)
    scaled(x)  # moves batch norm's running statistics
    scaled.eval()
    torch.testing.assert_close(folded(scaled.state_dict())(x), scaled(x), atol=1e-5, rtol=1e-5)
