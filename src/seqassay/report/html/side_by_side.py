"""Records of one kind side by side: their figures in columns with differences, their curves in one plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seqassay.report.html import numbers
from seqassay.report.html.blocks import Block, Column, Drawing, Row, Section, Table, Text, View
from seqassay.report.html.chart import Series, horizontal_bars, lines
from seqassay.report.html.evaluation_view import calibration_drawing, curve_drawings
from seqassay.report.html.generic_view import figures_below, is_figure
from seqassay.report.html.records import Record
from seqassay.report.html.run_view import sample_of
from seqassay.report.html.sample import N_SCORE_BINS
from seqassay.report.html.shared import joined_stretches
from seqassay.report.markdown import NAMES

MOST_SERIES = 6  # as many as there are colours
_ABOUT = ("provenance", "settings", "identity", "method", "version")

_OF_RUNS = (
    ("sequences", "counts.sequences", "plain"),
    ("classified", "counts.classified", "plain"),
    ("with a score", "counts.scored", "plain"),
    ("called virus", "counts.virus", "plain"),
    ("estimated viral share", "calls.composition.viral_share", "share"),
    ("expected false calls", "calls.false_discovery_rate.of_calls", "share"),
    ("wall time (s)", "wall_s", "plain"),
    ("sequences a second", "throughput.sequences_per_s", "plain"),
    ("tokens a second", "throughput.tokens_per_s", "plain"),
    ("packing efficiency", "packing.efficiency", "share"),
    ("peak memory (bytes)", "memory.peak_host_bytes", "plain"),
)
_OF_SCANS = (
    ("contigs", "counts.contigs", "plain"),
    ("bases", "counts.bases", "plain"),
    ("windows", "counts.windows", "plain"),
    ("viral regions", "counts.regions", "plain"),
    ("viral bases", "counts.region_bases", "plain"),
    ("contigs with regions", "counts.contigs_with_regions", "plain"),
    ("wall time (s)", "wall_s", "plain"),
)
_OF_EVALUATIONS = (
    ("sequences with a score", "scored.scored", "plain"),
    *((words, f"values.{name}", "decimal") for name, words in NAMES.items()),
    ("expected calibration error", "calibration.expected_calibration_error", "decimal"),
)
_OF_LM_EVALUATIONS = (
    ("parameters", "model.parameters", "plain"),
    *(
        (f"{figure}, {split}", f"splits.{split}.values.{place}", "decimal")
        for split in ("train", "valid", "test")
        for figure, place in (("perplexity per token", "token_perplexity"), ("bits per byte", "bits_per_byte"))
    ),
    ("SmallBench accuracy", "smallbench.average.by_average", "share"),
    ("latency (ms)", "standard.latency_mean_ms", "plain"),
    ("latency, 95% (ms)", "standard.latency_p95_ms", "plain"),
    ("throughput (tokens/s)", "standard.throughput_tokens_per_s", "plain"),
    ("model FLOP utilisation", "standard.model_flop_utilisation", "share"),
    ("peak memory (bytes)", "standard.peak_memory_bytes", "plain"),
    ("tokens trained on", "standard.training_tokens", "plain"),
)
_OF_LM_TRAININGS = (
    ("parameters", "model.params", "plain"),
    ("best dev loss", "training.best.dev_loss", "decimal"),
    ("best dev perplexity", "training.best.dev_perplexity", "decimal"),
    ("tokens", "training.tokens_seen", "plain"),
    ("wall time (s)", "training.wall_s", "plain"),
    ("tokens a second", "training.tokens_per_s", "plain"),
)
# what figures can be compared on
_HAS_TO_BE_ALIKE = {
    "run": (("input sequences", "input_digest"),),
    "scan": (("input sequences", "input_digest"), ("windows", "windows")),
    "evaluation": (("test sets", "identity.test_set.digest"),),
    "speed": (("sequences", "identity.sequences"), ("devices", "device")),
    "lm_evaluation": (
        ("text", "identity.text.tokens"), ("tokenizers", "identity.checkpoint.tokenizer"), ("devices", "device"),
        ("windows", "method.context_tokens"), ("shapes of latency", "standard.latency_shape"),
    ),
    "lm_training": (("dev sets", "data.dev"), ("tokenizers", "data.tokenizer_digest")),
}  # fmt: skip
_HEADLINES = {
    "run": _OF_RUNS,
    "scan": _OF_SCANS,
    "evaluation": _OF_EVALUATIONS,
    "lm_evaluation": _OF_LM_EVALUATIONS,
    "lm_training": _OF_LM_TRAININGS,
}


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a record, with its interval where it has one."""

    value: float | None
    interval: Sequence[float] | None
    form: str

    @property
    def shown(self) -> str:
        """As the table has it."""
        between = numbers.interval(self.interval, self.form)
        value = numbers.formatted(self.value, self.form)
        return value if between == "–" else f"{value} ({between})"


