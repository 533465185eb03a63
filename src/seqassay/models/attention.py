"""Attention over a flat run of tokens: one signature, and the one place that chooses a kernel.

A batch holds sequences of several lengths end to end, sorted by length, and no padding. Linear layers see the flat
token axis; only attention has to know where sequences begin. Every kernel here is compared with ``exact`` by a test.

Shape letters: T tokens of a batch, S sequences, N sequences of one length, L their tokens, H heads, K head width.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

logger = logging.getLogger(__name__)

Kernel = Literal["grouped-sdpa", "varlen", "exact"]

# Scores computed at a time by the CPU's product path: 1 MB of float32, a core's second-level cache.
_SCORES_IN_CACHE = 262_144


@dataclass(frozen=True)
class PackedLayout:
    """Where the sequences of a batch lie on its token axis.

    Attributes:
        lengths: tokens of every sequence, ascending, ``int64 [S]``.
        groups: runs of sequences of one length: (first token, number of sequences, length).
        cu_seqlens: ``int32 [S + 1]`` on the device: where each sequence begins, and the end.
        max_length: the longest sequence, in tokens.
        positions_T: ``int64 [T]`` on the device: every token's place in its sequence, from 0.
        offsets: ``cu_seqlens`` on the host, ``int64 [S + 1]``.
    """

    lengths: npt.NDArray[np.int64]
    groups: tuple[tuple[int, int, int], ...]
    cu_seqlens: Tensor
    max_length: int
    positions_T: Tensor
    offsets: npt.NDArray[np.int64]

    @classmethod
    def from_lengths(cls, lengths: npt.ArrayLike, device: torch.device | str = "cpu") -> PackedLayout:
        """Lay out sequences with these numbers of tokens, ascending.

        Raises:
            ValueError: for lengths that aren't sorted, or below 1.
        """
        lengths_S = np.asarray(lengths, np.int64)
        if len(lengths_S) == 0 or lengths_S[0] < 1 or (np.diff(lengths_S) < 0).any():
            raise ValueError(f"a batch needs sequences of at least one token, sorted by length; got {lengths_S[:10]}")
        distinct, counts = np.unique(lengths_S, return_counts=True)
        firsts = np.cumsum(distinct * counts) - distinct * counts
        offsets = np.zeros(len(lengths_S) + 1, np.int64)
        np.cumsum(lengths_S, out=offsets[1:])
        positions_T = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths_S)
        return cls(
            lengths=lengths_S,
            groups=tuple(zip(firsts.tolist(), counts.tolist(), distinct.tolist(), strict=True)),
            cu_seqlens=torch.from_numpy(offsets.astype(np.int32)).to(device, non_blocking=True),
            max_length=int(distinct[-1]),
            positions_T=torch.from_numpy(positions_T).to(device, non_blocking=True),
            offsets=offsets,
        )

    @property
    def n_tokens(self) -> int:
        """Tokens of the batch."""
        return int(self.offsets[-1])


def choose_kernel(
    device: torch.device, dtype: torch.dtype, *, alibi: bool, exact: bool, head_width: int | None = None
) -> Kernel:
    """The kernel for a device, number format and model; says once in the log which it took.

    Args:
        head_width: where it can be any; variable-length attention takes multiples of 8 up to 256.
    """
    kernel: Kernel
    if exact:
        kernel = "exact"
    elif (
        device.type == "cuda"
        and dtype in (torch.float16, torch.bfloat16)
        and not alibi
        and (head_width is None or (head_width % 8 == 0 and head_width <= 256))
    ):
        kernel = "varlen"
    else:
        kernel = "grouped-sdpa"
    _log_choice(kernel, str(device), str(dtype).removeprefix("torch."), alibi)
    return kernel


@cache
def _log_choice(kernel: Kernel, device: str, dtype: str, alibi: bool) -> None:
    logger.info("attention on %s in %s%s: %s", device, dtype, " with ALiBi" if alibi else "", kernel)


def attention(
    q_THK: Tensor,
    k_THK: Tensor,
    v_THK: Tensor,
    layout: PackedLayout,
    *,
    kernel: Kernel,
    biases: Sequence[Tensor] | None = None,
    causal: bool = False,
) -> Tensor:
    """Softmax attention of every sequence over itself, scaled by ``K ** -0.5``; returns ``[T, H, K]``.

    Args:
        q_THK, k_THK, v_THK: queries, keys, values of the flat token axis.
        layout: where sequences begin.
        kernel: from `choose_kernel`.
        biases: added to the scores, ``[1, H, L, L]`` for each of the layout's groups (see `alibi_biases`).
        causal: every token sees itself and those before it, not those behind.
    """
    if biases is not None and (causal or kernel == "varlen"):
        raise ValueError("the varlen kernel and causal attention take no attention bias")
    if kernel == "varlen":
        return _varlen(q_THK, k_THK, v_THK, layout, causal=causal)
    pieces: list[Tensor] = []
    for group, (first, n, length) in enumerate(layout.groups):
        rows = slice(first, first + n * length)
        q, k, v = (x[rows].view(n, length, *x.shape[1:]).transpose(1, 2) for x in (q_THK, k_THK, v_THK))
        bias = None if biases is None else biases[group]
        if kernel == "exact":
            future = _future_bias(length, q) if causal else bias
            pieces.append(_exact(q, k, v, future).transpose(1, 2).flatten(0, 1))
        elif bias is None and _products_beat_sdpa(q, causal=causal):
            pieces.extend(_products(q, k, v, causal=causal))
        else:
            mixed_NHLK = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, is_causal=causal)
            pieces.append(mixed_NHLK.transpose(1, 2).flatten(0, 1))
    return torch.cat(pieces) if len(pieces) > 1 else pieces[0]


def attention_over_past(
    q_NHLK: Tensor, k_NHMK: Tensor, v_NHMK: Tensor, seen_N1LM: Tensor | None, *, kernel: Kernel
) -> Tensor:
    """Attention of L new tokens a sequence over those before them and over themselves; ``[N, H, L, K]``.

    Args:
        q_NHLK: queries of the new tokens.
        k_NHMK, v_NHMK: keys and values from the start of each sequence; what lies behind its last new token (the
            sequences may be of several lengths) is not read, but has to be finite.
        seen_N1LM: from `seen_over_past`; None: every new token sees all of the keys.
        kernel: from `choose_kernel`; variable-length attention is not used here, whatever it says.
    """
    if kernel == "exact":
        bias_N1LM = None
        if seen_N1LM is not None:
            bias_N1LM = torch.zeros_like(seen_N1LM, dtype=q_NHLK.dtype).masked_fill_(~seen_N1LM, -torch.inf)
        return _exact(q_NHLK, k_NHMK, v_NHMK, bias_N1LM)
    return F.scaled_dot_product_attention(q_NHLK, k_NHMK, v_NHMK, attn_mask=seen_N1LM)


def seen_over_past(n_past_N: Tensor, n_new: int, n_keys: int) -> Tensor:
    """Which keys the new tokens see, causally: ``bool [N, 1, L, M]``.

    Args:
        n_past_N: tokens of each sequence before its new ones, ``int64 [N]``, at most ``M - L``.
    """
    last_NL = n_past_N[:, None] + torch.arange(n_new, device=n_past_N.device)
    return (torch.arange(n_keys, device=n_past_N.device) <= last_NL[:, :, None])[:, None]


def _future_bias(length: int, like: Tensor) -> Tensor:
    """Minus infinity where a key lies behind its query, 0 elsewhere; ``[L, L]``."""
    return torch.full((length, length), -torch.inf, dtype=like.dtype, device=like.device).triu_(1)


def _exact(q_NHLK: Tensor, k_NHLK: Tensor, v_NHLK: Tensor, bias_HLL: Tensor | None) -> Tensor:
    scores_NHLL = (q_NHLK * q_NHLK.shape[-1] ** -0.5) @ k_NHLK.transpose(-1, -2)
    if bias_HLL is not None:
        scores_NHLL = scores_NHLL + bias_HLL
    return torch.softmax(scores_NHLL, dim=-1, dtype=torch.float32).to(v_NHLK.dtype) @ v_NHLK


def _products_beat_sdpa(q_NHLK: Tensor, *, causal: bool) -> bool:
    """Whether plain matrix products are faster than the CPU's flash kernel.

    That kernel has a fixed cost for every head of every sequence, which narrow heads and short sequences don't
    amortise. One Zen 4 core, 20 heads, µs a token: 16 wide, 51 long: 3.0 against 3.5; 32 wide, 35 long: 3.7 against
    4.8; but 64 wide, 51 long: 10.0 against 7.5; 16 wide, 100 long: 4.4 against 4.4; 12 long: 5.3 against 3.3. Causal
    ones with gradients are the kernel's: 4 heads, 32 wide, 64 long, forward and backward: 3.8 against its 5.2.
    """
    if causal and q_NHLK.requires_grad:
        return False
    length, width = q_NHLK.shape[-2:]
    return q_NHLK.device.type == "cpu" and q_NHLK.dtype == torch.float32 and width <= 32 and 16 <= length <= 64


def _products(q_NHLK: Tensor, k_NHLK: Tensor, v_NHLK: Tensor, *, causal: bool) -> Iterator[Tensor]:
    """Batched products and a softmax, a few sequences at a time so that their scores stay in a core's cache.

    Yields:
        Mixed values of consecutive tokens, ``[T, H, K]``.
    """
    n, n_heads, length, width = q_NHLK.shape
    at_once = max(1, _SCORES_IN_CACHE // (n_heads * length**2))
    future_LL = _future_bias(length, q_NHLK) if causal else None
    for first in range(0, n, at_once):
        q, k, v = (x[first : first + at_once].transpose(0, 1).flatten(0, 1) for x in (q_NHLK, k_NHLK, v_NHLK))
        # The scale goes onto the queries, which are far fewer than the scores.
        if future_LL is None:
            scores_BLL = torch.bmm(q * width**-0.5, k.transpose(1, 2))
        else:
            scores_BLL = torch.baddbmm(future_LL, q, k.transpose(1, 2), alpha=width**-0.5)
        mixed_HNLK = torch.bmm(torch.softmax(scores_BLL, dim=-1), v).view(n_heads, -1, length, width)
        yield mixed_HNLK.permute(1, 2, 0, 3).flatten(0, 1)


def _varlen(q_THK: Tensor, k_THK: Tensor, v_THK: Tensor, layout: PackedLayout, *, causal: bool) -> Tensor:
    # Imported here: the module loads a CUDA extension.
    from torch.nn.attention.varlen import varlen_attn

    cu, longest = layout.cu_seqlens, layout.max_length
    how = _causal_keyword() if causal else {}
    out_THK: Tensor = varlen_attn(  # type: ignore[assignment]
        q_THK.contiguous(), k_THK.contiguous(), v_THK.contiguous(), cu, cu, longest, longest, **how
    )
    return out_THK


@cache
def _causal_keyword() -> dict[str, Any]:
    """How this torch's variable-length attention is told to be causal: the keyword changed between 2.11 and 2.13."""
    from torch.nn.attention.varlen import varlen_attn

    if "window_size" in inspect.signature(varlen_attn).parameters:
        return {"window_size": (-1, 0)}
    return {"is_causal": True}


def alibi_slopes(n_heads: int) -> list[float]:
    """Slopes of ALiBi (Press et al. 2022): a geometric series for powers of two, interleaved for other head counts."""
    if math.log2(n_heads).is_integer():
        ratio = 2.0 ** (-8.0 / n_heads)
        return [ratio ** (i + 1) for i in range(n_heads)]
    below = 2 ** math.floor(math.log2(n_heads))
    return alibi_slopes(below) + alibi_slopes(2 * below)[0::2][: n_heads - below]


def alibi_biases(slopes_H: Tensor, layout: PackedLayout, dtype: torch.dtype) -> list[Tensor]:
    """Symmetric ALiBi as DNABERT-2 has it, ``-slope · |i - j|``: ``[1, H, L, L]`` for each group of the layout."""
    places_L = torch.arange(layout.max_length, device=slopes_H.device, dtype=torch.float32)
    distance_LL = (places_L[None, :] - places_L[:, None]).abs()
    longest_HLL = -slopes_H.float()[:, None, None] * distance_LL
    return [longest_HLL[None, :, :length, :length].to(dtype) for _, _, length in layout.groups]
