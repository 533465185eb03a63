"""A speed benchmark: candidate against baseline, by both protocols."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqassay.report.html import numbers
from seqassay.report.html.blocks import Block, Column, Drawing, Row, Section, Table, Text, Tiles, View
from seqassay.report.html.chart import Series, horizontal_bars, lines
from seqassay.report.html.generic_view import list_table
from seqassay.report.html.records import Record
from seqassay.report.html.shared import about_sections, dict_table, notes_of, verdict_blocks

_SIDES = ("candidate", "baseline")
_MOST_MARKED = 60  # runs up to here are dots on their line
_RATES = {
    "run_s": "seconds a run",
    "per_sequence_s": "seconds a sequence",
    "sequences_per_s": "sequences a second",
    "tokens_per_s": "tokens a second",
    "flop_per_s": "FLOP a second",
    "share_of_peak": "share of measured peak",
}
_ONCE = {
    "load_s": "load the weights",
    "place_s": "place them on the device",
    "compile_s": "compile",
    "first_call_s": "first call",
}


def speed_view(record: Record) -> View:
    """The page of a speed benchmark."""
    content = record.content
    models = {side: content["models"][side] for side in _SIDES if content["models"].get(side)}
    names = " against ".join(str(model["name"]) for model in models.values())
    sequences = content["sequences"]
    amount = f"{sequences['n']:,} {sequences['kind']} sequences, {sequences['residues']:,} residues"
    tables = [dict_table("Sequences", sequences), dict_table("Machine", content["machine"])]
    return View(
        title=f"seqassay benchmark speed: {names}",
        lead=f"{amount}, on {content['device']}.",
        sections=[
            Section("Speed-up", [*_speed_up(content), *notes_of(content["notes"])]),
            Section("Rates", _rates(models)),
            Section("Before the first sequence", [_once(models)]),
            Section("Runs", _runs(content, models)),
            Section("Measured peaks", [list_table("Measured peaks of the device", _peaks(content))]),
            Section("Sequences and machine", [Row(tables)]),
            *about_sections(content),
        ],
    )


def _speed_up(content: Mapping[str, Any]) -> list[Block]:
    tiles = []
    for name, words in (("speed_up", "speed-up, paired"), ("classic_speed_up", "speed-up, classic protocol")):
        figure = content["values"][name]
        value = f"{figure['value']:.3f}×" if figure["value"] is not None else numbers.UNDEFINED
        interval = numbers.interval(figure["interval_95"])
        why = figure.get("why_undefined") or figure.get("why_no_interval") or "no interval"
        tiles.append((words, value, f"95% interval {interval}, n = {figure['n']}" if interval != "–" else str(why)))
    return [Tiles(tiles), *verdict_blocks(content["gate"]), _status(content)]


def _status(content: Mapping[str, Any]) -> Text:
    status = content["baseline_status"]
    said = f"Baseline {status['name'] or ''}: {status['status']}".replace("  ", " ")
    return Text(f"{said}. {status['reason']}" if status["reason"] else f"{said}.", "quiet")


def _rates(models: Mapping[str, Mapping[str, Any]]) -> list[Block]:
    measured = [
        (f"{side}, {protocol}", model[protocol])
        for side, model in models.items()
        for protocol in ("paired", "classic")
        if model[protocol]
    ]
    if not measured:
        return [Text("Nothing was measured.", "unsure")]
    rates = [float(found["sequences_per_s"]["value"]) for _, found in measured]
    shown = [numbers.rate(rate) for rate in rates]
    chart = horizontal_bars(
        "Sequences a second", "The centre of the runs, by model and protocol.", [name for name, _ in measured],
        [("", rates)], [shown], x_label="sequences a second",
    )  # fmt: skip
    rows = []
    for name, found in measured:
        for key, words in _RATES.items():
            if found.get(key):
                spread = [numbers.plain(found[key].get(part)) for part in ("value", "sd", "min", "max")]
                rows.append([name, words, *spread, numbers.count(found[key]["n"])])
    names = ("centre", "sd", "least", "most", "n")
    columns = [Column("model"), Column("figure"), *(Column(name, True) for name in names)]
    shown_rows = [[name, rate] for (name, _), rate in zip(measured, shown, strict=True)]
    bars = Table("Sequences a second", [Column("model"), Column("sequences a second", True)], shown_rows)
    return [Drawing(chart, bars), Table("Rates of the runs, and their spread", columns, rows)]


def _once(models: Mapping[str, Mapping[str, Any]]) -> Table:
    rows = [
        [words, *(numbers.seconds(model[key]) if model[key] is not None else "–" for model in models.values())]
        for key, words in _ONCE.items()
    ]
    return Table("Paid once, and in no rate", [Column("what"), *(Column(side, True) for side in models)], rows)


def _runs(content: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]]) -> list[Block]:
    drawings: list[Drawing | Table] = []
    for protocol in ("paired", "classic"):
        sides = [(side, model[protocol]["samples_s"]) for side, model in models.items() if model[protocol]]
        if not sides:
            continue
        series = [
            Series(side, [(float(i), s) for i, s in enumerate(samples, 1)], marked=len(samples) < _MOST_MARKED)
            for side, samples in sides
        ]
        described = "; ".join(f"{side}: {len(samples):,} runs" for side, samples in sides)
        name = f"Seconds of every run, {protocol} protocol"
        chart = lines(name, f"{described}.", series, x_label="run", y_label="seconds")
        rows = [[side, numbers.count(i), numbers.plain(s)] for side, samples in sides for i, s in enumerate(samples, 1)]
        columns = [Column("model"), Column("run", True), Column("seconds", True)]
        drawings.append(Drawing(chart, Table(name, columns, rows)))
    pairs = content["pairs"]
    if pairs:
        points = [(float(i), ratio) for i, ratio in enumerate(pairs["ratios"], 1)]
        chart = lines(
            "Ratio of every pair", f"Baseline over candidate in {len(points):,} pairs of runs.",
            [Series("", points, marked=len(points) < _MOST_MARKED)], x_label="pair", y_label="ratio",
        )  # fmt: skip
        rows = [[numbers.count(int(i)), numbers.decimal(ratio)] for i, ratio in points]
        drawings.append(
            Drawing(chart, Table("Ratio of every pair", [Column("pair", True), Column("ratio", True)], rows))
        )
    return [Row(drawings)] if drawings else [Text("Nothing was measured.", "unsure")]


def _peaks(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"number format": peak["number_format"], **peak["flop_per_s"]} for peak in content["peaks"]]
