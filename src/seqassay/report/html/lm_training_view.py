"""A language model's training: what it came to, and its curves from ``metrics.csv`` beside the record."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from seqassay.errors import InputError
from seqassay.report.html import numbers
from seqassay.report.html.blocks import Block, Column, Drawing, Row, Section, Table, Text, Tiles, View
from seqassay.report.html.chart import Series, lines
from seqassay.report.html.records import Record
from seqassay.report.html.shared import about_sections, dict_table

METRICS_FILE = "metrics.csv"
_MOST_POINTS = 300
_CURVES = (
    ("Loss", "nats per token", (("train_loss", "training batches"), ("dev_loss", "dev split"))),
    ("Learning rate", "learning rate", (("learning_rate", ""),)),
    ("Norm of the gradient", "norm", (("gradient_norm", ""),)),
    ("Speed", "tokens a second", (("tokens_per_s", ""),)),
)


def lm_training_view(record: Record) -> View:
    """The page of a training that ended."""
    content = record.content
    training, killed = content["training"], content["killed"]
    verdict: list[Block] = []
    if killed is not None:
        verdict.append(
            Text(
                f"The kill rule ended it after {killed['tokens_seen']:,} tokens: dev perplexity "
                f"{killed['dev_perplexity']:.4g}, the baseline's {killed['baseline_perplexity']:.4g}, worse by "
                f"{killed['margin']:g} or more since {killed['worse_since_tokens']:,} tokens.",
                "bad",
            )
        )
    best = training["best"]
    dev = content["data"]["dev"]
    tiles = [
        ("best dev perplexity", numbers.decimal(best["dev_perplexity"], 3),
         f"loss {best['dev_loss']:.4f} at step {best['step']:,}, over {dev['scored_tokens']:,} tokens"),
        ("tokens", f"{training['tokens_seen']:,}", f"{training['epochs']:.3g} epochs"),
        ("steps", f"{training['steps']:,}", f"of {training['steps_planned']:,} planned"),
        ("wall time", numbers.seconds(training["wall_s"]),
         f"{numbers.rate(training['tokens_per_s'])} tokens a second without evaluation and checkpoints"),
    ]  # fmt: skip
    return View(
        title=f"seqassay lm train: {record.name}",
        lead=f"{content['model']['params']:,} parameters, {content['precision']}, on {content['device']}.",
        sections=[
            Section("Figures", [*verdict, Tiles(tiles)]),
            Section("Curves", _curves(record.folder / METRICS_FILE)),
            Section(
                "Model, data and totals",
                [
                    Row(
                        [
                            dict_table("Model", content["model"]),
                            dict_table("Data", content["data"]),
                            dict_table("Training", training),
                        ]
                    )
                ],
            ),
            *about_sections(content),
        ],
    )


def _curves(path: Path) -> list[Block]:
    rows = _rows(path)
    if not rows:
        return [Text(f"{path.name} is not beside the record: there are no curves.", "quiet")]
    drawings: list[Drawing | Table] = []
    for title, y_label, named in _CURVES:
        series = []
        for column, name in named:
            points = [(row["tokens"], row[column]) for row in rows if column in row]
            if points:
                series.append(Series(name, _thinned(points), marked=len(points) < _MOST_POINTS // 5))
        if not series:
            continue
        values = [y for one in series for _, y in one.points if y is not None]
        last = ", ".join(f"{one.name or y_label} {numbers.plain(one.points[-1][1])}" for one in series)
        chart = lines(
            title, f"{len(rows):,} rows of {path.name}; last: {last}.", series, x_label="tokens", y_label=y_label,
            y_range=(min(values) - 0.02 * abs(min(values)), max(values)) if title == "Loss" else None,
        )  # fmt: skip
        cells = [[numbers.plain(x), one.name or y_label, numbers.plain(y)] for one in series for x, y in one.points]
        columns = [Column("tokens", True), Column("curve"), Column(y_label, True)]
        drawings.append(Drawing(chart, Table(title, columns, cells, row_heads=False)))
    return [Row(drawings)]


def _rows(path: Path) -> list[dict[str, float]]:
    """Rows of numbers; fields that were not measured are left out."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [
                {name: float(text) for name, text in row.items() if name and text not in ("", None)}
                for row in csv.DictReader(file)
            ]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"is no table of a training: {error}", path=path) from error
    if any("tokens" not in row or not all(map(math.isfinite, row.values())) for row in rows):
        raise InputError("is no table of a training: a row has no tokens, or what is no number", path=path)
    return rows


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float | None]]:
    """Every so many points, the last one always."""
    step = -(-len(points) // _MOST_POINTS)
    kept: list[tuple[float, float | None]] = [*points[::step]]
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]
