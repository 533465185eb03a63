"""Labelled records whose classes differ in codon usage: viral ones are made of other codons than the rest."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from seqassay.train import thresholds
from seqassay.train.dataset import LabelledRecords, read_labelled

VIRAL_CODONS = ("ATG", "GAT", "AAA", "TTT", "GTT", "CAT", "AAT")
OTHER_CODONS = ("GCC", "CGC", "GGC", "CTG", "GAG", "CCG", "ACC")


def write_records(path: Path, *, n_per_group: int, bases: int, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    lines = []
    for group, label, codons in (
        ("virus", "viral", VIRAL_CODONS),
        ("phage", "viral", VIRAL_CODONS),
        ("bacteria", "other", OTHER_CODONS),
        ("human", "other", OTHER_CODONS),
    ):
        for i in range(n_per_group):
            sequence = "".join(rng.choice(np.array(codons), bases // 3))
            header = f'{path.name[:5]}_{group}_{i} label={label} group={group} taxon="{group} taxon {i}" family=""'
            lines.append(f">{header}\n{sequence}\n")
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(lines)
    return path


@pytest.fixture(scope="session")
def records_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``train.fa.gz`` and ``valid.fa.gz``, of other sequences."""
    folder = tmp_path_factory.mktemp("records")
    write_records(folder / "train.fa.gz", n_per_group=8, bases=900, seed=1)
    write_records(folder / "valid.fa.gz", n_per_group=60, bases=300, seed=2)
    return folder


@pytest.fixture(scope="session")
def records(records_folder: Path) -> tuple[LabelledRecords, LabelledRecords]:
    """Training and validation records."""
    return read_labelled(records_folder / "train.fa.gz"), read_labelled(records_folder / "valid.fa.gz")


@pytest.fixture(autouse=True)
def few_made_up_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thresholds are fitted to 20 made-up sequences of a kind: scoring 700 takes longer than all else here."""
    monkeypatch.setattr(thresholds, "N_OF_A_KIND", 20)
