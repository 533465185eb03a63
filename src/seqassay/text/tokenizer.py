"""Tokenizers of text: byte-level BPE, characters, or any tokenizer.json; one identity for each, its digest.

All three are written as a ``tokenizer.json`` that the `tokenizers` package loads, and encode text as text: a special
token that is spelled out in a text is no special token there, so that a text cannot end its own document.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel

from seqassay.durable import write_durably
from seqassay.errors import InputError, SeqassayError

Kind = Literal["bytes-bpe", "characters", "other"]
Ids = npt.NDArray[np.uint32]

END_OF_TEXT = "<|endoftext|>"
# what tokenizers of others call the token that ends a document, and the one that begins it
_ENDS = (END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>", "[EOS]")
_BEGINS = ("<|begin_of_text|>", "<s>", "<bos>", "[BOS]")
CHARACTER_PATTERN = r"[\s\S]"
_N_CODE_POINTS = 0x110000


class UnknownCharacterError(SeqassayError):
    """A character that a character tokenizer does not have; keeps the text's number in its batch and the place."""

    exit_code = 2

    def __init__(self, character: str, *, text: int, position: int) -> None:
        super().__init__(
            f"the character {character!r} (U+{ord(character):04X}) is not in the tokenizer's vocabulary",
            hint="take it out of the text, or train a byte-level tokenizer (--vocab-size), which knows every text",
        )
        self.character, self.text, self.position = character, text, position


@dataclass(frozen=True, slots=True)
class SpecialToken:
    """A token that stands for no text."""

    text: str
    id: int


