"""Tables about language models, for the terminal; views of plans and records, nothing computed here."""

from __future__ import annotations

from seqassay.models.lm_plan import LmPlan

_UNITS = {"total_params": "{:,.0f}", "embedding_ratio": "{:.4f}", "glu_expansion": "{:.4f}"}


def plan_table(plan: LmPlan) -> str:
    """Shape, parameters by block with their shares, and what was asked for beside what was achieved."""
    c = plan.config
    lines = [
        f"d_model {c.d_model}   layers {c.n_layers}   heads {c.n_heads} × {c.head_width}   d_ff {c.d_ff}   "
        f"context {c.context}   vocabulary {c.vocab_size:,}",
        f"{'tied' if c.tied else 'untied'} head, {c.norm}, {c.positions} positions",
        "",
        f"{'block':<20}{'parameters':>14}{'share':>9}",
    ]
    blocks = {name: count for name, count in plan.blocks.items() if count}
    lines += [
        f"{name.replace('_', ' '):<20}{count:>14,}{count / plan.n_params:>9.2%}" for name, count in blocks.items()
    ]
    lines += [f"{'total':<20}{plan.n_params:>14,}{1:>9.2%}", ""]
    achieved = {
        "total_params": plan.n_params,
        "embedding_ratio": plan.embedding_ratio,
        "glu_expansion": plan.glu_expansion,
    }
    if plan.budget is None:
        lines += [f"{name:<20}{_UNITS[name].format(value):>14}" for name, value in achieved.items()]
        return "\n".join(lines)
    lines.append(f"{'':<20}{'asked':>14}{'achieved':>14}{'off':>9}")
    for name, value in achieved.items():
        asked, shown = getattr(plan.budget, name), _UNITS[name]
        lines.append(f"{name:<20}{shown.format(asked):>14}{shown.format(value):>14}{plan.deviations[name]:>+9.2%}")
    return "\n".join(lines)
