"""Baselines given as figures: what is read, and what is refused under which name."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from seqassay.errors import InputError
from seqassay.prove.baseline import check_same_test_set, read_baseline_metrics

GOOD: dict[str, Any] = {"accuracy": 0.9, "precision": 0.8, "recall": 1, "f1": 0.889, "roc_auc": 0.95}


def test_inline_and_from_a_file(tmp_path: Path) -> None:
    inline = read_baseline_metrics(" " + json.dumps(GOOD))
    assert inline.name == "given figures"
    assert inline.figures["recall"] == 1.0
    assert inline.accuracy == Fraction(9, 10)
    assert inline.n is None
    path = tmp_path / "old.json"
    path.write_text(json.dumps(GOOD | {"n": 30, "date": "May", "confusion_matrix": [[14, 1], [2, 13]]}))
    read = read_baseline_metrics(str(path))
    assert (read.name, read.n, read.ignored) == ("old.json", 30, ("date",))
    assert read.accuracy == Fraction(27, 30)
    check_same_test_set(read, "any")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accuracy": None}, "key 'accuracy' is null, not a number"),
        ({"f1": float("nan")}, "key 'f1' is nan, not a number"),
        ({"f1": float("inf")}, "key 'f1' is inf, not a number"),
        ({"recall": True}, "key 'recall' is true, not a number"),
        ({"precision": "0.9"}, "key 'precision' is \"0.9\", not a number"),
        ({"precision": 10**400}, "key 'precision' is a number of hundreds of digits; it lies between 0 and 1"),
        ({"roc_auc": -0.1}, "key 'roc_auc' is -0.1; it lies between 0 and 1"),
        ({"accuracy": 93.5}, "if it is a percentage, write 0.935"),
        ({"n": 0}, "key 'n' is 0"),
        ({"n": 1.5}, "key 'n' is 1.5"),
        ({"confusion_matrix": [[1, 2]]}, "key 'confusion_matrix' is"),
        ({"confusion_matrix": [[0, 0], [0, 0]]}, "key 'confusion_matrix' is"),
        ({"confusion_matrix": [[5, 5], [5, 5]]}, "accuracy is 0.9, but confusion_matrix makes it 0.5000"),
    ],
)
def test_a_bad_value_is_named_by_its_key(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_baseline_metrics(json.dumps(GOOD | change))
    assert message in str(caught.value)


def test_inline_json_that_is_no_object_is_not_taken_for_a_file() -> None:
    with pytest.raises(InputError, match="holds a JSON list, not an object"):
        read_baseline_metrics("[0.93]")
    with pytest.raises(InputError, match="is not JSON"):
        read_baseline_metrics('{"accuracy": ' + "[" * 100_000)


@pytest.mark.parametrize("key", sorted(GOOD))
def test_a_missing_key_is_named(key: str) -> None:
    with pytest.raises(InputError, match=f"key '{key}' is missing"):
        read_baseline_metrics(json.dumps({name: value for name, value in GOOD.items() if name != key}))


def test_a_wrong_name_is_shown_beside_the_right_one() -> None:
    said = {name: value for name, value in GOOD.items() if name != "roc_auc"} | {"ROC-AUC": 0.9, "rocauc": 0.9}
    with pytest.raises(InputError, match="key 'roc_auc' is missing; it holds 'rocauc'"):
        read_baseline_metrics(json.dumps(said))


@pytest.mark.parametrize(
    ("text", "message"), [("{accuracy: 1}", "is not JSON"), ("none.json", "cannot be read"), ("{", "is not JSON")]
)
def test_what_is_no_json(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_baseline_metrics(text)


def test_a_list_is_no_set_of_figures(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text("[0.9]")
    with pytest.raises(InputError, match="holds a JSON list"):
        read_baseline_metrics(str(path))


def record(**changes: Any) -> dict[str, Any]:
    values = {name: {"value": value} for name, value in GOOD.items()}
    return {
        "format": "seqassay-evaluation",
        "version": "2.0",
        "identity": {"bundle": {"name": "old"}, "test_set": {"digest": "d" * 64}},
        "values": values,
        "confusion_matrix": {"matrix": [[14, 1], [2, 13]]},
        **changes,
    }


def test_an_earlier_evaluation_is_of_one_test_set() -> None:
    read = read_baseline_metrics(json.dumps(record()))
    assert (read.name, read.n, read.accuracy) == ("old", 30, Fraction(9, 10))
    check_same_test_set(read, "d" * 64)
    with pytest.raises(InputError, match=r"another test set \(dddddddddddd\) than this one \(eeeeeeeeeeee\)"):
        check_same_test_set(read, "e" * 64)


def test_an_earlier_evaluation_may_have_undefined_figures_but_no_missing_ones() -> None:
    undefined = record()
    undefined["values"]["roc_auc"]["value"] = None
    assert read_baseline_metrics(json.dumps(undefined)).figures["roc_auc"] is None
    cut = record()
    del cut["values"]["f1"]
    with pytest.raises(InputError, match="'f1' is missing"):
        read_baseline_metrics(json.dumps(cut))
    with pytest.raises(InputError, match=r"version '1\.0'; this seqassay reads 2\.x"):
        read_baseline_metrics(json.dumps(record(version="1.0")))


FIGURES = {"accuracy": 0.93, "precision": 0.92, "recall": 0.94, "f1": 0.93, "roc_auc": 0.98}


def test_figures_one_level_down_are_found() -> None:
    found = read_baseline_metrics(json.dumps({"name": "theirs", "epochs": 3, "test_metrics": FIGURES}))
    assert (found.name, found.figures["roc_auc"]) == ("theirs", 0.98)
    with pytest.raises(InputError, match="holds figures in 'valid' and 'test'") as caught:
        read_baseline_metrics(json.dumps({"valid": FIGURES, "test": FIGURES}))
    assert "give the object that is meant" in caught.value.hint
    with pytest.raises(InputError, match="metrics: key 'f1' is 93; it lies between 0 and 1"):
        read_baseline_metrics(json.dumps({"metrics": {**FIGURES, "f1": 93}}))


@pytest.mark.parametrize("value", ["NaN", "Infinity", '"93%"', "null", "true"])
def test_what_is_no_fraction_says_the_fix(value: str) -> None:
    text = json.dumps({**FIGURES, "accuracy": "?"}).replace('"?"', value)
    with pytest.raises(InputError, match=r"key 'accuracy' is .*, not a number") as caught:
        read_baseline_metrics(text)
    assert caught.value.hint
