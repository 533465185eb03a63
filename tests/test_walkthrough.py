"""The walk-through in the documentation, command by command, at toy size."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from page_support import commands

from seqassay.cli.main import build_app

PAGE = "walkthrough.md"
SMALL = ["--steps", "2", "--finish-steps", "1", "--threads", "1"]
CODONS = {
    "viruses": ("ATG", "GAT", "AAA", "TTT", "GTT", "CAT", "AAT", "ATT", "ACA", "GAA"),
    "hosts": ("GCC", "CGC", "GGC", "CTG", "GAG", "CCG", "ACC", "GAC", "AAG", "CAG"),
}


def test_raw_fasta_to_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    for name, codons in CODONS.items():
        records = ["".join(rng.choice(np.array(codons), 200)) for _ in range(1500)]
        (tmp_path / f"{name}.fa").write_text("".join(f">{name}{i}\n{bases}\n" for i, bases in enumerate(records)))
    (tmp_path / "reads.fa").write_text("".join(f">r{i}\n{''.join(rng.choice(list('ACGT'), 150))}\n" for i in range(20)))
    monkeypatch.chdir(tmp_path)

    for command in commands(PAGE):
        program, *arguments = command.words
        assert program == "seqassay"
        small = SMALL if arguments[:2] == ["train", "encoders"] else []
        build_app()([*arguments, *small], standalone_mode=False)

    with (tmp_path / "calls" / "sequences.tsv").open(newline="") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    assert [row["sequence_id"] for row in rows] == [f"r{i}" for i in range(20)]
    assert all(row["score"] and row["call"] and row["q_value"] for row in rows)
    assert "Viral" in (tmp_path / "evaluation" / "reports" / "validation_report.md").read_text()
