"""Many sequences of different lengths in one flat array: how bases, residues and tokens travel through the program.

A list of a million Python strings costs more memory and time than the work done on them; a flat array with
offsets can be sliced, compared and translated a whole shard at a time.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Ragged:
    """``values`` of all items end to end; item ``i`` is ``values[offsets[i]:offsets[i + 1]]``.

    Attributes:
        values: 1-d array of any integer type (``uint8`` for bases and residues, ``int32`` for tokens).
        offsets: ``int64``, one more than there are items, first 0, last ``len(values)``.
    """

    values: npt.NDArray[np.generic]
    offsets: npt.NDArray[np.int64]

    @classmethod
    def from_bytes(cls, items: Iterable[bytes]) -> Ragged:
        """Join byte strings into one ``uint8`` array."""
        parts = list(items)
        return cls(np.frombuffer(b"".join(parts), dtype=np.uint8), offsets_of(np.fromiter(map(len, parts), np.int64)))

    @classmethod
    def from_lengths(cls, values: npt.NDArray[np.generic], lengths: npt.NDArray[np.integer]) -> Ragged:
        """Cut ``values`` into consecutive items of the given lengths."""
        return cls(values, offsets_of(lengths))

    @classmethod
    def joined(cls, parts: Sequence[Ragged]) -> Ragged:
        """The items of all parts, one part after the other; at least one part."""
        values = np.concatenate([part.values[part.offsets[0] : part.offsets[-1]] for part in parts])
        return cls.from_lengths(values, np.concatenate([part.lengths for part in parts]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> npt.NDArray[np.generic]:
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def __iter__(self) -> Iterator[npt.NDArray[np.generic]]:
        return (self[i] for i in range(len(self)))

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Length of every item, ``int64``."""
        return np.diff(self.offsets)

    def to_bytes(self) -> list[bytes]:
        """Every item as a byte string (``uint8`` values only)."""
        data, bounds = self.values.tobytes(), (self.offsets * self.values.itemsize).tolist()
        return [data[a:b] for a, b in itertools.pairwise(bounds)]

    def take(self, indices: npt.NDArray[np.integer]) -> Ragged:
        """The items at ``indices``, in that order, copied into a new flat array."""
        return self.slices(self.offsets[:-1][indices], self.lengths[indices])

    def slices(self, starts: npt.NDArray[np.integer], lengths: npt.NDArray[np.integer]) -> Ragged:
        """Copy ``lengths[i]`` values from the flat position ``starts[i]``, for every ``i``; slices may overlap."""
        offsets = offsets_of(lengths)
        positions = np.repeat(np.asarray(starts, np.int64) - offsets[:-1], lengths)
        positions += np.arange(offsets[-1], dtype=np.int64)
        return Ragged(self.values[positions], offsets)

    def free_of(self, marked: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Which items hold no marked value; ``marked`` has an entry for every value from the first item's on."""
        free = np.ones(len(self), np.bool_)
        places = np.flatnonzero(marked)
        free[np.searchsorted(self.offsets - self.offsets[0], places, side="right") - 1] = False
        return free

    def unique(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Distinct items: indices of their first occurrences (ascending) and, for every item, which of them it is."""
        seen: dict[bytes, int] = {}
        inverse = np.fromiter((seen.setdefault(item, len(seen)) for item in self.to_bytes()), np.int64, len(self))
        first = np.full(len(seen), len(self), np.int64)
        np.minimum.at(first, inverse, np.arange(len(self), dtype=np.int64))
        return first, inverse


def offsets_of(lengths: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Offsets of items with these lengths: their running sum with a leading 0."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets
