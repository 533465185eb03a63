"""Calls that depend on the whole sample: its composition, q-values, and which scores are called virus."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seqassay.evaluate.fdr import TICKS, Assurance, Composition, assurance, estimate_composition, q_values
from seqassay.models.calibration import Calibration
from seqassay.predict.consensus import SCORE_DECIMALS, VIRUS_THRESHOLD

DEFAULT_FDR = 0.05  # what the record speaks of when no rate was asked for


@dataclass(frozen=True, slots=True)
class SampleCalls:
    """The call of every possible score (ticks of 1e-6), and what is known of the sample.

    Attributes:
        rule: in words, for the record and the summary.
        is_virus: by tick.
        q_value: by tick; None for bundles without a calibration.
        composition, assurance: of the sample; None for bundles without a calibration.
        fdr: false discovery rate that ``assurance`` is about.
    """

    rule: str
    is_virus: npt.NDArray[np.bool_]
    q_value: npt.NDArray[np.float64] | None
    composition: Composition | None
    assurance: Assurance | None
    fdr: float

    def as_record(self, counts_by_tick: npt.NDArray[np.int64]) -> dict[str, Any]:
        """For ``run.json``; shares of a sample without scores are null."""
        record: dict[str, Any] = {"rule": self.rule}
        if self.composition is not None and self.assurance is not None and self.q_value is not None:
            called = np.flatnonzero(self.is_virus & (counts_by_tick > 0))
            low, high = self.composition.interval_95
            record["composition"] = {
                "n_scored": self.composition.n_scored,
                "viral_share": _number(self.composition.viral_share),
                "interval_95": [_number(low), _number(high)],
            }
            record["false_discovery_rate"] = {
                "of_calls": _number(self.q_value[called[0]]) if len(called) else None,
                "wanted": self.fdr,
                "can_tell": self.assurance.can_tell,
                "reason": self.assurance.reason or None,
            }
        return record


def decide(
    counts_by_tick: npt.NDArray[np.int64], calibration: Calibration | None, fdr: float | None, *, mean_length: float
) -> SampleCalls:
    """Calls by the threshold, or by q-value where a false discovery rate is asked for.

    Args:
        counts_by_tick: sequences at every score.
        calibration: the bundle's.
        fdr: wanted false discovery rate; needs a calibration.
        mean_length: of the sequences with a score, in bases; NaN without any.
    """
    ticks = np.arange(TICKS + 1)
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
        return SampleCalls(f"q_value <= {fdr:g}", q <= fdr, q, composition, assured, fdr)
    rule = f"score >= {VIRUS_THRESHOLD:g}"
    return SampleCalls(rule, ticks >= VIRUS_THRESHOLD * TICKS, q, composition, assured, fdr or DEFAULT_FDR)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), SCORE_DECIMALS)
