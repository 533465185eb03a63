"""Folders of language models: ours (``lm.json`` + ``model.safetensors``), whole or absent; and those of transformers.

``lm.json`` holds the shape, the plan, the seed, the tokenizer's digest and provenance; the weights lie beside it under
our names, and the tokenizer as ``tokenizer.json``. Tensors only: nothing in a folder is executed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch
from safetensors import SafetensorError
from torch import Tensor

from seqassay.durable import disk_errors, swap_in, sync
from seqassay.errors import InputError, ModelError, UsageError
from seqassay.measure.provenance import provenance, utc_now
from seqassay.models.causal_lm import CausalLm, CausalLmConfig, initialise
from seqassay.models.checkpoint import Checkpoint, open_checkpoint, read_json_object
from seqassay.models.lm_layouts import (
    config_from_published,
    published_settings,
    published_slots,
    published_tensors,
    tensors_from_published,
)
from seqassay.models.lm_plan import LmPlan
from seqassay.models.weights import adopt, check_names, check_shape, check_values, save_tensors, shapes_only
from seqassay.text.tokenizer import TextTokenizer, load_tokenizer

LM_FILE = "lm.json"
WEIGHTS_FILE = "model.safetensors"
TOKENIZER_FILE = "tokenizer.json"
BEST_OF_TRAINING = "best"  # a folder that `lm train` wrote stands for the best model in it
FORMAT_VERSION = "1.0"


@dataclass(frozen=True)
class LmFolder:
    """A language model as loaded.

    Attributes:
        said: all of ``lm.json``; empty for a folder of transformers.
        tokenizer_path: its tokenizer, where it has one.
        tokenizer_digest: of that file (checked against ``lm.json``), else None.
    """

    path: Path
    model: CausalLm
    said: Mapping[str, Any]
    tokenizer_path: Path | None
    tokenizer_digest: str | None


def build_lm(config: CausalLmConfig, seed: int) -> CausalLm:
    """A model with its first weights, in float32 on the CPU, in ``train`` mode; see `initialise`."""
    with shapes_only():
        model = CausalLm(config)
    return initialise(model.to_empty(device="cpu"), seed)


def save_lm(
    model: CausalLm,
    folder: Path | str,
    *,
    plan: LmPlan | None = None,
    seed: int | None = None,
    tokenizer: Path | None = None,
    more: Mapping[str, Any] | None = None,
    replace: bool = False,
) -> None:
    """Write a checkpoint folder; after a stop or a full disk there is the old folder, the new one, or none.

    Args:
        plan: what the model was built from (default: its shape alone).
        seed: of its first weights.
        tokenizer: a ``tokenizer.json`` to put into the folder.
        more: further entries of ``lm.json``, such as a training's state in numbers.
        replace: take the place of a model that is there.

    Raises:
        UsageError: something is in the way, or the tokenizer has more tokens than the model.
        ResourceError: the disk is full.
    """
    said: dict[str, Any] = {
        "format": "seqassay language model",
        "version": FORMAT_VERSION,
        "config": dataclasses.asdict(model.config),
        "plan": (plan or LmPlan(model.config)).as_json(),
        "seed": seed,
        "tokenizer": None,
        **(more or {}),
        "time": utc_now(),
        "provenance": provenance(),
    }
    if tokenizer is not None:
        read = read_tokenizer(tokenizer)
        n_tokens = read.vocab_size
        if n_tokens > model.config.vocab_size:
            raise UsageError(
                f"{tokenizer}: has {n_tokens:,} tokens; the model has a vocabulary of {model.config.vocab_size:,}",
                hint=f"build it with --vocab-size {n_tokens}",
            )
        said["tokenizer"] = {"file": TOKENIZER_FILE, "digest": read.digest, "tokens": n_tokens}

    def fill(staging: Path) -> None:
        save_tensors({name: tensor.detach() for name, tensor in model.state_dict().items()}, staging / WEIGHTS_FILE)
        if tokenizer is not None:
            shutil.copyfile(tokenizer, staging / TOKENIZER_FILE)
        _write_json(staging / LM_FILE, said)

    _write_folder(Path(folder), fill, replace=replace)


def export_lm(source: Path | str, folder: Path | str, *, replace: bool = False) -> dict[str, Any]:
    """Write a model as transformers loads it (LlamaForCausalLM, or StableLmForCausalLM); returns its config.json.

    Raises:
        ModelError: the source cannot be read.
        UsageError: transformers has no layout for it, or something is in the way.
    """
    loaded = load_lm(source)
    if Path(folder).resolve() in (Path(source).resolve(), loaded.path.resolve()):
        raise UsageError(f"{folder}: is the model itself", hint="choose another folder")
    settings = published_settings(loaded.model.config)

    def fill(staging: Path) -> None:
        save_tensors(published_tensors(loaded.model), staging / WEIGHTS_FILE)
        if loaded.tokenizer_path is not None:
            shutil.copyfile(loaded.tokenizer_path, staging / TOKENIZER_FILE)
            _write_json(staging / "tokenizer_config.json", _tokenizer_settings(read_tokenizer(loaded.tokenizer_path)))
        _write_json(staging / "config.json", settings)

    _write_folder(Path(folder), fill, replace=replace)
    return settings


def _tokenizer_settings(tokenizer: TextTokenizer) -> dict[str, str]:
    """What transformers is to know: without the token that ends a text, lm-evaluation-harness cannot run there."""
    names = {"bos_token": tokenizer.prefix, "eos_token": tokenizer.separator}
    tokens = {name: token.text for name, token in names.items() if token is not None}
    return {"tokenizer_class": "PreTrainedTokenizerFast", **tokens}


def load_lm(folder: Path | str) -> LmFolder:
    """A model from our folder, or from one of transformers (Llama, StableLM), in float32 and ``eval`` mode.

    Raises:
        ModelError: not a language model's folder, damaged, tensors that are not exactly those expected, not finite, or
            a tokenizer that is not the one ``lm.json`` names.
    """
    path = Path(folder)
    if not path.is_dir():
        raise ModelError(f"{path}: no such folder", hint="give a folder that `seqassay lm build -o` wrote")
    if not (path / WEIGHTS_FILE).exists() and (path / BEST_OF_TRAINING / LM_FILE).is_file():
        path = path / BEST_OF_TRAINING
    checkpoint = open_checkpoint(path)
    said = read_json_object(path / LM_FILE) if (path / LM_FILE).exists() else {}
    config = _config_of(path / LM_FILE, said) if said else config_from_published(checkpoint)
    _check_plausible(config, checkpoint)
    with shapes_only():
        model = CausalLm(config)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if said:
        tensors = _read(checkpoint, shapes)
    else:
        expected = {
            theirs: (len(range(*rows.indices(shapes[ours][0]))), *shapes[ours][1:])
            for theirs, (ours, rows) in published_slots(config).items()
        }
        tensors = tensors_from_published(config, _read(checkpoint, expected, tied=config.tied), shapes)
    tokenizer = path / TOKENIZER_FILE
    digest = read_tokenizer(tokenizer).digest if tokenizer.is_file() else None
    named = said.get("tokenizer")
    if named is not None and (not isinstance(named, dict) or named.get("digest") != digest):
        raise ModelError(
            f"{tokenizer}: is not the tokenizer that {LM_FILE} names" if digest else f"{tokenizer}: is missing",
            hint="the folder was changed after it was written: copy it again",
        )
    return LmFolder(path, adopt(model, tensors, torch.float32), said, tokenizer if digest else None, digest)


def _check_plausible(config: CausalLmConfig, checkpoint: Checkpoint) -> None:
    """Settings that no tensor's shape would tell, or that would be long in building before one does.

    Raises:
        ModelError: names the setting.
    """
    if config.n_layers > len(checkpoint.shapes):
        raise ModelError(
            f"{checkpoint.path}: has {config.n_layers:,} layers by its settings, and only {len(checkpoint.shapes):,} "
            "tensors",
            hint="the file is incomplete, or of another architecture than its folder says",
        )
    for name in ("eps", "rotary_base"):
        if not 0 < getattr(config, name) < math.inf:
            raise ModelError(f"{checkpoint.path}: {name} is {getattr(config, name):g}; it has to be above 0")


def read_tokenizer(path: Path) -> TextTokenizer:
    """The tokenizer of a ``tokenizer.json``; its digest is the one that token files name.

    Raises:
        ModelError: it cannot be read as one.
    """
    try:
        return load_tokenizer(path)
    except InputError as error:
        raise ModelError(error.message, hint=error.hint) from error


def _read(checkpoint: Checkpoint, expected: Mapping[str, tuple[int, ...]], *, tied: bool = False) -> dict[str, Tensor]:
    """Every tensor in float32, once names, shapes and values are right; a tied head that is there must be the table."""
    head, table = "lm_head.weight", "model.embed_tokens.weight"
    repeats_head = tied and head in checkpoint.shapes
    check_names(checkpoint.path, set(checkpoint.shapes) - ({head} if repeats_head else set()), set(expected))
    for name, shape in checkpoint.shapes.items():
        check_shape(checkpoint.file_of[name], name, shape, expected[table if repeats_head and name == head else name])
    tensors = {}
    for file, name, tensor in checkpoint.tensors():
        check_values(file, name, tensor)
        tensors[name] = tensor.to(torch.float32, copy=True)
    if repeats_head and not torch.equal(tensors.pop(head), tensors[table]):
        raise ModelError(
            f"{checkpoint.file_of[head]}: {head} differs from {table}, but config.json says that they are tied"
        )
    return tensors


def _config_of(path: Path, said: Mapping[str, Any]) -> CausalLmConfig:
    version = str(said.get("version", ""))
    if version.split(".")[0] != FORMAT_VERSION.split(".")[0]:
        raise ModelError(
            f"{path}: version {version or 'unknown'} cannot be read; this seqassay reads {FORMAT_VERSION}",
            hint="build the model again, or install the seqassay that wrote it",
        )
    fields = said.get("config")
    if not isinstance(fields, dict):
        raise ModelError(f"{path}: has no config")
    hints = get_type_hints(CausalLmConfig)
    if set(fields) != set(hints):
        raise ModelError(f"{path}: config must hold exactly {', '.join(hints)}; it holds {', '.join(fields)}")
    for name, value in fields.items():
        allowed = get_args(hints[name])
        if (allowed and value not in allowed) or (not allowed and type(value) is not hints[name]):
            raise ModelError(f"{path}: {name} is {value!r}, which it cannot be")
    try:
        return CausalLmConfig(**fields)
    except ValueError as error:
        raise ModelError(f"{path}: {error}") from error


def _write_folder(folder: Path, fill: Callable[[Path], None], *, replace: bool) -> None:
    """``fill`` a folder beside, make it durable, and rename it into place."""
    folder = folder.absolute()
    if folder.exists() and not _is_ours_to_replace(folder, replace=replace):
        raise UsageError(
            f"{folder}: is there already" if folder.is_dir() else f"{folder}: a file is in the way",
            hint="choose another folder, or --force to replace a model that is there",
        )
    staging = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    with disk_errors(path=folder):
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir()
            with _safetensors_errors():
                fill(staging)
            for path in staging.iterdir():
                sync(path)
            sync(staging)
            swap_in(staging, folder, aside=folder.with_name(f".{folder.name}.old"))
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _is_ours_to_replace(folder: Path, *, replace: bool) -> bool:
    """Whether the folder is empty, or holds a model and may go."""
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir()}
    return not names or (replace and WEIGHTS_FILE in names and bool(names & {LM_FILE, "config.json"}))


@contextlib.contextmanager
def _safetensors_errors() -> Any:
    """safetensors reports a full disk as an error of its own, with the system's number in the text."""
    try:
        yield
    except SafetensorError as error:
        raise OSError(str(error)) from error


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
