"""Scores of chunks under a classifier in training, and the figure that chooses among its states."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from seqassay.engine.tokens import NucleotideTokenizer
from seqassay.evaluate.classification import roc_auc
from seqassay.train.classifier import SideClassifier, mean_of_chunks
from seqassay.train.dataset import LabelledChunks
from seqassay.train.frame_batches import make_batch


def score_chunks(
    model: SideClassifier,
    chunks: LabelledChunks,
    tokenizer: NucleotideTokenizer | None,
    *,
    open_frames_only: bool = False,
    chunks_per_batch: int = 256,
) -> npt.NDArray[np.float64]:
    """Mean log-odds of every chunk's frames (float32, evaluation mode); NaN where there is no frame to read.

    Computed on the device that the model is on.

    Args:
        tokenizer, open_frames_only: as in `make_batch`.
    """
    log_odds = np.full(len(chunks), np.nan)
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for first in range(0, len(chunks), chunks_per_batch):
            part = np.arange(first, min(first + chunks_per_batch, len(chunks)))
            made = make_batch(
                chunks.bases.take(part), chunks.labels[part], tokenizer, open_frames_only=open_frames_only
            )
            if made is not None:
                batch, kept = made[0].to(device), made[1]
                log_odds_N = mean_of_chunks(model(batch.packed), batch.chunk_F, batch.n_chunks)
                log_odds[part[kept]] = log_odds_N.double().cpu().numpy()
    model.train(was_training)
    return log_odds


def group_balanced_auc(
    labels: npt.NDArray[np.int64],
    scores: npt.NDArray[np.float64],
    groups: npt.NDArray[np.str_],
    group_weights: Mapping[str, float],
    *,
    min_chunks: int = 20,
) -> float:
    """ROC-AUC with the groups at their training weights; groups of under ``min_chunks`` chunks are left out.

    NaN where all are, or a class has no chunk.

    A validation file has what was at hand: three quarters of ours is bacteria. Chosen on the plain AUC, a model
    would be the one that knows bacteria best.
    """
    weights = np.zeros(len(labels))
    for group in np.unique(groups).tolist():
        of_group = groups == group
        if of_group.sum() >= min_chunks:
            weights[of_group] = group_weights.get(group, 0.0) / of_group.sum()
    return roc_auc(labels, scores, weights) if weights.any() else float("nan")
