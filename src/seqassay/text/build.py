"""Token files from text: the main path of `seqassay lm data build`, and the tokenizer it may train first.

Named steps: find the files, train or load the tokenizer, tokenise split by split, write the manifest. Text is read in
pieces, once for the tokenizer (training split alone) and once for the tokens, so memory does not grow with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import seqassay
from seqassay.config import settings_as_json
from seqassay.digests import file_sha256
from seqassay.errors import InputError, UsageError
from seqassay.measure.progress import RunProgress
from seqassay.measure.provenance import provenance
from seqassay.measure.schema import check_schema
from seqassay.staged import check_place, staged_folder
from seqassay.text.reading import DEFAULT_PIECE_CHARACTERS, FileFacts, Piece, check_rule, read_pieces
from seqassay.text.sources import TextSource, find_sources
from seqassay.text.token_files import FILES, FORMAT, MANIFEST, TOKENIZER, VERSION, SplitWriter, id_dtype
from seqassay.text.tokenizer import Ids, TextTokenizer, UnknownCharacterError, load_tokenizer
from seqassay.text.tokenizer_training import character_tokenizer, train_bytes_bpe

_BATCH_PIECES = 64  # 2 M characters: enough to share out over many cores
_MIN_TOKENS = 2  # one to see and one to predict


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSettings:
    """What to make of which text; names are those of the command's options.

    Raises:
        UsageError: no tokenizer, or more than one; an unknown rule of documents.
    """

    inputs: tuple[str, ...]
    output_dir: Path
    documents: str = "file"
    vocab_size: int | None = None  # train byte-level BPE of this size on the training split
    characters: bool = False  # one token a character of the training split
    tokenizer: Path | None = None  # an existing one
    force: bool = False

    def __post_init__(self) -> None:
        check_rule(self.documents)
        n_given = (self.vocab_size is not None) + self.characters + (self.tokenizer is not None)
        if n_given != 1:
            raise UsageError(
                "no tokenizer given" if not n_given else "more than one tokenizer given",
                hint="give one of --vocab-size N (trains BPE), --characters, --tokenizer FILE",
            )


@dataclass(slots=True)
class TextCounts:
    """Size of a text."""

    documents: int = 0
    bytes: int = 0
    characters: int = 0
    words: int = 0
    lines: int = 0

    def add(self, piece: Piece) -> None:
        """Count a piece; words are what stands between white space, as `wc -w` has them."""
        self.documents += piece.ends_document
        self.bytes += len(piece.text.encode())
        self.characters += len(piece.text)
        self.words += len(piece.text.split())
        self.lines += piece.text.count("\n")


def build_token_files(settings: BuildSettings, progress: RunProgress | None = None) -> dict[str, Any]:
    """Tokenise text into a folder of token files; return its manifest.

    Raises:
        UsageError: settings that cannot work, or something in the output folder's way.
        InputError: bad text (named with its file and line), a split of fewer than two tokens, a character that the
            tokenizer lacks, a vocabulary that the text is too small for.
        ResourceError: the disk is full.
    """
    progress = progress or RunProgress(unit="characters")
    check_place(settings.output_dir, force=settings.force, what="folder of token files", is_part=FILES.__contains__)
    sources = find_sources(settings.inputs)
    progress.begin_work()
    progress.stage = "making the tokenizer"
    tokenizer = make_tokenizer(settings, sources, progress)
    with staged_folder(
        settings.output_dir, force=settings.force, what="folder of token files", is_part=FILES.__contains__
    ) as folder:
        (folder / TOKENIZER).write_text(tokenizer.to_json(), encoding="utf-8")
        splits: dict[str, Any] = {}
        files: list[dict[str, Any]] = []
        for split in dict.fromkeys(source.split for source in sources):
            progress.stage, progress.done_sequences = f"tokenising {split}", 0
            of_split = [source for source in sources if source.split == split]
            splits[split] = _write_split(folder, split, of_split, settings.documents, tokenizer, files, progress)
        manifest = _manifest(settings, tokenizer, splits, files)
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return manifest


def make_tokenizer(settings: BuildSettings, sources: Sequence[TextSource], progress: RunProgress) -> TextTokenizer:
    """The given tokenizer, or one made of the training split alone: others may not shape it.

    Raises:
        InputError: there is no training split to make one of.
    """
    if settings.tokenizer is not None:
        return load_tokenizer(settings.tokenizer)
    training = [source for source in sources if source.split == "train"]
    if not training:
        raise InputError(
            "a tokenizer is made of the training text, and none is given",
            hint="give train=FILE, or an existing one with --tokenizer",
        )
    texts = (piece.text for source in training for piece in _read(source, settings.documents, progress))
    if settings.vocab_size is not None:
        return train_bytes_bpe(texts, settings.vocab_size)
    return character_tokenizer(texts)


def _read(source: TextSource, rule: str, progress: RunProgress) -> Iterator[Piece]:
    for piece in read_pieces(source.path, rule):
        progress.done_sequences += len(piece.text)
        yield piece


def _write_split(
    folder: Path,
    split: str,
    sources: Sequence[TextSource],
    rule: str,
    tokenizer: TextTokenizer,
    files: list[dict[str, Any]],
    progress: RunProgress,
) -> dict[str, Any]:
    separator = None if tokenizer.separator is None else tokenizer.separator.id
    writer = SplitWriter(folder, split, id_dtype(tokenizer.vocab_size), separator)
    total, is_exact = TextCounts(), None
    for source in sources:
        counts, facts = TextCounts(), FileFacts()
        size = DEFAULT_PIECE_CHARACTERS if tokenizer.can_be_cut else None
        pieces = read_pieces(source.path, rule, piece_characters=size, facts=facts)
        for batch in _batches(pieces):
            encoded = _encode(tokenizer, batch)
            if is_exact is None:
                is_exact = _comes_back(tokenizer, batch, encoded)
            for piece, ids in zip(batch, encoded, strict=True):
                writer.add(ids, ends_document=piece.ends_document)
                counts.add(piece)
                total.add(piece)
                progress.done_sequences += len(piece.text)
        path = Path(source.path)
        of_file = {"split": split, "path": source.path, "bytes": path.stat().st_size, "sha256": file_sha256(path)}
        files.append({**of_file, "text": asdict(counts), **asdict(facts)})
    written = writer.close()
    n_text_tokens = written["tokens"] - written["separators"]
    if n_text_tokens < _MIN_TOKENS:
        raise InputError(
            f"the text of {split} is {n_text_tokens} token; a language model needs {_MIN_TOKENS} or more",
            path=sources[0].path,
            hint="give more text",
        )
    return {**asdict(total), **written, "comes_back_exactly": bool(is_exact)}


def _batches(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    batch: list[Piece] = []
    n_characters = 0
    for piece in pieces:
        batch.append(piece)
        n_characters += len(piece.text)
        if n_characters >= _BATCH_PIECES * DEFAULT_PIECE_CHARACTERS:
            yield batch
            batch, n_characters = [], 0
    if batch:
        yield batch


def _encode(tokenizer: TextTokenizer, batch: Sequence[Piece]) -> list[Ids]:
    try:
        return tokenizer.encode_batch([piece.text for piece in batch])
    except UnknownCharacterError as error:
        piece = batch[error.text]
        before = piece.text[: error.position]
        line = piece.line + before.count("\n")
        message = error.message
        if "\n" in before or piece.line == 1:  # else the line began in a piece before
            message = f"column {len(before) - before.rfind(chr(10))}: {message}"
        raise InputError(message, path=piece.path, line=line, hint=error.hint) from None


def _comes_back(tokenizer: TextTokenizer, batch: Sequence[Piece], encoded: Sequence[Ids]) -> bool:
    """Whether decoding gives the text of the first batch back, all of it; tokenizers of others may change text."""
    return tokenizer.decode(np.concatenate(encoded)) == "".join(piece.text for piece in batch)


def _manifest(
    settings: BuildSettings, tokenizer: TextTokenizer, splits: dict[str, Any], files: list[dict[str, Any]]
) -> dict[str, Any]:
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "seqassay": seqassay.__version__,
        "dtype": id_dtype(tokenizer.vocab_size).name,
        "tokenizer": {
            "file": TOKENIZER,
            "kind": tokenizer.kind,
            "digest": tokenizer.digest,
            "vocab_size": tokenizer.vocab_size,
            "separator": None if tokenizer.separator is None else asdict(tokenizer.separator),
            "prefix": None if tokenizer.prefix is None else asdict(tokenizer.prefix),
        },
        "splits": splits,
        "sources": files,
        "settings": settings_as_json(settings),
        "provenance": provenance(),
    }
    check_schema(manifest, "tokens")
    return manifest
