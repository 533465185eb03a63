"""The language model: against transformers, with a cache, gradients, first weights, settings that cannot be."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from seqassay.models.attention import PackedLayout
from seqassay.models.causal_lm import CausalLm, CausalLmConfig, KeyValueCache
from seqassay.models.lm_files import build_lm
from seqassay.models.lm_layouts import published_settings, published_tensors

SHAPE = CausalLmConfig(vocab_size=50, d_model=24, n_layers=2, n_heads=2, d_ff=40, context=24)
VARIANTS = {
    "llama": SHAPE,
    "untied": dataclasses.replace(SHAPE, tied=False),
    "layernorm": dataclasses.replace(SHAPE, norm="layernorm"),
    "learned": dataclasses.replace(SHAPE, positions="learned"),
    "one odd head": dataclasses.replace(SHAPE, positions="learned", d_model=15, n_heads=3),
}


def model_of(config: CausalLmConfig, dtype: torch.dtype = torch.float32) -> CausalLm:
    """Weights large enough for attention to be uneven, and norms that are not 1."""
    model = build_lm(config, seed=1)
    g = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(1.0 if "norm" in name else 6.0)
            if "norm" in name:
                parameter.add_(torch.empty(parameter.shape).normal_(0, 0.2, generator=g))
    return model.to(dtype).eval()


def tokens_of(lengths: list[int], seed: int = 3) -> tuple[Tensor, PackedLayout]:
    layout = PackedLayout.from_lengths(lengths)
    return torch.randint(50, (layout.n_tokens,), generator=torch.Generator().manual_seed(seed)), layout


def theirs_of(model: CausalLm) -> Any:
    """The same weights in transformers."""
    transformers = pytest.importorskip("transformers")
    settings = published_settings(model.config)
    config = transformers.AutoConfig.for_model(**settings)
    theirs = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    found = theirs.load_state_dict(published_tensors(model), strict=False)
    assert found.unexpected_keys == []
    assert found.missing_keys in ([], ["lm_head.weight"])
    theirs.tie_weights()
    return theirs.to(model.embed_tokens.weight.dtype).eval()


@pytest.mark.parametrize("variant", ["llama", "untied", "layernorm"])
def test_logits_equal_transformers_in_float32(variant: str) -> None:
    model = model_of(VARIANTS[variant])
    theirs = theirs_of(model)
    tokens_T, layout = tokens_of([7, 7, 20])
    with torch.inference_mode():
        expected = torch.cat([theirs(part[None]).logits[0] for part in tokens_T.split([7, 7, 20])])
        for exact in (False, True):
            logits_TV = model.logits(model(tokens_T, layout, exact=exact))
            assert (logits_TV - expected).abs().max() <= 1e-5
    assert expected.std() > 0.5  # logits worth comparing


def test_logits_equal_transformers_in_bf16() -> None:
    """Both round to 8 bits in different places: no further from float32 than twice what transformers is."""
    model = model_of(SHAPE)
    tokens_T, layout = tokens_of([20])
    with torch.inference_mode():
        exact_TV = model.logits(model(tokens_T, layout, exact=True))
        half = model_of(SHAPE, torch.bfloat16)
        theirs_TV = theirs_of(half)(tokens_T[None]).logits[0].float()
        ours_TV = half.logits(half(tokens_T, layout))
    error, their_error = ((x - exact_TV).square().mean().sqrt() for x in (ours_TV, theirs_TV))
    assert 0 < error <= 2 * their_error
    assert (ours_TV - theirs_TV).abs().max() <= 0.02 * exact_TV.abs().max()


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_path_equals_the_exact_one(variant: str) -> None:
    model = model_of(VARIANTS[variant])
    tokens_T, layout = tokens_of([1, 5, 5, 24])
    with torch.inference_mode():
        exact_TD = model(tokens_T, layout, exact=True)
        torch.testing.assert_close(model(tokens_T, layout), exact_TD, atol=1e-5, rtol=0)
    trained_TD = model(tokens_T, layout)  # the path that keeps gradients
    assert trained_TD.requires_grad
    torch.testing.assert_close(trained_TD.detach(), exact_TD, atol=1e-5, rtol=0)


def test_many_micro_batches_equal_one() -> None:
    """Enough tokens for the cores to share, with filler beyond what learned positions know."""
    model = model_of(VARIANTS["learned"])
    tokens_T, layout = tokens_of([3] + [24] * 50)
    with torch.inference_mode():
        torch.testing.assert_close(model(tokens_T, layout), model(tokens_T, layout, exact=True), atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("exact", [False, True])
def test_prefill_and_steps_equal_the_whole_sequences(variant: str, exact: bool) -> None:
    model = model_of(VARIANTS[variant])
    lengths, prompts = [9, 12, 12, 20], [2, 5, 5, 14]
    tokens_T, layout = tokens_of(lengths)
    sequences = list(tokens_T.split(lengths))
    with torch.inference_mode():
        whole = model(tokens_T, layout, exact=True).split(lengths)
        cache = KeyValueCache(model.config, 4, 24)
        got = [[part] for part in model.extend(
            torch.cat([s[:p] for s, p in zip(sequences, prompts, strict=True)]),
            PackedLayout.from_lengths(prompts), cache, exact=exact,
        ).split(prompts)]  # fmt: skip
        assert cache.n_tokens_S.tolist() == prompts
        for step in range(6):  # rows in another order, and those that are finished left out
            going = [row for row in (2, 0, 3, 1) if prompts[row] + step < lengths[row]]
            new_T = torch.stack([sequences[row][prompts[row] + step] for row in going])
            layout_1 = PackedLayout.from_lengths([1] * len(going))
            for row, hidden in zip(going, model.extend(new_T, layout_1, cache, rows_S=going, exact=exact), strict=True):
                got[row].append(hidden[None])
    for row, parts in enumerate(got):
        hidden_LD = torch.cat(parts)
        torch.testing.assert_close(hidden_LD, whole[row][: len(hidden_LD)], atol=1e-5, rtol=0)
        assert len(hidden_LD) == min(lengths[row], prompts[row] + 6)


def test_a_shared_prompt_is_read_once_and_continued_several_times() -> None:
    model = model_of(SHAPE)
    prompt_T, _ = tokens_of([8])
    tails = [torch.tensor([4]), torch.tensor([7, 9]), torch.tensor([1, 2, 3])]
    with torch.inference_mode():
        prompt = KeyValueCache(SHAPE, 1, 8)
        model.extend(prompt_T, PackedLayout.from_lengths([8]), prompt)
        cache = prompt.take([0, 0, 0], capacity=11)
        got = model.extend(torch.cat(tails), PackedLayout.from_lengths([1, 2, 3]), cache).split([1, 2, 3])
        for tail, hidden in zip(tails, got, strict=True):
            whole = model(torch.cat([prompt_T, tail]), PackedLayout.from_lengths([8 + len(tail)]), exact=True)
            torch.testing.assert_close(hidden, whole[8:], atol=1e-5, rtol=0)
    assert prompt.n_tokens_S.tolist() == [8]
    assert cache.n_tokens_S.tolist() == [9, 10, 11]


def test_a_cache_that_is_full_says_so() -> None:
    model = model_of(SHAPE)
    tokens_T, layout = tokens_of([5])
    cache = KeyValueCache(SHAPE, 1, 4)
    with pytest.raises(ValueError, match="5 tokens don't fit into a cache for 4"):
        model.extend(tokens_T, layout, cache)
    with torch.inference_mode():
        model.extend(tokens_T[:3], PackedLayout.from_lengths([3]), cache)
    with pytest.raises(ValueError, match="3 tokens don't fit into a capacity of 2"):
        cache.take([0], capacity=2)


def test_learned_positions_end_with_the_context() -> None:
    model = model_of(VARIANTS["learned"])
    tokens_T, layout = tokens_of([25])
    with pytest.raises(ValueError, match="25 tokens; learned positions end at 24"):
        model(tokens_T, layout)
    with pytest.raises(ValueError, match="learned positions end at 24"):
        model.extend(tokens_T, layout, KeyValueCache(model.config, 1, 30))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_gets_the_gradient_of_the_exact_path(variant: str) -> None:
    model = model_of(VARIANTS[variant])
    tokens_T, layout = tokens_of([4, 17, 24])
    gradients = []
    for exact in (False, True):
        hidden_TD = model(tokens_T, layout, exact=exact)
        logits_TV = model.logits(hidden_TD)
        loss = torch.nn.functional.cross_entropy(logits_TV[:-1], tokens_T[1:])
        gradients.append(torch.autograd.grad(loss, list(model.parameters())))
    for (name, _), fast, exact_one in zip(model.named_parameters(), *gradients, strict=True):
        torch.testing.assert_close(fast, exact_one, atol=1e-5, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")
        assert exact_one.abs().max() > 0, name


def test_autocast_trains_in_half_precision_with_float32_gradients() -> None:
    model = model_of(SHAPE)
    tokens_T, layout = tokens_of([4, 17, 24])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half_TD = model(tokens_T, layout)
    half_TD.square().mean().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())
    exact_TD = model(tokens_T, layout, exact=True)
    error = (half_TD.float() - exact_TD).square().mean().sqrt() / exact_TD.std()
    assert 0 < error < 0.05


def test_first_weights_depend_on_the_seed_alone() -> None:
    one = build_lm(SHAPE, seed=5)
    torch.randn(100)
    same, other = build_lm(SHAPE, seed=5), build_lm(SHAPE, seed=6)
    for name, parameter in one.named_parameters():
        assert torch.equal(parameter, same.get_parameter(name))
        assert "norm" in name or not torch.equal(parameter, other.get_parameter(name))


def test_first_weights_are_normal_and_residual_ones_smaller() -> None:
    model = build_lm(dataclasses.replace(SHAPE, d_model=64, n_heads=4, d_ff=128, n_layers=8, norm="layernorm"), seed=1)
    stds = {name: parameter.std().item() for name, parameter in model.named_parameters() if "norm" not in name}
    for name, std in stds.items():
        wanted = 0.02 / math.sqrt(16) if name.endswith(("out.weight", "down.weight")) else 0.02
        assert std == pytest.approx(wanted, rel=0.05), name
    for name, parameter in model.named_parameters():
        if "norm" in name:
            assert bool((parameter == (0 if name.endswith("bias") else 1)).all()), name


def test_dropout_acts_in_training_alone() -> None:
    model = model_of(SHAPE)
    tokens_T, layout = tokens_of([20])
    plain = model(tokens_T, layout)
    model.dropout = 0.5
    assert torch.equal(model(tokens_T, layout), plain)
    model.train()
    assert not torch.allclose(model(tokens_T, layout), plain, atol=0.1)


def test_flops_are_those_of_the_products() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    model = model_of(SHAPE)
    tokens_T, layout = tokens_of([24])
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.logits(model(tokens_T, layout, exact=True))
    square = 2 * 2 * 24 * 24 * 24 * 2  # scores and mixing, all of the square, both layers
    used = 2 * 2 * 24 * (24 * 25 // 2) * 2
    assert model.flops([24]) == counter.get_total_flops() - square + used


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_heads": 5}, "d_model 24 does not divide into 5 heads"),
        ({"n_heads": 8}, "8 heads of d_model 24 are 3 wide; rotary positions need an even width"),
        ({"n_layers": 0}, "n_layers is 0"),
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"d_ff": -1}, "d_ff is -1"),
    ],
)
def test_widths_that_do_not_go_together(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SHAPE, **change)


def test_the_cache_keeps_its_rows_apart() -> None:
    cache = KeyValueCache(SHAPE, 2, 6)
    model = model_of(SHAPE)
    with torch.inference_mode():
        model.extend(torch.tensor([1, 2, 3]), PackedLayout.from_lengths([3]), cache, rows_S=[1])
    assert cache.n_tokens_S.tolist() == [0, 3]
    assert np.array_equal(cache.keys[0][0].numpy(), np.zeros((2, 6, 12)))
    assert bool(cache.keys[0][1, :, :3].any())
