"""What a page is made of: views make blocks, the template draws them. Text in them is plain, and escaped there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from seqassay.report.html.chart import Chart

MOST_ROWS = 500
MOST_CHARACTERS = 2000
_LONG_ROWS = 30

Tone = Literal["plain", "good", "bad", "unsure", "quiet"]


@dataclass(frozen=True, slots=True)
class Cell:
    """A table's cell; ``tone`` colours what its text says anyway.

    Attributes:
        key: what a reader's sorting goes by; empty for what is missing, which comes last. None: the text.
    """

    text: str
    tone: Tone = "plain"
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """A table's column; numbers are set flush right."""

    name: str
    is_number: bool = False


@dataclass(frozen=True)
class Text:
    """A paragraph; with a tone other than plain, a box."""

    kind: ClassVar[str] = "text"
    text: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class Tiles:
    """Headline figures: what it is, the figure, what has to be known beside it."""

    kind: ClassVar[str] = "tiles"
    tiles: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Table:
    """A table; rows beyond ``MOST_ROWS`` are left out, and the page says how many.

    Attributes:
        caption: what is in it.
        row_heads: the first cell of a row names the row.
        is_sortable: by a click on a column's name.
    """

    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str | Cell]]
    note: str = ""
    row_heads: bool = True
    is_sortable: bool = False

    @property
    def shown_rows(self) -> list[list[Cell]]:
        """The rows that are drawn."""
        return [
            [Cell(bounded(cell)) if isinstance(cell, str) else replace(cell, text=bounded(cell.text)) for cell in row]
            for row in self.rows[:MOST_ROWS]
        ]

    @property
    def is_long(self) -> bool:
        """Whether it scrolls in a window of its own, so that what follows is not pages away."""
        return len(self.rows) > _LONG_ROWS

    @property
    def n_left_out(self) -> int:
        """Rows that are not drawn."""
        return max(0, len(self.rows) - MOST_ROWS)


@dataclass(frozen=True)
class Drawing:
    """A chart with its figures as a table."""

    kind: ClassVar[str] = "drawing"
    chart: Chart
    table: Table
    note: str = ""


@dataclass(frozen=True)
class Row:
    """Drawings and tables beside each other where there is room."""

    kind: ClassVar[str] = "row"
    blocks: Sequence[Drawing | Table]


Block = Text | Tiles | Table | Drawing | Row


@dataclass(frozen=True)
class Section:
    """Blocks under a heading."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class View:
    """A record as the page shows it.

    Attributes:
        title: kind and name.
        banner: what has to be read before anything else; empty for nothing.
        lead: one sentence under the title.
    """

    title: str
    lead: str
    sections: Sequence[Section]
    banner: str = ""


def bounded(text: str, limit: int = MOST_CHARACTERS) -> str:
    """The text as a page can hold it: not longer than this, and without what no page may hold.

    Control characters and half surrogates (bytes of a name that were not UTF-8) become visible escapes.
    """
    shown = text if len(text) <= limit else f"{text[: limit - 1]}…"
    if shown.isprintable():
        return shown
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode("ascii") for c in shown)
