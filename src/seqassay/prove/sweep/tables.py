"""Tables of a sweep: one row a run, and one an experiment and stage with mean, standard deviation and n."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from seqassay.prove.sweep.results import FIGURES, Run

_COUNTED = ("done", "killed", "failed", "stopped")


def summarise(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Every experiment of every stage with its figures over the seeds that were finished.

    A figure is ``{"value": mean, "sd": …, "min": …, "max": …, "n": …}``; the standard deviation (n − 1) is None of one
    seed, and a figure that no finished run has is None. What was killed or failed is counted and has no part in a mean.
    """
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.stage, run.experiment), []).append(run)
    return [
        {
            "experiment": experiment,
            "stage": stage,
            "axes": dict(group[0].axes),
            "seeds": sorted(run.seed for run in group if run.status == "done"),
            **{status: sum(run.status == status for run in group) for status in _COUNTED},
            "why": next((run.why for run in group if run.status != "done" and run.why), None),
            "figures": {name: _figure(name, group) for name in FIGURES},
        }
        for (stage, experiment), group in sorted(groups.items(), key=lambda item: item[0][0] != "ranking")
    ]


def _figure(name: str, group: Iterable[Run]) -> dict[str, Any] | None:
    values = [value for run in group if run.status == "done" and (value := run.figures[name]) is not None]
    if not values:
        return None
    return {
        "value": statistics.fmean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else None,
        "min": min(values),
        "max": max(values),
        "n": len(values),
    }


def results_csv(runs: Sequence[Run]) -> str:
    """One row a run; a figure that was not measured is empty."""
    axes = _axes(run.axes for run in runs)
    rows = [
        [
            run.experiment, run.stage, run.seed, run.status, *(run.axes.get(axis, "") for axis in axes),
            *(_empty(run.figures[name]) for name in FIGURES), run.folder, run.why or "",
        ]
        for run in runs
    ]  # fmt: skip
    return _csv(["experiment", "stage", "seed", "status", *axes, *FIGURES, "folder", "why"], rows)


def summary_csv(summary: Sequence[Mapping[str, Any]]) -> str:
    """One row an experiment and stage: of each figure mean, standard deviation and n."""
    axes = _axes(row["axes"] for row in summary)
    rows = [
        [
            row["experiment"], row["stage"], *(row["axes"].get(axis, "") for axis in axes),
            *(row[status] for status in _COUNTED),
            *(
                _empty(figure and figure[part]) if part != "n" else (figure["n"] if figure else 0)
                for figure in (row["figures"][name] for name in FIGURES)
                for part in ("value", "sd", "n")
            ),
        ]
        for row in summary
    ]  # fmt: skip
    of_figures = [f"{name}_{part}" for name in FIGURES for part in ("mean", "sd", "n")]
    return _csv(["experiment", "stage", *axes, *_COUNTED, *of_figures], rows)


def _axes(of_rows: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for axes in of_rows for name in axes))


def _empty(value: float | None) -> float | str:
    return "" if value is None else value


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
