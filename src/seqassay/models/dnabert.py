"""DNABERT-S (Zhou et al. 2024), a DNABERT-2: a post-norm nucleotide encoder with ALiBi and a gated feed-forward.

Differs from the textbook BERT: no position embeddings (symmetric ALiBi instead), query, key and value in one matrix,
and a feed-forward of ``GELU(first half) × second half``. Token type 0 is the only one in use and is added to the word
table when weights are loaded.

Shape letters: T tokens of a batch end to end, D hidden width, H heads, K head width.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from seqassay.models.attention import Kernel, PackedLayout, alibi_biases, alibi_slopes, attention, choose_kernel
from seqassay.models.cores import run_on_cores
from seqassay.models.linear import linear


@dataclass(frozen=True, slots=True)
class DnabertConfig:
    """Shape of a DNABERT-S class encoder; the defaults are the published one."""

    vocab_size: int = 4096
    d_model: int = 768
    n_layers: int = 12
    n_heads: int = 12
    d_ff: int = 3072
    eps: float = 1e-12

    def __post_init__(self) -> None:
        if self.d_model % self.n_heads:
            raise ValueError(f"d_model {self.d_model} must be a multiple of n_heads {self.n_heads}")


class DnabertLayer(nn.Module):
    """One post-norm layer: attention and gated feed-forward, each added to its input and normalised."""

    def __init__(self, config: DnabertConfig) -> None:
        super().__init__()
        d = config.d_model
        self.n_heads = config.n_heads
        self.qkv = nn.Linear(d, 3 * d)
        self.out = nn.Linear(d, d)
        self.attention_norm = nn.LayerNorm(d, eps=config.eps)
        self.gated = nn.Linear(d, 2 * config.d_ff, bias=False)
        self.wo = nn.Linear(config.d_ff, d)
        self.ffn_norm = nn.LayerNorm(d, eps=config.eps)

    def forward(self, hidden_TD: Tensor, layout: PackedLayout, biases: list[Tensor], kernel: Kernel) -> Tensor:
        """Hidden states in, hidden states out."""
        plain = kernel == "exact"
        qkv_TE = linear(hidden_TD, self.qkv.weight, self.qkv.bias, plain=plain)
        q_THK, k_THK, v_THK = qkv_TE.view(len(qkv_TE), 3, self.n_heads, -1).unbind(1)
        mixed_THK = attention(q_THK, k_THK, v_THK, layout, kernel=kernel, biases=biases)
        mixed_TD = linear(
            mixed_THK.flatten(1), self.out.weight, self.out.bias, then="add", other_TE=hidden_TD, plain=plain
        )
        hidden_TD = self.attention_norm(mixed_TD)
        # Two products over the halves of one matrix: the gate comes out of the first with its GELU, and the second
        # is multiplied by it as it is made.
        d_ff = self.wo.in_features
        gate_TF = linear(hidden_TD, self.gated.weight, None, rows=(0, d_ff), then="gelu", plain=plain)
        inner_TF = linear(
            hidden_TD, self.gated.weight, None, rows=(d_ff, 2 * d_ff), then="mul", other_TE=gate_TF, plain=plain
        )
        normed_TD: Tensor = self.ffn_norm(
            linear(inner_TF, self.wo.weight, self.wo.bias, then="add", other_TE=hidden_TD, plain=plain)
        )
        return normed_TD


class Dnabert(nn.Module):
    """The encoder without pooler and language-model head.

    Attributes:
        frozen_layers: how many of the first layers are computed without gradients, whatever the mode.
    """

    frozen_layers = 0
    slopes_H: Tensor

    def __init__(self, config: DnabertConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = nn.Embedding(config.vocab_size, config.d_model)
        self.embeddings_norm = nn.LayerNorm(config.d_model, eps=config.eps)
        self.layers = nn.ModuleList(DnabertLayer(config) for _ in range(config.n_layers))
        self.register_buffer("slopes_H", torch.tensor(alibi_slopes(config.n_heads)), persistent=False)

    def forward(self, tokens_T: Tensor, layout: PackedLayout, *, exact: bool = False) -> Tensor:
        """Last hidden states, ``[T, D]``.

        Args:
            tokens_T: token ids of all sequences end to end, [CLS] and [SEP] included.
            layout: where sequences begin.
            exact: take the plain attention kernel.
        """
        weight = self.embeddings.weight
        kernel = choose_kernel(weight.device, weight.dtype, alibi=True, exact=exact)
        if exact:
            return self._encode(tokens_T, layout, kernel)
        return run_on_cores(partial(self._encode, kernel=kernel), tokens_T, layout)

    def _encode(self, tokens_T: Tensor, layout: PackedLayout, kernel: Kernel) -> Tensor:
        hidden_TD: Tensor = self.embeddings_norm(self.embeddings(tokens_T))
        biases = alibi_biases(self.slopes_H, layout, hidden_TD.dtype)
        with_gradients = torch.is_grad_enabled()
        for number, layer in enumerate(self.layers):
            with torch.set_grad_enabled(with_gradients and number >= self.frozen_layers):
                hidden_TD = layer(hidden_TD, layout, biases, kernel)
        return hidden_TD

    def flops(self, lengths: list[int]) -> int:
        """Floating-point operations of the matrix products for sequences of these token lengths (2·m·k·n each)."""
        c = self.config
        per_token = c.n_layers * (8 * c.d_model**2 + 6 * c.d_model * c.d_ff)
        attention_products = sum(c.n_layers * 4 * length**2 * c.d_model for length in lengths)
        return per_token * sum(lengths) + attention_products
