"""Embeddings of labelled records, once, in files that training reads again and again.

Chunks, frames and embeddings are those of `predict`: same chunking, same translation, same Embedder. Records come
from labelled FASTA (`seqassay.train.dataset`); ``frames=F1,R2`` in a header keeps only those of its stop-free frames.
Memory is that of two shards, whatever the size of the input.
"""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

import seqassay
from seqassay.config import Ambiguity, ChunkRule, PrecisionName, check_at_least
from seqassay.durable import TEMPORARY_SUFFIX, disk_errors
from seqassay.engine.embed import Embedder, Prepared, load_encoder
from seqassay.errors import InputError, ModelError, UsageError
from seqassay.measure.progress import RunProgress
from seqassay.measure.provenance import device_name, provenance
from seqassay.models.bundle import load_bundle
from seqassay.models.registry import locate_encoder
from seqassay.predict.stop import command_to_resume
from seqassay.sequences.chunking import Chunks, chunk
from seqassay.sequences.frames import FRAME_NAMES, Frames, six_frames
from seqassay.sequences.genetic_codes import codon_table
from seqassay.sequences.reading import InputSettings, Shard, read_shards
from seqassay.train.dataset import LABELS, header_fields
from seqassay.train.feature_files import (
    FEATURES_FILE,
    FeatureShard,
    FeatureWriter,
    RecordRow,
    file_sha256,
)
from seqassay.train.output_folder import only_writer, read_json

SPLITS = ("train", "valid", "test")
DATASET_FILE = "dataset.json"
FeatureType = Literal["float32", "bf16"]
_SHARD_BASES = 2_000_000  # at most in a shard: with 3,328 values a frame some 150 MB of features
_TYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bf16": torch.bfloat16}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FeatureSettings:
    """Everything ``seqassay train features`` can be told; the names are those of the command's options.

    Raises:
        UsageError: a value out of its range, or settings that exclude each other.
    """

    input: Path  # a dataset folder (train, valid and test files), or one labelled FASTA file
    output_dir: Path  # a folder of one split, or of a folder for each split of a dataset
    model: str | None = None  # a bundle's name or folder; or both encoders and a chunk length
    nucleotide: str | None = None
    protein: str | None = None
    chunk_length: int | None = None  # bases; only with encoders
    genetic_code: int = 1  # NCBI table number; only with encoders
    ambiguity: Ambiguity = "drop"  # only with encoders
    split: str | None = None  # what one FASTA file is; by default its name says it
    dtype: FeatureType = "float32"  # of the features on disk; bf16 takes half the room
    device: str = "auto"
    precision: PrecisionName | None = None  # of the encoders; None: what the bundle names, else float32
    threads: int | None = None
    batch: int | None = None  # token budget of a batch, in tokens
    shard_size: int = 4096  # records in a shard: the unit of work and of durability
    resume: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        encoders = (self.nucleotide, self.protein)
        if self.model is not None and (any(encoders) or self.chunk_length is not None):
            raise UsageError("--model names the encoders and the chunk length: give no others beside it")
        if self.model is None and not all(encoders):
            raise UsageError(
                "no encoders", hint="give --model BUNDLE, or --nucleotide DIR, --protein DIR and --chunk-length N"
            )
        check_at_least(self, threads=1, batch=1, shard_size=1, chunk_length=3)
        if self.dtype not in _TYPES:
            raise UsageError(f"--dtype is {self.dtype!r}; it has to be float32 or bf16")
        if self.resume and self.force:
            raise UsageError("--resume and --force exclude each other")


@dataclass(frozen=True, slots=True)
class SplitInput:
    """One labelled FASTA file after its first reading, which checks every label before hours are spent."""

    split: str
    path: Path
    folder: Path
    sha256: str
    records: int
    viral: int


@dataclass(frozen=True, slots=True)
class PreparedShard:
    """A shard cut, translated, filtered and tokenised; needs no device."""

    shard: Shard
    table: list[RecordRow]
    chunks: Chunks
    frame_chunk: npt.NDArray[np.int64]
    frame: npt.NDArray[np.uint8]
    nucleotide: Prepared
    protein: Prepared
    counts: dict[str, int]


