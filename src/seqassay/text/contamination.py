"""Probe items that the training text holds a part of: 13 words in a row of one of an item's texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seqassay.text.ngrams import N_WORDS, HashSet, Ngrams, NgramStream
from seqassay.text.probes import ProbeItem, ProbeSet
from seqassay.text.reading import Piece

_SHOWN_WORDS = 40


@dataclass(slots=True)
class _Text:
    """A text of an item, long enough to have 13-grams."""

    item: int
    field: str
    ngrams: Ngrams


class Contamination:
    """The 13-grams of probe sets, and where a training text was seen to hold them."""

    def __init__(self, sets: Sequence[ProbeSet]) -> None:
        self._sets = sets
        self._texts = [_texts(probes.items) for probes in sets]
        hashes = [text.ngrams.hashes for texts in self._texts for text in texts]
        self._known = HashSet(np.concatenate([np.zeros(0, np.uint64), *hashes]))
        self._met = np.zeros(len(self._known), np.bool_)
        self._place: dict[int, str] = {}  # place in the set → file and line of the training text

    def observe(self, piece: Piece, ngrams: Ngrams) -> None:
        """Note what this piece of training text holds."""
        hits, places = self._known.find(ngrams.hashes)
        self._met[places] = True
        for hit, place in zip(hits.tolist(), places.tolist(), strict=True):
            if place not in self._place:
                self._place[place] = f"{piece.path}:{piece.line + ngrams.line(piece.text, hit)}"

    def facts(self) -> list[dict[str, Any]]:
        """By task: items, those too short to tell, and those found, each with the passage in brief."""
        return [self._facts_of(probes, texts) for probes, texts in zip(self._sets, self._texts, strict=True)]

    def _facts_of(self, probes: ProbeSet, texts: Sequence[_Text]) -> dict[str, Any]:
        found: dict[int, dict[str, Any]] = {}
        for text in texts:
            hits, places = self._known.find(text.ngrams.hashes)
            is_met = self._met[places]
            if not is_met.any():
                continue
            words, first_hit = _longest_run(text.ngrams, hits[is_met])
            entry = {
                "id": probes.items[text.item].id,
                "field": text.field,
                "ngrams_found": int(is_met.sum()),
                "ngrams": len(text.ngrams.hashes),
                "passage": words,
                "training_text": self._place[int(places[np.flatnonzero(hits == first_hit)[0]])],
            }
            best = found.get(text.item)
            if best is None or entry["ngrams_found"] > best["ngrams_found"]:
                found[text.item] = entry
        n_checked = len({text.item for text in texts})
        return {
            "task": probes.task.name,
            "path": str(probes.path),
            "items": len(probes.items),
            "too_short": len(probes.items) - n_checked,
            "found": len(found),
            "found_share": len(found) / len(probes.items),
            "found_items": [found[item] for item in sorted(found)],
        }


def _texts(items: Sequence[ProbeItem]) -> list[_Text]:
    stream, texts = NgramStream(), []
    for number, item in enumerate(items):
        for field, text in item.texts.items():
            ngrams = stream.feed(text)
            stream.end_document()
            if len(ngrams.hashes):
                texts.append(_Text(number, field, ngrams))
    return texts


def _longest_run(ngrams: Ngrams, hits: npt.NDArray[np.int64]) -> tuple[str, int]:
    """The longest passage that n-grams in a row make up, in brief, and the index of its first n-gram."""
    first = ngrams.first[hits]
    breaks = np.flatnonzero(np.diff(first) != 1) + 1
    runs = np.split(np.arange(len(hits)), breaks)
    run = max(runs, key=len)
    begin, end = int(first[run[0]]), int(first[run[-1]]) + N_WORDS
    words = ngrams.words[begin : min(end, begin + _SHOWN_WORDS)]
    return " ".join(words) + (" …" if end - begin > _SHOWN_WORDS else ""), int(hits[run[0]])
