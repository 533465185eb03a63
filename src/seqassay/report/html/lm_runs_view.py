"""Many runs of language models in one table that its reader sorts."""

from __future__ import annotations

from seqassay.report.html.blocks import Block, Cell, Column, Section, Table, Text, Tone, View
from seqassay.report.html.page import render
from seqassay.report.lm_runs import MISSING, RunsTable


def runs_page(runs: RunsTable) -> str:
    """The page."""
    columns = [Column("name"), *(Column(name, runs.is_number(name)) for name in runs.columns), Column("kind")]
    rows = [
        [Cell(row.name), *(_cell(runs, i, name) for name in runs.columns), Cell(row.kind)]
        for i, row in enumerate(runs.rows)
    ]
    blocks: list[Block] = [
        Table(f"{len(rows)} runs", columns, rows, is_sortable=True),
        *(Text(f"{mark} {meaning}.", "quiet") for mark, meaning in runs.meanings.items()),
        *(Text(note, "unsure") for note in runs.notes),
        Text(f"{MISSING}: the run lacks it. A click on a column's name puts the runs in its order.", "quiet"),
    ]
    places = Table("Where they are", [Column("name"), Column("place")], [[row.name, row.place] for row in runs.rows])
    lead = f"{len(rows)} runs, at first {runs.order}."
    view = View("Language models compared", lead, [Section("Runs", blocks), Section("Places", [places])])
    return render(view.title, [view])


def _cell(runs: RunsTable, i: int, name: str) -> Cell:
    row = runs.rows[i]
    value = row.figures.get(name)
    text = runs.cells(row)[1 + list(runs.columns).index(name)]
    tone: Tone = "quiet" if value is None else "unsure" if row.marks.get(name) else "plain"
    return Cell(text, tone, "" if value is None else str(value))
