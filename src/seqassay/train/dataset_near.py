"""Near-duplicates between splits: report them, and refuse or drop those above a limit."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from seqassay.errors import InputError
from seqassay.train.dataset_sketch import K, Overlap, Sketches, overlap, sharing_records, sketch
from seqassay.train.dataset_sources import SPLITS, SourceRecord

_NAMED = 10  # of the worst records, in the manifest and in the message


@dataclass(slots=True)
class NearDuplicates:
    """What came of the comparison.

    Attributes:
        kept, dropped: the records, each in their order.
        facts: for the manifest: settings, distributions before and after, the worst records.
    """

    kept: list[SourceRecord]
    dropped: list[SourceRecord] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class _Split:
    records: list[SourceRecord]
    sketches: Sketches

    def without(self, indices: set[int]) -> _Split:
        kept = [i for i in range(len(self.records)) if i not in indices]
        new = np.full(len(self.records), -1, np.int64)
        new[kept] = np.arange(len(kept))
        stays = new[self.sketches.record] >= 0
        sketches = Sketches(self.sketches.hashes[stays], new[self.sketches.record[stays]], len(kept))
        return _Split([self.records[i] for i in kept], sketches)


def control_near_duplicates(
    records: Sequence[SourceRecord], *, max_shared: float, drops: bool, scale: int
) -> NearDuplicates:
    """Compare every valid and test record with the splits before it (valid with train, test with both).

    With ``drops``, records of the earlier split that hold any sampled k-mer of an offending record are dropped, first
    from valid (against test), then from train (against both), so that no record is above the limit in the end.

    Args:
        records: with their splits.
        max_shared: largest share of a record's sampled 31-mers that another split may hold.
        drops: drop, and do not refuse.
        scale: of this many k-mers one is sampled.

    Raises:
        InputError: records above the limit, and not ``drops``; names the worst.
    """
    splits = {}
    for name in SPLITS:
        of_split = [record for record in records if record.split == name]
        if of_split:
            splits[name] = _Split(of_split, sketch((record.bases for record in of_split), scale=scale))
    before = _overlaps(splits)
    facts: dict[str, Any] = {
        "k": K,
        "scale": scale,
        "max_shared": max_shared,
        "splits": [found.facts(max_shared) for found in before],
        "worst": _worst(before, splits, max_shared),
        "dropped": {},
    }
    if not any(len(found.above(max_shared)) for found in before):
        return NearDuplicates(list(records), facts=facts)
    if not drops:
        raise _refusal(before, splits, max_shared, scale)
    dropped = [*_drop("valid", ("test",), splits, max_shared), *_drop("train", ("valid", "test"), splits, max_shared)]
    for record in dropped:
        entry = facts["dropped"].setdefault(record.split, {"records": 0, "bases": 0})
        entry["records"] += 1
        entry["bases"] += len(record)
    facts["splits_after"] = [found.facts(max_shared) for found in _overlaps(splits)]
    gone = set(map(id, dropped))
    return NearDuplicates([record for record in records if id(record) not in gone], dropped, facts)


def _drop(name: str, others: Sequence[str], splits: dict[str, _Split], limit: float) -> list[SourceRecord]:
    """Take records out of one split until no record of the others shares more than the limit with it."""
    if name not in splits:
        return []
    sharing: set[int] = set()
    for other in others:
        if other in splits:
            found = overlap((other, splits[other].sketches), (name, splits[name].sketches))
            offenders = found.above(limit)
            if len(offenders):
                sharing.update(sharing_records(splits[name].sketches, splits[other].sketches, offenders).tolist())
    dropped = [splits[name].records[i] for i in sorted(sharing)]
    splits[name] = splits[name].without(sharing)
    return dropped


def _overlaps(splits: dict[str, _Split]) -> list[Overlap]:
    """Later splits within earlier ones."""
    return [
        overlap((later, splits[later].sketches), (earlier, splits[earlier].sketches))
        for earlier, later in itertools.combinations([name for name in SPLITS if name in splits], 2)
    ]


def _worst(found: Sequence[Overlap], splits: dict[str, _Split], limit: float) -> list[dict[str, Any]]:
    rows = [
        {
            "id": splits[one.of].records[i].id,
            "split": one.of,
            "within": one.within,
            "share": round(float(one.share[i]), 4),
            "sampled_kmers": int(splits[one.of].sketches.counts[i]),
        }
        for one in found
        for i in one.above(limit)[:_NAMED].tolist()
    ]
    return sorted(rows, key=lambda row: -float(str(row["share"])))[:_NAMED]


def _refusal(found: Sequence[Overlap], splits: dict[str, _Split], limit: float, scale: int) -> InputError:
    counts = [
        f"{len(one.above(limit)):,} of {len(one.share):,} {one.of} records share more than {limit:.0%} of their "
        f"sampled {K}-mers with {one.within}"
        for one in found
        if len(one.above(limit))
    ]
    names = [
        f"  {row['id']} ({row['split']}): {row['share']:.0%} of {row['sampled_kmers']} in {row['within']}"
        for row in _worst(found, splits, limit)
    ]
    return InputError(
        "\n".join([*counts, "the worst:", *names]),
        hint="drop the training records that they share with (--drop-near-duplicates), split by taxon or family, or "
        "allow more (--max-shared)" + ("" if scale == 1 else "; --sketch-scale 1 compares all k-mers"),
    )
