"""Gates: every figure against its limit, with its verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqassay.report.html import numbers
from seqassay.report.html.blocks import Cell, Column, Section, Table, Tiles, View
from seqassay.report.html.records import Record
from seqassay.report.html.shared import about_sections, tone_of, verdict_blocks


def gate_view(record: Record) -> View:
    """The page of a gate record."""
    content = record.content
    counts = content["counts"]
    said = ", ".join(f"{n:,} {name}" for name, n in counts.items() if n)
    return View(
        title=f"seqassay gate: {content['verdict']}",
        lead=f"{len(content['gates']):,} gates of {content['identity']['gates']['path']}: {said}.",
        sections=[
            Section(
                "Verdict",
                [
                    *verdict_blocks({"verdict": content["verdict"], "reason": said}),
                    Tiles([(name, numbers.count(n), "gates") for name, n in counts.items()]),
                ],
            ),
            Section("Gates", [gate_table(content)]),
            Section("Records", [_records(content)]),
            *about_sections(content),
        ],
    )


def gate_table(content: Mapping[str, Any]) -> Table:
    """One row a gate and record."""
    rows: list[list[str | Cell]] = []
    for gate in content["gates"]:
        results = gate["results"] or [{"record": "no record", "value": None, "interval_95": None, "n": None, **gate}]
        rows += [_gate_row(gate, result) for result in results]
    columns = [
        Column("gate"), Column("record"), Column("figure", True), Column("95% interval", True), Column("n", True),
        Column("limit"), Column("verdict"), Column("why"),
    ]  # fmt: skip
    return Table("Gates and their verdicts", columns, rows)


def _gate_row(gate: Mapping[str, Any], result: Mapping[str, Any]) -> list[str | Cell]:
    return [
        gate["name"], result["record"],
        numbers.plain(result["value"]) if gate["results"] else "–",
        numbers.interval(result["interval_95"], "plain"),
        "–" if result["n"] is None else numbers.count(result["n"]),
        gate["rule"], Cell(result["verdict"], tone_of(result["verdict"])), result["reason"],
    ]  # fmt: skip


def _records(content: Mapping[str, Any]) -> Table:
    rows = [
        [r["path"], r["kind"], f"{r['format']} {r['version']}", r["written_at"], r["sha256"]]
        for r in content["identity"]["records"]
    ]
    columns = [Column(name) for name in ("record", "kind", "format", "written at", "SHA-256")]
    return Table("Records that were judged", columns, rows)
