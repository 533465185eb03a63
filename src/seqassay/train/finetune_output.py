"""What a fine-tuning leaves: the encoder in its published layout, and the head's file.

The encoder is written tensor by tensor from where it is, so that writing needs no second copy of it in memory.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqassay import __version__
from seqassay.durable import swap_in, write_durably
from seqassay.models.dnabert import Dnabert
from seqassay.models.esm2 import ESM2_ALPHABET, Esm2
from seqassay.models.published import published_encoder
from seqassay.train.head_file import HeadMetadata

ENCODER = "encoder"
HEAD = "head.safetensors"
TOKENIZER = "tokenizer.json"

# What transformers' EsmTokenizer reads beside vocab.txt.
_ESM_TOKENIZER = {
    "tokenizer_class": "EsmTokenizer",
    "cls_token": "<cls>",
    "eos_token": "<eos>",
    "mask_token": "<mask>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
}


def write_encoder(model: Dnabert | Esm2, folder: Path, *, tokenizer: Path | None) -> None:
    """Write an encoder's folder: model.safetensors, config.json and its tokenizer's files; whole or not at all.

    Loaded again, every tensor is the same, bit for bit.

    Args:
        tokenizer: the ``tokenizer.json`` of a nucleotide encoder, to be copied.

    Raises:
        OSError: see `seqassay.durable.disk_errors`; the folder is as it was before.
    """
    staging = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        staging.mkdir(parents=True)
        tensors, settings = published_encoder(model)
        write_durably(staging / "model.safetensors", safetensors_pieces(tensors))
        texts = {"config.json": _json(settings)}
        if tokenizer is not None:
            texts[TOKENIZER] = tokenizer.read_text(encoding="utf-8")
        else:
            texts |= {"vocab.txt": "\n".join(ESM2_ALPHABET) + "\n", "tokenizer_config.json": _json(_ESM_TOKENIZER)}
        for name, text in texts.items():
            write_durably(staging / name, [text.encode()])
        swap_in(staging, folder, aside=folder.with_name(f".{folder.name}.old-{os.getpid()}"))
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def safetensors_pieces(tensors: Mapping[str, Tensor]) -> Iterator[bytes]:
    """A safetensors file of float32 tensors, its header first and then one tensor at a time, from any device."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    begin = 0
    for name, tensor in tensors.items():
        end = begin + 4 * tensor.numel()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for tensor in tensors.values():
        yield tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes()


def head_metadata(
    *,
    side: str,
    name: str,
    digest: str,
    d_model: int,
    chunk_length: int,
    recipe: str,
    seed: int,
    data: Mapping[str, str],
) -> HeadMetadata:
    """What the head's file says; the side that it does not read has neither name nor digest.

    Args:
        side: ``nucleotide`` or ``protein``.
        name, digest: of the fine-tuned encoder, whose embeddings it takes.
        data: SHA-256 of the labelled files, by split.
    """
    sides: dict[str, Any] = {"nucleotide": "", "nucleotide_digest": "", "protein": "", "protein_digest": ""}
    return HeadMetadata(
        **(sides | {side: name, f"{side}_digest": digest}),
        merged_dim=d_model,
        chunk_length=chunk_length,
        recipe=recipe,
        seed=seed,
        training_data=data["train"],
        validation_data=data["valid"],
        seqassay=__version__,
    )


def _json(content: Mapping[str, object]) -> str:
    return json.dumps(content, indent=2) + "\n"
