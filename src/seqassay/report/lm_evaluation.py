"""A language model's evaluation (``metrics.json``) on the terminal, and its tables; the markdown is `lm_summary`'s.

A view only: every number here stands in the record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqassay.report.layout import aligned, labelled

_NONE = "none"
Row = tuple[str, ...]
Rows = list[Row]


def lm_evaluation_summary(record: Mapping[str, Any], folder: str) -> str:
    """A table of every split, what was scored and how, and what to mind."""
    model = record["identity"]["checkpoint"]
    about = [
        ("model", f"{model['path']}, {model['parameters']:,} parameters, vocabulary {model['vocab_size']:,}"),
        ("run", record["run"]["id"]),
        *([("windows", windows(record))] if record["splits"] else []),
        ("guards", f"{len(record['guards'])} passed: {', '.join(guard['name'] for guard in record['guards'])}"),
    ]
    lines = labelled(about)
    for name, split in record["splits"].items():
        lines += ["", f"{name}: {scope(split)}", *aligned([SPLIT_HEADER, *split_rows(split)], to_the_right=(1, 3))]
    if record["smallbench"] is not None:
        lines += ["", asked(record["smallbench"]), *aligned([TASK_HEADER, *task_rows(record["smallbench"])])]
    if record["profiling"] is not None:
        for title, header, rows in performance_tables(record["profiling"]):
            lines += ["", title, *aligned([header, *rows], to_the_right=range(1, len(header)))]
    lines += ["", *(f"note: {note}" for note in record["notes"]), *([""] if record["notes"] else [])]
    return "\n".join([*lines, f"record  {folder}/metrics.json"])


TASK_HEADER = ("task", "accuracy, per token", "accuracy, sum", "chance", "larger class", "n", "truncated")
SPLIT_HEADER = ("figure", "value", "95% interval", "n")


def split_rows(split: Mapping[str, Any]) -> Rows:
    """Figures of a split."""
    return [
        (
            name.replace("_", " ") + (" (nats per token)" if name == "loss" else ""),
            figure["reason"] or number(figure["value"]),
            _NONE
            if figure["interval_95"] is None
            else f"{number(figure['interval_95'][0])} to {number(figure['interval_95'][1])}",
            f"{figure['n']:,} {figure['of']}",
        )
        for name, figure in split["values"].items()
    ]


def asked(smallbench: Mapping[str, Any]) -> str:
    """How SmallBench was asked."""
    n_resumed = smallbench["resumed_items"]
    resumed = f", {n_resumed:,} items taken over from an earlier run" if n_resumed else ""
    return f"SmallBench: {smallbench['method']['shots']} shots{resumed}; 95% intervals (Wilson)"


def task_rows(smallbench: Mapping[str, Any]) -> Rows:
    """Accuracies of the tasks, and their mean."""
    rows: Rows = [
        (
            f"{name} ({task['source']})",
            _share(task["by_average"]),
            _share(task["by_sum"]),
            f"{task['chance']:.1%}",
            f"{task['majority']['value']:.1%} ({task['majority']['continuation'].strip()})",
            f"{task['n']:,} of {task['rows']:,}" if task["scope"] == "partial" else f"{task['n']:,}",
            f"{task['truncated_prompts']:,}",
        )
        for name, task in smallbench["tasks"].items()
    ]
    average = smallbench["average"]
    mean = (
        "mean of tasks",
        _share(average["by_average"]),
        _share(average["by_sum"]),
        "",
        f"{average['majority']['value']:.1%}",
        f"{average['by_average']['n']:,}",
        "",
    )
    return [*rows, mean]


def _share(figure: Mapping[str, Any]) -> str:
    low, high = figure["interval_95"]
    return f"{figure['value']:.2%} ({low:.2%} to {high:.2%})"


def performance_tables(profiling: Mapping[str, Any]) -> list[tuple[str, tuple[str, ...], Rows]]:
    """Title, header and rows of what was measured of speed and memory."""
    tables: list[tuple[str, Row, Rows]] = []
    header: Row
    if profiling["latency"] is not None:
        header = ("batch x tokens", "mean ms", "sd", "min", "median", "p95", "p99", "max", "runs", "MFU")
        tables.append(("Latency of a scoring pass", header, [_latency_row(entry) for entry in profiling["latency"]]))
    if profiling["throughput"] is not None:
        entry = profiling["throughput"]
        header = ("batch x tokens", "tokens/s", "sd", "sequences/s", "sd", "seconds", "slices", "MFU")
        tokens, sequences = entry["tokens_per_s"], entry["sequences_per_s"]
        row = (
            entry["shape"], brief(tokens["value"]), brief(tokens["sd"]), brief(sequences["value"]),
            brief(sequences["sd"]), brief(entry["duration_s"]), f"{tokens['n']}",
            _percent(entry["model_flop_utilisation"]["value"]),
        )  # fmt: skip
        tables.append(("Throughput", header, [row]))
    if profiling["scaling"] is not None:
        header = ("batch x tokens", "mean ms", "sd", "tokens/s", "speed-up", "runs")
        tables.append(("Scaling over batch sizes", header, [_scaling_row(entry) for entry in profiling["scaling"]]))
    if profiling["memory"] is not None:
        memory = profiling["memory"]
        header = ("batch x tokens", "MB", "sd", "processes")
        rows: Rows = [
            (f"{memory['shape']}, {words}", brief(figure["value"] / 1e6), _sd_mb(figure["sd"]), f"{figure['n']}")
            for key, words in MEMORY.items()
            if (figure := memory[key]) is not None
        ]
        tables.append(("Memory of a fresh process", header, rows))
    return tables


MEMORY = {
    "peak_bytes": "peak resident",
    "loaded_bytes": "of it when the model was loaded",
    "before_model_bytes": "of it before the model was loaded",
    "cuda_peak_allocated_bytes": "CUDA, peak allocated",
    "cuda_peak_reserved_bytes": "CUDA, peak reserved",
    "cuda_allocated_bytes": "CUDA, allocated at the end",
    "cuda_reserved_bytes": "CUDA, reserved at the end",
}


def _latency_row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    ms = entry["latency_ms"]
    in_ms = (ms["value"], ms["sd"], ms["min"], entry["median_ms"], entry["p95_ms"], entry["p99_ms"], ms["max"])
    share = _percent(entry["model_flop_utilisation"]["value"])
    return (entry["shape"], *map(brief, in_ms), f"{ms['n']}", share)


def _scaling_row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    ms = entry["latency_ms"]
    if ms["value"] is None:
        return (entry["shape"], "undefined", "", "", "", "out of memory")
    speed_up = f"{entry['speed_up']['value']:.2f}"
    return (entry["shape"], brief(ms["value"]), brief(ms["sd"]), brief(entry["tokens_per_s"]["value"]), speed_up,
            f"{ms['n']}")  # fmt: skip


def _sd_mb(sd: float | None) -> str:
    return _NONE if sd is None else brief(sd / 1e6)


def _percent(share: float | None) -> str:
    return "undefined" if share is None else f"{share:.1%}"


def brief(value: float | None) -> str:
    """Four digits, thousands apart."""
    if value is None:
        return _NONE
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def scope(split: Mapping[str, Any]) -> str:
    """How much of a split was scored, and over what its intervals are."""
    n = split["n"]
    said = f"{n['scored_tokens']:,} tokens scored in {n['batches']:,} batches, {split['scoring_s']:,.1f} s"
    if split["scope"] == "partial":
        said = f"PARTIAL, the first {split['scored_share']:.2%}: {said}"
    why = split["values"]["loss"]["why_no_interval"]
    return f"{said}; intervals over {split['unit']['n']:,} {split['unit']['name']}{f' (none: {why})' if why else ''}"


def windows(record: Mapping[str, Any]) -> str:
    """How text was cut into windows."""
    method = record["method"]
    prefix = "no prefix token" if method["prefix"] is None else f"prefix {method['prefix']['text']}"
    each = "each document on its own" if method["windows"] == "documents" else "the split as one stream"
    return f"{each}, context {method['context_tokens']:,}, stride {method['stride_tokens']:,}, {prefix}"


def number(value: float | None) -> str:
    """Six digits."""
    return "–" if value is None else f"{value:.6g}"
