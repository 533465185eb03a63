"""What a trained head's file says of itself, held against the bundle that it goes into.

`seqassay train head` writes it (see `seqassay.train.head_file`); the published heads, and those that are made together
with their encoders, say nothing.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from seqassay.errors import ModelError
from seqassay.models.identity import Kind, digest_of_encoder
from seqassay.models.weights import read_head_metadata


def trained_on(path: Path | str) -> dict[str, str]:
    """The metadata of a trained head, without the file format's own; empty for a head that has none.

    Raises:
        ModelError: a safetensors file that cannot be read, or a head of another major version.
    """
    if Path(path).suffix != ".safetensors":
        return {}
    said = read_head_metadata(path)
    return {key: value for key, value in said.items() if key != "format"} if "merged_dim" in said else {}


def check_fits_bundle(
    path: Path | str,
    said: Mapping[str, str],
    encoders: Mapping[Kind, Path | str],
    *,
    merged_dim: int,
    chunk_length: int,
) -> None:
    """Refuse a head for a bundle of other encoders, another width or another chunk length than it was trained on.

    Args:
        path: of the head, for the message.
        said: from `trained_on`.
        encoders: the bundle's; their weights are read, since names decide nothing.
        merged_dim, chunk_length: the bundle's.

    Raises:
        ModelError: names both values of each thing that differs, and the commands that train a head for this bundle.
    """
    pairs = {"merged dimension": (said.get("merged_dim"), str(merged_dim))}
    pairs["chunk length"] = (said.get("chunk_length"), str(chunk_length))
    pairs |= {f"{kind} encoder": (said.get(f"{kind}_digest"), digest_of_encoder(at)) for kind, at in encoders.items()}
    names = {f"{kind} encoder": f"{said.get(kind)} " for kind in encoders}
    differences = [
        f"{what} {names.get(what, '')}{here[:12]}, the bundle's is {there[:12]}"
        for what, (here, there) in pairs.items()
        if here is not None and here != there
    ]
    if differences:
        raise ModelError(
            f"{path}: was trained for another bundle: {'; '.join(differences)}",
            hint="give the encoders and the chunk length that it was trained with, or train one for these:\n"
            f"  {_train_features(encoders, chunk_length)}\n"
            "  seqassay train head --train features/train --valid features/valid -o head",
        )


def _train_features(encoders: Mapping[Kind, Path | str], chunk_length: int) -> str:
    words = ["seqassay", "train", "features", "DATASET", "-o", "features"]
    for kind, place in encoders.items():
        words += [f"--{kind}", str(place)]
    return shlex.join([*words, "--chunk-length", str(chunk_length)])
