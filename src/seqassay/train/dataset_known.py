"""Records of a split that the splits before it know already: left out of selection, calibration and every figure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seqassay.train.dataset import LabelledRecords
from seqassay.train.dataset_sketch import K, overlap, sketch

LIMIT = 0.10  # share of a record's sampled k-mers that an earlier split may hold


@dataclass(frozen=True, slots=True)
class Unknown:
    """What is left.

    Attributes:
        records: those at or below the limit, in order.
        kept: their numbers in the split.
        facts: for the record: how many were left out, by earlier split and by group.
    """

    records: LabelledRecords
    kept: npt.NDArray[np.int64]
    facts: dict[str, Any]


def unknown_records(reported: LabelledRecords, earlier: dict[str, LabelledRecords]) -> Unknown:
    """The records that share at most `LIMIT` of their sampled 31-mers with each of the earlier splits."""
    sketches = sketch(_bases(reported))
    known = np.zeros(len(reported), np.bool_)
    by_split = {}
    for name, records in earlier.items():
        above = overlap(("reported", sketches), (name, sketch(_bases(records)))).above(LIMIT)
        known[above] = True
        by_split[name] = len(above)
    kept = np.flatnonzero(~known)
    groups, counts = np.unique(reported.groups[known], return_counts=True)
    facts = {
        "k": K, "limit": LIMIT, "n_left_out": int(known.sum()), "of_records": len(reported),
        "above_the_limit_by_earlier_split": by_split,
        "left_out_by_group": dict(zip(groups.tolist(), counts.tolist(), strict=True)),
    }  # fmt: skip
    return Unknown(reported.take(kept), kept, facts)


def _bases(records: LabelledRecords) -> Iterable[npt.NDArray[np.uint8]]:
    return (bases.astype(np.uint8) for bases in records.bases)
