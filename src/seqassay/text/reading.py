"""Text out of files: strict UTF-8, line ends and documents, piece by piece, so that memory does not grow with the file.

Two things are changed on the way in, and counted: a byte order mark at the start of a file is left out, and CRLF line
ends become LF, so that a text gives the same tokens whichever system it was saved on.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from seqassay.errors import InputError, UsageError
from seqassay.sequences.opening import DamagedError, OpenInput, open_input

DEFAULT_PIECE_CHARACTERS = 1 << 15
DOCUMENT_RULES = ("file", "wikitext", "blank-lines", "line:TEXT")
_LINE_RULE = "line:"
_BOM = "\ufeff".encode()
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
# " = Title = ", and not " = = Section = = "
_WIKITEXT_HEADING = re.compile(r" = (?!=).*(?<!=) = ?")


@dataclass(slots=True)
class FileFacts:
    """What was found in a file, and what was changed.

    Attributes:
        had_bom: a byte order mark was left out.
        crlf_line_ends: that became LF.
        separator_lines: that were left out, with the rule ``line:TEXT``.
        empty_documents: that were left out: nothing stood between two separators.
    """

    had_bom: bool = False
    crlf_line_ends: int = 0
    separator_lines: int = 0
    empty_documents: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a document, or a whole one.

    Attributes:
        text: cut, if it was, before a space or line end that follows other than white space.
        path: of its file.
        line: of its first character, from 1.
        ends_document: the next piece begins another document.
    """

    text: str
    path: str
    line: int
    ends_document: bool


@dataclass(slots=True)
class _Line:
    text: str
    number: int
    begins_document: bool = False


def check_rule(rule: str) -> None:
    """Raise a UsageError for a rule of documents that is none."""
    if rule in DOCUMENT_RULES[:-1]:
        return
    if not rule.startswith(_LINE_RULE) or rule == _LINE_RULE or "\n" in rule:
        raise UsageError(
            f"--documents is {rule!r}",
            hint="it can be file (each file is one), wikitext (articles, by their headings), blank-lines (two blank "
            "lines or more between them) or line:TEXT (such a line between them)",
        )


def read_pieces(
    path: str,
    rule: str = "file",
    *,
    piece_characters: int | None = DEFAULT_PIECE_CHARACTERS,
    facts: FileFacts | None = None,
) -> Iterator[Piece]:
    """The documents of a file, in pieces, in order.

    Args:
        path: a file, compressed or not; told by its first bytes.
        rule: of ``DOCUMENT_RULES``; where a document ends. A line that a document begins at belongs to it, so the
            documents add up to the file (but for the separator lines of ``line:TEXT``).
        piece_characters: about this many in a piece, more where there is no place to cut; None for whole documents.
        facts: filled while reading.

    Raises:
        InputError: the file cannot be read, holds no text, a byte that is no UTF-8, or a NUL byte; with the line and
            the offset.
    """
    check_rule(rule)
    facts = facts or FileFacts()
    with open_input(path) as source:
        blocks = _decoded(source, facts)
        if rule == "file":
            lines: Iterator[_Line] = (_Line(text, line) for text, line in blocks)
        elif rule == "wikitext":
            lines = _by_wikitext_heading(_lines(blocks))
        elif rule == "blank-lines":
            lines = _by_blank_lines(_lines(blocks))
        else:
            lines = _by_separator(_lines(blocks), rule.removeprefix(_LINE_RULE), facts)
        is_empty = True
        for piece in _pieces(lines, source.name, piece_characters):
            is_empty = is_empty and not piece.text.strip()
            yield piece
        if is_empty:
            raise InputError("the file holds no text", path=source.name, hint="leave it out")


def _decoded(source: OpenInput, facts: FileFacts) -> Iterator[tuple[str, int]]:
    """Text with LF line ends, about a block at a time, and the line that it begins in."""
    line, offset = 1, 0  # of the bytes in hand, in the decompressed file
    rest = b""
    try:
        for block in itertools.chain(source.blocks(), [b""]):
            data = rest + block
            if offset == 0 and len(data) < len(_BOM) and block:
                rest = data
                continue
            if offset == 0 and data.startswith(_BOM):
                facts.had_bom, data, offset = True, data[len(_BOM) :], len(_BOM)
            n_whole = len(data) if not block else _whole_characters(data)
            data, rest = data[:n_whole], data[n_whole:]
            text = _decode(data, source.name, line, offset)
            n_crlf = text.count("\r\n")
            facts.crlf_line_ends += n_crlf
            if text:
                yield text.replace("\r\n", "\n") if n_crlf else text, line
            line += data.count(b"\n")
            offset += len(data)
    except DamagedError as error:
        raise InputError(str(error), path=source.name, line=line, hint="fetch or make the file again") from None


