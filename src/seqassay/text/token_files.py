"""Token files: one memory-mapped array of ids a split, where its documents begin, and a manifest of it all.

``train.bin`` holds the ids of one document after another, little-endian, each document followed by the separator
token where the tokenizer has one; ``train.documents.bin`` holds where each begins (int64, and the end at last).
``manifest.json`` is written last and says what a reader checks: sizes whenever the folder is opened, digests on
demand.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from seqassay.digests import file_sha256
from seqassay.errors import InputError, SeqassayError, UsageError
from seqassay.measure.schema import check_schema
from seqassay.text.sources import SPLITS
from seqassay.text.tokenizer import TextTokenizer, load_tokenizer

FORMAT, VERSION = "seqassay-tokens", "1.0"
MANIFEST, TOKENIZER = "manifest.json", "tokenizer.json"
OFFSET_DTYPE = np.dtype("<i8")
_AGAIN = "build it again"


def tokens_name(split: str) -> str:
    """File of a split's tokens."""
    return f"{split}.bin"


def documents_name(split: str) -> str:
    """File of a split's document offsets."""
    return f"{split}.documents.bin"


FILES = frozenset(
    {MANIFEST, TOKENIZER, *map(tokens_name, SPLITS), *map(documents_name, SPLITS)}
)  # all that such a folder may hold


def id_dtype(vocab_size: int) -> np.dtype[Any]:
    """The smallest dtype of a token file that holds every id."""
    return np.dtype("<u2") if vocab_size <= 1 << 16 else np.dtype("<u4")


class SplitWriter:
    """Appends documents to the files of one split; memory does not grow with them."""

    def __init__(self, folder: Path, split: str, dtype: np.dtype[Any], separator_id: int | None) -> None:
        self._dtype, self._separator = dtype, separator_id
        self._tokens = _HashedFile(folder / tokens_name(split))
        self._documents = _HashedFile(folder / documents_name(split))
        self.n_tokens = self.n_documents = 0
        self._documents.write(np.array([0], OFFSET_DTYPE).tobytes())

    def add(self, ids: npt.NDArray[np.integer[Any]], *, ends_document: bool) -> None:
        """Append ids; at the end of a document its separator."""
        self._tokens.write(ids.astype(self._dtype).tobytes())
        self.n_tokens += len(ids)
        if ends_document:
            if self._separator is not None:
                self._tokens.write(np.array([self._separator], self._dtype).tobytes())
                self.n_tokens += 1
            self._documents.write(np.array([self.n_tokens], OFFSET_DTYPE).tobytes())
            self.n_documents += 1

    def close(self) -> dict[str, Any]:
        """Close the files; what the manifest says of them."""
        return {
            "documents": self.n_documents,
            "tokens": self.n_tokens,
            "separators": 0 if self._separator is None else self.n_documents,
            "files": {"tokens": self._tokens.close(), "documents": self._documents.close()},
        }


class _HashedFile:
    def __init__(self, path: Path) -> None:
        self._path, self._digest = path, hashlib.sha256()
        self._file: IO[bytes] = path.open("wb")

    def write(self, data: bytes) -> None:
        self._digest.update(data)
        self._file.write(data)

    def close(self) -> dict[str, Any]:
        self._file.close()
        return {
            "name": self._path.name,
            "bytes": self._path.stat().st_size,
            "sha256": self._digest.hexdigest(),
        }


@dataclass(frozen=True, slots=True)
class SplitTokens:
    """The tokens of a split.

    Attributes:
        name: train, valid or test.
        tokens: shape (n_tokens,), uint16 or uint32, memory-mapped, read only.
        offsets: shape (n_documents + 1,), int64: document i is ``tokens[offsets[i] : offsets[i + 1]]``, its separator
            included.
        n_bytes, n_characters, n_words: of the text that the tokens stand for; words as `wc -w` counts them.
        n_separators: tokens that stand for no text: one a document, or none.
    """

    name: str
    tokens: npt.NDArray[np.integer[Any]]
    offsets: npt.NDArray[np.int64]
    n_bytes: int
    n_characters: int
    n_words: int
    n_separators: int

    @property
    def n_documents(self) -> int:
        """Number of documents."""
        return len(self.offsets) - 1

    def documents(self, *, with_separator: bool = False) -> Iterator[tuple[int, int]]:
        """Begin and end of every document in ``tokens``."""
        drops = self.n_separators > 0 and not with_separator
        for i in range(self.n_documents):
            yield int(self.offsets[i]), int(self.offsets[i + 1]) - drops


