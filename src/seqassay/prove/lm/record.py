"""The record of a language model's evaluation, ``metrics.json``: checked here before anything is written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from seqassay.errors import SeqassayError
from seqassay.measure.schema import check_schema
from seqassay.prove.lm.profiling_checks import check_profiling
from seqassay.prove.lm.standard import StandardMetrics, standard_metrics
from seqassay.prove.record import check_figure_of_runs, figures_in

FORMAT, VERSION, KIND = "seqassay-lm-evaluation", "2.0", "lm_evaluation"
_SLACK = 1e-9


def range_of(place: str) -> tuple[float, float]:
    """The range of the figure that a place in the record names."""
    names = place.split(".")
    if names[-1] in ("by_average", "by_sum", "majority", "model_flop_utilisation") or names[-1].endswith("_accuracy"):
        return 0.0, 1.0
    return (1.0 if names[-1].endswith("_perplexity") else 0.0), math.inf


def check_record(record: Mapping[str, Any]) -> None:
    """Everything is as the schema has it, intervals hold their figures, and figures agree with each other.

    Raises:
        SeqassayError: names the figure (a bug here, or a record that was changed).
    """
    check_schema(record, KIND)
    if not record["splits"] and record["smallbench"] is None and record["profiling"] is None:
        raise SeqassayError("nothing was evaluated")
    if record["profiling"] is not None:
        for place, figure in figures_in(record["profiling"]):
            check_figure_of_runs(figure, f"profiling.{place}", range_of(place))
        check_profiling(record["profiling"], weight_bytes=record["model"]["weight_bytes"])
    for name, task in (record["smallbench"] or {"tasks": {}})["tasks"].items():
        _check_task(name, task)
    for name, split in record["splits"].items():
        values, n = split["values"], split["n"]
        for figure, said in values.items():
            high = 1.0 if figure.endswith("_accuracy") else math.inf
            low = 1.0 if figure.endswith("_perplexity") else 0.0
            if said["value"] is not None and not low - _SLACK <= said["value"] <= high + _SLACK:
                raise SeqassayError(f"{name}: {figure} came out as {said['value']}, outside {low:g} to {high:g}")
            ends = said["interval_95"]
            if ends is not None and not ends[0] - _SLACK <= said["value"] <= ends[1] + _SLACK:
                raise SeqassayError(f"{name}: {figure} {said['value']} lies outside its interval {ends}")
        shares = [said["value"] for _, said in _by_k(values)]
        if shares != sorted(shares):
            raise SeqassayError(f"{name}: top-k accuracy falls with k: {shares}")
        if n["scored_tokens"] > n["tokens"] or (split["scope"] == "whole") != (split["scored_share"] == 1):
            raise SeqassayError(f"{name}: {n['scored_tokens']} of {n['tokens']} tokens scored, called {split['scope']}")
        nats = values["loss"]["value"] * n["scored_tokens"]
        bits = values["bits_per_byte"]["value"]
        if bits is not None and not math.isclose(bits * n["bytes"] * math.log(2), nats, rel_tol=1e-9):
            raise SeqassayError(f"{name}: bits per byte and loss are not of one sum")
    standard = StandardMetrics.from_json(record["standard"])
    if standard != standard_metrics(record):
        raise SeqassayError("the standard metrics are not those of the rest of the record")


def _check_task(name: str, task: Mapping[str, Any]) -> None:
    for rule in ("by_average", "by_sum", "majority"):
        said = task[rule]
        if said["n"] != task["n"] or said["value"] != said["correct"] / said["n"]:
            raise SeqassayError(f"{name}: {rule} is {said['value']}, of {said['correct']} of {said['n']} items")
        if not said["interval_95"][0] - _SLACK <= said["value"] <= said["interval_95"][1] + _SLACK:
            raise SeqassayError(f"{name}: {rule} {said['value']} lies outside its interval {said['interval_95']}")
    if sum(task["predicted"].values()) != task["n"] or task["majority"]["value"] < task["chance"]:
        raise SeqassayError(f"{name}: predictions do not add up to {task['n']}, or the larger class is the smaller")


def _by_k(values: Mapping[str, Any]) -> list[tuple[int, Mapping[str, Any]]]:
    found = [(int(name.split("_")[1]), said) for name, said in values.items() if name.endswith("_accuracy")]
    return sorted(found, key=lambda pair: pair[0])