def _whole_characters(data: bytes) -> int:
    """Length of the data without a character, or a CRLF, that may go on in the next block."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:  # the first byte of a character of two, three or four
            return len(data) - back
        if byte < 0x80:
            break
    return len(data) - 1 if data.endswith(b"\r") else len(data)


def _decode(data: bytes, name: str, line: int, offset: int) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        at = error.start
        hint = f"convert it, from the encoding that it has: iconv -f latin1 -t utf-8 {name} > NEW"
        if offset == 0 and data.startswith(_UTF16_BOMS):
            hint = f"this is UTF-16; convert it: iconv -f utf-16 -t utf-8 {name} > NEW"
        what = f"not UTF-8: byte 0x{data[at]:02x} at offset {offset + at:,}"
        raise InputError(what, path=name, line=line + data.count(b"\n", 0, at), hint=hint) from None
    at = data.find(b"\0")
    if at >= 0:
        raise InputError(
            f"a NUL byte at offset {offset + at:,}: this is no text",
            path=name,
            line=line + data.count(b"\n", 0, at),
            hint="is it a binary file, or UTF-16?",
        )
    return text


def _lines(blocks: Iterable[tuple[str, int]]) -> Iterator[_Line]:
    """Lines with their ends; a line has to fit in memory."""
    rest: list[str] = []
    number = 1
    for text, _ in blocks:
        first, *others = text.split("\n")
        rest.append(first)
        for other in others:
            yield _Line("".join(rest) + "\n", number)
            number += 1
            rest = [other]
    if any(rest):
        yield _Line("".join(rest), number)


def _by_wikitext_heading(lines: Iterator[_Line]) -> Iterator[_Line]:
    """An article begins at a heading of the first level between blank lines; formulas may look like one without."""
    before_is_blank = True
    line = next(lines, None)
    while line is not None:
        after = next(lines, None)
        after_is_blank = after is None or not after.text.strip()
        is_heading = _WIKITEXT_HEADING.fullmatch(line.text.removesuffix("\n")) is not None
        line.begins_document = is_heading and before_is_blank and after_is_blank
        yield line
        before_is_blank, line = not line.text.strip(), after


def _by_blank_lines(lines: Iterator[_Line]) -> Iterator[_Line]:
    n_blank = 0
    for line in lines:
        if line.text.strip():
            line.begins_document, n_blank = n_blank >= 2, 0
        else:
            n_blank += 1
        yield line


def _by_separator(lines: Iterator[_Line], separator: str, facts: FileFacts) -> Iterator[_Line]:
    begins, is_empty = False, True
    for line in lines:
        if line.text.removesuffix("\n") == separator:
            facts.separator_lines += 1
            facts.empty_documents += is_empty
            begins = is_empty = True
        else:
            line.begins_document, begins, is_empty = begins, False, False
            yield line


def _pieces(lines: Iterator[_Line], name: str, piece_characters: int | None) -> Iterator[Piece]:
    """Lines together up to about the size of a piece; a document that is white space alone joins the one after it."""
    waiting: list[str] = []
    n_waiting, first, has_words = 0, 1, False

    def joined() -> str:
        return "".join(waiting)

    for line in lines:
        if line.begins_document and has_words:
            yield Piece(joined(), name, first, True)
            waiting, n_waiting, has_words = [], 0, False
        if not waiting:
            first = line.number
        waiting.append(line.text)
        n_waiting += len(line.text)
        has_words = has_words or not line.text.isspace()
        if piece_characters is not None and n_waiting >= piece_characters:
            rest = joined()
            *parts, rest = _cut(rest, piece_characters)
            for part in parts:
                yield Piece(part, name, first, False)
                first += part.count("\n")
            waiting, n_waiting = [rest], len(rest)
    if n_waiting:
        yield Piece(joined(), name, first, True)


def _cut(text: str, piece_characters: int) -> list[str]:
    """The text in pieces of about this size, the last one (which the next lines may still change) included."""
    parts, begin = [], 0
    while len(text) - begin >= piece_characters:
        cut = _place_to_cut(text, begin + 1, begin + piece_characters)
        if cut is None:
            cut = _place_to_cut(text, begin + piece_characters, len(text))
        if cut is None:
            break
        parts.append(text[begin:cut])
        begin = cut
    return [*parts, text[begin:]]


def _place_to_cut(text: str, low: int, high: int) -> int | None:
    """The last place from ``low`` to before ``high`` at a space or line end that follows other than white space."""
    at = high
    while (at := max(text.rfind(" ", low, at), text.rfind("\n", low, at))) >= low:
        if not text[at - 1].isspace():
            return at
    return None
