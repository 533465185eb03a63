"""Many runs of language models in one table: for the terminal, as markdown, as CSV.

A view: which figures stand in one column, and which of them cannot be compared, is decided before.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from seqassay.report.layout import aligned, escaped, table

MISSING = "–"
Figure = int | float | str | None


@dataclass(frozen=True)
class RunRow:
    """A run.

    Attributes:
        figures: by the names of the columns; None or absent: the run lacks it.
        marks: by the names of columns, symbols of what keeps the figure from being compared with the others.
    """

    name: str
    kind: str
    place: str
    figures: Mapping[str, Figure]
    marks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunsTable:
    """Runs in their order.

    Attributes:
        sort: the column that they are ordered by.
        meanings: of the marks that are used.
    """

    columns: Sequence[str]
    rows: Sequence[RunRow]
    sort: str
    descending: bool
    meanings: Mapping[str, str]
    notes: Sequence[str]

    @property
    def order(self) -> str:
        """In words."""
        return f"by {self.sort}, {'largest' if self.descending else 'smallest'} first; runs without it last"

    def is_number(self, column: str) -> bool:
        """Whether what stands in a column is figures."""
        return not any(isinstance(row.figures.get(column), str) for row in self.rows)

    def header(self) -> list[str]:
        """The first line; the column that decides the order is marked."""
        arrow = "▼" if self.descending else "▲"
        return [f"{name} {arrow}" if name == self.sort else name for name in ("name", *self.columns)]

    def cells(self, row: RunRow) -> list[str]:
        """A run as text."""
        return [
            row.name,
            *(shown(row.figures.get(name)) + row.marks.get(name, "") for name in self.columns),
        ]


def runs_summary(runs: RunsTable) -> str:
    """The table on the terminal; long tables are what `--html` is for, but nothing is left out."""
    right = [i for i, name in enumerate(runs.columns, 1) if runs.is_number(name)]
    lines = aligned([runs.header(), *(runs.cells(row) for row in runs.rows)], to_the_right=right)
    return "\n".join([*lines, "", f"{len(runs.rows)} runs {runs.order}", *_said(runs)])


def runs_markdown(runs: RunsTable) -> str:
    """The table as markdown."""
    rows = [[escaped(cell) for cell in runs.cells(row)] for row in runs.rows]
    said = "\n".join(f"- {escaped(line)}" for line in _said(runs))
    parts = ["# Language models", table(runs.header(), rows), f"{len(runs.rows)} runs {runs.order}.", said]
    return "\n\n".join(filter(None, parts)) + "\n"


def runs_csv(runs: RunsTable) -> str:
    """The table as CSV: numbers as they are, empty where a run has none, what cannot be compared in a column."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "kind", "place", *runs.columns, "not_comparable"])
    for row in runs.rows:
        marked = "; ".join(
            f"{name}: {', '.join(runs.meanings[mark] for mark in row.marks[name])}"
            for name in runs.columns
            if row.marks.get(name)
        )
        figures = ["" if row.figures.get(name) is None else row.figures[name] for name in runs.columns]
        writer.writerow([row.name, row.kind, row.place, *figures, marked])
    return text.getvalue()


def _said(runs: RunsTable) -> list[str]:
    return [*(f"{mark} {meaning}" for mark, meaning in runs.meanings.items()), *(f"note: {n}" for n in runs.notes)]


def shown(value: Figure) -> str:
    """A figure in at most six digits."""
    if value is None:
        return MISSING
    if isinstance(value, str):
        return value
    if isinstance(value, int) or (value.is_integer() and abs(value) >= 1000):
        return f"{int(value):,}"
    return f"{value:,.1f}" if 1e5 <= abs(value) < 1e9 else f"{value:.6g}"
