"""The record of an evaluation: figures against scikit-learn, what is counted, and figures that cannot be."""

from __future__ import annotations

import copy
import errno
import json
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqassay import durable
from seqassay.errors import InputError, ResourceError, SeqassayError, UsageError
from seqassay.models.bundle import load_bundle
from seqassay.models.thresholds import CallThresholds
from seqassay.prove.baseline import REQUIRED, BaselineMetrics
from seqassay.prove.comparison import accuracy_gate, compare_models, compare_with_metrics
from seqassay.prove.evaluate import evaluate
from seqassay.prove.outputs import prediction_rows
from seqassay.prove.record import check_record
from seqassay.prove.scores import ScoredExamples
from seqassay.prove.settings import EvaluateSettings
from seqassay.prove.test_set import Examples
from seqassay.report.markdown import validation_report, validation_summary

Write = Callable[..., Path]


def run(bundle: Path, test: Path, out: Path, **options: Any) -> dict[str, Any]:
    settings = EvaluateSettings(bundle=str(bundle), test=test, output_dir=out, device="cpu", threads=1, **options)
    record = evaluate(settings).record
    assert json.loads((out / "metrics.json").read_text()) == json.loads(json.dumps(record))
    return record


def rows_of(out: Path) -> list[dict[str, str]]:
    header, *lines = (out / "predictions.tsv").read_text().splitlines()
    return [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]


def test_figures_are_scikit_learn_s(write_labelled: Write, tiny_bundle: Path, tmp_path: Path) -> None:
    sklearn = pytest.importorskip("sklearn.metrics", reason="the extra train is not installed")
    record = run(tiny_bundle, write_labelled(80), tmp_path / "out")
    rows = [row for row in rows_of(tmp_path / "out") if row["score"]]
    truth = np.array([row["label"] == "viral" for row in rows])
    called = np.array([row["call"] == "virus" for row in rows])
    score = np.array([float(row["score"]) for row in rows])
    expected = {
        "accuracy": sklearn.accuracy_score(truth, called),
        "precision": sklearn.precision_score(truth, called),
        "recall": sklearn.recall_score(truth, called),
        "f1": sklearn.f1_score(truth, called),
        "roc_auc": sklearn.roc_auc_score(truth, score),
        "mcc": sklearn.matthews_corrcoef(truth, called),
        "average_precision": sklearn.average_precision_score(truth, score),
    }
    for name, value in expected.items():
        assert record["values"][name]["value"] == pytest.approx(value, abs=1e-12), name
        low, high = record["values"][name]["interval_95"]
        assert low <= high
        assert record["values"][name]["n"] == len(rows) == 76
    assert record["confusion_matrix"]["matrix"] == sklearn.confusion_matrix(truth, called).tolist()
    assert record["confusion_matrix"]["classes"] == ["Non-Viral", "Viral"]
    assert record["calibration"]["brier_score"]["value"] == pytest.approx(sklearn.brier_score_loss(truth, score))
    assert record["verdict"] == "SKIPPED"
    assert "no baseline" in record["gate"]["reason"]


def test_sequences_without_a_score_are_counted_by_reason(
    write_labelled: Write, tiny_bundle: Path, calibrated_bundle: Path, tmp_path: Path
) -> None:
    path = write_labelled(80)
    record = run(tiny_bundle, path, tmp_path / "out")
    scored = record["scored"]
    assert (record["test_set"]["sequences"], scored["scored"], scored["unscored"]) == (82, 76, 6)
    assert scored["unscored_by_reason"] == {
        "no_frame": {"sequences": 4, "viral": 2, "others": 2},
        "no_bases": {"sequences": 2, "viral": 0, "others": 2},
    }
    assert sum(row["unscored"] for row in record["by_group"]) == 6
    assert sum(row["sequences"] for row in record["by_length"]) == 82
    rows = rows_of(tmp_path / "out")
    assert [row["status"] for row in rows[-6:]] == ["no_frame"] * 4 + ["no_bases"] * 2
    assert all(not row["score"] and not row["call"] for row in rows[-6:])
    report = (tmp_path / "out" / "reports" / "validation_report.md").read_text()
    assert "On 76 of 82 sequences" in report
    assert "| without a stop-free frame | 4 of these (2 viral, 2 others) |" in report

    by_nucleotides = run(calibrated_bundle, path, tmp_path / "calibrated")["scored"]
    assert (by_nucleotides["scored"], by_nucleotides["by_nucleotides_alone"]) == (80, 4)


