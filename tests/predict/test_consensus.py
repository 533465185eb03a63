from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqassay.models.thresholds import CallThresholds
from seqassay.predict.consensus import (
    STATUSES,
    ChunkConsensus,
    SequenceCalls,
    chunk_consensus,
    count_plain_bases,
    mean_chunk_score,
    sequence_calls,
    sequence_evidence,
)
from seqassay.sequences.ragged import Ragged


def scores(*virus: float) -> np.ndarray:
    p = np.array(virus, np.float32).reshape(-1)
    return np.stack([np.float32(1) - p, p], axis=1)


def calls_of(
    bases: Ragged, chunk_sequence: np.ndarray, frame_chunk: np.ndarray, consensus: ChunkConsensus
) -> SequenceCalls:
    """Calls by VirNucPro's score."""
    score = mean_chunk_score(chunk_sequence, consensus, len(bases))
    return sequence_calls(bases, chunk_sequence, frame_chunk, score, CallThresholds.at(0.5))


@pytest.mark.parametrize(
    ("virus", "is_virus"),
    [
        ([0.9], True),
        ([0.1], False),
        ([0.5], True),  # a tie is virus by consensus
        ([0.9, 0.2], True),
        ([0.8, 0.1], False),  # 0.9 for others beats 0.8
        ([0.75, 0.25], True),
    ],
)
def test_one_chunk(virus: list[float], is_virus: bool) -> None:
    consensus = chunk_consensus(np.zeros(len(virus), np.int64), scores(*virus))
    assert consensus.is_virus.tolist() == [is_virus]
    assert consensus.max_virus.dtype == consensus.max_others.dtype == np.float32


def test_chunks_without_a_frame_have_no_row() -> None:
    consensus = chunk_consensus(np.array([1, 1, 4]), scores(0.2, 0.6, 0.9))
    assert consensus.chunk.tolist() == [1, 4]
    assert consensus.max_virus.tolist() == np.array([0.6, 0.9], np.float32).tolist()


def test_no_frames_at_all() -> None:
    consensus = chunk_consensus(np.zeros(0, np.int64), np.zeros((0, 2), np.float32))
    calls = calls_of(Ragged.from_bytes([b"TAATAATAA"]), np.zeros(1, np.int64), np.zeros(0, np.int64), consensus)
    assert len(consensus.chunk) == 0
    assert STATUSES[calls.status[0]] == "no_frame"
    assert np.isnan(calls.score[0])
    assert not calls.is_virus[0]


@pytest.mark.parametrize(
    ("bases", "status"),
    [
        (b"A", "too_short"),
        (b"AC", "too_short"),
        (b"N", "too_short"),
        (b"NNN", "no_bases"),
        (b"RYN", "no_bases"),
        (b"TAA", "no_frame"),
        (b"NNA", "no_frame"),
    ],
)
def test_status_of_a_sequence_without_a_frame(bases: bytes, status: str) -> None:
    no_frame = np.zeros(0, np.int64)
    consensus = chunk_consensus(no_frame, np.zeros((0, 2), np.float32))
    calls = calls_of(Ragged.from_bytes([bases]), np.zeros(1, np.int64), no_frame, consensus)
    assert STATUSES[calls.status[0]] == status


def test_a_sequence_is_the_mean_of_its_classified_chunks() -> None:
    # sequence 0: chunks 0 and 1 (no frame in 1) and 2; sequence 1: chunk 3
    chunk_sequence, frame_chunk = np.array([0, 0, 0, 1]), np.array([0, 0, 2, 3])
    consensus = chunk_consensus(frame_chunk, scores(0.9, 0.4, 0.3, 0.25))
    calls = calls_of(Ragged.from_bytes([b"ACGT", b"ACGT"]), chunk_sequence, frame_chunk, consensus)
    assert calls.n_chunks.tolist() == [3, 1]
    assert calls.n_frames.tolist() == [3, 1]
    # chunk 0: 0.9 / (0.9 + 0.6) = 0.6; chunk 2: 0.3
    assert calls.score.tolist() == pytest.approx([0.45, 0.25])
    assert calls.is_virus.tolist() == [False, False]


