"""Texts of a file, one a line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from seqassay.errors import InputError
from seqassay.text.rows import TextRow, read_rows


def test_lines_and_json_lines(tmp_path: Path) -> None:
    plain = tmp_path / "a.txt"
    plain.write_bytes(b'\xef\xbb\xbfone\r\n\r\n{"text": 3}\r\nlast')
    assert [row.texts[0] for row in read_rows(plain, ["text"])] == ["one", "", '{"text": 3}', "last"]
    rows = tmp_path / "b.jsonl"
    rows.write_text('"bare"\n{"text": "second", "prompt": "first of the two"}\n{"text": "with\\nlines", "id": 3}\n')
    assert read_rows(rows, ["prompt", "text"]) == [
        TextRow(("bare",), 1), TextRow(("first of the two",), 2), TextRow(("with\nlines",), 3),
    ]  # fmt: skip
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(b'["a", "b"]\n{"references": ["c"]}\n"d"\n'))
    several = read_rows(tmp_path / "c.jsonl.gz", ["references"], several=True)
    assert [row.texts for row in several] == [("a", "b"), ("c",), ("d",)]


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"", None, "the file holds no text"),
        (b'"a"\n\n"b"\n', 2, "the line is empty"),
        (b'"a"\n{"prompt": ', 2, "is not JSON"),
        (b"[" * 100_000, 1, "is not JSON"),
        (b'{"other": "a"}\n', 1, "has none of the fields prompt, text"),
        (b'{"text": 3}\n', 1, "text is 3, not text"),
        (b'["a"]\n', 1, 'is \\["a"\\], not text'),
        (b'"a"\n"\xff"\n', 2, "not UTF-8"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, content: bytes, line: int | None, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_rows(path, ["prompt", "text"])
    assert caught.value.line == line
