"""Any record, for which there is no view of its own: its figures with their intervals, its lists as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from seqassay.report.html import numbers
from seqassay.report.html.blocks import Block, Cell, Column, Section, Table, Text, View
from seqassay.report.html.records import Record
from seqassay.report.html.shared import (
    about_sections,
    dict_table,
    flat,
    status_banner,
    text_of,
    verdict_blocks,
)

_ABOUT = (
    "format", "version", "kind", "written_at", "identity", "settings", "method", "provenance", "inputs", "outputs",
    "status", "error", "output_dir", "device", "precision", "input_digest", "notes", "verdict", "gate",
)  # fmt: skip
_FIGURE_KEYS = {"value", "difference"}
_MOST_COLUMNS = 12


def generic_view(record: Record) -> View:
    """Every part of the record under its own name."""
    content = record.content
    sections = []
    if "verdict" in content:
        sections.append(Section("Verdict", verdict_blocks(content.get("gate") or content)))
    if content.get("notes"):
        sections.append(Section("Notes", [Text(str(note), "unsure") for note in content["notes"]]))
    alone = {
        n: v for n, v in content.items() if n not in _ABOUT and (is_figure(v) or not isinstance(v, (list, Mapping)))
    }
    if alone:
        sections.append(Section("Figures", [figure_table("Figures", alone)]))
    for name, value in content.items():
        if name not in _ABOUT and name not in alone and value:
            sections.append(Section(name.replace("_", " ").capitalize(), blocks_of(name, value)))
    title = f"seqassay {record.kind}: {record.name}"
    banner = status_banner(content, record.kind) if "status" in content else ""
    lead = (
        f"A record of the kind {content['format']}, version {content['version']}, written at {content['written_at']}."
    )
    return View(title, lead, [*sections, *about_sections(content, bundle=content.get("bundle"))], banner)


def blocks_of(name: str, value: Any) -> list[Block]:
    """A part of a record, as tables."""
    words = name.replace("_", " ")
    if isinstance(value, list):
        if all(isinstance(item, Mapping) for item in value):
            return [list_table(words, value)]
        return [Text(text_of(value))]
    parts = {
        key: part for key, part in value.items() if isinstance(part, list) and part and isinstance(part[0], Mapping)
    }
    rest = {key: part for key, part in value.items() if key not in parts}
    blocks: list[Block] = [figure_table(words, rest)] if rest else []
    return [*blocks, *(list_table(f"{words}: {key.replace('_', ' ')}", part) for key, part in parts.items())]


def is_figure(value: Any) -> bool:
    """A value or a difference with what is known of it."""
    return isinstance(value, Mapping) and bool(_FIGURE_KEYS & value.keys())


def figures_below(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Figures and plain values below a mapping, by dotted names; a figure stays whole."""
    found: list[tuple[str, Any]] = []
    for name, value in content.items():
        if is_figure(value) or not isinstance(value, Mapping) or not value:
            found.append((f"{prefix}{name}", value))
        else:
            found += figures_below(value, f"{prefix}{name}.")
    return found


def figure_table(caption: str, content: Mapping[str, Any]) -> Table:
    """Names, figures, intervals and n."""
    entries = figures_below(content)
    if not any(is_figure(value) for _, value in entries):
        return dict_table(caption.capitalize(), content)
    rows = []
    for name, value in entries:
        if is_figure(value):
            n = "–" if value.get("n") is None else text_of(value["n"])
            interval = numbers.interval(value.get("interval_95"), "plain")
            rows.append([name, numbers.figure(value, "plain"), interval, n])
        else:
            rows.append([name, text_of(value), "–", "–"])
    columns = [Column("figure"), Column("value", True), Column("95% interval", True), Column("n", True)]
    return Table(caption.capitalize(), columns, rows)


def list_table(caption: str, items: Sequence[Mapping[str, Any]]) -> Table:
    """Rows of a list; columns that the items share, the first dozen."""
    flat_items = [dict(_flat_item(item)) for item in items]
    names = list(dict.fromkeys(name for item in flat_items for name in item))
    shown = names[:_MOST_COLUMNS]
    is_number = {n: all(isinstance(i.get(n), (int, float, type(None))) for i in flat_items) for n in shown}
    rows = [[Cell(text_of(item.get(name))) for name in shown] for item in flat_items]
    left_out = f"Left out here: {', '.join(names[_MOST_COLUMNS:])}." if len(names) > _MOST_COLUMNS else ""
    columns = [Column(name.replace("_", " "), is_number[name]) for name in shown]
    return Table(caption.capitalize(), columns, rows, left_out)


def _flat_item(item: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """An item's values; of a figure its value, and its interval beside it."""
    found: list[tuple[str, Any]] = []
    for name, value in item.items():
        if is_figure(value):
            found.append((name, value.get("value", value.get("difference"))))
            if value.get("interval_95"):
                found.append((f"{name} 95%", numbers.interval(value["interval_95"], "plain")))
        elif isinstance(value, Mapping) and value:
            found += [(f"{name}.{inner}", inner_value) for inner, inner_value in flat(value)]
        else:
            found.append((name, value))
    return found
