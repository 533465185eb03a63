"""Thresholds fitted to made-up sequences: the limit holds, the recall is the best there is, the margin where cheap."""

from __future__ import annotations

import numpy as np
import pytest

from seqassay.models.calibration import Calibration, Evidence
from seqassay.train.calibrate import ScoredFragments
from seqassay.train.thresholds import MADE_UP_LIMIT, fit_thresholds

# The probability is the logistic of the joint evidence, or of the nucleotide's without a frame.
CALIBRATION = Calibration(0.5, 100, np.array([300.0]), np.array([[0.0, 1.0, 0.0]]), np.array([[0.0, 1.0]]))


def evidence(framed: list[float], unframed: list[float]) -> Evidence:
    """By probabilities, with a stop-free frame and without one."""
    log_odds = np.log(np.array(framed + unframed)) - np.log1p(-np.array(framed + unframed))
    joint = np.where(np.arange(len(log_odds)) < len(framed), log_odds, np.nan)
    return Evidence(np.full(len(log_odds), 300), joint, log_odds, joint)


def fragments(framed: list[float], unframed: list[float]) -> ScoredFragments:
    """Viral ones, and one other."""
    found = evidence([*framed, 0.1], unframed)
    labels = np.ones(len(found.length), np.int64)
    labels[len(framed)] = 0
    return ScoredFragments(300, found, labels, np.ones(len(labels)), np.arange(len(labels)))


def test_nothing_is_raised_where_made_up_sequences_score_low() -> None:
    kinds = {"random": evidence([0.4] * 100, [0.3] * 100), "repeats": evidence([0.2] * 100, [0.1] * 100)}
    found = fit_thresholds([kinds], [fragments([0.6] * 10, [0.55] * 10)], CALIBRATION)
    assert (found.lengths, found.framed, found.unframed, found.made_up_limit) == ((300.0,), (0.5,), (0.5,), 0.05)


def test_the_side_that_costs_least_is_raised() -> None:
    kinds = {"random": evidence([0.2] * 100, [0.65] * 100), "shuffled": evidence([0.2] * 100, [0.72] * 100)}
    found = fit_thresholds([kinds], [fragments([0.6] * 10, [0.8] * 10)], CALIBRATION)
    assert found.framed == (0.5,)
    assert found.unframed == (0.73,)  # the lowest above what every kind scores


def test_every_kind_keeps_to_the_limit() -> None:
    rng = np.random.default_rng(1)
    kinds = {name: evidence(rng.random(400).tolist(), rng.random(400).tolist()) for name in ("a", "b", "c")}
    found = fit_thresholds([kinds], [fragments(rng.random(200).tolist(), rng.random(50).tolist())], CALIBRATION)
    for made in kinds.values():
        called = CALIBRATION.probability(made) >= found.of(made.length, ~np.isnan(made.joint))
        assert called.mean() <= MADE_UP_LIMIT


@pytest.mark.parametrize(
    ("viral", "threshold"),
    [
        ([0.9] * 50, 0.71),  # the margin, under which none may be called, costs nothing
        ([0.65] * 40 + [0.9] * 10, 0.5),  # it would cost most of the recall
    ],
)
def test_the_margin_for_sampling_is_taken_where_it_is_cheap(viral: list[float], threshold: float) -> None:
    made = evidence(
        [0.7] * 2 + [0.2] * 98, []
    )  # 2 of 100: more than a standard error below the limit, its interval is not
    found = fit_thresholds([{"random": made}], [fragments(viral, [])], CALIBRATION)
    assert found.framed == (threshold,)


def test_a_standard_error_below_the_limit_is_always_kept() -> None:
    made = evidence([0.7] * 4 + [0.2] * 96, [])  # 4 of 100, and a standard error is 2.2 of 100
    found = fit_thresholds([{"random": made}], [fragments([0.65] * 40 + [0.9] * 10, [])], CALIBRATION)
    assert found.framed == (0.71,)
