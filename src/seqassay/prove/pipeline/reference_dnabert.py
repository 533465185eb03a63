"""DNABERT-S as its published code runs it: part of the reference procedure, sharing nothing with `seqassay.models`."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class UnpaddingDnabert(nn.Module):
    """DNABERT-S along the published model's path (MosaicBERT's unpadding), from a state dict of its names."""

    alibi: Tensor
    token_types: Tensor

    def __init__(self, state: dict[str, Tensor], *, n_heads: int, eps: float = 1e-12, longest: int = 512) -> None:
        super().__init__()
        d_model = state["embeddings.word_embeddings.weight"].shape[1]
        n_layers = 1 + max(int(name.split(".")[2]) for name in state if name.startswith("encoder.layer."))
        self.word_embeddings = _embedding(state, "embeddings.word_embeddings")
        self.token_type_embeddings = _embedding(state, "embeddings.token_type_embeddings")
        self.norm = _norm(state, "embeddings.LayerNorm", eps)
        self.layers = nn.ModuleList(_Layer(state, f"encoder.layer.{n}", n_heads, eps) for n in range(n_layers))
        self.pooler = nn.Linear(d_model, d_model)
        place = torch.arange(longest)
        distance = (place[None, :] - place[:, None]).abs()
        slopes = torch.tensor(alibi_slopes(n_heads))
        self.register_buffer("alibi", (slopes[:, None, None] * -distance)[None])
        self.register_buffer("token_types", torch.zeros(1, longest, dtype=torch.long))

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states ``[B, L, D]`` and the pooled first position ``[B, D]``."""
        batch, length = ids.shape
        mask = torch.ones_like(ids)
        x = self.word_embeddings(ids) + self.token_type_embeddings(self.token_types[:, :length].expand(batch, length))
        x = self.norm(x)
        added = (1.0 - mask[:, None, None].to(x.dtype)) * -10000.0
        x, places, longest = _unpad(x, mask.bool())
        bias = added[..., :longest] + self.alibi[..., :longest, :longest]
        for layer in self.layers:
            x = layer(x, places, mask, longest, bias)
        x = _pad(x, places, batch, length)
        return x, torch.tanh(self.pooler(x[:, 0]))


class _Layer(nn.Module):
    def __init__(self, state: dict[str, Tensor], name: str, n_heads: int, eps: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = _linear(state, f"{name}.attention.self.Wqkv")
        self.dense = _linear(state, f"{name}.attention.output.dense")
        self.attention_norm = _norm(state, f"{name}.attention.output.LayerNorm", eps)
        self.gated = _linear(state, f"{name}.mlp.gated_layers")
        self.out = _linear(state, f"{name}.mlp.wo")
        self.norm = _norm(state, f"{name}.mlp.layernorm", eps)

    def forward(self, x: Tensor, places: Tensor, mask: Tensor, longest: int, bias: Tensor) -> Tensor:
        qkv = _pad(self.qkv(x), places, len(mask), longest)
        qkv = qkv.view(len(mask), longest, 3, self.n_heads, -1)
        q, k, v = qkv[:, :, 0].permute(0, 2, 1, 3), qkv[:, :, 1].permute(0, 2, 3, 1), qkv[:, :, 2].permute(0, 2, 1, 3)
        probabilities = F.softmax(torch.matmul(q, k) / math.sqrt(q.shape[-1]) + bias, dim=-1)
        mixed, _, _ = _unpad(torch.matmul(probabilities, v).permute(0, 2, 1, 3), mask == 1)
        x = self.attention_norm(self.dense(mixed.flatten(1)) + x)
        gated = self.gated(x)
        half = gated.shape[-1] // 2
        normed: Tensor = self.norm(self.out(F.gelu(gated[:, :half]) * gated[:, half:]) + x)
        return normed


def _unpad(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, int]:
    """Positions in use end to end, where they were, and the longest sequence."""
    lengths = mask.sum(dim=-1, dtype=torch.int32)
    places = torch.nonzero(mask.flatten(), as_tuple=False).flatten()
    flat = x.flatten(0, 1)
    index = places.view(-1, *[1] * (flat.ndim - 1)).expand(-1, *flat.shape[1:])
    return torch.gather(flat, 0, index), places, int(lengths.max().item())


def _pad(x: Tensor, places: Tensor, batch: int, length: int) -> Tensor:
    spread = torch.zeros(batch * length, *x.shape[1:], dtype=x.dtype)
    spread[places] = x
    return spread.view(batch, length, *x.shape[1:])


def _linear(state: dict[str, Tensor], name: str) -> nn.Linear:
    weight, bias = state[f"{name}.weight"], state.get(f"{name}.bias")
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.load_state_dict({"weight": weight} if bias is None else {"weight": weight, "bias": bias})
    return layer


def _norm(state: dict[str, Tensor], name: str, eps: float) -> nn.LayerNorm:
    norm = nn.LayerNorm(len(state[f"{name}.weight"]), eps=eps)
    norm.load_state_dict({"weight": state[f"{name}.weight"], "bias": state[f"{name}.bias"]})
    return norm


def _embedding(state: dict[str, Tensor], name: str) -> nn.Embedding:
    weight = state[f"{name}.weight"]
    return nn.Embedding(weight.shape[0], weight.shape[1], _weight=weight, _freeze=True)


def alibi_slopes(n: int) -> list[float]:
    """ALiBi's slope of every head (Press et al. 2022, as the authors extend it to other numbers than powers of two)."""

    def series(m: int) -> list[float]:
        start = float(2 ** (-(2 ** -(math.log2(m) - 3))))
        return [start * start**i for i in range(m)]

    if math.log2(n).is_integer():
        return series(n)
    closest = 2 ** math.floor(math.log2(n))
    return series(closest) + series(2 * closest)[0::2][: n - closest]
