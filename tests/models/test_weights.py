"""Weights written and read again, by us and by the reference implementation; DNABERT-S as it is published."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from weight_support import (
    N_HEADS,
    N_LAYERS,
    WIDTH,
    assert_same,
    randomised,
    small_dnabert,
    write_shards,
)

from seqassay.models.esm2 import Esm2, Esm2Config
from seqassay.models.head import ClassifierHead
from seqassay.models.weights import (
    describe_encoder,
    detect_encoder_class,
    load_dnabert,
    load_esm2,
    load_head,
    save_dnabert,
    save_esm2,
    save_head,
)


def test_saved_esm2_is_read_by_transformers_and_by_us(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="the reference for Hugging Face layouts")
    model = randomised(Esm2(Esm2Config(n_layers=2, d_model=WIDTH, n_heads=N_HEADS, d_ff=4 * WIDTH)))
    save_esm2(model, tmp_path)
    theirs = transformers.EsmModel.from_pretrained(tmp_path, add_pooling_layer=False)
    table = theirs.embeddings.word_embeddings.weight
    torch.testing.assert_close(table * 0.88, model.state_dict()["embed_tokens.weight"], atol=1e-6, rtol=1e-6)
    ours = load_esm2(tmp_path).state_dict()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(ours[name], tensor, atol=1e-6, rtol=1e-6)
    assert not list(tmp_path.glob(".*"))


def test_saved_dnabert_comes_back_bit_for_bit(tmp_path: Path) -> None:
    model = small_dnabert()
    save_dnabert(model, tmp_path)
    loaded = load_dnabert(tmp_path)
    assert loaded.config == model.config
    assert_same(loaded, model.state_dict())
    assert detect_encoder_class(tmp_path) == "dnabert"


@pytest.mark.parametrize("prefix", ["", "bert."])
@pytest.mark.parametrize("sharded", [False, True], ids=["one-file", "shards"])
def test_dnabert_as_published(prefix: str, sharded: bool, tmp_path: Path) -> None:
    """pytorch_model.bin, with token types, pooler and masked-LM head; a config.json that asks for remote code."""
    model = small_dnabert()
    save_dnabert(model, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    token_types = torch.randn(2, 24)
    state["embeddings.token_type_embeddings.weight"] = token_types
    state["pooler.dense.weight"], state["pooler.dense.bias"] = torch.randn(24, 24), torch.randn(24)
    state["embeddings.position_ids"] = torch.arange(512)[None]
    state = {f"{prefix}{name}": tensor for name, tensor in state.items()}
    state["cls.predictions.transform.dense.weight"] = torch.randn(24, 24)
    config = json.loads((tmp_path / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "bert_layers.BertModel"}
    config["position_embedding_type"] = "absolute"  # as published, and untrue
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "bert_layers.py").write_text("raise SystemExit('remote code ran')")
    if sharded:
        write_shards(tmp_path, state, safe=False)
    else:
        torch.save(state, tmp_path / "pytorch_model.bin")
    expected = model.state_dict()
    expected["embeddings.weight"] = expected["embeddings.weight"] + token_types[0]
    assert_same(load_dnabert(tmp_path), expected)


def test_describe_reads_shapes_only(published: Path, tmp_path: Path) -> None:
    shape = describe_encoder(published)
    assert (shape.encoder_class, shape.n_layers, shape.d_model, shape.n_heads) == ("esm2", N_LAYERS, WIDTH, N_HEADS)
    assert shape.n_parameters == sum(parameter.numel() for parameter in load_esm2(published).parameters())
    assert shape.size_bytes == (published / "model.safetensors").stat().st_size


def test_head_comes_back_bit_for_bit(tmp_path: Path) -> None:
    head = ClassifierHead(20)
    head.bn1.running_mean.normal_()
    save_head(head, tmp_path / "head.safetensors")
    loaded = load_head(tmp_path / "head.safetensors")
    assert not loaded.training
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in head.state_dict().items())


def test_saved_tensors_are_as_readable_as_other_files(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    save_head(ClassifierHead(4, 3), tmp_path / "head.safetensors")
    assert (tmp_path / "head.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode
