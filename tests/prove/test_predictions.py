"""Evaluating scores that are at hand: runs of `predict`, tables of other tools, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqassay.config import PredictSettings
from seqassay.errors import InputError, UsageError
from seqassay.predict.run import predict
from seqassay.prove.evaluate import evaluate
from seqassay.prove.predictions import are_predictions
from seqassay.prove.settings import EvaluateSettings

Write = Callable[..., Path]


def run(model: Path, test: Path, out: Path, **options: Any) -> dict[str, Any]:
    settings = EvaluateSettings(bundle=str(model), test=test, output_dir=out, device="cpu", threads=1, **options)
    return evaluate(settings).record


@pytest.fixture
def test_fa(write_labelled: Write) -> Path:
    return write_labelled(80)


@pytest.fixture
def predicted(test_fa: Path, tiny_bundle: Path, tmp_path: Path) -> Path:
    out = tmp_path / "run"
    predict(PredictSettings(inputs=(str(test_fa),), model=str(tiny_bundle), output_dir=out, device="cpu", threads=1))
    return out


def test_a_run_is_evaluated_as_its_bundle_is(
    test_fa: Path, predicted: Path, tiny_bundle: Path, calibrated_bundle: Path, tmp_path: Path
) -> None:
    scored = run(tiny_bundle, test_fa, tmp_path / "scored")
    looked_up = run(predicted, test_fa, tmp_path / "looked up")
    for key in ("values", "curves", "by_group", "by_length", "confusion_matrix", "scored"):
        assert looked_up[key] == scored[key], key
    assert looked_up["identity"]["bundle"]["digest"] == scored["identity"]["bundle"]["digest"]
    assert looked_up["identity"]["bundle"]["predictions"]["kind"] == "run"
    assert looked_up["calibration"]["calibrated"] is None
    assert (tmp_path / "looked up" / "predictions.tsv").read_bytes() == (
        tmp_path / "scored" / "predictions.tsv"
    ).read_bytes()

    beside_bundle = run(calibrated_bundle, test_fa, tmp_path / "a", baseline=str(tiny_bundle))
    beside_run = run(calibrated_bundle, test_fa, tmp_path / "b", baseline_predictions=str(predicted))
    for key in ("figures", "mcnemar", "accuracy_drop", "n"):
        assert beside_run["comparison"][key] == beside_bundle["comparison"][key], key
    assert beside_run["verdict"] == beside_bundle["verdict"]


def test_a_run_beside_itself_loses_nothing(test_fa: Path, predicted: Path, tmp_path: Path) -> None:
    record = run(predicted, test_fa, tmp_path / "out", baseline_predictions=str(predicted))
    assert record["gate"]["interval_95"] == [0.0, 0.0]
    assert record["verdict"] == "PASSED"


def test_a_run_of_other_records_is_refused(write_labelled: Write, predicted: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.fa"
    other.write_bytes(write_labelled(80).read_bytes() + b">more label=viral group=phage\nATGGATAAATTTGTT\n")
    with pytest.raises(InputError, match=r"the run's input \(digest \w{12}\) is not the test set") as caught:
        run(predicted, other, tmp_path / "out")
    assert "predict the test set itself" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_a_changed_or_unfinished_run_is_refused(test_fa: Path, predicted: Path, tmp_path: Path) -> None:
    table = predicted / "sequences.tsv"
    whole = table.read_bytes()
    table.write_bytes(whole.replace(b"\tvirus", b"\tothers", 1))
    with pytest.raises(InputError, match="was changed since its run wrote it"):
        run(predicted, test_fa, tmp_path / "out")
    table.write_bytes(whole)
    record = json.loads((predicted / "run.json").read_text())
    (predicted / "run.json").write_text(json.dumps({**record, "status": "stopped"}))
    with pytest.raises(InputError, match="the run is not finished"):
        run(predicted, test_fa, tmp_path / "out")


def test_a_table_in_another_order_and_with_rows_missing(test_fa: Path, predicted: Path, tmp_path: Path) -> None:
    header, *rows = (predicted / "sequences.tsv").read_text().splitlines()
    where = header.split("\t").index("score")
    scores = {row.split("\t")[0]: row.split("\t")[where] for row in rows}
    kept = [f"{score}\t{name}\n" for name, score in list(scores.items())[:60][::-1]]
    table = tmp_path / "theirs.tsv"
    table.write_text("score\tid\n" + "".join(kept))
    record = run(predicted, test_fa, tmp_path / "out", baseline_predictions=str(table))
    comparison = record["comparison"]
    assert comparison["n"] == sum(1 for score in list(scores.values())[:60] if score)
    assert comparison["baseline"]["scored"]["by_status"]["not_given"] >= 22
    assert comparison["baseline"]["digest"] is None
    assert comparison["figures"]["accuracy"]["difference"] == 0
    assert any("only ids tie them to it" in note for note in record["notes"])
    report = (tmp_path / "out" / "reports" / "validation_report.md").read_text()
    assert "theirs.tsv" in report
    assert "None" not in report


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id\tscore\na\tnan\n", "line 2: score is 'nan'; it has to be a number from 0 to 1"),
        ("id\tscore\na\t93.5\n", "score is '93.5'"),
        ("id\tscore\na\t-0.1\n", "score is '-0.1'"),
        ("id\tscore\na\n", "line 2: 1 columns where the header has 2"),
        ("id\tscore\na\t0.5", "line 2: the last line has no line end"),
        ("id\tscore\n\t0.5\n", "line 2: the id is empty"),
        ("name\tprobability\na\t0.5\n", r"line 1: the header is \['name', 'probability'\]"),
        ("id\tscore\n", "holds no row"),
        ("", "the header is"),
        ("id\tscore\nnobody\t0.5\n", "not one of its ids is in the test set"),
        ("id\tscore\ns0\t0.5\ns0\t0.6\n", "the id s0 stands there more than once"),
    ],
)
def test_what_is_no_table_of_scores(predicted: Path, test_fa: Path, tmp_path: Path, text: str, message: str) -> None:
    table = tmp_path / "theirs.tsv"
    table.write_text(text)
    with pytest.raises(InputError, match=message):
        run(predicted, test_fa, tmp_path / "out", baseline_predictions=str(table))
    assert not (tmp_path / "out").exists()


def test_predictions_given_as_a_baseline_bundle_name_the_option(test_fa: Path, predicted: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="names predictions, not a bundle") as caught:
        run(predicted, test_fa, tmp_path / "out", baseline=str(predicted))
    assert "--baseline-predictions" in caught.value.hint
    with pytest.raises(InputError, match="no such file or folder"):
        run(predicted, test_fa, tmp_path / "out", baseline_predictions=str(tmp_path / "none"))


def test_a_bundle_s_name_wins_over_a_run_of_that_name(
    predicted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    predicted.rename("mini")
    assert not are_predictions("mini")
    assert are_predictions("./mini")
