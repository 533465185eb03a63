"""Losses in chunks against the plain ones."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from seqassay.models.causal_lm import CausalLmConfig
from seqassay.models.lm_files import build_lm
from seqassay.models.lm_loss import NO_TARGET, cross_entropy, logits_in_chunks, target_log_probs

CONFIG = CausalLmConfig(vocab_size=37, d_model=8, n_layers=1, n_heads=2, d_ff=8, context=8)
TOKENS = 23


def example(config: CausalLmConfig = CONFIG) -> tuple[object, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    model = build_lm(config, seed=1)
    with torch.no_grad():
        model.head_weight_VD.mul_(50)
    hidden_TD = torch.randn(TOKENS, 8, generator=g).requires_grad_()
    targets_T = torch.randint(37, (TOKENS,), generator=g)
    targets_T[[0, 9, 22]] = NO_TARGET
    return model, hidden_TD, targets_T


@pytest.mark.parametrize("rows", [1, 5, 23, 100])
@pytest.mark.parametrize("tied", [True, False])
def test_loss_and_gradients_equal_the_plain_ones(rows: int, tied: bool) -> None:
    model, hidden_TD, targets_T = example(dataclasses.replace(CONFIG, tied=tied))
    leaves = [hidden_TD, model.head_weight_VD]
    plain = F.cross_entropy(F.linear(*leaves), targets_T, ignore_index=NO_TARGET)
    ours = cross_entropy(model, hidden_TD, targets_T, chunk_bytes=4 * 37 * rows)
    torch.testing.assert_close(ours, plain)
    for wanted, got in zip(torch.autograd.grad(3 * plain, leaves), torch.autograd.grad(3 * ours, leaves), strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-5)


def test_without_gradients_the_loss_is_the_same() -> None:
    model, hidden_TD, targets_T = example()
    with torch.no_grad():
        assert cross_entropy(model, hidden_TD, targets_T) == cross_entropy(model, hidden_TD.clone(), targets_T)
    assert cross_entropy(model, hidden_TD, targets_T, n_targets=40).item() == pytest.approx(
        cross_entropy(model, hidden_TD, targets_T).item() * 20 / 40
    )


def test_under_autocast_the_loss_is_float32_and_near() -> None:
    model, hidden_TD, targets_T = example()
    plain = cross_entropy(model, hidden_TD, targets_T)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = cross_entropy(model, hidden_TD, targets_T)
    half.backward()
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(plain.item(), rel=0.01)
    assert hidden_TD.grad is not None
    assert hidden_TD.grad.dtype == torch.float32


def test_log_probs_equal_float64() -> None:
    model, hidden_TD, _ = example()
    targets_T = torch.arange(TOKENS)
    got = target_log_probs(model, hidden_TD, targets_T, chunk_bytes=4 * 37 * 4)
    logits = (hidden_TD.double() @ model.head_weight_VD.double().T).detach()
    torch.testing.assert_close(got.double(), logits.log_softmax(1)[torch.arange(TOKENS), targets_T], atol=1e-5, rtol=0)
    assert not got.requires_grad


def test_chunks_cover_every_token_once_and_keep_to_their_size() -> None:
    model, hidden_TD, _ = example()
    parts = list(logits_in_chunks(model, hidden_TD, chunk_bytes=4 * 37 * 7))
    assert [(part.start, part.stop) for part, _ in parts] == [(0, 7), (7, 14), (14, 21), (21, 23)]
    assert all(logits.dtype == torch.float32 and len(logits) == p.stop - p.start for p, logits in parts)


def test_no_target_at_all_is_not_a_loss_of_zero() -> None:
    model, hidden_TD, targets_T = example()
    with pytest.raises(ValueError, match="no token has a target"):
        cross_entropy(model, hidden_TD, torch.full_like(targets_T, NO_TARGET))
