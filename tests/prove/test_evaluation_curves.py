"""Curves in the record, their checks, and their picture."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from seqassay.errors import MissingExtraError, SeqassayError
from seqassay.evaluate.reliability import reliability_curve
from seqassay.prove.curves import calibration_bins, check_curves, curves_of, score_histogram
from seqassay.report.validation_plots import draw_validation

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def curves() -> dict[str, Any]:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 500)
    scores = np.round(np.clip(rng.normal(0.3 + 0.4 * labels, 0.2), 0, 1), 6)
    bins = calibration_bins(reliability_curve(labels, scores), [None] * 15)
    return {**curves_of(labels, scores), "calibration": bins, "histogram": score_histogram(labels, scores)}


def test_curves_hold(curves: dict[str, Any]) -> None:
    check_curves(curves, 500)
    assert curves["roc"]["thresholds"][0] is None
    assert curves["roc"]["points"] <= 200
    low, high = curves["calibration"][0]["wilson_95"]
    assert 0 <= low <= curves["calibration"][0]["viral_share"]["value"] <= high <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["roc"]["recall"].__setitem__(5, 0.99), "curves.roc: recall falls along the curve"),
        (lambda c: c["roc"]["recall"].pop(), "curves.roc: columns of different length"),
        (lambda c: c["roc"]["recall"].__setitem__(-1, 3.58), r"curves.roc: recall holds \[3.58\], outside 0 to 1"),
        (lambda c: c["roc"]["false_positive_rate"].__setitem__(0, 0.5), "false_positive_rate falls along the curve"),
        (lambda c: c["roc"]["thresholds"].reverse(), "curves.roc: thresholds do not fall"),
        (lambda c: c["roc"].update(area=0.2), "curves.roc: thinning changed its area by 0"),
        (lambda c: c["precision_recall"]["precision"].__setitem__(3, -0.1), "precision_recall: precision holds"),
        (lambda c: c["histogram"]["viral"].__setitem__(0, 1000), "curves.histogram holds"),
        (lambda c: c["histogram"]["edges"].pop(), "curves.histogram: not one count for every bin"),
        (lambda c: c["histogram"]["edges"].reverse(), "curves.histogram: edges do not rise"),
        (lambda c: c["calibration"].pop(), "curves.calibration holds"),
        (lambda c: c["calibration"][1].update(mean_score=0.99), r"curves.calibration\[1\]: its mean score is 0.99"),
        (lambda c: c["calibration"][1].update(wilson_95=[0.9, 1.0]), "does not hold its own share"),
        (lambda c: c["calibration"].reverse(), "curves.calibration: bins do not rise"),
    ],
)
def test_a_curve_that_cannot_be_is_an_error(
    curves: dict[str, Any], change: Callable[[dict[str, Any]], object], message: str
) -> None:
    broken = copy.deepcopy(curves)
    change(broken)
    with pytest.raises(SeqassayError, match=message):
        check_curves(broken, 500)


def test_one_class_leaves_two_curves_undefined() -> None:
    found = curves_of(np.ones(3, np.int64), np.array([0.1, 0.2, 0.3]))
    assert found["roc"] == found["precision_recall"] == {"why_undefined": "no scored example of class Non-Viral"}
    check_curves(found, 3)


def record_of(curves: dict[str, Any]) -> dict[str, Any]:
    return {
        "curves": curves,
        "identity": {"bundle": {"name": "a $x^2$ " + "long" * 20}},
        "scored": {"scored": 500},
        "method": {"threshold": "argmax"},
        "test_set": {"sequences": 510, "genomes": 40},
        "calibration": {"viral_share": 0.5, "calibrated": True},
        "comparison": None,
    }


def test_a_picture_of_defined_undefined_and_compared_curves(curves: dict[str, Any]) -> None:
    record = record_of(curves)
    alone = draw_validation(record)
    by_length = {"lengths": [150, 300], "framed": [0.6, 0.5], "unframed": [0.7, 0.6]}
    assert draw_validation({**record, "method": {"threshold": by_length}}) != alone
    compared = draw_validation({**record, "comparison": {"baseline": {"name": "b"}, "baseline_curves": curves}})
    undefined = draw_validation(record_of({**curves, **curves_of(np.ones(3, np.int64), np.array([0.1, 0.2, 0.3]))}))
    assert alone[:8] == compared[:8] == undefined[:8] == PNG
    assert len({alone, compared, undefined}) == 3


def test_without_matplotlib_the_error_says_how_to_get_it(
    curves: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"seqassay\[report\]"):
        draw_validation(record_of(curves))
