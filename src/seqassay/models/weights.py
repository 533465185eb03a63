"""Published weights into our models and back.

A tensor that is missing, unknown, of another shape or not finite is an error that names the file and the tensor.
Weights are copied straight into their place (query, key and value into one matrix), so loading needs the model's size
once, plus one file's pages.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from seqassay.errors import ModelError
from seqassay.models import names
from seqassay.models.attention import alibi_slopes
from seqassay.models.checkpoint import Checkpoint, open_checkpoint, reject_what_is_no_weight_file
from seqassay.models.dnabert import Dnabert, DnabertConfig
from seqassay.models.esm2 import Esm2, Esm2Config
from seqassay.models.head import ClassifierHead
from seqassay.models.names import Layout, Slot
from seqassay.models.pickled import read_pickled_tensors
from seqassay.models.published import (
    TOKEN_DROPOUT_SCALE,
    TOKEN_TYPES,
    dnabert_settings,
    esm2_settings,
    published_tensors,
)

EncoderClass = Literal["dnabert", "esm2"]
Model = TypeVar("Model", bound=nn.Module)

# Attention heads by (layers, width): the one thing about ESM-2 that tensor shapes do not tell.
_ESM2_HEADS = {(6, 320): 20, (12, 480): 20, (30, 640): 20, (33, 1280): 20, (36, 2560): 40, (48, 5120): 40}
_DNABERT_HEAD_DIM = 64
HEAD_VERSION = "2.0"  # of a head file's metadata


@dataclass(frozen=True, slots=True)
class EncoderShape:
    """What an encoder's files hold, by their names and shapes alone.

    Attributes:
        n_parameters: of the encoder as we run it, without language-model head.
        size_bytes: of its weight files.
    """

    path: Path
    encoder_class: EncoderClass
    n_layers: int
    d_model: int
    n_heads: int
    n_parameters: int
    size_bytes: int


def describe_encoder(path: Path | str) -> EncoderShape:
    """Check an encoder's tensor names and shapes against its architecture, without reading the weights."""
    checkpoint = open_checkpoint(path)
    layout = _layout_of(checkpoint)
    config: Esm2Config | DnabertConfig
    with shapes_only():
        if layout == "dnabert":
            config = _dnabert_config(checkpoint)
            model: nn.Module = Dnabert(config)
        else:
            config, _ = _esm2_config(checkpoint, layout)
            model = Esm2(config)
    _match(checkpoint, layout, config.n_layers, model)
    return EncoderShape(
        path=checkpoint.path,
        encoder_class="dnabert" if layout == "dnabert" else "esm2",
        n_layers=config.n_layers,
        d_model=config.d_model,
        n_heads=config.n_heads,
        n_parameters=sum(parameter.numel() for parameter in model.parameters()),
        size_bytes=sum(file.stat().st_size for file in checkpoint.files),
    )


def detect_encoder_class(path: Path | str) -> EncoderClass:
    """Whether a folder or file holds a DNABERT-S or an ESM-2, by its tensor names."""
    return "dnabert" if _layout_of(open_checkpoint(path)) == "dnabert" else "esm2"


def load_encoder_tensors(path: Path | str) -> dict[str, Tensor]:
    """All tensors under their published names, in their own precision; copies, independent of the files."""
    return {name: tensor.clone() for _, name, tensor in open_checkpoint(path).tensors()}


def load_esm2(path: Path | str, dtype: torch.dtype = torch.float32) -> Esm2:
    """ESM-2 of any size (and FastESM2_650) from a folder or file in any published layout, in ``eval`` mode.

    Raises:
        ModelError: unreadable, another architecture, or its tensors are not exactly those expected.
    """
    checkpoint = open_checkpoint(path)
    layout = _layout_of(checkpoint)
    if layout == "dnabert":
        raise ModelError(f"{checkpoint.path}: holds a DNABERT, not an ESM-2")
    config, scale = _esm2_config(checkpoint, layout)
    with shapes_only():
        model = Esm2(config)
    tensors = _read_into(checkpoint, layout, config.n_layers, model, dtype, "embed_tokens.weight")
    tensors["embed_tokens.weight"] *= scale  # in float32, once
    return adopt(model, tensors, dtype)


