"""What makes an encoder the encoder it is: a digest over its configuration, its tokenizer and its tensors.

It is the same whatever files the encoder came from, and what features, embeddings and trained heads name it by.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from seqassay.errors import ModelError
from seqassay.models.dnabert import Dnabert
from seqassay.models.esm2 import Esm2
from seqassay.models.weights import detect_encoder_class, load_dnabert, load_esm2

Kind = Literal["nucleotide", "protein"]

# Of the engine's tokenizer of ESM-2's alphabet, which is one for all of them.
PROTEIN_TOKENIZER_DIGEST = "d191525de5bbc16637a9807120f794d40e04e23c4f442a529cd795ee7a05c101"


def encoder_digest(model: Dnabert | Esm2, tokenizer_digest: str) -> str:
    """SHA-256 over configuration, tokenizer and float32 tensors in order of their names in our model."""
    kind: Kind = "nucleotide" if isinstance(model, Dnabert) else "protein"
    state = model.state_dict()
    total = hashlib.sha256()
    total.update(json.dumps([kind, asdict(model.config), tokenizer_digest], sort_keys=True).encode())
    # Tensors are hashed apart so that threads can share the work: 11 GB in one stream would take seconds.
    with ThreadPoolExecutor() as pool:
        for name, digest in zip(
            sorted(state), pool.map(_tensor_digest, (state[n] for n in sorted(state))), strict=True
        ):
            total.update(f"{name} {tuple(state[name].shape)} {digest}\n".encode())
    return total.hexdigest()


def nucleotide_tokenizer_digest(settings: Mapping[str, Any]) -> str:
    """SHA-256 over what a ``tokenizer.json`` says, however it is laid out."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def digest_of_encoder(folder_or_file: Path | str) -> str:
    """The digest of an encoder on disk, whose weights are read for it in float32.

    Raises:
        ModelError: it cannot be read.
    """
    path = Path(folder_or_file)
    if detect_encoder_class(path) == "esm2":
        return encoder_digest(load_esm2(path), PROTEIN_TOKENIZER_DIGEST)
    tokenizer = (path if path.is_dir() else path.parent) / "tokenizer.json"
    try:
        settings = json.loads(tokenizer.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{tokenizer}: not a readable tokenizer file: {error}") from error
    return encoder_digest(load_dnabert(path), nucleotide_tokenizer_digest(settings))


def _tensor_digest(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.detach().float().contiguous().numpy().reshape(-1).view(np.uint8).data).hexdigest()
