"""The calibration's error is that of taxa that a fit has not seen."""

import numpy as np
import pytest

from seqassay.errors import UsageError
from seqassay.models.calibration import Evidence
from seqassay.train.calibrate import ScoredFragments, fit_calibration, fit_weights, held_out_error

LENGTHS = (100, 300)


def fragments(n_taxa: int, per_taxon: int, *, taxon_noise: float, seed: int = 1) -> list[ScoredFragments]:
    """Fragments whose evidence is the true log-odds, but for what each taxon is off by."""
    rng = np.random.default_rng(seed)
    found = []
    for length in LENGTHS:
        taxa = np.repeat(np.arange(n_taxa), per_taxon)
        log_odds = rng.normal(0, 1.5, len(taxa))
        labels = (rng.random(len(taxa)) < 1 / (1 + np.exp(-log_odds))).astype(np.int64)
        off = rng.normal(0, taxon_noise, n_taxa)[taxa]
        evidence = Evidence(np.full(len(taxa), length), log_odds + off, np.zeros(len(taxa)))
        found.append(ScoredFragments(length, evidence, labels, np.full(len(taxa), 1 / len(taxa)), taxa))
    return found


def test_many_like_taxa_are_predicted_well() -> None:
    errors = held_out_error(fragments(200, 40, taxon_noise=0.0), has_nucleotide_head=True)
    assert errors is not None
    assert errors.shape == (2,)
    assert (errors < 0.02).all()


def test_few_odd_taxa_are_not() -> None:
    parts = fragments(12, 700, taxon_noise=3.0)
    errors = fit_calibration(parts, has_nucleotide_head=True).error_K
    alike = held_out_error(fragments(12, 700, taxon_noise=0.0), has_nucleotide_head=True)
    assert errors is not None
    assert alike is not None
    assert (errors > 1.5 * alike).all()


def test_too_few_to_leave_some_out_have_no_error_and_still_weights() -> None:
    parts = fragments(10, 22, taxon_noise=0.0)
    rarest = min(int((part.labels == label).sum()) for part in parts for label in (0, 1))
    assert 100 <= rarest < 111  # enough for a fit, and not without a tenth
    fitted = fit_calibration(parts, has_nucleotide_head=True)
    assert fitted.error_K is None
    assert fitted.framed_K3.shape == (2, 3)


def test_too_few_for_a_fit_are_refused() -> None:
    with pytest.raises(UsageError, match="too few labelled fragments of 100 bases"):
        fit_weights(fragments(10, 10, taxon_noise=0.0), has_nucleotide_head=True)