def side_by_side(records: Sequence[tuple[str, Record]]) -> View:
    """Records of one kind, by their labels."""
    kind = records[0][1].kind
    contents = [(label, record.content) for label, record in records]
    blocks = _drawings(kind, records[:MOST_SERIES])
    if blocks and len(records) > MOST_SERIES:
        blocks.insert(0, Text(f"The first {MOST_SERIES} of {len(records)} records are drawn.", "quiet"))
    sections = [Section("Figures", _figures(kind, contents)), *([Section("Drawn together", blocks)] if blocks else [])]
    return View(
        title=f"{len(records)} {kind} records side by side",
        lead="; ".join(label for label, _ in records) + ".",
        sections=sections,
    )


def _figures(kind: str, contents: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Block]:
    """The figures in columns; each record after the first with its difference from the first."""
    found = [_figures_of(kind, content) for _, content in contents]
    names = list(dict.fromkeys(name for figures in found for name in figures))
    columns = [Column("figure"), Column(contents[0][0], True)]
    for label, _ in contents[1:]:
        columns += [Column(label, True), Column(f"{label.split(' ')[0]} − {contents[0][0].split(' ')[0]}", True)]
    rows = [[name, *_cells([figures.get(name) for figures in found])] for name in names]
    said = (
        "Differences are those of the two figures; they have no interval of their own. Whether two models differ is a "
        "question to paired tests: seqassay evaluate --baseline, and seqassay compare for two runs."
    )
    warnings = [Text(text, "unsure") for text in _not_alike(kind, contents)]
    return [*warnings, Table(f"Figures of {len(contents)} records", columns, rows), Text(said, "quiet")]


