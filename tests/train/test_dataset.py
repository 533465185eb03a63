from pathlib import Path

import numpy as np
import pytest

from seqassay.errors import InputError, UsageError
from seqassay.train.dataset import ChunkSampler, evaluation_chunks, header_fields, read_labelled, reverse_complement


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


TWO = '>a label=viral group=virus taxon="A virus"\nacgu\nRYAA\n>b label=other group=human\nTTTTTTTTTT\n'


def test_headers_and_letters_are_read(tmp_path: Path) -> None:
    records = read_labelled(write(tmp_path / "x.fa", TWO))
    assert records.ids == ["a", "b"]
    assert records.labels.tolist() == [1, 0]
    assert records.groups.tolist() == ["virus", "human"]
    assert records.taxa.tolist() == ["A virus", ""]
    assert records.bases.to_bytes() == [b"ACGTNNAA", b"TTTTTTTTTT"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (">a group=virus\nACGT\n", "record 1 (a): needs label="),
        (">a label=viral group=virus\nACGT\n>b label=maybe group=human\nACGT\n", "record 2 (b)"),
        (">a label=viral\nACGT\n", "needs label=viral or label=other, and group="),
        ("", "the file is empty"),
        ("ACGT\n", "sequence before the first header"),
    ],
)
def test_bad_labels_name_file_and_record(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "x.fa", text)
    with pytest.raises(InputError) as error:
        read_labelled(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_a_header_of_a_million_letters_takes_no_time() -> None:
    """Looked at from each of its letters it took minutes."""
    fields = header_fields(f'x label=viral {"a" * 1_000_000} {"b=" * 100_000} taxon="a b" note=x=y')
    assert (fields["label"], fields["taxon"], fields["note"]) == ("viral", "a b", "x=y")


def test_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_labelled(tmp_path / "none.fa")


def test_reverse_complement_of_a_table() -> None:
    table = np.frombuffer(b"AACGTNAAAAAA", np.uint8).reshape(2, 6)
    assert reverse_complement(table).tobytes() == b"NACGTTTTTTTT"


def records_of(tmp_path: Path, *items: tuple[str, str, str]):
    text = "".join(f">r{i} label={label} group={group}\n{bases}\n" for i, (label, group, bases) in enumerate(items))
    return read_labelled(write(tmp_path / "records.fa", text))


def test_draws_follow_the_group_weights_and_skip_short_records(tmp_path: Path) -> None:
    records = records_of(
        tmp_path,
        ("viral", "virus", "A" * 100),
        ("viral", "virus", "A" * 9),
        ("other", "human", "C" * 10_000),
        ("other", "bacteria", "G" * 50),
    )
    sampler = ChunkSampler(records, {"virus": 0.5, "human": 0.3, "bacteria": 0.2})
    chunks = sampler.draw(4000, 10, np.random.default_rng(0))
    share = np.bincount(chunks.record, minlength=4) / 4000
    assert share[1] == 0
    np.testing.assert_allclose(share[[0, 2, 3]], [0.5, 0.3, 0.2], atol=0.03)
    assert set(chunks.bases.lengths.tolist()) == {10}
    # every chunk lies within its record
    letters = np.frombuffer(b"A-CG", np.uint8)[chunks.record]
    assert (chunks.bases.values.reshape(4000, 10) == letters[:, None]).all()
    assert (chunks.labels == (chunks.record < 2)).all()


def test_a_long_record_counts_by_the_power_of_its_length(tmp_path: Path) -> None:
    records = records_of(
        tmp_path, ("viral", "virus", "A" * 100), ("viral", "virus", "C" * 10_000), ("other", "human", "G" * 100)
    )
    sampler = ChunkSampler(records, {"virus": 0.5, "human": 0.5}, length_power=0.5)
    chunks = sampler.draw(6000, 50, np.random.default_rng(1))
    counts = np.bincount(chunks.record, minlength=3)
    assert 7 < counts[1] / counts[0] < 14


def test_the_same_seed_draws_the_same_chunks(tmp_path: Path) -> None:
    records = records_of(tmp_path, ("viral", "virus", "ACGT" * 50), ("other", "human", "CCGT" * 50))
    sampler = ChunkSampler(records, {"virus": 1, "human": 1})
    a, b, c = (sampler.draw(50, 20, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert a.bases.to_bytes() == b.bases.to_bytes() != c.bases.to_bytes()


@pytest.mark.parametrize(
    ("weights", "message"),
    [({"virus": 1.0}, "no weight for group human"), ({"virus": 1.0, "human": 0.0}, "one label only")],
)
def test_weights_that_cannot_work_are_refused(tmp_path: Path, weights: dict[str, float], message: str) -> None:
    records = records_of(tmp_path, ("viral", "virus", "ACGT"), ("other", "human", "ACGT"))
    with pytest.raises(UsageError, match=message):
        ChunkSampler(records, weights)


def test_chunks_longer_than_every_record_are_refused(tmp_path: Path) -> None:
    records = records_of(tmp_path, ("viral", "virus", "ACGT"), ("other", "human", "ACGT"))
    with pytest.raises(UsageError, match="5 bases"):
        ChunkSampler(records, {"virus": 1, "human": 1}).draw(1, 5, np.random.default_rng(0))
    with pytest.raises(UsageError, match="5 bases"):
        evaluation_chunks(records, 5, seed=0)


def test_evaluation_chunks_are_fixed_and_few_from_long_records(tmp_path: Path) -> None:
    records = records_of(
        tmp_path, ("viral", "virus", "A" * 30), ("other", "human", "C" * 50_000), ("other", "human", "G" * 4100)
    )
    chunks = evaluation_chunks(records, 30, seed=1, bases_per_chunk=2000, max_per_record=6)
    assert np.bincount(chunks.record).tolist() == [1, 6, 3]
    letters = chunks.bases.values.reshape(-1, 30)
    assert (letters == letters[:, :1]).all()
    assert set(letters[chunks.record == 1, 0].tolist()) <= set(b"CG")  # either strand
    again = evaluation_chunks(records, 30, seed=1, bases_per_chunk=2000, max_per_record=6)
    assert again.bases.to_bytes() == chunks.bases.to_bytes()
