"""The files a user gets: their names, columns, and how a shard's part of each is written.

``prediction_results.txt`` and ``prediction_results_highestscore.csv`` (tab-separated, for all its name) have the
columns of VirNucPro's, scores printed as float32 in their shortest exact form. ``sequences.tsv`` has one row for
every input sequence. Ids hold no white space, so fields are never quoted.
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seqassay.durable import publish, stage, unstage
from seqassay.evaluate.fdr import TICKS, ticks_of
from seqassay.predict.calls import SampleCalls
from seqassay.predict.consensus import SCORE_DECIMALS, STATUSES, ChunkConsensus, SequenceCalls
from seqassay.predict.counts import Counts, expect_equal
from seqassay.predict.prepare import ScoredShard
from seqassay.predict.shards import ShardStore
from seqassay.sequences.chunking import Chunks
from seqassay.sequences.frames import FRAME_NAMES
from seqassay.sequences.reading import Shard

FRAMES_TABLE = "prediction_results.txt"
CHUNKS_TABLE = "prediction_results_highestscore.csv"
SEQUENCES_TABLE = "sequences.tsv"
VIRAL_FASTA = "viral.fasta.gz"
VIRAL_FASTQ = "viral.fastq.gz"
TICKS_PART = "ticks.i4"  # score of every sequence in ticks, int32, -1 without one
CALLED_PART = "called.u1"  # which sequences the thresholds call virus, one byte each
RECORDS_PART = "records.gz"  # the sequences that may be called virus

HEADERS = {
    FRAMES_TABLE: "Sequence_ID\tPrediction\tscore1\tscore2\n",
    CHUNKS_TABLE: "Modified_ID\tIs_Virus\tmax_score_0\tmax_score_1\n",
    SEQUENCES_TABLE: "sequence_id\tlength\tn_chunks\tn_frames\tstatus\tscore\tcall\tq_value\n",
}
OUTPUT_NAMES = (*HEADERS, VIRAL_FASTA, VIRAL_FASTQ)
CALL_NAMES = ("others", "virus")

_GZIP_LEVEL = 6


def shard_parts(
    scored: ScoredShard, chunks: ChunkConsensus, calls: SequenceCalls, *, by_sample: bool
) -> dict[str, bytes]:
    """A shard's part of every output, by name; text is UTF-8.

    Args:
        by_sample: calls are made when the whole sample is known, so any sequence with a score may be called virus.
    """
    names = chunk_names(scored.shard.ids, scored.chunks)
    may_be_virus = ~np.isnan(calls.score) if by_sample else calls.is_virus
    return {
        FRAMES_TABLE: _encode(frame_rows(names, scored)),
        CHUNKS_TABLE: _encode(chunk_rows(names, chunks)),
        SEQUENCES_TABLE: _encode(sequence_rows(scored.shard, calls)),
        TICKS_PART: ticks_of(calls.score).astype("<i4").tobytes(),
        CALLED_PART: calls.is_virus.astype(np.uint8).tobytes(),
        RECORDS_PART: _gzip_member("".join(records_of(scored.shard, np.flatnonzero(may_be_virus)))),
    }


def chunk_names(ids: list[str], chunks: Chunks) -> list[str]:
    """``ID_chunk_1``, ``ID_chunk_2``, … for every chunk."""
    return [
        f"{ids[sequence]}_chunk_{number}"
        for sequence, number in zip(chunks.sequence.tolist(), chunks.number.tolist(), strict=True)
    ]


def frame_rows(names: list[str], scored: ScoredShard) -> str:
    """One row a frame: chunk id and frame, label, P(others), P(virus); a tie is "others"."""
    others_F, virus_F = scored.scores_F2[:, 0], scored.scores_F2[:, 1]
    return "".join(
        f"{names[chunk]}{FRAME_NAMES[frame]}\t{CALL_NAMES[is_virus]}\t{others!s}\t{virus!s}\n"
        for chunk, frame, is_virus, others, virus in zip(
            scored.frame_chunk.tolist(), scored.frame.tolist(), (virus_F > others_F).tolist(), others_F, virus_F,
            strict=True,
        )
    )  # fmt: skip


def chunk_rows(names: list[str], chunks: ChunkConsensus) -> str:
    """One row a chunk with a frame: id, True or False, largest P(others), largest P(virus)."""
    return "".join(
        f"{names[chunk]}\t{is_virus}\t{others!s}\t{virus!s}\n"
        for chunk, is_virus, others, virus in zip(
            chunks.chunk.tolist(), chunks.is_virus.tolist(), chunks.max_others, chunks.max_virus, strict=True
        )
    )


def sequence_rows(shard: Shard, calls: SequenceCalls) -> str:
    """One row an input sequence, up to its score; call and q-value follow when the whole sample is known."""
    rows = []
    columns = (shard.bases.lengths, calls.n_chunks, calls.n_frames, calls.status, calls.score)
    for name, length, n_chunks, n_frames, status, score in zip(
        shard.ids, *(column.tolist() for column in columns), strict=True
    ):
        shown = "" if math.isnan(score) else f"{score:.{SCORE_DECIMALS}f}"
        rows.append(f"{name}\t{length}\t{n_chunks}\t{n_frames}\t{STATUSES[status]}\t{shown}\n")
    return "".join(rows)


def records_of(shard: Shard, indices: npt.NDArray[np.int64]) -> list[str]:
    """Sequences as FASTA (two lines each) or FASTQ (four) with their whole headers."""
    records = []
    for index, bases in zip(indices.tolist(), shard.bases.take(indices).to_bytes(), strict=True):
        header = shard.headers[index]
        if shard.qualities is None:
            records.append(f">{header}\n{bases.decode('ascii')}\n")
        else:
            records.append(f"@{header}\n{bases.decode('ascii')}\n+\n{shard.qualities[index]}\n")
    return records


def finished_rows(
    rows: bytes, ticks: npt.NDArray[np.int32], called: npt.NDArray[np.bool_], calls: SampleCalls
) -> bytes:
    """A shard's rows of the per-sequence table with call and q-value; both empty without a score."""
    at = np.maximum(ticks, 0)
    q_values = [""] * len(ticks) if calls.q_value is None else [f"{q:.{SCORE_DECIMALS}f}" for q in calls.q_value[at]]
    ends = [
        f"\t{CALL_NAMES[is_virus]}\t{q}\n".encode() if tick >= 0 else b"\t\t\n"
        for tick, is_virus, q in zip(ticks.tolist(), called.tolist(), q_values, strict=True)
    ]
    lines = rows.split(b"\n")[:-1]
    return b"".join([part for pair in zip(lines, ends, strict=True) for part in pair])


