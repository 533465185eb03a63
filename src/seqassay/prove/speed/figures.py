"""Figures of timed runs, each with n and spread: seconds, rates, and the share of the device's peak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from seqassay.errors import SeqassayError
from seqassay.measure.clock import FloatArray, Ratio
from seqassay.prove.speed.work import Work

Centre = Literal["mean", "median"]


def figure(values: Sequence[float] | FloatArray, value: float) -> dict[str, Any]:
    """A figure over runs: its value, how many they were, and how far they lie apart; one run has no spread."""
    runs = np.asarray(values, np.float64)
    return {
        "value": value,
        "n": len(runs),
        "sd": float(runs.std(ddof=1)) if len(runs) > 1 else None,
        "min": float(runs.min()),
        "max": float(runs.max()),
    }


def rates(seconds: Sequence[float] | FloatArray, work: Work, peak_flop_per_s: float, centre: Centre) -> dict[str, Any]:
    """All figures of runs that did the same work, from their mean or median time.

    Raises:
        SeqassayError: see `check_share_of_peak`.
    """
    runs_s = np.asarray(seconds, np.float64)
    run_s = float(runs_s.mean() if centre == "mean" else np.median(runs_s))

    def per_s(amount: int) -> dict[str, Any]:
        return figure(amount / runs_s, amount / run_s)

    share = figure(work.flop / runs_s / peak_flop_per_s, work.flop / run_s / peak_flop_per_s)
    check_share_of_peak(share)
    return {
        "centre": centre,
        "total_s": float(runs_s.sum()),
        "run_s": figure(runs_s, run_s),
        "per_sequence_s": figure(runs_s / work.sequences, run_s / work.sequences),
        "sequences_per_s": per_s(work.sequences),
        "tokens_per_s": per_s(work.tokens),
        "flop_per_s": per_s(work.flop),
        "share_of_peak": share,
        "samples_s": runs_s.tolist(),
    }


def check_share_of_peak(share: Mapping[str, Any]) -> None:
    """No run did more than the device can do.

    Raises:
        SeqassayError: one did: the peak, the count or the clock is wrong.
    """
    if share["max"] > 1:
        raise SeqassayError(
            f"a run came out at {share['max']:.2f} of the device's peak, which no model can reach",
            hint="the machine was busy when its peak was measured: end what else is running, and run it again",
        )


def ratio_figure(ratio: Ratio) -> dict[str, Any]:
    """The speed-up of pairs, as the record has it."""
    entry = figure(ratio.ratios, ratio.value)
    entry["interval_95"] = None if ratio.interval_95 is None else list(ratio.interval_95)
    if ratio.why_no_interval:
        entry["why_no_interval"] = ratio.why_no_interval
    return entry


def undefined(why: str) -> dict[str, Any]:
    """A figure that there is none of."""
    return {"value": None, "n": 0, "sd": None, "min": None, "max": None, "interval_95": None, "why_undefined": why}
