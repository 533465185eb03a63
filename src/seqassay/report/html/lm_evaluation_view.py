"""A language model's evaluation: headline figures, text, SmallBench, speed and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from seqassay.report.html import numbers
from seqassay.report.html.blocks import Block, Column, Drawing, Row, Section, Table, Text, Tiles, View
from seqassay.report.html.chart import Series, horizontal_bars, lines
from seqassay.report.html.records import Record
from seqassay.report.html.shared import about_sections, dict_table, named, notes_of

_TITLES = {"train": "Training text", "valid": "Validation", "test": "Test"}
_MOST_MARKED = 60
_MEMORY = {
    "peak_bytes": "peak resident",
    "loaded_bytes": "of it when the model was loaded",
    "before_model_bytes": "of it before the model was loaded",
    "cuda_peak_allocated_bytes": "CUDA, peak allocated",
    "cuda_peak_reserved_bytes": "CUDA, peak reserved",
    "cuda_allocated_bytes": "CUDA, allocated at the end",
    "cuda_reserved_bytes": "CUDA, reserved at the end",
}


def lm_evaluation_view(record: Record) -> View:
    """The page of a language model's evaluation."""
    content = record.content
    model = content["model"]
    standard = {key: value for key, value in content["standard"].items() if value is not None}
    training = content["training"]
    return View(
        title=f"seqassay lm evaluate: {content['run']['id']}",
        lead=(
            f"{model['parameters']:,} parameters, {numbers.share(model['embedding_ratio'])} of them embeddings; "
            f"{model['n_layers']} layers, {model['d_model']} wide, vocabulary {model['vocab_size']:,}, context "
            f"{model['context_tokens']:,}; on {content['device']}."
        ),
        sections=[
            Section("Figures", [_tiles(content)]),
            Section("Text", _text(content["splits"])),
            Section("SmallBench", _smallbench(content["smallbench"])),
            Section("Speed and memory", _profiling(content["profiling"])),
            *([Section("Notes", notes_of(content["notes"]))] if content["notes"] else []),
            Section(
                "Model and training",
                [
                    Row(
                        [
                            dict_table("Model", model),
                            *([dict_table("Training, as `lm train` recorded it", training)] if training else []),
                        ]
                    )
                ],
            ),
            Section("Guards", [_guards(content["guards"])]),
            Section("Standard metrics", [dict_table("Standard metrics that were measured", standard)]),
            *about_sections(content),
        ],
    )


def _tiles(content: Mapping[str, Any]) -> Tiles:
    tiles = []
    for name, split in content["splits"].items():
        figure = split["values"]["token_perplexity"]
        between = numbers.interval(figure["interval_95"])
        beside = f"95% interval {between}" if between != "–" else figure["why_no_interval"] or "no interval"
        partial = ", partial" if split["scope"] == "partial" else ""
        shown = numbers.decimal(figure["value"], 3) if figure["value"] is not None else figure["reason"]
        tiles.append((f"perplexity per token, {name}{partial}", shown, beside))
    if content["smallbench"] is not None:
        average = content["smallbench"]["average"]
        larger = numbers.share(average["majority"]["value"])
        between = numbers.interval(average["by_average"]["interval_95"], "share")
        tiles.append(("SmallBench accuracy", numbers.share(average["by_average"]["value"]),
                      f"{between}; the larger class has {larger}"))  # fmt: skip
    profiling = content["profiling"] or {}
    for entry in profiling.get("latency") or ():
        ms = entry["latency_ms"]
        tiles.append((f"latency of {entry['shape']}", _ms(ms["value"]), f"sd {_ms(ms['sd'])}, n = {ms['n']:,}"))
    if profiling.get("throughput"):
        rate = profiling["throughput"]["tokens_per_s"]
        spread = f"tokens a second; sd {numbers.rate(rate['sd'])} over {rate['n']:,} slices"
        tiles.append((f"throughput of {profiling['throughput']['shape']}", numbers.rate(rate["value"]), spread))
    if profiling.get("memory"):
        memory = profiling["memory"]
        figure = memory.get("cuda_peak_allocated_bytes") or memory["peak_bytes"]
        tiles.append((f"peak memory of {memory['shape']}", _bytes(figure["value"]), f"n = {figure['n']:,}"))
    return Tiles(tiles)


