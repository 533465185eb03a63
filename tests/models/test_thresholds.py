"""Thresholds of a bundle: interpolation, the rule in words, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from seqassay.models.thresholds import CallThresholds

BY_LENGTH = CallThresholds((100.0, 400.0), (0.7, 0.5), (0.9, 0.6), 0.05)


@pytest.mark.parametrize(
    ("length", "framed", "unframed"),
    [
        (20, 0.7, 0.9),  # below the first length its thresholds hold
        (0, 0.7, 0.9),
        (100, 0.7, 0.9),
        (200, 0.6, 0.75),  # half way in the logarithm
        (400, 0.5, 0.6),
        (10_000, 0.5, 0.6),
    ],
)
def test_thresholds_are_interpolated_in_the_logarithm_of_the_length(
    length: int, framed: float, unframed: float
) -> None:
    found = BY_LENGTH.of(np.array([length, length]), np.array([True, False]))
    assert found == pytest.approx([framed, unframed])


def test_one_threshold_holds_for_all() -> None:
    assert CallThresholds.at(0.7).of(np.array([3, 3000]), np.array([True, False])).tolist() == [0.7, 0.7]


@pytest.mark.parametrize(
    ("thresholds", "said", "rule"),
    [
        (CallThresholds.at(0.5), "argmax", "score >= 0.5"),
        (CallThresholds.at(0.25), 0.25, "score >= 0.25"),
        (
            BY_LENGTH,
            {
                "method": "made-up sequences by length",
                "made_up_limit": 0.05,
                "lengths": [100.0, 400.0],
                "framed": [0.7, 0.5],
                "unframed": [0.9, 0.6],
            },
            "score >= 0.5 to 0.9, by length",
        ),
    ],
)
def test_what_is_written_is_what_is_read(thresholds: CallThresholds, said: Any, rule: str) -> None:
    assert thresholds.as_json() == said
    assert CallThresholds.from_json(said) == thresholds
    assert thresholds.rule == rule


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": 1}, "has the keys"),
        ({"method": "guess"}, "method is 'guess'"),
        ({"made_up_limit": 5}, "made_up_limit is 5"),
        ({"lengths": [400.0, 100.0]}, "not ascending"),
        ({"lengths": [], "framed": [], "unframed": []}, "not ascending"),
        ({"framed": [0.7]}, "for each of 2 lengths"),
        ({"unframed": [0.7, 1.1]}, "for each of 2 lengths"),
        ({"unframed": [0.7, float("nan")]}, "for each of 2 lengths"),
        ({"framed": ["0.7", "0.5"]}, "framed is not a list of numbers"),
        ({"framed": 0.7}, "framed is not a list of numbers"),
    ],
)
def test_what_is_no_threshold_is_refused(change: dict[str, Any], message: str) -> None:
    said = BY_LENGTH.as_json()
    assert isinstance(said, dict)
    with pytest.raises(ValueError, match=message):
        CallThresholds.from_json({**said, **change})


@pytest.mark.parametrize("said", ["0.9", 0.0, 1.5, float("nan"), None, 1])
def test_no_threshold_at_all(said: object) -> None:
    with pytest.raises(ValueError, match="this version knows"):
        CallThresholds.from_json(said)
