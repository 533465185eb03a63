"""Sequences to token ids, a whole shard at a time: amino acids for ESM-2, byte-pair encoding for DNABERT-S."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer as ReferenceTokenizer

from seqassay.engine.bpe import DnaBpe, UnsupportedVocabularyError
from seqassay.errors import ModelError
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
    n_special = 2

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

    Sequences of A, C, G and T go through `DnaBpe` (about ten times as fast) when the file describes plain byte-pair
    encoding; all others, and other kinds of tokenizer, go through the package itself.
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
        self.n_special: int = self._reference.num_special_tokens_to_add(is_pair=False)
        self.digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        # Without its post-processor: what the model alone makes of a text.
        bare = ReferenceTokenizer.from_str(json.dumps({**settings, "post_processor": None}))
        self._around = self._special_ids_around(bare)
        self._dna_bpe = _fast_path(settings, bare) if self._around else None

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
        return self._dna_bpe is not None

    def encode(self, sequences: Ragged) -> Ragged:
        """Ids (``int32``) of every sequence (``uint8`` upper-case letters), special tokens included."""
        if self._dna_bpe is None or self._around is None:
            return self._encode_by_reference(sequences)
        is_plain = _is_acgt_only(sequences)
        if is_plain.all():
            return self._encode_plain(sequences, self._dna_bpe, self._around)
        plain, other = np.flatnonzero(is_plain), np.flatnonzero(~is_plain)
        parts = (
            self._encode_plain(sequences.take(plain), self._dna_bpe, self._around),
            self._encode_by_reference(sequences.take(other)),
        )
        both = Ragged(
            np.concatenate([part.values for part in parts]),
            np.concatenate([parts[0].offsets, parts[0].offsets[-1] + parts[1].offsets[1:]]),
        )
        place = np.empty(len(sequences), np.int64)
        place[np.concatenate([plain, other])] = np.arange(len(sequences))
        return both.take(place)

    def _encode_plain(self, sequences: Ragged, dna_bpe: DnaBpe, around: tuple[list[int], list[int]]) -> Ragged:
        begin, end = sequences.offsets[0], sequences.offsets[-1]
        bases: npt.NDArray[np.uint8] = sequences.values[begin:end].astype(np.uint8, copy=False)
        return Ragged.from_lengths(*dna_bpe.encode(bases, sequences.offsets - begin, *around))

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


def _fast_path(settings: Mapping[str, Any], bare: ReferenceTokenizer) -> DnaBpe | None:
    """The fast encoder, where the definition is one it follows exactly."""
    reason = _why_not_plain_bpe(settings)
    if reason is None:
        model = settings["model"]
        merges = [tuple(m.split(" ") if isinstance(m, str) else m) for m in model["merges"]]
        texts = [text for text in model["vocab"] if text and set(text) <= set("ACGT")]
        encodings = bare.encode_batch(texts)
        reachable = [t for t, e in zip(texts, encodings, strict=True) if e.ids == [model["vocab"][t]]]
        try:
            return DnaBpe(model["vocab"], merges, reachable)
        except UnsupportedVocabularyError as error:
            reason = str(error)
    logger.info("nucleotide sequences are tokenised by the tokenizers package: %s", reason)
    return None


def _is_acgt_only(sequences: Ragged) -> npt.NDArray[np.bool_]:
    """Which sequences hold no byte but A, C, G and T."""
    begin = sequences.offsets[0]
    values = sequences.values[begin : sequences.offsets[-1]]
    is_plain = values == ord("A")
    for base in b"CGT":  # whole-array comparisons are faster than a table of 256
        is_plain |= values == base
    others = np.flatnonzero(~is_plain)
    plain = np.ones(len(sequences), np.bool_)
    plain[np.searchsorted(sequences.offsets - begin, others, side="right") - 1] = False
    return plain


def _why_not_plain_bpe(settings: Mapping[str, Any]) -> str | None:
    """What in a ``tokenizer.json`` goes beyond byte-pair encoding of the whole text; None when nothing does."""
    model = settings["model"]
    if model.get("type") != "BPE":
        return f"its model is {model.get('type')}"
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges"):
        if model.get(option):
            return f"it uses {option}"
    if settings.get("normalizer"):
        return "it has a normalizer"
    pre_tokenizer = (settings.get("pre_tokenizer") or {"type": None})["type"]
    if pre_tokenizer not in (None, "Whitespace", "WhitespaceSplit"):
        return f"its pre-tokenizer is {pre_tokenizer}"
    post_processor = (settings.get("post_processor") or {"type": None})["type"]
    if post_processor not in (None, "TemplateProcessing", "BertProcessing"):
        return f"its post-processor is {post_processor}"
    for token in settings.get("added_tokens") or []:
        if set(token["content"]) <= set("ACGT"):
            return f"it has the added token {token['content']!r}"
    return None
