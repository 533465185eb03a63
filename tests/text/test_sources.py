"""Which files are whose split."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from seqassay.errors import InputError, UsageError
from seqassay.text.sources import find_sources


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("train.txt", "validation.txt.gz", "notes.md", "b.txt", "a.txt.zst"):
        (tmp_path / name).write_text("text")
    return tmp_path


def found(*inputs: str, relative_to: Path) -> list[tuple[str, str]]:
    return [(source.split, os.path.relpath(source.path, relative_to)) for source in find_sources(inputs)]


def test_a_folder_by_the_names_of_its_files(folder: Path) -> None:
    assert found(str(folder), relative_to=folder) == [("train", "train.txt"), ("valid", "validation.txt.gz")]


def test_a_folder_by_its_index(folder: Path) -> None:
    (folder / "INDEX.tsv").write_text("split\tauthor\tfile\nval\tX\tb.txt\ntrain\tY\ttrain.txt\n")
    assert found(str(folder), relative_to=folder) == [("train", "train.txt"), ("valid", "b.txt")]
    (folder / "INDEX.tsv").write_text("split\tsource_file\ntrain\tgone.txt\n")  # not a list of files here
    assert found(str(folder), relative_to=folder)[0] == ("train", "train.txt")


def test_files_folders_and_globs_of_a_split(folder: Path) -> None:
    train = f"train={folder}/*.txt"
    assert found(train, f"test={folder}/a.txt.zst", relative_to=folder) == [
        ("train", "b.txt"),
        ("train", "train.txt"),
        ("test", "a.txt.zst"),
    ]
    assert len(find_sources([f"dev={folder}"])) == 4, "all text files, and no other"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("{}/train.txt", UsageError, "of which split is this"),
        ("{}/absent", InputError, "no such folder"),
        ("train={}/absent.txt", InputError, "no such file"),
        ("train={}/*.rst", InputError, "no file is called so"),
        ("dust={}/b.txt", UsageError, "no split is called 'dust'"),
        ("train=/dev/null", UsageError, "has to be in files"),
        ("train={}/empty", InputError, "holds no .txt file"),
        ("{}/empty", InputError, "has no train.txt"),
    ],
)
def test_places_without_text(folder: Path, text: str, error: type[Exception], message: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(error, match=message):
        find_sources([text.format(folder)])


def test_a_file_twice(folder: Path) -> None:
    with pytest.raises(UsageError, match="given twice, in train and in valid"):
        find_sources([f"train={folder}/b.txt", f"valid={folder}/../{folder.name}/b.txt"])
    with pytest.raises(UsageError, match="no text given"):
        find_sources([])


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("split\tfile\ndust\tb.txt\n", "split is 'dust'"),
        ("split\tfile\ntrain\tgone.txt\n", "no file 'gone.txt'"),
        ("split\tfile\ntrain\n", "no file ''"),
        ("split\tfile\n", "lists no file"),
    ],
)
def test_an_index_that_is_wrong(folder: Path, index: str, message: str) -> None:
    (folder / "INDEX.tsv").write_text(index)
    with pytest.raises(InputError, match=message):
        find_sources([str(folder)])