def make_features(settings: FeatureSettings, *, progress: RunProgress | None = None) -> list[dict[str, Any]]:
    """Embed every stop-free frame of the input's splits and write them to durable shards.

    Returns:
        What each split's ``features.json`` says.

    Raises:
        UsageError: settings that cannot work; the output folder holds something else.
        InputError: bad input or labels; names file and record.
        ModelError: encoders that cannot be loaded, or that give values that are not finite.
        ResourceError: out of memory or disk; what was committed is kept.
    """
    progress = progress or RunProgress()
    with disk_errors(command_to_resume("train features", settings, [str(settings.input)])):
        progress.stage = "checking the input"
        files = find_splits(settings)
        for folder in (folder for _, _, folder in files):
            check_output(folder, settings)
        splits = [check_labels(*file) for file in files]
        progress.total_sequences = sum(split.records for split in splits)
        progress.stage = "loading models"
        models = Models(settings, dataset_facts(settings.input))
        progress.tokens = models.tokens_embedded
        progress.begin_work()
        return [extract_split(split, models, settings, progress) for split in splits]


def find_splits(settings: FeatureSettings) -> list[tuple[str, Path, Path]]:
    """Name, FASTA file and output folder of every split of the input.

    Raises:
        InputError: there is no such input, or a folder without a split's file.
    """
    source = settings.input
    if not source.is_dir():
        if not source.exists():
            raise InputError("no such file or folder", path=source)
        return [(settings.split or split_of(source), source, settings.output_dir)]
    if settings.split is not None and settings.split not in SPLITS:
        raise UsageError(f"--split is {settings.split!r}; a dataset folder has {', '.join(SPLITS)}")
    wanted = SPLITS if settings.split is None else (settings.split,)
    found = []
    for split in wanted:
        files = sorted(
            path for path in source.iterdir() if path.name.split(".")[:2] in ([split, "fa"], [split, "fasta"])
        )
        if len(files) > 1:
            raise InputError(f"two files of one split: {files[0].name} and {files[1].name}", path=source)
        found += [(split, path, settings.output_dir / split) for path in files]
    if not found:
        raise InputError(
            f"holds no {' or '.join(f'{split}.fa.gz' for split in wanted)}",
            path=source,
            hint="give a dataset folder (`seqassay dataset build` makes one) or one labelled FASTA file",
        )
    return found


def split_of(path: Path) -> str:
    """The split a file's name begins with (``test.fa.gz``, ``test-300.fa``), else its name up to the first dot."""
    stem = path.name.split(".")[0]
    return next((split for split in SPLITS if re.match(rf"{split}([^A-Za-z]|$)", stem)), stem)


def check_output(folder: Path, settings: FeatureSettings) -> None:
    """Refuse a folder with something in it, unless told to go on with it or to replace it.

    Raises:
        UsageError: says what is there.
    """
    content = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    content = [name for name in content if not name.endswith(TEMPORARY_SUFFIX)]  # of a run killed as it began
    if not content:
        return
    if FEATURES_FILE not in content:
        raise UsageError(
            f"{folder}: the output folder is not empty (it holds {content[0]}) and holds no features",
            hint="choose another --output-dir",
        )
    if not (settings.resume or settings.force):
        raise UsageError(
            f"{folder}: holds features already",
            hint="go on with them (--resume), replace them (--force), or choose another --output-dir",
        )


def check_labels(split: str, path: Path, folder: Path) -> SplitInput:
    """Read all headers of a file: every fault in them is found before the first embedding.

    Raises:
        InputError: names file and record.
    """
    labels: Counter[int] = Counter()
    for shard in read_shards(InputSettings(paths=(str(path),))):
        for number, header in enumerate(shard.headers, shard.first_record + 1):
            row, _ = parse_header(header, path=path, number=number)
            labels[row.label] += 1
    digest = file_sha256(path)
    assert digest is not None  # it was just read
    return SplitInput(split, path, folder, digest, labels.total(), labels[1])


