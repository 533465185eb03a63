"""The files a user gets: their names, columns, and how a shard's part of each is written.

``prediction_results.txt`` and ``prediction_results_highestscore.csv`` (tab-separated, for all its name) have the
columns of VirNucPro's, scores printed as float32 in their shortest exact form. ``sequences.tsv`` has one row for
every input sequence. Ids hold no white space, so fields are never quoted.
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from seqassay.durable import publish, stage, unstage
from seqassay.predict.consensus import CLASSIFIED, SCORE_DECIMALS, STATUSES, ChunkConsensus, SequenceCalls
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
VIRAL_PART = "viral.gz"

HEADERS = {
    FRAMES_TABLE: "Sequence_ID\tPrediction\tscore1\tscore2\n",
    CHUNKS_TABLE: "Modified_ID\tIs_Virus\tmax_score_0\tmax_score_1\n",
    SEQUENCES_TABLE: "sequence_id\tlength\tn_chunks\tn_frames\tstatus\tscore\tcall\n",
}
OUTPUT_NAMES = (*HEADERS, VIRAL_FASTA, VIRAL_FASTQ)
CALL_NAMES = ("others", "virus")

_GZIP_LEVEL = 6


def shard_parts(scored: ScoredShard, chunks: ChunkConsensus, calls: SequenceCalls) -> dict[str, bytes]:
    """A shard's part of every output, by name; text is UTF-8, the viral records a gzip member of their own."""
    names = chunk_names(scored.shard.ids, scored.chunks)
    return {
        FRAMES_TABLE: _encode(frame_rows(names, scored)),
        CHUNKS_TABLE: _encode(chunk_rows(names, chunks)),
        SEQUENCES_TABLE: _encode(sequence_rows(scored.shard, calls)),
        VIRAL_PART: viral_member(scored.shard, calls),
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
    """One row an input sequence."""
    rows = []
    columns = (shard.bases.lengths, calls.n_chunks, calls.n_frames, calls.status, calls.score, calls.is_virus)
    for name, length, n_chunks, n_frames, status, score, is_virus in zip(
        shard.ids, *(column.tolist() for column in columns), strict=True
    ):
        verdict = f"{score:.{SCORE_DECIMALS}f}\t{CALL_NAMES[is_virus]}" if status == CLASSIFIED else "\t"
        rows.append(f"{name}\t{length}\t{n_chunks}\t{n_frames}\t{STATUSES[status]}\t{verdict}\n")
    return "".join(rows)


def viral_member(shard: Shard, calls: SequenceCalls) -> bytes:
    """The sequences called virus as FASTA or FASTQ with their whole headers: one gzip member, or nothing at all."""
    viral = np.flatnonzero(calls.is_virus)
    if not len(viral):
        return b""
    records = []
    for index, bases in zip(viral.tolist(), shard.bases.take(viral).to_bytes(), strict=True):
        header = shard.headers[index]
        if shard.qualities is None:
            records.append(f">{header}\n{bases.decode('ascii')}\n")
        else:
            records.append(f"@{header}\n{bases.decode('ascii')}\n+\n{shard.qualities[index]}\n")
    return gzip.compress(_encode("".join(records)), _GZIP_LEVEL, mtime=0)


def check_rows(parts: Mapping[str, bytes], counts: Counts) -> None:
    """Raise a SeqassayError when a table's rows and the counts differ."""
    for name, expected in _rows_by_table(counts).items():
        expect_equal(f"rows of {name}", parts[name].count(b"\n"), expected)


def write_outputs(
    folder: Path, store: ShardStore, n_shards: int, counts: Counts, *, fastq: bool
) -> list[dict[str, Any]]:
    """Join the shards' parts, in order, into the final files, which appear together when the last one is whole.

    Returns:
        ``[{"name", "bytes", "sha256"}, …]``.

    Raises:
        SeqassayError: when a file's rows and the counts differ; no file appears then.
        OSError: when the disk is full, and the like; no file appears then.
    """

    def parts(name: str) -> Iterator[bytes]:
        return (store.read_part(index, name) for index in range(n_shards))

    lines = {name: n_rows + 1 for name, n_rows in _rows_by_table(counts).items()}
    content: dict[str, Iterator[bytes]] = {
        name: itertools.chain([header.encode()], parts(name)) for name, header in HEADERS.items()
    }
    content[VIRAL_FASTQ if fastq else VIRAL_FASTA] = (
        parts(VIRAL_PART) if counts.virus else iter([gzip.compress(b"", mtime=0)])
    )
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


def _rows_by_table(counts: Counts) -> dict[str, int]:
    return {FRAMES_TABLE: counts.frames, CHUNKS_TABLE: counts.chunks_classified, SEQUENCES_TABLE: counts.sequences}


def _encode(text: str) -> bytes:
    # an id that was not UTF-8 in the input comes out as the bytes it came in
    return text.encode("utf-8", "surrogateescape")
