"""The two encoders: found by name, checked to fit, loaded or made with random weights, placed on the device."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from seqassay.config import PrecisionName
from seqassay.engine.embed import Embedder, Encoder, load_encoder
from seqassay.engine.embed_command import find_encoder
from seqassay.engine.precision import resolve, resolve_device
from seqassay.engine.tokens import ProteinTokenizer
from seqassay.errors import ModelError, ResourceError, UsageError, is_out_of_memory
from seqassay.measure.clock import DeviceClock
from seqassay.models.catalog import is_bundle
from seqassay.models.esm2 import ESM2_SIZES, Esm2, Esm2Config
from seqassay.models.identity import encoder_digest
from seqassay.models.registry import ENCODERS, encoder_folder, installed_bundles
from seqassay.models.weights import describe_encoder
from seqassay.prove.speed.memory import check_fits
from seqassay.prove.speed.settings import SpeedSettings

_SHAPES = {(shape.n_layers, shape.d_model): shape for shape in ESM2_SIZES.values()}
_RANDOM_SD = 0.02  # of random weights: activations stay finite in every number format


@dataclass(frozen=True, slots=True)
class Wanted:
    """An encoder that is known to be there, and has not been read yet.

    Attributes:
        path: its files; None: the shape is filled with random weights.
    """

    name: str
    path: Path | None
    shape: Esm2Config
    n_parameters: int
    precision: PrecisionName


@dataclass(frozen=True, slots=True)
class Opened:
    """An encoder on its device, with the seconds that it took to get there.

    Attributes:
        token_budget: of a batch, before any shortage of memory.
    """

    wanted: Wanted
    embedder: Embedder
    token_budget: int
    load_s: float
    place_s: float

    @property
    def model(self) -> Esm2:
        """The encoder's network, as it was loaded."""
        return cast("Esm2", self.embedder.encoder.model)

    def as_record(self) -> dict[str, Any]:
        """Identity, shape and number format."""
        config, embedder, wanted = self.model.config, self.embedder, self.wanted
        return {
            "name": wanted.name,
            "weights": "random" if wanted.path is None else "files",
            "path": None if wanted.path is None else str(wanted.path),
            "digest": embedder.encoder.digest,
            "n_layers": config.n_layers,
            "d_model": config.d_model,
            "n_heads": config.n_heads,
            "n_parameters": wanted.n_parameters,
            "weight_bytes": wanted.n_parameters * embedder.precision.dtype.itemsize,
            "precision": embedder.precision.name,
            "token_budget": self.token_budget,
        }


def find_candidate(settings: SpeedSettings) -> Wanted:
    """Where the candidate is.

    Raises:
        UsageError: nobody knows it, or its weights are not at hand.
        ModelError: it is no protein encoder.
    """
    return _find(settings.candidate, settings.precision, random_weights=settings.random_weights)


def find_baseline(settings: SpeedSettings) -> Wanted | str:
    """Where the baseline is, or why it is skipped: a known encoder whose weights are not at hand.

    Raises:
        UsageError: nobody knows it.
        ModelError: it is no protein encoder.
    """
    name = settings.baseline
    if (
        name in ENCODERS
        and not settings.random_weights
        and not encoder_folder(name).is_dir()
        and not Path(name).exists()
    ):
        return (
            f"its weights are not at hand: `seqassay models fetch {name}` gets them, and --random-weights measures its "
            "shape without"
        )
    return _find(name, settings.baseline_precision or settings.precision, random_weights=settings.random_weights)


def check_random_is_used(settings: SpeedSettings) -> None:
    """``--random-weights`` is about a name that is measured.

    Raises:
        UsageError: neither encoder is one.
    """
    names = [settings.candidate] if settings.candidate_only else [settings.candidate, settings.baseline]
    if settings.random_weights and not any(name in ENCODERS for name in names):
        raise UsageError(
            f"--random-weights: {' and '.join(names)} is no name of a published shape",
            hint=f"published shapes: {', '.join(_protein_names())}",
        )


def open_encoder(wanted: Wanted, settings: SpeedSettings) -> Opened:
    """Load or make an encoder and place it on the device.

    Raises:
        ModelError: files that cannot be used.
        ResourceError: it does not fit into memory.
        UsageError: a device or number format that this machine does not have.
    """
    device = resolve_device(settings.device)
    precision = resolve(device, wanted.precision)
    clock = DeviceClock.of(device)
    check_fits(wanted.name, wanted.shape, device, precision)
    try:
        encoder, load_s = clock.timed(lambda: _load(wanted, settings.seed))
        embedder, place_s = clock.timed(
            lambda: Embedder(
                encoder,
                device=settings.device,
                precision=wanted.precision,
                token_budget=settings.batch,
                threads=settings.threads,
            )
        )
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ResourceError(
            f"{wanted.name} does not fit into memory ({' '.join(str(error).split())[:200]})",
            hint="use a machine or device with more memory, or a smaller model",
        ) from error
    return Opened(wanted, embedder, embedder.token_budget, load_s, place_s)


def _find(name: str, precision: PrecisionName, *, random_weights: bool) -> Wanted:
    known = ENCODERS.get(name)
    if known is not None and known.encoder_class != "esm2":
        raise UsageError(
            f"{name} is a nucleotide encoder; this benchmark is of protein encoders",
            hint=f"protein encoders: {', '.join(_protein_names())}",
        )
    if known is not None and random_weights:
        return Wanted(name, None, _SHAPES[known.n_layers, known.d_model], known.n_parameters, precision)
    if is_bundle(name) and known is None:
        name = f"{name}:protein"
    is_part = name.rpartition(":")[2] in ("protein", "nucleotide") and ":" in name
    if known is None and not is_part and not Path(name).expanduser().exists():
        names = [*_protein_names(), *(f"{bundle}:protein" for bundle in installed_bundles())]
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
        guess = f"did you mean {' or '.join(near)}?\n" if near else ""
        raise UsageError(
            f"no protein encoder named {name!r}, and no such folder or file", hint=f"{guess}known: {', '.join(names)}"
        )
    path, said = find_encoder(name)
    shape = describe_encoder(path)
    if shape.encoder_class != "esm2":
        raise ModelError(f"{path}: holds a nucleotide encoder; this benchmark is of protein encoders")
    config = Esm2Config(shape.n_layers, shape.d_model, shape.n_heads)
    return Wanted(said or (name if known else path.resolve().name), path, config, shape.n_parameters, precision)


def _load(wanted: Wanted, seed: int) -> Encoder:
    if wanted.path is not None:
        return load_encoder(wanted.path, kind="protein", name=wanted.name)
    return _random_encoder(wanted.name, wanted.shape, seed)


def _random_encoder(name: str, shape: Esm2Config, seed: int) -> Encoder:
    """A shape with normally distributed matrices, the same for the same seed."""
    tokenizer = ProteinTokenizer()
    with torch.device("meta"):
        model = Esm2(shape)
    model.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    for place, parameter in model.named_parameters():
        if parameter.ndim == 2:
            parameter.data.normal_(0, _RANDOM_SD, generator=generator)
        else:
            parameter.data.fill_(1.0 if place.endswith("norm.weight") else 0.0)
    model.requires_grad_(False).eval()
    return Encoder(
        kind="protein",
        name=name,
        model=model,
        tokenizer=tokenizer,
        d_model=shape.d_model,
        digest=encoder_digest(model, tokenizer.digest),
    )


def _protein_names() -> list[str]:
    return [encoder.name for encoder in ENCODERS.values() if encoder.encoder_class == "esm2"]
