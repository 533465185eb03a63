"""Reading published weight files, whatever their layout, as tensors only.

Layouts of a folder, in the order they are looked for: ``model.safetensors``, ``model.safetensors.index.json`` with
shards, ``pytorch_model.bin``, ``pytorch_model.bin.index.json`` with shards, one fair-esm ``.pt``. Files are opened one
at a time and mapped into memory where the format allows, so loading never needs the weights twice. Nothing in a file
is executed: pickled ones go through ``weights_only``, and ``auto_map`` in a config.json is never followed.
"""

from __future__ import annotations

import argparse
import json
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from seqassay.errors import ModelError

_FOLDER_LAYOUTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_CONTACT_SUFFIX = "-contact-regression.pt"  # fair-esm's separate contact head, which no embedding reads
_READ_ERRORS = (
    SafetensorError,
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    TypeError,
    OSError,
)


@dataclass(frozen=True)
class OpenFile:
    """One weight file, open: its tensor names, and a function that reads one of them."""

    path: Path
    names: tuple[str, ...]
    read: Callable[[str], Tensor]
    shape: Callable[[str], tuple[int, ...]]
    settings: Mapping[str, Any]  # what the file itself says about its model (fair-esm), else empty


@dataclass(frozen=True)
class Checkpoint:
    """The weight files of one model, and its config.json where there is one.

    Attributes:
        shapes: every tensor's shape by its published name.
        file_of: which file holds it.
        settings: the model settings that a fair-esm file carries, else empty.
    """

    path: Path
    files: tuple[Path, ...]
    index_path: Path | None
    config_path: Path | None
    config: Mapping[str, Any]
    settings: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    file_of: Mapping[str, Path]

    def tensors(self) -> Iterator[tuple[Path, str, Tensor]]:
        """Every tensor with its file and name, one file open at a time; copy what is to outlive the step."""
        for path in self.files:
            opened = open_weight_file(path)
            for name in opened.names:
                yield path, name, opened.read(name)


def open_checkpoint(path: Path | str) -> Checkpoint:
    """Find the weight files of a folder, or take one file, and read their names and shapes (not yet their data).

    Raises:
        ModelError: nothing there, not readable, not a weight file, a shard missing, a tensor in two shards.
    """
    path = Path(path)
    files, promised, index_path = _find_files(path)
    config_path = (path if path.is_dir() else path.parent) / "config.json"
    # A lone .pt may lie in a folder with some other model's config.json: only Hugging Face layouts own theirs.
    has_config = files[0].suffix in (".safetensors", ".bin") and config_path.is_file()
    shapes: dict[str, tuple[int, ...]] = {}
    file_of: dict[str, Path] = {}
    settings: Mapping[str, Any] = {}
    for file in files:
        opened = open_weight_file(file)
        for name in opened.names:
            if name in file_of:
                raise ModelError(f"tensor {name} is in two files: {file_of[name]} and {file}")
            shapes[name], file_of[name] = opened.shape(name), file
        settings = opened.settings or settings
    for name, file in promised.items():
        if file_of.get(name) != file:
            raise ModelError(f"{file}: tensor {name} is missing; the index says it is there", hint=_FETCH_AGAIN)
    config = read_json_object(config_path) if has_config else {}
    return Checkpoint(path, files, index_path, config_path if has_config else None, config, settings, shapes, file_of)


def open_weight_file(path: Path) -> OpenFile:
    """Open one safetensors or torch file; its tensors are mapped where the format allows, and go with the object."""
    reject_what_is_no_weight_file(path)
    try:
        if path.suffix == ".safetensors":
            return _open_safetensors(path)
        tensors, settings = _load_torch_file(path)
    except _READ_ERRORS as error:
        raise ModelError(f"{path}: not a readable weight file: {_first_line(error)}", hint=_FETCH_AGAIN) from error
    return OpenFile(path, tuple(tensors), tensors.__getitem__, lambda name: tuple(tensors[name].shape), settings)


def reject_what_is_no_weight_file(path: Path) -> None:
    """Say so when a file is unreadable, empty, a Git LFS pointer or a web page saved under a weight file's name."""
    try:
        with path.open("rb") as file:
            start = file.read(256)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    if not start:
        raise ModelError(f"{path}: is empty", hint=_FETCH_AGAIN)
    if start.startswith(b"version https://git-lfs"):
        raise ModelError(
            f"{path}: is a Git LFS pointer, not the weights themselves",
            hint="run `git lfs install && git lfs pull` in that folder, or use `seqassay models fetch`",
        )
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ModelError(
            f"{path}: is a web page, not a weight file",
            hint="the download got the page about the file (or a login or error page): fetch the file itself",
        )


