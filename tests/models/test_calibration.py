from __future__ import annotations

import json

import numpy as np
import pytest
from support import TINY_CALIBRATION

from seqassay.models.calibration import Calibration, Evidence, log_odds_of


def evidence(length: int, joint: float, nucleotide: float) -> Evidence:
    return Evidence(np.array([length]), np.array([joint]), np.array([nucleotide]))


def logistic(x: float) -> float:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(
    ("length", "joint", "nucleotide", "log_odds"),
    [
        (100, 2.0, -1.0, 0.1 + 0.8 * 2 - 0.5),
        (50, 2.0, -1.0, 0.1 + 0.8 * 2 - 0.5),  # below the first length its weights hold
        (300, 2.0, -1.0, 0.2 + 1.6 * 2 - 1.0),
        (5000, 2.0, -1.0, 0.2 + 1.6 * 2 - 1.0),
        (100, np.nan, 1.5, 1.5),
        (300, np.nan, 1.5, 0.3 + 2 * 1.5),
    ],
)
def test_probability(length: int, joint: float, nucleotide: float, log_odds: float) -> None:
    p = TINY_CALIBRATION.probability(evidence(length, joint, nucleotide))
    assert p[0] == pytest.approx(logistic(log_odds))


def test_between_lengths_the_weights_go_with_the_logarithm() -> None:
    middle = TINY_CALIBRATION.probability(evidence(round(np.sqrt(100 * 300)), 1.0, 0.0))
    assert middle[0] == pytest.approx(logistic(0.15 + 1.2), abs=1e-3)


def test_no_evidence_gives_no_probability() -> None:
    assert np.isnan(TINY_CALIBRATION.probability(evidence(100, np.nan, np.nan))[0])


def test_without_a_nucleotide_head_only_the_joint_evidence_counts() -> None:
    plain = Calibration(0.5, 10, np.array([100.0]), np.array([[0.0, 1.0, 7.0]]), None)
    assert plain.probability(evidence(100, 2.0, np.nan))[0] == pytest.approx(logistic(2.0))
    assert np.isnan(plain.probability(evidence(100, np.nan, 3.0))[0])


def test_json_comes_back() -> None:
    said = json.loads(json.dumps(TINY_CALIBRATION.as_json()))
    assert Calibration.from_json(said).as_json() == TINY_CALIBRATION.as_json()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "isotonic"}, "method is 'isotonic'"),
        ({"prior": 1.0}, "prior is 1.0"),
        ({"n_others": 0}, "n_others is 0"),
        ({"lengths": [300.0, 100.0]}, "not ascending"),
        ({"lengths": []}, "not ascending"),
        ({"framed": [[0, 1, 2]]}, "framed has the shape"),
        ({"framed": [[0, 1, float("nan")], [0, 1, 2]]}, "not finite"),
        ({"unframed": "x"}, "not a table"),
        ({"error": [0.1]}, "error has the shape"),
        ({"error": [0.1, 1.5]}, "error has a value outside 0 to 1"),
        ({"colour": 1}, "has the keys"),
    ],
)
def test_wrong_json_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Calibration.from_json(TINY_CALIBRATION.as_json() | change)


def test_the_error_between_lengths_goes_with_the_logarithm() -> None:
    assert TINY_CALIBRATION.error_at(50) == TINY_CALIBRATION.error_at(100) == 0.04
    assert TINY_CALIBRATION.error_at(np.sqrt(100 * 300)) == pytest.approx(0.03)
    assert np.isnan(TINY_CALIBRATION.error_at(np.nan))
    without = Calibration.from_json(TINY_CALIBRATION.as_json() | {"error": None})
    assert np.isnan(without.error_at(100))


def test_log_odds_are_bounded() -> None:
    scores = np.array([[0.25, 0.75], [1.0, 0.0], [0.0, 1.0]], np.float32)
    assert log_odds_of(scores).tolist() == pytest.approx([np.log(3), -30, 30])
