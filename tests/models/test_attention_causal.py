"""Causal attention: every path against the exact one, values and gradients; and attention over a past."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seqassay.models import attention as module
from seqassay.models.attention import (
    Kernel,
    PackedLayout,
    alibi_biases,
    alibi_slopes,
    attention,
    attention_over_past,
    choose_kernel,
    seen_over_past,
)

KERNELS: tuple[Kernel, ...] = ("grouped-sdpa", "exact")


def heads(n_tokens: int, n_heads: int, width: int, seed: int) -> list[Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(n_tokens, n_heads, width, generator=g) for _ in range(3)]


def by_hand(q_THK: Tensor, k_THK: Tensor, v_THK: Tensor, layout: PackedLayout) -> Tensor:
    """One token at a time, in float64."""
    out = torch.empty_like(v_THK, dtype=torch.float64)
    q, k, v = (x.double() for x in (q_THK, k_THK, v_THK))
    for begin, end in zip(layout.offsets[:-1].tolist(), layout.offsets[1:].tolist(), strict=True):
        for t in range(begin, end):
            scores = torch.einsum("hk,shk->hs", q[t], k[begin : t + 1]) * q.shape[-1] ** -0.5
            out[t] = torch.einsum("hs,shk->hk", scores.softmax(-1), v[begin : t + 1])
    return out


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("width", [8, 48])  # products for the narrow ones, the flash kernel for the wide
def test_causal_kernels_equal_a_loop_over_tokens(kernel: Kernel, width: int) -> None:
    layout = PackedLayout.from_lengths([1, 2, 2, 17, 17, 33])
    q, k, v = heads(layout.n_tokens, 3, width, seed=1)
    mixed = attention(q, k, v, layout, kernel=kernel, causal=True)
    torch.testing.assert_close(mixed.double(), by_hand(q, k, v, layout), atol=2e-6, rtol=0)


@given(lengths=st.lists(st.integers(1, 70), min_size=1, max_size=8), seed=st.integers(0, 9))
@settings(max_examples=15, deadline=None)
def test_any_mix_of_lengths_equals_exact_in_value_and_gradient(lengths: list[int], seed: int) -> None:
    layout = PackedLayout.from_lengths(sorted(lengths))
    results = []
    for kernel in KERNELS:
        leaves = [x.requires_grad_() for x in heads(layout.n_tokens, 3, 16, seed)]
        mixed = attention(*leaves, layout, kernel=kernel, causal=True)
        weights = torch.linspace(-1, 1, mixed.numel()).view_as(mixed)
        results.append([mixed, *torch.autograd.grad((mixed * weights).sum(), leaves)])
    for fast, exact in zip(*results, strict=True):
        torch.testing.assert_close(fast, exact, atol=5e-6, rtol=0)


@pytest.mark.parametrize("kernel", KERNELS)
def test_no_token_sees_a_later_one_or_another_sequence(kernel: Kernel) -> None:
    layout = PackedLayout.from_lengths([20, 20, 40])
    q, k, v = heads(80, 2, 16, seed=2)
    before = attention(q, k, v, layout, kernel=kernel, causal=True)
    k[30], v[30] = 9.0, 9.0  # the eleventh token of the second sequence
    changed = (attention(q, k, v, layout, kernel=kernel, causal=True) != before).flatten(1).any(dim=1)
    assert changed.tolist() == [30 <= t < 40 for t in range(80)]


@pytest.mark.parametrize("kernel", KERNELS)
def test_new_tokens_over_a_past_equal_the_whole_sequence(kernel: Kernel) -> None:
    lengths, n_new = [5, 9, 12], 3
    layout = PackedLayout.from_lengths(lengths)
    q, k, v = heads(layout.n_tokens, 4, 16, seed=3)
    whole = attention(q, k, v, layout, kernel="exact", causal=True)
    keys, values = torch.full((3, 4, 14, 16), 7.0), torch.full((3, 4, 14, 16), 7.0)  # 7: never to be read
    queries, expected = [], []
    for row, (begin, end) in enumerate(zip(layout.offsets[:-1].tolist(), layout.offsets[1:].tolist(), strict=True)):
        keys[row, :, : end - begin], values[row, :, : end - begin] = (x[begin:end].transpose(0, 1) for x in (k, v))
        queries.append(q[end - n_new : end].transpose(0, 1))
        expected.append(whole[end - n_new : end].transpose(0, 1))
    past = torch.tensor([length - n_new for length in lengths])
    seen = seen_over_past(past, n_new, keys.shape[2])
    mixed = attention_over_past(torch.stack(queries), keys, values, seen, kernel=kernel)
    torch.testing.assert_close(mixed, torch.stack(expected), atol=2e-6, rtol=0)
    last, n_keys = torch.stack(queries)[2:, :, -1:], lengths[2]  # one token that sees everything needs no mask
    mixed = attention_over_past(last, keys[2:, :, :n_keys], values[2:, :, :n_keys], None, kernel=kernel)
    torch.testing.assert_close(mixed[0], expected[2][:, -1:], atol=2e-6, rtol=0)


def test_causal_attention_takes_no_bias() -> None:
    layout = PackedLayout.from_lengths([4])
    biases = alibi_biases(torch.tensor(alibi_slopes(2)), layout, torch.float32)
    for kernel in KERNELS:
        with pytest.raises(ValueError, match="no attention bias"):
            attention(*heads(4, 2, 8, seed=0), layout, kernel=kernel, biases=biases, causal=True)


@pytest.mark.parametrize(
    ("width", "kernel"), [(64, "varlen"), (256, "varlen"), (38, "grouped-sdpa"), (264, "grouped-sdpa")]
)
def test_varlen_is_chosen_for_the_head_widths_it_takes(width: int, kernel: str) -> None:
    cuda = torch.device("cuda")
    assert choose_kernel(cuda, torch.bfloat16, alibi=False, exact=False, head_width=width) == kernel


def of_2_11(
    q: Tensor, k: Tensor, v: Tensor, cq: Tensor, ck: Tensor, mq: int, mk: int, is_causal: bool = False
) -> Tensor:
    assert is_causal
    return q


def of_2_13(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cq: Tensor,
    ck: Tensor,
    mq: int,
    mk: int,
    *,
    window_size: tuple[int, int] = (-1, -1),
) -> Tensor:
    assert window_size == (-1, 0)
    return q


@pytest.mark.parametrize("function", [of_2_11, of_2_13])
def test_varlen_is_told_to_be_causal_in_each_torch(monkeypatch: pytest.MonkeyPatch, function: object) -> None:
    from torch.nn.attention import varlen

    monkeypatch.setattr(varlen, "varlen_attn", function)
    module._causal_keyword.cache_clear()
    try:
        q, k, v = heads(5, 2, 8, seed=0)
        assert attention(q, k, v, PackedLayout.from_lengths([2, 3]), kernel="varlen", causal=True) is q
    finally:
        module._causal_keyword.cache_clear()