def read_json_object(path: Path) -> dict[str, Any]:
    """A JSON file that must hold an object; a ModelError names it otherwise."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not readable as JSON: {_first_line(error)}", hint=_FETCH_AGAIN) from error
    if not isinstance(content, dict):
        raise ModelError(f"{path}: a JSON object was expected, found {type(content).__name__}")
    return content


_FETCH_AGAIN = "the file is damaged or was not copied whole: fetch it again"


_Found = tuple[tuple[Path, ...], dict[str, Path], Path | None]


def _find_files(path: Path) -> _Found:
    """The weight files, which file must hold which tensor (where there is an index), and that index."""
    try:
        if not path.exists():
            raise ModelError(f"{path}: no such file or folder", hint="give a folder of weights or one weight file")
        if not path.is_dir():
            return _files_of_index(path) if path.suffix == ".json" else ((path,), {}, None)
        names = {entry.name for entry in path.iterdir()}
    except PermissionError as error:
        raise ModelError(f"{path}: no permission to read it", hint="change its permissions (chmod)") from error
    for name in _FOLDER_LAYOUTS:
        if name in names:
            return _files_of_index(path / name) if name.endswith(".json") else ((path / name,), {}, None)
    fair = sorted(name for name in names if name.endswith(".pt") and not name.endswith(_CONTACT_SUFFIX))
    if len(fair) == 1:
        return (path / fair[0],), {}, None
    found = f"{len(fair)} .pt files ({', '.join(fair)})" if fair else "none"
    raise ModelError(
        f"{path}: no weights found: looked for {', '.join(_FOLDER_LAYOUTS)} or one .pt file, found {found}",
        hint="give the weight file itself" if fair else "give a folder that holds one of these files",
    )


def _files_of_index(index: Path) -> _Found:
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelError(f"{index}: has no weight_map")
    promised: dict[str, Path] = {}
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or Path(name).name != name:
            raise ModelError(f"{index}: {name!r} (for {tensor}) is not the name of a file beside it")
        promised[tensor] = index.parent / name
    files = tuple(sorted(set(promised.values())))
    for file in files:
        if not file.exists():
            raise ModelError(f"{file}: shard is missing; {index.name} lists {len(files)} of them", hint=_FETCH_AGAIN)
    return files, promised, index


def _open_safetensors(path: Path) -> OpenFile:
    file: Any = safe_open(path, framework="pt", device="cpu")

    def read(name: str) -> Tensor:
        try:
            tensor: Tensor = file.get_tensor(name)
        except _READ_ERRORS as error:
            raise ModelError(
                f"{path}: tensor {name} cannot be read: {_first_line(error)}", hint=_FETCH_AGAIN
            ) from error
        return tensor

    return OpenFile(path, tuple(file.keys()), read, lambda name: tuple(file.get_slice(name).get_shape()), {})


def _load_torch_file(path: Path) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    with path.open("rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"  # the older format cannot be mapped
    with torch.serialization.safe_globals([argparse.Namespace]):  # fair-esm keeps its settings in one
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    settings: Mapping[str, Any] = {}
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        settings = _fair_settings(content)
        content = content["model"]
    if not isinstance(content, dict) or not content:
        raise ModelError(f"{path}: holds no table of tensors but {type(content).__name__}")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ModelError(f"{path}: {name!r} is {type(value).__name__}, not a tensor")
    return content, settings


def _fair_settings(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Model settings of a fair-esm file: `cfg["model"]` in ESM-2's, `args` in older ones."""
    cfg = content.get("cfg")
    found = cfg.get("model") if isinstance(cfg, dict) else None
    found = content.get("args") if found is None else found
    if isinstance(found, argparse.Namespace):
        return vars(found)
    return found if isinstance(found, dict) else {}


def _first_line(error: BaseException) -> str:
    """The first line of a library's message, without its advice to unpickle anyway."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    refused = next((line for line in lines if "Unsupported" in line or "unsupported" in line), "")
    text = refused.split(". Please use", 1)[0] or (lines[0] if lines else type(error).__name__)
    return text if len(text) <= 300 else text[:299] + "…"
