"""What does each encoder of `mini` bring? Protein only, nucleotide only, both, on the same fragments.

    python benchmarks/mini_ablation.py --data ../shared/data/genomes --bundle mini --split test

The joint head is block-diagonal: its hidden units see one side each, so with one side's output weights set to zero it
is the other side's own head, as that was trained. Fragments of each length are scored along `predict`'s own path;
figures are ROC-AUC, plain and with groups at their training weights, with 95% intervals over records. Three
figures are of fragments with a stop-free frame (there each side has a say); two of all fragments.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from _mini_scores import scores_digest
from seqassay import __version__
from seqassay.evaluate.classification import roc_auc
from seqassay.measure.provenance import provenance, utc_now
from seqassay.models.bundle import Bundle, load_bundle
from seqassay.models.calibration import Evidence
from seqassay.models.weights import save_head
from seqassay.predict.scoring import SequenceScorer
from seqassay.train.calibrate import evidence_of_bases
from seqassay.train.dataset import LabelledChunks, LabelledRecords, evaluation_chunks, read_labelled
from seqassay.train.dataset_known import unknown_records
from seqassay.train.encoders import MINI_GROUP_WEIGHTS
from seqassay.train.scoring import group_balanced_auc

LENGTHS = (150, 300)  # bases
MOST_PER_RECORD = 3  # fragments: every one is scored by three models
SEED = 2026
N_BOOTSTRAP = 300


def one_sided(bundle: Bundle, side: str, folder: Path) -> Bundle:
    """The bundle with a joint head that listens to one side alone."""
    nucleotide_head, head = bundle.load_nucleotide_head(), bundle.load_head()
    if nucleotide_head is None:
        raise SystemExit(f"{bundle.name} has no nucleotide head: its joint head is not made of two")
    n_nucleotide = nucleotide_head.hidden_layer.out_features
    other = slice(n_nucleotide, None) if side == "nucleotide" else slice(0, n_nucleotide)
    with torch.no_grad():
        head.output_layer.weight[:, other] = 0
    copy = folder / side
    shutil.copytree(bundle.path, copy)
    save_head(head, copy / bundle.head_path.name)
    return replace(bundle, path=copy, head_path=copy / bundle.head_path.name)


def figures(records: LabelledRecords, chunks: LabelledChunks, scores: npt.NDArray[np.float64]) -> dict[str, Any]:
    """ROC-AUC of the fragments that have a score, with its interval over records."""
    known = ~np.isnan(scores)
    labels, groups, record = chunks.labels[known], records.groups[chunks.record[known]], chunks.record[known]
    rng = np.random.default_rng(SEED)
    unit = np.unique(record, return_inverse=True)[1]
    n_units = int(unit.max()) + 1
    samples = [
        roc_auc(labels, scores[known], np.bincount(rng.integers(0, n_units, n_units), minlength=n_units)[unit])
        for _ in range(N_BOOTSTRAP)
    ]
    return {
        "n_fragments": int(known.sum()),
        "roc_auc": round(roc_auc(labels, scores[known]), 4),
        "interval_over_records": [round(float(v), 4) for v in np.percentile(samples, [2.5, 97.5])],
        "group_balanced_roc_auc": round(group_balanced_auc(labels, scores[known], groups, MINI_GROUP_WEIGHTS), 4),
    }


def main() -> None:
    """Score, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("SEQASSAY_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=shared / "genomes")
    parser.add_argument("--bundle", default="mini")
    parser.add_argument("--split", default="test", choices=("test", "valid"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path(f"benchmarks/results/{__version__}/mini_ablation.json"))
    options = parser.parse_args()
    if not options.data.is_dir():
        print(f"skipped: the labelled genomes are not here (no {options.data}; set SEQASSAY_DATA)")
        return
    bundle = load_bundle(options.bundle)
    earlier = ("train",) if options.split == "valid" else ("train", "valid")
    found = unknown_records(
        read_labelled(options.data / f"{options.split}.fa.gz"),
        {name: read_labelled(options.data / f"{name}.fa.gz") for name in earlier},
    )
    records = found.records
    if bundle.calibration is None:
        raise SystemExit(f"{bundle.name} has no calibration")
    by_length: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        scorers = {
            "protein only": SequenceScorer(one_sided(bundle, "protein", Path(folder)), threads=options.threads),
            "nucleotide only": SequenceScorer(one_sided(bundle, "nucleotide", Path(folder)), threads=options.threads),
            "both": SequenceScorer(bundle, threads=options.threads),
        }
        for length in LENGTHS:
            chunks = evaluation_chunks(records, length, seed=SEED, max_per_record=MOST_PER_RECORD)
            evidence = {name: evidence_of_bases(scorer, chunks.bases) for name, scorer in scorers.items()}
            scores = {name: found.joint for name, found in evidence.items()}
            both: Evidence = evidence["both"]
            scores["nucleotide head, all fragments"] = both.nucleotide
            scores["calibrated score, all fragments"] = bundle.calibration.probability(both)
            by_length[str(length)] = {name: figures(records, chunks, found) for name, found in scores.items()}
            print(length, json.dumps(by_length[str(length)]), flush=True)
    record = {
        "kind": "mini_ablation", "time": utc_now(), "scores_digest": scores_digest(bundle), "split": options.split,
        "seed": SEED, "n_bootstrap": N_BOOTSTRAP, "by_length_bases": by_length, "provenance": provenance(),
    }  # fmt: skip
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
