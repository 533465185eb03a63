"""Sequences to token ids, a whole shard at a time: amino acids for ESM-2, byte-pair encoding for DNABERT-S."""

from __future__ import annotations

import hashlib
import json
import logging
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer as ReferenceTokenizer

from seqassay.engine.bpe import DnaBpe, UnsupportedVocabularyError
from seqassay.engine.kmers import DnaWords, words_of
from seqassay.errors import ModelError
from seqassay.models.identity import nucleotide_tokenizer_digest
from seqassay.sequences.ragged import Ragged, offsets_of

logger = logging.getLogger(__name__)

# ESM-2's published alphabet (fair-esm `ESM-1b` architecture): the special tokens around it have fixed places.
BOS, PAD, EOS, UNK = 0, 1, 2, 3
FIRST_RESIDUE_ID = 4
RESIDUES = b"LAGVSERTIDPKQNFYMHWCXBUZO.-"


class Tokenizer(Protocol):
    """What the engine asks of a tokenizer."""

    vocab_size: int
    digest: str

    def encode(self, sequences: Ragged) -> Ragged:
        """Token ids (``int32``) of every sequence (``uint8`` letters), special tokens included."""
        ...


class ProteinTokenizer:
    """ESM-2's alphabet: one token a residue between ``<cls>`` and ``<eos>``.

    A letter outside the alphabet is one ``<unk>``, so that a protein of L letters is always L + 2 tokens. Lower
    case (soft-masked) residues are read as upper case. ``*`` is not a residue.
    """

    vocab_size = 33

    def __init__(self) -> None:
        table = np.full(256, UNK, np.int32)
        for i, letter in enumerate(RESIDUES):
            table[letter] = table[ord(chr(letter).lower())] = FIRST_RESIDUE_ID + i
        self._id_of_byte = table
        self.digest = hashlib.sha256(b"esm2 alphabet 1" + table.tobytes()).hexdigest()

    def encode(self, sequences: Ragged) -> Ragged:
        """Ids (``int32``) of every protein (``uint8``), ``<cls>`` first and ``<eos>`` last."""
        n = len(sequences)
        lengths = sequences.lengths
        offsets = offsets_of(lengths + 2)
        ids = np.empty(offsets[-1], np.int32)
        is_residue = np.ones(len(ids), np.bool_)
        is_residue[offsets[:-1]] = False
        is_residue[offsets[1:] - 1] = False
        ids[offsets[:-1]] = BOS
        ids[offsets[1:] - 1] = EOS
        ids[is_residue] = self._id_of_byte[sequences.values[sequences.offsets[0] : sequences.offsets[n]]]
        return Ragged(ids, offsets)


