"""The decision of a sweep: is a finalist better than the baseline, or is the difference that of the seeds?

The rule: a finalist replaces the baseline where its perplexity is at least 5% lower, which the seeds have to show, and
latency and memory are no worse. Where perplexities tie, the faster one does.

Differences are paired by seed, on the logarithm, with Student's t on as many seeds as both have. An interval that
decides holds over all finalists together (Bonferroni: each is as wide as 1 − 0.05 / m asks, of m finalists), so that
where all are equal, a sweep names a winner in at most 5 of 100 (`benchmarks/sweep_decision.py`).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from seqassay.errors import SeqassayError
from seqassay.evaluate.intervals import student_t
from seqassay.prove.sweep.results import Run
from seqassay.report.sweep_words import change

MARGIN = 0.05  # of perplexity, and of latency where perplexities tie
COST_TOLERANCE = 0.02  # latency or memory higher by no more than this is no worse, however well it is measured
LATENCY, MEMORY = "latency_ms", "peak_memory_bytes"
_PERPLEXITIES = ("test_token_perplexity", "valid_token_perplexity")
_ERROR = 0.05

Verdict = Literal["better", "faster", "trade-off", "too small", "no difference", "worse", "cannot tell"]
Outcome = Literal["winner", "no difference", "baseline stays", "cannot tell"]
MEANINGS: Mapping[Verdict, str] = {
    "better": "perplexity lower by at least the margin, shown by the seeds, at no worse latency or memory",
    "faster": "perplexity not worse, within the margin, and latency lower by at least the margin, both shown",
    "trade-off": "perplexity as for better, but latency or memory is worse",
    "too small": "perplexity is lower, shown by the seeds, but by less than the margin",
    "no difference": "the seeds do not tell the perplexities apart",
    "worse": "perplexity is higher, shown by the seeds",
    "cannot tell": "too few finished runs, or a figure that was not measured",
}


@dataclass(frozen=True, slots=True)
class Ratio:
    """A finalist's figure over the baseline's: geometric mean over the seeds that both have.

    Attributes:
        interval_95: of this ratio by itself; None below two seeds.
        interval_95_together: at which all finalists' intervals hold together.
    """

    figure: str
    value: float
    interval_95: tuple[float, float] | None
    interval_95_together: tuple[float, float] | None
    n: int

    def as_json(self) -> dict[str, Any]:
        """Every field, as JSON types."""
        return _as_json(self)

    def is_below(self, limit: float) -> bool:
        """Whether the whole interval that decides lies below."""
        return self.interval_95_together is not None and self.interval_95_together[1] < limit

    def is_above(self, limit: float) -> bool:
        """Whether the whole interval that decides lies above."""
        return self.interval_95_together is not None and self.interval_95_together[0] > limit

    def is_worse_cost(self) -> bool:
        """A latency or a memory that is higher by more than the tolerance, and beyond its noise."""
        low = self.interval_95[0] if self.interval_95 else math.inf
        return self.value > 1 + COST_TOLERANCE and low > 1


@dataclass(frozen=True, slots=True)
class Comparison:
    """A finalist against the baseline.

    Attributes:
        seeds: those whose runs of both were finished.
        perplexity: None without such a seed; latency and memory likewise, or where one was not measured.
    """

    finalist: str
    verdict: Verdict
    reason: str
    seeds: tuple[int, ...]
    perplexity: Ratio | None
    latency: Ratio | None
    memory: Ratio | None

    def as_json(self) -> dict[str, Any]:
        """Every field, as JSON types."""
        return _as_json(self)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a sweep decides.

    Attributes:
        winner: the experiment that replaces the baseline; None where it stays.
        figure: of the perplexity that was compared.
    """

    outcome: Outcome
    winner: str | None
    reason: str
    baseline: str
    figure: str
    margin: float
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Every field, and how it was worked out."""
        return _as_json(self) | {
            "method": (
                "ratios of geometric means, paired by seed, Student's t on the logarithm; the interval of perplexity "
                f"holds for {_together(len(self.comparisons))}, those of latency and memory each by itself"
            ),
            "cost_tolerance": COST_TOLERANCE,
            "verdicts": dict(MEANINGS),
        }


def decide(runs: Sequence[Run], baseline: str, *, margin: float = MARGIN) -> Decision:
    """Compare every finalist with the baseline over the same seeds, and say which one replaces it, if any.

    Perplexity is that of the test split where every finished final run has it, else of the validation split.

    Raises:
        SeqassayError: a figure that cannot be, two runs of one experiment and seed, or a margin that is none.
    """
    if not 0 < margin < 1:
        raise SeqassayError(f"the margin is {margin}; it lies between 0 and 1")
    finals = [run for run in runs if run.stage == "final"]
    _check(finals)
    names = [name for name in dict.fromkeys(run.experiment for run in finals) if name != baseline]
    done = [run for run in finals if run.status == "done"]
    figure = next(
        (f for f in _PERPLEXITIES if done and all(run.figures[f] is not None for run in done)), _PERPLEXITIES[1]
    )
    of = {name: [run for run in finals if run.experiment == name] for name in (baseline, *names)}
    rule = _Rule(figure, margin, len(names))
    comparisons = tuple(rule.compare(name, of[name], of[baseline]) for name in names)
    winner, why = _winner(comparisons, of, rule)
    outcome, reason = _outcome(comparisons, winner, why, baseline)
    return Decision(outcome, winner, reason, baseline, figure, margin, comparisons, _notes(runs, figure))


@dataclass(frozen=True, slots=True)
class _Rule:
    figure: str
    margin: float
    n_comparisons: int

    def compare(self, name: str, mine: Sequence[Run], baselines: Sequence[Run]) -> Comparison:
        """The verdict on one finalist."""
        pairs = _pairs(mine, baselines)
        seeds = tuple(ours.seed for ours, _ in pairs)
        perplexity, latency, memory = (self.ratio(figure, pairs) for figure in (self.figure, LATENCY, MEMORY))
        verdict, reason = self._judge(mine, baselines, perplexity, latency, memory)
        return Comparison(name, verdict, reason, seeds, perplexity, latency, memory)

    def ratio(self, figure: str, pairs: Sequence[tuple[Run, Run]]) -> Ratio | None:
        """Geometric mean of a figure's ratios; None where not every pair has it."""
        values = [(mine.figures[figure], theirs.figures[figure]) for mine, theirs in pairs]
        logs = [math.log(a / b) for a, b in values if a is not None and b is not None]
        if not logs or len(logs) < len(values):
            return None
        mean, n = statistics.fmean(logs), len(logs)
        if n < 2:
            return Ratio(figure, math.exp(mean), None, None, n)
        error = statistics.stdev(logs) / math.sqrt(n)

        def interval(share: float) -> tuple[float, float]:
            half = student_t(1 - share / 2, n - 1) * error
            return math.exp(mean - half), math.exp(mean + half)

        return Ratio(figure, math.exp(mean), interval(_ERROR), interval(_ERROR / max(1, self.n_comparisons)), n)

    def _judge(
        self,
        mine: Sequence[Run],
        baselines: Sequence[Run],
        perplexity: Ratio | None,
        latency: Ratio | None,
        memory: Ratio | None,
    ) -> tuple[Verdict, str]:
        if all(run.status == "killed" for run in mine):
            return "worse", f"every seed was ended by the kill rule ({mine[0].why})"
        if perplexity is None:
            return "cannot tell", _no_pairs(mine, baselines)
        said = f"{self._words(perplexity)} over {_seeds(perplexity.n)}"
        if perplexity.interval_95_together is None:
            return "cannot tell", f"{said}: one seed says nothing of the noise of seeds"
        if len(set(perplexity.interval_95_together)) == 1 and perplexity.value != 1:
            return "cannot tell", f"{said}, the same of every seed: the seeds move nothing, so their noise is not known"
        if perplexity.is_above(1):
            return "worse", said
        lost = [run for run in mine if run.status != "done"]
        if lost:  # the seeds that are left may be the lucky ones
            return (
                "cannot tell",
                f"{said}, but seed {lost[0].seed} is {lost[0].status} ({lost[0].why or 'not finished'})",
            )
        is_lower = perplexity.is_below(1)
        is_by_margin = is_lower and perplexity.value <= 1 - self.margin
        if latency is None or memory is None:
            missing = " and ".join(n for n, r in (("latency", latency), ("memory", memory)) if r is None)
            if is_by_margin:
                return "cannot tell", f"{said}; {missing} of it or the baseline was not measured on every seed"
            return self._small(is_lower), f"{said}{self._short_of(perplexity, is_lower)}"
        costs = f"{self._words(latency)}, {self._words(memory)}"
        worse = [cost for cost in (latency, memory) if cost.is_worse_cost()]
        if is_by_margin:
            return ("trade-off" if worse else "better"), f"{said}; {costs}"
        if (
            perplexity.is_below(1 + self.margin)
            and latency.is_below(1)
            and latency.value <= 1 - self.margin
            and not worse
        ):
            return "faster", f"{said}: a tie within {self.margin:.0%}; {costs}"
        return self._small(is_lower), f"{said}{self._short_of(perplexity, is_lower)}; {costs}"

    @staticmethod
    def _small(is_lower: bool) -> Verdict:
        return "too small" if is_lower else "no difference"

    def _short_of(self, perplexity: Ratio, is_lower: bool) -> str:
        if is_lower:
            return f": lower, but by less than {self.margin:.0%}"
        between = "the interval holds 1" if perplexity.value <= 1 - self.margin else "not told apart"
        return f": {between}"

    def _words(self, ratio: Ratio) -> str:
        """``perplexity 8.0% lower (6.1% to 9.9% lower)``; intervals of costs are their own."""
        name = {LATENCY: "latency", MEMORY: "memory"}.get(ratio.figure, "perplexity")
        ends = ratio.interval_95_together if name == "perplexity" else ratio.interval_95
        between = f" ({change(ends[0])} to {change(ends[1])})" if ends else ""
        return f"{name} {change(ratio.value)}{between}"


