"""`seqassay lm build`: a shape from a parameter budget, printed as a table and written as an untrained model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from seqassay.errors import UsageError

if TYPE_CHECKING:
    from seqassay.models.lm_plan import LmPlan

_SHAPE = ("d_model", "n_layers", "d_ff")
_BUDGET = ("total_params", "embedding_ratio", "ratio_tolerance", "expansion_tolerance")


def build_command(
    vocab_size: int = typer.Option(None, metavar="N", help="Tokens of the vocabulary (default: --tokenizer's)."),
    tokenizer: Path = typer.Option(None, metavar="FILE", help="A tokenizer.json, to lie in the model's folder."),
    total_params: int = typer.Option(None, metavar="N", help="The budget: all parameters, kept within 0.5%."),
    embedding_ratio: float = typer.Option(
        None, metavar="X", help="Share of embeddings and untied head in the parameters (default: 0.35)."
    ),
    glu_expansion: float = typer.Option(None, metavar="X", help="d_ff / d_model (default: 2.66)."),
    n_heads: int = typer.Option(None, metavar="N", help="Attention heads (default: about 32 or 64 wide)."),
    head_width: int = typer.Option(None, metavar="N", help="Width of a head, instead of their number."),
    context: int = typer.Option(None, metavar="TOKENS", help="Tokens seen at a time (default: 512)."),
    tied: bool = typer.Option(None, "--tied/--untied", help="One table for embedding and head (default: tied)."),
    norm: str = typer.Option(None, metavar="rmsnorm|layernorm", help="(default: rmsnorm)"),
    positions: str = typer.Option(None, metavar="rotary|learned", help="(default: rotary)"),
    ratio_tolerance: float = typer.Option(
        None, metavar="X", help="How far the ratio may be off, relatively (default: 0.02)."
    ),
    expansion_tolerance: float = typer.Option(
        None, metavar="X", help="How far the expansion may be off, relatively (default: 0.06)."
    ),
    d_model: int = typer.Option(None, metavar="N", help="Instead of a budget, the shape itself: width,"),
    n_layers: int = typer.Option(None, metavar="N", help="layers,"),
    d_ff: int = typer.Option(None, metavar="N", help="feed-forward width (default: from --glu-expansion)."),
    output_dir: Path = typer.Option(None, "-o", "--output-dir", metavar="OUT", help="Write the untrained model there."),
    seed: int = typer.Option(0, min=0, max=2**63 - 1, metavar="N", help="Seed of the first weights."),
    force: bool = typer.Option(False, "--force", help="Replace a model in OUT."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
) -> None:
    """Plan a decoder-only language model to a parameter budget, and print where its parameters go.

    The plan keeps the budget within 0.5%, the embedding ratio within 2% and the expansion within 6%; settings that
    have no such plan are refused, with the nearest that have one. With -o the untrained model is written.
    """
    given = {name: value for name, value in locals().items() if value is not None}
    for name in ("tokenizer", "output_dir", "seed", "force", "as_json"):
        given.pop(name, None)
    # PyTorch takes seconds to import: `--help` and wrong options don't wait for it
    from seqassay.models.lm_files import build_lm, read_tokenizer, save_lm
    from seqassay.report.lm import plan_table

    if tokenizer is not None:
        given.setdefault("vocab_size", read_tokenizer(tokenizer).vocab_size)
    plan = plan_of_options(given)
    typer.echo(json.dumps(plan.as_json(), indent=1) if as_json else plan_table(plan))
    if output_dir is not None:
        model = build_lm(plan.config, seed)
        save_lm(model, output_dir, plan=plan, seed=seed, tokenizer=tokenizer, replace=force)
        if not as_json:
            typer.echo(f"untrained model, seed {seed}, in {output_dir}")


def plan_of_options(given: dict[str, Any]) -> LmPlan:
    """From a budget, or from a shape that is given as such."""
    from seqassay.config import option_name, resolve_settings
    from seqassay.models.lm_plan import BudgetSettings, ShapeSettings, plan_lm, plan_of_shape

    shape = [option_name(name) for name in _SHAPE if name in given]
    budget = [option_name(name) for name in _BUDGET if name in given]
    if shape and budget:
        raise UsageError(
            f"{', '.join(shape)} and {', '.join(budget)} exclude each other: a shape leaves nothing to plan",
            hint="give --total-params, --embedding-ratio and --glu-expansion; or --d-model, --n-layers and --n-heads",
        )
    if shape:
        return plan_of_shape(resolve_settings(ShapeSettings, {}, given))
    return plan_lm(resolve_settings(BudgetSettings, {}, given))
