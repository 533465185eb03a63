"""Matrix product, bias and what follows it in one call: the other hardware-dependent piece beside `attention`.

On the CPU, oneDNN's product with its epilogue (GELU, a residual added, a gate multiplied) saves a pass over the
activations and is itself faster than the BLAS behind ``F.linear``: with weights laid out once for the kernel, 1.0–1.15
times the rate of a large ``torch.mm`` down to 128 tokens, where ``F.linear`` and a GELU reach 0.9 (320 × 1280, one
Zen 4 core). The operators are those that torch's own compiler emits; where a build of torch has none, or gradients are
wanted, the plain operations run.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

Epilogue = Literal["none", "gelu", "add", "mul"]

# Weights beyond this size belong to models of which a second copy may not fit into memory: they stay as they are.
_MOST_PACKED_BYTES = 32 << 20
# Kernel layouts of weights, by (state of the weight, rows); they live as long as the weight.
_packed_weights = WeakIdKeyDictionary()


def linear(
    x_TD: Tensor,
    weight_ED: Tensor,
    bias_E: Tensor | None,
    *,
    rows: tuple[int, int] | None = None,
    then: Epilogue = "none",
    other_TE: Tensor | None = None,
    plain: bool = False,
) -> Tensor:
    """``x @ weight.T + bias``, then exact GELU, or ``+ other``, or ``* other``; ``[T, E]``.

    Args:
        x_TD: input rows.
        weight_ED, bias_E: as `torch.nn.Linear` holds them.
        rows: take only these rows of the weight (first, one after the last).
        then: what follows the product.
        other_TE: the second operand of ``add`` and ``mul``.
        plain: take the separate plain operations, whatever the device.
    """
    other_mode = torch.is_grad_enabled() or torch.is_autocast_enabled("cpu")
    if plain or other_mode or x_TD.device.type != "cpu" or not has_fused(x_TD.dtype):
        return _plain(x_TD, _part(weight_ED, rows), bias_E, then, other_TE)
    fused = torch.ops.mkldnn._linear_pointwise
    weight = _packed(weight_ED, rows)
    if then in ("add", "mul"):
        return fused.binary(x_TD, other_TE, weight, bias_E, then)  # type: ignore[no-any-return]
    return fused(x_TD, weight, bias_E, then, [], "none" if then == "gelu" else "")  # type: ignore[no-any-return]


def _plain(x_TD: Tensor, weight_ED: Tensor, bias_E: Tensor | None, then: Epilogue, other_TE: Tensor | None) -> Tensor:
    y_TE = F.linear(x_TD, weight_ED, bias_E)
    if then == "gelu":
        return F.gelu(y_TE)
    if other_TE is None:
        return y_TE
    return y_TE + other_TE if then == "add" else y_TE * other_TE


def _part(weight_ED: Tensor, rows: tuple[int, int] | None) -> Tensor:
    return weight_ED if rows is None else weight_ED[rows[0] : rows[1]]


def _packed(weight_ED: Tensor, rows: tuple[int, int] | None) -> Tensor:
    """The weight in the kernel's own layout, kept until the weight changes or goes; large weights as they are."""
    part_ED = _part(weight_ED, rows)
    if part_ED.nbytes > _MOST_PACKED_BYTES:
        return part_ED
    # The version counts changes in place; tensors made in inference mode have none and aren't trained.
    state = (weight_ED.data_ptr(), 0 if weight_ED.is_inference() else weight_ED._version)
    kept = _packed_weights.get(weight_ED)  # type: ignore[no-untyped-call]
    if kept is None or kept[0] != state:
        kept = _packed_weights[weight_ED] = (state, {})
    by_rows: dict[tuple[int, int] | None, Tensor] = kept[1]
    if rows not in by_rows:
        by_rows[rows] = torch.ops.mkldnn._reorder_linear_weight(part_ED.detach(), 1024)
    return by_rows[rows]


def count_steps(optimizer: torch.optim.Optimizer) -> None:
    """Make the optimizer's steps count as changes of its weights, as those of fused ones don't.

    Without it, an evaluation between two steps would see the weights of the first one for ever.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    optimizer.register_step_post_hook(lambda *_: torch.autograd.graph.increment_version(parameters))


@cache
def has_fused(dtype: torch.dtype) -> bool:
    """Whether this build of torch has the operators, for this number format, and their answer is right."""
    # oneDNN keeps the code of its last 1,024 shapes, half a megabyte each. A model's products at the common sizes of
    # micro-batches are some 50 to 100; it reads this once, before its first product.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not available or dtype not in (torch.float32, torch.bfloat16):
        return False
    x, w = torch.linspace(-1, 1, 12).view(3, 4).to(dtype), torch.linspace(1, -1, 20).view(5, 4).to(dtype)
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(w, 3)
        got = torch.ops.mkldnn._linear_pointwise(x, packed, None, "gelu", [], "none")
    except (RuntimeError, AttributeError):  # the operators are no promise of torch's
        return False
    return torch.allclose(got, F.gelu(F.linear(x, w)), atol=1e-6 if dtype == torch.float32 else 3e-2)
