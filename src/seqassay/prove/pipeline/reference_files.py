"""A bundle's weights in the files that the reference procedure loads, and what that procedure cannot run."""

from __future__ import annotations

import argparse
import importlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from seqassay.errors import UsageError, require_package
from seqassay.models import names
from seqassay.models.bundle import Bundle
from seqassay.models.dnabert import Dnabert
from seqassay.models.esm2 import Esm2
from seqassay.models.weights import load_dnabert, load_esm2

PACKAGES = {"esm": "fair-esm", "transformers": "transformers", "Bio": "biopython"}
_TOKEN_DROPOUT = 0.88  # fair-esm scales embeddings by this; ours are scaled once, when they are loaded


@dataclass(frozen=True)
class ReferenceFiles:
    """What the procedure loads: published layouts, and the head's tensors; its authors unpickle a whole module."""

    dnabert: Path
    tokenizer: Path
    dnabert_heads: int
    esm2: Path
    classifier: Path


def check_reference(bundle: Bundle) -> None:
    """Find before the work what the procedure would fail on.

    Raises:
        MissingExtraError: a package of the extra ``reference`` is not installed.
        UsageError: the bundle asks for what the published procedure does not do.
    """
    for module, package in PACKAGES.items():
        require_package(module, package=package, extra="reference", purpose="--reference")
    for what, found, known in (
        ("genetic code", bundle.genetic_code, 1),
        ("ambiguity rule", bundle.ambiguity, "drop"),
    ):
        if found != known:
            raise UsageError(f"--reference: the published procedure has the {what} {known}; {bundle.name} has {found}")


def write_reference_files(bundle: Bundle, folder: Path) -> ReferenceFiles:
    """The bundle's encoders and head in published layouts, in an empty folder."""
    nucleotide, protein = load_dnabert(bundle.nucleotide_path), load_esm2(bundle.protein_path)
    files = ReferenceFiles(
        dnabert=folder / "pytorch_model.bin",
        tokenizer=folder / "tokenizer.json",
        dnabert_heads=nucleotide.config.n_heads,
        esm2=folder / "esm2_t6_8M_UR50D.pt",  # fair-esm takes a file for an ESM-2 by its name
        classifier=folder / "model.pth",
    )
    torch.save(_published_dnabert(nucleotide), files.dnabert)
    shutil.copyfile(bundle.nucleotide_path / "tokenizer.json", files.tokenizer)
    torch.save(_fair_esm(protein), files.esm2)
    torch.save(bundle.load_head().state_dict(), files.classifier)
    return files


def _published_dnabert(model: Dnabert) -> dict[str, Tensor]:
    """Tensors under DNABERT-S's names; the token-type table is zero, as its first row is in the word table already."""
    ours = model.state_dict()
    tensors = {}
    for name, slot in names.expected_slots("dnabert", model.config.n_layers).items():
        tensor = ours[slot.ours]
        tensors[name] = torch.zeros(2, tensor.shape[1]) if slot.add_first_row else tensor.clone()
    return tensors


def _fair_esm(model: Esm2) -> dict[str, Any]:
    """What fair-esm's files hold: tensors under its names, with a head of random weights, and the shape."""
    esm2 = importlib.import_module("esm").model.esm2
    alphabet = importlib.import_module("esm").Alphabet.from_architecture("ESM-1b")
    config = model.config
    tensors = cast("dict[str, Tensor]", esm2.ESM2(1, config.d_model, config.n_heads, alphabet).state_dict())
    kept = {name: tensor for name, tensor in tensors.items() if name.startswith(("lm_head", "contact_head"))}
    ours = model.state_dict()
    for name, slot in names.expected_slots("esm2-fair", config.n_layers).items():
        rows = len(ours[slot.ours]) // slot.parts
        kept[name] = ours[slot.ours][slot.part * rows : (slot.part + 1) * rows].clone()
    kept["embed_tokens.weight"] /= _TOKEN_DROPOUT
    kept["lm_head.weight"] = kept["embed_tokens.weight"]
    n_inputs = config.n_layers * config.n_heads
    kept["contact_head.regression.weight"] = torch.zeros(1, n_inputs)
    for layer in range(config.n_layers):
        inverse = 10000 ** -(torch.arange(0, config.head_dim, 2).float() / config.head_dim)
        kept[f"layers.{layer}.self_attn.rot_emb.inv_freq"] = inverse
    shape = argparse.Namespace(
        encoder_layers=config.n_layers,
        encoder_embed_dim=config.d_model,
        encoder_attention_heads=config.n_heads,
        token_dropout=True,
    )
    return {"model": kept, "cfg": {"model": shape}}