def _winner(comparisons: Sequence[Comparison], of: Mapping[str, Sequence[Run]], rule: _Rule) -> tuple[str | None, str]:
    """Of those that are better, the one with the lowest perplexity, or one that ties with it and is shown faster."""
    better = [c for c in comparisons if c.verdict == "better"]
    faster = [c for c in comparisons if c.verdict == "faster"]
    if not better:
        if not faster:
            return None, ""
        chosen = min(faster, key=lambda c: c.latency.value if c.latency else 1.0)
        return chosen.finalist, chosen.reason
    leader = min(better, key=lambda c: c.perplexity.value if c.perplexity else 1.0)
    quick = []
    for other in better:
        pairs = _pairs(of[other.finalist], of[leader.finalist])
        perplexity, latency = (rule.ratio(figure, pairs) for figure in (rule.figure, LATENCY))
        if other is leader or perplexity is None or latency is None:
            continue
        is_tie = not (perplexity.is_above(1) and perplexity.value >= 1 / (1 - rule.margin))
        if is_tie and latency.is_below(1):
            quick.append((latency.value, other, perplexity))
    if quick:
        _, chosen, perplexity = min(quick, key=lambda found: found[0])
        tie = f"ties with {leader.finalist} ({rule._words(perplexity)}) and is faster"
        return chosen.finalist, f"{chosen.reason}; {tie}"
    return leader.finalist, leader.reason


