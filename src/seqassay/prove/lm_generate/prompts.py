"""Prompts as the model reads them, and text again from what it wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from seqassay.digests import file_sha256
from seqassay.engine.generate import Continuation
from seqassay.errors import InputError, UsageError
from seqassay.prove.lm_generate.settings import LmGenerateSettings
from seqassay.text.rows import read_rows
from seqassay.text.tokenizer import TextTokenizer, UnknownCharacterError

PROMPT_FIELDS = ("prompt", "text")


@dataclass(frozen=True, slots=True)
class Prompts:
    """What is to be continued.

    Attributes:
        ids: of each text, the prefix token before it.
        source: the file and its digest, or null for both.
    """

    texts: tuple[str, ...]
    ids: tuple[tuple[int, ...], ...]
    source: dict[str, Any]


def read_prompts(settings: LmGenerateSettings, tokenizer: TextTokenizer) -> Prompts:
    """The prompts that were given; one without text where none was and there is a token to begin with.

    Raises:
        UsageError: nothing to begin with.
        InputError: a file that cannot be read, a line without text, a character that the tokenizer lacks.
    """
    path = settings.prompts
    if path is not None:
        rows = read_rows(path, PROMPT_FIELDS)
        texts, lines = [row.texts[0] for row in rows], [row.line for row in rows]
        source = {"path": str(path), "sha256": file_sha256(path) if path.is_file() else None}
    else:
        texts, lines = list(settings.inputs) or [""], []
        source = {"path": None, "sha256": None}
    prefix = tokenizer.prefix if settings.prefix else None
    empty = next((i for i, text in enumerate(texts) if not text), None)
    if empty is not None and prefix is None:
        if path is not None:
            raise InputError("the prompt has no text, and no prefix token goes before it", path=path, line=lines[empty])
        raise UsageError(
            "no prompt, and no prefix token to begin with",
            hint='give one: seqassay lm generate CHECKPOINT "Once upon a time"',
        )
    try:
        encoded = tokenizer.encode_batch(texts)
    except UnknownCharacterError as error:
        if path is not None:
            raise InputError(error.message, path=path, line=lines[error.text], hint=error.hint) from None
        raise UsageError(f"prompt {error.text + 1}: {error.message}", hint=error.hint) from None
    begin = () if prefix is None else (prefix.id,)
    ids = tuple((*begin, *map(int, found)) for found in encoded)
    nothing = next((i for i, one in enumerate(ids) if not one), None)
    if nothing is not None:  # a tokenizer of others may drop what it does not know
        raise UsageError(f"prompt {nothing + 1}: the tokenizer makes no token of {texts[nothing]!r}")
    return Prompts(tuple(texts), ids, source)


def stops_at(tokenizer: TextTokenizer, texts: Sequence[str]) -> Callable[[Sequence[int]], bool] | None:
    """Whether the newest tokens spell one of the texts; None where there is none to look for."""
    if not texts:
        return None
    n_tokens = max(len(text.encode()) for text in texts) + 4  # a token may be a single byte, and the first a part

    def is_stop(tokens: Sequence[int]) -> bool:
        newest = tokenizer.decode(tokens[-n_tokens:])
        return any(text in newest for text in texts)

    return is_stop


def text_of(tokenizer: TextTokenizer, prompt: Sequence[int], one: Continuation, stop: Sequence[str]) -> str:
    """What a continuation says, without the token or text that ended it."""
    tokens = one.tokens[:-1] if one.ended == "stop token" else one.tokens
    # after its prompt: some tokenizers leave out the first space of what they decode
    before, whole = tokenizer.decode(prompt), tokenizer.decode([*prompt, *tokens])
    text = whole[len(before) :] if whole.startswith(before) else tokenizer.decode(tokens)
    if one.ended == "stop text":
        return text[: min(place for place in map(text.find, stop) if place >= 0)]
    return text