def _not_alike(kind: str, contents: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """What the records were not made of alike, so that a difference says less than it seems to."""
    return [
        f"The records are of different {words}: one and the same model would give other figures on them."
        for words, path in _HAS_TO_BE_ALIKE.get(kind, ())
        if len({str(_at(content, path)) for _, content in contents}) > 1
    ]


def _cells(figures: Sequence[Figure | None]) -> list[str]:
    first = figures[0]
    cells = [first.shown if first else "–"]
    for figure in figures[1:]:
        cells.append(figure.shown if figure else "–")
        if first is None or figure is None or first.value is None or figure.value is None:
            cells.append("–")
        else:
            difference = figure.value - first.value
            shown = numbers.formatted(difference, figure.form)
            cells.append(f"+{shown}" if difference > 0 else shown)
    return cells


def _figures_of(kind: str, content: Mapping[str, Any]) -> dict[str, Figure]:
    if kind in _HEADLINES:
        return {name: _figure(_at(content, path), form) for name, path, form in _HEADLINES[kind]}
    if kind == "gate":
        return {
            gate["name"] + (f", {result['record']}" if len(gate["results"]) > 1 else ""): _figure(result, "plain")
            for gate in content["gates"]
            for result in gate["results"]
        }
    parts = {name: part for name, part in content.items() if name not in _ABOUT}
    levels = parts.pop("levels", [])
    parts |= {str(level["level"]): level for level in levels}
    return {
        name: _figure(value, "plain")
        for name, value in figures_below(parts)
        if is_figure(value) or (isinstance(value, (int, float)) and not isinstance(value, bool))
    }


def _figure(found: Any, form: str) -> Figure:
    if isinstance(found, Mapping):
        return Figure(found.get("value", found.get("difference")), found.get("interval_95"), form)
    return Figure(found, None, form)


def _at(content: Mapping[str, Any], path: str) -> Any:
    here: Any = content
    for name in path.split("."):
        here = here.get(name) if isinstance(here, Mapping) else None
    return here


def _drawings(kind: str, records: Sequence[tuple[str, Record]]) -> list[Block]:
    contents = [(label, record.content) for label, record in records]
    if kind == "evaluation":
        return [*curve_drawings(contents, with_baseline=False), calibration_drawing(contents)]
    if kind == "run":
        return [Row([*_scores(records), *_throughput(contents), _stages(contents)])]
    return []


def _scores(records: Sequence[tuple[str, Record]]) -> list[Drawing]:
    """Share of each run's sequences by score."""
    samples = [(label, sample_of(record)[0]) for label, record in records if record.content["status"] == "done"]
    shares = []
    for label, sample in samples:
        if sample is not None:
            n_by_bin = sample.virus_by_score + sample.others_by_score
            if n_by_bin.sum():
                shares.append((label, (n_by_bin / n_by_bin.sum()).tolist()))
    if not shares:
        return []
    middles = [(i + 0.5) / N_SCORE_BINS for i in range(N_SCORE_BINS)]
    chart = lines(
        "Scores of all sequences",
        f"Share of each run's scored sequences in bins of {1 / N_SCORE_BINS:g}.",
        [Series(label, list(zip(middles, values, strict=True))) for label, values in shares],
        x_label="score",
        y_label="share of sequences",
        x_range=(0.0, 1.0),
    )
    columns = [Column("score, middle of the bin", True), *(Column(label, True) for label, _ in shares)]
    rows = [[f"{x:.2f}", *(numbers.share(values[i], 2) for _, values in shares)] for i, x in enumerate(middles)]
    return [Drawing(chart, Table("Sequences by score", columns, rows, row_heads=False))]


def _throughput(contents: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Drawing]:
    drawn = [(label, joined_stretches(content.get("timeline") or [])) for label, content in contents]
    drawn = [(label, stretches) for label, stretches in drawn if stretches]
    if not drawn:
        return []
    series = [
        Series(label, [pair for start, end, rate in stretches for pair in ((start, rate), (end, rate))])
        for label, stretches in drawn
    ]
    chart = lines(
        "Throughput over time", "Sequences a second over each run.", series,
        x_label="seconds since the models were loaded", y_label="sequences a second",
    )  # fmt: skip
    rows = [
        [label, numbers.seconds(start), numbers.seconds(end), numbers.rate(rate)]
        for label, stretches in drawn
        for start, end, rate in stretches
    ]
    columns = [Column("run"), *(Column(name, True) for name in ("from", "to", "sequences a second"))]
    return [Drawing(chart, Table("Throughput over time", columns, rows))]


def _stages(contents: Sequence[tuple[str, Mapping[str, Any]]]) -> Drawing:
    stages = list(dict.fromkeys(str(stage["stage"]) for _, content in contents for stage in content["stages"]))
    by_stage = [{s["stage"]: float(s["seconds"]) for s in content["stages"]} for _, content in contents]
    series = [
        (label, [seconds.get(stage, 0.0) for stage in stages])
        for (label, _), seconds in zip(contents, by_stage, strict=True)
    ]
    shown = [[numbers.seconds(value) for value in values] for _, values in series]
    chart = horizontal_bars(
        "Busy seconds by stage", "Of each run, side by side.", stages, series, shown, x_label="seconds"
    )
    columns = [Column("stage"), *(Column(label, True) for label, _ in series)]
    rows = [[stage, *(texts[i] for texts in shown)] for i, stage in enumerate(stages)]
    return Drawing(chart, Table("Busy time by stage", columns, rows))
