"""The record of `lm evaluate`: what a training left, gates on it, its page, its schema beside the standard metrics."""

from __future__ import annotations

import copy
import json
import re
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from seqassay.errors import InputError
from seqassay.measure.provenance import commit_of
from seqassay.measure.schema import schema
from seqassay.models.causal_lm import CausalLmConfig
from seqassay.models.lm_files import build_lm, load_lm, save_lm
from seqassay.prove.gates.command import gate
from seqassay.prove.gates.settings import GateSettings
from seqassay.prove.lm import profiling as profiling_module
from seqassay.prove.lm.command import evaluate_lm
from seqassay.prove.lm.settings import LmEvaluateSettings
from seqassay.prove.lm.standard import StandardMetrics
from seqassay.prove.lm.trained import NO_RECORD, read_training
from seqassay.report.html.page import record_page
from seqassay.report.html.records import Record, read_record
from seqassay.text.tokenizer_training import train_bytes_bpe

TEXT = "The cat sat on the mat. The dog sat on the log.\n" * 20
CONFIG = CausalLmConfig(vocab_size=270, d_model=16, n_layers=1, n_heads=2, d_ff=24, context=16)
OF_WEIGHTS = {"step": 30, "tokens_seen": 960, "dev_loss": 2.5, "settings": {"seed": 7, "batch": 2}}
WHOLE = {
    "format": "seqassay-lm-training", "status": "done", "device": "cpu", "precision": "float32",
    "data": {"train_tokens": 480},
    "training": {"steps": 40, "tokens_seen": 1280, "wall_s": 2.0, "tokens_per_s": 640.0, "best": {"step": 30},
                 "last": {"step": 40}},
}  # fmt: skip


