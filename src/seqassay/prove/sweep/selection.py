"""Who goes from a sweep's ranking into its final: the best along every axis, the best of all, and the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seqassay.errors import SeqassayError
from seqassay.prove.sweep.results import AxisValue, Run

PERPLEXITY = "valid_token_perplexity"
TIE = 0.001  # perplexities of one seed within a thousandth of the best are ties
# What "faster" means where perplexities tie: measured latency, else arithmetic, which has no noise.
_SPEED = ("latency_ms", "training_flop")


@dataclass(frozen=True, slots=True)
class Choice:
    """An experiment that was chosen, and why.

    Attributes:
        axis: the one that it is the best along; None for the baseline and the best of all.
        value: its value on that axis.
        among: how many experiments were to choose from.
    """

    experiment: str
    reason: str
    axis: str | None
    value: AxisValue | None
    perplexity: float | None
    among: int

    def as_json(self) -> dict[str, Any]:
        """Every field, as JSON types."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True)
class Selection:
    """Finalists in the order of the choices, the baseline first, each once."""

    choices: Sequence[Choice]

    @property
    def finalists(self) -> tuple[str, ...]:
        """Names of experiments."""
        return tuple(dict.fromkeys(choice.experiment for choice in self.choices))

    def as_json(self) -> dict[str, Any]:
        """Finalists and every choice with its reason."""
        return {
            "finalists": list(self.finalists),
            "choices": [choice.as_json() for choice in self.choices],
            "rule": (
                f"lowest {PERPLEXITY} of the ranking; along an axis: of the experiments that differ from the baseline "
                f"in that axis alone, where there are any; ties (within {TIE:.1%}) go to the faster"
            ),
        }


def select_finalists(runs: Sequence[Run], axes: Mapping[str, Sequence[AxisValue]], baseline: str) -> Selection:
    """Choose at most ``len(axes) + 2`` experiments; one that was killed or failed is never chosen.

    The baseline is always among them. Where it is the best along every axis and of all, the best of the others goes
    with it: the ranking is of one seed, and the final has to have something to compare.

    Raises:
        SeqassayError: the baseline has no run in the ranking.
    """
    ranking = [run for run in runs if run.stage == "ranking"]
    start = next((run for run in ranking if run.experiment == baseline), None)
    if start is None:
        raise SeqassayError(f"the ranking has no run of the baseline {baseline!r}")
    done = [run for run in ranking if run.status == "done" and run.figures[PERPLEXITY] is not None]
    choices = [_choice(start, "the baseline, which every finalist is compared with", among=len(ranking))]
    choices += [_best_along(axis, done, start) for axis in axes if _along(axis, done, start)]
    if done:
        best, tie = _best(done)
        choices.append(_choice(best, f"the lowest perplexity of all {len(done)} that finished{tie}", among=len(done)))
    others = [run for run in done if run.experiment != baseline]
    if others and all(choice.experiment == baseline for choice in choices):
        best, tie = _best(others)
        said = f"the best beside the baseline, which ranked first itself{tie}"
        choices.append(_choice(best, said, among=len(others)))
    return Selection(choices)


def _best_along(axis: str, done: Sequence[Run], start: Run) -> Choice:
    candidates = _along(axis, done, start)
    best, tie = _best(candidates)
    own = ", the baseline's own" if best.experiment == start.experiment else ""
    reason = (
        f"{axis} {best.axes[axis]}{own}: the lowest perplexity of {len(candidates)} that finished along this axis{tie}"
    )
    return _choice(best, reason, axis=axis, among=len(candidates))


def _along(axis: str, done: Sequence[Run], start: Run) -> list[Run]:
    """The experiments that move along an axis: those that move along no other, where there are any."""
    moved = [run for run in done if axis in run.axes and run.axes[axis] != start.axes.get(axis)]
    alone = [
        run for run in moved if all(run.axes.get(name) == value for name, value in start.axes.items() if name != axis)
    ]
    if not moved:
        return []
    return [run for run in done if run.experiment == start.experiment and axis in run.axes] + (alone or moved)


def _best(runs: Sequence[Run]) -> tuple[Run, str]:
    """The run with the lowest perplexity, of ties the fastest; and what to say of the tie."""
    lowest = min(_perplexity(run) for run in runs)
    tied = [run for run in runs if _perplexity(run) <= lowest * (1 + TIE)]
    if len(tied) > 1:
        for figure in _SPEED:
            costs = [run.figures[figure] for run in tied]
            if None not in costs:
                fastest = min(tied, key=lambda run: (run.figures[figure] or 0.0, _perplexity(run)))
                names = ", ".join(run.experiment for run in tied if run is not fastest)
                return fastest, f" (tied with {names}; the lowest {figure})"
    return min(tied, key=_perplexity), ""


def _perplexity(run: Run) -> float:
    value = run.figures[PERPLEXITY]
    assert value is not None  # only runs that have one are ranked
    return value


def _choice(run: Run, reason: str, *, among: int, axis: str | None = None) -> Choice:
    value = None if axis is None else run.axes[axis]
    return Choice(run.experiment, reason, axis, value, run.figures[PERPLEXITY], among)
