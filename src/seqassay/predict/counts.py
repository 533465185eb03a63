"""What a shard or a run holds, as counts that have to add up."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from seqassay.errors import SeqassayError
from seqassay.predict.consensus import STATUSES, ChunkConsensus, SequenceCalls


@dataclasses.dataclass(frozen=True)
class Counts:
    """Counts of one shard, or (added up) of a run.

    Attributes:
        sequences: input records; each has one row in the per-sequence table.
        classified, no_frame, too_short, no_bases: those by status.
        scored: those with a score; beside the classified ones, those without a frame that the nucleotide head scores.
        scored_bases: of the scored sequences.
        virus, others: the scored ones by call.
        chunks, chunks_classified, chunks_virus: chunks, those with a stop-free frame, those called virus.
        frames, frames_virus: frames without a stop, those scored as virus.
        frames_distinct_nucleotide, frames_distinct_protein: what was embedded; identical frames of a shard once. With
            a nucleotide head, its side has all six frames of every chunk.
    """

    sequences: int = 0
    classified: int = 0
    no_frame: int = 0
    too_short: int = 0
    no_bases: int = 0
    scored: int = 0
    scored_bases: int = 0
    virus: int = 0
    others: int = 0
    chunks: int = 0
    chunks_classified: int = 0
    chunks_virus: int = 0
    frames: int = 0
    frames_virus: int = 0
    frames_distinct_nucleotide: int = 0
    frames_distinct_protein: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(**{name: getattr(self, name) + getattr(other, name) for name in self.as_record()})

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Counts:
        """What ``as_record`` gave; an unknown or missing name is a TypeError or a KeyError."""
        return cls(**{field.name: int(record[field.name]) for field in dataclasses.fields(cls)})

    @property
    def mean_scored_length(self) -> float:
        """Of the sequences with a score, in bases; NaN without any."""
        return self.scored_bases / self.scored if self.scored else math.nan

    def as_record(self) -> dict[str, int]:
        """Name to count."""
        return dataclasses.asdict(self)

    def check(self) -> None:
        """Raise when the counts don't add up: a fault of the program, never of the input.

        Raises:
            SeqassayError: names the figures.
        """
        sums = (
            ("sequences by status", self.sequences, sum(getattr(self, status) for status in STATUSES)),
            ("scored sequences by call", self.scored, self.virus + self.others),
        )
        parts = (
            ("classified sequences among the scored", self.classified, self.scored),
            ("scored sequences among those with bases", self.scored, self.classified + self.no_frame),
            ("classified chunks among chunks", self.chunks_classified, self.chunks),
            ("viral chunks among the classified", self.chunks_virus, self.chunks_classified),
            ("viral frames among frames", self.frames_virus, self.frames),
            ("distinct protein frames among frames", self.frames_distinct_protein, self.frames),
        )
        for name, whole, added in sums:
            expect_equal(name, whole, added)
        for name, part, whole in parts:
            if part > whole:
                raise SeqassayError(f"the counts don't add up: {name}: {part} of {whole}", hint=REPORT_IT)


REPORT_IT = "this is a fault of seqassay, not of your input: please report it with run.json and run.log"


def expect_equal(name: str, counted: int, expected: int) -> None:
    """Raise when two counts of the same thing differ."""
    if counted != expected:
        raise SeqassayError(f"the counts don't add up: {name}: {counted} against {expected}", hint=REPORT_IT)


def count_shard(
    calls: SequenceCalls,
    lengths: npt.NDArray[np.int64],
    chunks: ChunkConsensus,
    frame_is_virus: np.ndarray[Any, np.dtype[np.bool_]],
    n_distinct_nucleotide: int,
    n_distinct_protein: int,
) -> Counts:
    """The counts of one shard, taken from its arrays and checked."""
    by_status = np.bincount(calls.status, minlength=len(STATUSES)).tolist()
    has_score = ~np.isnan(calls.score)
    n_scored, n_virus = int(has_score.sum()), int(calls.is_virus.sum())
    counts = Counts(
        sequences=len(calls.status),
        **dict(zip(STATUSES, by_status, strict=True)),
        scored=n_scored,
        scored_bases=int(lengths[has_score].sum()),
        virus=n_virus,
        others=n_scored - n_virus,
        chunks=int(calls.n_chunks.sum()),
        chunks_classified=len(chunks.chunk),
        chunks_virus=int(chunks.is_virus.sum()),
        frames=len(frame_is_virus),
        frames_virus=int(frame_is_virus.sum()),
        frames_distinct_nucleotide=n_distinct_nucleotide,
        frames_distinct_protein=n_distinct_protein,
    )
    counts.check()
    expect_equal("frames by sequence", int(calls.n_frames.sum()), counts.frames)
    return counts
