"""Cut records into the chunks of a dataset, leave out those that are no good for it, and even out what remains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from seqassay.errors import UsageError
from seqassay.sequences.chunking import Chunks, chunk
from seqassay.sequences.frames import FRAME_NAMES, six_frames
from seqassay.sequences.ragged import Ragged
from seqassay.train.dataset_genbank import AnnotatedProteins
from seqassay.train.dataset_sources import SourceRecord

FrameRule = Literal["annotated", "stop-free", "any"]
IndexArray = npt.NDArray[np.int64]

_BLOCK_BASES = 4_000_000  # cut and translated at once
_IS_PLAIN = np.zeros(256, np.bool_)
_IS_PLAIN[list(b"ACGT")] = True


@dataclass(frozen=True, slots=True)
class ChunkRule:
    """How records become the dataset's chunks.

    Attributes:
        chunk_length: in bases; None keeps whole records, and then nothing else here applies.
        frames: ``annotated``: a chunk needs a stop-free frame whose protein is part of an annotated protein of its
            record, and lists such frames; ``stop-free``: it needs a stop-free frame; ``any``: it needs nothing. None:
            ``annotated`` for GenBank records, ``stop-free`` for others.
        rejects_ambiguous: leave out chunks with a letter other than A, C, G and T.
        genetic_code: NCBI table number, of the frames.
    """

    chunk_length: int | None
    frames: FrameRule | None = None
    rejects_ambiguous: bool = True
    genetic_code: int = 1

    def check(self) -> None:
        """Raise a UsageError for settings that cannot be."""
        if self.frames is not None and self.frames not in get_args(FrameRule):
            raise UsageError(f"unknown frame rule {self.frames!r}", hint=f"known: {', '.join(get_args(FrameRule))}")
        if self.chunk_length is None and self.frames not in (None, "any"):
            raise UsageError(f"the frame rule {self.frames!r} is about chunks", hint="give a --chunk-length as well")
        if self.chunk_length is not None and self.chunk_length < 3:
            raise UsageError(f"the chunk length is {self.chunk_length}", hint="a codon needs 3 bases")

    def rule_for(self, record: SourceRecord) -> FrameRule:
        """The frame rule that holds for a record's chunks."""
        if self.chunk_length is None:
            return "any"
        return self.frames or ("stop-free" if record.proteins is None else "annotated")


@dataclass(frozen=True, slots=True)
class Items:
    """Chunks, or whole records, that go into the dataset; ordered by record, then start.

    Attributes:
        record: ``int64[n]``, index of the record.
        number: ``int64[n]``, of the chunk within its record, from 1.
        start, length: ``int64[n]``, in bases of the record.
        frames: ``uint8[n]``, bit ``i`` for `FRAME_NAMES` ``[i]``, where the annotation chose frames; else 0.
    """

    record: IndexArray
    number: IndexArray
    start: IndexArray
    length: IndexArray
    frames: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.record)

    def take(self, which: npt.NDArray[np.bool_]) -> Items:
        """Those that are True in ``which``."""
        return Items(*(getattr(self, name)[which] for name in ("record", "number", "start", "length", "frames")))


@dataclass(slots=True)
class Tally:
    """Chunks and bases, by name."""

    counts: dict[str, dict[str, int]] = field(default_factory=dict)

    def add(self, name: str, lengths: IndexArray) -> None:
        """Count chunks of these lengths under a name."""
        if len(lengths):
            entry = self.counts.setdefault(name, {"chunks": 0, "bases": 0})
            entry["chunks"] += len(lengths)
            entry["bases"] += int(lengths.sum())


def frame_names(bits: int) -> str:
    """``F1,R2`` for the bits of `Items.frames`."""
    return ",".join(name for i, name in enumerate(FRAME_NAMES) if bits >> i & 1)


def cut_items(records: Sequence[SourceRecord], rule: ChunkRule) -> tuple[Items, Tally, Tally]:
    """Cut records into chunks and keep the good ones.

    Returns:
        The items kept; chunks cut, under ``all``; and those left out, by reason. Cut is kept plus left out.
    """
    lengths = np.fromiter(map(len, records), np.int64, len(records))
    cut, left_out = Tally(), Tally()
    if rule.chunk_length is None:
        everything = np.arange(len(records), dtype=np.int64)
        zeros = np.zeros(len(records), np.int64)
        return Items(everything, zeros + 1, zeros, lengths, zeros.astype(np.uint8)), cut, left_out
    parts = []
    for first, last in _blocks(lengths):
        block = records[first:last]
        bases = Ragged.from_lengths(np.concatenate([record.bases for record in block]), lengths[first:last])
        chunks = chunk(bases.lengths, rule.chunk_length)
        keep, frames = _good_chunks(block, bases, chunks, rule, left_out)
        cut.add("all", chunks.length)
        items = Items(chunks.sequence + first, chunks.number, chunks.start, chunks.length, frames)
        parts.append(items.take(keep))
    joined = (np.concatenate([getattr(part, name) for part in parts]) for name in Items.__dataclass_fields__)
    return Items(*joined), cut, left_out


