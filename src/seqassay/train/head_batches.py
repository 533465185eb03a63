"""Batches of features for training and evaluation, and figures over a whole training set.

Shape letters: B frames of a batch, N frames of a set, D merged width, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seqassay.train.feature_files import FeatureSet
from seqassay.train.head_recipes import HeadRecipe

EVALUATION_FRAMES = 4096  # at a time: 55 MB at 3,328 values a frame

Batch = tuple[Tensor, Tensor]


class EpochBatches:
    """Shuffled batches of a feature set, a function of (seed, epoch); goes on from the middle of an epoch.

    The last batch is what is left; a single frame is added to the batch before, since batch norm needs two.
    The position is looked up when the first batch is asked for, not when the iterator is made.
    """

    def __init__(self, features: FeatureSet, recipe: HeadRecipe) -> None:
        self._features, self._recipe = features, recipe
        self._epoch = self._position = 0
        n, size = len(features), recipe.batch_size
        self._n_batches = max(1, n // size if n % size == 1 else math.ceil(n / size))

    def __len__(self) -> int:
        return self._n_batches

    def __iter__(self) -> Iterator[Batch]:
        if self._position >= self._n_batches:
            self._epoch, self._position = self._epoch + 1, 0
        order = np.random.default_rng([self._recipe.seed, self._epoch]).permutation(len(self._features))
        size = self._recipe.batch_size
        while self._position < self._n_batches:
            first = self._position * size
            last = len(order) if self._position == self._n_batches - 1 else first + size
            self._position += 1
            yield take(self._features, order[first:last])

    def state_dict(self) -> dict[str, int]:
        """Epoch, and batches of it that were given out."""
        return {"epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from there."""
        self._epoch, self._position = state["epoch"], state["position"]


class InOrder:
    """All frames of a feature set once, in file order."""

    def __init__(self, features: FeatureSet) -> None:
        self._features = features

    def __len__(self) -> int:
        return math.ceil(len(self._features) / EVALUATION_FRAMES)

    def __iter__(self) -> Iterator[Batch]:
        n = len(self._features)
        for first in range(0, n, EVALUATION_FRAMES):
            yield take(self._features, np.arange(first, min(first + EVALUATION_FRAMES, n)))


def take(features: FeatureSet, indices_B: npt.NDArray[np.int64]) -> Batch:
    """Embeddings ``[B, D]`` and labels ``[B]`` of these frames."""
    return features.rows(indices_B), features.labels_F[torch.from_numpy(indices_B)]


def class_weights(labels_N: Tensor) -> Tensor:
    """Weights of the two classes, so that each makes up half of the loss and the mean weight of a frame is 1."""
    counts_C = torch.bincount(labels_N, minlength=2).double()
    return (counts_C.sum() / (2 * counts_C)).float()


def mean_and_deviation(features: FeatureSet) -> tuple[Tensor, Tensor]:
    """Mean and deviation ``[D]`` of every dimension over all frames, in double precision; 1 where it is constant."""
    total = torch.zeros(features.merged_dim, dtype=torch.float64)
    for x_BD, _ in InOrder(features):
        total += x_BD.double().sum(0)
    mean_D = total / len(features)
    squares = torch.zeros_like(total)
    for x_BD, _ in InOrder(features):
        squares += (x_BD.double() - mean_D).square().sum(0)
    deviation_D = (squares / len(features)).sqrt()
    deviation_D[deviation_D < 1e-6 * mean_D.abs().clamp(min=1e-6)] = 1.0
    return mean_D.float(), deviation_D.float()
