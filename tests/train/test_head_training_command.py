"""What training refuses, and the small parts: recipes, metrics, the head's file."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from head_support import IDENTITY, write_features
from safetensors.torch import load_file, save_file

from seqassay.errors import InputError, MissingExtraError, ModelError, UsageError
from seqassay.models.bundle import load_bundle
from seqassay.models.head import ClassifierHead
from seqassay.models.identity import digest_of_encoder
from seqassay.models.weights import describe_encoder, load_head, read_head_metadata, save_head
from seqassay.train.feature_files import FeatureSet, file_sha256
from seqassay.train.head import HeadSettings, train_head
from seqassay.train.head_file import HeadMetadata, load_trained_head, save_trained_head
from seqassay.train.head_metrics import binary_metrics, chunk_consensus
from seqassay.train.head_recipes import RECIPES, recipe_named

METADATA = HeadMetadata(
    merged_dim=12,
    nucleotide="tiny-nucleotide",
    nucleotide_digest="a" * 64,
    protein="tiny-protein",
    protein_digest="b" * 64,
    chunk_length=300,
    recipe="default",
    seed=42,
    training_data="c" * 64,
    validation_data="d" * 64,
    seqassay="0.1.0",
)


# recipes


def test_the_reference_recipe_is_virnucpro_s() -> None:
    recipe = RECIPES["reference"]
    assert (recipe.optimizer, recipe.learning_rate, recipe.momentum, recipe.batch_size) == ("sgd", 2e-4, 0.9, 32)
    assert (recipe.schedule, recipe.step_epochs, recipe.step_factor) == ("step", 10, 0.85)
    assert (recipe.patience, recipe.max_epochs, recipe.seed) == (5, 200, 42)
    assert not (recipe.class_weights or recipe.standardise or recipe.weight_decay)


def test_the_step_schedule_is_torch_s_to_the_last_bit() -> None:
    recipe = RECIPES["reference"]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2e-4)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.85)
    for epoch in range(200):
        assert recipe.learning_rate_at(epoch, 0, 1) == optimizer.param_groups[0]["lr"]
        optimizer.step()
        scheduler.step()


def test_the_cosine_schedule_warms_up_and_falls_to_nothing() -> None:
    recipe = RECIPES["default"]
    rates = [recipe.learning_rate_at(0, step, 200) for step in range(30 * 200)]
    assert rates[0] == pytest.approx(1e-5)
    assert max(rates) == pytest.approx(1e-3, rel=0.01)
    assert rates.index(max(rates)) == 99
    assert rates[-1] < 1e-8
    assert rates[99:] == sorted(rates[99:], reverse=True)
    assert recipe.learning_rate_at(0, 4, 5) == pytest.approx(1e-3, rel=0.01)  # five steps an epoch: warm after one


def test_changes_of_a_recipe_are_known() -> None:
    assert recipe_named("reference", seed=None).changes() == {}
    assert recipe_named("reference", seed=7, patience=2).changes() == {"seed": 7, "patience": 2}
    for name, value in (("batch_size", 1), ("max_epochs", 0), ("learning_rate", 0.0), ("learning_rate", float("nan"))):
        with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} is"):
            recipe_named("default", **{name: value})
    with pytest.raises(UsageError, match="known are: default, reference"):
        recipe_named("best")


# metrics


def test_metrics_are_scikit_learn_s() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="the extra train is not installed")
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 500), np.round(rng.random(500), 2)
    found = binary_metrics(labels, scores)
    called = scores > 0.5
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(labels, called))
    assert found["precision"] == pytest.approx(metrics.precision_score(labels, called))
    assert found["recall"] == pytest.approx(metrics.recall_score(labels, called))
    assert found["f1"] == pytest.approx(metrics.f1_score(labels, called))
    assert found["roc_auc"] == pytest.approx(metrics.roc_auc_score(labels, scores))
    table = [[found["true_other"], found["false_viral"]], [found["missed_viral"], found["true_viral"]]]
    assert table == metrics.confusion_matrix(labels, called).tolist()


def test_what_is_not_defined_is_none() -> None:
    found = binary_metrics(np.array([0, 0]), np.array([0.1, 0.2]))
    assert found["accuracy"] == 1.0
    assert (found["roc_auc"], found["precision"], found["recall"], found["f1"]) == (None, None, None, None)


def test_the_consensus_of_chunks() -> None:
    scores, first = chunk_consensus(np.array([0.9, 0.2, 0.4, 0.5, 0.5]), np.array([0, 0, 3, 7, 7]))
    assert first.tolist() == [0, 2, 3]
    assert scores.tolist() == pytest.approx([0.9 / (0.9 + 0.8), 0.4, 0.5])


# the head's file


def head_of(width: int = 12) -> ClassifierHead:
    torch.manual_seed(0)
    return ClassifierHead(width).eval()


def test_a_head_and_its_metadata_come_back(tmp_path: Path) -> None:
    path, head = tmp_path / "head.safetensors", head_of()
    save_trained_head(head, path, METADATA)
    found, metadata = load_trained_head(path, IDENTITY)
    assert metadata == METADATA
    assert metadata.version == "2.0"
    for name, tensor in head.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor)
    assert torch.equal(load_head(path).output_layer.weight, head.output_layer.weight)
    first = path.read_bytes()
    save_trained_head(head, path, METADATA)
    assert path.read_bytes() == first


def rewritten(path: Path, **changes: str | None) -> Path:
    """The same tensors with other metadata; None removes a key."""
    said = {**read_head_metadata(path), **changes}
    save_file(load_file(path), path, {key: value for key, value in said.items() if value is not None})
    return path


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"version": "1.0"}, "head version 1.0 cannot be read; this seqassay reads 2.x", "seqassay train head"),
        ({"version": "3.1"}, "head version 3.1 cannot be read", "install the seqassay that wrote it"),
        ({"nucleotide_digest": None}, "no nucleotide_digest in its metadata", "seqassay train head"),
        ({"merged_dim": "3328"}, "say that it takes 3328 values, its tensors 12", "seqassay train head"),
        ({"seed": "many"}, "its metadata are damaged", "seqassay train head"),
        (
            {"protein_digest": "e" * 64},
            "protein encoder eeeeeeeeeeee, the features have bbbbbbbbbbbb",
            "without --init",
        ),
        ({"chunk_length": "500"}, "chunk length 500, the features have 300", "without --init"),
    ],
)
def test_heads_that_are_refused_say_what_to_do(tmp_path: Path, changes: Any, message: str, hint: str) -> None:
    path = tmp_path / "head.safetensors"
    save_trained_head(head_of(), path, METADATA)
    rewritten(path, **changes)
    with pytest.raises(ModelError) as error:
        load_trained_head(path, IDENTITY)
    assert message in str(error.value)
    assert hint in error.value.hint
    assert str(path) in str(error.value)


def test_a_head_without_metadata_is_refused_where_they_are_needed(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    save_head(head_of(), path)
    assert load_head(path).input_dim == 12
    with pytest.raises(ModelError, match="does not say what it was trained on"):
        load_trained_head(path)


def test_a_head_of_another_dimension_or_with_nan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    save_trained_head(head_of(20), path, replace(METADATA, merged_dim=20))
    with pytest.raises(ModelError, match="merged dimension 20, the features have 12"):
        load_trained_head(path, IDENTITY)
    head = head_of()
    with torch.no_grad():
        head.output_layer.bias[0] = float("nan")
    save_trained_head(head, path, METADATA)
    with pytest.raises(ModelError, match=r"output_layer\.bias holds NaN"):
        load_trained_head(path)


def test_rubbish_is_no_head(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    for content in (b"", b"rubbish" * 100, b"<!DOCTYPE html>"):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"head\.safetensors"):
            load_trained_head(path)


# what training refuses


@pytest.fixture
def settings(tmp_path: Path) -> HeadSettings:
    train = write_features(tmp_path / "train")
    valid = write_features(tmp_path / "valid", split="valid", n_records=20)
    return HeadSettings(train=train, valid=valid, output_dir=tmp_path / "head", max_epochs=1, threads=1)


def test_without_lightning_the_command_that_installs_it(
    settings: HeadSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name: None if name == "lightning" else original(name))
    with pytest.raises(MissingExtraError) as error:
        train_head(settings)
    assert "pip install 'seqassay[train]'" in error.value.hint
    assert not settings.output_dir.exists()


def make(tmp_path: Path, **options: Any) -> Path:
    return write_features(tmp_path / "other", split="valid", n_records=20, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prefix": "train"}, "10 records of"),
        ({"label": 1}, "frames are viral: a classifier needs both classes"),
        ({"label": 0}, "frames are other: a classifier needs both classes"),
        ({"identity": {"merged_dim": 20}}, "merged dim: 12 there, 20 here"),
        ({"identity": {"chunk_length": 500}}, "chunk length: 300 there, 500 here"),
        (
            {"identity": {"protein": {"digest": "f" * 64, "d_model": 7, "pooling": "mean"}}},
            "tiny-protein (7 wide, bbbbbbbbbbbb) there, tiny-protein (7 wide, ffffffffffff) here",
        ),
    ],
)
def test_a_validation_set_that_cannot_be_used(
    settings: HeadSettings, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError) as error:
        train_head(replace(settings, valid=make(tmp_path, **options)))
    assert message in str(error.value)
    assert error.value.hint
    assert not settings.output_dir.exists()
    if "identity" in options:
        assert "seqassay train features valid.fa -o" in error.value.hint


def test_training_frames_of_one_class_are_refused(settings: HeadSettings, tmp_path: Path) -> None:
    train = write_features(tmp_path / "one", label=0)
    with pytest.raises(InputError, match="are other: a classifier needs both classes"):
        train_head(replace(settings, train=train))


def test_taxa_are_kept_apart_where_asked_for(settings: HeadSettings, tmp_path: Path) -> None:
    valid = make(tmp_path, prefix="new")
    for path in valid.glob("shard-*.safetensors"):
        tensors = load_file(path)
        rows = json.loads(tensors["table"].numpy().tobytes())
        table = json.dumps([[*row[:3], row[3].replace("new taxon", "train taxon"), row[4]] for row in rows]).encode()
        tensors["table"] = torch.frombuffer(bytearray(table), dtype=torch.uint8)
        save_file(tensors, path)
        said = json.loads((valid / "features.json").read_text())
        for entry in said["files"]:
            if entry["name"] == path.name:
                entry |= {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        (valid / "features.json").write_text(json.dumps(said))
    apart = replace(settings, valid=valid, taxa_apart=True)
    with pytest.raises(InputError, match=r"5 taxa of .*train are in it too: train taxon 0, train taxon 1"):
        train_head(apart)


def test_a_test_set_that_overlaps_is_refused_too(settings: HeadSettings, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"10 records of .*valid are in it too"):
        train_head(replace(settings, test=make(tmp_path, prefix="valid")))


def test_a_test_set_is_evaluated_once_and_reported_apart(settings: HeadSettings, tmp_path: Path) -> None:
    test = write_features(tmp_path / "test", split="test", n_records=30, seed=5)
    record = train_head(replace(settings, test=test)).record
    assert record["test"]["frames"]["n"] == len(FeatureSet(test))
    assert record["test"]["chunks"]["n"] == 30
    assert record["validation"]["chunks"]["n"] == 20
    without = train_head(replace(settings, output_dir=tmp_path / "without")).record
    assert without["test"] is None
    assert without["training"] == record["training"]  # the test set decides nothing


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resume": True, "force": True}, "exclude each other"),
        ({"checkpoint_every": 0}, "--checkpoint-every is 0"),
        ({"recipe": "best"}, "--recipe is 'best'"),
        ({"device": "gpu"}, "unknown device"),
        ({"valid": Path("nowhere")}, "holds no features"),
    ],
)
def test_settings_that_cannot_work(settings: HeadSettings, changes: dict[str, Any], message: str) -> None:
    with pytest.raises((UsageError, InputError)) as error:
        train_head(replace(settings, **changes))
    assert message in str(error.value)


def test_a_folder_of_something_else_is_left_alone(settings: HeadSettings) -> None:
    settings.output_dir.mkdir()
    (settings.output_dir / "mine.txt").write_text("mine")
    for options in ({}, {"force": True}, {"resume": True}):
        with pytest.raises(UsageError, match=r"mine\.txt"):
            train_head(replace(settings, **options))


def test_a_bundle_needs_the_encoders_that_made_the_features(settings: HeadSettings, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="/none/nucleotide: the nucleotide encoder that made the features") as error:
        train_head(replace(settings, bundle=tmp_path / "bundle"))
    assert "--nucleotide DIR" in error.value.hint


def test_a_bundle_with_another_encoder_is_refused(settings: HeadSettings, tiny_bundle: Path, tmp_path: Path) -> None:
    asked = replace(settings, bundle=tmp_path / "bundle", nucleotide=tiny_bundle / "nucleotide")
    with pytest.raises(ModelError, match="is not the nucleotide encoder that made the features: its digest is"):
        train_head(asked)


def test_the_encoders_of_a_bundle_are_read_without_a_word_on_tokenizers(
    settings: HeadSettings, tiny_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is tokenised here, so how it would be done is no news, and least of all twice."""
    places = {"nucleotide": tmp_path / "nucleotide", "protein": tiny_bundle / "protein"}
    shutil.copytree(tiny_bundle / "nucleotide", places["nucleotide"])
    tokenizer = places["nucleotide"] / "tokenizer.json"
    tokenizer.write_text(json.dumps({**json.loads(tokenizer.read_text()), "normalizer": {"type": "Lowercase"}}))
    widths = {kind: describe_encoder(place).d_model for kind, place in places.items()}
    identity: dict[str, Any] = {
        kind: {"digest": digest_of_encoder(place), "d_model": widths[kind], "pooling": "mean"}
        for kind, place in places.items()
    }
    identity["merged_dim"] = sum(widths.values())
    train = write_features(tmp_path / "real-train", identity=identity)
    valid = write_features(tmp_path / "real-valid", split="valid", n_records=20, identity=identity)
    caplog.set_level("INFO", logger="seqassay")
    asked = replace(settings, train=train, valid=valid, bundle=tmp_path / "bundle", **places)
    assert load_bundle(train_head(asked).record["bundle"]["path"]).merged_dim == identity["merged_dim"]
    assert "epoch 0" in caplog.text
    assert "tokenise" not in caplog.text


def test_a_finished_training_can_still_be_tested(settings: HeadSettings, tmp_path: Path) -> None:
    trained = train_head(settings).record
    test = write_features(tmp_path / "test", split="test", n_records=30, seed=5)
    result = train_head(replace(settings, test=test, resume=True))
    assert result.was_done
    assert result.record["test"]["chunks"]["n"] == 30
    assert result.record["training"] == trained["training"]
    assert json.loads((settings.output_dir / "training.json").read_text()) == result.record


def test_a_bundle_in_the_way_is_found_before_training(settings: HeadSettings, tiny_bundle: Path) -> None:
    with pytest.raises(UsageError, match="exists already"):
        train_head(replace(settings, bundle=tiny_bundle))
    assert not settings.output_dir.exists()
