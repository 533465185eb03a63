"""The record of a run of the harness, ``metrics.json``: its figures, and the check before anything is written."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from seqassay.errors import SeqassayError
from seqassay.measure.schema import check_schema

FORMAT, VERSION, KIND = "seqassay-lm-harness", "1.0", "lm_harness"
_SHARES = ("acc", "acc_norm", "acc_bytes", "exact_match")  # between 0 and 1
_NOT_METRICS = ("alias", "name", "sample_len", "sample_count")


def task_figures(results: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics of each task, by its name."""
    found = {}
    for name in sorted(results["n-samples"]):
        n = results["n-samples"][name]
        found[name] = {
            "version": _text(results["versions"].get(name)),
            "shots": results["n-shot"].get(name, 0),
            "rows": n["original"],
            "n": n["effective"],
            "scope": "whole" if n["effective"] == n["original"] else "partial",
            "metrics": list(_metrics(results["results"][name], results["higher_is_better"].get(name, {}))),
        }
    return found


def group_figures(results: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics of groups, such as mmlu, over their tasks."""
    return {
        name: {
            "tasks": list(results.get("group_subtasks", {}).get(name, [])),
            "metrics": list(_metrics(said, results["higher_is_better"].get(name, {}))),
        }
        for name, said in results.get("groups", {}).items()
    }


def _metrics(said: Mapping[str, Any], higher_is_better: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """``acc,none`` and ``acc_stderr,none`` are one metric; what is no finite number is undefined."""
    for key, value in said.items():
        metric, _, rule = key.partition(",")
        if metric in _NOT_METRICS or metric.endswith("_stderr"):
            continue
        number = _number(value)
        yield {
            "name": metric,
            "filter": rule or "none",
            "value": number,
            "reason": None if number is not None else f"undefined: the harness gives {_text(value)}",
            "standard_error": _number(said.get(f"{metric}_stderr,{rule}")),
            "higher_is_better": higher_is_better.get(metric),
        }


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)[:80]


def items_of(results: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A line for every row of every task: what was asked, what was answered, what was counted."""
    for task, samples in results["samples"].items():
        for sample in samples:
            yield {
                "task": task,
                "row": sample["doc_id"],
                "filter": sample["filter"],
                "target": _plain(sample["target"]),
                "asked": _plain(sample["arguments"]),
                "answers": _plain(sample["resps"]),
                "metrics": {name: _plain(sample[name]) for name in sample["metrics"]},
            }


def _plain(value: Any) -> Any:
    """As JSON has it; numbers of NumPy as Python's, what is no finite number as null, other things as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(one) for one in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float) else str(value)


def check_record(record: Mapping[str, Any]) -> None:
    """Everything is as the schema has it, and shares are shares.

    Raises:
        SeqassayError: names the figure (a bug here, or a task whose metric is not what its name says).
    """
    check_schema(record, KIND)
    for name, task in record["tasks"].items():
        if not 0 < task["n"] <= task["rows"]:
            raise SeqassayError(f"{name}: {task['n']} of {task['rows']} rows asked")
        for metric in task["metrics"]:
            value = metric["value"]
            if metric["name"] in _SHARES and value is not None and not 0 <= value <= 1:
                raise SeqassayError(f"{name}: {metric['name']} came out as {value}, outside 0 to 1")
