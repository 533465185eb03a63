"""What both encoders embed: synthetic proteins, proteins of files, or stop-free frames of nucleotides.

All sequences are distinct: the engine computes identical ones once, and a rate that counts them twice is none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqassay.errors import InputError
from seqassay.prove.speed.settings import SYNTHETIC_LENGTHS, SpeedSettings
from seqassay.sequences.chunking import chunk
from seqassay.sequences.frames import six_frames
from seqassay.sequences.ragged import Ragged
from seqassay.sequences.reading import InputSettings, read_proteins, read_shards

TRAINED_RESIDUES = 1022  # ESM-2 was trained on at most 1,024 tokens, two of which are special
_RESIDUES = np.frombuffer(b"ACDEFGHIKLMNPQRSTVWY", np.uint8)
_NUCLEOTIDE_LETTERS = np.frombuffer(b"ACGTUN", np.uint8)
_READ_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Workload:
    """Distinct proteins (``uint8`` letters), and where they are from.

    Attributes:
        source: of a record: ``kind``, and for files their paths and how many sequences were passed over.
    """

    residues: Ragged
    source: dict[str, Any]

    def as_record(self) -> dict[str, Any]:
        """Numbers, lengths and a digest over the residues in order."""
        lengths = self.residues.lengths
        digest = hashlib.sha256(lengths.astype("<i8").tobytes())
        digest.update(self.residues.values[self.residues.offsets[0] : self.residues.offsets[-1]].tobytes())
        return {
            **self.source,
            "n": len(self.residues),
            "residues": int(lengths.sum()),
            "length_min": int(lengths.min()),
            "length_median": float(np.median(lengths)),
            "length_max": int(lengths.max()),
            "longer_than_trained": int((lengths > TRAINED_RESIDUES).sum()),
            "digest": digest.hexdigest(),
        }


def make_workload(settings: SpeedSettings) -> Workload:
    """The sequences that the settings ask for.

    Raises:
        InputError: bad input (names file, record and line), nucleotides where proteins should be, or not one sequence.
    """
    if not settings.sequences:
        return _synthetic(settings.n_sequences, settings.seed)
    if settings.translate is not None:
        frames = _stop_free_frames(settings.sequences, settings.translate)
        source = {"kind": "stop-free frames of files", "chunk_length": settings.translate}
    else:
        frames, source = _proteins(settings.sequences), {"kind": "proteins of files"}
    taken: dict[bytes, None] = {}
    n_repeats = n_empty = 0
    for protein in frames:
        if not protein:
            n_empty += 1
        elif protein in taken:
            n_repeats += 1
        else:
            taken[protein] = None
        if len(taken) == settings.n_sequences:
            break
    paths = ", ".join(settings.sequences)
    if not taken:
        what = "stop-free frame" if settings.translate is not None else "sequence with a residue"
        raise InputError(f"holds not one {what}: there is nothing to embed", path=paths)
    residues = Ragged.from_bytes(taken)
    if settings.translate is None and np.isin(residues.values, _NUCLEOTIDE_LETTERS).all():
        raise InputError(
            f"the first {len(taken)} sequences are made of A, C, G, T, U and N only: they are nucleotides, and the "
            "encoders take proteins",
            path=paths,
            hint="--translate 300 embeds the stop-free frames of their chunks of 300 bases, as `predict` does",
        )
    counted = {"files": list(settings.sequences), "repeats_left_out": n_repeats, "without_residue": n_empty}
    return Workload(residues, {**source, **counted})


def _synthetic(n: int, seed: int) -> Workload:
    """Residues drawn evenly from the 20, in lengths that come equally often, shuffled."""
    rng = np.random.default_rng(seed)
    lengths = rng.permutation(np.resize(np.array(SYNTHETIC_LENGTHS), n))
    values = _RESIDUES[rng.integers(len(_RESIDUES), size=int(lengths.sum()))]
    source = {"kind": "synthetic", "lengths": list(SYNTHETIC_LENGTHS), "seed": seed}
    return Workload(Ragged.from_lengths(values, lengths), source)


def _proteins(paths: tuple[str, ...]) -> Iterator[bytes]:
    for _, proteins in read_proteins(paths, max_sequences=_READ_AT_ONCE):
        yield from proteins.to_bytes()


def _stop_free_frames(paths: Iterable[str], chunk_length: int) -> Iterator[bytes]:
    """Frames of chunks by the rules of `predict`: even chunks, the standard code, ambiguous codons dropped."""
    for shard in read_shards(InputSettings(tuple(paths)), max_sequences=_READ_AT_ONCE):
        chunks = chunk(shard.bases.lengths, chunk_length)
        yield from six_frames(shard.bases, chunks).protein.to_bytes()
