"""A trained head's file: safetensors whose metadata say what it was trained on, and refusals that say what to do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from safetensors.torch import save

from seqassay.durable import write_durably
from seqassay.errors import ModelError
from seqassay.models.head import ClassifierHead
from seqassay.models.weights import HEAD_VERSION, load_head, read_head_metadata

_RETRAIN = "train it again with `seqassay train head`"


@dataclass(frozen=True, kw_only=True)
class HeadMetadata:
    """What a head file says of itself; every value is text in the file.

    Attributes:
        merged_dim: width of the embeddings it takes.
        nucleotide, protein: names of the encoders; the digests beside them decide.
        chunk_length: in bases.
        recipe: name of the recipe, and what was changed in it.
        training_data: SHA-256 over the training features' shards.
        validation_data: likewise.
    """

    merged_dim: int
    nucleotide: str
    nucleotide_digest: str
    protein: str
    protein_digest: str
    chunk_length: int
    recipe: str
    seed: int
    training_data: str
    validation_data: str
    seqassay: str
    version: str = HEAD_VERSION

    def as_text(self) -> dict[str, str]:
        """As the file keeps it."""
        return {"format": "pt", **{field.name: str(getattr(self, field.name)) for field in fields(self)}}


_NUMBERS = ("merged_dim", "chunk_length", "seed")
_TEXTS = tuple(field.name for field in fields(HeadMetadata) if field.name not in _NUMBERS)


def save_trained_head(head: ClassifierHead, path: Path, metadata: HeadMetadata) -> None:
    """Write a head with its metadata, durably, whole or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in head.state_dict().items()}
    write_durably(path, [_sorted_header(save(tensors, metadata.as_text()))])


def _sorted_header(data: bytes) -> bytes:
    """The same safetensors file with its header's keys in order: safetensors writes metadata in another each time."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[end:]


def load_trained_head(
    path: Path | str, identity: Mapping[str, Any] | None = None
) -> tuple[ClassifierHead, HeadMetadata]:
    """A head that says what it was trained on.

    Args:
        path: of a head that `save_trained_head` wrote.
        identity: of the features it will be used on (``features.json``): dimension, encoders and chunk length must fit.

    Raises:
        ModelError: another major version, no metadata, another dimension, encoder or chunk length than asked for,
            values that are not finite; says what to do.
    """
    path = Path(path)
    said = read_head_metadata(path)
    head = load_head(path)
    missing = [name for name in (*_NUMBERS, *_TEXTS) if name not in said]
    if missing:
        raise ModelError(
            f"{path}: does not say what it was trained on (no {', '.join(missing)} in its metadata)", hint=_RETRAIN
        )
    try:
        values: dict[str, Any] = {
            **{name: said[name] for name in _TEXTS},
            **{name: int(said[name]) for name in _NUMBERS},
        }
    except ValueError as error:
        raise ModelError(f"{path}: its metadata are damaged: {error}", hint=_RETRAIN) from error
    metadata = HeadMetadata(**values)
    if identity is not None:
        check_fits(path, metadata, identity)
    return head, metadata


def check_fits(path: Path, metadata: HeadMetadata, identity: Mapping[str, Any]) -> None:
    """Refuse a head for features of another dimension, encoder or chunk length; names both values of each.

    Raises:
        ModelError: says what differs.
    """
    pairs = {
        "merged dimension": (metadata.merged_dim, identity["merged_dim"]),
        "nucleotide encoder": (metadata.nucleotide_digest, identity["nucleotide"]["digest"]),
        "protein encoder": (metadata.protein_digest, identity["protein"]["digest"]),
        "chunk length": (metadata.chunk_length, identity["chunk_length"]),
    }
    differences = [
        f"{what} {str(here)[:12]}, the features have {str(there)[:12]}"
        for what, (here, there) in pairs.items()
        if here != there
    ]
    if differences:
        raise ModelError(
            f"{path}: was trained on other features: {'; '.join(differences)}",
            hint="train a head on these features without --init, or give the features it was trained on",
        )
