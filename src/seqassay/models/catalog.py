"""What `seqassay models` shows and does: all known models, everything about one, importing a bundle."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from seqassay.errors import ModelError, UsageError
from seqassay.models.bundle import HOW_FILES_ARE_TAKEN, Bundle, load_bundle, write_bundle
from seqassay.models.fetch import MANIFEST, read_manifest
from seqassay.models.registry import (
    BUNDLE_FILE,
    ENCODERS,
    PUBLISHED_BUNDLES,
    bundle_folder,
    embedded_bundle_folder,
    encoder_folder,
    installed_bundles,
    locate_encoder,
)
from seqassay.models.weights import EncoderShape, describe_encoder

Whereabouts = Literal["embedded", "cached", "not fetched", "not imported"]
_CLASS_NAMES = {"dnabert": "DNABERT", "esm2": "ESM-2"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One line of `seqassay models list`.

    Attributes:
        d_model, n_parameters: None for a bundle that cannot be read.
        size_bytes: on disk; 0 where nothing is.
        note: what to know about it; for a bundle that cannot be used, why.
    """

    name: str
    kind: Literal["bundle", "encoder"]
    parts: str
    d_model: int | None
    n_parameters: int | None
    where: Whereabouts
    path: str
    size_bytes: int
    note: str = ""


def list_models() -> list[ModelRow]:
    """All bundles, then all known encoders; nothing is verified and no weights are read."""
    return [*_bundle_rows(), *_encoder_rows()]


def is_bundle(name_or_path: str) -> bool:
    """Whether a name or path means a bundle rather than an encoder."""
    if name_or_path in installed_bundles() or name_or_path in PUBLISHED_BUNDLES:
        return True
    return (Path(name_or_path).expanduser() / BUNDLE_FILE).is_file()


def bundle_info(name_or_path: str) -> dict[str, Any]:
    """Everything about a bundle, after reading and checking every byte of it."""
    bundle = load_bundle(name_or_path)
    head = bundle.load_head()
    n_head = sum(parameter.numel() for parameter in head.parameters())
    if (nucleotide_head := bundle.load_nucleotide_head()) is not None:
        n_head += sum(parameter.numel() for parameter in nucleotide_head.parameters())
    nucleotide, protein = describe_encoder(bundle.nucleotide_path), describe_encoder(bundle.protein_path)
    return {
        "kind": "bundle",
        "name": bundle.name,
        "path": str(bundle.path),
        "digest": bundle.digest,
        "version": bundle.version,
        "description": bundle.description,
        "nucleotide": {**_shape_info(nucleotide), "source": bundle.nucleotide.source},
        "protein": {**_shape_info(protein), "source": bundle.protein.source},
        "head": {"input_dim": bundle.merged_dim, "n_parameters": n_head, "trained": bundle.head_metadata() or None},
        "n_parameters": nucleotide.n_parameters + protein.n_parameters + n_head,
        "chunk_length": bundle.chunk_length,
        "chunk_rule": bundle.chunk_rule,
        "genetic_code": bundle.genetic_code,
        "ambiguity": bundle.ambiguity,
        "precision": bundle.precision,
        "threshold": bundle.thresholds.as_json(),
        "nucleotide_head": bundle.nucleotide_head_path is not None,
        "calibrated": bundle.calibration is not None,
        "size_bytes": folder_bytes(bundle.path),
        "files": dict(bundle.files),
    }


def encoder_info(name_or_path: str) -> dict[str, Any]:
    """Everything about an encoder that its files' names, shapes and manifest tell."""
    path = locate_encoder(name_or_path)
    manifest = read_manifest(path) if path.is_dir() else None
    known = ENCODERS.get(name_or_path)
    return {
        "kind": "encoder",
        "name": name_or_path if known else path.resolve().name,
        "path": str(path),
        **_shape_info(describe_encoder(path)),
        "repo_id": known.repo_id if known else None,
        "commit": manifest.commit if manifest else None,
        "files": {name: asdict(file) for name, file in manifest.files.items()} if manifest else None,
        "note": known.note if known else "",
    }


def import_bundle(
    name: str,
    *,
    nucleotide: str,
    protein: str,
    head: Path,
    chunk_length: int,
    chunk_rule: Literal["even", "reference"] = "even",
    genetic_code: int = 1,
    ambiguity: Literal["drop", "X"] = "drop",
    description: str = "",
    files_by: HOW_FILES_ARE_TAKEN = "link",
    replace: bool = False,
) -> Bundle:
    """Build a bundle in the cache, to be used by its name, from two encoders (names or paths) and a head's file.

    Raises:
        UsageError: a name that cannot be one or is taken, an encoder that is not there.
        ModelError: files that cannot be used or do not fit together.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot be a bundle's name", hint="use letters, digits, dot, dash and underscore")
    if embedded_bundle_folder(name).is_dir() or name in ENCODERS:
        raise UsageError(f"{name!r} is the name of a model that is known already", hint="choose another name")
    if name in PUBLISHED_BUNDLES:
        known = PUBLISHED_BUNDLES[name]
        if chunk_length != known.chunk_length:
            raise UsageError(f"{name} is for chunks of {known.chunk_length} bases, not of {chunk_length}")
        description = description or known.description
    nucleotide_path, protein_path = locate_encoder(nucleotide), locate_encoder(protein)
    return write_bundle(
        bundle_folder(name),
        name=name,
        nucleotide=nucleotide_path,
        protein=protein_path,
        head=head,
        chunk_length=chunk_length,
        chunk_rule=chunk_rule,
        genetic_code=genetic_code,
        ambiguity=ambiguity,
        description=description,
        nucleotide_source=_source(nucleotide_path),
        protein_source=_source(protein_path),
        files_by=files_by,
        replace=replace,
    )


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder; linked files count where they are linked to."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _bundle_rows() -> list[ModelRow]:
    rows = [_installed_bundle_row(name, folder) for name, folder in installed_bundles().items()]
    for known in PUBLISHED_BUNDLES.values():
        if known.name not in installed_bundles():
            encoders = [ENCODERS[known.nucleotide], ENCODERS[known.protein]]
            rows.append(
                ModelRow(
                    name=known.name,
                    kind="bundle",
                    parts=" + ".join(encoder.name for encoder in encoders),
                    d_model=sum(encoder.d_model for encoder in encoders),
                    n_parameters=sum(encoder.n_parameters for encoder in encoders),
                    where="not imported",
                    path=str(bundle_folder(known.name)),
                    size_bytes=0,
                    note=f"chunks of {known.chunk_length} bases",
                )
            )
    return rows


def _installed_bundle_row(name: str, folder: Path) -> ModelRow:
    where: Whereabouts = "embedded" if folder == embedded_bundle_folder(name) else "cached"
    try:
        bundle = load_bundle(folder, verify=False)
        shapes = [describe_encoder(path) for path in (bundle.nucleotide_path, bundle.protein_path)]
    except ModelError as error:  # one broken bundle must not hide the others
        return ModelRow(name, "bundle", "", None, None, where, str(folder), folder_bytes(folder), error.message)
    return ModelRow(
        name=name,
        kind="bundle",
        parts=" + ".join(f"{_CLASS_NAMES[shape.encoder_class]} {shape.n_layers}×{shape.d_model}" for shape in shapes),
        d_model=bundle.merged_dim,
        n_parameters=sum(shape.n_parameters for shape in shapes),
        where=where,
        path=str(folder),
        size_bytes=folder_bytes(folder),
        note=f"chunks of {bundle.chunk_length} bases{', calibrated' if bundle.calibration is not None else ''}",
    )


def _encoder_rows() -> list[ModelRow]:
    rows = []
    for known in ENCODERS.values():
        folder = encoder_folder(known.name)
        rows.append(
            ModelRow(
                name=known.name,
                kind="encoder",
                parts=f"{_CLASS_NAMES[known.encoder_class]} {known.n_layers}×{known.d_model}",
                d_model=known.d_model,
                n_parameters=known.n_parameters,
                where="cached" if (folder / MANIFEST).is_file() else "not fetched",
                path=str(folder),
                size_bytes=folder_bytes(folder) if folder.is_dir() else 0,
                note=known.note,
            )
        )
    return rows


def _shape_info(shape: EncoderShape) -> dict[str, Any]:
    return {
        "class": shape.encoder_class,
        "n_layers": shape.n_layers,
        "d_model": shape.d_model,
        "n_heads": shape.n_heads,
        "n_parameters": shape.n_parameters,
        "size_bytes": shape.size_bytes,
    }


def _source(path: Path) -> str:
    """Repository and commit of a fetched encoder, else the folder's or file's own name (never a machine's path)."""
    manifest = read_manifest(path) if path.is_dir() else None
    return manifest.source if manifest else path.resolve().name
