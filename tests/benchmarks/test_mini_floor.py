"""Calibration errors of the card: what a score shows, and what its split could show at best."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs the extra train")

from _mini_figures import Resampling, ScoredFragments
from _mini_floor import error_by_halves, error_of_all_lengths, errors_over_taxa


def fragments(*, n_taxa: int, per_taxon: int, temperature: float, seed: int = 3) -> ScoredFragments:
    """Fragments whose labels are drawn by their probability; the score is that with another temperature."""
    rng = np.random.default_rng(seed)
    n = n_taxa * per_taxon
    log_odds = rng.normal(0, 1.5, n)
    labels = (rng.random(n) < 1 / (1 + np.exp(-log_odds))).astype(np.int64)
    taxa = np.repeat(np.arange(n_taxa), per_taxon)
    score = 1 / (1 + np.exp(-log_odds / temperature))
    return ScoredFragments(
        labels=labels,
        record=taxa,
        taxa=taxa,
        groups=np.full(n, "virus"),
        families=np.full(n, ""),
        has_frame=np.ones(n, np.bool_),
        score=score,
        raw=score,
        threshold=np.full(n, 0.5),
        baselines={},
    )


def test_a_calibrated_score_shows_no_more_than_noise_and_another_one_its_error() -> None:
    resampling = Resampling(30, 1)
    good = errors_over_taxa(fragments(n_taxa=1500, per_taxon=4, temperature=1.0), resampling)["all"]
    bad = errors_over_taxa(fragments(n_taxa=1500, per_taxon=4, temperature=3.0), resampling)["all"]
    assert good["expected_calibration_error"] < 0.03 < 0.1 < bad["expected_calibration_error"]
    assert bad["of_a_calibrated_score"]["mean"] < 0.03
    assert bad["resampled_95"][0] > 0.1


def test_the_other_half_mends_a_score_that_can_be_mended() -> None:
    found = errors_over_taxa(fragments(n_taxa=1500, per_taxon=4, temperature=3.0), Resampling(5, 1))["all"]
    halves = found["on_half_of_the_taxa"]
    assert halves["as_it_is"]["mean"] > 0.1 > 0.04 > halves["calibrated_by_the_other_half"]["mean"]
    assert halves["share_where_as_it_is_is_lower"] == 0


def test_halves_with_hardly_a_fragment_of_one_label_say_nothing() -> None:
    f = fragments(n_taxa=12, per_taxon=1, temperature=1.0)
    assert error_by_halves(f.labels, f.score, f.labels, f.taxa, np.random.default_rng(0)) is None


def test_all_lengths_count_alike_however_many_fragments_they_have() -> None:
    many = fragments(n_taxa=4000, per_taxon=2, temperature=1.0)
    few = fragments(n_taxa=200, per_taxon=2, temperature=6.0, seed=4)
    both = error_of_all_lengths([many, few], Resampling(3, 1))
    alone = [errors_over_taxa(f, Resampling(3, 1))["all"]["expected_calibration_error"] for f in (many, few)]
    assert both["n"] == 8400
    assert both["expected_calibration_error"] > 0.3 * max(alone)  # 5% of the fragments make half of the sample


def test_one_label_alone_has_no_figure() -> None:
    f = fragments(n_taxa=50, per_taxon=2, temperature=1.0)
    rows = np.flatnonzero(f.labels == 1)
    parts = ScoredFragments(
        **{name: getattr(f, name)[rows] for name in ScoredFragments.__slots__ if name != "baselines"}, baselines={}
    )
    assert errors_over_taxa(parts, Resampling(3, 1))["all"]["reason"] == "figures need fragments of both labels"
