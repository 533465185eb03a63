"""An end-to-end benchmark: rates and shares over the runs, stages, scaling over workers, the sweep, the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from seqassay.report.html import numbers
from seqassay.report.html.blocks import Block, Column, Drawing, Row, Section, Table, Text, Tiles, View
from seqassay.report.html.chart import Series, horizontal_bars, lines
from seqassay.report.html.records import Record
from seqassay.report.html.shared import about_sections, named, notes_of, text_of

_TILES = (
    ("wall_s", "wall time", "seconds"),
    ("sequences_per_s", "sequences a second", "plain"),
    ("tokens_per_s", "tokens a second", "plain"),
    ("packing_efficiency", "packing efficiency", "share"),
    ("cpu_utilisation", "processor utilisation", "share"),
    ("gpu_utilisation", "GPU utilisation", "share"),
    ("model_flop_utilisation", "model FLOP utilisation", "share"),
)
_MOST_LINES = 6  # as many as there are colours
_SPREAD = ("value", "sd", "min", "max")
_OF_SPREAD = (*(Column(name, True) for name in ("median", "sd", "least", "most")), Column("95% interval", True))


def pipeline_view(record: Record) -> View:
    """The page of a pipeline benchmark."""
    content = record.content
    identity, load = content["identity"], content["load_average"]
    busy = f"Load average of the machine: {load['before']:g} before, {load['after']:g} after."
    return View(
        title=f"seqassay benchmark pipeline: {identity['bundle']['name']}",
        lead=(
            f"{identity['sequences']:,} sequences ({identity['bases']:,} bases), end to end, on {identity['device']}, "
            f"{identity['precision']}."
        ),
        sections=[
            Section("Figures", [_tiles(content), Text(busy, "quiet"), *notes_of(content["notes"]), _values(content)]),
            Section("Stages", [_stages(content["stages"])]),
            *([Section("Workers", _scaling(content["scaling"]))] if content["scaling"] else []),
            *([Section("Settings that were tried", _sweep(content["sweep"]))] if content["sweep"] else []),
            *([Section("The reference procedure", _reference(content["reference"]))] if content["reference"] else []),
            Section("Runs", _runs(content["cases"])),
            *about_sections(content, bundle=identity["bundle"]),
        ],
    )


def _tiles(content: Mapping[str, Any]) -> Tiles:
    tiles = []
    for key, words, form in _TILES:
        figure = content["values"][key]
        interval = numbers.interval(figure.get("interval_95"), form)
        detail = f"95% interval {interval}, n = {figure['n']}" if interval != "–" else f"n = {figure['n']}"
        why = figure.get("why_undefined")
        tiles.append((words, numbers.formatted(figure["value"], form), str(why) if why else detail))
    return Tiles(tiles)


def _values(content: Mapping[str, Any]) -> Table:
    rows = [[named(name), *_cells(figure)] for name, figure in content["values"].items()]
    return Table("Medians over the runs, and their spread", [Column("figure"), *_OF_SPREAD, Column("n", True)], rows)


def _cells(figure: Mapping[str, Any], form: str = "plain") -> list[str]:
    """Median, spread, interval and n; why there is none in the median's place."""
    if figure["value"] is None:
        return [numbers.figure(figure), *["–"] * 4, numbers.count(figure["n"])]
    spread = ["–" if figure.get(part) is None else numbers.formatted(figure[part], form) for part in _SPREAD]
    return [*spread, numbers.interval(figure.get("interval_95"), form), numbers.count(figure["n"])]


def _stages(stages: Sequence[Mapping[str, Any]]) -> Drawing:
    names = [str(stage["stage"]) for stage in stages]
    seconds = [float(stage["seconds"]["value"] or 0.0) for stage in stages]
    chart = horizontal_bars(
        "Busy seconds by stage", "Median over the runs.", names, [("", seconds)],
        [[numbers.seconds(stage["seconds"]["value"]) for stage in stages]], x_label="seconds",
    )  # fmt: skip
    rows = [
        [name, *_cells(stage["seconds"]), numbers.share(stage["share"]["value"])]
        for name, stage in zip(names, stages, strict=True)
    ]
    columns = [Column("stage"), *_OF_SPREAD, Column("n", True), Column("share of all", True)]
    return Drawing(chart, Table("Busy seconds by stage", columns, rows))


