"""From labelled FASTA to a bundle that predict uses, by the commands; and how they fail."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lightning", reason="the extra train is not installed")

from seqassay.cli.train_finetune import summary

CODONS = {
    "viral": ("ATG", "GAT", "AAA", "TTT", "GTT", "CAT", "AAT"),
    "other": ("GCC", "CGC", "GGC", "CTG", "GAG", "CCG", "ACC"),
}


def write_split(path: Path, *, n: int, seed: int) -> Path:
    """Chunks of genomes whose classes differ in codon usage."""
    rng = np.random.default_rng(seed)
    with gzip.open(path, "wt") as file:
        for i in range(n):
            label = ("viral", "other")[i % 2]
            bases = "".join(rng.choice(np.array(CODONS[label]), 40))
            file.write(
                f">{path.name[:2]}{i} label={label} group={label} record=genome{path.name[:2]}{i // 2}\n{bases}\n"
            )
    return path


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    for seed, (split, n) in enumerate((("train", 80), ("valid", 40), ("test", 40))):
        write_split(folder / f"{split}.fa.gz", n=n, seed=seed)
    (folder / "dataset.json").write_text(json.dumps({"chunk_length": 300}))
    return folder


def test_from_labelled_fasta_to_a_bundle_that_predict_uses(run, dataset: Path, tiny_bundle: Path, capsys) -> None:
    assert run("train", "features", str(dataset), "-o", "features", "-m", str(tiny_bundle), "--device", "cpu") == 0
    out = capsys.readouterr().out
    assert "train: " in out
    assert "from 80 records" in out
    words = ["--train", "features/train", "--valid", "features/valid", "--test", "features/test", "-o", "head"]
    assert run("train", "head", *words, "--bundle", "mine", "--max-epochs", "8", "--batch-size", "32") == 0
    out = capsys.readouterr().out
    assert "recipe default (batch_size=32, max_epochs=8), seed 42" in out
    assert "test, 40 chunks: ROC-AUC" in out
    record = json.loads(Path("head/training.json").read_text())
    assert record["test"]["chunks"]["roc_auc"] > 0.9
    assert record["bundle"]["digest"]
    assert Path("mine/head.safetensors").read_bytes() == Path("head/head.safetensors").read_bytes()

    assert run("predict", str(dataset / "test.fa.gz"), "-m", "mine", "-o", "out", "--device", "cpu", "--quiet") == 0
    rows = [line.split("\t") for line in Path("out/sequences.tsv").read_text().splitlines()]
    column = {name: i for i, name in enumerate(rows[0])}
    viral = np.array([row[column["call"]] == "virus" for row in rows[1:]])
    assert len(viral) == 40
    accuracy = float((viral == (np.arange(40) % 2 == 0)).mean())
    assert accuracy == pytest.approx(record["test"]["chunks"]["accuracy"])

    assert run("train", "head", *words, "--max-epochs", "8", "--batch-size", "32", "--resume") == 0
    assert "was done already" in capsys.readouterr().out


def test_features_of_one_file(run, dataset: Path, tiny_bundle: Path, capsys) -> None:
    words = [
        "train",
        "features",
        str(dataset / "test.fa.gz"),
        "-o",
        "features",
        "--dtype",
        "bf16",
        "--shard-size",
        "16",
    ]
    words += ["--nucleotide", str(tiny_bundle / "nucleotide"), "--protein", str(tiny_bundle / "protein")]
    assert run(*words) == 0
    metadata = json.loads(Path("features/test_metadata.json").read_text())
    assert len(metadata["files"]) == 3
    assert metadata["identity"]["chunk_length"] == 300  # the dataset's
    assert run(*words) == 2
    assert "holds features already" in capsys.readouterr().err
    assert run(*words, "--resume") == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["features", "{data}/train.fa.gz", "-o", "f"], "no encoders"),
        (["features", "{data}/none.fa", "-o", "f", "-m", "mini"], "no such file or folder"),
        (["features", "{data}/train.fa.gz", "-o", "f", "-m", "nowhere"], "no bundle named 'nowhere'"),
        (["features", "{data}/train.fa.gz", "-m", "mini"], "not given: --output-dir"),
        (["features", "{data}/dataset.json", "-o", "f", "-m", "mini"], "dataset.json"),
        (["head", "--train", "a", "-o", "h"], "not given: --valid"),
        (["head", "--train", "{data}", "--valid", "{data}", "-o", "h"], "holds no features"),
        (["head", "--train", "a", "--valid", "b", "-o", "h", "--learning-rate", "-1"], "--learning-rate is -1.0"),
    ],
)
def test_what_cannot_work_says_why_ends_with_2_and_writes_nothing(
    run, dataset: Path, capsys, words: list[str], message: str
) -> None:
    assert run("train", *(word.replace("{data}", str(dataset)) for word in words)) == 2
    assert message in capsys.readouterr().err
    assert list(Path.cwd().iterdir()) == []


def test_sigterm_ends_it_with_3_and_the_command_that_goes_on(tiny_bundle: Path, tmp_path: Path) -> None:
    source = write_split(tmp_path / "train.fa.gz", n=600, seed=9)
    program = str(Path(sys.executable).with_name("seqassay"))
    words = ["train", "features", str(source), "-o", str(tmp_path / "features"), "-m", str(tiny_bundle)]
    words += ["--shard-size", "20", "--threads", "1", "--device", "cpu"]
    with subprocess.Popen([program, *words], stderr=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stderr is not None
        deadline = time.monotonic() + 120
        while not (tmp_path / "features" / "shard-000002.safetensors").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        errors = process.stderr.read()
        assert process.wait(60) == 3
    assert "stopped by SIGTERM" in errors
    assert "seqassay train features" in errors
    assert "--resume" in errors
    assert subprocess.run([program, *words, "--resume", "--no-progress"], check=False).returncode == 0
    said = json.loads((tmp_path / "features" / "features.json").read_text())
    assert said["status"] == "done"
    assert said["resumed_shards"] >= 2
    assert said["counts"]["records"] == 600


def test_a_fine_tuning_s_summary_leaves_out_what_is_not_defined(tmp_path: Path) -> None:
    """Groups of a few validation chunks have no balanced figure: null in the record."""
    record = {
        "side": "protein",
        "steps": 4,
        "best_step": 2,
        "history": [{"step": 2, "loss": 0.7, "selection": 0.6, "auc_150": 0.6, "balanced_auc_150": None}],
        "parameters": {"trained": 10, "frozen": 20},
        "encoder": {"digest": "a" * 64, "path": "encoder"},
        "head": {"path": "head.safetensors"},
    }
    assert summary(record, tmp_path)[0].endswith("those of step 2 of 4: auc_150 0.6000")
