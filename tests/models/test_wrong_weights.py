"""Files that are no weights, damaged ones, and tensors or settings of another architecture: exact errors."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from weight_support import (
    TOKEN_TABLE,
    WIDTH,
    assert_same,
    base_state,
    expected_from,
    small_dnabert,
    untied_state,
)

from seqassay.errors import ModelError
from seqassay.models.weights import (
    detect_encoder_class,
    load_dnabert,
    load_esm2,
    save_dnabert,
)


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")


QUERY = "esm.encoder.layer.1.attention.self.query.weight"


def drop_query(state: dict[str, Tensor]) -> None:
    del state[QUERY]


def add_unknown(state: dict[str, Tensor]) -> None:
    state["esm.encoder.layer.0.adapter.weight"] = torch.ones(2)


def extra_layer(state: dict[str, Tensor]) -> None:
    state["esm.encoder.layer.3.LayerNorm.weight"] = torch.ones(WIDTH)


def wrong_shape(state: dict[str, Tensor]) -> None:
    state[QUERY] = torch.ones(WIDTH, WIDTH - 1)


def a_nan(state: dict[str, Tensor]) -> None:
    state[QUERY][3, 4] = float("nan")


def an_infinity(state: dict[str, Tensor]) -> None:
    state["esm.encoder.emb_layer_norm_after.bias"][0] = float("inf")


def integers(state: dict[str, Tensor]) -> None:
    state[QUERY] = state[QUERY].int()


def twice(state: dict[str, Tensor]) -> None:
    state[QUERY.removeprefix("esm.")] = state[QUERY].clone()


def wrong_vocabulary(state: dict[str, Tensor]) -> None:
    state[TOKEN_TABLE] = torch.ones(30, WIDTH)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_query, r"tensor encoder\.layer\.1\.attention\.self\.query\.weight is missing"),
        (add_unknown, r"model\.safetensors: unknown tensor encoder\.layer\.0\.adapter\.weight"),
        (extra_layer, r"unknown tensor encoder\.layer\.3\.LayerNorm\.weight"),
        (wrong_shape, r"layer\.1\.attention\.self\.query\.weight has shape \[32, 31\], expected \[32, 32\]"),
        (a_nan, r"model\.safetensors: tensor esm\..*query\.weight holds NaN"),
        (an_infinity, r"emb_layer_norm_after\.bias holds NaN or infinite"),
        (integers, r"query\.weight is int32, not floating point"),
        (twice, r"there twice.*query\.weight"),
        (wrong_vocabulary, r"has 30 rows; ESM-2 has 33"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_wrong_tensors_are_named(
    change: Callable[[dict[str, Tensor]], None], message: str, published: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(published, tmp_path / "copy")
    rewrite(folder, change)
    with pytest.raises(ModelError, match=message) as caught:
        load_esm2(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("position_embedding_type", "absolute"),
        ("emb_layer_norm_before", True),
        ("hidden_act", "relu"),
        ("layer_norm_eps", 1e-12),
        ("num_attention_heads", 5),
        ("num_hidden_layers", 0),
        ("num_hidden_layers", "3"),
        ("num_hidden_layers", 2),
        ("hidden_size", 64),
        ("intermediate_size", 64),
    ],
)
def test_a_config_that_does_not_fit_is_refused(key: str, value: object, published: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(published, tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(ModelError):
        load_esm2(folder)


def test_the_other_class_is_refused(published: Path, tmp_path: Path) -> None:
    save_dnabert(small_dnabert(), tmp_path)
    with pytest.raises(ModelError, match="holds a DNABERT, not an ESM-2"):
        load_esm2(tmp_path)
    with pytest.raises(ModelError, match="holds an ESM-2, not a DNABERT"):
        load_dnabert(published)


def test_some_other_model_is_refused(tmp_path: Path) -> None:
    save_file({"wte.weight": torch.ones(3, 3)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"neither an ESM-2 nor a DNABERT.*wte\.weight"):
        detect_encoder_class(tmp_path)


LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 31380880\n"


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "esm2.pt"])
@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (LFS_POINTER, "Git LFS pointer", "git lfs pull"),
        (b"<!DOCTYPE html>\n<html><body>Sign in</body></html>", "web page", "fetch the file itself"),
        (b"  <html>404</html>", "web page", "fetch the file itself"),
        (b"", "is empty", "fetch it again"),
        (b"\x00\x01rubbish" * 40, "not a readable weight file", "fetch it again"),
        (b"PK\x03\x04" + b"rubbish" * 40, "not a readable weight file", "fetch it again"),
        (struct.pack("<Q", 2**62) + b"{}", "not a readable weight file", "fetch it again"),
    ],
    ids=["lfs", "html", "html-2", "empty", "rubbish", "zip-rubbish", "huge-header"],
)
def test_what_is_no_weight_file(name: str, content: bytes, message: str, hint: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        load_esm2(tmp_path)
    assert name in str(caught.value)
    assert hint in caught.value.hint


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "old.pt"])
def test_truncated_files_are_refused(name: str, masked_lm: Any, tmp_path: Path) -> None:
    masked_lm.config.save_pretrained(tmp_path)
    state, path = untied_state(masked_lm), tmp_path / name
    if name.endswith("safetensors"):
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=name.endswith(".bin"))
    data = path.read_bytes()
    for n_bytes in (1, 7, 8, 9, 200, 2000, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:n_bytes])
        with pytest.raises(ModelError, match=name.replace(".", r"\.")):
            load_esm2(tmp_path)


def test_flipped_header_bytes_never_load_silently_wrong(published: Path, masked_lm: Any, tmp_path: Path) -> None:
    """Every flipped byte of the header is an error, or leaves the model as it was (a flip in padding or metadata)."""
    folder = shutil.copytree(published, tmp_path / "copy")
    path, expected = folder / "model.safetensors", expected_from(base_state(masked_lm))
    data = path.read_bytes()
    header_bytes = 8 + struct.unpack("<Q", data[:8])[0]
    n_errors = 0
    for position in range(0, header_bytes, 37):
        flipped = bytearray(data)
        flipped[position] ^= 0x04
        path.write_bytes(flipped)
        try:
            assert_same(load_esm2(folder), expected)
        except ModelError:
            n_errors += 1
    assert n_errors > 20


def test_a_pickle_that_is_more_than_tensors_is_refused_by_name(tmp_path: Path) -> None:
    class Opens:
        def __reduce__(self) -> object:
            return (open, (str(tmp_path / "executed"), "w"))

    torch.save({"model": {"embed_tokens.weight": Opens()}}, tmp_path / "esm2.pt")
    with pytest.raises(ModelError, match=r"open"):
        load_esm2(tmp_path / "esm2.pt")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {}, {"model": {}}, {3: torch.ones(1)}])
def test_a_torch_file_without_tensors(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "esm2.pt")
    with pytest.raises(ModelError, match=r"esm2\.pt"):
        load_esm2(tmp_path)
