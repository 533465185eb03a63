"""A sweep of language models: the decision, the finalists, the ranking, and the pictures of all of it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from seqassay.report import sweep_words as words
from seqassay.report.html import numbers
from seqassay.report.html.blocks import Block, Cell, Column, Drawing, Row, Section, Table, Text, Tiles, Tone, View
from seqassay.report.html.chart import Series, lines
from seqassay.report.html.records import Record
from seqassay.report.html.shared import about_sections, dict_table, notes_of, status_banner
from seqassay.report.layout import sentence
from seqassay.report.sweep_points import (
    COSTS,
    curves,
    groups_along,
    highlighted,
    labels,
    perplexity_label,
    places,
    positions,
    short,
)

_OTHERS = 5  # the colour of what is not a finalist
_TONES: dict[str, Tone] = {
    "better": "good", "faster": "good", "trade-off": "unsure", "too small": "quiet",
    "no difference": "quiet", "worse": "bad", "cannot tell": "unsure",
}  # fmt: skip


def sweep_view(record: Record) -> View:
    """The page of a sweep."""
    content = record.content
    has_finals = bool(words.finals(content))
    lead = f"{len(content['experiments'])} experiments; {words.progress(content)}."
    return View(
        title=f"seqassay lm sweep: {record.name}",
        lead=lead,
        banner=status_banner({"error": None, **content}, "sweep"),
        sections=[
            Section("Decision", _decision(content)),
            *([Section("Final", [_finals(content), *_drawn(content, "final")])] if has_finals else []),
            Section("Ranking", _ranking(content)),
            Section("What was asked, and what ran", _asked(content)),
            *_about(content),
        ],
    )


def _decision(content: Mapping[str, Any]) -> list[Block]:
    decision = content["decision"]
    if decision is None:
        return [Text(words.decided(content), "unsure"), *notes_of(words.notes(content))]
    tone: Tone = "good" if decision["winner"] else "unsure"
    blocks: list[Block] = [Text(decision["reason"], tone), *notes_of(words.notes(content))]
    if not decision["comparisons"]:
        return blocks
    rows: list[list[str | Cell]] = [
        [
            c["finalist"], Cell(c["verdict"], _TONES[c["verdict"]]),
            words.ratio_in_words(c["perplexity"], together=True),
            words.ratio_in_words(c["latency"], together=False), words.ratio_in_words(c["memory"], together=False),
            str(len(c["seeds"])), c["reason"],
        ]
        for c in decision["comparisons"]
    ]  # fmt: skip
    columns = [
        Column("finalist"), Column("verdict"), Column("perplexity (95% interval)"), Column("latency"),
        Column("memory"), Column("seeds", True), Column("why"),
    ]  # fmt: skip
    verdicts = [c["verdict"] for c in decision["comparisons"]]
    said = "; ".join(f"{name}: {decision['verdicts'][name]}" for name in dict.fromkeys(verdicts))
    caption = f"Finalists against the baseline, {decision['baseline']}"
    note = f"Perplexity is {decision['figure']}: {decision['method']}. {sentence(said)}."
    return [*blocks, Table(caption, columns, rows, note)]


def _finals(content: Mapping[str, Any]) -> Table:
    rows = words.finals(content)
    shown = words.shown_columns(rows, words.OF_FINAL)
    heads = [Column("experiment"), Column("status"), Column("n", True)]
    columns = [*heads, *(Column(words.COLUMNS[name][0], True) for name in shown)]
    cells = [
        [
            Cell(row["experiment"]), _state(row), Cell(str(row["done"])),
            *(_figure(row["figures"][name], name) for name in shown),
        ]
        for row in rows
    ]  # fmt: skip
    return Table("Mean ± standard deviation over n seeds", columns, cells, is_sortable=True)


def _ranking(content: Mapping[str, Any]) -> list[Block]:
    rows = words.ranked(content)
    shown = words.shown_columns(rows, words.OF_RANKING)
    chosen = set(highlighted(content)) if content["selection"] else set()
    cells = [
        [
            Cell(row["experiment"]), _state(row, is_finalist=row["experiment"] in chosen),
            *(_figure(row["figures"][name], name) for name in shown),
        ]
        for row in rows
    ]  # fmt: skip
    columns = [Column("experiment"), Column("status"), *(Column(words.COLUMNS[name][0], True) for name in shown)]
    table = Table(
        "One seed each, the lowest perplexity first", columns, cells,
        "No difference here is known to be more than noise: the ranking chooses finalists, and decides nothing.",
        is_sortable=True,
    )  # fmt: skip
    blocks: list[Block] = [table]
    if content["selection"] is not None:
        choices = [[c["experiment"], c["reason"]] for c in content["selection"]["choices"]]
        rule = f"Rule: {content['selection']['rule']}."
        blocks.append(Table("Why these finalists", [Column("experiment"), Column("why")], choices, rule))
    return [*blocks, *_drawn(content, "ranking")]


def _drawn(content: Mapping[str, Any], stage: str) -> list[Block]:
    """The pictures of a stage, where there is something to compare."""
    along = [drawing for axis in content["axes"] for drawing in _along(content, axis, stage)]
    fronts = [drawing for cost in COSTS for drawing in _front(content, cost, stage)]
    drawings = [*along, *fronts, *_curves(content, stage)]
    return [Row(drawings[first : first + 2]) for first in range(0, len(drawings), 2)]


def _along(content: Mapping[str, Any], axis: str, stage: str) -> list[Drawing]:
    groups = groups_along(content, axis, stage)
    points = [y for group in groups for _, y in group.runs]
    if sum(len(group.means) for group in groups) < 2:
        return []
    series = []
    for group in groups:
        color = group.number % (_OTHERS + 1)
        band = [(x, mean - sd, mean + sd) for x, mean, sd, _ in group.means if sd]
        series.append(Series(group.name, [(x, mean) for x, mean, _, _ in group.means], band, color=color))
        series.append(Series("", group.runs, marked=True, joined=False, color=color))
    ticks = positions(content["axes"][axis])
    low, high = ticks[0][0], ticks[-1][0]
    spread = 0.06 * (high - low or 1)
    n = {len({run["seed"] for run in content["runs"] if run["stage"] == stage})}.pop()
    seeds = "One seed" if n == 1 else f"{n} seeds; lines join means, bars are ± sd"
    chart = lines(
        f"Perplexity along {short(axis)}, {stage}", f"{seeds}; a point is a run; smaller is better.", series,
        x_label=short(axis), y_label=perplexity_label(content, stage), x_range=(low - spread, high + spread),
        y_range=_range(points), x_ticks=ticks,
    )  # fmt: skip
    rows = [
        [name, numbers.decimal(mean, 2), "–" if sd is None else numbers.decimal(sd, 3)]
        for group in groups
        for _, mean, sd, name in group.means
    ]
    columns = [Column("experiment"), Column("perplexity", True), Column("sd", True)]
    return [Drawing(chart, Table(f"Perplexity along {short(axis)}, {stage}", columns, rows))]


def _front(content: Mapping[str, Any], cost: str, stage: str) -> list[Drawing]:
    found = places(content, cost, stage)
    if len(found) < 2:
        return []
    names, made_of = labels(content)
    named = highlighted(content)
    front = [(place.cost, place.perplexity) for place in found if place.is_on_front]
    corners = [(x, y) for (_, y), (x, _) in itertools.pairwise(front)]
    stairs = sorted([*front, *corners], key=lambda point: (point[0], -point[1]))
    series = [Series("front: nothing is better in both", stairs, color=_OTHERS)] if corners else []
    for place in found:
        is_named = place.experiment in named
        color = named.index(place.experiment) % _OTHERS if is_named else _OTHERS
        name = names[place.experiment]
        series.append(
            Series(
                name if is_named else "", [(place.cost, place.perplexity)],
                [(place.cost, place.perplexity - place.sd, place.perplexity + place.sd)] if place.sd else [],
                marked=True, joined=False, color=color, labels=[name] if place.is_on_front and not is_named else [],
            )
        )  # fmt: skip
    alone = "" if corners else f" {next(names[p.experiment] for p in found if p.is_on_front)} beats all others in both."
    costs = [place.cost for place in found]
    title = f"{COSTS[cost].capitalize().replace('flop', 'FLOP')} against perplexity, {stage}"
    made = f" Names: {made_of}." if made_of else ""
    chart = lines(
        title, f"Means over the seeds; smaller is better in both.{alone} Finalists are coloured.{made}", series,
        x_label=COSTS[cost], y_label=perplexity_label(content, stage), x_range=_range(costs, 0.12),
        y_range=_range([place.perplexity for place in found]),
    )  # fmt: skip
    rows = [
        [
            p.experiment, numbers.plain(p.cost), numbers.decimal(p.perplexity, 2),
            "–" if p.sd is None else numbers.decimal(p.sd, 3), str(p.n), "yes" if p.is_on_front else "no",
        ]
        for p in found
    ]  # fmt: skip
    heads = (COSTS[cost], "perplexity", "sd", "n")
    columns = [Column("experiment"), *(Column(name, True) for name in heads), Column("on the front")]
    return [Drawing(chart, Table(title, columns, rows))]


def _curves(content: Mapping[str, Any], stage: str) -> list[Drawing]:
    found = curves(content, stage)
    if not found:
        return []
    names, _ = labels(content)
    named = highlighted(content)
    # finalists last, so that they lie above the others
    found = sorted(found, key=lambda curve: curve.experiment in named)
    seen: set[str] = set()
    series = []
    for curve in found:
        is_named = curve.experiment in named
        name = names[curve.experiment] if is_named else "others"
        color = named.index(curve.experiment) % _OTHERS if is_named else _OTHERS
        series.append(Series("" if name in seen else name, curve.points, color=color))
        seen.add(name)
    losses = [loss for curve in found for _, loss in curve.points]
    chart = lines(
        f"Dev loss while training, {stage}",
        f"A line a run, {len(found)} runs; the first fifth of the training is left out.", series,
        x_label="training tokens", y_label="dev loss (nats per token)", y_range=_range(losses),
    )  # fmt: skip
    rows = [
        [
            curve.experiment, str(curve.seed), curve.status, numbers.count(int(curve.points[-1][0])),
            numbers.decimal(curve.points[-1][1]),
        ]
        for curve in found
    ]  # fmt: skip
    columns = [
        Column("experiment"), Column("seed", True), Column("status"), Column("tokens", True),
        Column("last dev loss", True),
    ]  # fmt: skip
    return [Drawing(chart, Table(f"The ends of the curves, {stage}", columns, rows))]


def _asked(content: Mapping[str, Any]) -> list[Block]:
    asked = Table("What was asked", [Column("what"), Column("value")], [list(row) for row in words.asked(content)])
    done = sum(run["status"] == "done" for run in content["runs"])
    tokens = sum(int(run["figures"]["tokens_seen"] or 0) for run in content["runs"])
    tiles = Tiles(
        [
            ("runs done", f"{done} of {len(content['runs'])}", words.progress(content)),
            ("training tokens", numbers.count(tokens), "in all runs"),
            ("wall time", numbers.seconds(content["wall_s"]), words.wall_of(content)),
        ]
    )
    lost = [
        [run["experiment"], run["stage"], str(run["seed"]), Cell(run["status"], "bad"), run["why"] or "not finished"]
        for run in content["runs"]
        if run["status"] != "done"
    ]
    heads = ("experiment", "stage", "seed", "status", "why")
    columns = [Column(name, name == "seed") for name in heads]
    why = [Table("What was killed or failed, and why", columns, lost)] if lost else []
    return [asked, tiles, *why]


def _about(content: Mapping[str, Any]) -> list[Section]:
    config, identity = content["config"], content["identity"]
    rows = [
        ["configuration", str(config["path"])],
        ["its SHA-256", str(config["sha256"])],
        ["tokenizer", str(identity["tokenizer"])],
        *([f"tokens of {split}", str(digest)] for split, digest in identity["tokens"].items()),
    ]
    data = Table("Configuration and data", [Column("what"), Column("value")], rows)
    every = dict_table("Protocol", {**config["protocol"], "evaluate": config["evaluate"]})
    axes = list(content["axes"])
    names = list(dict.fromkeys(name for e in content["experiments"] for name in e["settings"]))
    experiments = Table(
        "Experiments, with what they inherit", [Column("experiment"), *(Column(name) for name in names)],
        [[e["name"], *(str(e["settings"].get(name, "–")) for name in names)] for e in content["experiments"]],
        f"They differ in {', '.join(axes)}.",
    )  # fmt: skip
    return [Section("Full configuration", [data, every, experiments]), *about_sections(content)]


def _figure(figure: Mapping[str, Any] | None, name: str) -> Cell:
    tone: Tone = "quiet" if figure is None else "plain"
    return Cell(words.spread(figure, name), tone, "" if figure is None else str(figure["value"]))


def _state(row: Mapping[str, Any], *, is_finalist: bool = False) -> Cell:
    tone: Tone = "bad" if row["killed"] or row["failed"] else "good" if is_finalist else "plain"
    return Cell(f"{words.state(row)}, finalist" if is_finalist else words.state(row), tone)


def _range(values: Sequence[float], margin: float = 0.08) -> tuple[float, float]:
    low, high = min(values), max(values)
    spread = (high - low or abs(high) or 1.0) * margin
    return low - spread, high + spread
