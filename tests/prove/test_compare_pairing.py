"""Rows by id and occurrence, in whatever order they come."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from seqassay.prove.compare.pairing import Ids, Pairing, pair
from seqassay.sequences.ragged import Ragged


def ids(names: list[str]) -> Ids:
    ragged = Ragged.from_bytes(name.encode() for name in names)
    return Ids(np.frombuffer(ragged.values.tobytes(), np.uint8), ragged.offsets[:-1].copy(), ragged.offsets[1:].copy())


def pairs(found: Pairing) -> list[tuple[int, int]]:
    return list(zip(found.in_a.tolist(), found.in_b.tolist(), strict=True))


def test_rows_in_another_order_and_missing_on_either_side() -> None:
    found = pair(ids(["a", "b", "c"]), ids(["c", "a", "d"]))
    assert pairs(found) == [(2, 0), (0, 1)]
    assert (found.only_a.tolist(), found.only_b.tolist()) == ([1], [2])
    assert not found.in_order


def test_repeated_ids_are_paired_by_their_occurrence() -> None:
    found = pair(ids(["x", "y", "x", "x"]), ids(["x", "x", "y", "z", "z"]))
    assert pairs(found) == [(0, 0), (2, 1), (1, 2)]
    assert found.only_a.tolist() == [3]
    assert found.only_b.tolist() == [3, 4]
    assert found.occurrence_a.tolist() == [1, 1, 2, 3]
    assert found.occurrence_b.tolist() == [1, 2, 1, 1, 2]


def test_a_side_without_rows() -> None:
    assert pair(ids([]), ids(["a"])).only_b.tolist() == [0]
    assert pair(ids(["a"]), ids([])).only_a.tolist() == [0]
    assert len(pair(ids([]), ids([]))) == 0


@given(
    st.lists(st.sampled_from(["", "a", "b", "aa", "ab", "r1", "r11"])), st.lists(st.sampled_from(["", "a", "ab", "r1"]))
)
def test_as_a_dictionary_would(a: list[str], b: list[str]) -> None:
    def keyed(names: list[str]) -> dict[tuple[str, int], int]:
        return {(name, names[:i].count(name) + 1): i for i, name in enumerate(names)}

    ours, theirs = keyed(a), keyed(b)
    found = pair(ids(a), ids(b))
    assert sorted(pairs(found)) == sorted((ours[key], theirs[key]) for key in ours.keys() & theirs.keys())
    assert found.only_a.tolist() == sorted(row for key, row in ours.items() if key not in theirs)
    assert found.only_b.tolist() == sorted(row for key, row in theirs.items() if key not in ours)
    assert dict(zip([*zip(a, found.occurrence_a.tolist(), strict=True)], range(len(a)), strict=True)) == ours
