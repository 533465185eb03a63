"""Calls that depend on the whole sample: its composition, q-values, and which scores are called virus."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seqassay.evaluate.fdr import Assurance, Composition, assurance, estimate_composition, posterior, q_values
from seqassay.models.calibration import Calibration
from seqassay.models.thresholds import CallThresholds
from seqassay.predict.consensus import SCORE_DECIMALS

DEFAULT_FDR = 0.05  # what the record speaks of when no rate was asked for


@dataclass(frozen=True, slots=True)
class SampleCalls:
    """What is known of the whole sample, by score in ticks of 1e-6, and whether that decides the calls.

    Attributes:
        rule: how calls are made, in words, for the record and the summary.
        thresholds: of the scores, as ``run.json`` holds them; None where q-values decide.
        is_virus: by tick, where q-values decide; None where every sequence was called by its score.
        q_value: by tick; None for bundles without a calibration.
        composition, assurance: of the sample; None for bundles without a calibration.
        fdr: false discovery rate that ``assurance`` is about.
    """

    rule: str
    thresholds: dict[str, Any] | float | str | None
    is_virus: npt.NDArray[np.bool_] | None
    q_value: npt.NDArray[np.float64] | None
    composition: Composition | None
    assurance: Assurance | None
    fdr: float

    def called(self, ticks: npt.NDArray[np.int32], by_score: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Which sequences are called virus.

        Args:
            ticks: their scores, -1 without one.
            by_score: which of them the thresholds call.
        """
        return by_score if self.is_virus is None else (ticks >= 0) & self.is_virus[np.maximum(ticks, 0)]

    def as_record(self, called_by_tick: npt.NDArray[np.int64]) -> dict[str, Any]:
        """For ``run.json``; shares of a sample without scores are null.

        Args:
            called_by_tick: sequences called virus at every score.
        """
        record: dict[str, Any] = {"rule": self.rule, "threshold": self.thresholds}
        if self.composition is not None and self.assurance is not None:
            low, high = self.composition.interval_95
            record["composition"] = {
                "n_scored": self.composition.n_scored,
                "viral_share": _number(self.composition.viral_share),
                "interval_95": [_number(low), _number(high)],
            }
            record["false_discovery_rate"] = {
                "of_calls": _false_share(called_by_tick, self.composition),
                "wanted": self.fdr,
                "can_tell": self.assurance.can_tell,
                "reason": self.assurance.reason or None,
            }
        return record


def decide(
    counts_by_tick: npt.NDArray[np.int64],
    calibration: Calibration | None,
    thresholds: CallThresholds,
    fdr: float | None,
    *,
    mean_length: float,
) -> SampleCalls:
    """Calls by the thresholds, or by q-value where a false discovery rate is asked for.

    Args:
        counts_by_tick: sequences at every score.
        calibration, thresholds: the bundle's.
        fdr: wanted false discovery rate; needs a calibration.
        mean_length: of the sequences with a score, in bases; NaN without any.
    """
    q = composition = assured = None
    if calibration is not None:
        composition = estimate_composition(counts_by_tick, calibration.prior)
        q = q_values(counts_by_tick, composition)
        assured = assurance(
            counts_by_tick,
            composition,
            fdr or DEFAULT_FDR,
            n_calibration_others=calibration.n_others,
            held_out_rate=calibration.held_out_rate(fdr or DEFAULT_FDR, mean_length),
        )
    if fdr is not None and q is not None:
        return SampleCalls(f"q_value <= {fdr:g}", None, q <= fdr, q, composition, assured, fdr)
    return SampleCalls(thresholds.rule, thresholds.as_json(), None, q, composition, assured, fdr or DEFAULT_FDR)


def _false_share(called_by_tick: npt.NDArray[np.int64], composition: Composition) -> float | None:
    """Expected share of others among the calls; None of no call."""
    ticks = np.flatnonzero(called_by_tick)
    if not len(ticks):
        return None
    return _number(float(np.average(1 - posterior(ticks, composition), weights=called_by_tick[ticks])))


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), SCORE_DECIMALS)
