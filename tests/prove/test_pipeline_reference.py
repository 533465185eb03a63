"""The statement of the reference procedure that the benchmark times is the procedure that the golden tests trust."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from Bio.Seq import Seq

pytest.importorskip("transformers")
from reference_models import PlainDnabert, random_dnabert_state
from seqassay.prove.pipeline.reference_dnabert import UnpaddingDnabert
from seqassay.prove.pipeline.reference_procedure import split_file, write_chunks, write_frames


@pytest.mark.parametrize("n_heads", [2, 3])
def test_unpadding_and_padding_again_changes_nothing(n_heads: int) -> None:
    state = random_dnabert_state(vocab_size=50, d_model=24, n_layers=2, d_ff=40)
    ids = torch.randint(50, (3, 17), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        hidden, _ = UnpaddingDnabert(state, n_heads=n_heads)(ids)
    plain = PlainDnabert(state, n_heads=n_heads)
    for row, expected in zip(ids.tolist(), hidden, strict=True):
        torch.testing.assert_close(plain.hidden(row), expected, atol=1e-5, rtol=1e-5)


def test_frames_are_those_of_biopython(tmp_path: Path) -> None:
    bases = "ATGGCCATTGTAATGGGCCGCTGAAAGGGTGCCCGATAG"
    (tmp_path / "in.fa").write_text(f">a\n{bases}\n>b\n{bases[:20].lower()}\n")
    write_chunks(tmp_path / "in.fa", tmp_path / "chunks.fa", 300)
    write_frames(tmp_path / "chunks.fa", tmp_path / "n.fa", tmp_path / "p.faa")
    found = (tmp_path / "p.faa").read_text().split()
    frames = dict(zip(found[::2], found[1::2], strict=True))
    expected = {}
    for name, sequence in (("a", bases), ("b", bases[:20])):
        for strand, strand_bases in (("F", sequence), ("R", str(Seq(sequence).reverse_complement()))):
            for offset in range(3):
                codons = strand_bases[offset : len(strand_bases) - (len(strand_bases) - offset) % 3]
                residues = str(Seq(codons).translate())
                if "*" not in residues:
                    expected[f">{name}_chunk_1{strand}{offset + 1}"] = residues
    assert frames == expected
    assert (tmp_path / "n.fa").read_text().count(">") == len(expected) > 3


def test_split_files_hold_every_sequence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seqassay.prove.pipeline.reference_procedure.SEQUENCES_PER_FILE", 2)
    fasta = tmp_path / "x.fa"
    fasta.write_text("".join(f">s{i}\nACGT\n" for i in range(5)))
    parts = split_file(fasta)
    assert "".join(part.read_text() for part in parts) == fasta.read_text()
    assert len(parts) == 3
