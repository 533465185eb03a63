"""Budgets to shapes: exact counts, tolerances kept, refusals that name settings which work."""

from __future__ import annotations

import dataclasses
import math
import shlex
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqassay.errors import UsageError
from seqassay.models.causal_lm import CausalLm, CausalLmConfig
from seqassay.models.lm_plan import (
    BudgetSettings,
    LmPlan,
    NoPlanError,
    ShapeSettings,
    command_line,
    plan_lm,
    plan_of_shape,
)
from seqassay.models.weights import shapes_only

EARLIER_SWEEP = [(ratio, expansion) for ratio in (0.25, 0.35, 0.45) for expansion in (2.0, 2.66, 3.0, 4.0)]


def check_kept(plan: LmPlan) -> None:
    assert plan.budget is not None
    off = plan.deviations
    assert abs(off["total_params"]) <= 0.005
    assert abs(off["embedding_ratio"]) <= plan.budget.ratio_tolerance
    assert abs(off["glu_expansion"]) <= plan.budget.expansion_tolerance


def check_count(plan: LmPlan) -> None:
    """The plan's number, block by block, is that of the built model."""
    with shapes_only():
        model = CausalLm(plan.config)
    counted = dict.fromkeys(plan.blocks, 0)
    block_of = {
        "embed_tokens": "token_embedding", "embed_positions": "position_embedding", "head": "head", "qkv": "attention",
        "out": "attention", "gate_up": "feed_forward", "down": "feed_forward", "attention_norm": "norms",
        "ffn_norm": "norms", "final_norm": "norms",
    }  # fmt: skip
    for name, parameter in model.named_parameters():
        counted[block_of[name.split(".")[-2]]] += parameter.numel()
    assert counted == plan.blocks
    assert plan.n_params == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("norm", ["rmsnorm", "layernorm"])
@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_the_count_is_exact_for_every_setting(tied: bool, norm: Any, positions: Any) -> None:
    config = CausalLmConfig(
        vocab_size=101, d_model=12, n_layers=3, n_heads=2, d_ff=20, context=7, tied=tied, norm=norm, positions=positions
    )
    check_count(LmPlan(config))


def test_the_twelve_budgets_of_the_earlier_sweep_are_met_at_10m_and_16k() -> None:
    shapes = set()
    for ratio, expansion in EARLIER_SWEEP:
        plan = plan_lm(
            BudgetSettings(vocab_size=16384, total_params=10_000_000, embedding_ratio=ratio, glu_expansion=expansion)
        )
        check_kept(plan)
        check_count(plan)
        shapes.add(plan.config)
    assert len(shapes) == 12


@given(
    vocab_size=st.integers(50, 60_000),
    total_params=st.integers(50_000, 200_000_000),
    ratio=st.floats(0.05, 0.9),
    expansion=st.floats(0.5, 8),
    n_heads=st.sampled_from([None, 1, 4, 12]),
    tied=st.booleans(),
    norm=st.sampled_from(["rmsnorm", "layernorm"]),
    positions=st.sampled_from(["rotary", "learned"]),
)
@settings(max_examples=20, deadline=None)
def test_a_plan_keeps_every_tolerance_and_a_refusal_names_settings_that_have_a_plan(
    ratio: float, expansion: float, **others: Any
) -> None:
    asked = BudgetSettings(embedding_ratio=ratio, glu_expansion=expansion, **others)
    try:
        plan = plan_lm(asked)
    except NoPlanError as error:
        assert ": no plan: " in error.message
        for nearest in error.nearest:
            check_kept(plan_lm(nearest))
            changed = [f.name for f in dataclasses.fields(asked) if getattr(asked, f.name) != getattr(nearest, f.name)]
            assert len(changed) == 1
            assert f"seqassay lm build {command_line(nearest)}" in error.hint
        return
    check_kept(plan)
    check_count(plan)
    assert plan.config.n_heads == (others["n_heads"] or plan.config.n_heads)


