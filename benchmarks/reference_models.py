"""The reference procedures that tests and benchmarks compare with, each stated as its authors run it.

``PlainDnabert`` is an independent statement of DNABERT-S's plain float32 path: one sequence at a time, textbook
operations, nothing shared with `seqassay.models`. ``fair_esm_means`` runs the real fair-esm package the way its
extraction script does: batches of 2,048 tokens, padded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from seqassay.prove.pipeline.reference_dnabert import alibi_slopes


class PlainDnabert:
    """DNABERT-S from a published-layout state dict (names without ``bert.``), one sequence at a time in float32."""

    def __init__(self, state: dict[str, Tensor], *, n_heads: int, eps: float = 1e-12) -> None:
        self.state, self.n_heads, self.eps = {k: v.float() for k, v in state.items()}, n_heads, eps
        self.n_layers = 1 + max(int(k.split(".")[2]) for k in state if k.startswith("encoder.layer."))

    def hidden(self, ids: Sequence[int]) -> Tensor:
        """Last hidden states of one sequence of token ids, special tokens included: ``[L, D]``."""
        s = self.state
        x = s["embeddings.word_embeddings.weight"][list(ids)] + s["embeddings.token_type_embeddings.weight"][0]
        x = self._norm(x, "embeddings.LayerNorm")
        bias = self._bias(len(ids))
        for n in range(self.n_layers):
            x = self._layer(x, f"encoder.layer.{n}", bias)
        return x

    def mean(self, ids: Sequence[int]) -> Tensor:
        """The reference's embedding: the mean over all positions."""
        return self.hidden(ids).mean(dim=0)

    def _layer(self, x: Tensor, name: str, bias: Tensor) -> Tensor:
        s, (length, d) = self.state, x.shape
        qkv = F.linear(x, s[f"{name}.attention.self.Wqkv.weight"], s[f"{name}.attention.self.Wqkv.bias"])
        q, k, v = qkv.view(length, 3, self.n_heads, d // self.n_heads).permute(1, 2, 0, 3)
        probabilities = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(d // self.n_heads) + bias, dim=-1)
        mixed = (probabilities @ v).transpose(0, 1).reshape(length, d)
        dense = f"{name}.attention.output.dense"
        x = self._norm(
            F.linear(mixed, s[f"{dense}.weight"], s[f"{dense}.bias"]) + x, f"{name}.attention.output.LayerNorm"
        )
        gated = F.linear(x, s[f"{name}.mlp.gated_layers.weight"])
        half = gated.shape[-1] // 2
        inner = F.gelu(gated[:, :half]) * gated[:, half:]
        out = F.linear(inner, s[f"{name}.mlp.wo.weight"], s[f"{name}.mlp.wo.bias"])
        return self._norm(out + x, f"{name}.mlp.layernorm")

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.state[f"{name}.weight"], self.state[f"{name}.bias"], self.eps)

    def _bias(self, length: int) -> Tensor:
        slopes = torch.tensor(alibi_slopes(self.n_heads)).view(-1, 1, 1)
        place = torch.arange(length)
        return -slopes * (place[None] - place[:, None]).abs().float()


def random_dnabert_state(
    *, vocab_size: int = 4096, d_model: int = 768, n_layers: int = 12, d_ff: int = 3072, seed: int = 0
) -> dict[str, Tensor]:
    """Random weights under DNABERT-S's published names, spread so that attention and gates matter."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int, std: float) -> Tensor:
        return torch.randn(*shape, generator=g) * std

    def norm(name: str) -> dict[str, Tensor]:
        return {f"{name}.weight": 1 + normal(d_model, std=0.1), f"{name}.bias": normal(d_model, std=0.1)}

    state = {
        "embeddings.word_embeddings.weight": normal(vocab_size, d_model, std=0.5),
        "embeddings.token_type_embeddings.weight": normal(2, d_model, std=0.5),
        **norm("embeddings.LayerNorm"),
    }
    for n in range(n_layers):
        name = f"encoder.layer.{n}"
        state |= {
            f"{name}.attention.self.Wqkv.weight": normal(3 * d_model, d_model, std=1.5 * d_model**-0.5),
            f"{name}.attention.self.Wqkv.bias": normal(3 * d_model, std=0.1),
            f"{name}.attention.output.dense.weight": normal(d_model, d_model, std=d_model**-0.5),
            f"{name}.attention.output.dense.bias": normal(d_model, std=0.1),
            f"{name}.mlp.gated_layers.weight": normal(2 * d_ff, d_model, std=d_model**-0.5),
            f"{name}.mlp.wo.weight": normal(d_model, d_ff, std=d_ff**-0.5),
            f"{name}.mlp.wo.bias": normal(d_model, std=0.1),
            **norm(f"{name}.attention.output.LayerNorm"),
            **norm(f"{name}.mlp.layernorm"),
        }
    return state


def fair_esm_means(
    model: torch.nn.Module, alphabet: object, proteins: Sequence[str], *, tokens_per_batch: int = 2048
) -> Tensor:
    """Means over residues of the last layer by fair-esm, as its ``extract.py`` does it: ``[N, D]`` in input order."""
    from esm import FastaBatchedDataset

    dataset = FastaBatchedDataset([str(i) for i in range(len(proteins))], list(proteins))
    batches = dataset.get_batch_indices(tokens_per_batch, extra_toks_per_seq=1)
    loader = torch.utils.data.DataLoader(
        dataset,
        collate_fn=alphabet.get_batch_converter(),
        batch_sampler=batches,  # type: ignore[attr-defined]
    )
    means: dict[int, Tensor] = {}
    last = model.num_layers
    with torch.no_grad():
        for labels, strings, tokens in loader:
            hidden = model(tokens, repr_layers=[last], return_contacts=False)["representations"][last]
            for i, label in enumerate(labels):
                means[int(label)] = hidden[i, 1 : len(strings[i]) + 1].mean(0)
    return torch.stack([means[i] for i in range(len(proteins))])