class NucleotideTokenizer:
    """A nucleotide model's ``tokenizer.json``; gives what the `tokenizers` package gives, on every input.

    Plain sequences go through `DnaBpe` (about ten times as fast) when the file describes byte-pair encoding and nothing
    else, and through `DnaWords` when it describes words of k bases; all others, and other kinds of tokenizer, go
    through the package itself.
    """

    def __init__(self, definition: str) -> None:
        """Build from the text of a ``tokenizer.json``.

        Raises:
            ValueError: when it does not define a tokenizer.
        """
        settings = json.loads(definition)
        try:
            self._reference = ReferenceTokenizer.from_str(definition)
        except Exception as error:  # the package raises bare Exception
            raise ValueError(str(error)) from error
        self._reference.no_padding()
        self._reference.no_truncation()
        self.vocab_size: int = self._reference.get_vocab_size(with_added_tokens=True)
        self.digest = nucleotide_tokenizer_digest(settings)
        # Without its post-processor: what the model alone makes of a text.
        bare = ReferenceTokenizer.from_str(json.dumps({**settings, "post_processor": None}))
        self._around = self._special_ids_around(bare)
        self._fast = _fast_path(settings, bare) if self._around else None

    @classmethod
    def from_file(cls, path: Path | str) -> NucleotideTokenizer:
        """Read a ``tokenizer.json``.

        Raises:
            ModelError: when there is no such file or it is not a tokenizer.
        """
        path = Path(path)
        try:
            return cls(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ModelError(
                f"{path}: no tokenizer file", hint="a nucleotide encoder needs the tokenizer.json it was trained with"
            ) from None
        except (OSError, ValueError) as error:
            raise ModelError(f"{path}: not a readable tokenizer file: {error}") from error

    @property
    def is_fast(self) -> bool:
        """Whether plain sequences take the fast path."""
        return self._fast is not None

    def encode(self, sequences: Ragged) -> Ragged:
        """Ids (``int32``) of every sequence (``uint8`` upper-case letters), special tokens included."""
        if self._fast is None or self._around is None:
            return self._encode_by_reference(sequences)
        is_plain = self._fast.takes(sequences)
        if is_plain.all():
            return _encode_plain(sequences, self._fast, self._around)
        plain, other = np.flatnonzero(is_plain), np.flatnonzero(~is_plain)
        parts = (
            _encode_plain(sequences.take(plain), self._fast, self._around),
            self._encode_by_reference(sequences.take(other)),
        )
        place = np.empty(len(sequences), np.int64)
        place[np.concatenate([plain, other])] = np.arange(len(sequences))
        return Ragged.joined(parts).take(place)

    def _encode_by_reference(self, sequences: Ragged) -> Ragged:
        texts = [item.decode("latin-1") for item in sequences.to_bytes()]
        parts: list[npt.NDArray[np.int32]] = [
            np.asarray(encoding.ids, np.int32) for encoding in self._reference.encode_batch_fast(texts)
        ]
        values = np.concatenate(parts) if parts else np.empty(0, np.int32)
        return Ragged.from_lengths(values, np.fromiter(map(len, parts), np.int64, len(parts)))

    def _special_ids_around(self, bare: ReferenceTokenizer) -> tuple[list[int], list[int]] | None:
        """Ids before and after a sequence, as the post-processor puts them; None when it does something else."""
        text = "ACGT"
        body = bare.encode(text).ids
        whole = self._reference.encode(text).ids
        for i in range(len(whole) - len(body) + 1):
            before, after = whole[:i], whole[i + len(body) :]
            if whole[i : i + len(body)] == body and not set(body) & {*before, *after}:
                return before, after
        return None


def _encode_plain(sequences: Ragged, fast: DnaBpe | DnaWords, around: tuple[list[int], list[int]]) -> Ragged:
    begin, end = sequences.offsets[0], sequences.offsets[-1]
    letters: npt.NDArray[np.uint8] = sequences.values[begin:end].astype(np.uint8, copy=False)
    return Ragged.from_lengths(*fast.encode(letters, sequences.offsets - begin, *around))


def _fast_path(settings: Mapping[str, Any], bare: ReferenceTokenizer) -> DnaBpe | DnaWords | None:
    """The fast encoder, where the definition is one that it follows exactly."""
    is_words = settings["model"].get("type") == "WordLevel"
    found = _words(settings) if is_words else _byte_pairs(settings, bare)
    if not isinstance(found, str):
        return found
    logger.info("nucleotide sequences are tokenised by the tokenizers package: %s", found)
    return None


def _words(settings: Mapping[str, Any]) -> DnaWords | str:
    """The encoder of words of k bases, or why it would not do."""
    found = words_of(settings)
    return found if isinstance(found, str) else _more_than_the_model(settings, string.ascii_letters) or DnaWords(*found)


def _byte_pairs(settings: Mapping[str, Any], bare: ReferenceTokenizer) -> DnaBpe | str:
    """The encoder of byte pairs of the whole text, or why it would not do."""
    model = settings["model"]
    if model.get("type") != "BPE":
        return f"its model is {model.get('type')}"
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges"):
        if model.get(option):
            return f"it uses {option}"
    pre_tokenizer = (settings.get("pre_tokenizer") or {"type": None})["type"]
    if pre_tokenizer not in (None, "Whitespace", "WhitespaceSplit"):
        return f"its pre-tokenizer is {pre_tokenizer}"
    if more := _more_than_the_model(settings, "ACGT"):
        return more
    merges = [tuple(m.split(" ") if isinstance(m, str) else m) for m in model["merges"]]
    texts = [text for text in model["vocab"] if text and set(text) <= set("ACGT")]
    encodings = bare.encode_batch(texts)
    reachable = [t for t, e in zip(texts, encodings, strict=True) if e.ids == [model["vocab"][t]]]
    try:
        return DnaBpe(model["vocab"], merges, reachable)
    except UnsupportedVocabularyError as error:
        return str(error)


def _more_than_the_model(settings: Mapping[str, Any], letters: str) -> str | None:
    """What in a ``tokenizer.json`` changes texts of these letters before or after its model; None when nothing does."""
    if settings.get("normalizer"):
        return "it has a normalizer"
    post_processor = (settings.get("post_processor") or {"type": None})["type"]
    if post_processor not in (None, "TemplateProcessing", "BertProcessing"):
        return f"its post-processor is {post_processor}"
    for token in settings.get("added_tokens") or []:
        if set(token["content"]) <= set(letters):
            return f"it has the added token {token['content']!r}"
    return None
