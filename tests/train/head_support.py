"""Made-up features, written as `train features` writes them, and the settings of a short training on them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seqassay.train.feature_files import COUNTS, FeatureShard, FeatureWriter, RecordRow

IDENTITY: dict[str, Any] = {
    "input_sha256": "0" * 64,
    "seqassay": "0",
    "nucleotide": {"digest": "a" * 64, "d_model": 5, "pooling": "mean"},
    "protein": {"digest": "b" * 64, "d_model": 7, "pooling": "mean"},
    "merged_dim": 12,
    "chunk_length": 300,
    "chunk_rule": "even",
    "genetic_code": 1,
    "ambiguity": "drop",
    "precision": "float32",
    "device": "cpu",
    "token_budgets": [1, 1],
    "dtype": "float32",
    "shard_size": 10,
}


def write_features(
    folder: Path,
    *,
    split: str = "train",
    n_records: int = 60,
    seed: int = 0,
    shard_records: int = 17,
    prefix: str | None = None,
    label: int | None = None,
    identity: Mapping[str, Any] | None = None,
    noise: float = 1.0,
    bad_value: float | None = None,
) -> Path:
    """Features of records with one to three frames each; the classes are two overlapping clouds.

    Args:
        prefix: of the records' names and taxa; the split by default.
        label: of all records; alternating when None.
        bad_value: put into one frame of the second shard.
    """
    rng = np.random.default_rng(seed)
    identity = {**IDENTITY, **(identity or {})}
    width = identity["merged_dim"]
    description = {
        "split": split,
        "identity": identity,
        "encoders": {kind: {"name": f"tiny-{kind}", "path": f"/none/{kind}"} for kind in ("nucleotide", "protein")},
        "bundle": None,
        "input": {"path": f"{split}.fa", "bytes": 1, "records": n_records},
    }
    folder.mkdir(parents=True)
    writer = FeatureWriter(folder, description)
    writer.begin()
    name = prefix or split
    for index, first in enumerate(range(0, n_records, shard_records)):
        records = np.arange(first, min(first + shard_records, n_records))
        labels = records % 2 if label is None else np.full(len(records), label)
        record_F = np.repeat(records, rng.integers(1, 4, len(records)))
        labels_F = labels[record_F - first].astype(np.int64)
        merged = rng.normal(size=(len(record_F), width)) * noise * np.linspace(0.1, 20, width) + 3
        merged[:, 0] += 0.15 * (2 * labels_F - 1)
        if bad_value is not None and index == 1:
            merged[0, 0] = bad_value
        counts = {**dict.fromkeys(COUNTS, 0), "records": len(records), "frames": len(record_F), "chunks": len(records)}
        writer.commit(
            FeatureShard(
                index=index,
                merged_FD=torch.from_numpy(merged.astype(np.float32)),
                labels_F=labels_F,
                record_F=record_F,
                chunk_F=record_F.copy(),
                frame_F=np.zeros(len(record_F), np.uint8),
                table=[
                    RecordRow(f"{name}{i}", f"{name}{i // 2}", "g", f"{name} taxon {i // 4}", int(labels[i - first]))
                    for i in records.tolist()
                ],
                counts=counts,
            )
        )
    writer.finish({})
    return folder
