"""Calls of the sequences of one scored shard, by the rule that its bundle asks for."""

from __future__ import annotations

from seqassay.measure.progress import RunProgress
from seqassay.measure.stages import StageClock
from seqassay.models.bundle import Bundle
from seqassay.models.calibration import Calibration, Evidence
from seqassay.models.thresholds import CallThresholds
from seqassay.predict.consensus import (
    ChunkConsensus,
    SequenceCalls,
    chunk_consensus,
    mean_chunk_score,
    sequence_calls,
    sequence_evidence,
)
from seqassay.predict.prepare import Model, ScoredShard
from seqassay.sequences.ragged import Ragged
from seqassay.sequences.reading import Shard


def evidence_of(scored: ScoredShard) -> Evidence:
    """What the frames of every sequence of a shard say, before calibration."""
    return sequence_evidence(
        scored.shard.bases.lengths,
        scored.chunks.sequence,
        scored.frame_chunk,
        scored.scores_F2,
        scored.every_frame_chunk,
        scored.nucleotide_log_odds,
    )


def call_sequences(
    scored: ScoredShard, calibration: Calibration | None, thresholds: CallThresholds
) -> tuple[ChunkConsensus, SequenceCalls]:
    """Consensus of every classified chunk, and status, score and call of every sequence."""
    bases, chunk_sequence = scored.shard.bases, scored.chunks.sequence
    chunks = chunk_consensus(scored.frame_chunk, scored.scores_F2)
    if calibration is None:
        score = mean_chunk_score(chunk_sequence, chunks, len(bases))
    else:
        score = calibration.probability(evidence_of(scored))
    return chunks, sequence_calls(bases, chunk_sequence, scored.frame_chunk, score, thresholds)


class SequenceScorer:
    """A bundle that scores sequences in memory, by the same steps as `predict`."""

    def __init__(self, bundle: Bundle, *, device: str = "cpu", threads: int | None = None) -> None:
        """Load the bundle's models; errors as `Model`."""
        self.bundle = bundle
        self._model = Model(
            bundle, device=device, precision=None, token_budget=None, threads=threads, clock=StageClock()
        )

    def scored(self, bases: Ragged) -> ScoredShard:
        """Frame scores of sequences (``uint8`` upper-case letters), as of one shard."""
        names = [str(i) for i in range(len(bases))]
        shard = Shard(index=0, first_record=0, ids=names, headers=names, bases=bases, qualities=None)
        return self._model.score(self._model.prepare(shard), RunProgress())

    def calls(self, bases: Ragged) -> SequenceCalls:
        """Status, score and call of every sequence."""
        return call_sequences(self.scored(bases), self.bundle.calibration, self.bundle.thresholds)[1]


def score_sequences(bundle: Bundle, bases: Ragged, *, device: str = "cpu", threads: int | None = None) -> SequenceCalls:
    """Status, score and call of sequences in memory; see `SequenceScorer`."""
    return SequenceScorer(bundle, device=device, threads=threads).calls(bases)
