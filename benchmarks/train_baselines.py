"""Train the baselines that `mini` is measured against, one of each kind for every length.

    python benchmarks/train_baselines.py --data ../shared/data/genomes --work build/baselines

Chunks of train.fa.gz are drawn by the sampler that `mini` is trained with, on random strands; of every setting tried
the one with the best figure on fragments of valid.fa.gz is kept, by the figure that chooses `mini`'s weights (mean of
the ROC-AUC and the group-balanced one). test.fa.gz is not read.

What is finished is kept, unless another number of chunks is asked for; a run that was stopped goes on with the next
setting. record.json in the work folder lists settings, trials and times. With one thread, the default, a machine
trains the same bits every time. scikit-learn must be 1.7 or newer (validation sets for boosting).
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import sklearn
import torch
from scipy.sparse import csr_matrix
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from baseline_cnn import CHUNKS, TRIALS, train_network
from baseline_models import (
    BASELINES,
    StoredBaseline,
    baseline_path,
    kind_of,
    kmer_features,
)
from seqassay.durable import write_durably
from seqassay.evaluate.classification import roc_auc
from seqassay.measure.provenance import provenance
from seqassay.sequences.ragged import Ragged
from seqassay.train.dataset import (
    ChunkSampler,
    LabelledChunks,
    LabelledRecords,
    evaluation_chunks,
    read_labelled,
    reverse_complement,
)
from seqassay.train.encoders import MINI_GROUP_WEIGHTS
from seqassay.train.scoring import group_balanced_auc

LENGTHS = (150, 300, 500, 1000)
SEED = 2026
TRAIN_CHUNKS = 60_000  # for the k-mer baselines, at every length

LOGISTIC_K = 6
REGULARISATION = (3e-5, 1e-4, 3e-4, 1e-3)  # scikit-learn's C: smaller is stronger
SPARSE_UP_TO_BASES = 300  # up to here under 14% of the 6-mer counts are not zero

# The second has 3.4 times the features: a higher rate needs fewer trees.
BOOSTED_TRIALS: tuple[dict[str, Any], ...] = (
    {"k": [4, 5], "learning_rate": 0.15, "max_trees": 250},
    {"k": [4, 6], "learning_rate": 0.2, "max_trees": 120},
)
BOOSTED_FIXED: dict[str, Any] = {"max_bins": 64, "max_leaf_nodes": 31, "min_samples_leaf": 20, "l2_regularization": 1.0}
PATIENCE_TREES = 15
HELD_OUT_RECORDS = 0.1  # of the training records: their chunks stop the boosting

# A trial: its settings, what training came to besides, and the arrays of the baseline.
Trial = tuple[dict[str, Any], dict[str, Any], dict[str, npt.NDArray[Any]]]


class Data:
    """Training chunks and validation fragments of any length."""

    def __init__(self, train: LabelledRecords, valid: LabelledRecords) -> None:
        self.sampler, self.valid = ChunkSampler(train, MINI_GROUP_WEIGHTS), valid
        self._chosen_on: dict[int, LabelledChunks] = {}

    def drawn(self, n: int, length: int) -> LabelledChunks:
        """``n`` training chunks on random strands, the same at every call."""
        drawn = self.sampler.draw(n, length, np.random.default_rng([SEED, length]))
        flip = np.random.default_rng([SEED, length, 1]).random(n) < 0.5
        table = drawn.bases.values.reshape(n, length)
        table[flip] = reverse_complement(table[flip])
        return drawn

    def chosen_on(self, length: int) -> LabelledChunks:
        """The validation fragments."""
        if length not in self._chosen_on:
            self._chosen_on[length] = evaluation_chunks(self.valid, length, seed=SEED)
        return self._chosen_on[length]

    def figures(self, scores: npt.NDArray[np.float64], length: int) -> dict[str, float]:
        """The figure that chooses, and the two it is the mean of."""
        chunks = self.chosen_on(length)
        plain = roc_auc(chunks.labels, scores)
        balanced = group_balanced_auc(chunks.labels, scores, self.valid.groups[chunks.record], MINI_GROUP_WEIGHTS)
        return {
            "valid": round((plain + balanced) / 2, 4),
            "valid_roc_auc": round(plain, 4),
            "valid_group_balanced_roc_auc": round(balanced, 4),
        }


@dataclass(frozen=True)
class Plan:
    """What a baseline is trained on: a file that was made by another plan is not kept."""

    name: str
    length: int
    chunks: int

    def settings(self) -> list[dict[str, Any]]:
        """All settings to try, in order."""
        if self.name == BASELINES[0]:
            kinds = ("square root", "frequency")
            tried = [{"k": LOGISTIC_K, "counts": kind, "regularisation": c} for kind in kinds for c in REGULARISATION]
        elif self.name == BASELINES[1]:
            tried = [{**trial, **BOOSTED_FIXED} for trial in BOOSTED_TRIALS]
        else:
            tried = [dict(trial) for trial in TRIALS]
        return [{**settings, "train_chunks": self.chunks} for settings in tried]

    def train(self, data: Data, settings: list[dict[str, Any]], report: Callable[[str], None]) -> Iterator[Trial]:
        """Train with each of the settings."""
        if self.name == BASELINES[0]:
            return logistic_trials(data, self, settings)
        if self.name == BASELINES[1]:
            return boosted_trials(data, self, settings)
        return network_trials(data, self, settings, report)


def logistic_trials(data: Data, plan: Plan, settings: list[dict[str, Any]]) -> Iterator[Trial]:
    """Logistic regressions; features are made once for settings in a row that share them."""
    drawn = data.drawn(plan.chunks, plan.length)
    x, made = None, None
    for tried in settings:
        if made != tried["counts"]:
            x = None  # before the next are made: half a gigabyte at 60,000 chunks
            x, made = logistic_features(drawn.bases, plan.length, tried["counts"]), tried["counts"]
        model = LogisticRegression(C=tried["regularisation"], max_iter=500).fit(x, drawn.labels)
        arrays = {"weights": model.coef_[0].astype(np.float32), "bias": model.intercept_.astype(np.float64)[0]}
        yield tried, {"iterations": int(model.n_iter_[0])}, arrays


def logistic_features(bases: Ragged, length: int, how: str) -> npt.NDArray[np.float32] | csr_matrix:
    """Features as a table, or for short fragments in sparse rows: the same numbers in a quarter of the time."""
    x = kmer_features(bases, length, (LOGISTIC_K,), how)
    return csr_matrix(x) if length <= SPARSE_UP_TO_BASES else x


def boosted_trials(data: Data, plan: Plan, settings: list[dict[str, Any]]) -> Iterator[Trial]:
    """Boosted trees, stopped by the chunks of training records that no tree saw."""
    drawn = data.drawn(plan.chunks, plan.length)
    records = np.unique(drawn.record)
    of_them = np.random.default_rng([SEED, plan.length, 2]).random(len(records)) < HELD_OUT_RECORDS
    held_out = np.isin(drawn.record, records[of_them])
    n_train = int((~held_out).sum())
    drawn = drawn.take(np.argsort(held_out, kind="stable"))  # so that both parts are views of one table
    for tried in settings:
        x = kmer_features(drawn.bases, plan.length, tuple(tried["k"]), "count")
        model = HistGradientBoostingClassifier(
            learning_rate=tried["learning_rate"],
            max_iter=tried["max_trees"],
            early_stopping=True,
            n_iter_no_change=PATIENCE_TREES,
            random_state=SEED,
            **BOOSTED_FIXED,
        )
        model.fit(x[:n_train], drawn.labels[:n_train], X_val=x[n_train:], y_val=drawn.labels[n_train:])
        n_trees = max(1, int(np.argmax(model.validation_score_)))  # score i is that of i trees
        said = {"trees": n_trees, "trees_grown": int(model.n_iter_), "held_out_chunks": len(drawn) - n_train}
        yield tried, said, tree_arrays(model, n_trees)


def tree_arrays(model: HistGradientBoostingClassifier, n_trees: int) -> dict[str, npt.NDArray[Any]]:
    """The first trees of a model as arrays (see `BoostedKmers`), from what scikit-learn keeps private."""
    trees = [predictor.nodes for (predictor,) in model._predictors[:n_trees]]
    roots = np.concatenate([[0], np.cumsum([len(nodes) for nodes in trees])])
    nodes = np.concatenate(trees)
    offset = np.repeat(roots[:-1], [len(tree) for tree in trees])
    own = np.arange(len(nodes))
    is_leaf = nodes["is_leaf"].astype(bool)
    return {
        "root": roots[:-1].astype(np.int32),
        "feature": np.where(is_leaf, 0, nodes["feature_idx"]).astype(np.int32),
        "threshold": np.where(is_leaf, 0.0, nodes["num_threshold"]),
        "left": np.where(is_leaf, own, nodes["left"] + offset).astype(np.int32),
        "right": np.where(is_leaf, own, nodes["right"] + offset).astype(np.int32),
        "value": np.where(is_leaf, nodes["value"], 0.0),
        "depth": np.array(int(nodes["depth"].max())),
        "bias": np.array(float(np.ravel(model._baseline_prediction)[0])),
    }


def network_trials(
    data: Data, plan: Plan, settings: list[dict[str, Any]], report: Callable[[str], None]
) -> Iterator[Trial]:
    """Convolutional networks."""
    for tried in settings:
        said, arrays = train_network(
            {key: value for key, value in tried.items() if key != "train_chunks"},
            data.sampler,
            plan.length,
            n_chunks=plan.chunks,
            seed=SEED,
            valid=data.chosen_on(plan.length).bases,
            figure=lambda scores: data.figures(scores, plan.length)["valid"],
            report=report,
        )
        yield tried, said, arrays


def train_or_keep(plan: Plan, data: Data, folder: Path, report: Callable[[str], None]) -> StoredBaseline:
    """The best of the plan's settings: read back where it is finished, else trained from where it was stopped.

    Raises:
        ValueError: when a setting gives no figure (validation fragments of one label only).
    """
    path = baseline_path(plan.name, plan.length, folder)
    trying = path.with_suffix(".trying.npz")
    planned = plan.settings()
    for kept in (path, trying):
        if kept.exists() and (best := StoredBaseline.read(kept)).settings in planned:
            break
    else:
        best = None
    trials = best.trials if best else []
    left = [settings for settings in planned if not any(settings.items() <= trial.items() for trial in trials)]
    if best and not left:
        report(f"kept, valid {max(trial['valid'] for trial in trials)}")
        return finish(best, path, trying)
    started = time.monotonic()
    for settings, said, arrays in plan.train(data, left, report):
        baseline = kind_of(plan.name)(plan.length, settings, arrays)
        figures = data.figures(baseline.score(data.chosen_on(plan.length).bases), plan.length)
        if np.isnan(figures["valid"]):
            raise ValueError(f"no validation figure at {plan.length} bases: fragments of both labels are needed")
        seconds, started = time.monotonic() - started, time.monotonic()
        trials = [*trials, {**settings, **said, **figures, "seconds": round(seconds, 1)}]
        report(json.dumps(trials[-1]))
        if best is None or figures["valid"] > max(trial["valid"] for trial in trials[:-1]):
            best = baseline
        best.trials = trials
        best.write(trying)
    if best is None:
        raise ValueError("nothing to train")
    return finish(best, path, trying)


def finish(best: StoredBaseline, path: Path, trying: Path) -> StoredBaseline:
    """Put the best under its name, when all settings have been tried."""
    if trying.exists():
        best.write(path)
        trying.unlink()
    return best


def write_record(folder: Path) -> Path:
    """Settings and trials of all finished baselines in the folder, and what they were trained with."""
    finished = []
    for name in BASELINES:
        for length in LENGTHS:
            path = baseline_path(name, length, folder)
            if path.exists():
                kept = StoredBaseline.read(path)
                finished.append({"name": name, "length": length, "settings": kept.settings, "trials": kept.trials})
    said = {"kind": "baselines", "seed": SEED, "scikit_learn": sklearn.__version__, "provenance": provenance()}
    record = {**said, "baselines": finished}
    path = folder / "record.json"
    write_durably(path, [(json.dumps(record, indent=1) + "\n").encode()])
    return path


def plans(names: Iterable[str], lengths: Iterable[int], train_chunks: int, network_chunks: int | None) -> list[Plan]:
    """All baselines to train, in order."""
    return [
        Plan(name, length, (network_chunks or CHUNKS[length]) if name == BASELINES[2] else train_chunks)
        for name in names
        for length in lengths
    ]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("SEQASSAY_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=shared / "genomes", help="default: $SEQASSAY_DATA/genomes")
    parser.add_argument("--work", type=Path, default=Path("build/baselines"))
    parser.add_argument("--only", choices=BASELINES, help="default: all")
    parser.add_argument("--length", type=int, choices=LENGTHS, help="default: all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--train-chunks", type=int, default=TRAIN_CHUNKS, help="for the k-mer baselines, a length")
    parser.add_argument("--network-chunks", type=int, help="for the network (default: by length)")
    options = parser.parse_args(arguments)
    if not options.data.is_dir():
        print(f"skipped: the labelled genomes are not here (no {options.data}; set SEQASSAY_DATA)")
        return
    torch.set_num_threads(options.threads)
    data = Data(read_labelled(options.data / "train.fa.gz"), read_labelled(options.data / "valid.fa.gz"))
    names = (options.only,) if options.only else (BASELINES[0], BASELINES[2], BASELINES[1])  # cheapest first
    lengths = (options.length,) if options.length else LENGTHS
    started = time.monotonic()
    with threadpool_limits(options.threads):
        for plan in plans(names, lengths, options.train_chunks, options.network_chunks):

            def report(line: str, plan: Plan = plan) -> None:
                print(f"[{time.monotonic() - started:6.0f} s] {plan.name}, {plan.length} bases: {line}", flush=True)

            train_or_keep(plan, data, options.work, report)
            write_record(options.work)
    print(f"wrote {options.work / 'record.json'}")


if __name__ == "__main__":
    main()
