"""Every budget of the parameter-allocation study: met within 0.5%, or refused with settings that are met.

    python benchmarks/lm_budgets.py

Embedding ratios 25/35/45%, expansions 2.0/2.66/3.0/4.0, 1M, 10M and 100M parameters, vocabularies of 8,192, 16,384
and 32,768; heads left to the plan, and 4 heads. Each plan's count is held against the parameters of the model that is
built from it (on no device: names and shapes), and each refusal's nearest settings are planned in turn.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import asdict
from itertools import product
from typing import Any

from _timing import RESULTS
from seqassay.measure.provenance import provenance, utc_now
from seqassay.models.causal_lm import CausalLm
from seqassay.models.lm_plan import BUDGET_TOLERANCE, BudgetSettings, LmPlan, NoPlanError, command_line, plan_lm
from seqassay.models.weights import shapes_only

RATIOS, EXPANSIONS = (0.25, 0.35, 0.45), (2.0, 2.66, 3.0, 4.0)
BUDGETS, VOCABULARIES = (1_000_000, 10_000_000, 100_000_000), (8192, 16384, 32768)
HEADS = (None, 4)


def main() -> None:
    """Plan everything, print a line for each budget and vocabulary, and keep the record."""
    rows = [outcome(*setting) for setting in product(HEADS, VOCABULARIES, BUDGETS, RATIOS, EXPANSIONS)]
    print(f"{'heads':>6}{'vocabulary':>12}{'budget':>13}{'planned':>9}{'shapes':>8}{'refused':>9}  largest deviations")
    for heads, vocab_size, budget in product(HEADS, VOCABULARIES, BUDGETS):
        print(line(heads, vocab_size, budget, rows))
    wrong = [row for row in rows if not row["holds"]]
    counts = Counter(row["outcome"] for row in rows)
    RESULTS.mkdir(parents=True, exist_ok=True)
    record = {
        "benchmark": "lm_budgets", "time": utc_now(), "budget_tolerance": BUDGET_TOLERANCE,
        "settings": len(rows), **counts, "wrong": len(wrong), "rows": rows, "provenance": provenance(),
    }  # fmt: skip
    (RESULTS / "lm_budgets.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps({"benchmark": "lm_budgets", "settings": len(rows), **counts, "wrong": len(wrong)}))
    if wrong:
        sys.exit(1)


def outcome(heads: int | None, vocab_size: int, budget: int, ratio: float, expansion: float) -> dict[str, Any]:
    """One setting's plan or refusal, and whether what it claims holds."""
    asked = BudgetSettings(
        vocab_size=vocab_size, total_params=budget, embedding_ratio=ratio, glu_expansion=expansion, n_heads=heads
    )
    try:
        plan = plan_lm(asked)
    except NoPlanError as error:
        nearest = list(error.nearest)
        return {
            "asked": asdict(asked), "outcome": "refused", "reason": error.message,
            "nearest": [command_line(settings) for settings in nearest],
            "holds": bool(nearest) and all(keeps_its_word(plan_lm(settings)) for settings in nearest),
        }  # fmt: skip
    return {"asked": asdict(asked), "outcome": "planned", "plan": plan.as_json(), "holds": keeps_its_word(plan)}


def keeps_its_word(plan: LmPlan) -> bool:
    """The budget within 0.5%, ratio and expansion within their tolerances, and the count that of the model."""
    with shapes_only():
        model = CausalLm(plan.config)
    off, budget = plan.deviations, plan.budget
    return (
        budget is not None
        and plan.n_params == sum(parameter.numel() for parameter in model.parameters())
        and abs(off["total_params"]) <= BUDGET_TOLERANCE
        and abs(off["embedding_ratio"]) <= budget.ratio_tolerance
        and abs(off["glu_expansion"]) <= budget.expansion_tolerance
    )


def line(heads: int | None, vocab_size: int, budget: int, rows: list[dict[str, Any]]) -> str:
    """One line of the table: 12 settings."""
    key = {"n_heads": heads, "vocab_size": vocab_size, "total_params": budget}
    mine = [row for row in rows if all(row["asked"][name] == value for name, value in key.items())]
    plans = [row["plan"] for row in mine if row["outcome"] == "planned"]
    shapes = {json.dumps(plan["config"]) for plan in plans}
    worst = ", ".join(
        f"{name} {max(abs(plan['deviations'][name]) for plan in plans):.2%}" for name in plans[0]["deviations"]
    ) if plans else "–"  # fmt: skip
    return (
        f"{heads or 'auto':>6}{vocab_size:>12,}{budget:>13,}{len(plans):>9}{len(shapes):>8}{len(mine) - len(plans):>9}"
        f"  {worst}"
    )


if __name__ == "__main__":
    main()
