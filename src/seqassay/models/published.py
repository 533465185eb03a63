"""Our encoders as they are published: tensors under their published names, and what config.json says."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqassay.models import names
from seqassay.models.dnabert import Dnabert
from seqassay.models.esm2 import Esm2
from seqassay.models.names import Layout

# ESM-2 was trained with token dropout (15%, of which 80% masked); at inference the table counts 1 - 0.15·0.8 times.
TOKEN_DROPOUT_SCALE = 0.88
TOKEN_TYPES = 2  # rows of DNABERT's token-type table, of which only type 0 occurs
_ESM2_TABLE = "embeddings.word_embeddings.weight"


def published_encoder(model: Esm2 | Dnabert) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Tensors (views of the model's, but for the token table) and config.json; loaded again, every bit is the same."""
    if isinstance(model, Dnabert):
        return published_tensors(model, "dnabert", model.config.n_layers), dnabert_settings(model)
    tensors, settings = published_tensors(model, "esm2-huggingface", model.config.n_layers), esm2_settings(model)
    table = _unscaled(tensors[_ESM2_TABLE].cpu())
    if table is None:  # never multiplied, so some of its values are nobody's product
        settings["token_dropout"] = False
    else:
        tensors[_ESM2_TABLE] = table
    return {f"esm.{name}": tensor for name, tensor in tensors.items()}, settings


def published_tensors(model: nn.Module, layout: Layout, n_layers: int) -> dict[str, Tensor]:
    """Our tensors under their published plain names, as views."""
    ours = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    tensors: dict[str, Tensor] = {}
    for name, slot in names.expected_slots(layout, n_layers).items():
        tensor = ours[slot.ours]
        if slot.add_first_row:
            tensors[name] = torch.zeros(TOKEN_TYPES, tensor.shape[1], dtype=tensor.dtype)
        else:
            rows = tensor.shape[0] // slot.parts
            tensors[name] = tensor[slot.part * rows : (slot.part + 1) * rows]
    return tensors


def esm2_settings(model: Esm2) -> dict[str, object]:
    """config.json of an ESM-2 as Hugging Face publishes it."""
    config = model.config
    return {
        "architectures": ["EsmModel"],
        "model_type": "esm",
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "intermediate_size": config.d_ff,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
        "position_embedding_type": "rotary",
        "token_dropout": True,
        "emb_layer_norm_before": False,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "max_position_embeddings": 1026,
        "pad_token_id": 1,
        "mask_token_id": 32,
    }


def dnabert_settings(model: Dnabert) -> dict[str, object]:
    """config.json of a DNABERT-S (no `auto_map`: nothing asks for remote code)."""
    config = model.config
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": config.vocab_size,
        "type_vocab_size": TOKEN_TYPES,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "intermediate_size": config.d_ff,
        "hidden_act": "gelu",
        "layer_norm_eps": config.eps,
        "alibi_starting_size": 512,
    }


def _unscaled(table_VD: Tensor) -> Tensor | None:
    """The float32 table whose product with the scale, as loading makes it, is this one; None where there is none.

    Division alone would be off by a last bit here and there.
    """
    near_VD = (table_VD.double() / TOKEN_DROPOUT_SCALE).to(table_VD.dtype)
    found_VD, is_found_VD = near_VD.clone(), near_VD * TOKEN_DROPOUT_SCALE == table_VD
    for side in (torch.inf, -torch.inf):
        beside_VD = torch.nextafter(near_VD, torch.full_like(near_VD, side))
        fits_VD = ~is_found_VD & (beside_VD * TOKEN_DROPOUT_SCALE == table_VD)
        found_VD, is_found_VD = torch.where(fits_VD, beside_VD, found_VD), is_found_VD | fits_VD
    return found_VD if bool(is_found_VD.all()) else None
