"""Two runs or result files compared, level by level."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqassay.report.html import numbers
from seqassay.report.html.blocks import Block, Column, Row, Section, Table, Text, Tiles, View
from seqassay.report.html.generic_view import figure_table, list_table
from seqassay.report.html.records import Record
from seqassay.report.html.shared import about_sections, notes_of, verdict_blocks

_ROWS = {"a": "A", "b": "B", "in_both": "in both", "only_a": "only in A", "only_b": "only in B"}


def comparison_view(record: Record) -> View:
    """The page of a comparison."""
    content = record.content
    a, b = (str(content["identity"][side].get("path", side)) for side in ("a", "b"))
    levels = content["levels"]
    tiles = []
    for level in levels:
        if level.get("labels"):
            agreement = level["labels"]["agreement"]
            tiles.append((f"agreement of {level['level']}", numbers.share(agreement["value"], 2), _detail(agreement)))
        if level.get("flips"):
            n_flips = numbers.count(level["flips"]["n"])
            tiles.append((f"other label: {level['level']}", n_flips, "called in both, not alike"))
    return View(
        title=f"seqassay compare: {a} and {b}",
        lead=f"A is {a}, B is {b}; compared by {', '.join(level['level'] for level in levels)}.",
        sections=[
            Section("How much they agree", [*([Tiles(tiles)] if tiles else []), *verdict_blocks(content["gate"])]),
            *([Section("Mind that", notes_of(content["notes"]))] if content["notes"] else []),
            *(Section(str(level["level"]).capitalize(), _level(level)) for level in levels),
            Section("Mismatches", [list_table("Mismatches by kind, and how many are listed", content["mismatches"])]),
            Section("Files", [list_table("Files that were compared", content["files"])]),
            *about_sections(content),
        ],
    )


def _detail(figure: Mapping[str, Any]) -> str:
    return f"95% interval {numbers.interval(figure['interval_95'], 'share')}, n = {numbers.count(figure['n'])}"


def _level(level: Mapping[str, Any]) -> list[Block]:
    tables: list[Table] = []
    rows = [[words, numbers.count(level["rows"][name])] for name, words in _ROWS.items() if name in level["rows"]]
    tables.append(Table("Rows", [Column("rows"), Column("number", True)], rows))
    labels = level.get("labels")
    if labels:
        counted = [
            ["virus in A", numbers.count(labels["virus_in_both"]), numbers.count(labels["virus_in_a_others_in_b"])],
            ["others in A", numbers.count(labels["others_in_a_virus_in_b"]), numbers.count(labels["others_in_both"])],
        ]
        columns = [Column("labels"), Column("virus in B", True), Column("others in B", True)]
        tables.append(Table("Labels of what both call", columns, counted))
    blocks: list[Block] = [Row(tables)]
    for name, caption in (("labels", "Agreement of labels"), ("scores", "Differences of scores")):
        if level.get(name):
            figures = {key: value for key, value in level[name].items() if isinstance(value, Mapping)}
            if figures:
                blocks.append(figure_table(caption, figures))
    rest = {name: level[name] for name in ("cosine", "differences", "within_tolerance", "identical") if level.get(name)}
    if rest:
        blocks.append(figure_table("Differences of embeddings", rest))
    flips = level.get("flips")
    if flips and flips["n"]:
        blocks.append(Text(f"{flips['n']:,} have another label in B than in A."))
        if flips.get("near_boundary"):
            near = []
            for found in flips["near_boundary"]:
                share, interval = numbers.share(found["value"]), numbers.interval(found["interval_95"], "share")
                near.append([f"{found['within']:g}", numbers.count(found["count"]), share, interval])
            columns = [Column("within"), *(Column(name, True) for name in ("flips", "share of flips", "95% interval"))]
            blocks.append(Table("Flips by their distance from the decision boundary", columns, near))
    return blocks
