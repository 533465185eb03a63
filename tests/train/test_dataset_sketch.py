"""Sampled canonical 31-mers against a plain count, and what near-duplicates are refused or dropped."""

from __future__ import annotations

import random

import numpy as np
import pytest

from seqassay.errors import InputError, UsageError
from seqassay.train.dataset_near import control_near_duplicates
from seqassay.train.dataset_sketch import K, overlap, sharing_records, sketch
from seqassay.train.dataset_sources import SourceRecord, to_bases

COMPLEMENT = str.maketrans("ACGT", "TGCA")


def random_bases(n: int, seed: int) -> str:
    return "".join(random.Random(seed).choices("ACGT", k=n))


def bases_of(*texts: str) -> list[np.ndarray]:
    return [to_bases(text)[0] for text in texts]


def kmers(text: str) -> set[str]:
    """The plain way: every k-mer without an ambiguous base, the smaller of its two strands."""
    found = set()
    for i in range(len(text) - K + 1):
        kmer = text[i : i + K]
        if set(kmer) <= set("ACGT"):
            found.add(min(kmer, kmer.translate(COMPLEMENT)[::-1]))
    return found


def test_every_canonical_kmer_once_at_scale_1() -> None:
    texts = [
        random_bases(300, 1),
        random_bases(100, 2) + "N" + random_bases(60, 3) + "RY" + random_bases(30, 4),
        "A" * 100,
        random_bases(30, 5),
        random_bases(31, 6),
    ]
    sketches = sketch(bases_of(*texts), scale=1)
    assert sketches.counts.tolist() == [len(kmers(text)) for text in texts]
    assert sketches.n_records == 5


def test_shares_at_scale_1_are_the_plain_ones() -> None:
    common = random_bases(200, 1)
    texts = [common + random_bases(150, 2), random_bases(120, 3) + common.translate(COMPLEMENT)[::-1], "ACGT" * 5]
    train = [random_bases(90, 4) + common + random_bases(90, 5), random_bases(400, 6)]
    held = set().union(*map(kmers, train))
    found = overlap(("test", sketch(bases_of(*texts), scale=1)), ("train", sketch(bases_of(*train), scale=1)))
    for text, share in zip(texts[:2], found.share[:2], strict=True):
        assert share == pytest.approx(len(kmers(text) & held) / len(kmers(text)))
    assert np.isnan(found.share[2])  # shorter than a k-mer
    assert found.above(0.1).tolist() == [1, 0]


def test_the_sample_is_one_in_scale_and_estimates_the_share() -> None:
    whole = random_bases(200_000, 1)
    text = whole[:60_000] + random_bases(140_000, 2)
    of, within = sketch(bases_of(text), scale=20), sketch(bases_of(whole), scale=20)
    assert len(of.hashes) == pytest.approx(10_000, rel=0.05)
    assert overlap(("test", of), ("train", within)).share[0] == pytest.approx(0.3, abs=0.02)


def test_both_strands_have_the_same_sketch() -> None:
    text = random_bases(2000, 1)
    one, other = sketch(bases_of(text)), sketch(bases_of(text.translate(COMPLEMENT)[::-1]))
    assert one.hashes.tolist() == other.hashes.tolist()


def test_low_complexity_does_not_outgrow_its_array() -> None:
    assert sketch(bases_of("A" * 5000, random_bases(5000, 1)), scale=2).counts[1] > 2000


def test_nothing_at_all() -> None:
    empty = sketch([])
    assert (empty.n_records, len(empty.hashes)) == (0, 0)
    assert np.isnan(overlap(("test", sketch(bases_of("ACGT"))), ("train", empty)).share[0])
    with pytest.raises(UsageError, match="sketch scale is 0"):
        sketch([], scale=0)


def test_counts_by_share_add_up() -> None:
    common = random_bases(100, 1)
    texts = [common + random_bases(n, 10 + n) for n in (0, 50, 200, 900)] + [random_bases(300, 3), "ACGT"]
    found = overlap(("test", sketch(bases_of(*texts), scale=1)), ("train", sketch(bases_of(common), scale=1)))
    facts = found.facts(0.1)
    assert sum(facts["records_by_share"].values()) + facts["without_sampled_kmers"] == facts["records"] == 6
    assert facts["records_by_share"]["0"] == 1
    assert facts["above_limit"] == len(found.above(0.1)) == 3
    assert facts["max"] == 1


def test_who_shares() -> None:
    common = random_bases(200, 1)
    train = sketch(bases_of(random_bases(300, 2), common, random_bases(100, 3) + common), scale=1)
    test = sketch(bases_of(common, random_bases(300, 2)), scale=1)
    assert sharing_records(train, test, [0]).tolist() == [1, 2]
    assert sharing_records(train, test, [1]).tolist() == [0]


def record(name: str, split: str, bases: str) -> SourceRecord:
    return SourceRecord(name, to_bases(bases)[0], "x.fa", 1, label="viral", split=split)


def splits() -> list[SourceRecord]:
    a, b = random_bases(400, 1), random_bases(400, 2)
    return [
        record("clean", "train", random_bases(500, 3)),
        record("has_a", "train", random_bases(300, 4) + a),
        record("has_b", "train", b[:100] + random_bases(900, 5)),
        record("valid_a", "valid", a + random_bases(20, 6)),
        record("valid_b", "valid", random_bases(500, 7) + b[150:200]),
        record("test_a", "test", a),
        record("test_b", "test", b),
    ]


def test_near_duplicates_are_refused_by_name() -> None:
    with pytest.raises(InputError) as error:
        control_near_duplicates(splits(), max_shared=0.1, drops=False, scale=1)
    message = str(error.value)
    assert "1 of 2 valid records share more than 10%" in message
    assert "2 of 2 test records share more than 10% of their sampled 31-mers with train" in message
    assert "test_a (test): 100% of 370 in train" in message
    assert "--drop-near-duplicates" in message


def test_near_duplicates_are_dropped_from_the_earlier_split() -> None:
    found = control_near_duplicates(splits(), max_shared=0.1, drops=True, scale=1)
    assert [one.id for one in found.dropped] == ["valid_a", "has_a", "has_b"]
    assert [one.id for one in found.kept] == ["clean", "valid_b", "test_a", "test_b"]
    assert found.facts["dropped"]["train"]["records"] == 2
    assert all(row["above_limit"] == 0 for row in found.facts["splits_after"])
    again = control_near_duplicates(found.kept, max_shared=0.1, drops=False, scale=1)
    assert again.dropped == []


def test_what_is_below_the_limit_is_reported_and_kept() -> None:
    found = control_near_duplicates(splits(), max_shared=1.0, drops=False, scale=1)
    assert len(found.kept) == 7
    rows = {(row["of"], row["within"]): row for row in found.facts["splits"]}
    assert rows["test", "train"]["max"] == 1
    assert set(rows) == {("valid", "train"), ("test", "train"), ("test", "valid")}
