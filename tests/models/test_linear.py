"""The CPU's fused products against the plain operations."""

from __future__ import annotations

import gc

import pytest
import torch

from seqassay.models import linear as module
from seqassay.models.linear import linear


@pytest.mark.parametrize("rows", [None, (0, 12), (12, 24)])
@pytest.mark.parametrize("then", ["none", "gelu", "add", "mul"])
def test_fused_equals_plain(then: str, rows: tuple[int, int] | None) -> None:
    torch.manual_seed(3)
    n_out = 24 if rows is None else 12
    x, w, b, other = torch.randn(7, 32), torch.randn(24, 32), torch.randn(n_out), torch.randn(7, n_out)
    operand = other if then in ("add", "mul") else None
    with torch.inference_mode():
        fused = linear(x, w, b, rows=rows, then=then, other_TE=operand)  # type: ignore[arg-type]
        plain = linear(x, w, b, rows=rows, then=then, other_TE=operand, plain=True)  # type: ignore[arg-type]
    assert fused.shape == (7, n_out)
    torch.testing.assert_close(fused, plain, atol=2e-5, rtol=0)


def test_gradients_are_those_of_the_plain_operations() -> None:
    torch.manual_seed(4)
    x, w = torch.randn(5, 8), torch.randn(6, 8, requires_grad=True)
    linear(x, w, None, then="gelu").sum().backward()
    expected = torch.autograd.grad(torch.nn.functional.gelu(x @ w.T).sum(), w)[0]
    torch.testing.assert_close(w.grad, expected)


def test_a_changed_weight_is_laid_out_again() -> None:
    x, w = torch.ones(2, 4), torch.ones(3, 4)
    with torch.no_grad():
        assert linear(x, w, None)[0, 0].item() == 4
        w.mul_(2)
        assert linear(x, w, None)[0, 0].item() == 8
        w.data = torch.zeros(3, 4)
        assert linear(x, w, None)[0, 0].item() == 0


def test_layouts_go_with_their_weight() -> None:
    gc.collect()
    before = len(module._packed_weights)
    w = torch.ones(3, 4)
    with torch.no_grad():
        linear(torch.ones(2, 4), w, None)
    del w
    gc.collect()
    assert len(module._packed_weights) <= before


def test_large_weights_get_no_second_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_PACKED_BYTES", 8)
    w = torch.ones(3, 4)
    with torch.no_grad():
        assert linear(torch.ones(2, 4), w, None)[0, 0].item() == 4
    assert w not in module._packed_weights


def test_without_the_operators_the_plain_operations_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "has_fused", lambda dtype: False)
    with torch.no_grad():
        assert (
            linear(torch.ones(2, 4), torch.ones(3, 4), torch.ones(3), then="add", other_TE=torch.ones(2, 3))[
                0, 0
            ].item()
            == 6
        )
