"""Which chunks a dataset keeps, with reasons that add up; how what remains is evened out."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from seqassay.errors import UsageError
from seqassay.train.dataset_chunks import ChunkRule, Items, balanced, cut_items, even_quotas, frame_names
from seqassay.train.dataset_sources import SourceRecord, to_bases

OPEN = "ATGGAC" * 10  # no stop in any frame
CLOSED = "TAACTAACTAACTTAGTTAGTTAGC" * 2 + "TAATTAATTAATTAGTTAGTTAG"


def record(name: str, bases: str, *, label: str = "viral", group: str = "virus", proteins: object = None):
    return SourceRecord(name, to_bases(bases)[0], "x.fa", 1, label=label, group=group, proteins=proteins)


def names_of(items: Items, records: list[SourceRecord]) -> list[str]:
    return [f"{records[i].id}_{n}" for i, n in zip(items.record.tolist(), items.number.tolist(), strict=True)]


def random_records(n: int, seed: int = 1) -> list[SourceRecord]:
    rng = random.Random(seed)
    return [
        record(f"r{i}", "".join(rng.choices("ACGTN", [30, 30, 30, 30, 0.1], k=rng.randint(1, 900)))) for i in range(n)
    ]


@pytest.mark.parametrize(
    "rule", [ChunkRule(60), ChunkRule(60, "any"), ChunkRule(61, "stop-free", False), ChunkRule(300, "any", False)]
)
def test_cut_is_kept_plus_left_out(rule: ChunkRule) -> None:
    records = random_records(100)
    items, cut, left_out = cut_items(records, rule)
    counts = cut.counts["all"]
    assert counts["chunks"] == len(items) + sum(entry["chunks"] for entry in left_out.counts.values())
    assert counts["bases"] == items.length.sum() + sum(entry["bases"] for entry in left_out.counts.values())
    assert len(items) > 10
    assert (np.diff(items.record) >= 0).all()
    if rule.rejects_ambiguous:
        for i, start, length in zip(items.record, items.start, items.length, strict=True):
            assert b"N" not in records[i].bases[start : start + length].tobytes()


def test_stop_free_frames_agree_with_biopython() -> None:
    seq = pytest.importorskip("Bio.Seq")
    records = random_records(60, seed=3)
    items, _, _ = cut_items(records, ChunkRule(120, "stop-free"))
    everything, _, _ = cut_items(records, ChunkRule(120, "any"))
    expected = []
    for i, start, length in zip(everything.record, everything.start, everything.length, strict=True):
        strands = seq.Seq(records[i].bases[start : start + length].tobytes())
        frames = [s[f : f + (len(s) - f) // 3 * 3] for s in (strands, strands.reverse_complement()) for f in range(3)]
        expected.append(any(len(frame) and "*" not in frame.translate() for frame in frames))
    assert len(items) == sum(expected)
    kept = set(names_of(items, records))
    assert [name in kept for name in names_of(everything, records)] == expected


def test_whole_records_are_kept_as_they_are() -> None:
    records = [record("a", CLOSED), record("b", "NNNN")]
    items, cut, left_out = cut_items(records, ChunkRule(None))
    assert items.length.tolist() == [len(CLOSED), 4]
    assert (cut.counts, left_out.counts) == ({}, {})


def test_the_first_fault_counts() -> None:
    records = [record("ambiguous", "N" + CLOSED), record("closed", CLOSED), record("open", OPEN)]
    items, _, left_out = cut_items(records, ChunkRule(100))
    assert names_of(items, records) == ["open_1"]
    assert {reason: count["chunks"] for reason, count in left_out.counts.items()} == {
        "ambiguous_bases": 1, "no_stop_free_frame": 1
    }  # fmt: skip


def test_frames_of_an_annotated_protein_are_listed() -> None:
    annotated = record("a", OPEN, proteins=(b"MDMDMDMDMDMDMDMDMDMDMDMD",))
    reverse = record("r", OPEN.translate(str.maketrans("ACGT", "TGCA"))[::-1], proteins=(b"XMDMDMDMDMDMDMDMDMDMDMDMD",))
    other = record("o", OPEN, proteins=(b"MDMDMDMDMDMDMDMDMDM",))
    plain = record("p", OPEN)
    records = [annotated, reverse, other, plain]
    items, _, left_out = cut_items(records, ChunkRule(60))
    assert names_of(items, records) == ["a_1", "r_1", "p_1"]
    assert [frame_names(bits) for bits in items.frames.tolist()] == ["F1", "R1", ""]
    assert left_out.counts["no_annotated_frame"]["chunks"] == 1
    kept = cut_items(records, ChunkRule(60, "stop-free"))[0]
    assert len(kept) == 4
    assert not kept.frames.any()


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (ChunkRule(None, "annotated"), "is about chunks"),
        (ChunkRule(2), "a codon needs 3 bases"),
        (ChunkRule(300, "some"), "unknown frame rule 'some'"),  # type: ignore[arg-type]
    ],
)
def test_rules_that_cannot_be(rule: ChunkRule, message: str) -> None:
    with pytest.raises(UsageError) as error:
        rule.check()
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("sizes", "total", "quotas"),
    [
        ([10, 10, 10], 12, [4, 4, 4]),
        ([1, 10, 10], 12, [1, 5, 6]),
        ([1, 2, 3], 6, [1, 2, 3]),
        ([5, 0, 9], 7, [3, 0, 4]),
        ([], 0, []),
    ],
)
def test_quotas_are_as_even_as_sizes_allow(sizes: list[int], total: int, quotas: list[int]) -> None:
    assert even_quotas(sizes, total) == quotas


def items_of(records: list[SourceRecord]) -> Items:
    n = np.arange(len(records), dtype=np.int64)
    lengths = np.array([len(one) for one in records], np.int64)
    return Items(n, n * 0 + 1, n * 0, lengths, (n * 0).astype(np.uint8))


def test_labels_and_groups_are_evened_out() -> None:
    groups = [("viral", "virus", 50), ("other", "human", 100), ("other", "fungi", 5), ("other", "plant", 200)]
    records = [record(f"{g}{i}", "ACGT", label=label, group=g) for label, g, n in groups for i in range(n)]
    keep = balanced(items_of(records), records, by_bases=False, seed=1)
    chosen = Counter(one.group for one, kept in zip(records, keep.tolist(), strict=True) if kept)
    assert chosen == {"virus": 50, "human": 22, "fungi": 5, "plant": 23}
    assert (balanced(items_of(records), records, by_bases=False, seed=1) == keep).all()
    assert (balanced(items_of(records), records, by_bases=False, seed=2) != keep).any()


def test_more_viral_than_others_is_cut_down() -> None:
    records = [record(f"v{i}", "ACGT") for i in range(30)] + [record("o", "ACGT", label="other", group="human")] * 10
    keep = balanced(items_of(records), records, by_bases=False, seed=1)
    assert (keep[:30].sum(), keep[30:].sum()) == (10, 10)


def test_whole_records_are_balanced_by_bases() -> None:
    rng = random.Random(1)
    records = [record(f"v{i}", "A" * 1000) for i in range(20)]
    records += [record(f"o{i}", "A" * rng.randint(10, 300), label="other", group="human") for i in range(400)]
    keep = balanced(items_of(records), records, by_bases=True, seed=1)
    n_viral, n_other = (
        sum(len(one) for one, kept in zip(records, keep.tolist(), strict=True) if kept and one.label == label)
        for label in ("viral", "other")
    )
    assert n_viral == 20_000
    assert 20_000 <= n_other < 20_300
