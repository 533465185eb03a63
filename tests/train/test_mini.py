"""The bundle's builder at toy size: from labelled FASTA to a calibrated bundle that scores as the trained sides do."""

from pathlib import Path

import numpy as np
import pytest

from seqassay.models.bundle import load_bundle
from seqassay.predict.scoring import SequenceScorer, evidence_of
from seqassay.train import mini
from seqassay.train.dataset import LabelledChunks, read_labelled
from seqassay.train.encoder_bundle import nucleotide_tokenizer
from seqassay.train.encoders import read_best
from seqassay.train.scoring import score_chunks


def test_from_labelled_fasta_to_a_calibrated_bundle(records_folder: Path, tmp_path: Path) -> None:
    settings = ["--data", str(records_folder), "--work", str(tmp_path / "work"), "--steps", "3", "--seed", "3"]
    for part in mini.RECIPES:
        mini.main([part, *settings])
    bundle_settings = ["bundle", *settings, "--bundle", str(tmp_path / "bundle")]
    mini.main(bundle_settings)
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.chunk_length == 300
    assert bundle.calibration is not None
    assert bundle.calibration.lengths_K.tolist() == [100.0, 150.0, 250.0, 300.0]  # records have 300 bases

    assert bundle.thresholds.lengths == (150.0, 300.0)
    assert min(bundle.thresholds.framed + bundle.thresholds.unframed) >= 0.5

    # The bundle's evidence is what the two sides say of its frames.
    valid = read_labelled(records_folder / "valid.fa.gz")
    scored = SequenceScorer(bundle, threads=1).scored(valid.bases)
    evidence = evidence_of(scored)
    nucleotide = read_best(tmp_path / "work" / "nucleotide-finish", mini.MINI_NUCLEOTIDE_FINISH.encoder)
    chunks = LabelledChunks(np.arange(len(valid)), valid.labels, valid.bases)
    expected = score_chunks(nucleotide, chunks, nucleotide_tokenizer())
    np.testing.assert_allclose(evidence.nucleotide, expected, atol=1e-4)
    score = bundle.calibration.probability(evidence)
    assert ((score > 0) & (score < 1)).all()

    mini.main(bundle_settings)
    assert load_bundle(tmp_path / "bundle").digest == bundle.digest


def test_a_bundle_needs_a_place(records_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        mini.main(["bundle", "--data", str(records_folder), "--work", str(tmp_path)])


def test_the_shipped_bundle_is_whole_and_small() -> None:
    bundle = load_bundle("mini")
    size = sum(path.stat().st_size for path in bundle.path.rglob("*") if path.is_file())
    assert size <= 15_000_000
    assert bundle.chunk_length == 300
    assert bundle.load_head().input_dim == bundle.merged_dim
