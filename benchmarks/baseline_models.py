"""Three plain classifiers of fragments of one length, to measure `mini` against: what they read, and how they score.

- 6-mer logistic regression on strand-merged counts.
- Gradient-boosted trees on strand-merged counts of two k-mer lengths.
- A convolutional network after DeepVirFinder (`baseline_cnn.py`).

`train_baselines.py` trains them and writes one file for each and every length; `load_baseline` reads one. The files
hold arrays and JSON text alone (``.npz``, read with pickles refused): scikit-learn and its trees are needed to train,
not to score. Every fragment gets a score, a probability of being viral that is not calibrated.
"""

from __future__ import annotations

import io
import itertools
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from seqassay.durable import write_durably
from seqassay.sequences.ragged import Ragged
from seqassay.train.dataset import reverse_complement

BASELINES = ("6-mer logistic regression", "gradient-boosted k-mers", "convolutional network")
_FILES = dict(zip(BASELINES, ("logistic", "boosted", "cnn"), strict=True))
_BLOCK_BASES = 1_000_000  # fragments are counted in blocks of about so many bases


class Baseline(Protocol):
    """A trained baseline for fragments of exactly ``length`` bases.

    Attributes:
        settings: those that were chosen.
        trials: every setting that was tried, with its figure on the validation fragments (``valid``).
    """

    name: str
    length: int
    settings: dict[str, Any]
    trials: list[dict[str, Any]]

    def score(self, bases: Ragged) -> npt.NDArray[np.float64]:
        """One score in [0, 1] a fragment, higher for more viral; ValueError for fragments of another length."""
        ...


def load_baseline(name: str, length: int, folder: Path) -> Baseline:
    """The trained baseline ``name`` for fragments of ``length`` bases.

    Raises:
        FileNotFoundError: when it has not been trained; the message has the command that does.
        ValueError: when there is no baseline of that name.
    """
    path = baseline_path(name, length, folder)
    if not path.exists():
        command = ["python", "benchmarks/train_baselines.py", "--work", str(folder)]
        command += ["--only", name, "--length", str(length)]
        raise FileNotFoundError(f"no {name} for {length} bases at {path}; train it: {shlex.join(command)}")
    return StoredBaseline.read(path)


def baseline_path(name: str, length: int, folder: Path) -> Path:
    """The file of a trained baseline."""
    if name not in _FILES:
        raise ValueError(f"no baseline {name!r}; there are: {', '.join(BASELINES)}")
    return folder / f"{_FILES[name]}_{length}bp.npz"


@dataclass
class StoredBaseline:
    """What all baselines share: settings, trials and named arrays, and their file."""

    name: ClassVar[str]
    length: int
    settings: dict[str, Any]
    arrays: dict[str, npt.NDArray[Any]]
    trials: list[dict[str, Any]] = field(default_factory=list)

    def score(self, bases: Ragged) -> npt.NDArray[np.float64]:
        """As `Baseline.score`, in blocks of bounded memory."""
        check_length(bases, self.length)
        scores = [self._score_block(table) for table in blocks(bases, self.length)]
        return np.concatenate(scores) if scores else np.empty(0)

    def _score_block(self, table_NL: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        raise NotImplementedError

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        said = {"name": self.name, "length": self.length, "settings": self.settings, "trials": self.trials}
        buffer = io.BytesIO()
        np.savez(buffer, said=json.dumps(said), **self.arrays)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, [buffer.getvalue()])

    @staticmethod
    def read(path: Path) -> StoredBaseline:
        """A baseline of any kind from its file."""
        with np.load(path, allow_pickle=False) as file:
            said = json.loads(str(file["said"]))
            arrays = {name: file[name] for name in file.files if name != "said"}
        return kind_of(said["name"])(said["length"], said["settings"], arrays, said["trials"])


def kind_of(name: str) -> type[StoredBaseline]:
    """The class of a baseline by its name."""
    if name == BASELINES[2]:
        from baseline_cnn import ConvolutionalNetwork  # it imports this module

        return ConvolutionalNetwork
    return {kind.name: kind for kind in (LogisticKmers, BoostedKmers)}[name]


