"""What splits share: 13-grams, both ways, whole documents and long lines.

Every split but the first is held as a set of hashes (8 bytes a distinct 13-gram); the training text streams past them,
so memory grows with the smaller splits and with 8 bytes a document and long line.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from seqassay.text.ngrams import N_WORDS, HashSet, Ngrams, NgramStream
from seqassay.text.reading import Piece

LONG_LINE_WORDS = N_WORDS  # shorter ones (headings, exclamations) come twice by nature
_N_WORST = 5
Observer = Callable[[Piece, Ngrams], None]


@dataclass(slots=True)
class Shared:
    """What of one split is in another one."""

    documents_with_shared: int = 0
    ngrams_found: int = 0
    worst: list[tuple[float, int, str]] = field(default_factory=list)  # share, 13-grams found, place


@dataclass(slots=True)
class SplitPass:
    """What one walk through a split finds.

    Attributes:
        documents, ngrams: how many.
        shared: by the other split's name.
        document_digests, line_digests: of every document, and of every line of 13 words or more.
    """

    documents: int = 0
    ngrams: int = 0
    shared: dict[str, Shared] = field(default_factory=dict)
    document_digests: list[int] = field(default_factory=list)
    line_digests: list[int] = field(default_factory=list)


class SplitIndex:
    """The distinct 13-grams of a split, and which of them were met in which other split."""

    def __init__(self, pieces: Iterable[Piece]) -> None:
        stream, parts = NgramStream(), []
        waiting: list[npt.NDArray[np.uint64]] = []
        for piece in pieces:
            waiting.append(stream.feed(piece.text).hashes)
            if piece.ends_document:
                stream.end_document()
            if len(waiting) == 256:  # repeats go early, so that they are not held all at once
                parts.append(np.unique(np.concatenate(waiting)))
                waiting.clear()
        self.hashes = HashSet(np.concatenate([np.zeros(0, np.uint64), *parts, *waiting]))
        self.met: dict[str, npt.NDArray[np.bool_]] = {}

    def met_in(self, split: str) -> npt.NDArray[np.bool_]:
        """Shape (n_distinct,): which were met in this split so far."""
        return self.met.setdefault(split, np.zeros(len(self.hashes), np.bool_))


def walk(
    name: str, pieces: Iterable[Piece], indexes: Mapping[str, SplitIndex], later: Sequence[str], observer: Observer
) -> SplitPass:
    """Walk once through a split: compare with the splits after it, and with those before it by what they met.

    Args:
        name: of the split.
        pieces: its text.
        indexes: of this split and the ones after it, where there are any.
        later: names of the splits that come after it.
        observer: told every piece and its 13-grams.
    """
    found, stream, lines = SplitPass(), NgramStream(), _Lines()
    own = indexes.get(name)
    earlier = list(own.met) if own is not None else []
    found.shared = {other: Shared() for other in [*earlier, *later]}
    n_found, n_ngrams, place, digest = dict.fromkeys(found.shared, 0), 0, "", hashlib.blake2b(digest_size=8)
    for piece in pieces:
        place = place or f"{piece.path}:{piece.line}"
        ngrams = stream.feed(piece.text)
        observer(piece, ngrams)
        n_ngrams += len(ngrams.hashes)
        for other in later:
            hits, places = indexes[other].hashes.find(ngrams.hashes)
            indexes[other].met_in(name)[places] = True
            n_found[other] += len(hits)
        if earlier and own is not None:
            _, places = own.hashes.find(ngrams.hashes)
            for other in earlier:
                n_found[other] += int(np.count_nonzero(own.met[other][places]))
        digest.update(piece.text.encode())
        found.line_digests += lines.feed(piece)
        if piece.ends_document:
            stream.end_document()
            found.documents += 1
            found.ngrams += n_ngrams
            found.document_digests.append(int.from_bytes(digest.digest(), "little"))
            for other, n in n_found.items():
                _note_document(found.shared[other], n, n_ngrams, place)
            n_found, n_ngrams, place, digest = dict.fromkeys(n_found, 0), 0, "", hashlib.blake2b(digest_size=8)
    return found


def _note_document(shared: Shared, n_found: int, n_ngrams: int, place: str) -> None:
    if n_found:
        shared.documents_with_shared += 1
        shared.ngrams_found += n_found
        shared.worst = heapq.nlargest(_N_WORST, [*shared.worst, (n_found / n_ngrams, n_found, place)])


class _Lines:
    """Digests of long lines, which may be cut by pieces."""

    def __init__(self) -> None:
        self._rest = ""

    def feed(self, piece: Piece) -> list[int]:
        *whole, self._rest = (self._rest + piece.text).split("\n")
        if piece.ends_document:
            whole, self._rest = [*whole, self._rest], ""
        long = (line.strip() for line in whole if len(line.split()) >= LONG_LINE_WORDS)
        return [int.from_bytes(hashlib.blake2b(line.encode(), digest_size=8).digest(), "little") for line in long]


def facts_of(passes: Mapping[str, SplitPass]) -> dict[str, Any]:
    """Sizes, shares and duplicates, as JSON types; a share of nothing is None."""
    digests = {
        name: {
            "documents": np.array(one.document_digests, np.uint64),
            "long_lines": np.array(one.line_digests, np.uint64),
        }
        for name, one in passes.items()
    }
    return {
        "splits": {
            name: {
                "documents": one.documents,
                "ngrams": one.ngrams,
                "long_lines": len(one.line_digests),
                "repeated_documents": _n_repeated(digests[name]["documents"]),
                "repeated_long_lines": _n_repeated(digests[name]["long_lines"]),
            }
            for name, one in passes.items()
        },
        "shared": [
            {
                "of": of,
                "within": within,
                "documents_with_shared": shared.documents_with_shared,
                "ngrams_found": shared.ngrams_found,
                "ngram_share": shared.ngrams_found / one.ngrams if one.ngrams else None,
                "same_documents": _n_inside(digests[of]["documents"], digests[within]["documents"]),
                "same_long_lines": _n_inside(digests[of]["long_lines"], digests[within]["long_lines"]),
                "worst_documents": [
                    {"place": place, "ngram_share": share, "ngrams_found": n} for share, n, place in shared.worst
                ],
            }
            for of, one in passes.items()
            for within, shared in one.shared.items()
        ],
    }


def _n_repeated(digests: npt.NDArray[np.uint64]) -> int:
    return len(digests) - len(np.unique(digests))


def _n_inside(digests: npt.NDArray[np.uint64], others: npt.NDArray[np.uint64]) -> int:
    return int(np.count_nonzero(np.isin(digests, others)))
