"""`seqassay embed`: every sequence of the inputs to its embedding, a block at a time, into one file."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seqassay import __version__
from seqassay.config import check_at_least
from seqassay.engine.embed import Embedder, Encoder, load_encoder
from seqassay.engine.embedding_files import EmbeddingWriter, check_output
from seqassay.errors import UsageError
from seqassay.measure.progress import RunProgress
from seqassay.models.bundle import load_bundle
from seqassay.models.identity import Kind
from seqassay.models.registry import locate_encoder
from seqassay.sequences.ragged import Ragged
from seqassay.sequences.reading import InputSettings, check_inputs, read_proteins, read_shards

logger = logging.getLogger(__name__)

Block = tuple[list[str], Ragged]

_NUCLEOTIDE_LETTERS = np.frombuffer(b"ACGTUN", np.uint8)


@dataclass(frozen=True, kw_only=True)
class EmbedSettings:
    """Everything ``seqassay embed`` can be told; the names are those of the command's options."""

    inputs: tuple[str, ...]  # FASTA or FASTQ files; "-" is standard input
    encoder: str  # a folder, a weight file, a fetched encoder's name, or BUNDLE:protein, BUNDLE:nucleotide
    output: Path  # .safetensors, .npz or .h5
    device: str = "auto"
    precision: str = "float32"
    batch: int | None = None  # token budget of a batch, in tokens; None: what suits the device
    threads: int | None = None  # None: what the machine gives
    force: bool = False  # replace an existing output

    def __post_init__(self) -> None:
        if not self.inputs:
            raise UsageError("no input file", hint="name FASTA or FASTQ files, or - for standard input")
        check_at_least(self, threads=1)


@dataclass(frozen=True, slots=True)
class EmbedResult:
    """What was written, and how fast."""

    output: Path
    encoder: str
    kind: Kind
    device: str
    n_sequences: int
    d_model: int
    wall_s: float
    n_tokens: int
    packing_efficiency: float


def run_embed(settings: EmbedSettings, *, progress: RunProgress | None = None) -> EmbedResult:
    """Embed all sequences of the inputs, in input order; memory does not grow with their number.

    Identical sequences of a block (8,192 sequences or 4 Mb) are embedded once.

    Raises:
        UsageError: settings that cannot work; the output exists.
        InputError: bad input; names file, record and line.
        ModelError: an encoder that cannot be loaded.
        ResourceError: out of memory or of disk.
    """
    progress = progress or RunProgress()
    # What can be found wrong before the encoder is loaded, is.
    check_output(settings.output, force=settings.force)
    check_inputs(InputSettings(paths=settings.inputs))
    progress.stage = "loading the encoder"
    encoder = open_encoder(settings.encoder)
    embedder = Embedder(
        encoder,
        device=settings.device,
        precision=settings.precision,
        token_budget=settings.batch,
        threads=settings.threads,
    )
    progress.stage = f"{encoder.kind} embedding"
    progress.tokens = lambda: embedder.stats.real_tokens
    progress.begin_work()
    began = time.monotonic()
    metadata = _metadata(encoder, embedder)
    with EmbeddingWriter(settings.output, d_model=encoder.d_model, metadata=metadata, force=settings.force) as writer:
        for ids, sequences in read_blocks(settings.inputs, encoder.kind):
            prepared = embedder.prepare(sequences)
            progress.begin_shard(len(ids), len(prepared.tokens.values))
            writer.append(ids, embedder.run(prepared))
            progress.end_shard(len(ids))
    return EmbedResult(
        output=settings.output,
        encoder=encoder.name,
        kind=encoder.kind,
        device=str(embedder.device),
        n_sequences=writer.n_rows,
        d_model=encoder.d_model,
        wall_s=time.monotonic() - began,
        n_tokens=embedder.stats.real_tokens,
        packing_efficiency=embedder.stats.packing_efficiency,
    )


def open_encoder(name_or_path: str) -> Encoder:
    """An encoder by path, by the name it was fetched under, or as a bundle's part: ``mini:protein``.

    Raises:
        UsageError: neither; says what there is.
        ModelError: files that cannot be loaded.
    """
    path, name = find_encoder(name_or_path)
    return load_encoder(path, name=name)


def find_encoder(name_or_path: str) -> tuple[Path, str | None]:
    """The folder or file of what `open_encoder` opens, and what to call it; None: after its folder.

    Raises:
        UsageError: there is none; says what there is.
    """
    bundle_name, colon, part = name_or_path.rpartition(":")
    if colon and part in ("protein", "nucleotide") and not Path(name_or_path).exists():
        bundle = load_bundle(bundle_name)
        path = bundle.protein_path if part == "protein" else bundle.nucleotide_path
        return path, f"{bundle.name}:{part}"
    return locate_encoder(name_or_path), None


def read_blocks(inputs: tuple[str, ...], kind: Kind) -> Iterator[Block]:
    """Ids and sequences of the inputs, some thousands at a time."""
    if kind == "nucleotide":
        for shard in read_shards(InputSettings(paths=inputs)):
            yield shard.ids, shard.bases
        return
    for number, (ids, proteins) in enumerate(read_proteins(inputs)):
        if number == 0 and np.isin(proteins.values, _NUCLEOTIDE_LETTERS).all():
            logger.warning("the first %d proteins are made of A, C, G, T and N only: are they nucleotides?", len(ids))
        yield ids, proteins


def _metadata(encoder: Encoder, embedder: Embedder) -> dict[str, str]:
    return {
        "encoder": encoder.name,
        "encoder_digest": encoder.digest,
        "kind": encoder.kind,
        "pooling": encoder.pooling,
        "precision": embedder.precision.name,
        "seqassay_version": __version__,
    }