def viral_member(
    records: bytes, ticks: npt.NDArray[np.int32], called: npt.NDArray[np.bool_], *, fastq: bool, all_scored: bool
) -> bytes:
    """The sequences called virus: one gzip member, or nothing at all.

    Args:
        records: a shard's part; with ``all_scored`` of every sequence with a score, else of those called virus.
        called: which of the shard's sequences are called virus.
    """
    if not all_scored or not records:
        return records
    lines = gzip.decompress(records).split(b"\n")[:-1]
    height = 4 if fastq else 2
    kept = np.flatnonzero(called[ticks >= 0]).tolist()
    chosen = [line + b"\n" for i in kept for line in lines[height * i : height * i + height]]
    return gzip.compress(b"".join(chosen), _GZIP_LEVEL, mtime=0) if chosen else b""


def check_rows(parts: Mapping[str, bytes], counts: Counts) -> None:
    """Raise a SeqassayError when a table's rows and the counts differ."""
    for name, expected in _rows_by_table(counts).items():
        expect_equal(f"rows of {name}", parts[name].count(b"\n"), expected)


def write_outputs(
    folder: Path, store: ShardStore, n_shards: int, counts: Counts, calls: SampleCalls, *, fastq: bool, by_sample: bool
) -> list[dict[str, Any]]:
    """Join the shards' parts, in order, into the final files, which appear together when the last one is whole.

    Args:
        counts: of the run, with the calls of ``calls``.
        by_sample: as in `shard_parts`.

    Returns:
        ``[{"name", "bytes", "sha256"}, …]``.

    Raises:
        SeqassayError: when a file's rows and the counts differ; no file appears then.
        OSError: when the disk is full, and the like; no file appears then.
    """

    def parts(name: str) -> Iterator[bytes]:
        return (store.read_part(index, name) for index in range(n_shards))

    def viral() -> Iterator[bytes]:
        for index in range(n_shards):
            records = store.read_part(index, RECORDS_PART)
            ticks, called = read_calls(store, index, calls)
            yield viral_member(records, ticks, called, fastq=fastq, all_scored=by_sample)

    lines = {name: n_rows + 1 for name, n_rows in _rows_by_table(counts).items()}
    rows = {
        FRAMES_TABLE: parts(FRAMES_TABLE),
        CHUNKS_TABLE: parts(CHUNKS_TABLE),
        SEQUENCES_TABLE: (
            finished_rows(part, *read_calls(store, index, calls), calls)
            for index, part in enumerate(parts(SEQUENCES_TABLE))
        ),
    }
    content: dict[str, Iterator[bytes]] = {
        name: itertools.chain([header.encode()], rows[name]) for name, header in HEADERS.items()
    }
    content[VIRAL_FASTQ if fastq else VIRAL_FASTA] = viral() if counts.virus else iter([gzip.compress(b"", mtime=0)])
    paths = [folder / name for name in content]
    try:
        records = [_stage_output(path, content[path.name], lines.get(path.name)) for path in paths]
    except BaseException:
        unstage(paths)
        raise
    publish(paths)
    return records


