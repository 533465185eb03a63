"""Random encoders as published files lie on disk: DNABERT-S's pytorch_model.bin, ESM-2's of fair-esm and others."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import torch
from support import train_bpe

from reference_models import random_dnabert_state
from seqassay.models.esm2 import Esm2, Esm2Config
from seqassay.models.names import expected_slots
from seqassay.models.weights import save_esm2


def write_dnabert(folder: Path, *, n_layers: int = 2, seed: int = 0) -> Path:
    """pytorch_model.bin, config.json, tokenizer.json, as DNABERT-S is published: 64 wide, one head."""
    folder.mkdir()
    tokenizer = train_bpe(96)
    tokenizer.save(str(folder / "tokenizer.json"))
    vocabulary = tokenizer.get_vocab_size()
    state = random_dnabert_state(vocab_size=vocabulary, d_model=64, n_layers=n_layers, d_ff=64, seed=seed)
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps({"intermediate_size": 64}))
    return folder


def random_esm2(n_layers: int = 2, seed: int = 0) -> Esm2:
    """32 wide, two heads; biases and norms away from 0 and 1."""
    torch.manual_seed(seed)
    model = Esm2(Esm2Config(n_layers=n_layers, d_model=32, n_heads=2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def write_esm2(folder: Path, *, n_layers: int = 2, seed: int = 0) -> Path:
    """model.safetensors and config.json, as Hugging Face has ESM-2."""
    save_esm2(random_esm2(n_layers, seed), folder)
    return folder


def write_fair_esm2(folder: Path, *, n_layers: int = 2, seed: int = 0) -> Path:
    """One .pt file in half precision, as fair-esm has the 3B."""
    folder.mkdir()
    ours, tensors = random_esm2(n_layers, seed).state_dict(), {}
    for name, slot in expected_slots("esm2-fair", n_layers).items():
        rows = len(ours[slot.ours]) // slot.parts
        tensors[name] = ours[slot.ours][slot.part * rows : (slot.part + 1) * rows].half().clone()
    said = Namespace(encoder_layers=n_layers, encoder_embed_dim=32, encoder_attention_heads=2)
    torch.save({"model": tensors, "cfg": {"model": said}}, folder / "esm2_random.pt")
    return folder / "esm2_random.pt"