def trained(folder: Path, tokenizer: Path, *, weights: Any, whole: Any = None) -> Path:
    save_lm(build_lm(CONFIG, 1), folder / "best", seed=1, tokenizer=tokenizer, more={"training": weights})
    if whole is not None:
        (folder / "training.json").write_text(whole if isinstance(whole, str) else json.dumps(whole))
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("lm")
    train_bytes_bpe([TEXT], 270).save(place / "tokenizer.json")
    (place / "valid.txt").write_text(TEXT)
    rows = [{"sentence": f"a {a} film", "label": int(i % 3 > 0)} for i, a in enumerate("abcdefghi")]
    (place / "sentiment.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return place


@pytest.fixture(scope="module")
def record(place: Path) -> dict[str, Any]:
    """Of a trained model: text, a probe task, latency and throughput."""
    folder = trained(place / "run", place / "tokenizer.json", weights=OF_WEIGHTS, whole=WHOLE)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(profiling_module, "_WARM_LIMIT_S", 0.01)
        settings = LmEvaluateSettings(
            checkpoint=folder, inputs=(f"valid={place / 'valid.txt'}",), probes=(str(place / "sentiment.jsonl"),),
            output_dir=place / "out", device="cpu", latency_runs=20, latency_warm_ups=0, throughput_s=0.01,
            skip_scaling=True, skip_memory=True,
        )  # fmt: skip
        return evaluate_lm(settings).record


def test_training_totals_are_those_of_the_weights(record: dict[str, Any]) -> None:
    said, standard = record["training"], record["standard"]
    assert (said["steps"], said["tokens_seen"], said["epochs"], said["seed"]) == (30, 960, 2.0, 7)
    assert said["whole_training"]["wall_s"] == 2.0 and said["is_last_step"] is False
    assert said["flop"] == 3 * build_lm(CONFIG, 1).flops([16]) * 60
    assert (standard["training_tokens"], standard["seed"], standard["training_wall_s"]) == (960, 7, 2.0)
    assert NO_RECORD not in record["notes"]


@pytest.mark.parametrize(
    ("weights", "whole", "words"),
    [
        (None, None, NO_RECORD),
        (OF_WEIGHTS, None, None),
        (OF_WEIGHTS, "{", "the training's record is left out: .*is not JSON"),
        (OF_WEIGHTS, {**WHOLE, "format": "other"}, "is no record of a language model's training"),
        (OF_WEIGHTS, {**WHOLE, "status": "running"}, "has not ended [(]running[)]"),
        ({**OF_WEIGHTS, "step": 31}, WHOLE, "is of another training"),
        ({"step": "x", "tokens_seen": -1, "dev_loss": float("inf")}, None, None),
    ],
)
def test_a_training_that_is_not_known_is_said_to_be(
    place: Path, tmp_path: Path, weights: Any, whole: Any, words: str | None
) -> None:
    folder = trained(tmp_path / "run", place / "tokenizer.json", weights=weights, whole=whole)
    said, notes = read_training(load_lm(folder))
    assert (said is None) == (weights is None)
    if said is not None:
        assert said["whole_training"] is None and (said["steps"] is None) == (weights["step"] == "x")
    assert (words is None and not notes) or re.search(str(words), notes[0])


def test_gates_on_an_evaluation(record: dict[str, Any], place: Path, tmp_path: Path) -> None:
    ms = record["profiling"]["latency"][0]["latency_ms"]["value"]
    text = f"""gates:
  perplexity: {{metric: valid_perplexity, below: 100000}}
  bits: {{metric: valid_bits_per_byte, below: 0.001}}
  accuracy: {{metric: smallbench_accuracy, above: 0.01}}
  latency: {{metric: latency_ms, below: {ms * 1.01}}}
  percentile: {{metric: latency_p95_ms, above: 0}}
  by shape: {{metric: profiling.latency.1x16.median_ms, below: 1000000}}
  flat: {{metric: standard.smallbench_average_accuracy, at_most: 0.99}}
  rate: {{metric: throughput_tokens_per_s, above: 1}}
  memory: {{metric: peak_memory_bytes, below: 1000000000}}
"""
    (tmp_path / "gates.yaml").write_text(text)
    found = gate(GateSettings(records=(str(place / "out"),), gates=tmp_path / "gates.yaml", output_dir=tmp_path / "g"))
    verdicts = {entry["name"]: entry["verdict"] for entry in found["gates"]}
    assert verdicts.pop("memory") == "MISSING" and verdicts.pop("bits") == "FAILED"
    assert set(verdicts.values()) <= {"PASSED", "UNDECIDED"} and verdicts["latency"] == "PASSED"
    (tmp_path / "gates.yaml").write_text("gates: {g: {metric: standard.valid_perplexity, above: 0.5}}")
    with pytest.raises(InputError, match=r"is kept by every figure: standard.valid_perplexity lies from 1 to inf"):
        gate(GateSettings(records=(str(place / "out"),), gates=tmp_path / "gates.yaml"))
    changed = copy.deepcopy(record)
    changed["splits"]["valid"]["values"]["loss"]["value"] *= 0.9
    (tmp_path / "metrics.json").write_text(json.dumps(changed))
    with pytest.raises(InputError, match=r"metrics.json: valid: "):
        gate(GateSettings(records=(str(tmp_path / "metrics.json"),), gates=tmp_path / "gates.yaml"))


def test_the_page_shows_what_the_record_says(record: dict[str, Any], place: Path) -> None:
    html = record_page([read_record(place / "out")])
    values = record["splits"]["valid"]["values"]
    assert f"{values['token_perplexity']['value']:,.3f}" in html and record["run"]["id"] in html
    for words in (
        "SmallBench accuracy",
        "Latency of every run",
        "the larger class has",
        "Throughput of 32x16",
        "Guards",
    ):
        assert words in html
    assert not re.search(r"\b(nan|None|inf)\b", html)
    other = Record("lm_evaluation", {**record, "device": "another"}, place / "out/metrics.json")
    both = record_page([read_record(place / "out"), other])
    assert "2 lm_evaluation records side by side" in both and "of different devices" in both


def test_the_page_of_a_training_has_its_curves(tmp_path: Path, record: dict[str, Any]) -> None:
    figures = {"step": 40, "dev_loss": 2.0, "dev_perplexity": 7.39, "path": "best"}
    content: dict[str, Any] = {
        **{key: record[key] for key in ("written_at", "device", "provenance")},
        "format": "seqassay-lm-training", "version": "1.0", "kind": "lm_training", "status": "killed", "error": None,
        "identity": {}, "settings": {"output_dir": "run"}, "model": {"config": {}, "params": 100},
        "precision": "float32",
        "killed": {"dev_perplexity": 9.0, "baseline_perplexity": 8.0, "margin": 0.5, "worse_since_tokens": 5,
                   "tokens_seen": 40},
        "data": {"path": "t", "tokenizer_digest": "d", "train_tokens": 50, "dev": {
            "split": "valid", "windows": 1, "of_windows": 1, "scored_tokens": 9, "split_tokens": 10,
            "context_tokens": 8, "stride_tokens": 8, "prefix": None}},
        "training": {"first_batch_loss": 4.0, "steps": 40, "steps_planned": 80, "tokens_seen": 40, "epochs": 0.8,
                     "best": figures, "last": figures, "wall_s": 2.0, "aside_s": 0.0, "tokens_per_s": 20.0},
    }  # fmt: skip
    (tmp_path / "training.json").write_text(json.dumps(content))
    assert "there are no curves" in record_page([read_record(tmp_path)])
    (tmp_path / "metrics.csv").write_text("step,tokens,train_loss,dev_loss\n1,20,3.5,\n2,40,3.25,2.0\n")
    html = record_page([read_record(tmp_path)])
    assert "The kill rule ended it after 40 tokens" in html and "last: training batches 3.25, dev split 2." in html
    for text in ("step,tokens,train_loss\n1,20,nan\n", "step,tokens,train_loss\n1,20,x\n", "step,train_loss\n1,3\n"):
        (tmp_path / "metrics.csv").write_text(text)
        with pytest.raises(InputError, match="is no table of a training"):
            record_page([read_record(tmp_path)])
    (tmp_path / "training.json").write_text(json.dumps({**content, "status": "running"}))
    with pytest.raises(InputError, match="the training is running"):
        read_record(tmp_path)


def test_the_schema_has_the_standard_metrics() -> None:
    standard = schema("lm_evaluation")["properties"]["standard"]
    names = [field.name for field in fields(StandardMetrics)]
    assert standard["required"] == names == list(standard["properties"]) and len(names) > 40


def test_the_commit_of_a_folder(tmp_path: Path) -> None:
    assert commit_of(tmp_path) is None and commit_of(tmp_path / "nothing") is None

    def git(*words: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        done = subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "-q")
    assert commit_of(tmp_path) is None
    (tmp_path / "notes.txt").write_text("one")
    git("add", ".")
    git("commit", "-qm", "one")
    assert commit_of(tmp_path) == git("rev-parse", "HEAD")
    (tmp_path / "notes.txt").write_text("two")
    assert commit_of(tmp_path) == f"{git('rev-parse', 'HEAD')}-dirty"
