"""What the views of several kinds of record have in common: state, stages, timeline, settings, provenance."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from seqassay.report.html import numbers
from seqassay.report.html.blocks import Block, Column, Drawing, Section, Table, Text, Tone, bounded
from seqassay.report.html.chart import Series, horizontal_bars, lines

_MOST_LISTED = 20
_MOST_STRETCHES = 30


def status_banner(record: Mapping[str, Any], what: str) -> str:
    """The first line of a page whose run did not reach its end; empty for one that did."""
    status = record["status"]
    if status == "done":
        return ""
    said = {
        "running": f"This {what} is not finished: its record says that it is running, or was killed.",
        "stopped": f"This {what} was stopped before its end, and can be resumed.",
        "failed": f"This {what} failed before its end.",
    }[status]
    return f"{said} {bounded(record['error'])}" if record["error"] else said


def inputs_in_words(run: Mapping[str, Any]) -> str:
    """Names of the input files, the first few."""
    names = [str(entry["name"]).rsplit("/", 1)[-1] for entry in run["inputs"]]
    shown = ", ".join("standard input" if name == "-" else bounded(name, 80) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3:,} more"


def stage_drawing(stages: Sequence[Mapping[str, Any]]) -> Drawing:
    """Busy seconds by stage, in the order of the method."""
    names = [str(stage["stage"]) for stage in stages]
    shown = [numbers.seconds(stage["seconds"]) for stage in stages]
    total = sum(stage["seconds"] for stage in stages)
    longest = max(stages, key=lambda stage: float(stage["seconds"]), default=None)
    described = f"{numbers.seconds(total)} in all" + (
        f"; most, {numbers.share(longest['share'])}, in {longest['stage']}." if longest and total else "."
    )
    seconds = [stage["seconds"] for stage in stages]
    chart = horizontal_bars("Busy seconds by stage", described, names, [("", seconds)], [shown], x_label="seconds")
    rows = [[name, text, numbers.share(stage["share"])] for name, text, stage in zip(names, shown, stages, strict=True)]
    columns = [Column("stage"), Column("busy time", True), Column("share of all", True)]
    note = "Stages of neighbouring shards overlap, so the seconds may add up to more than the wall time."
    return Drawing(chart, Table("Busy time by stage", columns, rows), note)


def timeline_drawing(timeline: Sequence[Mapping[str, Any]] | None) -> list[Drawing]:
    """Sequences a second over the run, where the record has them; neighbouring points are joined to few stretches."""
    stretches = joined_stretches(timeline or [])
    if not stretches:
        return []
    points = [pair for start, end, rate in stretches for pair in ((start, rate), (end, rate))]
    n_sequences, wall_s = stretches_end(timeline or [])
    chart = lines(
        "Throughput over time",
        f"Sequences a second in {len(stretches)} stretches of time; {n_sequences:,} sequences in "
        f"{numbers.seconds(wall_s)}.",
        [Series("", points)],
        x_label="seconds since the models were loaded",
        y_label="sequences a second",
        x_range=(0.0, wall_s),
    )
    columns = [Column(name, True) for name in ("from", "to", "sequences a second")]
    rows = [[numbers.seconds(start), numbers.seconds(end), numbers.rate(rate)] for start, end, rate in stretches]
    return [Drawing(chart, Table("Throughput over time", columns, rows, row_heads=False))]


def joined_stretches(timeline: Sequence[Mapping[str, Any]]) -> list[tuple[float, float, float]]:
    """Start, end and sequences a second of at most ``_MOST_STRETCHES`` stretches of a run.

    Sequences are counted when their batch is done, so that single points are all or nothing.
    """
    per_stretch = -(-len(timeline) // _MOST_STRETCHES) or 1
    stretches = []
    start_s, n_before = 0.0, 0
    for last in range(per_stretch - 1, len(timeline) + per_stretch - 1, per_stretch):
        point = timeline[min(last, len(timeline) - 1)]
        if point["seconds"] > start_s:
            rate = (point["sequences"] - n_before) / (point["seconds"] - start_s)
            stretches.append((start_s, float(point["seconds"]), rate))
            start_s, n_before = float(point["seconds"]), point["sequences"]
    return stretches


def stretches_end(timeline: Sequence[Mapping[str, Any]]) -> tuple[int, float]:
    """Sequences and seconds of a timeline as a whole."""
    return (int(timeline[-1]["sequences"]), float(timeline[-1]["seconds"])) if timeline else (0, 0.0)


def about_sections(record: Mapping[str, Any], *, bundle: Mapping[str, Any] | None = None) -> list[Section]:
    """Settings, and what made the record."""
    blocks: list[Block] = []
    if bundle is not None:
        rows = [["name", str(bundle["name"])]]
        if bundle["digest"] is None:  # scores of a table
            rows.append(["digest (SHA-256)", "not known: nothing says by which model the scores are"])
        else:
            rows.append(["digest (SHA-256)", str(bundle["digest"])])
            if "chunk_length" in bundle:
                rows.append(["chunk length", f"{bundle['chunk_length']:,} bases"])
            rows.append(["model card", f"seqassay models info {bundle['name']}: what it is, and how good"])
        blocks.append(Table("Model bundle", [Column("what"), Column("value")], rows))
    provenance = record["provenance"]
    hardware = provenance["hardware"]
    rows = [
        ["command", str(provenance["command"])],
        ["written at", str(record["written_at"])],
        ["seqassay", ", commit ".join(filter(None, (provenance["seqassay"], provenance["git_commit"])))],
        ["record", f"{record['format']} {record['version']}"],
        ["Python", str(provenance["python"])],
        *([name, str(version or "not installed")] for name, version in provenance["libraries"].items()),
        ["platform", str(hardware["platform"])],
        ["processor", f"{hardware['processor']}, {hardware['cores'] or 'an unknown number of'} cores"],
        ["memory", numbers.n_bytes(hardware["memory_bytes"])],
        ["CUDA devices", ", ".join(hardware["cuda_devices"]) or "none"],
        *([[name, str(record[name])] for name in ("device", "precision", "input_digest") if record.get(name)]),
    ]  # fmt: skip
    blocks.append(Table("Provenance", [Column("what"), Column("value")], rows))
    if record.get("inputs"):
        rows = [[str(entry["name"]), numbers.n_bytes(entry["bytes"])] for entry in record["inputs"]]
        blocks.append(Table("Inputs", [Column("file"), Column("size", True)], rows))
    if record.get("outputs"):
        rows = [[str(o["name"]), numbers.n_bytes(o["bytes"]), str(o["sha256"])] for o in record["outputs"]]
        blocks.append(Table("Outputs", [Column("file"), Column("size", True), Column("SHA-256")], rows))
    sections = [Section("Settings", [dict_table("Settings, as they were resolved", record["settings"])])]
    if record.get("method"):
        sections.insert(0, Section("Method", [dict_table("How the figures were worked out", record["method"])]))
    return [*sections, Section("Provenance", blocks)]


def dict_table(caption: str, content: Mapping[str, Any]) -> Table:
    """Names and values, nested ones by dotted names."""
    return Table(caption, [Column("name"), Column("value")], [[name, text_of(v)] for name, v in flat(content)])


def flat(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Names and values below a mapping; mappings in it by dotted names."""
    found: list[tuple[str, Any]] = []
    for name, value in content.items():
        if isinstance(value, Mapping) and value:
            found += flat(value, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", value))
    return found


def text_of(value: Any) -> str:
    """Any JSON value as text."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return numbers.plain(value)
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(not isinstance(item, (list, dict)) for item in value):
        shown = ", ".join(text_of(item) for item in value[:_MOST_LISTED])
        return f"{shown} and {len(value) - _MOST_LISTED:,} more" if len(value) > _MOST_LISTED else shown
    return bounded(json.dumps(value, ensure_ascii=False))


def notes_of(notes: Sequence[str]) -> list[Block]:
    """What a record wants to be known."""
    return [Text(note, "unsure") for note in notes]


def verdict_blocks(gate: Mapping[str, Any]) -> list[Block]:
    """A verdict with its reason as a box (the words say it, the colour repeats it), and what to do next."""
    word, reason = str(gate["verdict"]), str(gate.get("reason") or "")
    blocks: list[Block] = [Text(f"{word}: {reason}" if reason else word, tone_of(word))]
    steps = gate.get("next_steps") or []
    return [*blocks, *(Text(f"{number}. {step}") for number, step in enumerate(steps, 1))]


def figure_row(name: str, entry: Mapping[str, Any]) -> list[str]:
    """Name, value, interval (or why there is none), n."""
    interval = numbers.interval(entry.get("interval_95"))
    if interval == "–" and entry.get("why_no_interval"):
        interval = f"none: {entry['why_no_interval']}"
    return [name, numbers.figure(entry), interval, "–" if entry.get("n") is None else numbers.count(entry["n"])]


def named(key: str) -> str:
    """A key of a record in words."""
    return key.replace("_", " ")


def tone_of(word: str) -> Tone:
    """The colour of a verdict."""
    tones: dict[str, Tone] = {"PASSED": "good", "UNDECIDED": "unsure", "SKIPPED": "quiet"}
    return tones.get(word, "bad")
