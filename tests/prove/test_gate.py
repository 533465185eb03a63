"""Verdicts at, below and above the limit, and what an interval makes of them."""

from __future__ import annotations

from fractions import Fraction

import pytest

from seqassay.prove.gate import HALTED, PASSED, UNDECIDED, decide, exact, next_steps

LIMIT = exact(0.05)


@pytest.mark.parametrize(
    ("drop", "interval", "verdict"),
    [
        ("0.01", (-0.01, 0.03), PASSED),
        ("-0.2", (-0.3, -0.1), PASSED),
        ("0.0499", (0.0499, 0.0499), PASSED),
        ("0.05", (0.05, 0.05), HALTED),  # strictly less
        ("0.07", (0.05, 0.09), HALTED),
        ("0.07", (0.06, 0.09), HALTED),
        ("0.04", (0.02, 0.05), UNDECIDED),  # the interval's end at the limit is not below it
        ("0.04", (0.02, 0.06), UNDECIDED),
        ("0.06", (0.04, 0.08), UNDECIDED),
        ("0.05", (0.01, 0.04), UNDECIDED),  # an interval that leaves its own figure out proves nothing
        ("0.01", None, UNDECIDED),
        ("0.05", None, HALTED),
        ("0.30", None, HALTED),
        ("0.01", (float("nan"), float("nan")), UNDECIDED),
    ],
)
def test_verdicts(drop: str, interval: tuple[float, float] | None, verdict: str) -> None:
    decision = decide(Fraction(drop), interval, LIMIT, why_no_interval="2 genomes")
    assert decision.verdict == verdict
    if interval is None:
        assert "2 genomes" in decision.reason


def test_drop_and_limit_are_compared_as_the_decimals_that_were_written() -> None:
    assert 0.95 - 0.90 < 0.05  # what floating point says
    drop = exact(0.95) - Fraction(90, 100)
    assert drop == LIMIT
    assert decide(drop, (0.95 - 0.90, 0.95 - 0.90), LIMIT, why_no_interval="").verdict == HALTED


def test_with_a_limit_of_0_the_candidate_has_to_be_better() -> None:
    assert decide(Fraction(0), (0.0, 0.0), exact(0.0), why_no_interval="").verdict == HALTED
    assert decide(Fraction(-1, 100), (-0.02, -0.01), exact(0.0), why_no_interval="").verdict == PASSED


def test_only_what_did_not_pass_has_next_steps() -> None:
    assert next_steps(PASSED) == []
    assert "Do not deploy" in next_steps(HALTED)[0]
    assert "more genomes" in next_steps(UNDECIDED)[1]
