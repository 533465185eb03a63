"""From the scores of frames to a score and a call for every chunk and every input sequence.

Chunks follow VirNucPro's rule: a virus when the largest virus score of its frames is at least their largest score of
"others". A sequence's score depends on the bundle. Without a calibration it is VirNucPro's as well, the mean over its
classified chunks of ``max1 / (max0 + max1)``. With one it is a probability, made of the log-odds of
its frames (`sequence_evidence`): in a mean a frame counts by how sure it is, in a largest score one that is no gene has
as much to say as the one that is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seqassay.models.calibration import Evidence, log_odds_of
from seqassay.models.thresholds import CallThresholds
from seqassay.sequences.ragged import Ragged

VIRUS_THRESHOLD = 0.5  # of frames, chunks and tracks, and of sequences where the bundle names no other
SCORE_DECIMALS = 6

CLASSIFIED, NO_FRAME, TOO_SHORT, NO_BASES = range(4)
STATUSES = ("classified", "no_frame", "too_short", "no_bases")
CODON_BASES = 3

Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ChunkConsensus:
    """The chunks that have a stop-free frame, in order; all arrays of one length.

    Attributes:
        chunk: index of the chunk within the shard.
        max_others, max_virus: largest scores over its frames, in their own number format.
        is_virus: ``max_virus >= max_others``.
    """

    chunk: Int64Array
    max_others: npt.NDArray[np.floating[Any]]
    max_virus: npt.NDArray[np.floating[Any]]
    is_virus: npt.NDArray[np.bool_]

    @property
    def score(self) -> npt.NDArray[np.float64]:
        """VirNucPro's score of every chunk: max1 / (max0 + max1)."""
        virus = self.max_virus.astype(np.float64)
        score: npt.NDArray[np.float64] = virus / (virus + self.max_others)
        return score


@dataclass(frozen=True, slots=True)
class SequenceCalls:
    """One entry for every input sequence of a shard, in input order.

    Attributes:
        n_chunks, n_frames: chunks cut from it, and their frames without a stop.
        status: index into ``STATUSES``. A sequence without a stop-free frame keeps its status when the bundle's
            nucleotide head gives it a score.
        score: probability of virus, rounded as it is printed (the call follows the printed figure); NaN without one.
        is_virus: False without a score.
    """

    n_chunks: Int64Array
    n_frames: Int64Array
    status: npt.NDArray[np.uint8]
    score: npt.NDArray[np.float64]
    is_virus: npt.NDArray[np.bool_]


def chunk_consensus(frame_chunk: Int64Array, scores_F2: npt.NDArray[np.floating[Any]]) -> ChunkConsensus:
    """Largest score of each class over a chunk's frames.

    Args:
        frame_chunk: chunk of every frame, ascending.
        scores_F2: P(others), P(virus) of every frame.
    """
    first = np.flatnonzero(np.diff(frame_chunk, prepend=-1))
    if not len(first):
        return ChunkConsensus(frame_chunk[:0], scores_F2[:0, 0], scores_F2[:0, 1], np.zeros(0, np.bool_))
    largest_C2 = np.maximum.reduceat(scores_F2, first, axis=0)
    others, virus = largest_C2[:, 0], largest_C2[:, 1]
    return ChunkConsensus(frame_chunk[first], others, virus, virus >= others)


def sequence_evidence(
    lengths: Int64Array,
    chunk_sequence: Int64Array,
    frame_chunk: Int64Array,
    scores_F2: npt.NDArray[np.float32],
    every_frame_chunk: Int64Array,
    nucleotide_log_odds: npt.NDArray[np.float64],
) -> Evidence:
    """Mean log-odds of every sequence's frames, and of its chunks' best ones.

    Args:
        lengths: of the sequences, in bases.
        chunk_sequence: sequence of every chunk.
        frame_chunk, scores_F2: chunk (ascending) and scores of every stop-free frame.
        every_frame_chunk, nucleotide_log_odds: chunk of each of all frames, and what the nucleotide head says of it.
    """

    def mean(chunk: Int64Array, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        sequence = chunk_sequence[chunk]
        n = np.bincount(sequence, minlength=len(lengths))
        total = np.bincount(sequence, weights=values, minlength=len(lengths))
        return _ratio(total, n)

    log_odds = log_odds_of(scores_F2)
    first = np.flatnonzero(np.diff(frame_chunk, prepend=-1))
    best = np.maximum.reduceat(log_odds, first) if len(first) else log_odds
    return Evidence(
        lengths,
        joint=mean(frame_chunk, log_odds),
        nucleotide=mean(every_frame_chunk, nucleotide_log_odds),
        best=mean(frame_chunk[first], best),
    )


def sequence_calls(
    bases: Ragged,
    chunk_sequence: Int64Array,
    frame_chunk: Int64Array,
    score: npt.NDArray[np.float64],
    thresholds: CallThresholds,
) -> SequenceCalls:
    """Status and call of every sequence of a shard.

    Args:
        bases: the sequences (``uint8``, upper case).
        chunk_sequence: sequence of every chunk.
        frame_chunk: chunk of every stop-free frame.
        score: probability of virus of every sequence, NaN without one.
        thresholds: from which a score is called virus.
    """
    n_sequences = len(bases)
    n_chunks = np.bincount(chunk_sequence, minlength=n_sequences)
    n_frames = np.bincount(chunk_sequence[frame_chunk], minlength=n_sequences)
    status = np.full(n_sequences, NO_FRAME, np.uint8)
    has_bases = count_plain_bases(bases) > 0
    status[~has_bases] = NO_BASES
    status[bases.lengths < CODON_BASES] = TOO_SHORT
    status[n_frames > 0] = CLASSIFIED
    score = np.where(has_bases, np.round(score, SCORE_DECIMALS), np.nan)
    is_virus = score >= thresholds.of(bases.lengths, n_frames > 0)
    return SequenceCalls(n_chunks, n_frames, status, score, is_virus)


def mean_chunk_score(chunk_sequence: Int64Array, chunks: ChunkConsensus, n_sequences: int) -> npt.NDArray[np.float64]:
    """VirNucPro's score of every sequence: the mean of its classified chunks' scores, NaN without one.

    Args:
        chunk_sequence: sequence of every chunk.
        chunks: what ``chunk_consensus`` made of the frames.
    """
    scored_sequence = chunk_sequence[chunks.chunk]
    n_scored = np.bincount(scored_sequence, minlength=n_sequences)
    summed = np.bincount(scored_sequence, weights=chunks.score, minlength=n_sequences)
    return _ratio(summed, n_scored)


def _ratio(total: npt.NDArray[Any], n: Int64Array) -> npt.NDArray[np.float64]:
    """``total / n``, NaN where ``n`` is 0."""
    mean = np.full(len(n), np.nan)
    np.divide(total, n, out=mean, where=n > 0)
    return mean


def count_plain_bases(bases: Ragged) -> Int64Array:
    """How many A, C, G and T each sequence has."""
    is_plain = np.zeros(256, np.bool_)
    is_plain[list(b"ACGT")] = True
    running = np.zeros(len(bases.values) + 1, np.int32)  # half the memory of int64; no chromosome has 2³¹ bases
    np.cumsum(is_plain[bases.values], out=running[1:])
    return (running[bases.offsets[1:]] - running[bases.offsets[:-1]]).astype(np.int64)
