"""Is `mini` ahead of the best baseline in every group? The difference of ROC-AUC by group, with its interval.

    python benchmarks/mini_groups.py --data ../shared/data/genomes --baselines build/baselines

The fragments are those of `mini_accuracy.py`; each group stands against all fragments of the other label, and the best
baseline is the one with the highest ROC-AUC on it. Intervals: 95%, bootstrap over records of both sides, paired.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from _mini_figures import FEWEST_OF_A_GROUP, ScoredFragments
from mini_accuracy import BASELINE_LENGTHS, SEED, MainPath, Split, baselines_at, read_splits, scored_fragments, to_text
from seqassay import __version__
from seqassay.durable import write_durably
from seqassay.evaluate.classification import roc_auc
from seqassay.measure.provenance import provenance, utc_now
from seqassay.models.bundle import load_bundle

IntArray = npt.NDArray[np.int64]


def by_group(f: ScoredFragments, n_samples: int) -> dict[str, dict[str, Any]]:
    """The difference to the best baseline in every group of enough fragments."""
    scored, scores = np.flatnonzero(~np.isnan(f.score)), {"mini": f.score, **f.baselines}
    found = {}
    for group in np.unique(f.groups[scored]).tolist():
        inside = scored[f.groups[scored] == group]
        if len(inside) < FEWEST_OF_A_GROUP:
            continue
        others = scored[f.labels[scored] != f.labels[inside[0]]]
        rows = np.concatenate([inside, others])
        values = {name: roc_auc(f.labels[rows], its[rows]) for name, its in scores.items()}
        best = max((name for name in values if name != "mini"), key=lambda name: values[name])
        rng = np.random.default_rng(SEED)
        differences = []
        for _ in range(n_samples):
            drawn = np.concatenate([resampled(inside, f.record, rng), resampled(others, f.record, rng)])
            ours, theirs = (roc_auc(f.labels[drawn], scores[name][drawn]) for name in ("mini", best))
            differences.append(ours - theirs)
        low, high = np.percentile(differences, [2.5, 97.5]).round(5).tolist()
        found[group] = {
            "n": len(inside),
            "records": len(np.unique(f.record[inside])),
            "roc_auc": {name: round(value, 5) for name, value in values.items()},
            "best_baseline": best,
            "difference": round(values["mini"] - values[best], 5),
            "difference_interval": [low, high],
        }
    return found


def resampled(rows: IntArray, record: IntArray, rng: np.random.Generator) -> IntArray:
    """Rows of records drawn with replacement."""
    own = np.unique(record[rows], return_inverse=True)[1]
    parts = np.split(rows[np.argsort(own, kind="stable")], np.cumsum(np.bincount(own))[:-1])
    return np.concatenate([parts[i] for i in rng.integers(0, len(parts), len(parts)).tolist()])


def main() -> None:
    """Score, compare, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("SEQASSAY_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=shared / "genomes", help="default: $SEQASSAY_DATA/genomes")
    parser.add_argument("--baselines", type=Path, default=Path("build/baselines"), help="by train_baselines.py")
    parser.add_argument("--keep-scores", type=Path, metavar="FOLDER", help="as in mini_accuracy.py")
    parser.add_argument("--per-record", type=int, default=6, help="most fragments of a record")
    parser.add_argument("--n-bootstrap", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path(f"benchmarks/results/{__version__}/mini_groups.json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    split = Split.of(read_splits(options.data, "test")[0]["test"])
    model = MainPath(load_bundle("mini"), options.threads, options.keep_scores)
    by_length = {}
    for length in BASELINE_LENGTHS:
        missing: list[dict[str, Any]] = []
        baselines = baselines_at(length, options.baselines, missing)
        if missing:
            raise SystemExit("train the baselines first: benchmarks/train_baselines.py")
        fragments = scored_fragments(split, length, model, baselines, per_record=options.per_record, name="test")
        by_length[str(length)] = by_group(fragments, options.n_bootstrap)
        for group, its in by_length[str(length)].items():
            low, high = its["difference_interval"]
            print(f"{length} {group}: {its['difference']:+.3f} ({low:+.3f} to {high:+.3f})", flush=True)
    cells = [its for groups in by_length.values() for its in groups.values()]
    record = {
        "question": "is mini ahead of the best baseline in every group",
        "made": utc_now(),
        "bundle": model.bundle.digest,
        "n_bootstrap": options.n_bootstrap,
        "n_cells": len(cells),
        "n_above_zero": sum(its["difference_interval"][0] > 0 for its in cells),
        "by_length": by_length,
        "provenance": provenance(),
    }
    write_durably(options.output, [to_text(record).encode()])
    print(f"{record['n_above_zero']} of {record['n_cells']} intervals above zero; wrote {options.output}")


if __name__ == "__main__":
    main()
