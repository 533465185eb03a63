"""Chunks to what an encoder reads: frames, tokens, exact-length groups, nothing padded.

Shape letters: F frames, T tokens end to end, D model width, N chunks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seqassay.engine.tokens import FIRST_RESIDUE_ID, RESIDUES, NucleotideTokenizer, ProteinTokenizer
from seqassay.errors import MissingExtraError
from seqassay.models.attention import PackedLayout
from seqassay.sequences.chunking import Chunks
from seqassay.sequences.frames import every_frame, six_frames
from seqassay.sequences.ragged import Ragged


@dataclass(frozen=True, slots=True)
class PackedTokens:
    """Token sequences sorted by length, and the way back to the order they came in.

    Attributes:
        tokens_T: ``int64`` ids end to end, shortest sequence first.
        layout: where each sequence and each run of equal lengths lies.
        row_F: packed row of the ``i``-th sequence as it came: ``pooled_packed[row_F]`` is in the original order.
    """

    tokens_T: Tensor
    layout: PackedLayout
    row_F: Tensor

    def to(self, device: torch.device) -> PackedTokens:
        """The same on a device; itself where it is there already."""
        if self.tokens_T.device == device:
            return self
        layout = PackedLayout.from_lengths(self.layout.lengths, device)
        return PackedTokens(self.tokens_T.to(device), layout, self.row_F.to(device))


@dataclass(frozen=True, slots=True)
class FrameBatch:
    """Frames of some chunks, ready for one encoder.

    Attributes:
        chunk_F: ``int64``, the chunk each frame belongs to, in ``range(n_chunks)``.
        n_chunks: number of chunks, each with at least one frame.
        labels_N: ``int64``, 1 for viral chunks.
    """

    chunk_F: Tensor
    n_chunks: int
    labels_N: Tensor
    packed: PackedTokens

    def to(self, device: torch.device) -> FrameBatch:
        """The same on a device; itself where it is there already."""
        if self.labels_N.device == device:
            return self
        return FrameBatch(self.chunk_F.to(device), self.n_chunks, self.labels_N.to(device), self.packed.to(device))


def whole_chunks(bases: Ragged) -> Chunks:
    """Sequences as chunks, one each."""
    n = len(bases)
    return Chunks(
        sequence=np.arange(n, dtype=np.int64),
        number=np.ones(n, np.int64),
        start=np.zeros(n, np.int64),
        length=bases.lengths,
    )


def make_batch(
    bases: Ragged,
    labels: npt.NDArray[np.int64],
    tokenizer: NucleotideTokenizer | None,
    *,
    open_frames_only: bool = False,
) -> tuple[FrameBatch, npt.NDArray[np.int64]] | None:
    """Frames and tokens of ``bases`` for one side; chunks without a frame are left out.

    Args:
        tokenizer: the nucleotide encoder's, which reads all six frames; None for the protein encoder, which reads
            those without a stop.
        open_frames_only: give a nucleotide encoder the frames without a stop alone, as the joint head sees them.

    Returns:
        the batch and the indices (into ``bases``) of the chunks that are in it; None where no chunk has a frame.
    """
    if tokenizer is None or open_frames_only:
        open_frames = six_frames(bases, whole_chunks(bases))
        chunk = open_frames.chunk
        tokens = (
            ProteinTokenizer().encode(open_frames.protein)
            if tokenizer is None
            else tokenizer.encode(open_frames.nucleotide)
        )
    else:
        all_frames = every_frame(bases, whole_chunks(bases))
        chunk, tokens = all_frames.chunk, tokenizer.encode(all_frames.bases)
    if not len(chunk):
        return None
    kept, chunk_F = np.unique(chunk, return_inverse=True)
    batch = FrameBatch(
        chunk_F=torch.from_numpy(chunk_F.astype(np.int64)),
        n_chunks=len(kept),
        labels_N=torch.from_numpy(labels[kept]),
        packed=pack(tokens),
    )
    return batch, kept


def pack(tokens: Ragged) -> PackedTokens:
    """Sort token sequences by length (stable) and lay them end to end."""
    order = np.argsort(tokens.lengths, kind="stable")
    row = np.empty(len(order), np.int64)
    row[order] = np.arange(len(order))
    packed = tokens.take(order)
    layout = PackedLayout.from_lengths(packed.lengths, torch.device("cpu"))
    return PackedTokens(torch.from_numpy(packed.values.astype(np.int64)), layout, torch.from_numpy(row))


def mask_tokens(packed: PackedTokens, share: float, mask_id: int) -> PackedTokens:
    """Replace a random share of the tokens by ``mask_id``.

    Uses torch's global random state, the CPU's whatever device the tokens are on: the same seed hides the same tokens.
    """
    if not share:
        return packed
    hidden = (torch.rand(packed.tokens_T.shape) < share).to(packed.tokens_T.device)
    return PackedTokens(packed.tokens_T.masked_fill(hidden, mask_id), packed.layout, packed.row_F)


def mutate_residues(packed: PackedTokens, max_rate: float, rng: np.random.Generator) -> PackedTokens:
    """Exchange residues as evolution does: each frame at its own rate up to ``max_rate``, by BLOSUM62's odds."""
    lengths = packed.layout.lengths
    rate_T = np.repeat(max_rate * rng.random(len(lengths)), lengths)
    tokens_T = packed.tokens_T.numpy()
    chosen = np.flatnonzero((rng.random(len(tokens_T)) < rate_T) & np.isin(tokens_T, _blosum_ids()))
    mutated_T = tokens_T.copy()
    cumulative = _mutation_odds()[np.searchsorted(_blosum_ids(), tokens_T[chosen])]
    mutated_T[chosen] = _blosum_ids()[(rng.random(len(chosen))[:, None] > cumulative).sum(axis=1)]
    return PackedTokens(torch.from_numpy(mutated_T), packed.layout, packed.row_F)


@lru_cache(maxsize=1)
def _blosum_ids() -> npt.NDArray[np.int64]:
    """Token ids of the twenty amino acids, ascending."""
    return np.arange(FIRST_RESIDUE_ID, FIRST_RESIDUE_ID + 20)


def require_mutations() -> None:
    """Find out before a training whether `mutate_residues` can work.

    Raises:
        MissingExtraError: Biopython, which has the matrix, is not installed.
    """
    _blosum62()


@lru_cache(maxsize=1)
def _mutation_odds() -> npt.NDArray[np.float64]:
    """Running sums over b of P(b | a is exchanged), ``[20, 20]``: in proportion to 2^(S_ab / 2), b other than a.

    S is BLOSUM62 in half bits (Henikoff & Henikoff 1992): 2^(S / 2) is the odds of b aligned with a over chance.
    """
    letters = RESIDUES[:20].decode()
    matrix = _blosum62()
    scores = np.array([[matrix[a][b] for b in letters] for a in letters], float)
    odds = 2 ** (scores / 2)
    np.fill_diagonal(odds, 0)
    cumulative: npt.NDArray[np.float64] = np.cumsum(odds / odds.sum(axis=1, keepdims=True), axis=1)
    cumulative[:, -1] = 1.0
    return cumulative


def _blosum62() -> Any:
    try:
        from Bio.Align import substitution_matrices
    except ImportError:
        raise MissingExtraError("biopython", extra="train", purpose="exchanging residues by BLOSUM62") from None
    return substitution_matrices.load("BLOSUM62")  # type: ignore[no-untyped-call]
