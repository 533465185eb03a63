"""Tokenizers made from text: byte-level BPE of exactly a given size, or the text's characters."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from seqassay.errors import InputError, UsageError
from seqassay.text.tokenizer import (
    CHARACTER_PATTERN,
    END_OF_TEXT,
    TextTokenizer,
    tokenizer_of,
)

N_BYTES = 256
MIN_VOCAB_SIZE = N_BYTES + 1  # and the token that ends documents
# A pair that a text holds once is a place, not a pattern.
_MIN_PAIRS = 2
# Merging within a word takes time quadratic in its length: 26 s for a word of 300,000 bytes, 0.4 s in such parts.
LONGEST_WORD_BYTES = 1000


def train_bytes_bpe(pieces: Iterable[str], vocab_size: int) -> TextTokenizer:
    """Byte-level BPE with GPT-2's pattern; the vocabulary is ``<|endoftext|>`` (id 0), the 256 bytes, and the merges.

    The same text gives the same tokenizer, whatever the pieces and the number of threads: merges are chosen by count,
    and among equals by the ids of the pair. A word of more than ``LONGEST_WORD_BYTES`` (a line of DNA) is learnt from
    in parts of that length; text without such words gives the tokenizer that it would give anyway.

    Args:
        pieces: of the text; cut only where ``TextTokenizer.can_be_cut`` allows.
        vocab_size: of the tokenizer, met exactly.

    Raises:
        UsageError: a size below 257.
        InputError: the text has fewer pairs that come twice than the size needs; says how many.
    """
    if vocab_size < MIN_VOCAB_SIZE:
        raise UsageError(
            f"a vocabulary of {vocab_size} is too small",
            hint=f"byte-level BPE has {N_BYTES} bytes and {END_OF_TEXT}: give {MIN_VOCAB_SIZE} or more",
        )
    tokenizer = Tokenizer(models.BPE())
    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.FixedLength(LONGEST_WORD_BYTES)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=_MIN_PAIRS,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    _interruptibly(lambda: tokenizer.train_from_iterator(pieces, trainer=trainer))
    tokenizer.pre_tokenizer = words
    found = tokenizer.get_vocab_size()
    if found != vocab_size:
        n_merges = found - MIN_VOCAB_SIZE
        raise InputError(
            f"a vocabulary of {vocab_size:,} is too large for this text, which allows {n_merges:,} merges (pairs that "
            f"come {_MIN_PAIRS} times or more)",
            hint=f"the largest vocabulary here is {found:,}",
        )
    return tokenizer_of(tokenizer.to_str())


def _interruptibly(work: Callable[[], None]) -> None:
    """Do it in a thread: compiled code that takes minutes lets the main thread see no signal until it ends."""
    failure: list[Exception] = []

    def run() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]


def character_tokenizer(pieces: Iterable[str]) -> TextTokenizer:
    """One token for every character of the text, in the order of their code points.

    Raises:
        InputError: the text has no character.
    """
    characters: set[str] = set()
    for piece in pieces:
        characters.update(piece)
    if not characters:
        raise InputError("the text is empty: no character to make a vocabulary of")
    tokenizer = Tokenizer(models.WordLevel({character: i for i, character in enumerate(sorted(characters))}))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(CHARACTER_PATTERN), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer_of(tokenizer.to_str())
