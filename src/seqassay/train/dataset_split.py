"""Which records are trained on, selected on and reported on: whole units only, and no genome in two splits.

A genome is a record, or the sequence it is a piece of (``NC_012589.1:2314986-2324985`` is of ``NC_012589.1``, unless a
``genome`` field says otherwise); and records of identical sequence, on either strand, are one genome.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from seqassay.errors import InputError, UsageError
from seqassay.train.dataset_sources import LEFT_OUT, SPLITS, SourceRecord

SplitBy = Literal["genome", "taxon", "family", "study"]
# What is kept together along with the unit itself: a family drawn whole keeps its taxa and genomes whole.
_FINER: dict[str, tuple[str, ...]] = {
    "genome": ("genome",),
    "taxon": ("taxon", "genome"),
    "family": ("family", "taxon", "genome"),
    "study": ("study", "genome"),
}


def assign_by_table(records: Sequence[SourceRecord], key: str, splits: Mapping[str, str]) -> list[SourceRecord]:
    """Give every record the split that a table has for its id, genome, taxon, family or study.

    Raises:
        InputError: a record whose key is not in the table, or whose own split is another one.
    """
    assigned = []
    for record in records:
        value = getattr(record, key)
        if value not in splits:
            what = f"its {key} {value!r} is not in the split table" if value else f"has no {key} to look up a split by"
            raise record.error(what, f"add a row for it; the split {LEFT_OUT} leaves it out, counted")
        if record.split not in ("", splits[value]):
            raise record.error(f"split is {record.split!r}, but the split table says {splits[value]!r}")
        assigned.append(replace(record, split=splits[value]))
    return assigned


def draw_splits(
    records: Sequence[SourceRecord], by: SplitBy, fractions: Mapping[str, float], seed: int
) -> list[SourceRecord]:
    """Give every record a split, whole units at a time, so that each label's bases come near the fractions.

    A unit is all records of one ``by`` value, joined with all that share a genome or an identical sequence with it (and
    for a family, a taxon). A record without a value is its own unit. Units larger than half the smallest split are
    placed first, largest first; the others in an order drawn from ``seed``; each goes where it leaves the split
    least full, measured by label.

    Args:
        records: of both labels; their own splits are ignored.
        by: what is never divided.
        fractions: of the bases, by split; they add up to 1.
        seed: of the order.

    Raises:
        UsageError: unknown rule, or fractions that cannot be.
    """
    if by not in get_args(SplitBy):
        raise UsageError(f"cannot split by {by!r}", hint=f"choose {', '.join(get_args(SplitBy))}")
    used = check_fractions(fractions)
    unit = _units(records, by)
    n_units = int(unit.max()) + 1
    labels = sorted({record.label for record in records})
    bases_UL = np.zeros((n_units, len(labels)))
    for record, of in zip(records, unit.tolist(), strict=True):
        bases_UL[of, labels.index(record.label)] += len(record)
    share_UL = bases_UL / bases_UL.sum(axis=0)  # of the label's bases, so that a rarer label counts as much
    target = np.array([fractions[split] for split in used])
    size = share_UL.sum(axis=1)
    order = np.random.default_rng(seed).permutation(n_units)
    is_large = size > 0.5 * target.min()
    large = order[is_large[order]]
    order = np.concatenate([large[np.argsort(-size[large], kind="stable")], order[~is_large[order]]])
    filled_SL = np.zeros((len(used), len(labels)))
    split_of_unit = np.zeros(n_units, np.int64)
    for of in order.tolist():
        weight = share_UL[of] / size[of]
        fullness = ((filled_SL + share_UL[of]) @ weight) / target
        chosen = int(np.argmin(fullness))
        filled_SL[chosen] += share_UL[of]
        split_of_unit[of] = chosen
    return [replace(record, split=used[split_of_unit[of]]) for record, of in zip(records, unit.tolist(), strict=True)]


def check_fractions(fractions: Mapping[str, float]) -> list[str]:
    """The splits with a part, in their order; a UsageError where the parts are negative or don't add up to 1."""
    unknown = sorted(set(fractions) - set(SPLITS))
    if unknown or min(fractions.values()) < 0 or abs(sum(fractions.values()) - 1) > 1e-6:
        shown = ", ".join(f"{name} {value:g}" for name, value in fractions.items())
        raise UsageError(f"the fractions of the splits are {shown}", hint="they must be 0 or more and add up to 1")
    return [split for split in SPLITS if fractions.get(split, 0) > 0]


