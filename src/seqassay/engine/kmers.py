"""Words of k bases for thousands of sequences at once, exactly as the `tokenizers` package cuts and looks them up.

Such a ``tokenizer.json`` cuts a text into pieces of k letters from the first one on (what is left at the end is a
shorter piece) and looks each piece up in a list of words; a piece that is not in the list is the unknown token. Read
as a number in base 4 a piece is a place in one table of all texts of up to k bases, so encoding is one pass.

The pass takes letters only, A to Z in either case. A piece with a letter other than A, C, G and T is unknown, since no
word has one (it is checked). What else a text may hold (white space, the brackets of special tokens, a line end that
the pattern does not cross) is left to the package.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from seqassay.compiled import compiled
from seqassay.sequences.ragged import Ragged

_MAX_K = 10  # the table has 4 + 16 + … + 4^k places of 4 bytes: 5.6 MB
_BASES = "ACGT"
_OTHER_LETTER, _NO_LETTER = 4, 5  # codes beside those of the four bases

Int32Array = npt.NDArray[np.int32]
IndexArray = npt.NDArray[np.int64]


class DnaWords:
    """Encoder for texts of letters."""

    def __init__(self, words: Mapping[str, int], k: int, unknown: int) -> None:
        """Build the table.

        Args:
            words: id of every word of up to ``k`` letters A, C, G and T.
            k: letters of a piece.
            unknown: id of every other piece.
        """
        self._k = k
        self._code_of_byte = _codes()
        # Texts of one length stand together, shorter ones before: from 0, 4, 20, … for lengths 1, 2, 3, …
        self._first_at = np.array([0, *((4**length - 4) // 3 for length in range(1, k + 2))], np.int64)
        self._id_at = np.full(self._first_at[k + 1], unknown, np.int32)
        for word, token_id in words.items():
            place = 0
            for base in word:
                place = 4 * place + _BASES.index(base)
            self._id_at[self._first_at[len(word)] + place] = token_id
        self._unknown = unknown

    def takes(self, sequences: Ragged) -> npt.NDArray[np.bool_]:
        """Which sequences are letters only."""
        values = sequences.values[sequences.offsets[0] : sequences.offsets[-1]]
        return sequences.free_of(self._code_of_byte[values] == _NO_LETTER)

    def encode(
        self, letters: npt.NDArray[np.uint8], offsets: IndexArray, before: Sequence[int] = (), after: Sequence[int] = ()
    ) -> tuple[Int32Array, IndexArray]:
        """Token ids of all sequences end to end, and how many each has; arguments as of `DnaBpe.encode`."""
        counts = -(np.diff(offsets) // -self._k) + len(before) + len(after)
        ids = np.empty(int(counts.sum()), np.int32)
        _encode(
            letters,
            offsets,
            np.array(before, np.int32),
            np.array(after, np.int32),
            self._k,
            self._code_of_byte,
            self._first_at,
            self._id_at,
            self._unknown,
            ids,
        )
        return ids, counts


def words_of(settings: Mapping[str, Any]) -> tuple[dict[str, int], int, int] | str:
    """Words, k and the unknown token's id of a ``tokenizer.json`` of exactly this form; else what is different in it.

    Its normalizer, its post-processor and its added tokens are looked at elsewhere.
    """
    model = settings["model"]
    if model.keys() != {"type", "vocab", "unk_token"} or model["unk_token"] not in model["vocab"]:
        return "its model is WordLevel without an unknown token, or with settings that are not known here"
    split = settings.get("pre_tokenizer") or {}
    pattern = split.get("pattern") or {}
    pieces = re.fullmatch(r"\.\{1,([1-9]\d?)\}", str(pattern.get("Regex")))
    as_cut = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    if split != as_cut or pattern.keys() != {"Regex"} or pieces is None:
        return "its model is WordLevel, and its pre-tokenizer does not cut pieces of k letters"
    k = int(pieces.group(1))
    if k > _MAX_K:
        return f"its model is WordLevel with words of {k} letters, more than {_MAX_K}"
    words = {}
    for text, token_id in model["vocab"].items():
        if text and set(text) <= set(_BASES):
            if len(text) <= k:  # a longer one is no piece
                words[text] = token_id
        elif re.fullmatch(r"[A-Za-z]*", text):
            return f"its model is WordLevel with the word {text!r}"
    return words, k, model["vocab"][model["unk_token"]]


def _codes() -> npt.NDArray[np.uint8]:
    codes = np.full(256, _NO_LETTER, np.uint8)
    for letter in b"ABCDEFGHIJKLMNOPQRSTUVWXYZ":
        codes[letter] = codes[letter + 32] = _OTHER_LETTER
    for number, base in enumerate(_BASES.encode()):
        codes[base] = number
    return codes


@compiled
def _encode(
    letters: npt.NDArray[np.uint8],
    offsets: IndexArray,
    before: Int32Array,
    after: Int32Array,
    k: int,
    code_of_byte: npt.NDArray[np.uint8],
    first_at: IndexArray,
    id_at: Int32Array,
    unknown: int,
    ids: Int32Array,
) -> None:
    """Fill ``ids``, which is as long as all sequences' tokens."""
    n_ids = 0
    for sequence in range(len(offsets) - 1):
        for special in before:
            ids[n_ids] = special
            n_ids += 1
        position, end = offsets[sequence], offsets[sequence + 1]
        while position < end:
            piece_end = min(position + k, end)
            place, is_word = 0, True
            for i in range(position, piece_end):
                code = code_of_byte[letters[i]]
                is_word = is_word and code < 4
                place = 4 * place + (code & 3)
            ids[n_ids] = id_at[first_at[piece_end - position] + place] if is_word else unknown
            n_ids += 1
            position = piece_end
        for special in after:
            ids[n_ids] = special
            n_ids += 1
