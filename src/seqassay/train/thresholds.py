"""Fit a bundle's default thresholds: made-up sequences may be called virus rarely, viral ones are called most often.

At each of some lengths made-up sequences of every kind (`made_up_probes`, but those that are real ones read backwards)
are scored, made of the records that were trained and calibrated with. Of all pairs of thresholds, with a stop-free
frame and without one, under which at most 5% of every kind are called, the one with the best recall on the validation
fragments is taken. The limit has a margin for sampling: the upper end of the kind's 95% interval stays below it where
that costs little recall; at 150 bases, where hardly anything tells made-up sequences apart, it costs seven points, and
the margin is one standard error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from seqassay.evaluate.uncertainty import share_interval
from seqassay.models.calibration import Calibration, Evidence
from seqassay.models.thresholds import CallThresholds
from seqassay.predict.scoring import SequenceScorer
from seqassay.train.calibrate import ScoredFragments, evidence_of_bases, joined_evidence
from seqassay.train.dataset import LabelledRecords, evaluation_chunks
from seqassay.train.made_up_probes import REVERSED, made_up_sequences

THRESHOLD_LENGTHS = (150, 300, 500)  # bases; longer ones are called less often still
MADE_UP_LIMIT = 0.05
MOST_FOR_MARGIN = 0.03  # recall that the larger margin for sampling may cost
N_OF_A_KIND = 700  # of every source
_GRID = np.arange(50, 101) / 100

FloatArray = npt.NDArray[np.float64]
MadeUp = dict[str, Evidence]  # by kind


def made_up_evidence(
    scorer: SequenceScorer,
    sources: Sequence[LabelledRecords],
    length: int,
    *,
    n_of_a_kind: int,
    seed: int = 1,
) -> MadeUp:
    """Evidence of made-up sequences of one length, by kind.

    Args:
        sources: records whose fragments are shuffled, such as each split's.
        n_of_a_kind: at most, for every source, and no more than it has records that are long enough.
    """
    found: dict[str, list[Evidence]] = {}
    for number, records in enumerate(sources):
        if not (records.bases.lengths >= length).any():
            continue
        fragments = evaluation_chunks(records, length, seed=seed + number, max_per_record=1)
        n = min(n_of_a_kind, len(fragments))
        for kind, _, bases in made_up_sequences(fragments, length, n=n, seed=seed + number):
            if not kind.startswith(REVERSED):
                found.setdefault(kind, []).append(evidence_of_bases(scorer, bases))
    return {kind: joined_evidence(parts) for kind, parts in found.items()}


def thresholds_of(
    scorer: SequenceScorer,
    sources: Sequence[LabelledRecords],
    fragments: Sequence[ScoredFragments],
    calibration: Calibration,
) -> CallThresholds | None:
    """Thresholds at those of `THRESHOLD_LENGTHS` that were calibrated at; None where none was."""
    parts = [part for part in fragments if part.length in THRESHOLD_LENGTHS]
    if not parts:
        return None
    made_up = [made_up_evidence(scorer, sources, part.length, n_of_a_kind=N_OF_A_KIND) for part in parts]
    return fit_thresholds(made_up, parts, calibration)


def fit_thresholds(
    made_up: Sequence[MadeUp], fragments: Sequence[ScoredFragments], calibration: Calibration
) -> CallThresholds:
    """Thresholds by length, each at least 0.5.

    Args:
        made_up: of every length, one of ``fragments``' each.
        fragments: validation fragments of these lengths.
    """
    pairs = [_best_pair(kinds, part, calibration) for kinds, part in zip(made_up, fragments, strict=True)]
    framed, unframed = zip(*pairs, strict=True)
    return CallThresholds(tuple(float(part.length) for part in fragments), framed, unframed, MADE_UP_LIMIT)


def _best_pair(kinds: MadeUp, part: ScoredFragments, calibration: Calibration) -> tuple[float, float]:
    """Thresholds with and without a stop-free frame for one length; of equally good ones the lower."""
    called = [_called(calibration, evidence) for evidence in kinds.values()]
    shares = [(framed.mean(axis=1)[:, None] + unframed.mean(axis=1), framed.shape[1]) for framed, unframed in called]
    within_TT = np.logical_and.reduce([share_TT <= MADE_UP_LIMIT - _standard_error(n) for share_TT, n in shares])
    surely_TT = np.logical_and.reduce([_upper(share_TT, n) <= MADE_UP_LIMIT for share_TT, n in shares])
    framed, unframed = _called(calibration, part.evidence)
    viral = part.labels == 1
    recall_TT = framed[:, viral].mean(axis=1)[:, None] + unframed[:, viral].mean(axis=1)
    best, surest = (int(np.where(allowed, recall_TT, -1.0).argmax()) for allowed in (within_TT, surely_TT))
    if surely_TT.any() and recall_TT.flat[best] - recall_TT.flat[surest] <= MOST_FOR_MARGIN:
        best = surest
    at_framed, at_unframed = np.unravel_index(best, recall_TT.shape)
    return float(_GRID[at_framed]), float(_GRID[at_unframed])


def _called(calibration: Calibration, evidence: Evidence) -> tuple[FloatArray, FloatArray]:
    """Which sequences with a stop-free frame are called at every threshold of the grid, and which without one."""
    probability = calibration.probability(evidence)
    called_TN = probability >= _GRID[:, None]  # NaN is not called
    has_frame = ~np.isnan(evidence.joint)
    return (called_TN & has_frame).astype(np.float64), (called_TN & ~has_frame).astype(np.float64)


def _standard_error(n: int) -> float:
    """Of the share of ``n`` made-up sequences that are called, at the limit."""
    return math.sqrt(MADE_UP_LIMIT * (1 - MADE_UP_LIMIT) / n)


def _upper(share_TT: FloatArray, n: int) -> FloatArray:
    """Upper end of the 95% interval of every share of ``n`` sequences."""
    upper = np.array([share_interval(k, n)[1] for k in range(n + 1)])
    found: FloatArray = upper[np.rint(share_TT * n).astype(np.int64)]
    return found