class TextTokenizer(ABC):
    """Text to token ids and back.

    Attributes:
        kind: what it is built of.
        digest: SHA-256 of what the tokenizer.json says, however it is laid out.
        vocab_size: one more than the largest id.
        separator: ends every document in token files; None where there is no such token.
        prefix: what an evaluation puts before a text; the separator where there is no other.
        can_be_cut: a text may be cut before a space or a line end that follows other than white space, and the
            pieces' tokens are the text's.
    """

    kind: Kind
    can_be_cut: bool

    def __init__(self, content: dict[str, Any], vocabulary: dict[str, int]) -> None:
        self._content = content
        self.digest = _digest(content)
        self.vocab_size = max(vocabulary.values()) + 1
        self.separator = _first_of(_ENDS, vocabulary)
        self.prefix = _first_of(_BEGINS, vocabulary) or self.separator

    @abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of every text, without special tokens; texts are shared out over the cores.

        Raises:
            UnknownCharacterError: the vocabulary lacks a character.
        """

    @abstractmethod
    def decode(self, ids: Sequence[int] | npt.NDArray[np.integer[Any]]) -> str:
        """The text of the ids; special tokens are spelled out."""

    def encode(self, text: str) -> Ids:
        """Ids of one text, as ``encode_batch``."""
        return self.encode_batch([text])[0]

    def to_json(self) -> str:
        """The tokenizer.json, as it is written."""
        return json.dumps(self._content, ensure_ascii=False, indent=1) + "\n"

    def save(self, path: Path) -> None:
        """Write the tokenizer.json, whole or not at all."""
        write_durably(path, [self.to_json().encode()])


class LibraryTokenizer(TextTokenizer):
    """A tokenizer that the `tokenizers` package runs: byte-level BPE, or another one's file."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True  # spelled out in a text they are text
        content = json.loads(tokenizer.to_str())
        super().__init__(content, tokenizer.get_vocab())
        self._tokenizer = tokenizer
        self.kind = "bytes-bpe" if _is_bytes_bpe(content) else "other"
        self.can_be_cut = self.kind == "bytes-bpe"

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """See the base class."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, np.uint32) for encoding in encodings]

    def decode(self, ids: Sequence[int] | npt.NDArray[np.integer[Any]]) -> str:
        """See the base class; bytes that are no UTF-8 become U+FFFD."""
        return str(self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=False))


class CharacterTokenizer(TextTokenizer):
    """One token a character (Unicode code point), in the order of their code points; no special tokens."""

    kind: Kind = "characters"
    can_be_cut = True

    def __init__(self, content: dict[str, Any], vocabulary: dict[str, int]) -> None:
        super().__init__(content, vocabulary)
        self._id_of = np.full(_N_CODE_POINTS, -1, np.int32)
        self._code_point_of = np.zeros(self.vocab_size, np.uint32)
        for character, token_id in vocabulary.items():
            self._id_of[ord(character)] = token_id
            self._code_point_of[token_id] = ord(character)

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """See the base class."""
        found = []
        for number, text in enumerate(texts):
            ids = self._id_of[np.frombuffer(text.encode("utf-32-le"), "<u4")]
            unknown = np.flatnonzero(ids < 0)
            if len(unknown):
                position = int(unknown[0])
                raise UnknownCharacterError(text[position], text=number, position=position)
            found.append(ids.astype(np.uint32))
        return found

    def decode(self, ids: Sequence[int] | npt.NDArray[np.integer[Any]]) -> str:
        """See the base class."""
        return self._code_point_of[np.asarray(ids, np.int64)].astype("<u4").tobytes().decode("utf-32-le")


def load_tokenizer(path: Path) -> TextTokenizer:
    """The tokenizer of a ``tokenizer.json``, or of a folder that holds one.

    Raises:
        InputError: no such file, or it is no tokenizer.
    """
    path = path / "tokenizer.json" if path.is_dir() else path
    if path.exists() and not path.is_file():  # a pipe without a writer would be waited for
        raise InputError("the tokenizer is no file", path=path, hint="save it to a file")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InputError(f"the tokenizer cannot be read: {reason}", path=path) from None
    try:
        return tokenizer_of(text)
    except Exception as error:  # noqa: BLE001 - `tokenizers` raises Exception itself
        raise InputError(
            f"is no tokenizer: {error}", path=path, hint="a tokenizer.json of the `tokenizers` package is needed"
        ) from None


def tokenizer_of(text: str) -> TextTokenizer:
    """The tokenizer that the text of a tokenizer.json describes; raises what `tokenizers` raises."""
    tokenizer = Tokenizer.from_str(text)
    content = json.loads(tokenizer.to_str())
    if _is_characters(content):
        return CharacterTokenizer(content, content["model"]["vocab"])
    return LibraryTokenizer(tokenizer)


def _is_bytes_bpe(content: dict[str, Any]) -> bool:
    """Byte-level BPE with GPT-2's pattern and nothing else: any text is encoded, and decoded to itself."""
    pre = content["pre_tokenizer"] or {}
    return (
        content["model"]["type"] == "BPE"
        and content["normalizer"] is None
        and pre.get("type") == "ByteLevel"
        and pre.get("use_regex") is True
        and pre.get("add_prefix_space") is False
        and (content["decoder"] or {}).get("type") == "ByteLevel"
        and not any(content["model"].get(name) for name in ("dropout", "unk_token", "end_of_word_suffix"))
        and all(token["special"] for token in content["added_tokens"])
        and content["model"]["vocab"].keys() >= set(ByteLevel.alphabet())
    )


def _is_characters(content: dict[str, Any]) -> bool:
    pre = content["pre_tokenizer"] or {}
    return (
        content["model"]["type"] == "WordLevel"
        and not content["added_tokens"]
        and content["normalizer"] is None
        and pre.get("type") == "Split"
        and pre.get("pattern") == {"Regex": CHARACTER_PATTERN}
        and all(len(token) == 1 for token in content["model"]["vocab"])
    )


def _digest(content: dict[str, Any]) -> str:
    """Truncation and padding are settings of a call, not of the tokenizer; merges may be pairs or joined pairs."""
    said = {name: value for name, value in content.items() if name not in ("truncation", "padding")}
    model = dict(said["model"])
    if "merges" in model:
        model["merges"] = [tuple(merge.split(" ")) if isinstance(merge, str) else merge for merge in model["merges"]]
    return hashlib.sha256(json.dumps({**said, "model": model}, sort_keys=True).encode()).hexdigest()


def _first_of(names: Sequence[str], vocabulary: dict[str, int]) -> SpecialToken | None:
    return next((SpecialToken(name, vocabulary[name]) for name in names if name in vocabulary), None)