def parse_header(header: str, *, path: Path, number: int) -> tuple[RecordRow, frozenset[int]]:
    """A record's names and label, and the frames that count (all six where the header lists none).

    Raises:
        InputError: no label, no group, or an unknown frame; names the record.
    """
    name = header.split(maxsplit=1)[0] if header.split() else ""
    fields = header_fields(header)
    fault = ""
    if fields.get("label") not in LABELS or "group" not in fields:
        fault = "needs label=viral or label=other, and group=…"
    listed = fields.get("frames", ",".join(FRAME_NAMES)).split(",")
    if not set(listed) <= set(FRAME_NAMES):
        fault = f"frames= can list {', '.join(FRAME_NAMES)}"
    if fault:
        raise InputError(f"{fault}; the header reads {header[:80]!r}", path=path, record=number, record_id=name)
    source = fields.get("genome") or fields.get("record") or name
    row = RecordRow(name, source, fields["group"], fields.get("taxon", ""), LABELS[fields["label"]])
    return row, frozenset(map(FRAME_NAMES.index, listed))


def dataset_facts(source: Path) -> dict[str, Any]:
    """What ``dataset.json`` says beside the input, where there is one."""
    path = (source if source.is_dir() else source.parent) / DATASET_FILE
    return read_json(path) if path.is_file() else {}