@pytest.mark.parametrize(
    ("change", "message", "among_nearest"),
    [
        ({"vocab_size": 32768, "total_params": 1_000_000, "n_heads": 4}, "nearest multiples of 8", "--total-params"),
        ({"vocab_size": 300_000, "total_params": 1_000_000, "n_heads": 4}, "vocabulary is too large", "--vocab-size"),
        ({"vocab_size": 8192, "total_params": 100_000_000}, "attention of a single one", "--embedding-ratio"),
        (
            {
                "vocab_size": 16384,
                "total_params": 10_000_000,
                "n_heads": 4,
                "glu_expansion": 4.0,
                "embedding_ratio": 0.45,
            },
            "makes expansions of 3.66 (5 layers) and 4.91 (4 layers)",
            "--glu-expansion",
        ),
    ],
)
def test_a_refusal_says_why_and_what_would_do(change: dict[str, Any], message: str, among_nearest: str) -> None:
    with pytest.raises(NoPlanError) as caught:
        plan_lm(BudgetSettings(**change))
    assert message in caught.value.message
    assert caught.value.exit_code == 2
    asked = shlex.split(command_line(BudgetSettings(**change)))
    options = []
    for nearest in caught.value.nearest:
        words = shlex.split(command_line(nearest))
        options += [words[i - 1] for i, word in enumerate(words) if word not in asked]
    assert among_nearest in options


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embedding_ratio": 0.0}, "--embedding-ratio is 0; it is a share"),
        ({"embedding_ratio": 35.0}, "--embedding-ratio is 35"),
        ({"embedding_ratio": math.nan}, "--embedding-ratio is nan"),
        ({"glu_expansion": 0.0}, "--glu-expansion is 0"),
        ({"glu_expansion": math.inf}, "--glu-expansion is inf"),
        ({"n_heads": 0}, "--n-heads is 0"),
        ({"vocab_size": 0}, "--vocab-size is 0"),
        ({"total_params": -5}, "--total-params is -5"),
        ({"head_width": 33}, "--head-width is 33; rotary positions turn pairs"),
        ({"ratio_tolerance": 0.0}, "--ratio-tolerance is 0"),
        ({"total_params": 10**20}, "no number may be so large"),
    ],
)
def test_values_out_of_range(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        BudgetSettings(**{"vocab_size": 1000, "total_params": 1_000_000, **change})
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"total_params": 10**12}, "attention of a single one"),
        ({"vocab_size": 1, "total_params": 10**12}, "attention of a single one"),
        ({"embedding_ratio": 1e-9}, "nearest multiples of 2"),
        ({"total_params": 10**12, "embedding_ratio": 1e-7}, "nearest multiples of 2"),
    ],
)
def test_budgets_far_off_are_refused_after_a_bounded_search(change: dict[str, Any], message: str) -> None:
    """Each of these took minutes when every width and every number of layers was tried."""
    with pytest.raises(NoPlanError, match=message):
        plan_lm(BudgetSettings(**{"vocab_size": 8000, "total_params": 10_000_000, **change}))


def test_a_budget_with_very_many_widths_has_a_plan() -> None:
    check_kept(plan_lm(BudgetSettings(vocab_size=10**6, total_params=10**12, embedding_ratio=0.05)))


def test_a_given_shape_is_taken_as_it_is() -> None:
    plan = plan_of_shape(ShapeSettings(vocab_size=65, d_model=128, n_layers=4, n_heads=4, context=64))
    assert (plan.config.d_ff, plan.config.head_width) == (344, 32)
    assert plan.deviations == {}
    assert plan.n_params == 65 * 128 + 4 * (4 * 128**2 + 3 * 128 * 344 + 2 * 128) + 128
    assert plan_of_shape(ShapeSettings(vocab_size=65, d_model=96, n_layers=1)).config.n_heads == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_heads": 3}, "d_model 128 does not divide into 3 heads"),
        ({"n_heads": 128}, "even width"),
        ({"head_width": 48}, "does not divide into heads that are 48 wide"),
        ({"head_width": 0}, "does not divide"),
        ({"n_heads": 4, "head_width": 32}, "--n-heads and --head-width exclude each other"),
        ({"d_ff": 10, "glu_expansion": 2.0}, "--d-ff and --glu-expansion exclude each other"),
        ({"n_layers": 0}, "n_layers is 0"),
        ({"d_model": 0}, "d_model is 0"),
        ({"glu_expansion": -1.0}, "--glu-expansion is -1"),
    ],
)
def test_shapes_that_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        plan_of_shape(ShapeSettings(**{"vocab_size": 65, "d_model": 128, "n_layers": 4, **change}))
    assert message in caught.value.message
