"""ESM-2 (Lin et al., Science 2023): a pre-norm protein encoder with rotary positions.

Differs from the textbook: the table is multiplied once by 0.88 when weights are loaded (token dropout at inference),
rotary angles are made in float32 over the whole head (base 10000, halves, BOS at position 0), GELU is the exact one,
and the representation is the last layer's output after ``final_norm``.

Shape letters: T tokens of a batch end to end, D hidden width, H heads, K head width.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from seqassay.models.attention import Kernel, PackedLayout, attention, choose_kernel
from seqassay.models.cores import run_on_cores
from seqassay.models.linear import linear

ESM2_ALPHABET = (
    "<cls>", "<pad>", "<eos>", "<unk>",
    *"LAGVSERTIDPKQNFYMHWCXBUZO.-",
    "<null_1>", "<mask>",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Esm2Config:
    """Shape of an ESM-2 encoder."""

    n_layers: int
    d_model: int
    n_heads: int
    d_ff: int = 0  # 0: four times d_model
    vocab_size: int = len(ESM2_ALPHABET)
    eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.d_ff == 0:
            object.__setattr__(self, "d_ff", 4 * self.d_model)
        if self.d_model % self.n_heads or (self.d_model // self.n_heads) % 2:
            raise ValueError(f"d_model {self.d_model} must be an even multiple of n_heads {self.n_heads}")

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.d_model // self.n_heads


# Published sizes by their usual names.
ESM2_SIZES: dict[str, Esm2Config] = {
    "8M": Esm2Config(6, 320, 20),
    "35M": Esm2Config(12, 480, 20),
    "150M": Esm2Config(30, 640, 20),
    "650M": Esm2Config(33, 1280, 20),
    "3B": Esm2Config(36, 2560, 40),
    "15B": Esm2Config(48, 5120, 40),
}


class Esm2Layer(nn.Module):
    """One pre-norm layer: attention and feed-forward, each added to the residual."""

    def __init__(self, config: Esm2Config) -> None:
        super().__init__()
        d = config.d_model
        self.n_heads = config.n_heads
        self.attention_norm = nn.LayerNorm(d, eps=config.eps)
        self.qkv = nn.Linear(d, 3 * d)
        self.out = nn.Linear(d, d)
        self.ffn_norm = nn.LayerNorm(d, eps=config.eps)
        self.fc1 = nn.Linear(d, config.d_ff)
        self.fc2 = nn.Linear(config.d_ff, d)

    def project(self, hidden_TD: Tensor, *, plain: bool = False) -> Tensor:
        """Queries, keys and values before rotation, ``[T, 3D]``."""
        return linear(self.attention_norm(hidden_TD), self.qkv.weight, self.qkv.bias, plain=plain)

    def forward(
        self, hidden_TD: Tensor, qkv_TE: Tensor, layout: PackedLayout, rotary: tuple[Tensor, Tensor], kernel: Kernel
    ) -> Tensor:
        """Residual stream and its projections in, residual stream out."""
        plain = kernel == "exact"
        heads_3HTK = qkv_TE.view(len(qkv_TE), 3, self.n_heads, -1).permute(1, 2, 0, 3)
        if kernel == "grouped-sdpa":  # tokens of one head side by side: faster to rotate and to attend over
            heads_3HTK = heads_3HTK.contiguous()
        q_THK, k_THK = (x.transpose(0, 1) for x in rotate(heads_3HTK[:2], *rotary))
        mixed_THK = attention(q_THK, k_THK, heads_3HTK[2].transpose(0, 1), layout, kernel=kernel)
        hidden_TD = linear(
            mixed_THK.flatten(1), self.out.weight, self.out.bias, then="add", other_TE=hidden_TD, plain=plain
        )
        normed_TD = self.ffn_norm(hidden_TD)
        inner_TF = linear(normed_TD, self.fc1.weight, self.fc1.bias, then="gelu", plain=plain)
        return linear(inner_TF, self.fc2.weight, self.fc2.bias, then="add", other_TE=hidden_TD, plain=plain)


class Esm2(nn.Module):
    """The encoder without its language-model head.

    Attributes:
        frozen_layers: how many of the first layers are computed without gradients, whatever the mode.
    """

    frozen_layers = 0

    def __init__(self, config: Esm2Config) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.layers = nn.ModuleList(Esm2Layer(config) for _ in range(config.n_layers))
        self.final_norm = nn.LayerNorm(config.d_model, eps=config.eps)

    def forward(self, tokens_T: Tensor, layout: PackedLayout, *, exact: bool = False) -> Tensor:
        """Hidden states after the final norm, ``[T, D]``.

        Args:
            tokens_T: token ids of all sequences end to end, BOS and EOS included.
            layout: where sequences begin.
            exact: take the plain attention kernel.
        """
        weight = self.embed_tokens.weight
        kernel = choose_kernel(weight.device, weight.dtype, alibi=False, exact=exact)
        if exact:
            return self._encode(tokens_T, layout, kernel)
        return run_on_cores(partial(self._encode, kernel=kernel), tokens_T, layout)

    def _encode(self, tokens_T: Tensor, layout: PackedLayout, kernel: Kernel) -> Tensor:
        hidden_TD: Tensor = self.embed_tokens(tokens_T)
        rotary = rotary_tables(layout, self.config.head_dim, hidden_TD.dtype)
        with_gradients = torch.is_grad_enabled()
        for number, layer in enumerate(cast("list[Esm2Layer]", self.layers)):
            with torch.set_grad_enabled(with_gradients and number >= self.frozen_layers):
                if number == 0 and kernel != "exact":
                    # Before the first attention a token is only its letter: project the 33 letters, not every token.
                    qkv_TE = layer.project(self.embed_tokens.weight)[tokens_T]
                else:
                    qkv_TE = layer.project(hidden_TD, plain=kernel == "exact")
                hidden_TD = layer(hidden_TD, qkv_TE, layout, rotary, kernel)
        normed_TD: Tensor = self.final_norm(hidden_TD)
        return normed_TD

    def flops(self, lengths: list[int]) -> int:
        """Floating-point operations of the matrix products for sequences of these token lengths (2·m·k·n each)."""
        c = self.config
        per_token = c.n_layers * (8 * c.d_model**2 + 4 * c.d_model * c.d_ff)
        attention_products = sum(c.n_layers * 4 * length**2 * c.d_model for length in lengths)
        return per_token * sum(lengths) + attention_products


def rotary_tables(layout: PackedLayout, head_dim: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines of every token's angles for `rotate`, each ``[T, K]``, made in float32."""
    frequencies = 1.0 / 10000 ** (torch.arange(0, head_dim, 2, device=layout.positions_T.device).float() / head_dim)
    angles = torch.arange(layout.max_length, device=frequencies.device).float()[:, None] * frequencies
    cos, sin = angles.cos(), angles.sin()
    cos_LK, sin_LK = torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)
    return cos_LK.to(dtype)[layout.positions_T], sin_LK.to(dtype)[layout.positions_T]


def rotate(x_HTK: Tensor, cos_TK: Tensor, sin_TK: Tensor) -> Tensor:
    """Rotary position embedding (Su et al. 2021), half-split: pairs are (i, i + K/2)."""
    first, second = x_HTK.chunk(2, dim=-1)
    return torch.addcmul(x_HTK * cos_TK, torch.cat((second, first), dim=-1), sin_TK)
