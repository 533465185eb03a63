from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from support import TINY_CALIBRATION

from seqassay.models.calibration import RATES, Calibration, Evidence, log_odds_of


def evidence(length: int, joint: float, nucleotide: float, best: float = 5.0) -> Evidence:
    return Evidence(np.array([length]), np.array([joint]), np.array([nucleotide]), np.array([best]))


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


WITH_BEST = replace(TINY_CALIBRATION, framed_KC=np.array([[0.1, 0.8, 0.5, 0.0], [0.2, 1.6, 1.0, 0.7]]))


@pytest.mark.parametrize(("length", "log_odds"), [(100, 0.1 + 0.8 * 2 - 0.5), (300, 0.2 + 1.6 * 2 - 1.0 + 0.7 * 3)])
def test_the_best_frames_count_where_they_have_a_weight(length: int, log_odds: float) -> None:
    assert WITH_BEST.probability(evidence(length, 2.0, -1.0, 3.0))[0] == pytest.approx(logistic(log_odds))
    unframed = WITH_BEST.probability(evidence(length, np.nan, 1.5, np.nan))
    assert unframed[0] == TINY_CALIBRATION.probability(evidence(length, np.nan, 1.5, np.nan))[0]


WITH_TRACKS = replace(WITH_BEST, track_K3=np.array([[0.3, 1.0, 0.4], [0.4, 2.0, 0.9]]))


def test_windows_of_a_track_have_weights_of_their_own() -> None:
    window = evidence(300, 2.0, -1.0, 3.0)
    assert WITH_TRACKS.probability(window) == WITH_BEST.probability(window)
    assert WITH_TRACKS.for_tracks().probability(window)[0] == pytest.approx(logistic(0.4 + 2.0 * 2 - 0.9))
    assert TINY_CALIBRATION.for_tracks() is TINY_CALIBRATION


@pytest.mark.parametrize("calibration", [TINY_CALIBRATION, WITH_BEST, WITH_TRACKS])
def test_json_comes_back(calibration: Calibration) -> None:
    said = json.loads(json.dumps(calibration.as_json()))
    assert Calibration.from_json(said).as_json() == calibration.as_json()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "isotonic"}, "method is 'isotonic'"),
        ({"prior": 1.0}, "prior is 1.0"),
        ({"n_others": 0}, "n_others is 0"),
        ({"lengths": [300.0, 100.0]}, "not ascending"),
        ({"lengths": []}, "not ascending"),
        ({"framed": [[0, 1, 2]]}, "framed has the shape"),
        ({"framed": [[0, 1, 2, 3, 4], [0, 1, 2, 3, 4]]}, "framed has the shape"),
        ({"framed": [[0, 1, 2], [0, 1, 2, 3]]}, "not a table"),
        ({"framed": {}}, "not a table"),
        ({"framed_of_tracks": [[0, 1, 2, 3], [0, 1, 2, 3]]}, "framed_of_tracks has the shape"),
        ({"framed": [[0, 1, float("nan")], [0, 1, 2]]}, "not finite"),
        ({"unframed": "x"}, "not a table"),
        ({"held_out": {"0.05": [0.1, 0.1]}}, "does not have the rates 0.01, 0.02, 0.05, 0.1, 0.2"),
        ({"held_out": {f"{rate:g}": [0.1, 1.5] for rate in RATES}}, "not a share for each of 2 lengths"),
        ({"held_out": {f"{rate:g}": [0.1] for rate in RATES}}, "not a share for each of 2 lengths"),
        ({"colour": 1}, "has the keys"),
    ],
)
def test_wrong_json_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Calibration.from_json(TINY_CALIBRATION.as_json() | change)


@pytest.mark.parametrize(
    ("fdr", "length", "rate"),
    [
        (0.05, 50, 0.06),
        (0.05, 300, 0.04),
        (0.05, np.sqrt(100 * 300), 0.05),  # between lengths by the logarithm
        (0.06, 100, 0.072),  # in proportion, by the nearest rate
        (0.01, 300, 0.01),
        (0.01, 100, np.nan),  # nothing would have been called
        (0.05, np.nan, None),  # no sequence with a score
    ],
)
def test_what_a_rate_came_to_on_held_out_taxa(fdr: float, length: float, rate: float | None) -> None:
    found = TINY_CALIBRATION.held_out_rate(fdr, length)
    assert found == (None if rate is None else pytest.approx(rate, nan_ok=True))


def test_what_was_not_measured_is_not_known() -> None:
    without = Calibration.from_json(TINY_CALIBRATION.as_json() | {"held_out": None})
    assert without.held_out_rate(0.05, 100) is None


def test_log_odds_are_bounded() -> None:
    scores = np.array([[0.25, 0.75], [1.0, 0.0], [0.0, 1.0]], np.float32)
    assert log_odds_of(scores).tolist() == pytest.approx([np.log(3), -30, 30])
