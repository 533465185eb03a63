"""Text out of files: what is refused with its place, what is changed and counted, where documents end."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqassay.errors import InputError, UsageError
from seqassay.sequences import opening
from seqassay.text.reading import FileFacts, Piece, check_rule, read_pieces


def write(tmp_path: Path, content: bytes) -> str:
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    return str(path)


def documents(pieces: list[Piece]) -> list[str]:
    found = [""]
    for piece in pieces:
        found[-1] += piece.text
        if piece.ends_document:
            found.append("")
    assert found.pop() == "", "the last piece ends its document"
    return found


def read(tmp_path: Path, content: bytes, rule: str = "file", **options: object) -> list[str]:
    return documents(list(read_pieces(write(tmp_path, content), rule, **options)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"abc\n\xff\n", 2, "not UTF-8: byte 0xff at offset 4"),
        (b"\n\ncaf\xe9 au lait\n", 3, "byte 0xe9 at offset 5"),
        (b"abc\ncaf\xc3", 2, "byte 0xc3 at offset 7"),  # cut in the middle of a character
        (b"\xed\xa0\x80", 1, "byte 0xed at offset 0"),  # a surrogate
        (b"a\n\n\n\0b", 4, "a NUL byte at offset 4"),
    ],
)
def test_bytes_that_are_no_text_have_their_place(tmp_path: Path, content: bytes, line: int, message: str) -> None:
    path = write(tmp_path, content)
    for rule in ("file", "wikitext"):
        with pytest.raises(InputError, match=message) as caught:
            list(read_pieces(path, rule))
        assert (caught.value.path, caught.value.line) == (path, line)


def test_utf16_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, "text".encode("utf-16"))
    assert "iconv -f utf-16" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b" \n\n\t\r\n"])
def test_a_file_without_text(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError, match="holds no text"):
        read(tmp_path, content)


def test_a_folder_and_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="this is a directory"):
        list(read_pieces(str(tmp_path)))
    with pytest.raises(InputError, match="no such file"):
        list(read_pieces(str(tmp_path / "absent.txt")))


def test_gzip_cut_short(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cut short"):
        read(tmp_path, gzip.compress(b"some text\n" * 1000)[:-9])


def test_mark_and_line_ends_are_changed_and_counted(tmp_path: Path) -> None:
    facts = FileFacts()
    assert read(tmp_path, b"\xef\xbb\xbfa\r\nb\rc\nd\r\n", facts=facts) == ["a\nb\rc\nd\n"]
    assert (facts.had_bom, facts.crlf_line_ends) == (True, 2)
    assert read(tmp_path, "a\ufeffb".encode()) == ["a\ufeffb"], "inside a text it is a character"


@settings(deadline=None)
@given(
    text=st.text(alphabet="ab \n\r\téñ😀\ufeff", min_size=1).filter(lambda text: text.strip(" \n\r\t\ufeff")),
    block=st.integers(1, 9),
    size=st.integers(1, 12),
)
def test_blocks_and_pieces_change_nothing(
    tmp_path_factory: pytest.TempPathFactory, text: str, block: int, size: int
) -> None:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "BLOCK_BYTES", block)
        pieces = list(read_pieces(str(path), piece_characters=size))
    expected = text.encode().decode("utf-8-sig").replace("\r\n", "\n")
    assert "".join(piece.text for piece in pieces) == expected
    line = 1
    for before, piece in zip([None, *pieces], pieces, strict=False):
        assert piece.line == line
        line += piece.text.count("\n")
        if before is not None:
            assert piece.text[0] in " \n"
            assert not before.text[-1].isspace()


def test_wikitext_articles_begin_at_their_headings(tmp_path: Path) -> None:
    content = (
        b" \n = First = \n \n Text . \n \n = = Section = = \n \n a \n = x = \n b \n \n = Second : a = b = \n \n Text \n"
    )
    assert read(tmp_path, content, "wikitext") == [
        " \n = First = \n \n Text . \n \n = = Section = = \n \n a \n = x = \n b \n \n",
        " = Second : a = b = \n \n Text \n",
    ]


def test_blank_lines_between_documents(tmp_path: Path) -> None:
    content = b"\n\n\nOne.\n\nStill one.\n\n\nTwo.\n \n\t\nThree.\n\n\n\n"
    assert read(tmp_path, content, "blank-lines") == [
        "\n\n\nOne.\n\nStill one.\n\n\n",
        "Two.\n \n\t\n",
        "Three.\n\n\n\n",
    ]


def test_a_line_between_documents_is_left_out_and_counted(tmp_path: Path) -> None:
    facts = FileFacts()
    content = b"One.\n<|end|>\n<|end|>\nTwo.\n <|end|>\n<|end|>\n"
    assert read(tmp_path, content, "line:<|end|>", facts=facts) == ["One.\n", "Two.\n <|end|>\n"]
    assert (facts.separator_lines, facts.empty_documents) == (3, 1)


@pytest.mark.parametrize("rule", ["wikitext", "blank-lines", "line:---"])
@pytest.mark.parametrize("size", [1, 7, None])
def test_rules_add_up_to_the_file(tmp_path: Path, rule: str, size: int | None) -> None:
    content = " \n = A = \n \nsome words\n\n\nmore words\n---\n \n = B = \n \n end"
    found = read(tmp_path, content.encode(), rule, piece_characters=size)
    assert "".join(found) == content.replace("---\n", "" if rule.startswith("line") else "---\n")
    assert len(found) == 2


def test_a_document_of_one_word_is_not_cut(tmp_path: Path) -> None:
    assert len(list(read_pieces(write(tmp_path, b"x" * 500), piece_characters=10))) == 1


@pytest.mark.parametrize("rule", ["", "lines", "line:", "line:a\nb"])
def test_unknown_rules(rule: str) -> None:
    with pytest.raises(UsageError, match="--documents is"):
        check_rule(rule)


@pytest.mark.parametrize(
    ("name", "rule", "expected"),
    [
        # lines, words and bytes as `wc -lwc` has them
        ("wikitext-2/train.txt.gz", "wikitext", (36_718, 2_051_910, 10_797_148, 600)),
        ("wikitext-2/valid.txt.gz", "wikitext", (3_760, 213_886, 1_121_681, 60)),
        ("wikitext-2/test.txt.gz", "wikitext", (4_358, 241_211, 1_256_449, 60)),
        ("books/test.txt.gz", "blank-lines", (9_059, 365_768, 2_057_955, 5)),
    ],
)
def test_real_text_has_the_sizes_that_wc_counts(
    shared_data: Path, name: str, rule: str, expected: tuple[int, ...]
) -> None:
    lines = words = n_bytes = n_documents = 0
    for piece in read_pieces(str(shared_data / "text" / name), rule):
        lines += piece.text.count("\n")
        words += len(piece.text.split())
        n_bytes += len(piece.text.encode())
        n_documents += piece.ends_document
    assert (lines, words, n_bytes, n_documents) == expected
