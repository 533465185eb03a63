"""The language model on a CUDA device: variable-length causal attention, its gradients, and decoding with a cache."""

from __future__ import annotations

import pytest
import torch

from seqassay.models.attention import PackedLayout, attention
from seqassay.models.causal_lm import CausalLmConfig, KeyValueCache
from seqassay.models.lm_files import build_lm
from seqassay.models.lm_loss import cross_entropy

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

CONFIG = CausalLmConfig(vocab_size=500, d_model=128, n_layers=2, n_heads=4, d_ff=256, context=128)
LENGTHS = [3, 40, 40, 128]


def test_varlen_equals_exact_in_value_and_gradient() -> None:
    layout = PackedLayout.from_lengths(LENGTHS, "cuda")
    g = torch.Generator("cuda").manual_seed(1)
    heads = [torch.randn(layout.n_tokens, 4, 32, device="cuda", generator=g).bfloat16() for _ in range(3)]
    results = []
    for kernel, dtype in (("varlen", torch.bfloat16), ("exact", torch.float32)):
        leaves = [x.to(dtype).requires_grad_() for x in heads]
        mixed = attention(*leaves, layout, kernel=kernel, causal=True)  # type: ignore[arg-type]
        results.append([mixed, *torch.autograd.grad(mixed.float().square().sum(), leaves)])
    for fast, exact in zip(*results, strict=True):
        error = (fast.float() - exact).square().mean().sqrt() / exact.square().mean().sqrt()
        assert error < 0.01


def test_training_under_autocast_and_decoding_agree_with_float32_on_the_cpu() -> None:
    reference = build_lm(CONFIG, seed=1)
    tokens_T = torch.randint(500, (sum(LENGTHS),), generator=torch.Generator().manual_seed(2))
    expected_TD = reference(tokens_T, PackedLayout.from_lengths(LENGTHS), exact=True)
    model = build_lm(CONFIG, seed=1).cuda()
    layout = PackedLayout.from_lengths(LENGTHS, "cuda")
    with torch.autocast("cuda", dtype=torch.bfloat16):
        assert model.kernel() == "varlen"
        hidden_TD = model(tokens_T.cuda(), layout)
        loss = cross_entropy(model, hidden_TD[:-1], tokens_T[1:].cuda())
    loss.backward()
    error = (hidden_TD.float().cpu() - expected_TD).square().mean().sqrt() / expected_TD.std()
    assert error < 0.05
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
    with torch.inference_mode():
        cache = KeyValueCache(CONFIG, len(LENGTHS), 128, device="cuda")
        decoded_TD = model.extend(tokens_T.cuda(), layout, cache)
    torch.testing.assert_close(decoded_TD.cpu(), expected_TD.detach(), atol=2e-3, rtol=0)