def load_dnabert(path: Path | str, dtype: torch.dtype = torch.float32) -> Dnabert:
    """DNABERT-S (or any DNABERT-2 shape) from a folder or file in any published layout, in ``eval`` mode."""
    checkpoint = open_checkpoint(path)
    layout = _layout_of(checkpoint)
    if layout != "dnabert":
        raise ModelError(f"{checkpoint.path}: holds an ESM-2, not a DNABERT")
    config = _dnabert_config(checkpoint)
    with shapes_only():
        model = Dnabert(config)
    tensors = _read_into(checkpoint, layout, config.n_layers, model, dtype, "embeddings.weight")
    model.slopes_H = torch.tensor(alibi_slopes(config.n_heads))  # a constant, made on no device above
    return adopt(model, tensors, dtype)


def load_head(path: Path | str) -> ClassifierHead:
    """A classifier head from safetensors (ours), or as published (a pickle), in ``eval`` mode and float32.

    Raises:
        ModelError: unreadable, not a head, not finite; or its metadata name another major version or dimension.
    """
    if Path(path).suffix != ".safetensors":
        return load_published_head(path)
    checkpoint = open_checkpoint(path)
    said = read_head_metadata(checkpoint.path)
    tensors = {name: tensor.clone() for _, name, tensor in checkpoint.tensors()}
    head = head_from_tensors(tensors, checkpoint.path)
    if said.get("merged_dim", str(head.input_dim)) != str(head.input_dim):
        raise ModelError(
            f"{path}: its metadata say that it takes {said['merged_dim']} values, its tensors {head.input_dim}",
            hint="the file was put together from two: train the head again with `seqassay train head`",
        )
    return head


def read_head_metadata(path: Path | str) -> dict[str, str]:
    """What a head's safetensors file says of itself (see `seqassay.train.head_file`).

    Raises:
        ModelError: unreadable, or of another major version.
    """
    path = Path(path)
    reject_what_is_no_weight_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            said = dict(file.metadata() or {})
    except SafetensorError as error:
        raise ModelError(f"{path}: not a readable safetensors file: {error}") from error
    version = said.get("version", HEAD_VERSION)
    if version.split(".")[0] != HEAD_VERSION.split(".")[0]:
        raise ModelError(
            f"{path}: head version {version} cannot be read; this seqassay reads {HEAD_VERSION.split('.')[0]}.x",
            hint="train the head again with `seqassay train head`, or install the seqassay that wrote it",
        )
    return said


def load_published_head(path: Path | str) -> ClassifierHead:
    """The published `300_model.pth` and `500_model.pth`, whole pickled modules, read through an allow-list."""
    path = Path(path)
    reject_what_is_no_weight_file(path)
    return head_from_tensors(read_pickled_tensors(path), path)


def head_from_tensors(tensors: Mapping[str, Tensor], path: Path) -> ClassifierHead:
    """A head as wide as its first matrix; every tensor must be there, of the right shape and finite, and no other."""
    first = tensors.get("hidden_layer.weight")
    if first is None or first.ndim != 2:
        raise ModelError(f"{path}: tensor hidden_layer.weight is missing: not a classifier head")
    head = ClassifierHead(input_dim=first.shape[1], hidden_units=first.shape[0])
    expected = head.state_dict()
    check_names(path, set(tensors), set(expected))
    for name, tensor in tensors.items():
        check_shape(path, name, tuple(tensor.shape), tuple(expected[name].shape))
        if name != "bn1.num_batches_tracked":
            check_values(path, name, tensor)
    if bool((tensors["bn1.running_var"] < 0).any()):
        raise ModelError(f"{path}: tensor bn1.running_var holds a negative variance")
    head.load_state_dict({name: tensor.to(expected[name].dtype) for name, tensor in tensors.items()})
    return head.eval()


