"""Six-frame translation of a whole shard on byte arrays.

Frames F1, F2, F3 begin at the first, second and third base of a chunk, R1, R2, R3 likewise on its reverse complement.
A frame is kept when its whole translation has no stop and at least one codon of plain bases. With it goes its
nucleotide partner, which the reference method (VirNucPro) feeds to its nucleotide model: ``start … start + 3·aa`` on
the frame's own strand, that is, the bases of ``aa`` residues and the one that follows, where the chunk has one.

Codons that hold an ambiguous base (anything but A, C, G, T), by rule:

``drop``
    The reference's. They give no residue, so the nucleotide partner ends as many codons early. The reference
    complements A, C, G and T alone, and so does this rule: an R (A or G) is an R on the reverse strand, too.
``X``
    They give the residue X, and all letters are complemented by IUPAC's rules.

All of it runs compiled: one loop reads each frame's codons up to its first stop, the others write the residues and
bases of the frames that are kept; no other is ever written.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from seqassay.compiled import compiled
from seqassay.errors import UsageError
from seqassay.sequences.chunking import Chunks
from seqassay.sequences.genetic_codes import codon_table
from seqassay.sequences.ragged import Ragged

Ambiguity = Literal["drop", "X"]
ByteArray = npt.NDArray[np.uint8]
IndexArray = npt.NDArray[np.int64]

FRAME_NAMES = ("F1", "F2", "F3", "R1", "R2", "R3")

_STOP = ord("*")
_AMBIGUOUS_BASE = 64  # a codon's number is 16 a + 4 b + c; with an ambiguous base it is at least this
_CODES = {"A": 0, "C": 1, "G": 2, "T": 3}  # a base and its complement add up to 3
_COMPLEMENT = {
    "drop": bytes.maketrans(b"ACGT", b"TGCA"),
    "X": bytes.maketrans(b"ACGTRYSWKMBDHVN", b"TGCAYRSWMKVHDBN"),
}


@dataclass(frozen=True, slots=True)
class Frames:
    """The kept frames of a shard, ordered by chunk, then frame.

    Attributes:
        chunk: ``int64[n]``, index into the shard's chunks.
        frame: ``uint8[n]``, index into `FRAME_NAMES`.
        protein: residues (``uint8`` letters), at least one each.
        nucleotide: the partner's bases (``uint8`` letters) on the frame's own strand.
    """

    chunk: IndexArray
    frame: ByteArray
    protein: Ragged
    nucleotide: Ragged

    def __len__(self) -> int:
        return len(self.chunk)


@dataclass(frozen=True, slots=True)
class NucleotideFrames:
    """All six frames of the chunks, with and without stops, ordered by chunk, then frame.

    Attributes:
        chunk: ``int64[n]``, index into the shard's chunks.
        frame: ``uint8[n]``, index into `FRAME_NAMES`.
        bases: ``uint8`` letters on the frame's own strand: its whole codons and the base that follows, where there is
            one. Of a frame that `six_frames` keeps and that has no ambiguous base it is the nucleotide partner.
    """

    chunk: IndexArray
    frame: ByteArray
    bases: Ragged


def every_frame(bases: Ragged, chunks: Chunks, *, ambiguity: Ambiguity = "drop") -> NucleotideFrames:
    """The bases of all frames with at least one codon; arguments as in `six_frames`."""
    start_N = bases.offsets[:-1][chunks.sequence] + chunks.start
    n_codons_N6 = np.maximum(chunks.length[:, None] - np.arange(6) % 3, 0) // 3
    chunk, frame = np.nonzero(n_codons_N6)
    n_bases = np.minimum(3 * n_codons_N6[chunk, frame] + 1, chunks.length[chunk] - frame % 3)
    complement = np.frombuffer(_COMPLEMENT[ambiguity], np.uint8)
    where = (np.asarray(bases.values, np.uint8), start_N[chunk], chunks.length[chunk], frame)
    return NucleotideFrames(
        chunk, frame.astype(np.uint8), Ragged.from_lengths(_bases(*where, n_bases, complement), n_bases)
    )


def six_frames(bases: Ragged, chunks: Chunks, *, genetic_code: int = 1, ambiguity: Ambiguity = "drop") -> Frames:
    """Translate every chunk in six frames and keep those without a stop.

    Args:
        bases: upper-case letters (ACGT and IUPAC codes) of the shard's sequences.
        chunks: where the chunks lie in them.
        genetic_code: NCBI table number.
        ambiguity: see the head of this module.

    Raises:
        UsageError: an unknown genetic code or ambiguity rule.
    """
    if ambiguity not in get_args(Ambiguity):
        raise UsageError(f"unknown ambiguity rule {ambiguity!r}", hint="choose 'drop' or 'X'")
    tables = (_code_of_base(), _residue_of_codon(genetic_code), ambiguity == "drop")
    values = np.asarray(bases.values, np.uint8)
    start_N = bases.offsets[:-1][chunks.sequence] + chunks.start
    n_residues_N6 = _count_residues(values, start_N, chunks.length, *tables)
    kept = np.flatnonzero(n_residues_N6)
    chunk, frame = np.divmod(kept, len(FRAME_NAMES))
    n_residues = n_residues_N6.reshape(-1)[kept]
    n_bases = np.minimum(3 * n_residues + 1, chunks.length[chunk] - frame % 3)
    where = (values, start_N[chunk], chunks.length[chunk], frame)
    protein = Ragged.from_lengths(_residues(*where, n_residues.sum(), *tables), n_residues)
    complement = np.frombuffer(_COMPLEMENT[ambiguity], np.uint8)
    nucleotide = Ragged.from_lengths(_bases(*where, n_bases, complement), n_bases)
    return Frames(chunk, frame.astype(np.uint8), protein, nucleotide)


@compiled
def _codon(values: ByteArray, start: int, length: int, frame: int, codon: int, code_of_base: ByteArray) -> int:
    """Number of a chunk's codon in a frame; `_AMBIGUOUS_BASE` or more where it holds an ambiguous base."""
    if frame < 3:
        first = start + frame + 3 * codon
        a, b, c = code_of_base[values[first]], code_of_base[values[first + 1]], code_of_base[values[first + 2]]
        number = 16 * a + 4 * b + c
    else:
        first = start + length - 1 - (frame - 3) - 3 * codon
        a, b, c = code_of_base[values[first]], code_of_base[values[first - 1]], code_of_base[values[first - 2]]
        number = 63 - 16 * a - 4 * b - c
    return number if max(a, b, c) < 4 else _AMBIGUOUS_BASE