def test_groups_and_lengths(write_labelled: Write, tiny_bundle: Path, tmp_path: Path) -> None:
    record = run(tiny_bundle, write_labelled(80), tmp_path / "out")
    groups = {row["group"]: row for row in record["by_group"]}
    assert list(groups) == ["bacteria", "fungi", "phage", "rna_virus"]
    assert "recall" not in groups["bacteria"]
    assert groups["bacteria"]["roc_auc_against"] == "all viral"
    assert groups["phage"]["roc_auc_against"] == "all others"
    right = sum(groups[name]["recall"]["value"] * groups[name]["scored"] for name in ("phage", "rna_virus"))
    assert right == pytest.approx(record["confusion_matrix"]["matrix"][1][1])
    assert [(row["from"], row["below"]) for row in record["by_length"]] == [(0, 100), (100, 150), (150, 250)]


@pytest.mark.parametrize("label", ["viral", "other"])
def test_one_class_leaves_figures_undefined_and_says_why(
    write_labelled: Write, tiny_bundle: Path, tmp_path: Path, label: str
) -> None:
    record = run(tiny_bundle, write_labelled(40, label=label), tmp_path / "out")
    auc = record["values"]["roc_auc"]
    assert auc["value"] is None
    assert "no example of class" in auc["why_undefined"]
    assert "no scored example of class" in record["curves"]["roc"]["why_undefined"]
    assert "no scored example of class" in record["curves"]["precision_recall"]["why_undefined"]
    defined = "recall" if label == "viral" else "specificity"
    assert record["values"][defined]["value"] == record["values"]["accuracy"]["value"]
    report = (tmp_path / "out" / "reports" / "validation_report.md").read_text()
    assert "ROC-AUC: undefined, no example of class" in report


def test_a_full_disk_leaves_what_was_there(
    write_labelled: Write, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, pieces: object) -> int:
        if path.name == "metrics.json":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return durable.stage(path, pieces)  # type: ignore[arg-type]

    path = write_labelled(20)
    run(tiny_bundle, path, tmp_path / "out")
    before = {file: file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()}
    monkeypatch.setattr("seqassay.prove.outputs.stage", full)
    with pytest.raises(ResourceError, match="the disk is full") as caught:
        run(tiny_bundle, path, tmp_path / "out", force=True)
    assert "--resume" in caught.value.hint
    after = {file: file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()}
    pieces = {file for file in after if file.parent.name == "scored"}  # to go on from
    assert {file.name for file in pieces} == {"scored.json", "candidate-000000.npz"}
    assert {file: content for file, content in after.items() if file not in pieces} == before


