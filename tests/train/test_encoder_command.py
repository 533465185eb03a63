"""Labelled records to a bundle that `predict` uses, by the command, at toy size; and what it refuses."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from seqassay.cli.main import build_app
from seqassay.config import PredictSettings
from seqassay.errors import InputError, ModelError, UsageError
from seqassay.models.bundle import load_bundle
from seqassay.predict.run import predict
from seqassay.train.dataset import read_labelled
from seqassay.train.encoder_command import EncoderSettings, plan_of, train_encoders


def settings(dataset: Path, out: Path, **changed: object) -> EncoderSettings:
    small = {"steps": 2, "pretrain_steps": 1, "finish_steps": 1, "threads": 1}
    return EncoderSettings(dataset=dataset, output_dir=out, **(small | changed))


def test_from_records_to_predictions(records_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "lab"
    options = ["--steps", "2", "--pretrain-steps", "1", "--finish-steps", "1", "--threads", "1"]
    result = CliRunner().invoke(build_app(), ["train", "encoders", str(records_folder), "-o", str(out), *options])
    assert result.exit_code == 0, result.output
    bundle = load_bundle(out / "bundle")
    assert (bundle.name, bundle.calibration is not None) == ("lab", True)
    assert bundle.digest[:12] in result.output

    record = json.loads((out / "training.json").read_text())
    assert record["bundle"]["digest"] == bundle.digest
    parts = ["nucleotide-pretrain", "nucleotide", "protein-pretrain", "protein", "nucleotide-finish"]
    assert list(record["history"]) == parts
    assert [row["step"] for row in record["history"]["protein"]] == [2]
    assert record["data"]["train"]["records"] == 32

    run = predict(
        PredictSettings(
            inputs=(str(records_folder / "valid.fa.gz"),), output_dir=tmp_path / "calls", model=str(bundle.path)
        )
    )
    assert run.record["counts"]["scored"] == 240

    again = train_encoders(settings(records_folder, out))
    assert again.digest == bundle.digest  # finished parts are not trained again
    with pytest.raises(ModelError, match="another recipe"):
        train_encoders(settings(records_folder, out, steps=3))


def test_records_shorter_than_the_usual_evaluation_lengths(records_folder: Path, tmp_path: Path) -> None:
    for split in ("train", "valid"):
        lines = gzip.decompress((records_folder / f"{split}.fa.gz").read_bytes()).decode().splitlines()
        (tmp_path / f"{split}.fa").write_text("".join(f"{line if line[0] == '>' else line[:201]}\n" for line in lines))
    bundle = train_encoders(settings(tmp_path, tmp_path / "out", steps=1, pretrain_steps=0, finish_steps=0))
    assert bundle.calibration is not None
    assert bundle.calibration.lengths_K.tolist() == [100.0, 150.0]


def test_one_label_is_refused(records_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "train.fa").write_text(">a label=viral group=virus\n" + "ACG" * 60 + "\n")
    shutil.copy(records_folder / "valid.fa.gz", tmp_path)
    with pytest.raises(InputError, match="no record with label=other"):
        train_encoders(settings(tmp_path, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_genome_in_two_splits_is_refused(records_folder: Path, tmp_path: Path) -> None:
    shutil.copy(records_folder / "train.fa.gz", tmp_path / "train.fa.gz")
    shutil.copy(records_folder / "train.fa.gz", tmp_path / "valid.fa.gz")
    said = r"train_virus_0, its genome or its sequence is in train\.fa\.gz as well \(32 such records\)"
    with pytest.raises(InputError, match=said):
        train_encoders(settings(tmp_path, tmp_path / "out"))


def test_pieces_of_one_genome_in_two_splits_are_refused(records_folder: Path, tmp_path: Path) -> None:
    for split in ("train", "valid"):
        lines = gzip.decompress((records_folder / f"{split}.fa.gz").read_bytes()).decode().splitlines()
        lines[0] += " genome=NC_1"
        (tmp_path / f"{split}.fa").write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=r"is in train\.fa as well \(1 such records\)"):
        train_encoders(settings(tmp_path, tmp_path / "out"))


def test_too_few_records_to_calibrate_on(records_folder: Path, tmp_path: Path) -> None:
    shutil.copy(records_folder / "valid.fa.gz", tmp_path / "train.fa.gz")
    shutil.copy(records_folder / "train.fa.gz", tmp_path / "valid.fa.gz")
    with pytest.raises(UsageError, match="16 validation fragments of 100 bases with label=other: too few"):
        train_encoders(settings(tmp_path, tmp_path / "out"))


def test_records_too_short_to_draw_from(tmp_path: Path) -> None:
    for split, letter in (("train", "A"), ("valid", "C")):
        lines = [
            f">{split}{n} label={n} group={n}\n{letter * 30}ACGTACGT{'ACGT'[i] * 20}\n"
            for i, n in enumerate(("viral", "other"))
        ]
        (tmp_path / f"{split}.fa").write_text("".join(lines))
    records = [read_labelled(tmp_path / f"{split}.fa") for split in ("train", "valid")]
    with pytest.raises(InputError, match="the longest records of one label have 58 bases"):
        plan_of(settings(tmp_path, tmp_path / "out"), *records)


def test_a_folder_without_a_split(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no train\.fa\.gz"):
        train_encoders(settings(tmp_path, tmp_path / "out"))
    with pytest.raises(UsageError, match="is no folder"):
        train_encoders(settings(tmp_path / "none", tmp_path / "out"))


@pytest.mark.parametrize(
    ("name", "value"), [("steps", 0), ("pretrain_steps", -1), ("threads", 0), ("max_minutes", 0.0)]
)
def test_settings_out_of_their_range(name: str, value: float, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} is"):
        settings(tmp_path, tmp_path, **{name: value})