@compiled
def _count_residues(
    values: ByteArray,
    start_N: IndexArray,
    length_N: IndexArray,
    code_of_base: ByteArray,
    residue_of_codon: ByteArray,
    drops_ambiguous: bool,
) -> IndexArray:
    """Residues of every chunk's six frames ``[N, 6]``; 0 where there is a stop or no codon of plain bases."""
    n_residues_N6 = np.zeros((len(start_N), 6), np.int64)
    for chunk in range(len(start_N)):
        for frame in range(6):
            n_codons = (length_N[chunk] - frame % 3) // 3
            n_plain = 0
            for codon in range(n_codons):
                number = _codon(values, start_N[chunk], length_N[chunk], frame, codon, code_of_base)
                if number < _AMBIGUOUS_BASE:
                    if residue_of_codon[number] == _STOP:
                        n_plain = 0
                        break
                    n_plain += 1
            if n_plain:
                n_residues_N6[chunk, frame] = n_plain if drops_ambiguous else n_codons
    return n_residues_N6


@compiled
def _residues(
    values: ByteArray,
    start_F: IndexArray,
    length_F: IndexArray,
    frame_F: IndexArray,
    n_residues: int,
    code_of_base: ByteArray,
    residue_of_codon: ByteArray,
    drops_ambiguous: bool,
) -> ByteArray:
    """Residues of the kept frames, end to end."""
    residues = np.empty(n_residues, np.uint8)
    end = 0
    for f in range(len(start_F)):
        for codon in range((length_F[f] - frame_F[f] % 3) // 3):
            number = _codon(values, start_F[f], length_F[f], frame_F[f], codon, code_of_base)
            if number < _AMBIGUOUS_BASE or not drops_ambiguous:
                residues[end] = residue_of_codon[number]
                end += 1
    return residues


@compiled
def _bases(
    values: ByteArray,
    start_F: IndexArray,
    length_F: IndexArray,
    frame_F: IndexArray,
    n_bases_F: IndexArray,
    complement: ByteArray,
) -> ByteArray:
    """The first ``n_bases_F`` bases of the kept frames on their own strands, end to end."""
    bases = np.empty(n_bases_F.sum(), np.uint8)
    end = 0
    for f in range(len(start_F)):
        if frame_F[f] < 3:
            first = start_F[f] + frame_F[f]
            bases[end : end + n_bases_F[f]] = values[first : first + n_bases_F[f]]
        else:
            last = start_F[f] + length_F[f] - 1 - (frame_F[f] - 3)
            for i in range(n_bases_F[f]):
                bases[end + i] = complement[values[last - i]]
        end += n_bases_F[f]
    return bases


@lru_cache(maxsize=1)
def _code_of_base() -> ByteArray:
    """Code of every byte, ``uint8[256]``; `_AMBIGUOUS_BASE` for all but A, C, G and T."""
    codes = np.full(256, _AMBIGUOUS_BASE, np.uint8)
    for base, code in _CODES.items():
        codes[ord(base)] = code
    return codes


@lru_cache(maxsize=8)
def _residue_of_codon(genetic_code: int) -> ByteArray:
    """Letter of every codon by its number in `_codon`, ``uint8[65]``; X for those with an ambiguous base."""
    letters = np.full(_AMBIGUOUS_BASE + 1, ord("X"), np.uint8)
    for codon, letter in codon_table(genetic_code).items():
        a, b, c = (_CODES[base] for base in codon)
        letters[16 * a + 4 * b + c] = ord(letter)
    return letters