def save_esm2(model: Esm2, folder: Path | str, *, dtype: torch.dtype | None = None) -> None:
    """Write config.json and model.safetensors as Hugging Face publishes ESM-2 (`esm.` names, table un-multiplied)."""
    tensors = published_tensors(model, "esm2-huggingface", model.config.n_layers)
    table = "embeddings.word_embeddings.weight"
    tensors[table] = (tensors[table].double() / TOKEN_DROPOUT_SCALE).to(tensors[table].dtype)
    named = {f"esm.{name}": tensor for name, tensor in tensors.items()}
    _save_encoder(Path(folder), named, esm2_settings(model), dtype)


def save_dnabert(model: Dnabert, folder: Path | str, *, dtype: torch.dtype | None = None) -> None:
    """Write config.json and model.safetensors with the names DNABERT-S is published under (no `auto_map`)."""
    tensors = published_tensors(model, "dnabert", model.config.n_layers)
    _save_encoder(Path(folder), tensors, dnabert_settings(model), dtype)


def save_head(head: ClassifierHead, path: Path | str) -> None:
    """Write a head's tensors to one safetensors file."""
    save_tensors({name: tensor.detach() for name, tensor in head.state_dict().items()}, Path(path))


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write a safetensors file under a temporary name and rename it, so that it is whole or absent."""
    temporary = path.with_name(f".{path.name}.partial")
    temporary.touch()
    mode = temporary.stat().st_mode  # as files are made here; safetensors would let the owner alone read its file
    save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, temporary, {"format": "pt"})
    temporary.chmod(mode)
    temporary.replace(path)


class _NoRandomNumbers(TorchFunctionMode):
    """Leaves tensors as they are instead of filling them with random numbers.

    On no device, the first random fill alone makes torch import its symbolic mathematics: 1.5 s of every start.
    """

    _FILLS = (nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_, Tensor.normal_, Tensor.uniform_)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in self._FILLS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


@contextmanager
def shapes_only() -> Iterator[None]:
    """Modules made in this block have names and shapes but no numbers and no memory."""
    with torch.device("meta"), _NoRandomNumbers():
        yield


def _layout_of(checkpoint: Checkpoint) -> Layout:
    layout = names.detect_layout(checkpoint.shapes)
    if layout is None:
        some = ", ".join(list(checkpoint.shapes)[:3])
        raise ModelError(f"{checkpoint.path}: neither an ESM-2 nor a DNABERT; its tensors begin with {some}")
    return layout


def _esm2_config(checkpoint: Checkpoint, layout: Layout) -> tuple[Esm2Config, float]:
    """The model's dimensions, and the factor of its embedding table."""
    _require_settings(
        checkpoint,
        position_embedding_type="rotary",
        emb_layer_norm_before=False,
        hidden_act="gelu",
        layer_norm_eps=1e-5,
        is_folding_model=False,
    )
    said = checkpoint.config or {
        "num_hidden_layers": checkpoint.settings.get("encoder_layers"),
        "hidden_size": checkpoint.settings.get("encoder_embed_dim"),
        "num_attention_heads": checkpoint.settings.get("encoder_attention_heads"),
        "token_dropout": checkpoint.settings.get("token_dropout", True),
    }
    table_name, (vocab_size, d_model) = _embedding_shape(checkpoint, layout)
    n_layers = _dimension(checkpoint, said, "num_hidden_layers", _count_layers(checkpoint, layout))
    d_model = _dimension(checkpoint, said, "hidden_size", d_model)
    n_heads = _dimension(checkpoint, said, "num_attention_heads", _ESM2_HEADS.get((n_layers, d_model)))
    d_ff = _dimension(checkpoint, said, "intermediate_size", 4 * d_model)
    if vocab_size != 33:
        raise ModelError(f"{checkpoint.file_of[table_name]}: tensor {table_name} has {vocab_size} rows; ESM-2 has 33")
    _check_heads(checkpoint, d_model, n_heads)
    scale = TOKEN_DROPOUT_SCALE if said.get("token_dropout", True) else 1.0
    return Esm2Config(n_layers=n_layers, d_model=d_model, n_heads=n_heads, d_ff=d_ff), scale


