"""Published ESM-2 checkpoints in every file layout: the same tensors whatever the file."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from weight_support import (
    N_HEADS,
    N_LAYERS,
    TOKEN_TABLE,
    WIDTH,
    assert_same,
    base_state,
    expected_from,
    write_shards,
)

from seqassay.errors import ModelError
from seqassay.models.esm2 import Esm2, Esm2Config
from seqassay.models.weights import (
    detect_encoder_class,
    load_encoder_tensors,
    load_esm2,
    save_esm2,
)


def hf_safetensors(folder: Path, model: Any) -> None:
    model.save_pretrained(folder)


def hf_safetensors_sharded(folder: Path, model: Any) -> None:
    model.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2


def hf_base_model(folder: Path, model: Any) -> None:
    model.esm.save_pretrained(folder)  # no prefix; contact head


def hf_bin(folder: Path, model: Any) -> None:
    torch.save(model.state_dict(), folder / "pytorch_model.bin")


def hf_bin_old_format(folder: Path, model: Any) -> None:
    torch.save(model.state_dict(), folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)


def hf_bin_sharded(folder: Path, model: Any) -> None:
    write_shards(folder, model.state_dict(), safe=False)


def hf_with_old_leftovers(folder: Path, model: Any) -> None:
    state = model.state_dict()
    state["esm.embeddings.position_ids"] = torch.arange(1026)[None]
    state["esm.embeddings.position_embeddings.weight"] = torch.zeros(1026, WIDTH)
    state["esm.encoder.layer.0.attention.self.rotary_embeddings.inv_freq"] = torch.ones(4)
    state["lm_head.decoder.bias"] = torch.zeros(33)
    torch.save(state, folder / "pytorch_model.bin")


LAYOUTS: list[Callable[[Path, Any], None]] = [
    hf_safetensors,
    hf_safetensors_sharded,
    hf_base_model,
    hf_bin,
    hf_bin_old_format,
    hf_bin_sharded,
    hf_with_old_leftovers,
]


@pytest.mark.parametrize("write", LAYOUTS, ids=lambda write: write.__name__)
def test_every_hugging_face_layout_gives_the_same_model(
    write: Callable[[Path, Any], None], masked_lm: Any, tmp_path: Path
) -> None:
    masked_lm.config.save_pretrained(tmp_path)
    write(tmp_path, masked_lm)
    model = load_esm2(tmp_path)
    assert not model.training
    assert (model.config.n_layers, model.config.d_model, model.config.n_heads) == (N_LAYERS, WIDTH, N_HEADS)
    assert_same(model, expected_from(base_state(masked_lm)))
    assert detect_encoder_class(tmp_path) == "esm2"


def fair_state(masked_lm: Any, prefix: str) -> dict[str, Tensor]:
    """The same weights under fair-esm's names."""
    esm = pytest.importorskip("esm", reason="the reference for fair-esm's layout")
    reference = esm.model.esm2.ESM2(N_LAYERS, WIDTH, N_HEADS)
    state = reference.state_dict()  # brings the leftovers: rotary tables, contact head, language-model head
    ours = base_state(masked_lm)
    state["embed_tokens.weight"] = ours["embeddings.word_embeddings.weight"]
    renamed = {
        "self_attn.q_proj": "attention.self.query",
        "self_attn.k_proj": "attention.self.key",
        "self_attn.v_proj": "attention.self.value",
        "self_attn.out_proj": "attention.output.dense",
        "self_attn_layer_norm": "attention.LayerNorm",
        "fc1": "intermediate.dense",
        "fc2": "output.dense",
        "final_layer_norm": "LayerNorm",
    }
    for kind in ("weight", "bias"):
        state[f"emb_layer_norm_after.{kind}"] = ours[f"encoder.emb_layer_norm_after.{kind}"]
        for n in range(N_LAYERS):
            for fair, hf in renamed.items():
                state[f"layers.{n}.{fair}.{kind}"] = ours[f"encoder.layer.{n}.{hf}.{kind}"]
    reference.load_state_dict(state)
    return {(name if name.startswith("contact") else prefix + name): t.clone() for name, t in state.items()}


