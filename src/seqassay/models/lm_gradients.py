"""A language model's layer with a gradient of its own, for training on the CPU in float32.

It computes what the layer's operations and torch's autograd compute, for the default layout (RMSNorm, rotary positions,
no dropout) and sequences of one length. Elsewhere (half precision, CUDA, inference) the model takes other ways. What is
saved: autograd's and Python's cost of some twenty recorded operations a layer, the copies that join rotated halves and
parts of weights, the passes in which torch goes back through a norm step by step, and a tenth of the time of the
products forward and of gradients with weights, where oneDNN is faster than the BLAS behind ``torch.mm`` at these shapes
(768–2048 tokens, 96–688 wide, one Zen 4 core). Products of gradients with activations are the BLAS's, which is faster
there.

The operators are those behind ``F.linear`` and ``F.scaled_dot_product_attention``; they are no promise of torch's, so
they are tried once.

Shape letters: T tokens, D hidden width, E width of a product, F feed-forward width, H heads, K head width, N sequences
of L tokens each.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seqassay.models.linear import has_fused


def trains_here(hidden_TD: Tensor) -> bool:
    """Whether `trained_layer` can be taken: gradients are wanted, in float32 on the CPU, by a torch that has it all."""
    return (
        torch.is_grad_enabled()
        and hidden_TD.device.type == "cpu"
        and hidden_TD.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and _has_operators()
    )


def trained_layer(
    hidden_TD: Tensor,
    weights: tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor],
    rotary: tuple[Tensor, Tensor],
    *,
    n_heads: int,
    length: int,
    eps: float,
) -> Tensor:
    """The residual stream after a layer, ``[T, D]``.

    Args:
        hidden_TD: before it: sequences of equally many tokens, end to end.
        weights: of the norm, query with key with value, output, norm, gate with up, and down.
        rotary: cosines and signed sines, ``[T, K]``.
        length: tokens of a sequence.
        eps: of both norms.
    """
    out_TD: Tensor = _Layer.apply(hidden_TD, *weights, *rotary, n_heads, length, eps)  # type: ignore[no-untyped-call]
    return out_TD


def rotated_heads(qkv_T3HK: Tensor, cos_TK: Tensor, sin_TK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries and keys rotated as by `seqassay.models.esm2.rotate`, and values: each ``[T, H, K]``.

    One pass each way, and no copies to join the parts; tokens of a head side by side. On any device, in any format.
    """
    heads: tuple[Tensor, Tensor, Tensor] = _Rotate.apply(qkv_T3HK, cos_TK, sin_TK)  # type: ignore[no-untyped-call]
    return heads


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv_T3HK: Tensor, cos_TK: Tensor, sin_TK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(cos_TK, sin_TK)
        n_tokens, _, n_heads, width = qkv_T3HK.shape
        heads_3THK = qkv_T3HK.new_empty(3, n_heads, n_tokens, width).transpose(1, 2)
        for part in range(2):
            _rotate_into(heads_3THK[part], qkv_T3HK[:, part], cos_TK, sin_TK)
        heads_3THK[2] = qkv_T3HK[:, 2]
        return heads_3THK[0], heads_3THK[1], heads_3THK[2]

    @staticmethod
    def backward(ctx: Any, *d_heads: Tensor) -> tuple[Tensor, None, None]:
        cos_TK, sin_TK = ctx.saved_tensors
        d_q, d_k, d_v = d_heads
        d_qkv_T3HK = d_q.new_empty(len(d_q), 3, *d_q.shape[1:])
        for part, d_part in enumerate((d_q, d_k)):  # the gradient of a rotation is the rotation back
            _rotate_into(d_qkv_T3HK[:, part], d_part, cos_TK, -sin_TK)
        d_qkv_T3HK[:, 2] = d_v
        return d_qkv_T3HK, None, None


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_TD: Tensor, norm_1: Tensor, qkv: Tensor, out: Tensor, norm_2: Tensor, gate_up: Tensor, down: Tensor,
        cos_TK: Tensor, sin_TK: Tensor, n_heads: int, length: int, eps: float,
    ) -> Tensor:  # fmt: skip
        n_tokens, width = x_TD.shape
        heads = (n_tokens // length, length, n_heads, -1)
        unit_1_TD, scale_1_T1 = _unit(x_TD, eps)
        normed_1_TD = unit_1_TD * norm_1
        qkv_TE = _product(normed_1_TD, qkv)
        # Rotated ones lie token by token, as the values do: what the kernel then writes needs no copy.
        qk_THK = qkv_TE.new_empty(n_tokens, 2 * n_heads, width // n_heads)
        _rotate_into(qk_THK, qkv_TE[:, : 2 * width].view(qk_THK.shape), cos_TK, sin_TK)
        q, k, v = (
            part.view(heads).transpose(1, 2)
            for part in (qk_THK[:, :n_heads], qk_THK[:, n_heads:], qkv_TE[:, 2 * width :])
        )
        mixed_NHLK, sums_NHL = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, True)
        mixed_TD = mixed_NHLK.transpose(1, 2).reshape(n_tokens, width)
        middle_TD = _product_plus(mixed_TD, out, x_TD)
        unit_2_TD, scale_2_T1 = _unit(middle_TD, eps)
        normed_2_TD = unit_2_TD * norm_2
        gate_FD, up_FD = gate_up.chunk(2)
        gate_TF, up_TF = _product(normed_2_TD, gate_FD), _product(normed_2_TD, up_FD)
        active_TF = F.silu(gate_TF)
        inner_TF = active_TF * up_TF
        ctx.save_for_backward(
            norm_1, qkv, out, norm_2, gate_up, down, cos_TK, sin_TK, unit_1_TD, scale_1_T1, normed_1_TD, qkv_TE,
            qk_THK, mixed_NHLK, sums_NHL, mixed_TD, unit_2_TD, scale_2_T1, normed_2_TD, gate_TF, up_TF, active_TF,
            inner_TF,
        )  # fmt: skip
        ctx.heads = heads
        return _product_plus(inner_TF, down, middle_TD)

    @staticmethod
    def backward(ctx: Any, *d_out: Tensor) -> tuple[Tensor | None, ...]:
        (
            norm_1, qkv, out, norm_2, gate_up, down, cos_TK, sin_TK, unit_1_TD, scale_1_T1, normed_1_TD, qkv_TE,
            qk_THK, mixed_NHLK, sums_NHL, mixed_TD, unit_2_TD, scale_2_T1, normed_2_TD, gate_TF, up_TF, active_TF,
            inner_TF,
        ) = ctx.saved_tensors  # fmt: skip
        (d_TD,) = d_out
        n_heads, width = ctx.heads[2], d_TD.shape[1]

        d_inner_TF = _product(d_TD, down.T)
        d_up_TF = d_inner_TF * active_TF
        d_gate_TF = torch.ops.aten.silu_backward(d_inner_TF.mul_(up_TF), gate_TF)
        d_gate_up = torch.empty_like(gate_up)
        for d_part_TF, d_part_FD in zip((d_gate_TF, d_up_TF), d_gate_up.chunk(2), strict=True):
            torch.mm(d_part_TF.T, normed_2_TD, out=d_part_FD)
        gate_FD, up_FD = gate_up.chunk(2)
        d_normed_2_TD = _product_plus(d_gate_TF, gate_FD.T, _product(d_up_TF, up_FD.T))
        d_middle_TD, d_norm_2 = _norm_backward(d_normed_2_TD, unit_2_TD, scale_2_T1, norm_2)
        d_middle_TD += d_TD

        d_mixed_NHLK = _product(d_middle_TD, out.T).view(ctx.heads).transpose(1, 2)
        q, k, v = (
            part.view(ctx.heads).transpose(1, 2)
            for part in (qk_THK[:, :n_heads], qk_THK[:, n_heads:], qkv_TE[:, 2 * width :])
        )
        d_heads = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            d_mixed_NHLK, q, k, v, mixed_NHLK, sums_NHL, 0.0, True
        )
        d_q, d_k, d_v = (d_NHLK.transpose(1, 2).flatten(0, 1) for d_NHLK in d_heads)
        d_qkv_TE = torch.empty_like(qkv_TE)
        d_q_THK, d_k_THK, d_v_THK = (part.view(d_q.shape) for part in d_qkv_TE.chunk(3, dim=1))
        back_TK = -sin_TK  # the gradient of a rotation is the rotation back
        _rotate_into(d_q_THK, d_q, cos_TK, back_TK)
        _rotate_into(d_k_THK, d_k, cos_TK, back_TK)
        d_v_THK.copy_(d_v)
        d_x_TD, d_norm_1 = _norm_backward(_product(d_qkv_TE, qkv.T), unit_1_TD, scale_1_T1, norm_1)
        d_x_TD += d_middle_TD
        return (
            d_x_TD, d_norm_1, d_qkv_TE.T @ normed_1_TD, d_middle_TD.T @ mixed_TD, d_norm_2, d_gate_up,
            d_TD.T @ inner_TF, None, None, None, None, None,
        )  # fmt: skip


