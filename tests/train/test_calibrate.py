"""What false discovery rates come to is measured on taxa that a fit has not seen."""

import numpy as np
import pytest

from seqassay.errors import UsageError
from seqassay.models.calibration import RATES, Evidence
from seqassay.train.calibrate import ScoredFragments, balanced_weights, fit_calibration, fit_weights, held_out_rates

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
        evidence = Evidence(np.full(len(taxa), length), log_odds + off, np.zeros(len(taxa)), np.zeros(len(taxa)))
        found.append(ScoredFragments(length, evidence, labels, np.full(len(taxa), 1 / len(taxa)), taxa))
    return found


def test_many_like_taxa_keep_a_rate() -> None:
    rates = fit_calibration(fragments(200, 40, taxon_noise=0.0), has_nucleotide_head=True, chunk_length=300).held_out_RK
    assert rates is not None
    assert rates.shape == (len(RATES), len(LENGTHS))
    np.testing.assert_allclose(rates[RATES.index(0.1)], 0.1, atol=0.03)


def test_a_few_odd_taxa_do_not() -> None:
    """A taxon of others that look viral is no surprise to the fit that saw it, and is one to the fit that did not."""
    parts = fragments(30, 100, taxon_noise=0.0)
    for part in parts:
        odd = part.taxa == 0
        part.labels[odd] = 0
        part.evidence.joint[odd] = 6.0
        part.weights[odd] *= 5
    rates = fit_calibration(parts, has_nucleotide_head=True, chunk_length=300).held_out_RK
    assert rates is not None
    assert (rates[RATES.index(0.1)] > 0.2).all()


def test_called_are_the_likeliest_up_to_the_rate() -> None:
    evidence = Evidence(np.full(4, 100), np.zeros(4), np.zeros(4), np.zeros(4))
    part = ScoredFragments(100, evidence, np.array([1, 0, 1, 0]), np.array([1.0, 1.0, 2.0, 1.0]), np.arange(4))
    probabilities = np.array([0.995, np.nan, 0.93, 0.6])
    rates = held_out_rates(part, probabilities)
    assert rates.tolist() == [0.0, 0.0, 0.0, 0.0, 0.25]  # (0.005 + 2 * 0.07 + 0.4) / 4 is 0.136, above 0.1
    assert np.isnan(held_out_rates(part, np.full(4, np.nan))).all()


def test_too_few_to_leave_some_out_have_no_error_and_still_weights() -> None:
    parts = fragments(10, 22, taxon_noise=0.0)
    rarest = min(int((part.labels == label).sum()) for part in parts for label in (0, 1))
    assert 100 <= rarest < 111  # enough for a fit, and not without a tenth
    fitted = fit_calibration(parts, has_nucleotide_head=True, chunk_length=300)
    assert fitted.held_out_RK is None
    assert fitted.framed_KC.shape == (2, 4)


def test_too_few_for_a_fit_are_refused() -> None:
    with pytest.raises(UsageError, match="too few labelled fragments of 100 bases"):
        fit_weights(fragments(10, 10, taxon_noise=0.0), has_nucleotide_head=True, chunk_length=300)


def test_best_frames_take_part_in_sequences_of_several_chunks() -> None:
    parts = fragments(40, 40, taxon_noise=0.0)
    rng = np.random.default_rng(2)
    for part in parts:
        told = (2 * part.labels - 1) * 1.5 + rng.normal(0, 1, len(part.labels))
        part.evidence.best[:] = told
    fitted = fit_weights(parts, has_nucleotide_head=True, chunk_length=200)
    assert fitted.framed_KC[0, 3] == 0
    assert fitted.framed_KC[1, 3] > 1
    whole = fit_calibration(parts, has_nucleotide_head=True, chunk_length=200)
    np.testing.assert_array_equal(whole.framed_KC, fitted.framed_KC)
    of_means = fit_weights(parts, has_nucleotide_head=True, chunk_length=None)
    np.testing.assert_array_equal(whole.track_K3, of_means.framed_KC[:, :3])
    assert fit_calibration(parts, has_nucleotide_head=True, chunk_length=300).track_K3 is None
    without = fit_weights(parts, has_nucleotide_head=False, chunk_length=200)
    assert without.framed_KC[:, 2].tolist() == [0, 0]
    assert without.framed_KC[1, 3] > 1


def test_a_taxon_weighs_as_the_root_of_its_fragments() -> None:
    labels = np.array([1, 1, 0, 0, 0, 0, 0])
    groups = np.array(["virus"] * 2 + ["bacteria"] * 6)[: len(labels)]
    weights = balanced_weights(labels, groups, {"virus": 0.3, "bacteria": 0.2}, np.array([0, 1, 2, 2, 2, 2, 3]))
    assert weights[:2].tolist() == [0.25, 0.25]
    assert weights[2:6].sum() == pytest.approx(2 * weights[6])
    assert weights[2:].sum() == pytest.approx(0.5)
    assert balanced_weights(labels, groups, {"virus": 0.3, "bacteria": 0.2})[2:].tolist() == pytest.approx([0.1] * 5)