class LogisticKmers(StoredBaseline):
    """Probability of a logistic regression: ``features @ weights + bias`` are its log-odds."""

    name = BASELINES[0]

    def _score_block(self, table_NL: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        bases = Ragged(table_NL.reshape(-1), np.arange(len(table_NL) + 1, dtype=np.int64) * self.length)
        x = kmer_features(bases, self.length, (self.settings["k"],), self.settings["counts"])
        return sigmoid((x @ self.arrays["weights"]).astype(np.float64) + float(self.arrays["bias"]))


class BoostedKmers(StoredBaseline):
    """Probability of boosted trees, kept as flat arrays over the nodes of all trees.

    ``feature``, ``threshold``, ``left``, ``right`` and ``value`` have a row a node; ``root`` has a node a tree. A leaf
    is its own left and right child, so that all trees can be walked together to the depth of the deepest.
    """

    name = BASELINES[1]

    def _score_block(self, table_NL: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        bases = Ragged(table_NL.reshape(-1), np.arange(len(table_NL) + 1, dtype=np.int64) * self.length)
        x = kmer_features(bases, self.length, tuple(self.settings["k"]), "count")
        return sigmoid(np.concatenate([self.log_odds(x[i : i + 512]) for i in range(0, len(x), 512)]))

    def log_odds(self, x_NC: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Sum of the leaves that every row of features reaches, float64[n]."""
        tree = self.arrays
        rows = np.arange(len(x_NC))[:, None]
        node_NT = np.broadcast_to(tree["root"], (len(x_NC), len(tree["root"])))
        for _ in range(int(tree["depth"])):
            goes_left = x_NC[rows, tree["feature"][node_NT]] <= tree["threshold"][node_NT]
            node_NT = np.where(goes_left, tree["left"][node_NT], tree["right"][node_NT])
        return tree["value"][node_NT].sum(axis=1) + float(tree["bias"])


def check_length(bases: Ragged, length: int) -> None:
    """Refuse fragments of any other length."""
    wrong = np.flatnonzero(bases.lengths != length)
    if len(wrong):
        raise ValueError(
            f"this baseline scores fragments of {length} bases; fragment {wrong[0]} has {bases.lengths[wrong[0]]}"
        )


def blocks(bases: Ragged, length: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Fragments of one length as tables ``uint8[n, length]`` of about a million bases each."""
    table = bases.values.reshape(-1, length)
    per_block = max(1, _BLOCK_BASES // length)
    return (table[i : i + per_block] for i in range(0, len(table), per_block))


def canonical_index(k: int) -> npt.NDArray[np.int32]:
    """For every k-mer (as a number in base four, A C G T) the number of its strand-merged feature, from 0 on.

    A k-mer and its reverse complement share a feature: (4^k + 4^(k/2)) / 2 features for even k, 4^k / 2 for odd.
    """
    words = np.array(list(itertools.product(b"ACGT", repeat=k)), np.uint8)
    digit = np.zeros(256, np.int64)
    digit[list(b"ACGT")] = np.arange(4)
    partner = digit[reverse_complement(words)] @ 4 ** np.arange(k)[::-1]
    _, index = np.unique(np.minimum(np.arange(4**k), partner), return_inverse=True)
    return index.astype(np.int32)


def kmer_counts(bases: Ragged, length: int, k: int) -> npt.NDArray[np.float32]:
    """Strand-merged counts ``float32[n, features]`` of the k-mers of fragments of one length.

    A k-mer with an ambiguous base is not counted. Work space beside the result is bounded by the block.
    """
    return kmer_features(bases, length, (k,), "count")


def kmer_features(bases: Ragged, length: int, ks: tuple[int, ...], how: str) -> npt.NDArray[np.float32]:
    """Strand-merged features of several k-mer lengths side by side, made in place.

    Args:
        how: ``count``; ``square root`` of it; or ``frequency``: the share of the fragment's counted k-mers, times the
            k-mers of a fragment without ambiguous bases, so that all three have one scale.
    """
    indices = [canonical_index(k) for k in ks]
    bounds = np.cumsum([0, *(int(index.max()) + 1 for index in indices)])
    features = np.empty((len(bases), bounds[-1]), np.float32)
    n_done = 0
    for table in blocks(bases, length):
        part = features[n_done : n_done + len(table)]
        for k, index, first, end in zip(ks, indices, bounds[:-1], bounds[1:], strict=True):
            part[:, first:end] = scaled(count_block(table, k, index), how, length - k + 1)
        n_done += len(table)
    return features


def count_block(table_NL: npt.NDArray[np.uint8], k: int, feature: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    """Counts of one block of fragments; ``feature`` is `canonical_index` of ``k``."""
    code = np.full(256, -(4**k), np.int64)  # one such base makes the number of a k-mer negative
    code[list(b"ACGT")] = np.arange(4)
    digits = code[table_NL]
    words = np.zeros((len(table_NL), table_NL.shape[1] - k + 1), np.int64)
    for j in range(k):
        words = words * 4 + digits[:, j : j + words.shape[1]]
    rows, columns = np.nonzero(words >= 0)
    n_features = int(feature.max()) + 1
    flat = rows * n_features + feature[words[rows, columns]]
    return np.bincount(flat, minlength=len(table_NL) * n_features).reshape(-1, n_features).astype(np.float32)


def scaled(counts: npt.NDArray[np.float32], how: str, n_kmers: int) -> npt.NDArray[np.float32]:
    """Counts as features; see `kmer_features`."""
    if how == "square root":
        return np.sqrt(counts)
    if how == "frequency":
        return counts * (n_kmers / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    if how != "count":
        raise ValueError(f"no such k-mer feature: {how!r}")
    return counts


def sigmoid(log_odds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Probabilities of log-odds, without overflow."""
    return np.exp(-np.logaddexp(0.0, -log_odds))
