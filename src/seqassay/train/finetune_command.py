"""The main path of ``seqassay train finetune``: a published encoder and labelled records in, a better one out."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from tokenizers import Tokenizer as ReferenceTokenizer

from seqassay.config import check_at_least
from seqassay.durable import disk_errors
from seqassay.engine.embed import Encoder, load_encoder
from seqassay.engine.embed_command import find_encoder
from seqassay.engine.precision import resolve, resolve_device
from seqassay.errors import ModelError, ResourceError, UsageError, is_out_of_memory
from seqassay.measure.provenance import device_name, provenance, utc_now
from seqassay.models.dnabert import Dnabert
from seqassay.models.esm2 import Esm2
from seqassay.models.identity import encoder_digest
from seqassay.models.weights import describe_encoder
from seqassay.train.classifier import SideClassifier
from seqassay.train.dataset import LabelledRecords, read_labelled
from seqassay.train.encoder_command import (
    RECORD,
    SPLITS,
    check_records,
    describe_records,
    find_split,
    longest_to_draw,
)
from seqassay.train.encoders import Recipe, default_group_weights
from seqassay.train.finetune import AUGMENTATION, FineTuner, FineTuneRecipe, check_layers
from seqassay.train.finetune_output import ENCODER, HEAD, TOKENIZER, head_metadata, write_encoder
from seqassay.train.frame_batches import require_mutations
from seqassay.train.head_file import save_trained_head
from seqassay.train.output_folder import only_writer, write_json


@dataclass(frozen=True, kw_only=True)
class FineTuneSettings:
    """Everything ``seqassay train finetune`` can be told; the names are those of the command's options.

    Raises:
        UsageError: a value out of its range.
    """

    dataset: Path  # folder with labelled records of the splits train and valid; a test split is never read
    encoder: str  # a folder, a weight file, a fetched encoder's name, or BUNDLE:protein, BUNDLE:nucleotide
    layers: int  # how many of the last layers learn; 0: the head alone
    output_dir: Path
    chunk_length: int = 300  # bases; the longest chunks trained on, and what the head's file says
    steps: int = FineTuneRecipe.steps
    max_minutes: float | None = None
    learning_rate: float = FineTuneRecipe.learning_rate  # of the encoder's layers
    bases_per_step: int = FineTuneRecipe.bases_per_step
    evaluate_every: int = FineTuneRecipe.evaluate_every_steps  # steps
    seed: int = Recipe.seed
    device: str = "auto"  # auto, cpu, cuda, cuda:N
    precision: Literal["bf16", "float32"] = "bf16"  # of the matrix products while training
    threads: int | None = None

    def __post_init__(self) -> None:
        check_at_least(
            self, layers=0, chunk_length=min(Recipe.lengths), steps=1, evaluate_every=1, threads=1, seed=0,
            bases_per_step=30 * self.chunk_length,
        )  # fmt: skip
        for name in ("max_minutes", "learning_rate"):
            given = getattr(self, name)
            if given is not None and not given > 0:
                raise UsageError(f"--{name.replace('_', '-')} is {given:g}; it has to be more than 0")


@dataclass(frozen=True, slots=True)
class Published:
    """An encoder that was found, before its weights are read."""

    path: Path
    name: str
    side: Literal["nucleotide", "protein"]
    tokenizer: Path | None  # of a nucleotide encoder


def finetune(settings: FineTuneSettings) -> dict[str, Any]:
    """Train the last layers of an encoder and a new head; write both below the output folder; the record of it.

    The same command goes on from the checkpoint that it finds; with other settings or another encoder it refuses.

    Raises:
        UsageError, InputError: settings or records that cannot work; said before the encoder is read.
        MissingExtraError: a protein encoder without the extra ``train``.
        ModelError: an encoder that cannot be loaded, or a checkpoint of another recipe or encoder.
        ResourceError: the disk or the memory is full; checkpoints are kept.
    """
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    device = resolve_device(settings.device)
    resolve(device, settings.precision)
    published = find_published(settings)
    files = {split: find_split(settings.dataset, split) for split in SPLITS}
    records = {split: read_labelled(file) for split, file in files.items()}
    check_records(records, files)
    longest_to_draw(records["train"], records["valid"])
    out, began = settings.output_dir, time.monotonic()
    with disk_errors(path=out), memory_errors(settings), only_writer(out):
        encoder = load_encoder(published.path, kind=published.side, name=published.name)
        recipe = recipe_of(settings, encoder, records["train"], records["valid"])
        mask_id = mask_token(published.tokenizer) if published.tokenizer else None
        tuner = FineTuner(recipe, encoder, records["train"], records["valid"], out, mask_id=mask_id, device=device)
        best = tuner.run()
        tuned = best.encoder
        write_encoder(tuned, out / ENCODER, tokenizer=published.tokenizer)
        digest = encoder_digest(tuned.cpu(), encoder.tokenizer.digest)  # written as loaded again, bit for bit
        data = describe_records(records, files)
        metadata = head_metadata(
            side=published.side,
            name=f"{out.resolve().name}/{ENCODER}",
            digest=digest,
            d_model=encoder.d_model,
            chunk_length=settings.chunk_length,
            recipe=f"finetune --layers {recipe.layers}",
            seed=recipe.seed,
            data={split: said["sha256"] for split, said in data.items()},
        )
        save_trained_head(best.head, out / HEAD, metadata)
        record = {
            "kind": "finetune",
            "written_at": utc_now(),
            "side": published.side,
            "begun_with": {"name": published.name, "path": str(published.path), "digest": encoder.digest},
            "encoder": {"path": ENCODER, "digest": digest},
            "head": {"path": HEAD, **metadata.as_text()},
            "parameters": count_parameters(best, tuner.learnt_names),
            "best_step": tuner.progress.best_step,
            "steps": tuner.progress.step,
            "history": [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()],
            "data": data,
            "recipe": asdict(recipe),
            "device": device_name(device),
            "seconds": round(time.monotonic() - began, 1),
            "provenance": provenance(),
        }
        write_json(out / RECORD, record)
    return record


def find_published(settings: FineTuneSettings) -> Published:
    """The encoder's files, its side by its tensor names, and whether it has as many layers as are to learn.

    Raises:
        UsageError: no such encoder, or fewer layers.
        ModelError: files that are no encoder's, or a nucleotide one's without a tokenizer.
        MissingExtraError: a protein encoder, whose residues cannot be exchanged without the extra.
    """
    path, name = find_encoder(settings.encoder)
    shape = describe_encoder(path)
    check_layers(settings.layers, shape.n_layers)
    name = name or path.resolve().name
    if shape.encoder_class == "esm2":
        require_mutations()
        return Published(path, name, "protein", None)
    tokenizer = (path if path.is_dir() else path.parent) / TOKENIZER
    if not tokenizer.is_file():
        raise ModelError(f"{tokenizer}: is missing", hint="a nucleotide encoder needs its tokenizer.json beside it")
    return Published(path, name, "nucleotide", tokenizer)


def recipe_of(
    settings: FineTuneSettings, encoder: Encoder, train: LabelledRecords, valid: LabelledRecords
) -> FineTuneRecipe:
    """The recipe for these settings, this encoder and these records."""
    most = min(settings.chunk_length, longest_to_draw(train, valid))
    own = () if settings.chunk_length in Recipe.lengths else (settings.chunk_length,)
    lengths = tuple(length for length in (*Recipe.lengths, *own) if length <= most)
    evaluated = sorted({min(Recipe.evaluation_lengths), settings.chunk_length})
    limits: dict[str, Any] = {} if settings.max_minutes is None else {"max_minutes": settings.max_minutes}
    return FineTuneRecipe(
        encoder=cast("Dnabert | Esm2", encoder.model).config,
        encoder_digest=encoder.digest,
        layers=settings.layers,
        seed=settings.seed,
        steps=settings.steps,
        bases_per_step=settings.bases_per_step,
        lengths=lengths,
        group_weights=default_group_weights(train),
        learning_rate=settings.learning_rate,
        precision=settings.precision,
        evaluate_every_steps=settings.evaluate_every,
        evaluation_lengths=tuple(n for n in evaluated if n <= most) or lengths[:1],
        **AUGMENTATION[encoder.kind],
        **limits,
    )


def mask_token(tokenizer: Path) -> int:
    """The id of ``[MASK]`` in a nucleotide encoder's vocabulary.

    Raises:
        ModelError: it has none.
    """
    found = ReferenceTokenizer.from_file(str(tokenizer)).token_to_id("[MASK]")
    if found is None:
        raise ModelError(f"{tokenizer}: has no [MASK] token, which training hides tokens with")
    return int(found)


def count_parameters(model: SideClassifier, learnt: tuple[str, ...]) -> dict[str, int]:
    """How many parameters learnt, and how many stayed as they were."""
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    trained = sum(size for name, size in sizes.items() if name in learnt)
    return {"trained": trained, "frozen": sum(sizes.values()) - trained}


@contextlib.contextmanager
def memory_errors(settings: FineTuneSettings) -> Iterator[None]:
    """Say what needs less memory when there is not enough.

    Raises:
        ResourceError: in place of what torch or Python raise.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ResourceError(
            f"out of memory with --layers {settings.layers} and --bases-per-step {settings.bases_per_step}",
            hint="give fewer of either; the last evaluation's checkpoint is kept for the same settings alone",
        ) from error
