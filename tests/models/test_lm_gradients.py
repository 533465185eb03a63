"""The layer with a gradient of its own against the plain operations and torch's autograd."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from seqassay.models import causal_lm, lm_gradients
from seqassay.models.attention import PackedLayout
from seqassay.models.causal_lm import CausalLm, CausalLmConfig
from seqassay.models.lm_files import build_lm
from seqassay.models.lm_loss import cross_entropy

SHAPE: dict[str, Any] = {"vocab_size": 19, "d_model": 24, "n_layers": 2, "n_heads": 2, "d_ff": 20, "context": 40}


def model_of(**changes: Any) -> CausalLm:
    """Weights far from the first ones, so that norms and the head take part."""
    model = build_lm(CausalLmConfig(**{**SHAPE, **changes}), seed=1)
    random = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=random))
    return model


def gradients(model: CausalLm, lengths: list[int], *, exact: bool) -> dict[str, torch.Tensor]:
    tokens, targets = torch.randint(SHAPE["vocab_size"], (2, sum(lengths)), generator=torch.Generator().manual_seed(3))
    model.zero_grad()
    loss = cross_entropy(model, model(tokens, PackedLayout.from_lengths(lengths), exact=exact), targets)
    loss.backward()  # type: ignore[no-untyped-call]
    return {"loss": loss.detach(), **{name: p.grad for name, p in model.named_parameters() if p.grad is not None}}


@pytest.fixture
def layers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for every layer that took the way of its own."""
    seen: list[int] = []
    real = causal_lm.trained_layer

    def counted(*given: Any, **named: Any) -> torch.Tensor:
        seen.append(1)
        return real(*given, **named)

    monkeypatch.setattr(causal_lm, "trained_layer", counted)
    return seen


@pytest.mark.parametrize(
    ("lengths", "changes"),
    [
        ([40] * 3, {}),
        ([1], {}),
        ([7] * 2, {"d_model": 6, "n_heads": 1, "d_ff": 5, "tied": False}),
        ([33], {"d_model": 64, "n_heads": 4, "d_ff": 176, "n_layers": 1}),
    ],
)
def test_gradients_are_those_of_the_plain_operations(
    lengths: list[int], changes: dict[str, Any], layers: list[int]
) -> None:
    model = model_of(**changes)
    found, wanted = (gradients(model, lengths, exact=exact) for exact in (False, True))
    assert len(layers) == model.config.n_layers
    assert found.keys() == wanted.keys()
    for name in wanted:
        assert torch.allclose(found[name], wanted[name], rtol=1e-4, atol=2e-6), name


@pytest.mark.parametrize(
    ("lengths", "changes"),
    [([5, 9], {}), ([8] * 2, {"norm": "layernorm"}), ([8] * 2, {"positions": "learned"})],
)
def test_other_layouts_take_the_other_way(lengths: list[int], changes: dict[str, Any], layers: list[int]) -> None:
    model = model_of(**changes)
    found, wanted = (gradients(model, lengths, exact=exact) for exact in (False, True))
    assert not layers
    for name in wanted:
        assert torch.allclose(found[name], wanted[name], rtol=1e-4, atol=2e-6), name


def test_it_is_for_gradients_in_float32_with_operators_of_torch(
    layers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of()
    with torch.no_grad():
        model(torch.zeros(8, dtype=torch.long), PackedLayout.from_lengths([8]))
    with torch.autocast("cpu", torch.bfloat16):
        gradients(model, [8], exact=False)
    assert not layers
    with_them = gradients(model, [8], exact=False)
    assert layers
    layers.clear()
    monkeypatch.setattr(lm_gradients, "_has_operators", lambda: False)
    without = gradients(model, [8], exact=False)
    assert not layers
    for name in with_them:
        assert torch.allclose(with_them[name], without[name], rtol=1e-4, atol=2e-6), name


def test_dropout_takes_the_other_way(layers: list[int]) -> None:
    model = model_of().train()
    model.dropout = 0.5
    gradients(model, [8], exact=False)
    assert not layers
