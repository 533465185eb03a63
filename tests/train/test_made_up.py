from __future__ import annotations

import numpy as np
import pytest

from seqassay.train.made_up import KIND_SHARES, Kind, made_up

REAL = np.frombuffer(b"ACGT", np.uint8)[np.random.default_rng(1).choice(4, (40, 300), p=[0.4, 0.1, 0.1, 0.4])]


@pytest.mark.parametrize("kind", KIND_SHARES)
def test_shape_letters_and_seed(kind: Kind) -> None:
    made = made_up(kind, REAL, np.random.default_rng(5))
    assert made.shape == REAL.shape
    assert set(np.unique(made)) <= set(b"ACGT")
    assert (made == made_up(kind, REAL, np.random.default_rng(5))).all()
    assert (made != REAL).any(axis=1).all()


def test_shuffling_keeps_the_bases_of_each_sequence() -> None:
    made = made_up("shuffled", REAL, np.random.default_rng(2))
    assert (np.sort(made, axis=1) == np.sort(REAL, axis=1)).all()


def test_walks_keep_the_neighbours() -> None:
    real = np.tile(np.frombuffer(b"ACGACGTTT", np.uint8), 100)[None]  # A is always followed by C, C by G
    made = made_up("dinucleotides", real, np.random.default_rng(3)).tobytes()
    pairs = {made[i : i + 2] for i in range(len(made) - 1)}
    assert {b"AC", b"CG", b"GA", b"GT", b"TT", b"TA"} <= pairs
    assert made.count(b"AC") == pytest.approx(made.count(b"A"), abs=3)
    assert made.count(b"GA") == pytest.approx(made.count(b"GT"), rel=0.5)


def test_random_sequences_have_any_gc_content() -> None:
    made = made_up("random", REAL, np.random.default_rng(4))
    gc = np.isin(made, list(b"CG")).mean(axis=1)
    assert gc.min() < 0.3
    assert gc.max() > 0.7


def test_repeats_repeat() -> None:
    made = made_up("repeats", REAL, np.random.default_rng(4))
    best = np.max([(made[:, u:] == made[:, :-u]).mean(axis=1) for u in range(1, 13)], axis=0)
    assert best.min() > 0.8


def test_letters_that_are_no_bases_do_no_harm() -> None:
    real = np.frombuffer(b"ANGTNNAC" * 10, np.uint8)[None]
    assert set(made_up("dinucleotides", real, np.random.default_rng(0)).tobytes()) <= set(b"ACGT")