def _dnabert_config(checkpoint: Checkpoint) -> DnabertConfig:
    _require_settings(checkpoint, hidden_act="gelu")
    said = checkpoint.config
    _, (vocab_size, d_model) = _embedding_shape(checkpoint, "dnabert")
    n_layers = _dimension(checkpoint, said, "num_hidden_layers", _count_layers(checkpoint, "dnabert"))
    d_model = _dimension(checkpoint, said, "hidden_size", d_model)
    n_heads = _dimension(checkpoint, said, "num_attention_heads", d_model // _DNABERT_HEAD_DIM)
    _check_heads(checkpoint, d_model, n_heads)
    return DnabertConfig(
        vocab_size=_dimension(checkpoint, said, "vocab_size", vocab_size),
        d_model=d_model,
        n_layers=n_layers,
        n_heads=n_heads,
        d_ff=_dimension(checkpoint, said, "intermediate_size", 4 * d_model),
        eps=float(said.get("layer_norm_eps", 1e-12)),
    )


def _require_settings(checkpoint: Checkpoint, **required: object) -> None:
    """A config.json that asks for arithmetic other than ours is refused, not silently computed wrongly."""
    for key, value in required.items():
        found = checkpoint.config.get(key)
        if found is not None and found != value:
            raise ModelError(f"{checkpoint.config_path}: {key} is {found!r}; only {value!r} is supported")


def _dimension(checkpoint: Checkpoint, said: Mapping[str, Any], key: str, from_shapes: int | None) -> int:
    """What the settings say, else what the tensor shapes say; a wrong setting shows as a wrong shape later."""
    value = said.get(key)
    if value is None:
        value = from_shapes
    if value is None:
        raise ModelError(
            f"{checkpoint.path}: {key} is not known: no config.json beside the weights and not a published size",
            hint="put the model's config.json beside its weights",
        )
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ModelError(f"{checkpoint.config_path or checkpoint.path}: {key} is {value!r}, not a positive number")
    return value


def _check_heads(checkpoint: Checkpoint, d_model: int, n_heads: int) -> None:
    if d_model % n_heads or (d_model // n_heads) % 2:
        raise ModelError(f"{checkpoint.path}: a width of {d_model} does not divide into {n_heads} heads of even size")


def _embedding_shape(checkpoint: Checkpoint, layout: Layout) -> tuple[str, tuple[int, int]]:
    for name, shape in checkpoint.shapes.items():
        if names.plain_name(name, layout) == names.embedding_name(layout) and len(shape) == 2:
            return name, (shape[0], shape[1])
    raise ModelError(f"{checkpoint.path}: tensor {names.embedding_name(layout)} is missing")


def _count_layers(checkpoint: Checkpoint, layout: Layout) -> int:
    return names.count_layers((names.plain_name(name, layout) for name in checkpoint.shapes), layout)


def _read_into(
    checkpoint: Checkpoint, layout: Layout, n_layers: int, model: nn.Module, dtype: torch.dtype, table: str
) -> dict[str, Tensor]:
    """Copy every published tensor into its place; ``table`` stays in float32 for the arithmetic done on it at load."""
    slot_of = _match(checkpoint, layout, n_layers, model)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    tensors: dict[str, Tensor] = {table: torch.zeros(shapes[table])}
    for file, name, tensor in checkpoint.tensors():
        slot = slot_of.get(name)
        if slot is None:
            continue
        check_values(file, name, tensor)
        if slot.ours not in tensors:
            tensors[slot.ours] = torch.empty(shapes[slot.ours], dtype=dtype)
        if slot.ours == table:  # starts at zero, as the token-type row may come first, from another shard
            tensors[table] += (tensor[0] if slot.add_first_row else tensor).float()
        else:
            rows = tensors[slot.ours].shape[0] // slot.parts
            tensors[slot.ours][slot.part * rows : (slot.part + 1) * rows].copy_(tensor)
    return tensors


def _match(checkpoint: Checkpoint, layout: Layout, n_layers: int, model: nn.Module) -> dict[str, Slot]:
    """Where every published tensor goes, by its full name, once names and shapes are exactly those expected."""
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    slots = names.expected_slots(layout, n_layers)
    plain = {name: names.plain_name(name, layout) for name in checkpoint.shapes}
    wanted = {name: short for name, short in plain.items() if not names.is_unused(short, layout)}
    where = {short: checkpoint.file_of[name] for name, short in wanted.items()}
    check_names(checkpoint.path, set(wanted.values()), set(slots), where)
    if len(wanted) != len(slots):
        twice = sorted(name for name, short in wanted.items() if short != name and short in wanted)
        raise ModelError(f"{checkpoint.path}: tensors are there twice, with and without a prefix: {', '.join(twice)}")
    for name, short in wanted.items():
        check_shape(where[short], name, checkpoint.shapes[name], _published_shape(slots[short], shapes))
    return {name: slots[short] for name, short in wanted.items()}


def _published_shape(slot: Slot, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """The shape the published tensor must have."""
    rows, *rest = shapes[slot.ours]
    return (TOKEN_TYPES, *rest) if slot.add_first_row else (rows // slot.parts, *rest)


def adopt(model: Model, tensors: dict[str, Tensor], dtype: torch.dtype) -> Model:
    """Make the tensors the model's own parameters, without a copy."""
    model.load_state_dict({name: tensor.to(dtype) for name, tensor in tensors.items()}, strict=True, assign=True)
    return model.eval()


def check_names(path: Path, found: set[str], expected: set[str], where: Mapping[str, Path] | None = None) -> None:
    """These names must be exactly those expected; a ModelError names what is unknown or missing."""
    unknown, missing = sorted(found - expected), sorted(expected - found)
    if unknown:
        file = (where or {}).get(unknown[0], path)
        raise ModelError(f"{file}: unknown tensor {_some(unknown)}", hint=_NOT_THIS_ARCHITECTURE)
    if missing:
        raise ModelError(f"{path}: tensor {_some(missing)} is missing", hint=_NOT_THIS_ARCHITECTURE)


_NOT_THIS_ARCHITECTURE = "the file is incomplete, or of another architecture than its folder says"


def _some(tensor_names: list[str], limit: int = 3) -> str:
    more = f" (and {len(tensor_names) - limit} more)" if len(tensor_names) > limit else ""
    return ", ".join(tensor_names[:limit]) + more


def check_shape(path: Path, name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """A ModelError names a tensor of another shape."""
    if shape != expected:
        raise ModelError(f"{path}: tensor {name} has shape {list(shape)}, expected {list(expected)}")


def check_values(path: Path, name: str, tensor: Tensor) -> None:
    """A ModelError names a tensor that is not floating point, or not finite."""
    if not tensor.is_floating_point():
        raise ModelError(f"{path}: tensor {name} is {str(tensor.dtype).removeprefix('torch.')}, not floating point")
    # A sum is finite unless a value is not, or it overflows; it is 10 times as fast as looking at every value.
    if not tensor.sum(dtype=torch.float32).isfinite() and not bool(torch.isfinite(tensor).all()):
        raise ModelError(
            f"{path}: tensor {name} holds NaN or infinite values", hint="the file is damaged: fetch it again"
        )


def _save_encoder(
    folder: Path, tensors: Mapping[str, Tensor], settings: Mapping[str, object], dtype: torch.dtype | None
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(
        {name: tensor.clone().to(dtype or tensor.dtype) for name, tensor in tensors.items()},
        folder / "model.safetensors",
    )
    write_text_atomically(folder / "config.json", json.dumps(settings, indent=2) + "\n")


def write_text_atomically(path: Path, text: str) -> None:
    """Write a text file under a temporary name and rename it."""
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