def _product(x_TD: Tensor, weight_ED: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x_TD, weight_ED, None, "none", [], "")  # type: ignore[no-any-return]


def _product_plus(x_TD: Tensor, weight_ED: Tensor, other_TE: Tensor) -> Tensor:
    binary = torch.ops.mkldnn._linear_pointwise.binary
    return binary(x_TD, other_TE, weight_ED, None, "add")  # type: ignore[no-any-return]


def _rotate_into(out_THK: Tensor, x_THK: Tensor, cos_TK: Tensor, sin_TK: Tensor) -> None:
    half = x_THK.shape[-1] // 2
    cos, sin = cos_TK[:, None], sin_TK[:, None]
    torch.mul(x_THK, cos, out=out_THK)
    out_THK[..., :half].addcmul_(x_THK[..., half:], sin[..., :half])
    out_THK[..., half:].addcmul_(x_THK[..., :half], sin[..., half:])


def _unit(x_TD: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Rows divided by their root mean square, and what they were multiplied by, ``[T, 1]``."""
    norm_T1 = torch.linalg.vector_norm(x_TD, dim=1, keepdim=True)
    scale_T1 = norm_T1.square_().div_(x_TD.shape[1]).add_(eps).rsqrt_()
    return x_TD * scale_T1, scale_T1


def _norm_backward(d_TD: Tensor, unit_TD: Tensor, scale_T1: Tensor, weight_D: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of an RMSNorm's input and weight."""
    shares_TD = d_TD * unit_TD
    along_T1 = (shares_TD @ weight_D)[:, None].div_(-len(weight_D))
    return (d_TD * weight_D).addcmul_(unit_TD, along_T1).mul_(scale_T1), shares_TD.sum(0)


@cache
def _has_operators() -> bool:
    """Whether this build of torch has the operators, with these arguments, and their answer is right."""
    if not has_fused(torch.float32):
        return False
    q = torch.linspace(-1, 1, 2 * 2 * 4 * 8).view(2, 4, 2, 8).transpose(1, 2)
    wanted = F.scaled_dot_product_attention(q, q, q, is_causal=True)
    try:
        found, sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, q, q, 0.0, True)
        backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        backward(found, q, q, q, found, sums, 0.0, True)
    except (RuntimeError, AttributeError, TypeError):
        return False
    return torch.allclose(found, wanted, atol=1e-5)
