"""13-grams of normalised words as 64-bit hashes, text piece by piece, and sets of them.

A word is a run of letters and digits in lower case: punctuation, white space and tokenisation marks fall away, so that
WikiText's ``role @-@ playing game 's`` and another text's ``role-playing game's`` are the same five words. ``<unk>``
stands for any word, so a 13-gram that holds one is none.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

N_WORDS = 13  # as in the contamination studies of GPT-3 and of those after it
Hashes = npt.NDArray[np.uint64]

_WORD = re.compile(r"<unk>|[^\W_]+")
_UNKNOWN = "<unk>"
_UNKNOWN_HASH = np.uint64(0)
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no word is multiplied away
_MAX_KNOWN_WORDS = 1 << 20
_TABLE_BITS = 24


@dataclass(frozen=True, slots=True)
class Ngrams:
    """The 13-grams that end in a piece of text.

    Attributes:
        hashes: shape (n_ngrams,).
        first: shape (n_ngrams,); index in ``words`` of each one's first word.
        words: of the piece, after the last ones of the piece before it.
        n_before: how many of ``words`` are of the piece before.
    """

    hashes: Hashes
    first: npt.NDArray[np.int64]
    words: list[str]
    n_before: int

    def line(self, text: str, index: int) -> int:
        """How many lines of the piece's text end before the n-gram with this index begins."""
        number = int(self.first[index]) - self.n_before
        if number < 0:
            return 0
        found = next(islice(_WORD.finditer(text.lower()), number, None))
        return text.lower().count("\n", 0, found.start())


class NgramStream:
    """Makes the 13-grams of documents that come in pieces; none of them spans two documents."""

    def __init__(self) -> None:
        self._hash_of: dict[str, int] = {_UNKNOWN: int(_UNKNOWN_HASH)}
        self.end_document()

    def end_document(self) -> None:
        """What comes next is another document."""
        self._words: list[str] = []
        self._hashes: Hashes = np.zeros(0, np.uint64)

    def feed(self, text: str) -> Ngrams:
        """The 13-grams that are whole with this piece, in order."""
        new = words_of(text)
        hash_of = self._hash_of
        if len(hash_of) > _MAX_KNOWN_WORDS:
            hash_of.clear()
            hash_of[_UNKNOWN] = int(_UNKNOWN_HASH)
        for word in set(new) - hash_of.keys():
            hash_of[word] = _word_hash(word)
        hashes = np.fromiter(map(hash_of.__getitem__, new), np.uint64, len(new))
        n_before = len(self._words)
        words, all_hashes = self._words + new, np.concatenate([self._hashes, hashes])
        self._words, self._hashes = words[-(N_WORDS - 1) :], all_hashes[-(N_WORDS - 1) :]
        combined, first = _combined(all_hashes)
        return Ngrams(combined, first, words, n_before)


class HashSet:
    """Distinct hashes in a sorted array, and a table of bits that tells most of those that are not among them."""

    def __init__(self, hashes: Hashes) -> None:
        self.sorted: Hashes = np.unique(hashes)
        self._table = np.zeros(1 << _TABLE_BITS, np.bool_)
        self._table[_slot(self.sorted)] = True

    def __len__(self) -> int:
        return len(self.sorted)

    def find(self, hashes: Hashes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Indices of those among ``hashes`` that are in the set, and their places in ``sorted``."""
        maybe = np.flatnonzero(self._table[_slot(hashes)])
        places = np.searchsorted(self.sorted, hashes[maybe])
        inside = places < len(self.sorted)
        inside[inside] = self.sorted[places[inside]] == hashes[maybe[inside]]
        return maybe[inside], places[inside]


def words_of(text: str) -> list[str]:
    """Normalised words, in order."""
    return _WORD.findall(text.lower())


def _word_hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little") | 1


def _combined(hashes: Hashes) -> tuple[Hashes, npt.NDArray[np.int64]]:
    """A hash of every 13 words in a row, as a polynomial modulo 2^64, and where each begins."""
    n = len(hashes) - N_WORDS + 1
    if n < 1:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    combined: Hashes = np.zeros(n, np.uint64)
    for i in range(N_WORDS):
        combined = combined * _FACTOR + hashes[i : i + n]
    n_unknown = np.concatenate([[0], np.cumsum(hashes == _UNKNOWN_HASH)])
    first = np.flatnonzero(n_unknown[N_WORDS:] == n_unknown[:-N_WORDS])
    return combined[first], first


def _slot(hashes: Hashes) -> npt.NDArray[Any]:
    return (hashes >> np.uint64(64 - _TABLE_BITS)).astype(np.int64)