@dataclass(frozen=True, slots=True)
class TokenFiles:
    """An opened folder of token files.

    Attributes:
        folder: where it lies.
        manifest: as written.
        splits: by name.
    """

    folder: Path
    manifest: Mapping[str, Any]
    splits: Mapping[str, SplitTokens]

    @property
    def tokenizer_digest(self) -> str:
        """Identity of the tokenizer that made the ids."""
        return str(self.manifest["tokenizer"]["digest"])

    @property
    def vocab_size(self) -> int:
        """One more than the largest id there can be."""
        return int(self.manifest["tokenizer"]["vocab_size"])

    def split(self, name: str) -> SplitTokens:
        """One split.

        Raises:
            UsageError: there is none of this name.
        """
        if name not in self.splits:
            raise UsageError(f"{self.folder}: has no split {name!r}", hint=f"it has {', '.join(self.splits)}")
        return self.splits[name]

    def tokenizer(self) -> TextTokenizer:
        """The tokenizer in the folder.

        Raises:
            InputError: it is not the one that made the ids.
        """
        tokenizer = load_tokenizer(self.folder / TOKENIZER)
        if tokenizer.digest != self.tokenizer_digest:
            raise InputError(
                f"has the digest {tokenizer.digest[:12]}, and the tokens were made by {self.tokenizer_digest[:12]}",
                path=self.folder / TOKENIZER,
                hint=_AGAIN,
            )
        return tokenizer

    def require_tokenizer(self, digest: str, *, tokenizer_of_checkpoint: Path) -> None:
        """The tokens were made by the tokenizer that a model was trained with.

        Args:
            digest: of the model's tokenizer.
            tokenizer_of_checkpoint: its file, for the command that makes fitting token files.

        Raises:
            InputError: they were not; names both digests and that command.
        """
        if digest == self.tokenizer_digest:
            return
        said = self.manifest["settings"]
        command = ["seqassay", "lm", "data", "build", *said["inputs"], "--documents", said["documents"]]
        command += ["--tokenizer", str(tokenizer_of_checkpoint), "-o", f"{self.folder}-{digest[:8]}"]
        raise InputError(
            f"the tokens are those of tokenizer {self.tokenizer_digest[:12]}, the model's is {digest[:12]}",
            path=self.folder,
            hint=f"make tokens that fit the model with:\n  {shlex.join(command)}",
        )

    def verify(self) -> None:
        """Every file has the digest of the manifest.

        Raises:
            InputError: names the first that has not.
        """
        self.tokenizer()
        for split in self.manifest["splits"].values():
            for file in split["files"].values():
                path = self.folder / file["name"]
                if file_sha256(path) != file["sha256"]:
                    raise InputError(f"was changed: its SHA-256 differs from {MANIFEST}", path=path, hint=_AGAIN)


def open_token_files(folder: Path) -> TokenFiles:
    """Open a folder of token files: the manifest is checked against its schema, the files against their sizes.

    Raises:
        InputError: no manifest, or one that is damaged; a file that is missing or has another size.
    """
    path = folder / MANIFEST
    if not path.is_file():
        what = "holds no token files" if folder.is_dir() else "no such folder"
        raise InputError(what, path=folder, hint="make some: seqassay lm data build train=FILE valid=FILE -o FOLDER")
    try:
        manifest = json.loads(path.read_bytes())
        check_schema(manifest, "tokens")
    except (ValueError, RecursionError, SeqassayError) as error:
        raise InputError(f"is not the manifest of token files: {error}", path=path, hint=_AGAIN) from None
    dtype = np.dtype(manifest["dtype"]).newbyteorder("<")
    splits = {name: _open_split(folder, name, said, dtype) for name, said in manifest["splits"].items()}
    return TokenFiles(folder, manifest, splits)


def _open_split(folder: Path, name: str, said: Mapping[str, Any], dtype: np.dtype[Any]) -> SplitTokens:
    tokens = _mapped(folder, said["files"]["tokens"], dtype, said["tokens"])
    offsets = _mapped(folder, said["files"]["documents"], OFFSET_DTYPE, said["documents"] + 1)
    if int(offsets[-1]) != len(tokens):
        raise InputError(
            f"its last document ends at {int(offsets[-1]):,}, and there are {len(tokens):,} tokens",
            path=folder / said["files"]["documents"]["name"],
            hint=_AGAIN,
        )
    return SplitTokens(name, tokens, offsets, said["bytes"], said["characters"], said["words"], said["separators"])


def _mapped(folder: Path, file: Mapping[str, Any], dtype: np.dtype[Any], length: int) -> npt.NDArray[Any]:
    path = folder / os.path.basename(file["name"])  # noqa: PTH119 - a manifest names no place outside its folder
    try:
        n_bytes = path.stat().st_size
    except OSError:
        raise InputError(f"is missing, though {MANIFEST} lists it", path=path, hint=_AGAIN) from None
    if n_bytes != file["bytes"] or n_bytes != length * dtype.itemsize:
        raise InputError(
            f"has {n_bytes:,} bytes; {length:,} of {dtype.itemsize} bytes each were written", path=path, hint=_AGAIN
        )
    return np.memmap(path, dtype, "r", shape=(length,))
