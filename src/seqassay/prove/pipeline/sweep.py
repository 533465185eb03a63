"""Which setting to recommend: chosen by the sweep's rounds, decided by fresh pairs of runs.

The fastest of many settings looks faster than it is, because it was chosen for that. So it is run again beside the
current setting, and only those runs decide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from seqassay.measure.clock import FEWEST_PAIRS
from seqassay.prove.pipeline.cases import Case, Plan, Setup
from seqassay.prove.pipeline.figures import over_runs, paired_speed_up

RunPairs = Callable[[Setup, Setup, int], tuple[Case, Case]]


@dataclass(frozen=True, slots=True)
class Decision:
    """What the sweep came to.

    Attributes:
        fastest: by the sweep's rounds.
        confirmed: fresh runs of the current setting and of the fastest; empty where that is the current one.
        speed_up: of the fastest over the current one, by those; None where there are none.
    """

    fastest: Setup
    confirmed: tuple[Case, ...]
    speed_up: dict[str, Any] | None
    recommended: Setup
    reason: str


def decide(plan: Plan, cases: Mapping[Setup, Case], run_pairs: RunPairs, seed: int) -> Decision:
    """Choose the fastest setting, and run it beside the current one."""
    current = plan.main
    fastest = min(
        (setup for setup in plan.sweep if cases[setup].runs and cases[setup].failure is None),
        key=lambda setup: over_runs(cases[setup], "wall_s")["value"],
        default=current,
    )
    if fastest == current:
        return Decision(current, (), None, current, "the current setting was the fastest")
    confirmed = run_pairs(current, fastest, max(FEWEST_PAIRS, len(cases[current].runs)))
    speed_up = paired_speed_up(*confirmed, seed)
    interval = speed_up["interval_95"]
    if interval is None:
        why = speed_up.get("why_no_interval") or speed_up.get("why_undefined")
        return Decision(fastest, confirmed, speed_up, current, f"no difference is shown: {why}")
    if interval[0] <= 1:
        return Decision(
            fastest, confirmed, speed_up, current,
            "no difference: run beside the current setting again, the fastest one's interval reaches 1",
        )  # fmt: skip
    return Decision(fastest, confirmed, speed_up, fastest, "faster than the current setting in fresh pairs of runs")


def sweep_record(plan: Plan, cases: Mapping[Setup, Case], decision: Decision, seed: int) -> dict[str, Any]:
    """Every setting beside the current one, and what is recommended."""
    return {
        "cases": [
            {
                **_settings(setup),
                "wall_s": over_runs(cases[setup], "wall_s"),
                "peak_host_bytes": over_runs(cases[setup], "peak_host_bytes"),
                "speed_up": paired_speed_up(cases[plan.main], cases[setup], seed),
            }
            for setup in plan.sweep
        ],
        "current": _settings(plan.main),
        "fastest": _settings(decision.fastest),
        "confirmation": decision.speed_up,
        "recommended": _settings(decision.recommended),
        "reason": decision.reason,
    }


def _settings(setup: Setup) -> dict[str, int | None]:
    return {"batch": setup.batch, "prefetch": setup.prefetch}
