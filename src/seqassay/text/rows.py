"""Texts of a file, one a line: plain lines, or JSON lines, which can hold line ends and several texts each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqassay.errors import InputError
from seqassay.text.reading import read_pieces


@dataclass(frozen=True, slots=True)
class TextRow:
    """One line's texts (one, but where several are allowed), and its number from 1."""

    texts: tuple[str, ...]
    line: int


def read_rows(path: Path | str, fields: Sequence[str], *, several: bool = False) -> list[TextRow]:
    """Every line of a text file, or of a ``.jsonl`` file; both may be compressed.

    A line of JSON is the text itself, or an object with one of the fields; the first that is there counts.

    Args:
        several: a line of JSON may hold a list of texts.

    Raises:
        InputError: names the file and the line: no such file, no text at all, bytes that are no UTF-8, no JSON, a field
            missing or of another type.
    """
    name = str(path)
    # whole, as `read_pieces` gives it: without a byte order mark, CRLF as LF
    lines = "".join(piece.text for piece in read_pieces(name, piece_characters=None)).split("\n")
    if lines[-1] == "":
        lines.pop()
    if ".jsonl" not in Path(name).suffixes[-2:]:
        return [TextRow((line,), number) for number, line in enumerate(lines, 1)]
    return [
        TextRow(_texts(line, fields, name, number, several=several), number) for number, line in enumerate(lines, 1)
    ]


def _texts(line: str, fields: Sequence[str], path: str, number: int, *, several: bool) -> tuple[str, ...]:
    def error(message: str) -> InputError:
        wanted = f'{{"{fields[0]}": "text"}}' + (f' or {{"{fields[-1]}": ["text", "another"]}}' if several else "")
        return InputError(message, path=path, line=number, hint=f"a line of JSON is a text, or as in {wanted}")

    if not line.strip():
        raise error("the line is empty; every line holds one row")
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError) as fault:
        raise error(f"is not JSON: {fault}") from None
    where = ""
    if isinstance(row, dict):
        found = next((field for field in fields if field in row), None)
        if found is None:
            raise error(f"has none of the fields {', '.join(fields)}")
        row, where = row[found], f"{found} "
    texts = row if several and isinstance(row, list) else [row]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise error(f"{where}is {json.dumps(row)[:60]}, not text")
    return tuple(texts)
