"""Sequences that no organism has, as further examples of "others": a classifier that never saw any calls many viral.

Kinds: bases drawn at random at any GC content; the bases of a real chunk in another order; a walk through a real
chunk's own neighbours (its dinucleotides stay); and short units repeated, with a few errors.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

Kind = Literal["random", "shuffled", "dinucleotides", "repeats"]
# How often each is made. Repeats are learnt from few; walks, which differ from real sequences only beyond their
# dinucleotides, are the hardest to tell.
KIND_SHARES: dict[Kind, float] = {"random": 0.3, "shuffled": 0.2, "dinucleotides": 0.4, "repeats": 0.1}

_BASES = np.frombuffer(b"ACGT", np.uint8)
_MOST_GC, _LONGEST_UNIT, _REPEAT_ERRORS = 0.8, 12, 0.05

Table = npt.NDArray[np.uint8]


def made_up(kind: Kind, real_NL: Table, rng: np.random.Generator) -> Table:
    """Sequences of one kind, as many and as long as the given real ones, ``uint8[N, L]``.

    Args:
        real_NL: upper-case letters; what is not A, C, G or T counts as A.
    """
    n, length = real_NL.shape
    if kind == "random":
        gc_N1 = rng.uniform(1 - _MOST_GC, _MOST_GC, (n, 1))
        is_gc_NL, second_NL = rng.random((n, length)) < gc_N1, rng.random((n, length)) < 0.5
        table: Table = _BASES[np.where(is_gc_NL, 1 + second_NL, 3 * second_NL)]
        return table
    if kind == "shuffled":
        return rng.permuted(real_NL, axis=1)
    if kind == "repeats":
        return _repeats(n, length, rng)
    return _walks(real_NL, rng)


def _repeats(n: int, length: int, rng: np.random.Generator) -> Table:
    """A random unit of 1 to 12 bases over and over; one base in twenty is another."""
    unit_N = rng.integers(1, _LONGEST_UNIT + 1, n)
    units_NU = _BASES[rng.integers(0, 4, (n, _LONGEST_UNIT))]
    table = np.take_along_axis(units_NU, np.arange(length)[None, :] % unit_N[:, None], axis=1)
    wrong = rng.random((n, length)) < _REPEAT_ERRORS
    table[wrong] = _BASES[rng.integers(0, 4, int(wrong.sum()))]
    return table


def _walks(real_NL: Table, rng: np.random.Generator) -> Table:
    """From a base on to one that follows such a base somewhere in the same sequence."""
    n, length = real_NL.shape
    code_NL = np.searchsorted(_BASES, real_NL).clip(0, 3)
    code_NL[_BASES[code_NL] != real_NL] = 0
    counts_N44 = np.zeros((n, 4, 4))
    np.add.at(counts_N44, (np.arange(n)[:, None], code_NL[:, :-1], code_NL[:, 1:]), 1)
    counts_N44 += 1e-3  # a base that only ends the sequence goes anywhere
    cumulative_N44 = np.cumsum(counts_N44, axis=2) / counts_N44.sum(axis=2, keepdims=True)
    draws_NL = rng.random((n, length))
    walk_NL = np.empty((n, length), np.int64)
    walk_NL[:, 0] = code_NL[:, 0]
    for i in range(1, length):
        row_N4 = cumulative_N44[np.arange(n), walk_NL[:, i - 1]]
        walk_NL[:, i] = (draws_NL[:, i, None] > row_N4[:, :3]).sum(axis=1)
    table: Table = _BASES[walk_NL]
    return table