def _outcome(comparisons: Sequence[Comparison], winner: str | None, why: str, baseline: str) -> tuple[Outcome, str]:
    """The decision in a sentence."""
    if winner is not None:
        return "winner", f"{winner} replaces the baseline {baseline}: {why}."
    if not comparisons:
        return "cannot tell", f"No finalist was run beside the baseline {baseline}: there is nothing to compare."
    by_verdict: dict[Verdict, list[str]] = {}
    for comparison in comparisons:
        by_verdict.setdefault(comparison.verdict, []).append(comparison.finalist)
    found = "; ".join(f"{verdict}: {', '.join(names)}" for verdict, names in by_verdict.items())
    if set(by_verdict) == {"cannot tell"}:
        return "cannot tell", f"Nothing is decided, and the baseline {baseline} stays: {comparisons[0].reason}."
    if set(by_verdict) <= {"no difference", "cannot tell"}:
        return "no difference", f"No difference that the seeds show: the baseline {baseline} stays ({found})."
    return "baseline stays", f"The baseline {baseline} stays: no finalist is better by the rule ({found})."


def _notes(runs: Sequence[Run], figure: str) -> tuple[str, ...]:
    notes = []
    if figure != _PERPLEXITIES[0]:
        notes.append(
            "the validation split chose the finalists and the best step of each training too: no run has a test split"
        )
    ranked = {(run.experiment, run.seed) for run in runs if run.stage == "ranking"}
    again = sorted({run.seed for run in runs if run.stage == "final" and (run.experiment, run.seed) in ranked})
    if again:
        notes.append(
            f"seed {', '.join(map(str, again))} of the final is one of the ranking's: what it was lucky with there may "
            "be in its final figure too"
        )
    return tuple(notes)


def _pairs(mine: Sequence[Run], theirs: Sequence[Run]) -> list[tuple[Run, Run]]:
    """Finished runs of the same seed."""
    by_seed = {run.seed: run for run in theirs if run.status == "done"}
    return [(run, by_seed[run.seed]) for run in mine if run.status == "done" and run.seed in by_seed]


def _no_pairs(mine: Sequence[Run], baselines: Sequence[Run]) -> str:
    for name, of in (("the baseline", baselines), ("it", mine)):
        if not any(run.status == "done" for run in of):
            why = next((f": {run.status}, {run.why}" for run in of if run.why), "")
            return f"{name} has no finished run{why}"
    if any(run.status == "done" for run in mine):
        return "no seed has finished runs, with a perplexity, of both it and the baseline"
    return "no run is finished"


def _check(finals: Sequence[Run]) -> None:
    seen: set[tuple[str, int]] = set()
    for run in finals:
        if (run.experiment, run.seed) in seen:
            raise SeqassayError(f"run {run.name} is there twice")
        seen.add((run.experiment, run.seed))
        for figure, least in ((_PERPLEXITIES[0], 1.0), (_PERPLEXITIES[1], 1.0), (LATENCY, 0.0), (MEMORY, 0.0)):
            value = run.figures[figure]
            if value is not None and not (value >= least and value > 0):
                raise SeqassayError(f"run {run.name}: {figure} is {value:g}, which cannot be")


def _together(n: int) -> str:
    return f"all {n} finalists together (Bonferroni)" if n > 1 else "the one finalist there is"


def _seeds(n: int) -> str:
    return "1 seed" if n == 1 else f"{n} seeds"


def _as_json(said: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in fields(said):
        value = getattr(said, field.name)
        if isinstance(value, (Ratio, Comparison)):
            value = value.as_json()
        elif isinstance(value, tuple):
            value = [item.as_json() if isinstance(item, Comparison) else item for item in value]
        found[field.name] = value
    return found
