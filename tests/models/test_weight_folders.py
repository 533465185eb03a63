"""Folders, shards and their index files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from weight_support import (
    TOKEN_TABLE,
    WIDTH,
    assert_same,
    base_state,
    expected_from,
    write_shards,
)

from seqassay.errors import ModelError
from seqassay.models.weights import (
    load_esm2,
)


def sharded(folder: Path, masked_lm: Any) -> tuple[Path, dict[str, Any]]:
    masked_lm.config.save_pretrained(folder)
    write_shards(folder, masked_lm.state_dict(), safe=True)
    index = folder / "model.safetensors.index.json"
    return index, json.loads(index.read_text())


def test_a_missing_shard_is_named(masked_lm: Any, tmp_path: Path) -> None:
    sharded(tmp_path, masked_lm)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model-00002-of-00003\.safetensors: shard is missing"):
        load_esm2(tmp_path)


def test_an_index_file_can_be_given_itself(masked_lm: Any, tmp_path: Path) -> None:
    index, _ = sharded(tmp_path, masked_lm)
    assert_same(load_esm2(index), expected_from(base_state(masked_lm)))


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "sub/x.safetensors", 5])
def test_an_index_cannot_name_files_elsewhere(name: object, masked_lm: Any, tmp_path: Path) -> None:
    index, content = sharded(tmp_path, masked_lm)
    content["weight_map"][TOKEN_TABLE] = name
    index.write_text(json.dumps(content))
    with pytest.raises(ModelError, match="not the name of a file beside it"):
        load_esm2(tmp_path)


def test_a_tensor_not_in_the_shard_the_index_says(masked_lm: Any, tmp_path: Path) -> None:
    index, content = sharded(tmp_path, masked_lm)
    content["weight_map"]["esm.encoder.extra"] = "model-00001-of-00003.safetensors"
    index.write_text(json.dumps(content))
    with pytest.raises(ModelError, match=r"00001-of-00003\.safetensors: tensor esm\.encoder\.extra is missing"):
        load_esm2(tmp_path)


def test_a_tensor_in_two_shards(masked_lm: Any, tmp_path: Path) -> None:
    sharded(tmp_path, masked_lm)
    second = tmp_path / "model-00002-of-00003.safetensors"
    save_file({**load_file(second), TOKEN_TABLE: torch.ones(33, WIDTH)}, second)
    with pytest.raises(ModelError, match="is in two files"):
        load_esm2(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"weight_map": {}}', '{"weight_map": 3}'])
def test_a_damaged_index(content: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ModelError, match=r"index\.json"):
        load_esm2(tmp_path)


def test_folders_without_weights(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file or folder"):
        load_esm2(tmp_path / "nowhere")
    with pytest.raises(ModelError, match="no weights found"):
        load_esm2(tmp_path)
    for name in ("a.pt", "b.pt"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ModelError, match=r"2 \.pt files \(a\.pt, b\.pt\)"):
        load_esm2(tmp_path)


def test_an_unreadable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refuse)  # a chmod would not stop a test that runs as root
    with pytest.raises(ModelError, match="no permission"):
        load_esm2(tmp_path)
