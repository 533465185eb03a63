"""Figures of a binary classifier on a labelled set: what every epoch is logged with.

Shape letters: F frames, N examples (frames or chunks).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from seqassay.train.scoring import roc_auc


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
    is_viral_N = labels_N == 1
    true_viral, called, viral = int((called_N & is_viral_N).sum()), int(called_N.sum()), int(is_viral_N.sum())
    n = len(labels_N)
    false_viral, missed = called - true_viral, viral - true_viral
    auc = roc_auc(labels_N, scores_N)
    return {
        "n": n,
        "accuracy": _share(n - false_viral - missed, n),
        "precision": _share(true_viral, called),
        "recall": _share(true_viral, viral),
        "f1": _share(2 * true_viral, called + viral),
        "roc_auc": None if np.isnan(auc) else auc,
        "true_viral": true_viral,
        "false_viral": false_viral,
        "true_other": n - viral - false_viral,
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
    first_N = np.flatnonzero(np.diff(chunk_F, prepend=chunk_F[0] - 1))
    virus_N, others_N = np.maximum.reduceat(scores_F, first_N), np.maximum.reduceat(1 - scores_F, first_N)
    return virus_N / (virus_N + others_N), first_N


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
