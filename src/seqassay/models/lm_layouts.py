"""Language models under the names of transformers: Llama, and StableLM for LayerNorm; there and back, exactly.

StableLM is the same decoder with LayerNorm in place of RMSNorm. No layout that transformers has combines SwiGLU with
learned positions, so those models are not exported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from seqassay.errors import ModelError, UsageError
from seqassay.models.causal_lm import CausalLm, CausalLmConfig
from seqassay.models.checkpoint import Checkpoint

_ARCHITECTURES = {"llama": "LlamaForCausalLM", "stablelm": "StableLmForCausalLM"}


def published_settings(config: CausalLmConfig) -> dict[str, Any]:
    """config.json for transformers.

    Raises:
        UsageError: transformers has no layout for the model.
    """
    if config.positions != "rotary":
        raise UsageError(
            "a model with learned positions cannot be exported: no layout of transformers has them with SwiGLU layers",
            hint="build it with --positions rotary (the default)",
        )
    model_type = "llama" if config.norm == "rmsnorm" else "stablelm"
    rotary: dict[str, Any] = {"rope_theta": config.rotary_base, "rope_type": "default"}
    settings: dict[str, Any] = {
        "architectures": [_ARCHITECTURES[model_type]],
        "model_type": model_type,
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_heads,
        "hidden_act": "silu",
        "max_position_embeddings": config.context,
        "tie_word_embeddings": config.tied,
        "rope_theta": config.rotary_base,  # where transformers before 5 looks
        "rope_parameters": rotary,
        "bos_token_id": None,  # the tokenizer's business
        "eos_token_id": None,
        "torch_dtype": "float32",
    }
    if model_type == "llama":
        settings |= {"rms_norm_eps": config.eps, "attention_bias": False, "mlp_bias": False}
        return settings
    rotary["partial_rotary_factor"] = 1.0
    return settings | {
        "layer_norm_eps": config.eps,
        "partial_rotary_factor": 1.0,
        "use_qkv_bias": False,
        "qk_layernorm": False,
        "use_parallel_residual": False,
    }


def config_from_published(checkpoint: Checkpoint) -> CausalLmConfig:
    """The model's shape by a config.json of transformers.

    Raises:
        ModelError: another architecture, settings that ask for other arithmetic than ours, or none at all.
    """
    said, path = checkpoint.config, checkpoint.config_path
    if path is None:
        raise ModelError(
            f"{checkpoint.path}: has neither lm.json nor config.json", hint="give the model's whole folder"
        )
    model_type = said.get("model_type")
    if model_type not in _ARCHITECTURES:
        raise ModelError(f"{path}: model_type is {model_type!r}; language models are read as llama or stablelm")
    width, n_heads = _number(checkpoint, "hidden_size"), _number(checkpoint, "num_attention_heads")
    rotary = _mapping(said.get("rope_parameters"))
    scaling = _mapping(said.get("rope_scaling")) or rotary  # what transformers before 5 called it
    required: dict[str, tuple[Any, Any]] = {
        "hidden_act": (said.get("hidden_act", "silu"), "silu"),
        "num_key_value_heads": (said.get("num_key_value_heads") or n_heads, n_heads),
        "head_dim": (said.get("head_dim") or width // n_heads, width // n_heads),
        "rope_type": (scaling.get("rope_type", scaling.get("type", "default")), "default"),
    }
    if model_type == "llama":
        required |= {name: (said.get(name, False), False) for name in ("attention_bias", "mlp_bias")}
        eps = said.get("rms_norm_eps", 1e-6)
    else:
        required |= {
            name: (said.get(name, False), False) for name in ("use_qkv_bias", "qk_layernorm", "use_parallel_residual")
        }
        factor = rotary.get("partial_rotary_factor", said.get("partial_rotary_factor", 0.25))
        required["partial_rotary_factor"] = (factor, 1.0)
        eps = said.get("layer_norm_eps", 1e-5)
    for name, (found, wanted) in required.items():
        if found != wanted:
            raise ModelError(f"{path}: {name} is {found!r}; only {wanted!r} is supported here")
    try:
        return CausalLmConfig(
            vocab_size=_number(checkpoint, "vocab_size"),
            d_model=width,
            n_layers=_number(checkpoint, "num_hidden_layers"),
            n_heads=n_heads,
            d_ff=_number(checkpoint, "intermediate_size"),
            context=_number(checkpoint, "max_position_embeddings"),
            tied=bool(said.get("tie_word_embeddings", False)),
            norm="rmsnorm" if model_type == "llama" else "layernorm",
            eps=float(eps),
            rotary_base=float(rotary.get("rope_theta", said.get("rope_theta", 10000.0))),
        )
    except (ValueError, TypeError) as error:
        raise ModelError(f"{path}: {error}") from error


def published_tensors(model: CausalLm) -> dict[str, Tensor]:
    """Tensors under the names that Llama and StableLM share, as views; a tied head is not there twice."""
    state = model.state_dict()
    return {theirs: state[ours][rows].detach() for theirs, (ours, rows) in published_slots(model.config).items()}


def published_slots(config: CausalLmConfig) -> dict[str, tuple[str, slice]]:
    """Which rows of which of our tensors each published one is."""
    d, f = config.d_model, config.d_ff
    vectors = ("weight",) if config.norm == "rmsnorm" else ("weight", "bias")
    everything = slice(None)
    slots = {"model.embed_tokens.weight": ("embed_tokens.weight", everything)}
    for n in range(config.n_layers):
        ours, theirs = f"layers.{n}", f"model.layers.{n}"
        for i, part in enumerate("qkv"):
            slots[f"{theirs}.self_attn.{part}_proj.weight"] = (f"{ours}.qkv.weight", slice(i * d, (i + 1) * d))
        slots[f"{theirs}.self_attn.o_proj.weight"] = (f"{ours}.out.weight", everything)
        slots[f"{theirs}.mlp.gate_proj.weight"] = (f"{ours}.gate_up.weight", slice(f))
        slots[f"{theirs}.mlp.up_proj.weight"] = (f"{ours}.gate_up.weight", slice(f, 2 * f))
        slots[f"{theirs}.mlp.down_proj.weight"] = (f"{ours}.down.weight", everything)
        for vector in vectors:
            slots[f"{theirs}.input_layernorm.{vector}"] = (f"{ours}.attention_norm.{vector}", everything)
            slots[f"{theirs}.post_attention_layernorm.{vector}"] = (f"{ours}.ffn_norm.{vector}", everything)
    slots |= {f"model.norm.{vector}": (f"final_norm.{vector}", everything) for vector in vectors}
    if not config.tied:
        slots["lm_head.weight"] = ("head.weight", everything)
    return slots


def tensors_from_published(
    config: CausalLmConfig, found: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Tensor]:
    """Our tensors, float32, put together from published ones whose names and shapes are known to be right."""
    tensors = {name: torch.empty(shape) for name, shape in shapes.items()}
    for theirs, (ours, rows) in published_slots(config).items():
        tensors[ours][rows].copy_(found[theirs])
    return tensors


def _number(checkpoint: Checkpoint, key: str) -> int:
    value = checkpoint.config.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ModelError(f"{checkpoint.config_path}: {key} is {value!r}, not a positive number")
    return value


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
