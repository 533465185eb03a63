"""A decoder-only language model in the layout of Llama (Touvron et al. 2023), on packed tokens.

Pre-norm layers, SwiGLU (Shazeer 2020), rotary positions (half-split pairs, angles in float32), no biases in the
products. Query, key and value lie in one matrix, gate and up in another. LayerNorm (with bias) in place of RMSNorm, and
learned positions in place of rotary ones, are settings.

Logits are not part of `forward`: it returns hidden states, and `seqassay.models.lm_loss` turns those into losses and
log-probabilities a few tokens at a time, so that the logits of a large vocabulary never fill the memory.

Shape letters: T tokens of a batch end to end, S sequences, N sequences that have equally many new tokens L, M tokens of
the longest of them so far, D hidden width, H heads, K head width, V vocabulary, C tokens a cache has room for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqassay.models.attention import Kernel, PackedLayout, attention, attention_over_past, choose_kernel
from seqassay.models.cores import encode_kept, run_on_cores
from seqassay.models.esm2 import rotate
from seqassay.models.linear import linear
from seqassay.models.lm_gradients import rotated_heads, trained_layer, trains_here
from seqassay.models.past import groups_over_past

Norm = Literal["rmsnorm", "layernorm"]
Positions = Literal["rotary", "learned"]
INITIAL_STD = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class CausalLmConfig:
    """Shape and settings of a model.

    Raises:
        ValueError: widths that don't go together.
    """

    vocab_size: int
    d_model: int
    n_layers: int
    n_heads: int
    d_ff: int
    context: int  # tokens that the model is meant to see at a time
    tied: bool = True  # the token table is also the output head
    norm: Norm = "rmsnorm"
    positions: Positions = "rotary"
    eps: float = 1e-5
    rotary_base: float = 10000.0

    def __post_init__(self) -> None:
        for name in ("vocab_size", "d_model", "n_layers", "n_heads", "d_ff", "context"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it has to be at least 1")
        if self.d_model % self.n_heads:
            raise ValueError(f"d_model {self.d_model} does not divide into {self.n_heads} heads")
        if self.positions == "rotary" and self.head_width % 2:
            raise ValueError(
                f"{self.n_heads} heads of d_model {self.d_model} are {self.head_width} wide; rotary positions need an "
                "even width"
            )

    @property
    def head_width(self) -> int:
        """Width of one head."""
        return self.d_model // self.n_heads


class KeyValueCache:
    """Keys and values of tokens that a model has read, for `CausalLm.extend`; one row a sequence.

    Attributes:
        n_tokens_S: tokens read of each sequence, ``int64 [S]`` on the host.
        keys, values: one tensor a layer, ``[S, H, C, K]``; zero where nothing was read.
    """

    def __init__(
        self,
        config: CausalLmConfig,
        n_sequences: int,
        capacity: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        shape = (n_sequences, config.n_heads, capacity, config.head_width)
        self.n_tokens_S = np.zeros(n_sequences, np.int64)
        # Zeros, not empty: masked scores of what was never written must not be NaN.
        self.keys = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.n_layers)]
        self.values = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.n_layers)]

    @property
    def capacity(self) -> int:
        """Tokens of a sequence that there is room for."""
        return self.keys[0].shape[2]

    def take(self, rows_S: list[int], *, capacity: int | None = None) -> KeyValueCache:
        """A copy of these rows, in this order, any of them several times: a shared prompt, or what isn't finished.

        Args:
            capacity: room of the copy; what was read has to fit.
        """
        room = capacity or self.capacity
        taken = object.__new__(KeyValueCache)
        taken.n_tokens_S = self.n_tokens_S[rows_S].copy()
        if len(rows_S) and int(taken.n_tokens_S.max()) > room:
            raise ValueError(f"{taken.n_tokens_S.max()} tokens don't fit into a capacity of {room}")
        kept = min(room, self.capacity)
        index_S = torch.tensor(rows_S, dtype=torch.long, device=self.keys[0].device)

        def copied(x_SHCK: Tensor) -> Tensor:
            return F.pad(x_SHCK[:, :, :kept].index_select(0, index_S), (0, 0, 0, room - kept))

        taken.keys, taken.values = [copied(x) for x in self.keys], [copied(x) for x in self.values]
        return taken


class CausalLmLayer(nn.Module):
    """One pre-norm layer: attention and gated feed-forward, each added to the residual stream."""

    def __init__(self, config: CausalLmConfig) -> None:
        super().__init__()
        d = config.d_model
        self.n_heads, self.d_ff = config.n_heads, config.d_ff
        self.attention_norm = make_norm(config)
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.out = nn.Linear(d, d, bias=False)
        self.ffn_norm = make_norm(config)
        self.gate_up = nn.Linear(d, 2 * config.d_ff, bias=False)
        self.down = nn.Linear(config.d_ff, d, bias=False)

    def heads(
        self, hidden_TD: Tensor, rotary: tuple[Tensor, Tensor] | None, kernel: Kernel
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries, rotated keys, and values: each ``[T, H, K]``."""
        qkv_TE = linear(self.attention_norm(hidden_TD), self.qkv.weight, None, plain=kernel == "exact")
        qkv_T3HK = qkv_TE.view(len(qkv_TE), 3, self.n_heads, -1)
        if rotary is None:
            return qkv_T3HK[:, 0], qkv_T3HK[:, 1], qkv_T3HK[:, 2]
        if kernel == "exact":
            rotated_2HTK = rotate(qkv_T3HK[:, :2].permute(1, 2, 0, 3), *rotary)
            return rotated_2HTK[0].transpose(0, 1), rotated_2HTK[1].transpose(0, 1), qkv_T3HK[:, 2]
        return rotated_heads(qkv_T3HK, *rotary)

    def trained(self, hidden_TD: Tensor, rotary: tuple[Tensor, Tensor], length: int) -> Tensor:
        """The residual stream after this layer, of sequences of one length, with the gradient of `trained_layer`."""
        norms = cast("tuple[nn.RMSNorm, nn.RMSNorm]", (self.attention_norm, self.ffn_norm))
        weights = (
            norms[0].weight, self.qkv.weight, self.out.weight, norms[1].weight, self.gate_up.weight, self.down.weight,
        )  # fmt: skip
        eps = cast("float", norms[0].eps)
        return trained_layer(hidden_TD, weights, rotary, n_heads=self.n_heads, length=length, eps=eps)

    def finish(self, hidden_TD: Tensor, mixed_THK: Tensor, kernel: Kernel, dropout: float) -> Tensor:
        """The residual stream after this layer, from what attention mixed."""
        plain = kernel == "exact"
        mixed_TD = mixed_THK.flatten(1)
        if dropout:
            hidden_TD = hidden_TD + F.dropout(F.linear(mixed_TD, self.out.weight), dropout)
            inner_TF = self.gated(self.ffn_norm(hidden_TD), plain=plain)
            return hidden_TD + F.dropout(F.linear(inner_TF, self.down.weight), dropout)
        hidden_TD = linear(mixed_TD, self.out.weight, None, then="add", other_TE=hidden_TD, plain=plain)
        inner_TF = self.gated(self.ffn_norm(hidden_TD), plain=plain)
        return linear(inner_TF, self.down.weight, None, then="add", other_TE=hidden_TD, plain=plain)

    def gated(self, x_TD: Tensor, *, plain: bool) -> Tensor:
        """SwiGLU: ``silu(gate) * up``, ``[T, F]``."""
        weight, d_ff = self.gate_up.weight, self.d_ff
        if torch.is_grad_enabled():
            return F.silu(F.linear(x_TD, weight[:d_ff])) * F.linear(x_TD, weight[d_ff:])
        gate_TF = F.silu(linear(x_TD, weight, None, rows=(0, d_ff), plain=plain), inplace=True)
        return linear(x_TD, weight, None, rows=(d_ff, 2 * d_ff), then="mul", other_TE=gate_TF, plain=plain)


