"""A language model's evaluation (``metrics.json``) as the table on the terminal and the report in markdown.

A view only: every number here stands in the record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqassay.report.layout import aligned, escaped, labelled, provenance_rows, table

_NONE = "none"


def lm_evaluation_summary(record: Mapping[str, Any], folder: str) -> str:
    """A table of every split, what was scored and how, and what to mind."""
    model = record["identity"]["checkpoint"]
    rows = [
        ("model", f"{model['path']}, {model['parameters']:,} parameters, vocabulary {model['vocab_size']:,}"),
        ("windows", _method(record)),
        ("guards", f"{len(record['guards'])} passed: {', '.join(guard['name'] for guard in record['guards'])}"),
    ]
    lines = labelled(rows)
    for name, split in record["splits"].items():
        lines += ["", f"{name}: {_scope(split)}", *aligned([_HEADER, *_rows(split)], to_the_right=(1, 3))]
    if record["smallbench"] is not None:
        lines += ["", _asked(record["smallbench"]), *aligned([_TASK_HEADER, *_tasks(record["smallbench"])])]
    lines += ["", *(f"note: {note}" for note in record["notes"]), *([""] if record["notes"] else [])]
    return "\n".join([*lines, f"record  {folder}/metrics.json"])


def lm_evaluation_report(record: Mapping[str, Any]) -> str:
    """The report in markdown."""
    model = record["identity"]["checkpoint"]
    parts = [
        "# Language model evaluation",
        table(
            ("", ""),
            [
                ("model", f"`{escaped(model['path'])}`"),
                ("parameters", f"{model['parameters']:,}"),
                ("vocabulary", f"{model['vocab_size']:,}"),
                ("tokenizer", model["tokenizer"][:12]),
                ("text", ", ".join(f"`{escaped(place)}`" for place in record["identity"]["text"]["inputs"])),
                ("windows", escaped(_method(record))),
                ("device", escaped(record["device"])),
            ],
        ),
    ]
    for name, split in record["splits"].items():
        parts += [f"## {name}", f"{_scope(split)[0].upper()}{_scope(split)[1:]}.", table(_HEADER, _rows(split))]
    if record["smallbench"] is not None:
        asked, rows = _asked(record["smallbench"]), _tasks(record["smallbench"])
        parts += ["## SmallBench", f"{asked[0].upper()}{asked[1:]}.", table(_TASK_HEADER, rows)]
    if record["notes"]:
        parts += ["## Mind", "\n".join(f"- {escaped(note)}" for note in record["notes"])]
    parts += [
        "## Guards",
        table(
            ("guard", "what it shows", "value"),
            [(guard["name"], escaped(guard["says"]), _number(guard["value"])) for guard in record["guards"]],
        ),
        "## Provenance",
        table(("", ""), provenance_rows(record)),
    ]
    return "\n\n".join(parts) + "\n"


_TASK_HEADER = ("task", "accuracy, per token", "accuracy, sum", "chance", "larger class", "n", "truncated")
_HEADER = ("figure", "value", "95% interval", "n")


def _rows(split: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    return [
        (
            name.replace("_", " ") + (" (nats per token)" if name == "loss" else ""),
            figure["reason"] or _number(figure["value"]),
            _NONE
            if figure["interval_95"] is None
            else f"{_number(figure['interval_95'][0])} to {_number(figure['interval_95'][1])}",
            f"{figure['n']:,} {figure['of']}",
        )
        for name, figure in split["values"].items()
    ]


def _asked(smallbench: Mapping[str, Any]) -> str:
    n_resumed = smallbench["resumed_items"]
    resumed = f", {n_resumed:,} items taken over from an earlier run" if n_resumed else ""
    return f"SmallBench: {smallbench['method']['shots']} shots{resumed}; 95% intervals (Wilson)"


def _tasks(smallbench: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
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


def _scope(split: Mapping[str, Any]) -> str:
    n = split["n"]
    said = f"{n['scored_tokens']:,} tokens scored in {n['batches']:,} batches, {split['scoring_s']:,.1f} s"
    if split["scope"] == "partial":
        said = f"PARTIAL, the first {split['scored_share']:.2%}: {said}"
    why = split["values"]["loss"]["why_no_interval"]
    return f"{said}; intervals over {split['unit']['n']:,} {split['unit']['name']}{f' (none: {why})' if why else ''}"


def _method(record: Mapping[str, Any]) -> str:
    method = record["method"]
    prefix = "no prefix token" if method["prefix"] is None else f"prefix {method['prefix']['text']}"
    each = "each document on its own" if method["windows"] == "documents" else "the split as one stream"
    return f"{each}, context {method['context_tokens']:,}, stride {method['stride_tokens']:,}, {prefix}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.6g}"
