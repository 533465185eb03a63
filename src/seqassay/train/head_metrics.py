"""Figures of a binary classifier on a labelled set: what every epoch is logged with.

Shape letters: F frames, N examples (frames or chunks).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from seqassay.evaluate.classification import rates, roc_auc
from seqassay.predict import consensus


def binary_metrics(
    labels_N: npt.NDArray[np.int64], scores_N: npt.NDArray[np.float64], called_N: npt.NDArray[np.bool_] | None = None
) -> dict[str, Any]:
    """Accuracy, precision, recall, F1 and ROC-AUC of class 1, and the confusion counts.

    Args:
        labels_N: 1 for viral, 0 for others.
        scores_N: the larger, the more viral.
        called_N: which are called viral; by default those with a score above 0.5.

    Returns:
        None for what is not defined: the AUC of one class, the precision where nothing was called.
    """
    called_N = scores_N > 0.5 if called_N is None else called_N
    outcomes_N = 2 * (labels_N == 1) + called_N
    counts_4 = np.bincount(outcomes_N, minlength=4)
    true_other, false_viral, missed, true_viral = counts_4.tolist()
    figures = {name: float(value[0]) for name, value in rates(counts_4[None].astype(np.float64)).items()}
    # Scores are no numbers where training diverges; the loss is refused for it, with the step it happened in.
    figures["roc_auc"] = float("nan") if np.isnan(scores_N).any() else roc_auc(labels_N, scores_N)
    names = ("accuracy", "precision", "recall", "f1", "roc_auc")
    return {
        "n": len(labels_N),
        **{name: None if np.isnan(figures[name]) else figures[name] for name in names},
        "true_viral": true_viral,
        "false_viral": false_viral,
        "true_other": true_other,
        "missed_viral": missed,
    }


def chunk_consensus(
    scores_F: npt.NDArray[np.float64], chunk_F: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Scores of chunks from those of their frames: max P(virus) / (max P(virus) + max P(others)), as `predict` does it.

    Args:
        scores_F: P(virus) of every frame.
        chunk_F: the frames' chunks, in rising order.

    Returns:
        a score for every chunk that has a frame, and each one's first frame.
    """
    chunks = consensus.chunk_consensus(chunk_F, np.stack([1 - scores_F, scores_F], axis=1))
    return chunks.score, np.searchsorted(chunk_F, chunks.chunk)
