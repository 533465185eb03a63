"""From a shard of records to tokens, and from tokens to scores: the two halves of the work on a shard.

``Model.prepare`` needs no device and runs in a thread ahead of it; ``Model.score`` is all that the device does.
Shape letters: F frames, D merged width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from seqassay.engine.embed import Embedder, Prepared, load_encoder
from seqassay.errors import ModelError
from seqassay.measure.progress import RunProgress
from seqassay.measure.stages import StageClock
from seqassay.models.bundle import Bundle
from seqassay.models.dnabert import Dnabert
from seqassay.models.esm2 import Esm2
from seqassay.sequences.chunking import Chunks, chunk
from seqassay.sequences.frames import every_frame, six_frames
from seqassay.sequences.ragged import Ragged
from seqassay.sequences.reading import Shard

# Frames merged and classified at a time: 4096 × 3328 float32 is 55 MB, so the joined matrix of a shard never exists.
_HEAD_FRAMES = 4096


@dataclass(frozen=True, slots=True)
class PreparedShard:
    """A shard cut, translated and tokenised; frames ordered by chunk, then frame.

    Attributes:
        frame_chunk, frame: of every frame without a stop.
        nucleotide: of those frames; then, for bundles with a nucleotide head, of all frames.
        every_frame_chunk: chunk of each of all frames; empty for other bundles.
        protein: of the frames without a stop.
    """

    shard: Shard
    chunks: Chunks
    frame_chunk: npt.NDArray[np.int64]
    frame: npt.NDArray[np.uint8]
    nucleotide: Prepared
    every_frame_chunk: npt.NDArray[np.int64]
    protein: Prepared

    @property
    def n_tokens(self) -> int:
        """Tokens to embed, of both encoders."""
        return len(self.nucleotide.tokens.values) + len(self.protein.tokens.values)


@dataclass(frozen=True, slots=True)
class ScoredShard:
    """A shard with its scores; the tokens are gone.

    Attributes:
        frame_chunk, frame: of every frame without a stop.
        scores_F2: P(others), P(virus) of each of them.
        every_frame_chunk, nucleotide_log_odds: of each of all frames, by the nucleotide head; empty without one.
    """

    shard: Shard
    chunks: Chunks
    frame_chunk: npt.NDArray[np.int64]
    frame: npt.NDArray[np.uint8]
    scores_F2: npt.NDArray[np.float32]
    every_frame_chunk: npt.NDArray[np.int64]
    nucleotide_log_odds: npt.NDArray[np.float64]
    n_distinct_nucleotide: int
    n_distinct_protein: int


class _LengthCount:
    """How many sequences of each token length went through an encoder; memory goes with the longest alone."""

    def __init__(self) -> None:
        self._n_L = np.zeros(0, np.int64)

    def add(self, lengths: npt.NDArray[np.integer]) -> None:
        n_L = np.bincount(lengths, minlength=len(self._n_L))
        n_L[: len(self._n_L)] += self._n_L
        self._n_L = n_L

    def flops(self, model: Esm2 | Dnabert) -> int:
        return sum(int(self._n_L[length]) * model.flops([int(length)]) for length in np.flatnonzero(self._n_L))


class Model:
    """A bundle on a device: both encoders and the head, and the stages that they take part in."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str,
        precision: str | None,
        token_budget: int | None,
        threads: int | None,
        clock: StageClock,
    ) -> None:
        """Load the bundle's models.

        Raises:
            ModelError: files that don't belong together.
            UsageError: a device or precision that this machine doesn't have.
        """
        nucleotide = load_encoder(bundle.nucleotide_path, kind="nucleotide")
        protein = load_encoder(bundle.protein_path, kind="protein")
        head = bundle.load_head()
        if head.input_dim != nucleotide.d_model + protein.d_model:
            raise ModelError(
                f"{bundle.path}: the head takes {head.input_dim} values, "
                f"the encoders give {nucleotide.d_model} + {protein.d_model}"
            )
        options = {"device": device, "precision": precision or bundle.precision}
        self.nucleotide = Embedder(nucleotide, **options, token_budget=token_budget, threads=threads)
        self.protein = Embedder(protein, **options, token_budget=token_budget, threads=threads)
        self.bundle, self.clock = bundle, clock
        self.device = self.protein.device
        self.precision = self.protein.precision.name
        # what was asked for, before any shortage of memory: part of the run's identity
        self.token_budgets = [self.nucleotide.token_budget, self.protein.token_budget]
        self._head = head.to(self.device).eval()
        self._n_by_length = {"nucleotide": _LengthCount(), "protein": _LengthCount()}
        nucleotide_head = bundle.load_nucleotide_head()
        self._nucleotide_head = None if nucleotide_head is None else nucleotide_head.to(self.device).eval()

    def tokens_embedded(self) -> int:
        """Tokens that went through both encoders so far; grows with every batch."""
        return self.nucleotide.stats.real_tokens + self.protein.stats.real_tokens

    def flops(self) -> dict[str, int]:
        """Floating-point operations of the matrix products done so far, by encoder, counted from their shapes."""
        encoders = {"nucleotide": self.nucleotide, "protein": self.protein}
        return {
            name: self._n_by_length[name].flops(cast("Esm2 | Dnabert", embedder.encoder.model))
            for name, embedder in encoders.items()
        }

    def prepare(self, shard: Shard) -> PreparedShard:
        """Cut, translate, split and tokenise; needs no device, so a thread does it for the next shard."""
        with self.clock.measure("sequence chunking"):
            chunks = chunk(shard.bases.lengths, self.bundle.chunk_length, self.bundle.chunk_rule)
        with self.clock.measure("six-frame translation"):
            frames = six_frames(
                shard.bases, chunks, genetic_code=self.bundle.genetic_code, ambiguity=self.bundle.ambiguity
            )
        with self.clock.measure("nucleotide splitting"):
            bases, every_frame_chunk = frames.nucleotide, np.empty(0, np.int64)
            if self._nucleotide_head is not None:  # most partners are among all frames, and are embedded once
                every = every_frame(shard.bases, chunks, ambiguity=self.bundle.ambiguity)
                bases, every_frame_chunk = Ragged.joined([bases, every.bases]), every.chunk
            nucleotide = self.nucleotide.prepare(bases)
        with self.clock.measure("protein splitting"):
            protein = self.protein.prepare(frames.protein)
        return PreparedShard(shard, chunks, frames.chunk, frames.frame, nucleotide, every_frame_chunk, protein)

    def score(self, prepared: PreparedShard, progress: RunProgress) -> ScoredShard:
        """Embed both sides, merge, classify."""
        progress.begin_stage("nucleotide embedding")
        with self.clock.measure(progress.stage):
            nucleotide_FD = self.nucleotide.run(prepared.nucleotide)
        progress.begin_stage("protein embedding")
        with self.clock.measure(progress.stage):
            protein_FD = self.protein.run(prepared.protein)
        progress.begin_stage("prediction")
        self._n_by_length["nucleotide"].add(prepared.nucleotide.tokens.lengths)
        self._n_by_length["protein"].add(prepared.protein.tokens.lengths)
        n_open = len(prepared.frame)
        return ScoredShard(
            prepared.shard,
            prepared.chunks,
            prepared.frame_chunk,
            prepared.frame,
            self.classify(nucleotide_FD[:n_open], protein_FD),
            prepared.every_frame_chunk,
            self.classify_nucleotides(nucleotide_FD[n_open:]),
            len(prepared.nucleotide.tokens),
            len(prepared.protein.tokens),
        )

    @torch.inference_mode()
    def classify(
        self, nucleotide_FD: npt.NDArray[np.float32], protein_FD: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """P(others), P(virus) of joined embeddings, nucleotide first: ``[F, 2]``, computed in float32."""
        scores_F2 = np.empty((len(protein_FD), 2), np.float32)
        for first in range(0, len(scores_F2), _HEAD_FRAMES):
            piece = slice(first, first + _HEAD_FRAMES)
            with self.clock.measure("merging"):
                merged_FD = torch.from_numpy(np.concatenate([nucleotide_FD[piece], protein_FD[piece]], axis=1))
            with self.clock.measure("prediction"):
                scores_F2[piece] = self._head.scores(merged_FD.to(self.device)).cpu().numpy()
        return scores_F2

    @torch.inference_mode()
    def classify_nucleotides(self, nucleotide_FD: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Log-odds of virus by the nucleotide head, ``[F]``; empty in bundles without one."""
        log_odds_F = np.empty(len(nucleotide_FD))
        if self._nucleotide_head is not None:
            with self.clock.measure("prediction"):
                for first in range(0, len(log_odds_F), _HEAD_FRAMES):
                    piece = slice(first, first + _HEAD_FRAMES)
                    logits_F2 = self._nucleotide_head(torch.from_numpy(nucleotide_FD[piece]).to(self.device))
                    log_odds_F[piece] = (logits_F2[:, 1] - logits_F2[:, 0]).double().cpu().numpy()
        return log_odds_F
