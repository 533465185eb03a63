"""A run of lm-evaluation-harness (``metrics.json``) as the table on the terminal and the report in markdown.

A view only: every number here stands in the record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from seqassay.report.layout import aligned, escaped, labelled, provenance_rows, table

_HEADER = ("task", "shots", "metric", "value", "standard error", "better", "n")


def lm_harness_summary(record: Mapping[str, Any], folder: str) -> str:
    """A table of every task's metrics, and what to mind."""
    model = record["identity"]["checkpoint"]
    lines = labelled(
        [
            ("model", f"{model['path']}, {model['parameters']:,} parameters, vocabulary {model['vocab_size']:,}"),
            ("harness", f"lm-eval {record['method']['harness']}, context {record['method']['context_tokens']:,}"),
            ("requests", _requests(record)),
        ]
    )
    lines += ["", *aligned([_HEADER, *_rows(record)], to_the_right=(1, 3, 4, 6))]
    lines += ["", *(f"note: {note}" for note in record["notes"]), *([""] if record["notes"] else [])]
    return "\n".join([*lines, f"items   {folder}/{record['items']}", f"record  {folder}/metrics.json"])


def lm_harness_report(record: Mapping[str, Any]) -> str:
    """The report in markdown."""
    model, method = record["identity"]["checkpoint"], record["method"]
    parts = [
        "# Tasks of lm-evaluation-harness",
        table(
            ("", ""),
            [
                ("model", f"`{escaped(model['path'])}`"),
                ("parameters", f"{model['parameters']:,}"),
                ("tokenizer", model["tokenizer"][:12]),
                ("harness", f"lm-eval {escaped(method['harness'])}"),
                ("context", f"{method['context_tokens']:,} tokens; truncation: {escaped(method['truncation'])}"),
                ("requests", _requests(record)),
                ("device", escaped(record["device"])),
            ],
        ),
        "## Tasks",
        table(_HEADER, [[escaped(cell) for cell in row] for row in _rows(record)]),
        f"Standard errors: {escaped(method['standard_error'])}.",
    ]
    if record["notes"]:
        parts += ["## Mind", "\n".join(f"- {escaped(note)}" for note in record["notes"])]
    parts += ["## Provenance", table(("", ""), provenance_rows(record))]
    return "\n\n".join(parts) + "\n"


def _rows(record: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, task in record["tasks"].items():
        n = f"{task['n']:,}" if task["scope"] == "whole" else f"{task['n']:,} of {task['rows']:,}"
        for metric in task["metrics"]:
            yield name, str(task["shots"]), *_figures(metric), n
    for name, group in record["groups"].items():
        for metric in group["metrics"]:
            yield f"{name} ({len(group['tasks'])} tasks)", "", *_figures(metric), ""


def _figures(metric: Mapping[str, Any]) -> tuple[str, str, str, str]:
    rule = "" if metric["filter"] == "none" else f" ({metric['filter']})"
    better = {True: "higher", False: "lower", None: ""}[metric["higher_is_better"]]
    return f"{metric['name']}{rule}", _number(metric["value"]), _number(metric["standard_error"]), better


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _requests(record: Mapping[str, Any]) -> str:
    said = record["requests"]
    resumed = f", {said['resumed']:,} taken over from an earlier run" if said["resumed"] else ""
    cut = f"; truncated: {said['truncated']:,}" if said["truncated"] else ""
    return f"{said['n']:,}{resumed}{cut}"
