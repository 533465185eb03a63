"""Figures of two small tables against what a person works out, and verdicts at, around and off the limit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqassay.errors import SeqassayError
from seqassay.evaluate.uncertainty import share_interval
from seqassay.prove.compare.figures import compare_tables, mean, quantile, spread
from seqassay.prove.compare.outputs import list_table
from seqassay.prove.compare.pairing import pair
from seqassay.prove.compare.record import check_record
from seqassay.prove.compare.tables import read_table
from seqassay.prove.compare.verdict import agreement_gate

FRAMES = "Sequence_ID\tPrediction\tscore1\tscore2\n"


def frames(path: Path, scores: dict[str, float]) -> Path:
    rows = [f"{name}\t{'virus' if p > 0.5 else 'others'}\t{1 - p:.6f}\t{p:.6f}\n" for name, p in scores.items()]
    path.write_text(FRAMES + "".join(rows))
    return path


def compared(tmp_path: Path, a: dict[str, float], b: dict[str, float]) -> tuple[dict[str, Any], list[tuple[str, ...]]]:
    ours, theirs = read_table(frames(tmp_path / "a", a)), read_table(frames(tmp_path / "b", b))
    pairing = pair(ours.ids, theirs.ids)
    record, mismatches = compare_tables(ours, theirs, pairing, 1e-4)
    check_record({"levels": [record]})
    return record, list_table(ours, theirs, pairing, mismatches, 2).rows


A = {"same": 0.9, "moved": 0.8, "near": 0.505, "far": 0.2, "middle": 0.53, "gone": 0.7}
B = {"same": 0.9, "moved": 0.8001, "near": 0.497, "far": 0.95, "middle": 0.46, "new1": 0.1, "new2": 0.2}


def test_agreement_differences_and_flips(tmp_path: Path) -> None:
    record, _ = compared(tmp_path, A, B)
    assert record["rows"] == {
        "a": 6, "b": 7, "in_both": 5, "only_a": 1, "only_b": 2, "repeated_ids": {"a": 0, "b": 0}, "same_order": True,
        "labels_against_scores": {"a": 0, "b": 0},
    }  # fmt: skip
    labels = record["labels"]
    assert labels["agreement"]["value"] == 2 / 5
    assert labels["agreement"]["interval_95"] == list(share_interval(2, 5))
    assert labels["agreement_with_missing"]["value"] == 2 / 8
    counts = [labels[name] for name in ("virus_in_both", "others_in_both", "virus_in_a_others_in_b",
                                        "others_in_a_virus_in_b", "called_in_neither")]  # fmt: skip
    assert counts == [2, 0, 2, 1, 0]
    assert record["scores"]["within_tolerance"]["value"] == 2 / 5
    assert record["scores"]["identical"]["value"] == 1 / 5
    score2, apart = record["scores"]["differences"]["score2"], np.array([0, 0.0001, -0.008, 0.75, -0.07])
    assert score2["mean_signed"]["value"] == pytest.approx(apart.mean())
    assert score2["mean_absolute"]["value"] == pytest.approx(np.abs(apart).mean())
    assert score2["median_absolute"]["value"] == pytest.approx(0.008)
    assert score2["max_absolute"]["value"] == pytest.approx(0.75)
    assert score2["sd_signed"]["value"] == pytest.approx(apart.std(ddof=1))
    assert all(figure["n"] == 5 for figure in score2.values())
    flips = record["flips"]
    assert (flips["n"], flips["largest_distance"]) == (3, pytest.approx(0.45))
    assert [(entry["within"], entry["count"]) for entry in flips["near_boundary"]] == [(0.01, 1), (0.05, 2), (0.1, 2)]


def test_flips_are_listed_from_the_farthest_on_and_missing_rows_in_order(tmp_path: Path) -> None:
    _, rows = compared(tmp_path, A, B)
    assert rows[0] == ("frames", "flip", "far", "1", "others", "virus", "0.2", "0.95", "0.75", "0.45")
    assert [row[:3] for row in rows[1:]] == [
        ("frames", "flip", "middle"), ("frames", "only_in_a", "gone"), ("frames", "only_in_b", "new1"),
        ("frames", "only_in_b", "new2"),
    ]  # fmt: skip
    assert rows[2][4:] == ("virus", "", "0.7", "", "", "")
    assert rows[3][4:] == ("", "others", "", "0.1", "", "")


def test_identical_tables_claim_no_certainty(tmp_path: Path) -> None:
    record, rows = compared(tmp_path, A, A)
    assert rows == []
    assert record["labels"]["agreement"]["value"] == 1
    assert record["labels"]["agreement"]["interval_95"][0] < 1
    score2 = record["scores"]["differences"]["score2"]
    assert score2["mean_absolute"]["interval_95"] is None
    assert "no width is no certainty" in score2["mean_absolute"]["why_no_interval"]


def test_no_common_row_gives_undefined_figures_with_a_reason(tmp_path: Path) -> None:
    record, _ = compared(tmp_path, {"x": 0.1}, {"y": 0.1})
    assert record["labels"]["agreement"]["value"] is None
    assert record["labels"]["agreement"]["why_undefined"]
    assert record["labels"]["agreement_with_missing"]["value"] == 0
    assert record["scores"]["differences"]["score2"]["max_absolute"]["value"] is None


def test_labels_against_their_scores_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(FRAMES + "r1\tvirus\t0.9\t0.1\nr2\tothers\t0.5\t0.5\nr3\tothers\t0.1\t0.9\n")
    table = read_table(tmp_path / "a")
    record, _ = compare_tables(table, table, pair(table.ids, table.ids), 0)
    assert record["rows"]["labels_against_scores"] == {"a": 2, "b": 2}


def test_intervals_cover_what_they_should() -> None:
    rng = np.random.default_rng(1)
    hits = {"median": 0, "p95": 0, "mean": 0}
    for _ in range(400):
        values = np.sort(rng.exponential(1, 300))
        for name, found, truth in (
            ("median", quantile(values, 0.5), math.log(2)),
            ("p95", quantile(values, 0.95), math.log(20)),
            ("mean", mean(values, high=math.inf), 1.0),
        ):
            low, high = found["interval_95"]
            hits[name] += low <= truth <= high
    assert all(0.92 <= n / 400 <= 0.99 for n in hits.values()), hits


def test_few_rows_have_no_interval_of_a_tail() -> None:
    found = spread(np.linspace(0, 1, 20))
    assert found["p95_absolute"]["interval_95"] is None
    assert found["p95_absolute"]["why_no_interval"] == "too few rows"
    assert spread(np.array([0.5]))["sd_signed"]["why_undefined"] == "a single row"


def level(agreeing: int, n: int, name: str = "frames") -> dict[str, Any]:
    figure = {"value": agreeing / n, "interval_95": list(share_interval(agreeing, n)), "n": n} if n else {
        "value": None, "interval_95": None, "n": 0}  # fmt: skip
    return {"level": name, "labels": {"virus_in_both": agreeing, "others_in_both": 0, "agreement_with_missing": figure}}


@pytest.mark.parametrize(
    ("agreeing", "n", "limit", "verdict"),
    [
        (1000, 1000, 0.99, "PASSED"),
        (9950, 10000, 0.99, "PASSED"),
        (9900, 10000, 0.99, "UNDECIDED"),
        (100, 100, 0.99, "UNDECIDED"),
        (9885, 10000, 0.99, "UNDECIDED"),
        (9800, 10000, 0.99, "FAILED"),
        (0, 50, 0.99, "FAILED"),
        (0, 0, 0.99, "UNDECIDED"),
    ],
)
def test_verdicts(agreeing: int, n: int, limit: float, verdict: str) -> None:
    gate = agreement_gate([level(agreeing, n)], limit)
    assert gate["verdict"] == verdict
    assert bool(gate["next_steps"]) == (verdict != "PASSED")


def test_the_worst_level_decides() -> None:
    good, unsure, bad = level(10**5, 10**5), level(100, 100, "chunks"), level(1, 100, "sequences")
    assert agreement_gate([good, unsure], 0.99)["verdict"] == "UNDECIDED"
    assert agreement_gate([good, unsure, bad], 0.99)["verdict"] == "FAILED"
    assert agreement_gate([good, unsure, bad], 0.99)["reason"].startswith("sequences:")
    assert agreement_gate([good], None)["verdict"] == "SKIPPED"


@pytest.mark.parametrize(
    ("place", "figure", "message"),
    [
        ("labels", {"value": 1.2, "interval_95": None, "n": 5}, "came out as 1.2"),
        ("labels", {"value": 0.5, "interval_95": [0.6, 0.7], "n": 5}, "outside its own interval"),
        ("labels", {"value": None, "interval_95": None, "n": 0}, "undefined without a reason"),
        ("cosine", {"value": -1.5, "interval_95": None, "n": 5}, "outside -1 to 1"),
    ],
)
def test_impossible_figures_are_refused(place: str, figure: dict[str, Any], message: str) -> None:
    with pytest.raises(SeqassayError, match=message):
        check_record({place: {"mean": figure}, "levels": []})


def test_counts_that_do_not_add_up_are_refused(tmp_path: Path) -> None:
    record, _ = compared(tmp_path, A, B)
    record["flips"]["n"] += 1
    with pytest.raises(SeqassayError, match="frames: flips are 4, but there are 3"):
        check_record({"levels": [record]})