def drop_shared_genomes(records: Sequence[SourceRecord]) -> tuple[list[SourceRecord], list[SourceRecord]]:
    """Leave every genome to the last of its splits: what is reported on stays, what it was trained on goes.

    Returns:
        The records kept, and those of train and valid whose genome is in a later split as well.
    """
    unit = _units(records, "genome").tolist()
    rank = [SPLITS.index(record.split) for record in records]
    last: dict[int, int] = {}
    for of, r in zip(unit, rank, strict=True):
        last[of] = max(r, last.get(of, r))
    is_kept = [r == last[of] for of, r in zip(unit, rank, strict=True)]
    return (
        [record for record, kept in zip(records, is_kept, strict=True) if kept],
        [record for record, kept in zip(records, is_kept, strict=True) if not kept],
    )


def check_genomes(records: Sequence[SourceRecord]) -> None:
    """No genome, no id and no sequence (on either strand) is in two splits.

    Raises:
        InputError: names the record and the one that it collides with.
    """
    keys: tuple[tuple[str, Callable[[SourceRecord], object]], ...] = (
        ("the id", lambda record: record.id),
        ("the genome", lambda record: record.genome),
        ("a sequence that is identical (on one strand or the other) to that of", sequence_digest),
    )
    seen: list[dict[object, SourceRecord]] = [{} for _ in keys]
    for record in records:
        for (what, key), known in zip(keys, seen, strict=True):
            other = known.setdefault(key(record), record)
            if other.split != record.split:
                name = other.genome if what == "the genome" else other.id
                n_affected = len(drop_shared_genomes(records)[1])
                raise record.error(
                    f"{what} {name} is in two splits: here {record.split}, "
                    f"and {other.split} in {other.file}, record {other.number} ({other.id})",
                    "put both into one split; or leave such genomes to the later split (--drop-shared-genomes, here "
                    f"{n_affected:,} records)",
                )


def check_labels(
    records: Sequence[SourceRecord], wanted: Iterable[str] = (), left_out: Mapping[str, Mapping[str, int]] | None = None
) -> None:
    """Every split that is there or wanted holds records of both labels.

    Args:
        records: with their splits.
        wanted: splits that must be there, too.
        left_out: what is not among the records any more, by reason, as the manifest has it; said in the error.

    Raises:
        InputError: names the split and what it lacks.
    """
    present = {record.split for record in records} | set(wanted)
    gone = "; ".join(
        f"{n:,} {unit} ({reason.replace('_', ' ')})"
        for reason, count in (left_out or {}).items()
        for unit, n in list(count.items())[:1]
    )
    because = f"; left out: {gone}" if gone else ""
    if not present:
        raise InputError(f"no record is in any split{because}")
    for split in (split for split in SPLITS if split in present):
        labels = {record.label for record in records if record.split == split}
        if not labels:
            raise InputError(
                f"the split {split} is empty{because}", hint="other fractions, another seed, or finer units"
            )
        if len(labels) < 2:
            raise InputError(
                f"the split {split} holds records of one label only ({labels.pop()}){because}",
                hint="a classifier needs viral records and others in every split",
            )


def shared_names(records: Sequence[SourceRecord]) -> dict[str, int]:
    """How many taxa, families and studies have records in more than one split: what a test set says nothing new of."""
    shared = {}
    for key in ("taxon", "family", "study"):
        splits: dict[str, set[str]] = {}
        for record in records:
            if name := getattr(record, key):
                splits.setdefault(name, set()).add(record.split)
        shared[key] = sum(len(of_name) > 1 for of_name in splits.values())
    return shared


def sequence_digest(record: SourceRecord) -> bytes:
    """A digest that a sequence shares with its reverse complement and with no other."""
    forward = record.bases.tobytes()
    other = forward.translate(_COMPLEMENT)[::-1]
    return hashlib.blake2b(min(forward, other), digest_size=16).digest()


_COMPLEMENT = bytes.maketrans(b"ACGTRYSWKMBDHVN", b"TGCAYRSWMKVHDBN")


def _units(records: Sequence[SourceRecord], by: str) -> npt.NDArray[np.int64]:
    """Number of every record's unit, 0, 1, … by first appearance, ``int64[n]``: connected components by shared keys."""
    parent = list(range(len(records)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[tuple[str, object], int] = {}
    for i, record in enumerate(records):
        keys: list[tuple[str, object]] = [(name, getattr(record, name)) for name in _FINER[by]]
        keys += [("id", record.id), ("sequence", sequence_digest(record))]
        for key in keys:
            if key[1]:
                a, b = root(first.setdefault(key, i)), root(i)
                parent[max(a, b)] = min(a, b)
    roots = np.array([root(i) for i in range(len(records))])
    # a root is the smallest index of its unit, so their ascending order is that of first appearance
    return np.unique(roots, return_inverse=True)[1].astype(np.int64)