def _stage_output(path: Path, pieces: Iterable[bytes], n_lines: int | None) -> dict[str, Any]:
    """Stage one output, taking its SHA-256 and counting its lines on the way."""
    sha256, lines = hashlib.sha256(), 0

    def watched() -> Iterator[bytes]:
        nonlocal lines
        for piece in pieces:
            sha256.update(piece)
            lines += piece.count(b"\n")
            yield piece
        if n_lines is not None:
            expect_equal(f"lines of {path.name}", lines, n_lines)

    n_bytes = stage(path, watched())
    return {"name": path.name, "bytes": n_bytes, "sha256": sha256.hexdigest()}


def read_ticks(store: ShardStore, index: int) -> npt.NDArray[np.int32]:
    """Scores of a shard's sequences in ticks, -1 without one."""
    return np.frombuffer(store.read_part(index, TICKS_PART), "<i4")


def read_calls(
    store: ShardStore, index: int, calls: SampleCalls
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """Scores of a shard's sequences in ticks, -1 without one, and which of them are called virus."""
    ticks = read_ticks(store, index)
    by_score = np.frombuffer(store.read_part(index, CALLED_PART), np.uint8).astype(np.bool_)
    return ticks, calls.called(ticks, by_score)


def counts_by_tick(store: ShardStore, n_shards: int, calls: SampleCalls | None = None) -> npt.NDArray[np.int64]:
    """Sequences of a run at every score; with ``calls`` only those called virus."""
    total = np.zeros(TICKS + 1, np.int64)
    for index in range(n_shards):
        ticks = read_ticks(store, index)
        kept = ticks >= 0 if calls is None else read_calls(store, index, calls)[1]
        np.add.at(total, ticks[kept], 1)
    return total


def _gzip_member(text: str) -> bytes:
    return gzip.compress(_encode(text), _GZIP_LEVEL, mtime=0) if text else b""


def _rows_by_table(counts: Counts) -> dict[str, int]:
    return {FRAMES_TABLE: counts.frames, CHUNKS_TABLE: counts.chunks_classified, SEQUENCES_TABLE: counts.sequences}


def _encode(text: str) -> bytes:
    # an id that was not UTF-8 in the input comes out as the bytes it came in
    return text.encode("utf-8", "surrogateescape")
