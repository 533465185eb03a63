"""Test sets: what is read of them, their digests, and manifests whose files were changed."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from seqassay.errors import InputError
from seqassay.prove.test_set import read_again, read_test_set
from seqassay.train.dataset_build import BuildSettings, build_dataset
from seqassay.train.dataset_chunks import ChunkRule

Write = Callable[..., Path]


def test_labels_groups_units_and_lengths(tmp_path: Path) -> None:
    path = tmp_path / "t.fa"
    path.write_text(
        '>a label=viral group=phage taxon="T 1" record=g1\nACGT\n'
        '>b label=other group=fungi record=g2 genome="G 2"\nACG\n'
        '>b label=other group=fungi genome=g1x taxon="T 1"\nAC\n'
        ">d label=other group=fungi\nA\n"
    )
    examples = read_test_set(path).examples
    assert examples.ids == ["a", "b", "b", "d"]
    assert examples.labels.tolist() == [1, 0, 0, 0]
    assert examples.groups.tolist() == ["phage", "fungi", "fungi", "fungi"]
    assert examples.genomes.tolist() == ["g1", "G 2", "g1x", "d"]
    assert examples.lengths is not None
    assert examples.lengths.tolist() == [4, 3, 2, 1]
    assert len(set(examples.units("record").tolist())) == 4
    first, second, third, fourth = examples.units("taxon").tolist()
    assert first == third  # of one taxon
    assert len({first, second, fourth}) == 3  # without a taxon each genome stands for itself


def test_the_digest_is_of_the_content(write_labelled: Write, tmp_path: Path) -> None:
    plain = write_labelled(20)
    compressed = tmp_path / "same.fa.gz"
    compressed.write_bytes(gzip.compress(plain.read_bytes()))
    other = tmp_path / "other.fa"
    other.write_text(plain.read_text().replace("label=viral", "label=other", 1))
    digest = read_test_set(plain).digest
    assert read_test_set(compressed).digest == digest
    assert read_test_set(other).digest != digest


def test_a_file_that_changes_between_readings_is_noticed(write_labelled: Write) -> None:
    path = write_labelled(20)
    test_set = read_test_set(path)
    assert sum(len(shard.ids) for shard in read_again(test_set)) == 22
    path.write_text(path.read_text() + ">more label=viral group=phage\nACGT\n")
    with pytest.raises(InputError, match="was changed while it was being evaluated"):
        list(read_again(test_set))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (">a group=x\nACGT\n", r"record 1 \(a\): needs label=viral or label=other"),
        (">a label=viral group=x\nACGT\n>b label=virus group=x\nA\n", r"record 2 \(b\): needs label="),
        (">a label=viral\nACGT\n", r"record 1 \(a\): needs label=viral or label=other, and group="),
        ("", "labelled.fa"),
    ],
)
def test_what_is_no_test_set(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "labelled.fa"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_test_set(path)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        read_test_set(tmp_path / "none.fa")
    with pytest.raises(InputError, match=r"holds neither dataset\.json nor test_metadata\.json"):
        read_test_set(tmp_path)


@pytest.fixture
def dataset(write_labelled: Write, tmp_path: Path) -> Path:
    path = write_labelled(80, n_stopped=0)
    build_dataset(
        BuildSettings(
            inputs=(str(path),),
            output_dir=tmp_path / "dataset",
            split_by="genome",
            fractions={"train": 0.5, "valid": 0.25, "test": 0.25},
            rule=ChunkRule(None),
            max_shared=1.0,
        )
    )
    return tmp_path / "dataset"


def test_the_test_split_of_a_dataset(dataset: Path) -> None:
    test_set = read_test_set(dataset)
    assert test_set.kind == "dataset"
    assert test_set.digest == read_test_set(dataset / "test.fa.gz").digest
    assert set(test_set.examples.labels.tolist()) == {0, 1}
    manifest = json.loads((dataset / "dataset.json").read_text())
    assert test_set.facts["file_sha256"] == manifest["files"]["test.fa.gz"]["sha256"]


def test_a_dataset_whose_test_split_was_changed_is_gone_or_was_never_there(dataset: Path) -> None:
    file, path = dataset / "test.fa.gz", dataset / "dataset.json"
    content = file.read_bytes()
    file.write_bytes(gzip.compress(gzip.decompress(content)[:-20]))
    with pytest.raises(InputError, match=r"test\.fa\.gz: was changed: its SHA-256 is .*, dataset\.json says"):
        read_test_set(dataset)
    file.unlink()
    with pytest.raises(InputError, match=r"test\.fa\.gz: is gone; dataset\.json lists it"):
        read_test_set(dataset)
    manifest = json.loads(path.read_text())
    del manifest["files"]["test.fa.gz"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"lists no test\.fa\.gz"):
        read_test_set(dataset)
    path.write_text(json.dumps({"chunk_length": 300}))
    with pytest.raises(InputError, match="format is None"):
        read_test_set(dataset)
