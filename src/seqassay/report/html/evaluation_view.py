"""An evaluation: figures with their intervals, the curves, the groups, and the gate against a baseline."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from seqassay.report.html import numbers
from seqassay.report.html.blocks import Block, Column, Drawing, Row, Section, Table, Text, Tiles, View
from seqassay.report.html.chart import Series, histogram, lines
from seqassay.report.html.records import Record
from seqassay.report.html.shared import about_sections, dict_table, figure_row, named, notes_of, verdict_blocks
from seqassay.report.markdown import NAMES

_CALIBRATION = ("expected_calibration_error", "maximum_calibration_error", "brier_score", "log_loss")
_OF_GROUPS = ("accuracy", "recall", "specificity", "roc_auc")
_FIGURE_COLUMNS = [Column("figure"), Column("value", True), Column("95% interval", True), Column("n", True)]
_MOST_CURVE_ROWS = 60


def evaluation_view(record: Record) -> View:
    """The page of an evaluation."""
    content = record.content
    bundle, test_set = content["identity"]["bundle"], content["test_set"]
    return View(
        title=f"seqassay evaluate: {bundle['name']}",
        lead=(
            f"The bundle {bundle['name']} on {test_set['sequences']:,} labelled sequences of {test_set['genomes']:,} "
            f"genomes, {test_set['viral']:,} of them viral; {content['scored']['scored']:,} have a score."
        ),
        sections=[
            Section("Figures", [*notes_of(content["notes"]), *_figures(content)]),
            Section("Verdict", [*verdict_blocks(content["gate"]), *_baseline(content["comparison"])]),
            Section("Curves", curve_drawings([("candidate", content)], with_baseline=True)),
            Section("Scores and calibration", _scores(content)),
            Section("By group and by length", _groups(content)),
            Section("Test set", _test_set(content)),
            *about_sections(content, bundle=bundle),
        ],
    )


def curve_drawings(contents: Sequence[tuple[str, Mapping[str, Any]]], *, with_baseline: bool) -> list[Block]:
    """ROC and precision-recall curves of evaluations, or of one with its baseline."""
    drawings: list[Drawing | Table] = []
    blocks: list[Block] = []
    for name, x, y, title in (
        ("roc", "false_positive_rate", "recall", "ROC curve"),
        ("precision_recall", "recall", "precision", "Precision-recall curve"),
    ):
        known = [
            (label, curve) for label, curve in _curves(contents, name, with_baseline) if "why_undefined" not in curve
        ]
        why = [
            f"{label}: {curve['why_undefined']}"
            for label, curve in _curves(contents, name, with_baseline)
            if "why_undefined" in curve
        ]
        if why:
            blocks.append(Text(f"{title} undefined. {'; '.join(why)}.", "unsure"))
        if not known:
            continue
        areas = ", ".join(f"{label} {numbers.decimal(curve['area'])}" for label, curve in known)
        chart = lines(
            title,
            f"Area under the curve: {areas}.",
            [Series(label, list(zip(curve[x], curve[y], strict=True))) for label, curve in known],
            x_label=x.replace("_", " "),
            y_label=y,
            x_range=(0.0, 1.0),
            y_range=(0.0, 1.0),
            diagonal="chance" if name == "roc" else "",
        )
        rows = [row for label, curve in known for row in _curve_rows(label, curve, x, y)]
        columns = [Column("curve"), *(Column(text, True) for text in ("threshold", x.replace("_", " "), y))]
        note = f"Every so many points, {_MOST_CURVE_ROWS} at the most; the record has them all."
        drawings.append(Drawing(chart, Table(title, columns, rows, note)))
    return [*blocks, *([Row(drawings)] if drawings else [])]


def calibration_drawing(contents: Sequence[tuple[str, Mapping[str, Any]]]) -> Drawing:
    """Viral share against mean score, bin by bin."""
    series, rows = [], []
    for label, content in contents:
        bins = content["curves"]["calibration"]
        points = [(b["mean_score"], b["viral_share"]["value"]) for b in bins]
        band = [(b["mean_score"], *b["wilson_95"]) for b in bins]
        series.append(Series(label, points, band, marked=True))
        for b in bins:
            share = b["viral_share"]
            rows.append(
                [
                    label, f"{b['lowest']:.4f} to {b['highest']:.4f}", numbers.count(b["n"]), f"{b['mean_score']:.4f}",
                    numbers.decimal(share["value"]), numbers.interval(share["interval_95"]),
                    numbers.interval(b["wilson_95"]),
                ]
            )  # fmt: skip
    columns = [
        Column("of"), Column("score"), *(Column(name, True) for name in
        ("n", "mean score", "viral share", "95% interval, by genome", "Wilson 95%")),
    ]  # fmt: skip
    errors = ", ".join(
        f"{label} {numbers.figure(content['calibration']['expected_calibration_error'])}" for label, content in contents
    )
    chart = lines(
        "Calibration",
        f"Viral share of the test set against the mean score, by bins. Expected calibration error: {errors}. Bars are "
        "Wilson's intervals, which take sequences as independent.",
        series,
        x_label="mean score of the bin",
        y_label="viral share in the bin",
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.0),
        diagonal="calibrated",
    )
    return Drawing(chart, Table("Calibration by bins of the score", columns, rows))


def _curves(
    contents: Sequence[tuple[str, Mapping[str, Any]]], name: str, with_baseline: bool
) -> list[tuple[str, Mapping[str, Any]]]:
    found = [(label, content["curves"][name]) for label, content in contents]
    if with_baseline and (contents[0][1]["comparison"] or {}).get("baseline_curves"):
        found.append(("baseline", contents[0][1]["comparison"]["baseline_curves"][name]))
    return found


def _curve_rows(label: str, curve: Mapping[str, Any], x: str, y: str) -> list[list[str]]:
    every = -(-curve["points"] // _MOST_CURVE_ROWS)
    picked = sorted({*range(0, curve["points"], every), curve["points"] - 1})
    rows = []
    for i in picked:
        threshold = curve["thresholds"][i]
        shown = "–" if threshold is None else f"{threshold:.6f}"
        rows.append([label, shown, f"{curve[x][i]:.4f}", f"{curve[y][i]:.4f}"])
    return rows


def _figures(content: Mapping[str, Any]) -> list[Block]:
    values = content["values"]
    tiles = []
    for name in ("accuracy", "recall", "precision", "roc_auc"):
        interval = numbers.interval(values[name]["interval_95"])
        detail = f"95% interval {interval}" if interval != "–" else "no interval"
        tiles.append(
            (NAMES[name], numbers.decimal(values[name]["value"]), f"{detail}, n = {numbers.count(values[name]['n'])}")
        )
    rows = [figure_row(NAMES[name], values[name]) for name in NAMES]
    majority = ["accuracy of always calling the larger class", numbers.decimal(content["majority_accuracy"]), "–", "–"]
    matrix = content["confusion_matrix"]
    counted = [
        [actual, *map(numbers.count, row)] for actual, row in zip(matrix["classes"], matrix["matrix"], strict=True)
    ]
    return [
        Tiles(tiles),
        Row(
            [
                Table("Figures of the sequences with a score", _FIGURE_COLUMNS, [*rows, majority]),
                Table(
                    "Confusion matrix",
                    [Column("label"), *(Column(f"called {name}", True) for name in matrix["classes"])],
                    counted,
                ),
            ]
        ),
    ]


def _baseline(comparison: Mapping[str, Any] | None) -> list[Block]:
    if comparison is None:
        return []
    rows = [
        [
            NAMES[name], numbers.decimal(pair["candidate"]["value"]), numbers.decimal(pair["baseline"]["value"]),
            numbers.decimal(pair["difference"]), numbers.interval(pair["interval_95"]),
        ]
        for name, pair in comparison["figures"].items()
        if name in NAMES
    ]  # fmt: skip
    columns = [Column("figure"), *(Column(n, True) for n in ("candidate", "baseline", "difference", "95% interval"))]
    caption = f"Candidate and baseline {comparison['baseline'].get('name', '')} on {comparison['n']:,} sequences"
    blocks: list[Block] = [Table(caption, columns, rows), *notes_of(comparison["caveats"])]
    if comparison["mcnemar"]:
        blocks.append(dict_table("McNemar's test of the calls", comparison["mcnemar"]))
    return blocks


def _scores(content: Mapping[str, Any]) -> list[Block]:
    spread = content["curves"]["histogram"]
    edges = [f"{edge:g}" for edge in spread["edges"]]
    bins = [f"{low} to {high}" for low, high in itertools.pairwise(edges)]
    labels = [edge if round(float(edge) * 100, 6) % 10 == 0 else "" for edge in edges]
    chart = histogram(
        "Scores by label",
        f"{sum(spread['viral']):,} viral and {sum(spread['others']):,} other sequences by score, stacked.",
        bins,
        [("viral", spread["viral"]), ("others", spread["others"])],
        edges=labels,
        x_label="score",
        y_label="sequences",
    )
    rows = [
        [name, numbers.count(viral), numbers.count(others)]
        for name, viral, others in zip(bins, spread["viral"], spread["others"], strict=True)
    ]
    table = Table(
        "Sequences by score and label", [Column("score"), Column("viral", True), Column("others", True)], rows
    )
    calibration = content["calibration"]
    figures = [figure_row(named(name), calibration[name]) for name in _CALIBRATION]
    return [
        Row([Drawing(chart, table), calibration_drawing([("candidate", content)])]),
        Table("Calibration of the scores, at this test set's composition", _FIGURE_COLUMNS, figures),
    ]


def _groups(content: Mapping[str, Any]) -> list[Block]:
    blocks: list[Block] = [_group_table("By group", [(row["group"], row) for row in content["by_group"]])]
    if content["by_length"]:
        rows = [
            (f"{row['from']:,} to {row['below'] - 1:,}" if row["below"] else f"{row['from']:,} and more", row)
            for row in content["by_length"]
        ]
        blocks.append(_group_table("By length in bases", rows))
    return blocks


def _group_table(caption: str, groups: Sequence[tuple[str, Mapping[str, Any]]]) -> Table:
    shown = [name for name in _OF_GROUPS if any(name in row for _, row in groups)]
    columns = [Column(""), *(Column(name, True) for name in ("sequences", "viral", "scored"))]
    columns[0] = Column(caption.removeprefix("By "))
    for name in shown:
        columns += [Column(NAMES[name], True), Column("95% interval", True)]
    rows = []
    for label, row in groups:
        cells = [label, *(numbers.count(row[name]) for name in ("sequences", "viral", "scored"))]
        for name in shown:
            entry = row.get(name)
            cells += (
                ["–", "–"]
                if entry is None
                else [numbers.decimal(entry["value"]), numbers.interval(entry["interval_95"])]
            )
        rows.append(cells)
    return Table(caption, columns, rows)


def _test_set(content: Mapping[str, Any]) -> list[Block]:
    status = [[name, numbers.count(n)] for name, n in content["scored"]["by_status"].items()]
    return [
        Row(
            [
                dict_table("Test set", {**content["identity"]["test_set"], **content["test_set"]}),
                Table("Sequences by status", [Column("status"), Column("sequences", True)], status),
            ]
        )
    ]