def test_the_call_follows_the_printed_score() -> None:
    chunk = np.array([0])
    almost = np.array([[0.5000002, 0.4999998]], np.float32)
    calls = calls_of(Ragged.from_bytes([b"ACGT"]), np.array([0]), chunk, chunk_consensus(chunk, almost))
    assert f"{calls.score[0]:.6f}" == "0.500000"
    assert calls.is_virus[0]


@given(st.lists(st.lists(st.floats(0, 1, width=32), max_size=6), min_size=1, max_size=8))
def test_equals_the_rule_written_out(frames_of_chunks: list[list[float]]) -> None:
    frame_chunk = np.array([i for i, frames in enumerate(frames_of_chunks) for _ in frames], np.int64)
    table = scores(*(p for frames in frames_of_chunks for p in frames))
    consensus = chunk_consensus(frame_chunk, table)
    n = len(frames_of_chunks)
    bases = Ragged.from_bytes([b"ACGT"] * n)
    calls = calls_of(bases, np.arange(n), frame_chunk, consensus)
    row = 0
    for i in range(n):
        mine = table[frame_chunk == i]
        assert calls.n_frames[i] == len(mine)
        if not len(mine):
            assert STATUSES[calls.status[i]] == "no_frame"
            continue
        largest = mine.max(axis=0)
        assert consensus.chunk[row] == i
        assert bool(consensus.is_virus[row]) == bool(largest[1] >= largest[0])
        expected = float(largest[1]) / (float(largest[0]) + float(largest[1]))
        assert calls.score[i] == pytest.approx(expected, abs=1e-6)
        row += 1
    assert row == len(consensus.chunk)


def test_plain_bases_are_counted() -> None:
    assert count_plain_bases(Ragged.from_bytes([b"ACGT", b"NNRY", b"", b"NAN"])).tolist() == [4, 0, 0, 1]


def test_evidence_is_the_mean_over_all_frames_of_a_sequence() -> None:
    # sequence 0: chunks 0 and 1; sequence 1: chunk 2, which has no stop-free frame; sequence 2: no chunk
    evidence = sequence_evidence(
        np.array([600, 300, 2]),
        np.array([0, 0, 1]),
        np.array([0, 0, 1]),
        np.array([[0.5, 0.5], [0.25, 0.75], [0.2, 0.8]], np.float32),
        np.array([0, 1, 2, 2]),
        np.array([1.0, 3.0, -1.0, -2.0]),
    )
    assert evidence.joint[0] == pytest.approx((0 + np.log(3) + np.log(4)) / 3)
    assert np.isnan(evidence.joint[1:]).all()
    assert evidence.best[0] == pytest.approx(
        (np.log(3) + np.log(4)) / 2
    )  # of chunk 0 the better frame, of chunk 1 its one
    assert np.isnan(evidence.best[1:]).all()
    assert evidence.nucleotide[:2].tolist() == [2.0, -1.5]
    assert np.isnan(evidence.nucleotide[2])


def test_a_score_for_letters_that_are_no_bases_is_left_out() -> None:
    bases, no_frame = Ragged.from_bytes([b"NNNNNN", b"TAATAA"]), np.zeros(0, np.int64)
    calls = sequence_calls(bases, np.array([0, 1]), no_frame, np.array([0.9, 0.9]), CallThresholds.at(0.5))
    assert [STATUSES[s] for s in calls.status] == ["no_bases", "no_frame"]
    assert np.isnan(calls.score[0])
    assert calls.is_virus.tolist() == [False, True]


def test_calls_follow_the_thresholds_of_length_and_frame() -> None:
    thresholds = CallThresholds((6.0, 12.0), (0.8, 0.5), (0.9, 0.7), 0.05)
    bases = Ragged.from_bytes([b"ACGACG", b"ACGACG", b"ACGACGACGACG", b"ACGACGACGACG"])
    score = np.array([0.8, 0.8, 0.6, 0.6])
    framed = np.array([0, 2])  # the second and fourth have no stop-free frame
    calls = sequence_calls(bases, np.arange(4), framed, score, thresholds)
    assert calls.is_virus.tolist() == [True, False, True, False]
