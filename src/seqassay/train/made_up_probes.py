"""Sequences that no organism has, to test with: what calls them viral answers to something else than biology.

`seqassay.train.thresholds` sets a bundle's default threshold by such sequences made of training and validation records,
and the model card says what those made of test records come to. (`made_up` makes those that encoders learn from.)
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from seqassay.sequences.ragged import Ragged
from seqassay.train.dataset import LabelledChunks

REVERSED = "reversed, "  # how the kinds begin that are real sequences read backwards

_LETTERS = np.frombuffer(b"ACGT", np.uint8)


def made_up_sequences(
    fragments: LabelledChunks, length: int, *, n: int, seed: int
) -> Iterator[tuple[str, str, Ragged]]:
    """Kind, what it is made of, and up to ``n`` sequences of it.

    Args:
        fragments: real ones of ``length`` bases, of which those without ambiguous bases are shuffled and reversed.
    """
    rng = np.random.default_rng([seed, length])
    for percent in (40, 50, 60):
        yield f"random, {percent}% GC", "independent bases", as_ragged(random_bases(rng, n, length, percent / 100))
    plain = np.isin(fragments.bases.values, _LETTERS).reshape(-1, length).all(axis=1)
    for label, name in ((1, "viral"), (0, "other")):
        of_label = np.flatnonzero((fragments.labels == label) & plain)
        chosen = rng.permutation(of_label)[:n]
        if not len(chosen):
            continue
        real = fragments.bases.take(chosen)
        table_NL: npt.NDArray[np.uint8] = real.values.reshape(-1, length).astype(np.uint8)
        mixed = as_ragged(rng.permuted(table_NL, axis=1))
        yield f"bases shuffled, {name}", "real fragments, every base as often as before", mixed
        shuffled = as_ragged(np.stack([shuffle_dinucleotides(bases, rng) for bases in table_NL]))
        yield f"dinucleotides shuffled, {name}", "real fragments, every dinucleotide as often as before", shuffled
        yield f"{REVERSED}{name}", "real fragments read from their end, not complemented", as_ragged(table_NL[:, ::-1])
    runs = np.repeat(_LETTERS[np.arange(n) % 4][:, None], length, axis=1)
    yield "one base repeated", "up to 5% of the bases exchanged", as_ragged(with_errors(runs, rng))
    yield (
        "short tandem repeats",
        "units of 2 to 6 bases, up to 5% of the bases exchanged",
        as_ragged(with_errors(tandem_repeats(rng, n, length), rng)),
    )


def as_ragged(table_NL: npt.NDArray[np.uint8]) -> Ragged:
    """Sequences of one length as the program holds them."""
    return Ragged.from_lengths(table_NL.reshape(-1), np.full(len(table_NL), table_NL.shape[1], np.int64))


def random_bases(rng: np.random.Generator, n: int, length: int, gc_share: float) -> npt.NDArray[np.uint8]:
    """Independent bases, ``uint8[n, length]``."""
    shares = [(1 - gc_share) / 2, gc_share / 2, gc_share / 2, (1 - gc_share) / 2]
    return _LETTERS[rng.choice(4, (n, length), p=shares)]


def tandem_repeats(rng: np.random.Generator, n: int, length: int) -> npt.NDArray[np.uint8]:
    """A unit of 2 to 6 random bases (not all the same) over and over."""
    rows = []
    for _ in range(n):
        unit = rng.choice(_LETTERS, rng.integers(2, 7))
        while (unit == unit[0]).all():
            unit = rng.choice(_LETTERS, len(unit))
        rows.append(np.resize(unit, length))
    return np.stack(rows)


def with_errors(table_NL: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """A share of each row's bases, drawn between 0 and 5%, replaced by random ones."""
    rate_N1 = rng.random((len(table_NL), 1)) * 0.05
    return np.where(rng.random(table_NL.shape) < rate_N1, rng.choice(_LETTERS, table_NL.shape), table_NL)


def shuffle_dinucleotides(bases: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """A random order of the bases with every dinucleotide as often as before (Altschul & Erickson 1985).

    The sequence is a walk over letters; each letter's ways out are shuffled, but for the last ones, which have to lead
    to the last letter: they are drawn until they do.
    """
    letters = np.unique(bases)
    ways_out = {int(letter): bases[1:][bases[:-1] == letter] for letter in letters}
    end = int(bases[-1])
    while True:
        last = {letter: rng.integers(len(ways)) for letter, ways in ways_out.items() if len(ways) and letter != end}
        if all(_leads_to(end, letter, {at: int(ways_out[at][i]) for at, i in last.items()}) for letter in last):
            break
    order: dict[int, list[int]] = {}
    for letter, ways in ways_out.items():
        kept = [] if letter not in last else [int(ways[last[letter]])]
        rest = np.delete(ways, last[letter]) if letter in last else ways
        order[letter] = [*rng.permutation(rest).tolist(), *kept][::-1]
    walk = [int(bases[0])]
    for _ in range(len(bases) - 1):
        walk.append(order[walk[-1]].pop())
    return np.array(walk, np.uint8)


def _leads_to(end: int, letter: int, last: dict[int, int]) -> bool:
    for _ in range(len(last) + 1):
        if letter == end:
            return True
        letter = last[letter]
    return False
