"""Which rows of two files are about the same thing: by id, and where an id repeats, by its occurrence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seqassay.compiled import compiled
from seqassay.prove.compare.columns import Bytes

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Ids:
    """Ids as bytes: id i is ``data[starts[i]:ends[i]]``."""

    data: Bytes
    starts: Rows
    ends: Rows

    def __len__(self) -> int:
        return len(self.starts)

    def text(self, row: int) -> str:
        """One id; bytes that are no UTF-8 come back as they were when it is written."""
        return self.data[self.starts[row] : self.ends[row]].tobytes().decode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Pairing:
    """Rows of A and B that belong together.

    Attributes:
        in_a, in_b: row in A and in B of every pair, in B's order.
        only_a, only_b: rows without a partner, ascending.
        occurrence_a, occurrence_b: for every row, how many rows with its id came before it, plus 1.
    """

    in_a: Rows
    in_b: Rows
    only_a: Rows
    only_b: Rows
    occurrence_a: npt.NDArray[np.int32]
    occurrence_b: npt.NDArray[np.int32]

    @property
    def in_order(self) -> bool:
        """Whether the pairs stand in the same order on both sides."""
        return bool((np.diff(self.in_a) > 0).all())

    def counts(self) -> dict[str, Any]:
        """Rows of either side, in both and on one side only, as the record has them."""
        return {
            "a": len(self.occurrence_a),
            "b": len(self.occurrence_b),
            "in_both": len(self),
            "only_a": len(self.only_a),
            "only_b": len(self.only_b),
            "repeated_ids": {"a": int((self.occurrence_a > 1).sum()), "b": int((self.occurrence_b > 1).sum())},
            "same_order": self.in_order,
        }

    def __len__(self) -> int:
        return len(self.in_a)


def pair(a: Ids, b: Ids) -> Pairing:
    """The k-th row of an id in A belongs to the k-th row of that id in B."""
    slots = np.full(1 << (2 * (len(a) + len(b)) + 1).bit_length(), -1, np.int32)
    partner = np.full(len(b), -1, np.int64)
    occurrence_a, occurrence_b = np.zeros(len(a), np.int32), np.zeros(len(b), np.int32)
    _pair(a.data, a.starts, a.ends, b.data, b.starts, b.ends, slots, partner, occurrence_a, occurrence_b)
    in_b = np.flatnonzero(partner >= 0)
    in_a = partner[in_b]
    has_partner = np.zeros(len(a), np.bool_)
    has_partner[in_a] = True
    return Pairing(in_a, in_b, np.flatnonzero(~has_partner), np.flatnonzero(partner < 0), occurrence_a, occurrence_b)


@compiled
def _pair(
    a_data: Bytes,
    a_starts: Rows,
    a_ends: Rows,
    b_data: Bytes,
    b_starts: Rows,
    b_ends: Rows,
    slots: npt.NDArray[np.int32],
    partner: Rows,
    occurrence_a: npt.NDArray[np.int32],
    occurrence_b: npt.NDArray[np.int32],
) -> None:
    """An open hash table of the distinct ids, by their first row (rows of B count on from those of A).

    Ids are compared byte by byte: two ids that hash alike are never taken for one.
    """
    n_a, n_b = len(a_starts), len(b_starts)
    mask = len(slots) - 1
    n_of_id = np.zeros((n_a + n_b, 2), np.int32)  # rows seen so far of the id that this row is the first of, by side
    following = np.full(n_a, -1, np.int32)  # the next row in A with the same id
    at_end = np.zeros(n_a, np.int32)
    cursor = np.zeros(n_a, np.int32)  # the first row in A of the id that has no partner yet
    for i in range(n_a + n_b):
        is_a = i < n_a
        if is_a:
            data, start, end = a_data, a_starts[i], a_ends[i]
        else:
            data, start, end = b_data, b_starts[i - n_a], b_ends[i - n_a]
        key = np.uint64(14695981039346656037)  # FNV-1a
        for place in range(start, end):
            key = (key ^ np.uint64(data[place])) * np.uint64(1099511628211)
        slot = np.int64((key ^ (key >> np.uint64(29))) & np.uint64(mask))
        first = i
        while slots[slot] >= 0:
            other = slots[slot]
            if other < n_a:
                its_data, its_start, its_end = a_data, a_starts[other], a_ends[other]
            else:
                its_data, its_start, its_end = b_data, b_starts[other - n_a], b_ends[other - n_a]
            same = its_end - its_start == end - start
            place = 0
            while same and place < end - start:
                same = its_data[its_start + place] == data[start + place]
                place += 1
            if same:
                first = other
                break
            slot = (slot + 1) & mask
        if first == i:
            slots[slot] = i
        if is_a:
            n_of_id[first, 0] += 1
            occurrence_a[i] = n_of_id[first, 0]
            if first == i:
                cursor[i] = i
            else:
                following[at_end[first]] = i
            at_end[first] = i
        else:
            n_of_id[first, 1] += 1
            occurrence_b[i - n_a] = n_of_id[first, 1]
            if first < n_a and cursor[first] >= 0:
                partner[i - n_a] = cursor[first]
                cursor[first] = following[cursor[first]]
