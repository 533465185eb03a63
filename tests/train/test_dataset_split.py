"""Whole units, near the fractions, no genome in two splits."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from seqassay.errors import InputError, UsageError
from seqassay.train.dataset_sources import SourceRecord, to_bases
from seqassay.train.dataset_split import (
    assign_by_table,
    check_fractions,
    check_genomes,
    check_labels,
    draw_splits,
    drop_shared_genomes,
    sequence_digest,
)

FRACTIONS = {"train": 0.8, "valid": 0.1, "test": 0.1}


def some_records(n_taxa: int = 60, seed: int = 1) -> list[SourceRecord]:
    """Taxa of 1 to 4 records, families of 3 taxa, studies of 5."""
    rng = random.Random(seed)
    records = []
    for taxon in range(n_taxa):
        label = "viral" if taxon % 3 else "other"
        for piece in range(rng.randint(1, 4)):
            bases, _ = to_bases("".join(rng.choices("ACGT", k=rng.randint(50, 400))))
            name = f"t{taxon}:{piece * 500 + 1}-{piece * 500 + 500}"
            records.append(
                SourceRecord(
                    name,
                    bases,
                    "x.fa",
                    len(records) + 1,
                    label=label,
                    group="g",
                    taxon=f"taxon {taxon}",
                    family=f"family {taxon // 3}",
                    study=f"study {taxon // 5}",
                    genome=f"t{taxon}",
                )
            )
    return records


@pytest.mark.parametrize("by", ["genome", "taxon", "family", "study"])
def test_units_stay_whole_and_fractions_are_met_for_both_labels(by: str) -> None:
    records = some_records(300)
    drawn = draw_splits(records, by, FRACTIONS, 7)  # type: ignore[arg-type]
    assert [record.id for record in drawn] == [record.id for record in records]
    of_unit: dict[str, set[str]] = {}
    for record in drawn:
        of_unit.setdefault(getattr(record, by), set()).add(record.split)
    assert all(len(splits) == 1 for splits in of_unit.values())
    for label in ("viral", "other"):
        total = sum(len(record) for record in drawn if record.label == label)
        for split, fraction in FRACTIONS.items():
            part = sum(len(record) for record in drawn if record.label == label and record.split == split)
            assert abs(part / total - fraction) < 0.04
    check_genomes(drawn)


def test_the_seed_decides() -> None:
    records = some_records()
    a, b, c = ([r.split for r in draw_splits(records, "taxon", FRACTIONS, seed)] for seed in (1, 1, 2))
    assert a == b != c


def test_shared_genomes_and_sequences_hold_taxa_together() -> None:
    records = some_records(30)
    records[-1] = replace(records[-1], bases=to_bases("ACCGGGTTTTA" * 9)[0])
    twin = replace(records[0], id="twin", taxon="other name", genome="twin", bases=to_bases("TAAAACCCGGT" * 9)[0])
    for seed in range(5):
        drawn = draw_splits([*records, twin], "taxon", FRACTIONS, seed)
        assert drawn[-1].split == drawn[-2].split
        check_genomes(drawn)


def test_records_without_a_unit_are_units_of_their_own() -> None:
    records = [replace(record, taxon="") for record in some_records(200)]
    drawn = draw_splits(records, "taxon", FRACTIONS, 1)
    assert {record.split for record in drawn} == set(FRACTIONS)


def test_a_unit_larger_than_the_small_splits_goes_into_train() -> None:
    records = some_records(100)
    large = replace(records[0], id="large", genome="large", taxon="large", bases=to_bases("ACGGT" * 2000)[0])
    for seed in range(5):
        assert draw_splits([*records, large], "taxon", FRACTIONS, seed)[-1].split == "train"


@pytest.mark.parametrize(
    "fractions", [{"train": 0.5, "valid": 0.1}, {"train": 1.2, "test": -0.2}, {"train": 0.9, "dev": 0.1}]
)
def test_fractions_that_cannot_be(fractions: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="add up to 1"):
        check_fractions(fractions)


def test_a_split_can_be_left_out() -> None:
    drawn = draw_splits(some_records(), "taxon", {"train": 0.9, "valid": 0, "test": 0.1}, 1)
    assert {record.split for record in drawn} == {"train", "test"}


def test_unknown_unit() -> None:
    with pytest.raises(UsageError, match="cannot split by 'read'"):
        draw_splits(some_records(), "read", FRACTIONS, 1)  # type: ignore[arg-type]


def test_splits_by_a_table() -> None:
    records = some_records(3)
    assigned = assign_by_table(records, "taxon", {"taxon 0": "train", "taxon 1": "test", "taxon 2": "none"})
    assert {(record.taxon, record.split) for record in assigned} == {
        ("taxon 0", "train"), ("taxon 1", "test"), ("taxon 2", "none")
    }  # fmt: skip
    with pytest.raises(InputError, match="its taxon 'taxon 1' is not in the split table"):
        assign_by_table(records, "taxon", {"taxon 0": "train"})
    with pytest.raises(InputError, match="has no study"):
        assign_by_table([replace(records[0], study="")], "study", {"s": "train"})
    with pytest.raises(InputError, match="split is 'test', but the split table says 'train'"):
        assign_by_table([replace(records[0], split="test")], "taxon", {"taxon 0": "train"})


def one(name: str, bases: str, split: str, genome: str = "", number: int = 1) -> SourceRecord:
    return SourceRecord(
        name, to_bases(bases)[0], "x.fa", number, label="viral", genome=genome or name, split=split
    )  # fmt: skip


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (one("a", "CCCC", "test", number=2), "the id a is in two splits: here test, and train in x.fa, record 1"),
        (one("b", "CCCC", "test", "g", number=2), "the genome g is in two splits"),
        (one("b", "AACG", "test", number=2), "identical"),
        (one("b", "CGTT", "test", number=2), "identical"),
    ],
)
def test_a_genome_in_two_splits_is_named(second: SourceRecord, message: str) -> None:
    records = [one("a", "AACG", "train", "g"), second]
    with pytest.raises(InputError, match=message) as error:
        check_genomes(records)
    assert "x.fa, record 2" in str(error.value)
    assert "here 1 records" in error.value.hint
    check_genomes([records[0], replace(second, split="train")])
    kept, dropped = drop_shared_genomes(records)
    assert ([r.split for r in kept], [r.split for r in dropped]) == (["test"], ["train"])
    check_genomes(kept)


def test_a_sequence_and_its_reverse_complement_are_one() -> None:
    assert sequence_digest(one("a", "AACGN", "train")) == sequence_digest(one("b", "NCGTT", "train"))
    assert sequence_digest(one("a", "AACGN", "train")) != sequence_digest(one("b", "GCAAN", "train"))


def test_both_labels_in_every_split() -> None:
    viral, other = one("a", "ACGT", "train"), replace(one("b", "CCGT", "train"), label="other")
    check_labels([viral, other])
    with pytest.raises(InputError, match="the split train holds records of one label only"):
        check_labels([viral])
    with pytest.raises(InputError, match="the split test is empty"):
        check_labels([viral, other], wanted=["train", "test"])
    with pytest.raises(InputError, match="no record is in any split"):
        check_labels([])