def _scaling(scaling: Mapping[str, Any]) -> list[Block]:
    cases = scaling["cases"]
    known = [(float(case["workers"]), case["speed_up"]) for case in cases if case["speed_up"]["value"] is not None]
    blocks: list[Block] = []
    if known:
        points = [(workers, float(figure["value"])) for workers, figure in known]
        band = [(workers, *figure.get("interval_95")) for workers, figure in known if figure.get("interval_95")]
        most = max(workers for workers, _ in known)
        chart = lines(
            "Speed-up by workers", "Against one worker, in rounds; bars are 95% intervals.",
            [Series("", points, band, marked=True)], x_label="workers", y_label="speed-up",
            x_range=(0.0, most), y_range=(0.0, max(most, *(y for _, y in points))),
        )  # fmt: skip
        rows = [[f"{workers:g}", numbers.decimal(y)] for workers, y in points]
        blocks.append(Drawing(chart, Table("Speed-up by workers", [Column("workers"), Column("speed-up", True)], rows)))
    rows = [
        [
            numbers.count(case["workers"]), numbers.figure(case["wall_s"], "seconds"), numbers.figure(case["speed_up"]),
            numbers.interval(case["speed_up"].get("interval_95")), numbers.figure(case["efficiency"]),
            str(case.get("flag") or ""),
        ]
        for case in cases
    ]  # fmt: skip
    names = ("wall time", "speed-up", "95% interval", "efficiency")
    columns = [Column("workers"), *(Column(name, True) for name in names), Column("mind that")]
    return [*blocks, Table("Wall time by workers", columns, rows)]


def _sweep(sweep: Mapping[str, Any]) -> list[Block]:
    rows = [
        [
            _setting(case), numbers.figure(case["wall_s"], "seconds"), numbers.figure(case["speed_up"]),
            numbers.interval(case["speed_up"].get("interval_95")),
            numbers.n_bytes(_whole(case["peak_host_bytes"]["value"])),
        ]
        for case in sweep["cases"]
    ]  # fmt: skip
    names = ("wall time", "speed-up", "95% interval", "peak memory")
    said = f"Recommended: {_setting(sweep['recommended'])}. {sweep['reason']}"
    columns = [Column("setting"), *(Column(name, True) for name in names)]
    return [Text(said), Table("Token budget and prefetch depth", columns, rows)]


def _reference(reference: Mapping[str, Any]) -> list[Block]:
    wall = [["wall time (s)", *_cells(reference["wall_s"])]]
    columns = [Column("figure"), *_OF_SPREAD, Column("n", True)]
    table = Table("The reference procedure in the same rounds", columns, wall)
    labels = reference["labels"]
    if labels is None:
        return [table, Text(str(reference.get("why_no_labels") or "Its labels were not compared."), "quiet")]
    agreement = labels["agreement"]
    said = (
        f"Of {labels['frames']:,} frames {numbers.figure(agreement, 'share')} have the reference's label (95% interval "
        f"{numbers.interval(agreement['interval_95'], 'share')}); the largest difference of a score is "
        f"{numbers.decimal(labels['largest_score_difference'])}."
    )
    return [table, Text(said)]


def _runs(cases: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Wall seconds of every run by round, and what was run."""
    drawn = [case for case in cases if case["runs"]]
    blocks: list[Block] = []
    if drawn:
        series = [
            Series(
                str(case["name"]), [(float(run["round"]), float(run["wall_s"])) for run in case["runs"]], marked=True
            )
            for case in drawn[:_MOST_LINES]
        ]
        chart = lines(
            "Wall time of every run", f"By round; {len(series)} of {len(drawn)} cases are drawn.", series,
            x_label="round", y_label="seconds",
        )  # fmt: skip
        rows = [
            [str(case["name"]), numbers.count(run["round"]), numbers.decimal(run["wall_s"], 3)]
            for case in drawn
            for run in case["runs"]
        ]
        columns = [Column("case"), Column("round", True), Column("wall seconds", True)]
        blocks.append(Row([Drawing(chart, Table("Wall time of every run", columns, rows))]))
    rows = []
    for case in cases:
        roles, n_runs = ", ".join(case["roles"]), numbers.count(len(case["runs"]))
        same, failure = text_of(case["same_outputs"]), str(case["failure"]["error"]) if case["failure"] else ""
        rows.append([str(case["name"]), roles, text_of(case["workers"]), _setting(case), n_runs, same, failure])
    names = ("case", "for", "workers", "setting", "runs", "same outputs", "failure")
    return [*blocks, Table("What was run", [Column(name, name == "runs") for name in names], rows)]


def _setting(case: Mapping[str, Any]) -> str:
    batch = "the default token budget" if case.get("batch") is None else f"{case['batch']:,} tokens"
    return f"{batch}, prefetch {text_of(case.get('prefetch'))}"


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)