class CausalLm(nn.Module):
    """The model; made without numbers worth having: see `initialise`, or load a checkpoint.

    Attributes:
        dropout: probability, in training mode, that a value of the embedding or of a layer's output is left out.
    """

    dropout = 0.0

    def __init__(self, config: CausalLmConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.embed_positions = nn.Embedding(config.context, config.d_model) if config.positions == "learned" else None
        self.layers = nn.ModuleList(CausalLmLayer(config) for _ in range(config.n_layers))
        self.final_norm = make_norm(config)
        self.head = None if config.tied else nn.Linear(config.d_model, config.vocab_size, bias=False)
        self._rotary_kept: tuple[Tensor, bool, tuple[Tensor, Tensor] | None] | None = None

    @property
    def head_weight_VD(self) -> Tensor:
        """The output head: the token table of a tied model."""
        return self.embed_tokens.weight if self.head is None else self.head.weight

    def forward(
        self, tokens_T: Tensor, layout: PackedLayout, *, exact: bool = False, kept_T: Tensor | None = None
    ) -> Tensor:
        """Hidden states after the final norm, ``[T, D]``; a token's depends on itself and those before it.

        Args:
            tokens_T: token ids of all sequences end to end.
            layout: where sequences begin.
            exact: take the plain operations and the plain attention kernel.
            kept_T: places of the tokens whose states are wanted, for inference on one micro-batch: only those are
                returned, and the last layer is not finished for the others.

        Raises:
            ValueError: a sequence longer than the context of a model with learned positions.
        """
        self._check_length(layout.max_length)
        kernel = self.kernel(exact=exact)
        if kept_T is not None:
            return encode_kept(partial(self._encode, kernel=kernel), tokens_T, layout, kept_T)
        if exact:
            return self._encode(tokens_T, layout, kernel=kernel)
        return run_on_cores(partial(self._encode, kernel=kernel), tokens_T, layout)

    def extend(
        self,
        tokens_T: Tensor,
        layout: PackedLayout,
        cache: KeyValueCache,
        *,
        rows_S: list[int] | None = None,
        exact: bool = False,
    ) -> Tensor:
        """Hidden states of new tokens, after those in the cache, which the new ones are added to; ``[T, D]``.

        An empty cache and whole prompts is a prefill; one token a sequence is a decoding step.

        Args:
            tokens_T: the new tokens of all sequences end to end, sequences by their number of new tokens.
            layout: of the new tokens.
            cache: what the model has read before; changed in place.
            rows_S: which row of the cache each sequence is (default: in order); none of them twice.
            exact: as in `forward`.

        Raises:
            ValueError: more tokens than the cache, or learned positions, have room for.
        """
        rows = np.arange(len(layout.lengths)) if rows_S is None else np.asarray(rows_S, np.int64)
        past_S = cache.n_tokens_S[rows]
        total_S = past_S + layout.lengths
        if total_S.max() > cache.capacity:
            raise ValueError(f"{total_S.max()} tokens don't fit into a cache for {cache.capacity}")
        self._check_length(int(total_S.max()))
        kernel = self.kernel(exact=exact)
        device = tokens_T.device
        positions_T = layout.positions_T + torch.from_numpy(np.repeat(past_S, layout.lengths)).to(device)
        hidden_TD = self._embed(tokens_T, positions_T)
        rotary = self._rotary(positions_T, int(total_S.max()))
        groups = groups_over_past(layout, rows, past_S, device)
        for number, layer in enumerate(cast("list[CausalLmLayer]", self.layers)):
            heads = layer.heads(hidden_TD, rotary, kernel)
            keys, values = cache.keys[number], cache.values[number]
            pieces = []
            for group in groups:
                q, k, v = (x[group.tokens].view(group.n, -1, *x.shape[1:]).transpose(1, 2) for x in heads)
                group.write(keys, k)
                group.write(values, v)
                k, v = group.read(keys, q.dtype), group.read(values, q.dtype)
                mixed_NHLK = attention_over_past(q, k, v, group.seen, kernel=kernel)
                pieces.append(mixed_NHLK.transpose(1, 2).flatten(0, 1))
            hidden_TD = layer.finish(hidden_TD, torch.cat(pieces), kernel, 0.0)
        cache.n_tokens_S[rows] = total_S
        normed_TD: Tensor = self.final_norm(hidden_TD)
        return normed_TD

    def logits(self, hidden_TD: Tensor) -> Tensor:
        """Float32 logits ``[T, V]`` of a few hidden states, such as the last of each sequence."""
        return F.linear(hidden_TD, self.head_weight_VD).float()

    def kernel(self, *, exact: bool = False) -> Kernel:
        """The attention kernel for the device, and the number format that products have there now."""
        weight = self.embed_tokens.weight
        kind = weight.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        return choose_kernel(weight.device, dtype, alibi=False, exact=exact, head_width=self.config.head_width)

    def flops(self, lengths: list[int]) -> int:
        """Floating-point operations of a forward pass's matrix products, head included (2·m·k·n each).

        Causal attention counts the scores that are used: half of the square.
        """
        c = self.config
        per_token = c.n_layers * (8 * c.d_model**2 + 6 * c.d_model * c.d_ff) + 2 * c.d_model * c.vocab_size
        attention_products = sum(c.n_layers * 2 * length * (length + 1) * c.d_model for length in lengths)
        return per_token * sum(lengths) + attention_products

    def _encode(
        self, tokens_T: Tensor, layout: PackedLayout, kept_T: Tensor | None = None, *, kernel: Kernel
    ) -> Tensor:
        hidden_TD = self._embed(tokens_T, layout.positions_T)
        rotary = self._rotary_of(layout)
        dropout = self.dropout if self.training else 0.0
        if dropout:
            hidden_TD = F.dropout(hidden_TD, dropout)
        layers = cast("list[CausalLmLayer]", self.layers)
        one_length = len(layout.groups) == 1 and not dropout and self.config.norm == "rmsnorm"
        if rotary is not None and one_length and kernel != "exact" and trains_here(hidden_TD):
            for layer in layers:
                hidden_TD = layer.trained(hidden_TD, rotary, layout.max_length)
            return cast("Tensor", self.final_norm(hidden_TD))
        for number, layer in enumerate(layers, 1):
            mixed_THK = attention(*layer.heads(hidden_TD, rotary, kernel), layout, kernel=kernel, causal=True)
            if kept_T is not None and number == len(layers):  # few rows, of any number: no kernel is made for them
                hidden_TD = layer.finish(hidden_TD[kept_T], mixed_THK[kept_T], "exact", dropout)
            else:
                hidden_TD = layer.finish(hidden_TD, mixed_THK, kernel, dropout)
        normed_TD: Tensor = self.final_norm(hidden_TD)
        return normed_TD

    def _embed(self, tokens_T: Tensor, positions_T: Tensor) -> Tensor:
        hidden_TD: Tensor = self.embed_tokens(tokens_T)
        if self.embed_positions is None:
            return hidden_TD
        # The filler that `run_on_cores` puts in, and nothing else, may be longer than the context.
        place_TD: Tensor = self.embed_positions(positions_T.clamp(max=self.config.context - 1))
        return hidden_TD + place_TD

    def _rotary_of(self, layout: PackedLayout) -> tuple[Tensor, Tensor] | None:
        """As `_rotary`; in training made once, as all batches have one layout there."""
        if not torch.is_grad_enabled():
            return self._rotary(layout.positions_T, layout.max_length)
        key = (layout.positions_T, torch.is_autocast_enabled(layout.positions_T.device.type))
        if self._rotary_kept is None or self._rotary_kept[0] is not key[0] or self._rotary_kept[1] != key[1]:
            self._rotary_kept = (*key, self._rotary(layout.positions_T, layout.max_length))
        return self._rotary_kept[2]

    def _rotary(self, positions_T: Tensor, n_positions: int) -> tuple[Tensor, Tensor] | None:
        """Cosines and signed sines for `rotate`, ``[T, K]``; angles in float32."""
        if self.config.positions != "rotary":
            return None
        weight, width = self.embed_tokens.weight, self.config.head_width
        kind = weight.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        powers = torch.arange(0, width, 2, device=weight.device, dtype=torch.float32) / width
        # of every position once, or of each token, whichever are fewer: in decoding the tokens
        few = len(positions_T) < n_positions
        places = positions_T if few else torch.arange(n_positions, device=weight.device)
        angles = places.float()[:, None] / self.config.rotary_base**powers
        cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
        cos_MK, sin_MK = torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)
        return (cos_MK, sin_MK) if few else (cos_MK[positions_T], sin_MK[positions_T])

    def _check_length(self, length: int) -> None:
        if self.embed_positions is not None and length > self.config.context:
            raise ValueError(f"a sequence of {length} tokens; learned positions end at {self.config.context}")


def make_norm(config: CausalLmConfig) -> nn.Module:
    """RMSNorm, or LayerNorm with bias."""
    if config.norm == "rmsnorm":
        return nn.RMSNorm(config.d_model, eps=config.eps)
    return nn.LayerNorm(config.d_model, eps=config.eps)


def initialise(model: CausalLm, seed: int) -> CausalLm:
    """Fill in the first weights: the same numbers for a shape and seed, whatever else drew random numbers.

    Normal with standard deviation 0.02; matrices that write into the residual stream are scaled by
    ``1 / sqrt(2 · layers)`` (Radford et al. 2019); norms are 1, their biases 0. Made on the CPU, then copied.
    """
    random = torch.Generator().manual_seed(seed)
    residual_std = INITIAL_STD / (2 * model.config.n_layers) ** 0.5
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)
                continue
            std = residual_std if name.endswith((".out.weight", ".down.weight")) else INITIAL_STD
            parameter.copy_(torch.empty(parameter.shape).normal_(0.0, std, generator=random))
    return model
