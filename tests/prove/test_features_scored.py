"""A folder of features as the test set: the same scores as of the sequences, or a refusal that says what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqassay.errors import InputError
from seqassay.measure.progress import RunProgress
from seqassay.models.bundle import load_bundle, write_bundle
from seqassay.models.esm2 import Esm2, Esm2Config
from seqassay.models.weights import save_esm2
from seqassay.prove.evaluate import evaluate
from seqassay.prove.scores import ScoredExamples, check_scorable, score_test_set
from seqassay.prove.settings import EvaluateSettings
from seqassay.prove.test_set import read_test_set
from seqassay.report.markdown import validation_summary
from seqassay.train.features import FeatureSettings, make_features

Write = Callable[..., Path]


@pytest.fixture
def features(write_labelled: Write, tiny_bundle: Path, tmp_path: Path) -> Path:
    return features_of(write_labelled(30), tiny_bundle, tmp_path / "features")


def features_of(path: Path, bundle: Path, folder: Path, split: str = "test") -> Path:
    make_features(
        FeatureSettings(
            input=path, output_dir=folder, model=str(bundle), split=split, device="cpu", threads=1, shard_size=12
        )
    )
    return folder


def scores_of(test: Path, bundle: Path) -> ScoredExamples:
    return score_test_set(read_test_set(test), load_bundle(bundle), device="cpu", threads=1, progress=RunProgress())


def test_scores_are_those_of_the_sequences(write_labelled: Write, features: Path, tiny_bundle: Path) -> None:
    of_features, of_sequences = scores_of(features, tiny_bundle), scores_of(write_labelled(30), tiny_bundle)
    np.testing.assert_allclose(of_features.score, of_sequences.score, atol=2e-6)
    assert (of_features.status == 0).tolist() == (of_sequences.status == 0).tolist()
    assert (~of_features.has_score).sum() == 6
    ours, theirs = read_test_set(features).examples, read_test_set(write_labelled(30)).examples
    assert ours.ids == theirs.ids
    assert ours.labels.tolist() == theirs.labels.tolist()
    assert ours.genomes.tolist() == theirs.genomes.tolist()
    assert ours.taxa.tolist() == theirs.taxa.tolist()


def test_a_folder_of_all_splits_features_has_its_test_set_below(features: Path, tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    features.rename(tmp_path / "all" / "test")
    assert read_test_set(tmp_path / "all").kind == "features"


def test_features_of_other_encoders_name_both_and_the_command(
    features: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    torch.manual_seed(5)
    save_esm2(Esm2(Esm2Config(n_layers=2, d_model=40, n_heads=2, d_ff=64)), tmp_path / "protein")
    other = write_bundle(
        tmp_path / "other",
        name="other",
        nucleotide=tiny_bundle / "nucleotide",
        protein=tmp_path / "protein",
        head=tiny_bundle / "head.safetensors",
        chunk_length=500,
    )
    test_set = read_test_set(features)
    check_scorable(test_set, load_bundle(tiny_bundle))
    with pytest.raises(InputError) as caught:
        check_scorable(test_set, other)
    made_with = test_set.facts["identity"]["protein"]["digest"][:12]
    assert f"protein encoder: {made_with} there, " in caught.value.message
    assert "chunk length: 300 there, 500 in bundle other" in caught.value.message
    assert "nucleotide encoder" not in caught.value.message
    assert f"seqassay train features {tmp_path / 'labelled.fa'} -o {features}" in caught.value.hint
    assert f"--model {other.path}" in caught.value.hint


def evaluated(bundle: Path, test: Path, out: Path, **options: Any) -> dict[str, Any]:
    settings = EvaluateSettings(bundle=str(bundle), test=test, output_dir=out, device="cpu", threads=1, **options)
    return evaluate(settings).record


def test_a_calibrated_bundle_is_measured_by_its_head_alone_and_says_so(
    write_labelled: Write, features: Path, tiny_bundle: Path, calibrated_bundle: Path, tmp_path: Path
) -> None:
    # both bundles have the same head; what the calibrated one adds to it is not in the features
    scores = scores_of(features, calibrated_bundle)
    np.testing.assert_array_equal(scores.score, scores_of(features, tiny_bundle).score)
    assert not np.allclose(scores.score, scores_of(write_labelled(30), calibrated_bundle).score, equal_nan=True)

    record = evaluated(calibrated_bundle, features, tmp_path / "out")
    assert record["method"]["scores"] == "of the head on stop-free frames alone, uncalibrated"
    assert (record["calibration"]["calibrated"], record["calibration"]["prior"]) == (False, None)
    hint = f"for its own figures give the labelled sequences: --test {tmp_path / 'labelled.fa'}"
    assert any(hint in note for note in record["notes"])
    report = (tmp_path / "out" / "reports" / "validation_report.md").read_text()
    assert "Scores are of the head on stop-free frames alone, uncalibrated. On " in report
    assert "figures are of the head of tiny on stop-free frames alone" in report
    assert "scores             of the head on stop-free frames alone" in validation_summary(record, "out")

    for bundle, test in ((calibrated_bundle, write_labelled(30)), (tiny_bundle, features)):
        record = evaluated(bundle, test, tmp_path / "out", force=True)
        assert record["method"]["scores"] == "as `predict` gives them"
        assert record["calibration"]["calibrated"] == (bundle == calibrated_bundle)


@pytest.mark.parametrize("kind", ["candidate", "baseline", "record"])
def test_the_gate_does_not_stand_on_heads_alone(
    features: Path, tiny_bundle: Path, calibrated_bundle: Path, tmp_path: Path, kind: str
) -> None:
    bundle, options = tiny_bundle, {"baseline": str(calibrated_bundle)}
    if kind == "candidate":
        bundle, options = calibrated_bundle, {"baseline": str(tiny_bundle)}
    elif kind == "record":
        evaluated(calibrated_bundle, features, tmp_path / "before")
        options = {"baseline_metrics": str(tmp_path / "before" / "metrics.json")}
    gate = evaluated(bundle, features, tmp_path / "out", threshold=0.9, **options)["gate"]
    assert gate["drop"] == 0
    assert (gate["verdict"], gate["reason"]) == ("UNDECIDED", "figures are of the head of tiny alone, uncalibrated")
    assert gate["next_steps"][1] == f"Compare the bundles on the labelled sequences: --test {tmp_path / 'labelled.fa'}"


def test_damaged_features_and_those_of_another_split(
    write_labelled: Write, features: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    training = features_of(write_labelled(20), tiny_bundle, tmp_path / "train", split="train")
    with pytest.raises(InputError, match="features of the split 'train', not of a test set"):
        read_test_set(training)

    shard = features / "shard-000001.safetensors"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(InputError, match=r"shard-000001\.safetensors: was changed: its SHA-256 is"):
        read_test_set(features)
    shard.unlink()
    with pytest.raises(InputError, match=r"shard-000001\.safetensors: cannot be read: No such file") as caught:
        read_test_set(features)
    assert "seqassay train features" in caught.value.hint

    metadata = json.loads((features / "test_metadata.json").read_text())
    (features / "test_metadata.json").write_text(json.dumps(metadata | {"digest": "0"}))
    with pytest.raises(InputError):
        read_test_set(features)


def test_frames_that_headers_leave_out_are_told(write_labelled: Write, tiny_bundle: Path, tmp_path: Path) -> None:
    path = write_labelled(20)
    path.write_text(path.read_text().replace("record=g1\n", "record=g1 frames=F1\n"))
    notes = read_test_set(features_of(path, tiny_bundle, tmp_path / "features")).notes
    assert any("stop-free frames are not in the features" in note for note in notes)
