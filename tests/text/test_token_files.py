"""Token files: built from text, opened again, and what is said of those that were changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqassay.errors import InputError, ResourceError, UsageError
from seqassay.text import build as build_module
from seqassay.text import token_files as token_files_module
from seqassay.text.build import BuildSettings, build_token_files
from seqassay.text.token_files import MANIFEST, id_dtype, open_token_files
from seqassay.text.tokenizer import load_tokenizer

TRAIN = "The cat sat on the mat.\nIt saw the hat – and the bat.\n---\nThe dog sat on the log; naïve.\n" * 4
VALID = "The cat and the dog.\n"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    folder = tmp_path / "text"
    folder.mkdir()
    (folder / "train.txt").write_text(TRAIN, encoding="utf-8")
    (folder / "valid.txt").write_text(VALID, encoding="utf-8")
    return folder


def build(text: Path, output: Path, **options: Any) -> dict[str, Any]:
    given = {"documents": "line:---", "vocab_size": 270, **options}
    return build_token_files(BuildSettings(inputs=(str(text),), output_dir=output, **given))


def test_documents_come_back_and_sizes_are_true(text: Path, tmp_path: Path) -> None:
    manifest = build(text, tmp_path / "tokens")
    files = open_token_files(tmp_path / "tokens")
    files.verify()
    tokenizer = files.tokenizer()
    train = files.split("train")
    found = [tokenizer.decode(train.tokens[begin:end]) for begin, end in train.documents()]
    assert found == [document.removeprefix("\n") for document in TRAIN.split("---\n")]
    assert "".join(found) == TRAIN.replace("---\n", "")
    assert tokenizer.separator is not None
    ends = [end - 1 for _, end in train.documents(with_separator=True)]
    assert train.tokens[ends].tolist() == [tokenizer.separator.id] * 5
    assert np.count_nonzero(train.tokens == tokenizer.separator.id) == train.n_separators == 5
    assert train.n_bytes == len(TRAIN.replace("---\n", "").encode())
    assert train.n_characters == len(TRAIN.replace("---\n", ""))
    assert train.n_words == len(TRAIN.replace("---\n", "").split())
    assert train.tokens.dtype == np.uint16
    assert manifest["sources"][0]["separator_lines"] == 4
    assert all(split["comes_back_exactly"] for split in manifest["splits"].values())
    with pytest.raises(UsageError, match="has no split 'test'"):
        files.split("test")


@pytest.mark.parametrize("size", [1, 5, 1 << 15])
def test_the_same_text_gives_the_same_bytes_whatever_the_pieces(
    text: Path, tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(text, tmp_path / "first")
    monkeypatch.setattr(build_module, "DEFAULT_PIECE_CHARACTERS", size)
    second = build(text, tmp_path / "second", vocab_size=None, tokenizer=tmp_path / "first")
    assert first["splits"] == second["splits"]


def test_characters(text: Path, tmp_path: Path) -> None:
    build(text, tmp_path / "tokens", vocab_size=None, characters=True)
    files = open_token_files(tmp_path / "tokens")
    assert files.vocab_size == len(set(TRAIN.replace("---\n", "")))
    assert files.split("train").n_separators == 0
    assert files.tokenizer().decode(files.split("valid").tokens) == VALID


def test_an_unknown_character_has_file_line_and_column(text: Path, tmp_path: Path) -> None:
    (text / "valid.txt").write_text("The cat.\nThe çat.\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"valid.txt, line 2: column 5: the character 'ç' \(U\+00E7\)"):
        build(text, tmp_path / "tokens", vocab_size=None, characters=True)
    assert not (tmp_path / "tokens").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "valid.txt: the file holds no text"), ("a", "the text of valid is 1 token; a language model needs 2")],
)
def test_a_split_with_too_little_text(text: Path, tmp_path: Path, content: str, message: str) -> None:
    (text / "valid.txt").write_text(content)
    with pytest.raises(InputError, match=message):
        build(text, tmp_path / "tokens")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text"], "nothing is left behind"


def test_settings_that_cannot_work(text: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no tokenizer given"):
        build(text, tmp_path / "tokens", vocab_size=None)
    with pytest.raises(UsageError, match="more than one tokenizer"):
        build(text, tmp_path / "tokens", characters=True)
    (text / "train.txt").unlink()
    with pytest.raises(InputError, match="a tokenizer is made of the training text"):
        build(text, tmp_path / "tokens")


def test_a_folder_is_replaced_when_asked_for_and_only_if_it_is_one(text: Path, tmp_path: Path) -> None:
    output = tmp_path / "tokens"
    build(text, output)
    with pytest.raises(UsageError, match="exists already"):
        build(text, output)
    build(text, output, force=True)
    (output / "thesis.tex").write_text("")
    with pytest.raises(UsageError, match=r"thesis\.tex, which is no part of a folder of token files"):
        build(text, output, force=True)


def test_a_full_disk_leaves_the_old_folder_whole(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(text, tmp_path / "tokens")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(token_files_module._HashedFile, "write", full)
    with pytest.raises(ResourceError, match="the disk is full"):
        build(text, tmp_path / "tokens", force=True)
    open_token_files(tmp_path / "tokens").verify()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text", "tokens"]


@pytest.fixture
def tokens(text: Path, tmp_path: Path) -> Path:
    build(text, tmp_path / "tokens")
    return tmp_path / "tokens"


@pytest.mark.parametrize("name", ["train.bin", "valid.documents.bin"])
def test_a_file_that_is_missing_cut_or_changed(tokens: Path, name: str) -> None:
    whole = (tokens / name).read_bytes()
    (tokens / name).unlink()
    with pytest.raises(InputError, match=f"{name}: is missing"):
        open_token_files(tokens)
    (tokens / name).write_bytes(whole[:-2])
    with pytest.raises(InputError, match=f"{name}: has {len(whole) - 2:,} bytes"):
        open_token_files(tokens)
    (tokens / name).write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    with pytest.raises(InputError, match=f"{name}: was changed"):
        open_token_files(tokens).verify()


def test_a_tokenizer_that_was_exchanged(tokens: Path, text: Path, tmp_path: Path) -> None:
    build(text, tmp_path / "other", vocab_size=265)
    shutil.copy(tmp_path / "other" / "tokenizer.json", tokens)
    with pytest.raises(InputError, match=r"has the digest .* the tokens were made by"):
        open_token_files(tokens).tokenizer()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "float64"}, 'dtype is "float64"; known: uint16, uint32'),
        ({"version": "9.9"}, 'version is "9.9"'),
        ({"splits": {}}, "splits is {}"),
        ({"format": None}, "format is null"),
    ],
)
def test_a_manifest_that_is_not_as_it_should_be(tokens: Path, change: dict[str, Any], message: str) -> None:
    manifest = json.loads((tokens / MANIFEST).read_text())
    (tokens / MANIFEST).write_text(json.dumps({**manifest, **change}))
    with pytest.raises(InputError, match="is not the manifest of token files") as caught:
        open_token_files(tokens)
    assert message in str(caught.value)


def test_a_manifest_cannot_name_a_file_elsewhere(tokens: Path) -> None:
    path = tokens / MANIFEST
    path.write_text(path.read_text().replace('"train.bin"', '"../train.bin"'))
    with pytest.raises(InputError, match="is not the manifest of token files"):
        open_token_files(tokens)


def test_what_is_no_folder_of_token_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no token files"):
        open_token_files(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        open_token_files(tmp_path / "absent")
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(InputError, match="is not the manifest"):
        open_token_files(tmp_path)


def test_another_tokenizer_than_the_models(tokens: Path, text: Path, tmp_path: Path) -> None:
    files = open_token_files(tokens)
    files.require_tokenizer(files.tokenizer_digest, tokenizer_of_checkpoint=tmp_path / "tokenizer.json")
    build(text, tmp_path / "other", vocab_size=265)
    wanted = load_tokenizer(tmp_path / "other").digest
    with pytest.raises(InputError) as caught:
        files.require_tokenizer(wanted, tokenizer_of_checkpoint=tmp_path / "other" / "tokenizer.json")
    assert files.tokenizer_digest[:12] in caught.value.message
    assert wanted[:12] in caught.value.message
    assert f"seqassay lm data build {text} --documents line:--- --tokenizer" in caught.value.hint


def test_ids_have_the_smallest_type_that_holds_them() -> None:
    assert (id_dtype(65536), id_dtype(65537)) == (np.dtype("<u2"), np.dtype("<u4"))