def test_without_matplotlib_the_evaluation_goes_on_and_the_report_says_so(
    write_labelled: Write,
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = write_labelled(20)
    run(tiny_bundle, path, tmp_path / "out")
    reports = tmp_path / "out" / "reports"
    assert "](validation_curves.png)" in (reports / "validation_report.md").read_text()
    assert (reports / "validation_curves.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    run(tiny_bundle, path, tmp_path / "out", force=True)
    assert "pip install 'seqassay[report]'" in (reports / "validation_report.md").read_text()
    assert "pip install 'seqassay[report]'" in caplog.text
    assert not (reports / "validation_curves.png").exists()  # the one there was of the earlier evaluation


def test_nothing_scored_is_an_error(tiny_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.fa"
    path.write_text(">a label=viral group=x\nNNNNNN\n>b label=other group=y\nA\n")
    with pytest.raises(InputError, match="not one of its 2 sequences has a score: 1 too_short, 1 no_bases"):
        run(tiny_bundle, path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_same_evaluation_twice_gives_the_same_figures(
    write_labelled: Write, tiny_bundle: Path, tmp_path: Path
) -> None:
    path = write_labelled(60)
    first, second = (run(tiny_bundle, path, tmp_path / name) for name in ("a", "b"))
    for key in ("identity", "values", "by_group", "by_length", "calibration", "curves", "test_set"):
        assert first[key] == second[key]
    assert (tmp_path / "a" / "predictions.tsv").read_bytes() == (tmp_path / "b" / "predictions.tsv").read_bytes()


def test_taxa_are_wider_units_than_genomes(write_labelled: Write, tiny_bundle: Path, tmp_path: Path) -> None:
    path = write_labelled(80)
    by_genome = run(tiny_bundle, path, tmp_path / "a")
    by_taxon = run(tiny_bundle, path, tmp_path / "b", unit="taxon")
    assert by_genome["test_set"]["units"] == 42  # 40 genomes of two chunks, and two sequences on their own
    assert by_taxon["test_set"]["units"] == 22
    assert by_genome["values"]["accuracy"]["value"] == by_taxon["values"]["accuracy"]["value"]


def test_a_bundle_beside_another(
    write_labelled: Write, tiny_bundle: Path, calibrated_bundle: Path, tmp_path: Path
) -> None:
    record = run(calibrated_bundle, write_labelled(80), tmp_path / "out", baseline=str(tiny_bundle), threshold=0.9)
    comparison = record["comparison"]
    assert comparison["n"] == 76
    assert comparison["scored_by_candidate_alone"] == 4
    assert record["verdict"] == "PASSED"
    rows = [row for row in rows_of(tmp_path / "out") if row["score"] and row["baseline_score"]]
    ours = np.array([(row["call"] == "virus") == (row["label"] == "viral") for row in rows])
    theirs = np.array([(row["baseline_call"] == "virus") == (row["label"] == "viral") for row in rows])
    assert comparison["accuracy_drop"]["difference"] == pytest.approx(theirs.mean() - ours.mean())
    assert comparison["mcnemar"]["only_candidate_right"] == (ours & ~theirs).sum()
    assert comparison["mcnemar"]["only_baseline_right"] == (theirs & ~ours).sum()


def test_a_model_beside_itself_loses_nothing_for_certain(
    write_labelled: Write, tiny_bundle: Path, tmp_path: Path
) -> None:
    record = run(tiny_bundle, write_labelled(80), tmp_path / "out", baseline=str(tiny_bundle))
    assert record["verdict"] == "PASSED"
    assert record["gate"]["interval_95"] == [0.0, 0.0]


def test_a_tab_in_a_group_breaks_no_row() -> None:
    examples, scores, _ = made_up([True, False], [True, True])
    odd = Examples(examples.ids, examples.labels, np.array(["a\tb", "c"]), examples.genomes, examples.taxa, None)
    assert b"".join(prediction_rows(odd, scores)).splitlines()[1:] == [
        b"g0\tother\ta b\t0.100000\tothers\tclassified",
        b"g1\tviral\tc\t0.100000\tothers\tclassified",
    ]


def made_up(right_first: list[bool], right_second: list[bool]) -> tuple[Examples, ScoredExamples, ScoredExamples]:
    """Every sequence a genome, labels alternating, and two models that are right where they are said to be."""
    n = len(right_first)
    labels = np.arange(n) % 2
    names = np.array([f"g{i}" for i in range(n)])
    examples = Examples(names.tolist(), labels, names, names, names, None)

    def scored(right: list[bool]) -> ScoredExamples:
        viral = np.where(right, labels, 1 - labels)
        scores, lengths = np.where(viral == 1, 0.9, 0.1), np.zeros(n, np.int64)
        return ScoredExamples.called_by(CallThresholds.at(0.5), scores, np.zeros(n, np.uint8), lengths)

    return examples, scored(right_first), scored(right_second)


@pytest.mark.parametrize(("n", "ends"), [(40, False), (400, True)])
def test_models_that_agree_are_not_certain_to_agree_elsewhere(
    tiny_bundle: Path, calibrated_bundle: Path, n: int, ends: bool
) -> None:
    examples, ours, theirs = made_up([i % 10 > 0 for i in range(n)], [i % 10 > 0 for i in range(n)])
    bundles = load_bundle(tiny_bundle), load_bundle(calibrated_bundle)
    drop = compare_models(examples, ours, theirs, examples.units("record"), *bundles)["accuracy_drop"]
    assert drop["difference"] == 0
    low, high = drop["interval_95"]
    assert low == -high
    assert (high < 0.05) == ends  # of 40 genomes without a difference one cannot tell, of 400 one can


def test_mcnemar_and_drop_of_made_up_calls(tiny_bundle: Path, calibrated_bundle: Path) -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    examples, ours, theirs = made_up([i >= 30 for i in range(200)], [i % 20 > 0 for i in range(200)])
    bundles = load_bundle(tiny_bundle), load_bundle(calibrated_bundle)
    found = compare_models(examples, ours, theirs, examples.units("record"), *bundles)
    assert found["accuracy_drop"]["exact"] == "1/10"
    b, c = found["mcnemar"]["only_candidate_right"], found["mcnemar"]["only_baseline_right"]
    assert (b, c) == (8, 28)
    assert found["mcnemar"]["p_exact"] == pytest.approx(stats.binomtest(b, b + c).pvalue)


@pytest.mark.parametrize(
    ("lost", "drop", "limit", "below"),
    [(10, "1/20", 0.05, False), (9, "9/200", 0.05, True), (3, "3/200", 0.015, False)],
)
def test_at_the_exact_limit_a_drop_is_not_below_it(
    tiny_bundle: Path, calibrated_bundle: Path, lost: int, drop: str, limit: float, below: bool
) -> None:
    """Of 200 calls: 3/200 is 0.015 exactly, which 0.95 - 0.935 in floating point is not."""
    theirs = [i >= 10 for i in range(200)]
    ours = [i >= 10 + lost for i in range(200)]
    examples, candidate, baseline = made_up(ours, theirs)
    bundles = load_bundle(tiny_bundle), load_bundle(calibrated_bundle)
    comparison = compare_models(examples, candidate, baseline, examples.units("record"), *bundles)
    assert comparison["accuracy_drop"]["exact"] == drop
    comparison["accuracy_drop"]["interval_95"] = [comparison["accuracy_drop"]["difference"]] * 2
    assert accuracy_gate(comparison, limit)["verdict"] == ("PASSED" if below else "DEPLOYMENT HALTED")
    of_figures = BaselineMetrics("b", dict.fromkeys(REQUIRED, 0.95), Fraction("0.95"), None, None, ())
    right = 190 - lost
    values = {name: {"value": right / 200, "interval_95": [right / 200] * 2, "n": 200} for name in REQUIRED}
    beside_figures = compare_with_metrics(values, [[right, 200 - right], [0, 0]], of_figures)
    assert beside_figures["accuracy_drop"]["exact"] == drop
    assert accuracy_gate(beside_figures, limit)["verdict"] == ("PASSED" if below else "DEPLOYMENT HALTED")


@pytest.fixture
def record(write_labelled: Write, tiny_bundle: Path, tmp_path: Path) -> dict[str, Any]:
    return run(tiny_bundle, write_labelled(40), tmp_path / "out")


def test_a_figure_that_cannot_be_is_an_error_that_names_it(record: dict[str, Any]) -> None:
    check_record(record)
    for change, message in (
        (lambda r: r["values"]["accuracy"].update(value=3.58), "values.accuracy came out as 3.58, outside 0 to 1"),
        (lambda r: r["values"]["recall"].update(interval_95=[0.4, 1.2]), "values.recall came out as 1.2"),
        (lambda r: r["values"]["recall"].update(interval_95=[0.4, 0.2]), "an interval from 0.4 to 0.2"),
        (lambda r: r["values"]["mcc"].update(value=-1.5), "values.mcc came out as -1.5, outside -1 to 1"),
        (lambda r: r["scored"].update(unscored=99), "scored and unscored are"),
        (lambda r: r["confusion_matrix"].update(matrix=[[1, 2], [3, 4]]), "the confusion matrix holds 10 of"),
        (lambda r: r["by_group"].pop(), "scored and unscored by group are"),
    ):
        broken = copy.deepcopy(record)
        change(broken)
        with pytest.raises(SeqassayError) as caught:
            check_record(broken)
        assert message in str(caught.value)


def test_report_and_summary_are_views_of_the_record(record: dict[str, Any]) -> None:
    read = json.loads(json.dumps(record))
    report = validation_report(read)
    assert report.startswith("# Validation report\n\n**Gate skipped**: no baseline was given")
    for name in ("accuracy", "precision", "recall", "F1", "ROC-AUC"):
        assert f"| {name} | " in report
    assert record["identity"]["bundle"]["digest"] in report
    assert record["identity"]["test_set"]["digest"] in report
    assert "nan" not in report.lower().replace("finance", "")
    assert f"accuracy           {record['values']['accuracy']['value']:.4f}" in validation_summary(read, "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 5.0}, "for 5 percent give 0.05"),
        ({"threshold": -0.1}, "--threshold is -0.1"),
        ({"threshold": float("nan")}, "--threshold is nan"),
        ({"threads": 0}, "--threads is 0"),
        ({"baseline": "a", "baseline_metrics": "b"}, "exclude each other"),
    ],
)
def test_settings_that_cannot_work(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        EvaluateSettings(**{"bundle": "mini", "test": Path("t"), "output_dir": Path("o"), **options})