def _good_chunks(
    records: Sequence[SourceRecord], bases: Ragged, chunks: Chunks, rule: ChunkRule, left_out: Tally
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.uint8]]:
    """Which chunks stay, and the frames that the annotation chose; the others are counted by their first fault."""
    keep = np.ones(len(chunks), np.bool_)

    def require(condition: npt.NDArray[np.bool_], reason: str) -> None:
        left_out.add(reason, chunks.length[keep & ~condition])
        keep[:] &= condition

    start = bases.offsets[:-1][chunks.sequence] + chunks.start
    if rule.rejects_ambiguous:
        n_odd_before = np.concatenate([[0], np.cumsum(~_IS_PLAIN[bases.values])])
        require(n_odd_before[start + chunks.length] == n_odd_before[start], "ambiguous_bases")

    rules = np.array([rule.rule_for(record) for record in records])[chunks.sequence]
    chosen = np.zeros(len(chunks), np.uint8)
    if not (rules != "any").any():
        return keep, chosen
    frames = six_frames(bases, chunks, genetic_code=rule.genetic_code)
    has_frame = np.zeros(len(chunks), np.bool_)
    has_frame[frames.chunk] = True
    require(has_frame | (rules == "any"), "no_stop_free_frame")

    sequence = chunks.sequence[frames.chunk]
    for of in np.unique(chunks.sequence[rules == "annotated"]).tolist():
        which = np.flatnonzero(sequence == of) if len(records) > 1 else np.arange(len(frames))
        found = which[AnnotatedProteins(records[of].proteins or ()).contain(frames.protein.take(which))]
        np.bitwise_or.at(chosen, frames.chunk[found], np.left_shift(1, frames.frame[found]).astype(np.uint8))
    require((chosen > 0) | (rules != "annotated"), "no_annotated_frame")
    return keep, chosen


def _blocks(lengths: IndexArray) -> Iterator[tuple[int, int]]:
    """First and last + 1 of consecutive records of about `_BLOCK_BASES` together."""
    first = total = 0
    for i, length in enumerate(lengths.tolist()):
        if i > first and total + length > _BLOCK_BASES:
            yield first, i
            first, total = i, 0
        total += length
    if len(lengths):
        yield first, len(lengths)


def balanced(items: Items, records: Sequence[SourceRecord], *, by_bases: bool, seed: int) -> npt.NDArray[np.bool_]:
    """Draw as much of each label, and of the others evenly over their groups; which items stay, ``bool[n]``.

    The label with more is cut down to the one with less. Every group of the others gives the same number of chunks, or
    all it has where that is less: as even as the groups allow without throwing away more. Viral chunks are drawn
    without regard to group.

    Args:
        items: of one split.
        records: what the items' indices count.
        by_bases: balance bases (whole records, whose lengths differ widely) and not the number of chunks.
        seed: of the draws; the same items and seed give the same choice.
    """
    weight = items.length if by_bases else np.ones(len(items), np.int64)
    label = np.array([records[i].label for i in items.record.tolist()])
    group = np.array([records[i].group for i in items.record.tolist()])
    total = min(int(weight[label == name].sum()) for name in ("viral", "other"))
    others = sorted(set(group[label == "other"].tolist()))
    sizes = [int(weight[(label == "other") & (group == name)].sum()) for name in others]
    keep = _draw(np.flatnonzero(label == "viral"), weight, total, np.random.default_rng([seed, 0]))
    for i, (name, quota) in enumerate(zip(others, even_quotas(sizes, total), strict=True), 1):
        of_group = np.flatnonzero((label == "other") & (group == name))
        keep |= _draw(of_group, weight, quota, np.random.default_rng([seed, i]))
    return keep


def even_quotas(sizes: Sequence[int], total: int) -> list[int]:
    """Parts of ``total``, as even as they can be where part ``i`` is at most ``sizes[i]``."""
    quotas, left = [0] * len(sizes), total
    for n_done, i in enumerate(sorted(range(len(sizes)), key=lambda i: sizes[i])):
        quotas[i] = min(sizes[i], left // (len(sizes) - n_done))
        left -= quotas[i]
    return quotas


def _draw(which: IndexArray, weight: IndexArray, quota: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Items drawn at random until their weights reach the quota: the one that goes beyond it is the last."""
    order = rng.permutation(which)
    before = np.cumsum(weight[order]) - weight[order]
    keep = np.zeros(len(weight), np.bool_)
    keep[order[before < quota]] = True
    return keep
