"""The input of a benchmark, read once before anything is timed: checked, counted, and written for those who need it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from seqassay.errors import UsageError
from seqassay.prove.pipeline.settings import PipelineSettings
from seqassay.sequences.reading import InputSettings, RecordsDigest, Shard, read_shards

FEW = 64  # sequences of a warm-up


@dataclass(frozen=True, slots=True)
class Workload:
    """What is run.

    Attributes:
        digest: SHA-256 over all records, as in ``run.json``.
        few: FASTA of the first 64 sequences.
        fasta: plain FASTA of all of them, for the reference; None where nobody asked for it.
    """

    sequences: int
    bases: int
    digest: str
    few: Path
    fasta: Path | None


def read_workload(settings: PipelineSettings, folder: Path) -> Workload:
    """Read the whole input.

    Raises:
        InputError: names the file, the record and the line.
        UsageError: the reference cannot tell two sequences of one id apart.
    """
    digest = RecordsDigest()
    shards = digest.watch(read_shards(InputSettings(paths=settings.inputs, pairing=settings.pairing)))
    few, fasta = folder / "few.fasta", folder / "all.fasta" if settings.reference else None
    sequences = bases = 0
    ids: set[str] = set()
    with contextlib.ExitStack() as stack:
        few_file = stack.enter_context(few.open("wb"))
        all_file = None if fasta is None else stack.enter_context(fasta.open("wb"))
        for shard in shards:
            if sequences < FEW:
                _write(few_file, shard, range(min(FEW - sequences, len(shard.ids))))
            if all_file is not None:
                _check_ids(shard.ids, ids)
                _write(all_file, shard, range(len(shard.ids)))
            sequences += len(shard.ids)
            bases += int(shard.bases.lengths.sum())
    return Workload(sequences, bases, digest.hexdigest(), few, fasta)


def _write(file: IO[bytes], shard: Shard, rows: Iterable[int]) -> None:
    offsets = shard.bases.offsets
    for i in rows:
        letters = shard.bases.values[offsets[i] : offsets[i + 1]].tobytes()
        file.write(b">%b\n%b\n" % (shard.ids[i].encode("utf-8", "surrogateescape"), letters))


def _check_ids(new: list[str], seen: set[str]) -> None:
    for name in new:
        if name in seen:
            raise UsageError(
                f"--reference: the id {name!r} is there twice, and the reference procedure joins its files by id",
                hint="give every sequence an id of its own, or leave --reference out",
            )
        seen.add(name)
