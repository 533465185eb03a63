"""Records put aside: whole families and genera, a share of every group, no relative left in training."""

import numpy as np
import pytest

from seqassay.sequences.ragged import Ragged
from seqassay.train.dataset import LabelledRecords, join_records
from seqassay.train.dataset_aside import put_aside


def made(rows: list[tuple[str, str, str]]) -> LabelledRecords:
    """Records of four bases from (group, taxon, family)."""
    groups, taxa, families = zip(*rows, strict=True)
    ids = [f"r{i}" for i in range(len(rows))]
    return LabelledRecords(
        ids,
        np.array([int(group in {"virus", "metagenome_viral"}) for group in groups]),
        np.array(groups),
        np.array(taxa),
        np.array(families),
        ids,
        Ragged.from_bytes([b"ACGT"] * len(rows)),
    )


def units(records: LabelledRecords, rows: np.ndarray, names: np.ndarray) -> set[tuple[str, str]]:
    return {(str(records.groups[i]).split("_")[0], str(names[i])) for i in rows.tolist() if names[i]}


@pytest.fixture
def records() -> LabelledRecords:
    rows = [("virus", f"Host{i % 60} virus {i}", f"Family{i % 25}" if i % 3 else "") for i in range(300)]
    rows += [("bacteria", f"Genus{i % 20} species{i % 40}", "") for i in range(200)]
    rows += [("human", f"Homo sapiens ({build})", "") for build in ("a",) * 80 + ("b",) * 20]
    rows += [("metagenome_other", f"study{i % 10}", "") for i in range(200)]
    rows += [("metagenome_viral", f"study{i % 10}", "") for i in range(50)]
    return made(rows)


def test_a_share_of_every_group_and_no_relative_in_training(records: LabelledRecords) -> None:
    chosen = put_aside(records, share=0.15, seed=1)
    assert sorted([*chosen.aside.tolist(), *chosen.left.tolist()]) == list(range(len(records)))
    assert chosen.groups_without == []
    sources = np.char.partition(records.groups, "_")[:, 0]
    for source in ("virus", "bacteria", "human", "metagenome"):
        share = (sources[chosen.aside] == source).sum() / (sources == source).sum()
        assert 0.075 <= share <= 0.225, source
    genera = np.char.partition(records.taxa, " ")[:, 0]
    not_human = [rows[records.groups[rows] != "human"] for rows in (chosen.aside, chosen.left)]
    by_genus = [units(records, rows, genera) for rows in not_human]
    by_family = [units(records, rows, records.families) for rows in not_human]
    # A genus or a family is on one side, but for those that the other rule has cut through: some are whole.
    assert by_genus[0] - by_genus[1]
    assert by_family[0] - by_family[1]
    assert not {unit for unit in by_genus[0] & by_genus[1] if unit[0] in {"bacteria", "metagenome"}}
    assert not units(records, chosen.aside, records.taxa) & units(records, chosen.left, records.taxa)


def test_the_groups_of_a_study_go_together(records: LabelledRecords) -> None:
    chosen = put_aside(records)
    studies = {
        group: set(records.taxa[chosen.aside][records.groups[chosen.aside] == group].tolist())
        for group in ("metagenome_other", "metagenome_viral")
    }
    assert studies["metagenome_other"] == studies["metagenome_viral"] != set()


def test_a_group_of_one_genus_is_cut_by_taxon_and_one_of_one_taxon_not_at_all() -> None:
    rows = [("human", "Homo sapiens a", "")] * 17 + [("human", "Homo sapiens b", "")] * 3
    rows += [("virus", "one", "")] * 10
    records = made(rows)
    chosen = put_aside(records, share=0.15)
    assert chosen.aside.tolist() == [17, 18, 19]
    assert chosen.groups_without == ["virus"]


def test_the_same_seed_chooses_the_same_and_another_another(records: LabelledRecords) -> None:
    first, again, other = (put_aside(records, seed=seed).aside.tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_joined_records_are_those_of_both(records: LabelledRecords) -> None:
    chosen = put_aside(records)
    both = join_records(records.take(chosen.aside), records.take(chosen.left))
    order = np.concatenate([chosen.aside, chosen.left])
    assert both.ids == [records.ids[i] for i in order.tolist()]
    assert both.families.tolist() == records.families[order].tolist()
    assert both.bases.to_bytes() == records.bases.take(order).to_bytes()
