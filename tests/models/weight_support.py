"""Tiny models under their published names, and what ours must hold when they were read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from seqassay.models.dnabert import Dnabert, DnabertConfig
from seqassay.models.esm2 import Esm2

N_LAYERS, WIDTH, N_HEADS = 3, 32, 4
TOKEN_TABLE = "esm.embeddings.word_embeddings.weight"


def hf_config() -> Any:
    transformers = pytest.importorskip("transformers", reason="the reference for Hugging Face layouts")
    return transformers.EsmConfig(
        vocab_size=33,
        hidden_size=WIDTH,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=N_HEADS,
        intermediate_size=4 * WIDTH,
        position_embedding_type="rotary",
        token_dropout=True,
        emb_layer_norm_before=False,
        pad_token_id=1,
        mask_token_id=32,
        layer_norm_eps=1e-5,
        max_position_embeddings=1026,
    )


def randomised(model: Any) -> Any:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model.eval()


def untied_state(masked_lm: Any) -> dict[str, Tensor]:
    """Published files hold the token table once, not again as the decoder's."""
    return {name: t.clone() for name, t in masked_lm.state_dict().items() if name != "lm_head.decoder.weight"}


def expected_from(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors, put together by hand from the published ones."""
    ours = {"embed_tokens.weight": state["embeddings.word_embeddings.weight"] * 0.88}
    for kind in ("weight", "bias"):
        ours[f"final_norm.{kind}"] = state[f"encoder.emb_layer_norm_after.{kind}"]
        for n in range(N_LAYERS):
            layer = f"encoder.layer.{n}."
            parts = [state[f"{layer}attention.self.{name}.{kind}"] for name in ("query", "key", "value")]
            ours[f"layers.{n}.qkv.{kind}"] = torch.cat(parts)
            ours[f"layers.{n}.out.{kind}"] = state[f"{layer}attention.output.dense.{kind}"]
            ours[f"layers.{n}.attention_norm.{kind}"] = state[f"{layer}attention.LayerNorm.{kind}"]
            ours[f"layers.{n}.ffn_norm.{kind}"] = state[f"{layer}LayerNorm.{kind}"]
            ours[f"layers.{n}.fc1.{kind}"] = state[f"{layer}intermediate.dense.{kind}"]
            ours[f"layers.{n}.fc2.{kind}"] = state[f"{layer}output.dense.{kind}"]
    return ours


def base_state(masked_lm: Any) -> dict[str, Tensor]:
    state = masked_lm.state_dict()
    return {name.removeprefix("esm."): tensor.clone() for name, tensor in state.items()}


def assert_same(model: Esm2 | Dnabert, expected: dict[str, Tensor]) -> None:
    state = model.state_dict()
    assert state.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(state[name], tensor), name


def write_shards(folder: Path, state: dict[str, Tensor], *, safe: bool, n_shards: int = 3) -> None:
    names = list(state)
    weight_map = {}
    stem, suffix = ("model", "safetensors") if safe else ("pytorch_model", "bin")
    for shard in range(n_shards):
        file = f"{stem}-{shard + 1:05d}-of-{n_shards:05d}.{suffix}"
        part = {name: state[name].clone() for name in names[shard::n_shards]}
        weight_map.update(dict.fromkeys(part, file))
        if safe:
            save_file(part, folder / file)
        else:
            torch.save(part, folder / file)
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def small_dnabert() -> Dnabert:
    return randomised(Dnabert(DnabertConfig(vocab_size=48, d_model=24, n_layers=2, n_heads=3, d_ff=40)))
