"""`seqassay evaluate` as a command: files, verdicts and exit codes."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.main import get_command

from seqassay.cli.main import build_app
from seqassay.prove.parts import ScoredParts
from seqassay.prove.settings import EvaluateSettings

CODONS = {"viral": ("ATG", "GAT", "AAA", "TTT", "GTT"), "other": ("GCC", "CGC", "GGC", "CTG", "GAG")}


@pytest.fixture
def evaluate(run: Callable[..., int], tiny_bundle: Path, tmp_path: Path) -> Callable[..., int]:
    """Evaluate the tiny bundle on eighty made-up sequences into ``out``."""
    rng = np.random.default_rng(1)
    lines = [">stopped label=viral group=phage\nTAATTAATTAATTAATTAACTAACTAA\n"]
    for i in range(80):
        label = ("viral", "other")[i % 2]
        bases = "".join(rng.choice(np.array(CODONS[label]), 40))
        lines.append(f">s{i} label={label} group={('phage', 'bacteria')[i % 2]} record=g{i}\n{bases}\n")
    (tmp_path / "test.fa").write_text("".join(lines))

    def call(*words: str) -> int:
        options = ("--test", "test.fa", "-o", "out", "--device", "cpu", "--threads", "1", "--no-progress")
        return run("evaluate", str(tiny_bundle), *options, *words)

    return call


def figures(accuracy: float) -> str:
    return json.dumps({"accuracy": accuracy, "precision": 0.9, "recall": 0.9, "f1": 0.9, "roc_auc": 0.9})


def record() -> dict[str, Any]:
    return json.loads(Path("out/metrics.json").read_text())


def test_without_a_baseline_the_gate_is_skipped(evaluate, run, tiny_bundle: Path, capsys) -> None:
    assert evaluate() == 0
    out = capsys.readouterr().out
    assert "SKIPPED: no baseline was given" in out
    assert "80; no score: 1 without a stop-free frame" in out
    files = sorted(str(path.relative_to("out")) for path in Path("out").rglob("*") if path.is_file())
    assert files == ["metrics.json", "predictions.tsv", "reports/validation_curves.png", "reports/validation_report.md"]

    assert run("predict", "test.fa", "-m", str(tiny_bundle), "-o", "predicted", "--device", "cpu", "--quiet") == 0
    predicted = [line.split("\t") for line in Path("predicted/sequences.tsv").read_text().splitlines()]
    rows = [line.split("\t") for line in Path("out/predictions.tsv").read_text().splitlines()]
    assert rows[0] == ["id", "label", "group", "score", "call", "status"]
    where = [predicted[0].index(name) for name in ("score", "call", "status")]
    assert [row[3:] for row in rows[1:]] == [[row[i] for i in where] for row in predicted[1:]]


def test_verdicts_and_exit_codes(evaluate, capsys) -> None:
    assert evaluate() == 0
    accuracy = record()["values"]["accuracy"]["value"]
    assert evaluate("--force", "--baseline-metrics", figures(accuracy), "--threshold", "0.4") == 0
    assert record()["verdict"] == "PASSED"

    capsys.readouterr()
    Path("baseline.json").write_text(figures(1.0))
    assert evaluate("--force", "--baseline-metrics", "baseline.json", "--threshold", "0.01") == 5
    shown = capsys.readouterr()
    assert "DEPLOYMENT HALTED: accuracy drops by +" in shown.err
    assert "1. Do not deploy the candidate" in shown.err
    assert record()["verdict"] == "DEPLOYMENT HALTED"
    assert "**DEPLOYMENT HALTED**" in Path("out/reports/validation_report.md").read_text()

    assert evaluate("--force", "--baseline-metrics", figures(round(accuracy + 0.05, 4))) == 5
    assert "UNDECIDED" in capsys.readouterr().err
    assert record()["verdict"] == "UNDECIDED"
    assert "straddles the limit" in record()["gate"]["reason"]


def test_the_record_of_an_earlier_evaluation_as_baseline_must_be_of_this_test_set(evaluate, capsys) -> None:
    assert evaluate() == 0
    Path("out").rename("before")
    assert evaluate("--baseline-metrics", "before/metrics.json", "--threshold", "0.4") == 0
    assert record()["gate"]["drop"] == 0
    test = Path("test.fa")
    test.write_text(test.read_text() + ">more label=viral group=phage\nATGGATAAATTTGTT\n")
    assert evaluate("--force", "--baseline-metrics", "before/metrics.json") == 2
    assert "the baseline's figures are of another test set" in capsys.readouterr().err


def test_a_model_beside_itself_passes(evaluate, tiny_bundle: Path, capsys) -> None:
    assert evaluate("--baseline", str(tiny_bundle), "--unit", "taxon") == 0
    assert "difference +0.0000" in capsys.readouterr().out
    assert record()["comparison"]["kind"] == "paired"


def test_a_folder_with_something_in_it_is_left_alone(evaluate, capsys) -> None:
    Path("out").mkdir()
    Path("out/notes.txt").write_text("mine")
    assert evaluate() == 2
    assert "the output folder is not empty (it holds notes.txt)" in capsys.readouterr().err
    assert sorted(path.name for path in Path("out").iterdir()) == ["notes.txt"]
    assert evaluate("--force") == 0
    assert Path("out/notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--baseline-metrics", figures(93.0)], "key 'accuracy' is 93"),
        (["--baseline-metrics", '{"accuracy": 0.9}'], "key 'precision' is missing"),
        (["--baseline-metrics", "none.json"], "none.json: cannot be read"),
        (["--baseline", "nowhere"], "no bundle named 'nowhere'"),
        (["--baseline", "mini", "--baseline-metrics", "{}"], "exclude each other"),
        (["--baseline", "test.fa"], "names predictions, not a bundle"),
        (["--baseline-predictions", "none"], "none: no such file or folder"),
        (["--baseline-predictions", "test.fa"], "test.fa, line 1: the header is"),
        (["--resume", "--force"], "exclude each other"),
        (["--threshold", "5"], "for 5 percent give 0.05"),
        (["--unit", "read"], "--unit is 'read'; it has to be one of: record, taxon"),
        (["--test", "none.fa"], "no such file or folder"),
    ],
)
def test_what_cannot_work_says_why_ends_with_2_and_writes_nothing(
    evaluate, capsys, words: list[str], message: str
) -> None:
    assert evaluate(*words) == 2
    assert message in capsys.readouterr().err
    assert not Path("out").exists()


def test_what_is_needed_is_named(run, capsys) -> None:
    assert run("evaluate", "mini", "-o", "out") == 2
    assert "not given: --test" in capsys.readouterr().err


def test_every_option_is_a_setting_and_every_setting_an_option() -> None:
    command = get_command(build_app()).commands["evaluate"]  # type: ignore[attr-defined]
    fields = {field.name for field in dataclasses.fields(EvaluateSettings)}
    assert {parameter.name for parameter in command.params} - {"progress"} == fields


def test_a_stopped_evaluation_ends_with_3_and_writes_nothing(evaluate, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    monkeypatch.setattr("seqassay.prove.contender.score_test_set", stopped)
    assert evaluate() == 3
    assert "stopped by SIGTERM; the evaluation was not finished" in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_stopped_evaluation_with_something_scored_ends_with_3_and_goes_on(
    evaluate, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ScoredParts.put

    def put_and_stop(self: ScoredParts, *piece: Any) -> None:
        whole(self, *piece)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    with monkeypatch.context() as patched:
        patched.setattr(ScoredParts, "put", put_and_stop)
        assert evaluate() == 3
    said = capsys.readouterr().err
    assert "stopped by SIGTERM; 1 scored pieces are kept" in said
    assert "seqassay evaluate" in said and "--resume" in said
    assert not Path("out/metrics.json").exists()
    assert evaluate() == 2
    assert "holds an interrupted evaluation" in capsys.readouterr().err
    with monkeypatch.context() as patched:
        patched.setattr(ScoredParts, "put", put_and_stop)  # nothing is left to be scored
        assert evaluate("--resume") == 0
    resumed = Path("out/predictions.tsv").read_bytes()
    assert evaluate("--force") == 0
    assert Path("out/predictions.tsv").read_bytes() == resumed
    assert sorted(path.name for path in Path("out").iterdir()) == ["metrics.json", "predictions.tsv", "reports"]


def test_scores_at_hand_are_compared_and_a_bad_table_is_named_by_its_line(
    evaluate, run, tiny_bundle: Path, capsys
) -> None:
    assert run("predict", "test.fa", "-m", str(tiny_bundle), "-o", "predicted", "--device", "cpu", "--quiet") == 0
    assert run("evaluate", "predicted", "--test", "test.fa", "-o", "a", "--baseline-predictions", "predicted") == 0
    assert "PASSED" in capsys.readouterr().out
    lines = Path("predicted/sequences.tsv").read_text().splitlines(keepends=True)
    header = lines[0].rstrip("\n").split("\t")
    fields = lines[5].split("\t")
    fields[header.index("score")] = "nan"
    Path("broken.tsv").write_text("".join([*lines[:5], "\t".join(fields), *lines[6:]]))
    assert evaluate("--baseline-predictions", "broken.tsv") == 2
    assert "broken.tsv, line 6: score is 'nan'" in capsys.readouterr().err
    test = Path("test.fa")
    test.write_text(test.read_text().replace("record=g3", "record=other"))
    assert run("evaluate", "predicted", "--test", "test.fa", "-o", "b") == 2
    assert "is not the test set test.fa" in capsys.readouterr().err


def test_one_class_says_what_is_undefined(evaluate, capsys) -> None:
    test = Path("test.fa")
    records = test.read_text().split(">")[1:]
    test.write_text("".join(f">{record}" for record in records if "label=viral" in record))
    assert evaluate() == 0
    assert "ROC-AUC            undefined: no example of class Non-Viral" in capsys.readouterr().out
    report = Path("out/reports/validation_report.md").read_text()
    assert "ROC-AUC: undefined, no example of class Non-Viral" in report
    assert "There is no ROC or precision-recall curve: no scored example of class Non-Viral" in report
    assert Path("out/reports/validation_curves.png").is_file()


def test_a_test_set_that_was_cut_is_refused(evaluate, capsys) -> None:
    whole = gzip.compress(Path("test.fa").read_bytes())
    Path("test.fa").unlink()
    Path("cut.fa.gz").write_bytes(whole[:-300])
    assert evaluate("--test", "cut.fa.gz") == 2
    assert "cut.fa.gz" in capsys.readouterr().err
    assert not Path("out").exists()