class Models:
    """Both encoders on their device, and how sequences become frames."""

    def __init__(self, settings: FeatureSettings, dataset: dict[str, Any]) -> None:
        """Load them.

        Args:
            settings: names a bundle, or both encoders.
            dataset: what ``dataset.json`` says; its chunk length must be the models'.

        Raises:
            UsageError: no chunk length, or one that the dataset was not cut to.
            ModelError: encoders that cannot be loaded.
        """
        self.bundle: dict[str, str] | None = None
        names: dict[str, str | None] = {"nucleotide": None, "protein": None}
        chunk_length = settings.chunk_length or dataset.get("chunk_length")
        self.chunk_rule: ChunkRule = "even"
        self.genetic_code, self.ambiguity = settings.genetic_code, settings.ambiguity
        precision: str | None = settings.precision
        if settings.model is not None:
            bundle = load_bundle(settings.model)
            self.bundle = {"name": bundle.name, "digest": bundle.digest, "path": settings.model}
            self.paths = {"nucleotide": bundle.nucleotide_path, "protein": bundle.protein_path}
            names = {kind: f"{bundle.name}:{kind}" for kind in names}
            chunk_length, self.chunk_rule = bundle.chunk_length, bundle.chunk_rule
            self.genetic_code, self.ambiguity = bundle.genetic_code, bundle.ambiguity
            precision = precision or bundle.precision
        else:
            self.paths = {"nucleotide": locate_encoder(str(settings.nucleotide))}
            self.paths["protein"] = locate_encoder(str(settings.protein))
        if chunk_length is None:
            raise UsageError(
                "no chunk length", hint="give --chunk-length N, in bases: what `predict` will cut reads to"
            )
        self.chunk_length = int(chunk_length)
        check_chunk_length(settings, self.chunk_length, dataset)
        codon_table(self.genetic_code)
        # No type of its own for the options: Embedder names and checks them.
        options: dict[str, Any] = {
            "device": settings.device,
            "precision": precision or "float32",
            "token_budget": settings.batch,
            "threads": settings.threads,
        }
        nucleotide = load_encoder(self.paths["nucleotide"], kind="nucleotide", name=names["nucleotide"])
        protein = load_encoder(self.paths["protein"], kind="protein", name=names["protein"])
        self.nucleotide, self.protein = Embedder(nucleotide, **options), Embedder(protein, **options)
        self.token_budgets = [self.nucleotide.token_budget, self.protein.token_budget]
        self.dtype = _TYPES[settings.dtype]

    @property
    def merged_dim(self) -> int:
        """Width of a merged embedding."""
        return self.nucleotide.encoder.d_model + self.protein.encoder.d_model

    def tokens_embedded(self) -> int:
        """Tokens that went through both encoders so far."""
        return self.nucleotide.stats.real_tokens + self.protein.stats.real_tokens

    def identity(self, settings: FeatureSettings) -> dict[str, Any]:
        """Everything besides the input that the features' bytes depend on."""
        sides = {"nucleotide": self.nucleotide.encoder, "protein": self.protein.encoder}
        return {
            "seqassay": seqassay.__version__,
            **{
                kind: {"digest": encoder.digest, "d_model": encoder.d_model, "pooling": encoder.pooling}
                for kind, encoder in sides.items()
            },
            "merged_dim": self.merged_dim,
            "chunk_length": self.chunk_length,
            "chunk_rule": self.chunk_rule,
            "genetic_code": self.genetic_code,
            "ambiguity": self.ambiguity,
            "precision": self.protein.precision.name,
            "device": self.protein.device.type,
            "token_budgets": self.token_budgets,
            "dtype": settings.dtype,
            "shard_size": settings.shard_size,
        }

    def prepare(self, shard: Shard, path: Path) -> PreparedShard:
        """Cut, translate, keep the frames that count, tokenise."""
        parsed = [
            parse_header(header, path=path, number=number)
            for number, header in enumerate(shard.headers, shard.first_record + 1)
        ]
        chunks = chunk(shard.bases.lengths, self.chunk_length, self.chunk_rule)
        frames = six_frames(shard.bases, chunks, genetic_code=self.genetic_code, ambiguity=self.ambiguity)
        listed = np.zeros((len(parsed), len(FRAME_NAMES)), bool)
        for number, (_, wanted) in enumerate(parsed):
            listed[number, list(wanted)] = True
        kept = listed[chunks.sequence[frames.chunk], frames.frame]
        table = [row for row, _ in parsed]
        counts = count_shard(table, chunks, frames, listed, kept)
        if not kept.all():
            rows = np.flatnonzero(kept)
            frames = Frames(
                frames.chunk[rows], frames.frame[rows], frames.protein.take(rows), frames.nucleotide.take(rows)
            )
        return PreparedShard(
            shard,
            table,
            chunks,
            frames.chunk,
            frames.frame,
            self.nucleotide.prepare(frames.nucleotide),
            self.protein.prepare(frames.protein),
            counts,
        )

    def embed(self, prepared: PreparedShard, first_chunk: int) -> FeatureShard:
        """Both embeddings of every frame, nucleotide first.

        Raises:
            ModelError: an embedding is not finite; names the record.
        """
        split_at = self.nucleotide.encoder.d_model
        merged_FD = torch.empty(len(prepared.frame), self.merged_dim)
        merged_FD[:, :split_at] = torch.from_numpy(self.nucleotide.run(prepared.nucleotide))
        merged_FD[:, split_at:] = torch.from_numpy(self.protein.run(prepared.protein))
        record_F = prepared.chunks.sequence[prepared.frame_chunk]
        labels = np.fromiter((row.label for row in prepared.table), np.int64, len(prepared.table))
        finite_F = torch.isfinite(merged_FD.sum(dim=1)).numpy()
        if not finite_F.all():
            row = prepared.table[int(record_F[int(np.argmin(finite_F))])]
            raise ModelError(
                f"record {row.id}: its embedding holds NaN or infinite values ({self.protein.precision.name})",
                hint="use --precision float32 or bf16; fp16 overflows above 65504",
            )
        return FeatureShard(
            index=prepared.shard.index,
            merged_FD=merged_FD.to(self.dtype),
            labels_F=labels[record_F],
            record_F=record_F + prepared.shard.first_record,
            chunk_F=prepared.frame_chunk + first_chunk,
            frame_F=prepared.frame,
            table=prepared.table,
            counts=prepared.counts,
        )


