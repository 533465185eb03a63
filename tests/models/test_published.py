"""Encoders written as they are published come back bit for bit, whatever became of their token table."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from seqassay.models.esm2 import Esm2, Esm2Config
from seqassay.models.published import TOKEN_DROPOUT_SCALE, published_encoder
from seqassay.models.weights import load_esm2
from seqassay.train.finetune_output import write_encoder


@pytest.mark.parametrize("multiplied", [True, False])
def test_a_token_table_comes_back_whether_or_not_it_was_multiplied(multiplied: bool, tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = Esm2(Esm2Config(n_layers=1, d_model=64, n_heads=2))
    if multiplied:  # as loading a published file does
        model.embed_tokens.weight.data *= TOKEN_DROPOUT_SCALE
    _, settings = published_encoder(model)
    assert settings["token_dropout"] is multiplied  # else some values are no product, and the file says so
    write_encoder(model, tmp_path / "encoder", tokenizer=None)
    loaded = load_esm2(tmp_path / "encoder").state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in model.state_dict().items())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["encoder"]
