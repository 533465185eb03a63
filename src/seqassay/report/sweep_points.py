"""What the pictures of a sweep are drawn from, for the page and for the files alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PERPLEXITIES = ("valid_token_perplexity", "test_token_perplexity")
COSTS = {"training_flop": "training FLOP", "latency_ms": "latency (ms)"}
STAGES = {"ranking": "ranking", "final": "final"}
_BEGINNING = 0.2  # of a training, in which the loss falls so far that nothing else would be seen


@dataclass(frozen=True, slots=True)
class Group:
    """Experiments that differ in one axis alone.

    Attributes:
        name: their values of the other axes.
        number: of that combination in the whole sweep, so that it has one colour in every picture.
        means: position along the axis, mean, standard deviation (None of one seed), experiment.
        runs: position and figure of every finished run.
    """

    name: str
    number: int
    means: Sequence[tuple[float, float, float | None, str]]
    runs: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Place:
    """An experiment in the plane of a cost and of perplexity; smaller is better of both."""

    experiment: str
    cost: float
    perplexity: float
    sd: float | None
    n: int
    is_on_front: bool


@dataclass(frozen=True, slots=True)
class Curve:
    """Training tokens and dev loss of one run, without its beginning."""

    experiment: str
    seed: int
    status: str
    points: Sequence[tuple[float, float]]


def positions(values: Sequence[Any]) -> list[tuple[float, str]]:
    """Where the values of an axis stand, and their names: numbers at themselves, words one after another."""
    if _is_numeric(values):
        return sorted((float(value), f"{value:g}") for value in values)
    return [(float(i), str(value)) for i, value in enumerate(values)]


def _is_numeric(values: Sequence[Any]) -> bool:
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)


def perplexity_of(record: Mapping[str, Any], stage: str) -> str:
    """The figure that pictures of a stage show: the one that decides, as far as it is measured there."""
    decided = [record["decision"]["figure"]] if record["decision"] and stage == "final" else []
    rows = [row for row in record["summary"] if row["stage"] == stage]
    measured = (name for name in (*decided, *PERPLEXITIES) if any(row["figures"][name] is not None for row in rows))
    return next(measured, PERPLEXITIES[0])


def perplexity_label(record: Mapping[str, Any], stage: str) -> str:
    """``perplexity (valid)``."""
    return f"perplexity ({perplexity_of(record, stage).split('_')[0]})"


def groups_along(record: Mapping[str, Any], axis: str, stage: str) -> list[Group]:
    """Perplexity along an axis, by the values of the other axes, in the order of those."""
    perplexity = perplexity_of(record, stage)
    rows = [
        row
        for row in record["summary"]
        if row["stage"] == stage and axis in row["axes"] and row["figures"][perplexity] is not None
    ]
    every = [_others(e["axes"], axis) for e in record["experiments"] if axis in e["axes"]]
    names = sorted(dict.fromkeys(every), key=lambda others: [_order(record, *pair) for pair in others])
    groups = []
    for number, others in enumerate(names):
        mine = [row for row in rows if _others(row["axes"], axis) == others]
        if mine:
            means = sorted(
                (_order(record, axis, row["axes"][axis]), figure["value"], figure["sd"], row["experiment"])
                for row in mine
                for figure in [row["figures"][perplexity]]
            )
            runs = [(x, y) for x, _, _, name in means for y in _finished(record, name, stage)]
            words = ", ".join(f"{short(name)} {value}" for name, value in others)
            groups.append(Group(words, number, means, runs))
    return groups


def _others(axes: Mapping[str, Any], axis: str) -> tuple[tuple[str, Any], ...]:
    return tuple((name, value) for name, value in axes.items() if name != axis)


def _order(record: Mapping[str, Any], axis: str, value: Any) -> float:
    """Where a value stands on its axis."""
    values = list(record["axes"][axis])
    return float(value) if _is_numeric(values) else float(values.index(value))


def _finished(record: Mapping[str, Any], experiment: str, stage: str) -> list[float]:
    perplexity = perplexity_of(record, stage)
    return [
        run["figures"][perplexity]
        for run in record["runs"]
        if run["experiment"] == experiment
        and run["stage"] == stage
        and run["status"] == "done"
        and run["figures"][perplexity] is not None
    ]


def places(record: Mapping[str, Any], cost: str, stage: str) -> list[Place]:
    """Experiments by cost; on the front is what no other beats in both."""
    perplexity = perplexity_of(record, stage)
    rows = [
        (row["experiment"], row["figures"][cost]["value"], row["figures"][perplexity])
        for row in record["summary"]
        if row["stage"] == stage and row["figures"][cost] is not None and row["figures"][perplexity] is not None
    ]
    found, lowest = [], float("inf")
    for name, x, figure in sorted(rows, key=lambda row: (row[1], row[2]["value"])):
        is_on_front = figure["value"] < lowest
        lowest = min(lowest, figure["value"])
        found.append(Place(name, x, figure["value"], figure["sd"], figure["n"], is_on_front))
    return found


def curves(record: Mapping[str, Any], stage: str) -> list[Curve]:
    """Dev loss of every run of a stage that was evaluated while it trained."""
    most = max((tokens for run in record["runs"] if run["stage"] == stage for tokens, _ in run["curve"]), default=0)
    found = []
    for run in record["runs"]:
        points = [(float(t), float(loss)) for t, loss in run["curve"] if t >= _BEGINNING * most]
        if run["stage"] == stage and points:
            found.append(Curve(run["experiment"], run["seed"], run["status"], points))
    return found


def highlighted(record: Mapping[str, Any]) -> list[str]:
    """The experiments that pictures name: the finalists, the baseline first; before there are any, the baseline."""
    selection = record["selection"]
    return list(selection["finalists"]) if selection else [record["baseline"]]


def short(axis: str) -> str:
    """``glu_expansion`` as ``glu expansion``."""
    return axis.replace("_", " ")


def labels(record: Mapping[str, Any]) -> tuple[dict[str, str], str]:
    """Short names of experiments for pictures, and what they are made of.

    ``0.25 / 2.66`` for an experiment of a grid, where that tells all experiments apart; else its own name.
    """
    axes = list(record["axes"])
    values = {e["name"]: " / ".join(str(e["axes"].get(axis, "–")) for axis in axes) for e in record["experiments"]}
    if axes and len(set(values.values())) == len(values):
        return values, " / ".join(map(short, axes))
    return {e["name"]: e["name"] for e in record["experiments"]}, ""