def check_chunk_length(settings: FeatureSettings, chunk_length: int, dataset: dict[str, Any]) -> None:
    """Refuse a dataset that was cut for another model.

    Raises:
        UsageError: names both lengths, and the command that rebuilds.
    """
    of_dataset = dataset.get("chunk_length")
    if of_dataset is not None and of_dataset != chunk_length:
        raise UsageError(
            f"{settings.input}: its chunks are {of_dataset} bases long, the model's {chunk_length}",
            hint=f"build it again: seqassay dataset build … --chunk-length {chunk_length}",
        )


def count_shard(
    table: list[RecordRow], chunks: Chunks, frames: Frames, listed: npt.NDArray[np.bool_], kept: npt.NDArray[np.bool_]
) -> dict[str, int]:
    """Counts of a shard, by the names of `feature_files.COUNTS`."""
    record_F = chunks.sequence[frames.chunk[kept]]
    viral = np.fromiter((row.label == 1 for row in table), bool, len(table))
    lists_some = ~listed.all(axis=1)
    found = np.zeros_like(listed)
    found[chunks.sequence[frames.chunk], frames.frame] = True
    return {
        "records": len(table),
        "records_without_frame": len(table) - len(np.unique(record_F)),
        "viral_records": int(viral.sum()),
        "chunks": len(chunks),
        "chunks_with_frame": len(np.unique(frames.chunk[kept])),
        "frames": int(kept.sum()),
        "viral_frames": int(viral[record_F].sum()),
        "frames_not_listed": int((~kept).sum()),
        "listed_frames_not_stop_free": int((listed & ~found)[lists_some].sum()),
    }


def extract_split(
    split: SplitInput, models: Models, settings: FeatureSettings, progress: RunProgress
) -> dict[str, Any]:
    """All shards of one split, those committed by an earlier run taken over."""
    sides = {"nucleotide": models.nucleotide.encoder, "protein": models.protein.encoder}
    description = {
        "split": split.split,
        "identity": {"input_sha256": split.sha256, **models.identity(settings)},
        "encoders": {kind: {"name": encoder.name, "path": str(models.paths[kind])} for kind, encoder in sides.items()},
        "bundle": models.bundle,
        "input": {"path": str(split.path), "bytes": split.path.stat().st_size, "records": split.records},
        "labels": {"viral_records": split.viral, "other_records": split.records - split.viral},
    }
    writer = FeatureWriter(split.folder, description)
    began = time.monotonic()
    with only_writer(split.folder):
        if settings.resume and (split.folder / FEATURES_FILE).is_file():
            if writer.resume():
                logger.info("%s: was done already", split.folder)
                progress.skip_shard(split.records)
                return read_json(split.folder / FEATURES_FILE)
            progress.skip_shard(writer.counts["records"])
        else:
            writer.begin()
        n_resumed = writer.n_committed
        for prepared in _ahead(split, models, settings, n_resumed):
            progress.stage = f"{split.split}: embedding"
            progress.begin_shard(
                len(prepared.table), len(prepared.nucleotide.tokens.values) + len(prepared.protein.tokens.values)
            )
            writer.commit(models.embed(prepared, writer.counts["chunks"]))
            progress.end_shard(len(prepared.table))
        return writer.finish(
            {
                "seconds": round(time.monotonic() - began, 3),
                "resumed_shards": n_resumed,
                "device": device_name(models.protein.device),
                "settings": {key: str(value) for key, value in asdict(settings).items() if value is not None},
                "provenance": provenance(),
            }
        )


def _ahead(split: SplitInput, models: Models, settings: FeatureSettings, n_done: int) -> Iterator[PreparedShard]:
    """Shards ready to embed, from the first that is not committed; a thread makes the next while one is embedded."""
    inputs = InputSettings(paths=(str(split.path),))
    shards = read_shards(inputs, max_sequences=settings.shard_size, max_bases=_SHARD_BASES)

    def following() -> PreparedShard | None:
        shard = next((shard for shard in shards if shard.index >= n_done), None)
        return None if shard is None else models.prepare(shard, split.path)

    with ThreadPoolExecutor(1) as worker:
        coming = worker.submit(following)
        while (prepared := coming.result()) is not None:
            coming = worker.submit(following)
            yield prepared