def _text(splits: Mapping[str, Any]) -> list[Block]:
    if not splits:
        return [Text("No text was scored.", "quiet")]
    blocks: list[Block] = []
    columns = [Column("figure"), *(Column(name, True) for name in ("value", "95% interval", "over"))]
    for name, split in splits.items():
        rows = [
            [
                named(key),
                figure["reason"] or numbers.plain(figure["value"]),
                numbers.interval(figure["interval_95"], "plain")
                if figure["interval_95"]
                else f"none: {figure['why_no_interval']}",
                f"{figure['n']:,} {figure['of']}",
            ]
            for key, figure in split["values"].items()
        ]
        n = split["n"]
        scope = "all" if split["scope"] == "whole" else f"the first {numbers.share(split['scored_share'])}"
        note = (
            f"{n['scored_tokens']:,} tokens scored ({scope}), in {n['batches']:,} batches; intervals over "
            f"{split['unit']['n']:,} {split['unit']['name']}."
        )
        blocks.append(Table(_TITLES[name], columns, rows, note))
    return blocks


def _smallbench(found: Mapping[str, Any] | None) -> list[Block]:
    if found is None:
        return [Text("No probes were asked.", "quiet")]
    tasks = found["tasks"]
    names = list(tasks)
    by_rule = {
        "model, per token": [task["by_average"] for task in tasks.values()],
        "larger class": [task["majority"] for task in tasks.values()],
    }
    series = [(rule, [100 * float(figure["value"]) for figure in figures]) for rule, figures in by_rule.items()]
    shown = [[numbers.share(figure["value"]) for figure in figures] for figures in by_rule.values()]
    chart = horizontal_bars(
        "Accuracy of the four tasks",
        "The model's accuracy beside that of always answering the larger class; chance is 50%.",
        names, series, shown, x_label="percent of items",
    )  # fmt: skip
    rows = []
    for name, task in tasks.items():
        cells = [
            f"{numbers.share(task[rule]['value'])} ({numbers.interval(task[rule]['interval_95'], 'share')})"
            for rule in ("by_average", "by_sum", "majority")
        ]
        asked = f"{task['n']:,}" if task["scope"] == "whole" else f"{task['n']:,} of {task['rows']:,}"
        rows.append([f"{name} ({task['source']})", *cells, numbers.share(task["chance"]), asked,
                     f"{task['truncated_prompts']:,}"])  # fmt: skip
    header = ("accuracy, per token", "accuracy, sum", "larger class", "chance", "items", "truncated prompts")
    columns = [Column("task"), *(Column(name, True) for name in header)]
    return [Drawing(chart, Table("Accuracy, with Wilson's 95% intervals", columns, rows))]


def _profiling(found: Mapping[str, Any] | None) -> list[Block]:
    if found is None:
        return [Text("Speed and memory were not measured.", "quiet")]
    blocks: list[Block] = []
    drawings: list[Drawing | Table] = []
    if found["latency"]:
        drawings.append(_latency(found["latency"]))
    measured = [entry for entry in found["scaling"] or () if entry["latency_ms"]["value"] is not None]
    if measured:
        drawings.append(_scaling(measured, found["scaling"]))
    if drawings:
        blocks.append(Row(drawings))
    if found["throughput"]:
        entry = found["throughput"]
        keys = ("tokens_per_s", "sequences_per_s", "model_flop_utilisation")
        rows = [[named(key), *_spread(entry[key])] for key in keys]
        took, per_slice = numbers.seconds(entry["duration_s"]), entry["runs_per_slice"]
        note = f"{entry['runs']:,} runs in {took}, in slices of {per_slice:,}."
        blocks.append(Table(f"Throughput of {entry['shape']}", _SPREAD_COLUMNS, rows, note))
    if found["memory"]:
        memory = found["memory"]
        rows = [
            [words, _bytes(figure["value"]), _bytes(figure["sd"]), f"{figure['n']:,}"]
            for key, words in _MEMORY.items()
            if (figure := memory[key]) is not None
        ]
        columns = [Column("memory"), *(Column(name, True) for name in ("mean", "sd", "processes"))]
        blocks.append(Table(f"Memory of a fresh process, {memory['shape']}", columns, rows))
    blocks.append(dict_table("How it was measured", found["method"]))
    return blocks