def fair_cfg(**changes: object) -> dict[str, object]:
    settings = {
        "encoder_layers": N_LAYERS,
        "encoder_embed_dim": WIDTH,
        "encoder_attention_heads": N_HEADS,
        "token_dropout": True,
    }
    return {"model": argparse.Namespace(**{**settings, **changes})}


@pytest.mark.parametrize("prefix", ["", "encoder.", "encoder.sentence_encoder."])
@pytest.mark.parametrize("as_folder", [False, True], ids=["file", "folder"])
def test_fair_esm_files(prefix: str, as_folder: bool, masked_lm: Any, tmp_path: Path) -> None:
    path = tmp_path / "esm2_t3_tiny_UR50D.pt"
    torch.save({"cfg": fair_cfg(), "model": fair_state(masked_lm, prefix), "args": None}, path)
    contact = {"model": {"contact_head.regression.weight": torch.ones(1, 12)}}
    torch.save(contact, tmp_path / "esm2_t3_tiny_UR50D-contact-regression.pt")
    model = load_esm2(tmp_path if as_folder else path)
    assert model.config.n_heads == N_HEADS
    assert_same(model, expected_from(base_state(masked_lm)))


def test_fair_esm_half_precision_is_widened_before_the_table_is_scaled(masked_lm: Any, tmp_path: Path) -> None:
    state = {name: tensor.half() for name, tensor in fair_state(masked_lm, "encoder.sentence_encoder.").items()}
    torch.save({"cfg": fair_cfg(), "model": state}, tmp_path / "half.pt")
    rounded = {name: tensor.half().float() for name, tensor in base_state(masked_lm).items()}
    assert_same(load_esm2(tmp_path / "half.pt"), expected_from(rounded))


def test_token_dropout_off_means_no_scaling(masked_lm: Any, tmp_path: Path) -> None:
    torch.save({"cfg": fair_cfg(token_dropout=False), "model": fair_state(masked_lm, "")}, tmp_path / "esm2.pt")
    table = load_esm2(tmp_path / "esm2.pt").state_dict()["embed_tokens.weight"]
    assert torch.equal(table, base_state(masked_lm)["embeddings.word_embeddings.weight"])


def test_a_fair_esm_file_beside_another_model_s_config_json(masked_lm: Any, tmp_path: Path) -> None:
    torch.save({"cfg": fair_cfg(), "model": fair_state(masked_lm, "")}, tmp_path / "esm2.pt")
    (tmp_path / "config.json").write_text('{"num_hidden_layers": 99}')
    assert load_esm2(tmp_path / "esm2.pt").config.n_layers == N_LAYERS


def test_published_sizes_need_no_config(tmp_path: Path) -> None:
    model = Esm2(Esm2Config(n_layers=6, d_model=320, n_heads=20, d_ff=1280))
    save_esm2(model, tmp_path, dtype=torch.float16)
    (tmp_path / "config.json").unlink()
    assert load_esm2(tmp_path).config.n_heads == 20


def test_without_config_an_unknown_size_says_what_is_missing(published: Path, tmp_path: Path) -> None:
    shutil.copy(published / "model.safetensors", tmp_path)
    with pytest.raises(ModelError, match="num_attention_heads is not known") as caught:
        load_esm2(tmp_path)
    assert "config.json" in caught.value.hint


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_target_precision(dtype: torch.dtype, published: Path, masked_lm: Any) -> None:
    model = load_esm2(published, dtype)
    expected = {name: tensor.to(dtype) for name, tensor in expected_from(base_state(masked_lm)).items()}
    assert_same(model, expected)


def test_loaded_weights_do_not_depend_on_the_file(published: Path, tmp_path: Path, masked_lm: Any) -> None:
    folder = shutil.copytree(published, tmp_path / "copy")
    model, tensors = load_esm2(folder), load_encoder_tensors(folder)
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(0)
        file.write(bytes((folder / "model.safetensors").stat().st_size))
    assert_same(model, expected_from(base_state(masked_lm)))
    assert torch.equal(tensors[TOKEN_TABLE], masked_lm.state_dict()[TOKEN_TABLE])