_SPREAD_COLUMNS = [Column("figure"), *(Column(name, True) for name in ("value", "sd", "least", "most", "n"))]


def _spread(figure: Mapping[str, Any]) -> list[str]:
    return [*(numbers.plain(figure[key]) for key in ("value", "sd", "min", "max")), f"{figure['n']:,}"]


def _latency(entries: Sequence[Mapping[str, Any]]) -> Drawing:
    series = [
        Series(
            entry["shape"],
            [(float(i), ms) for i, ms in enumerate(entry["samples_ms"], 1)],
            marked=len(entry["samples_ms"]) < _MOST_MARKED,
        )
        for entry in entries
    ]
    described = "; ".join(f"{entry['shape']}: mean {_ms(entry['latency_ms']['value'])}" for entry in entries)
    chart = lines("Latency of every run", f"{described}.", series, x_label="run", y_label="milliseconds")
    header = ("mean", "sd", "least", "median", "95%", "99%", "most", "runs", "FLOP utilisation")
    rows = []
    for entry in entries:
        ms = entry["latency_ms"]
        cells = (ms["value"], ms["sd"], ms["min"], entry["median_ms"], entry["p95_ms"], entry["p99_ms"], ms["max"])
        share = numbers.share(entry["model_flop_utilisation"]["value"])
        rows.append([entry["shape"], *map(_ms, cells), f"{ms['n']:,}", share])
    columns = [Column("sequences x tokens"), *(Column(name, True) for name in header)]
    return Drawing(chart, Table("Latency of a scoring pass", columns, rows))


def _scaling(measured: Sequence[Mapping[str, Any]], entries: Sequence[Mapping[str, Any]]) -> Drawing:
    points = [(float(entry["batch"]), float(entry["tokens_per_s"]["value"])) for entry in measured]
    band = [(float(e["batch"]), e["tokens_per_s"]["min"], e["tokens_per_s"]["max"]) for e in measured]
    length = measured[0]["length_tokens"]
    described = f"Sequences of {length:,} tokens; bars reach from the slowest to the fastest run."
    chart = lines(
        "Tokens a second by batch size", described, [Series("", points, band, marked=True)],
        x_label="sequences of a batch", y_label="tokens a second", y_range=(0.0, max(high for _, _, high in band)),
    )  # fmt: skip
    header = ("mean", "sd", "tokens a second", "speed-up", "rounds")
    rows = [
        [
            entry["shape"], _ms(entry["latency_ms"]["value"]), _ms(entry["latency_ms"]["sd"]),
            numbers.rate(entry["tokens_per_s"]["value"]), numbers.decimal(entry["speed_up"]["value"], 2),
            f"{entry['latency_ms']['n']:,}",
        ]
        for entry in entries
    ]  # fmt: skip
    columns = [Column("sequences x tokens"), *(Column(name, True) for name in header)]
    return Drawing(chart, Table("Scaling over batch sizes", columns, rows))


def _guards(guards: Sequence[Mapping[str, Any]]) -> Table:
    rows = [
        [str(guard["name"]), str(guard["says"]), "–" if guard["value"] is None else numbers.plain(guard["value"])]
        for guard in guards
    ]
    return Table("Guards, all of which held", [Column("guard"), Column("what it shows"), Column("value", True)], rows)


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:,.4g} ms"


def _bytes(value: float | None) -> str:
    return "–" if value is None else numbers.n_bytes(round(value))
