"""Tokenizers: exact round trips, one digest for one content, the asked-for vocabulary, errors with their place."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from seqassay.errors import InputError, UsageError
from seqassay.text.tokenizer import (
    END_OF_TEXT,
    CharacterTokenizer,
    SpecialToken,
    TextTokenizer,
    UnknownCharacterError,
    load_tokenizer,
    tokenizer_of,
)
from seqassay.text.tokenizer_training import LONGEST_WORD_BYTES, character_tokenizer, train_bytes_bpe

TEXT = "The cat sat on the mat. The dog sat on the log; the cat and the dog saw the hat on the mat.\n" * 3


@pytest.fixture(scope="module")
def bpe() -> TextTokenizer:
    return train_bytes_bpe([TEXT], 280)


def test_the_vocabulary_has_exactly_the_size(bpe: TextTokenizer) -> None:
    assert bpe.vocab_size == 280
    assert bpe.kind == "bytes-bpe"
    assert bpe.separator == bpe.prefix == SpecialToken(END_OF_TEXT, 0)


@settings(deadline=None)
@given(text=st.text())
def test_every_text_comes_back(bpe: TextTokenizer, text: str) -> None:
    assert bpe.decode(bpe.encode(text)) == text


def test_words_too_long_to_learn_from_are_learnt_from_in_parts(bpe: TextTokenizer) -> None:
    bases = "".join(random.Random(1).choices("ACGT", k=3 * LONGEST_WORD_BYTES))
    parts = [bases[i : i + LONGEST_WORD_BYTES] for i in range(0, len(bases), LONGEST_WORD_BYTES)]
    whole = train_bytes_bpe([bases], 300)
    assert whole.digest == train_bytes_bpe(parts, 300).digest
    assert whole.kind == "bytes-bpe"  # the parts are no part of the tokenizer
    as_it_was = Tokenizer.from_str(bpe.to_json())
    as_it_was.model = models.BPE()
    trainer = trainers.BpeTrainer(
        vocab_size=280,
        min_frequency=2,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    longest = "x" * LONGEST_WORD_BYTES
    as_it_was.train_from_iterator([TEXT, longest], trainer)
    assert train_bytes_bpe([TEXT, longest], 280).digest == tokenizer_of(as_it_was.to_str()).digest


@settings(deadline=None)
@given(text=st.text(alphabet=" \n\tab'.!s1é<|>\u00a0\x1c"))
def test_texts_may_be_cut_before_white_space(bpe: TextTokenizer, text: str) -> None:
    assert bpe.can_be_cut
    whole = bpe.encode(text).tolist()
    for i in range(1, len(text)):
        if text[i] in " \n" and not text[i - 1].isspace():
            assert bpe.encode(text[:i]).tolist() + bpe.encode(text[i:]).tolist() == whole


def test_a_special_token_spelled_out_is_text(bpe: TextTokenizer) -> None:
    ids = bpe.encode(f"a{END_OF_TEXT}b")
    assert 0 not in ids
    assert bpe.decode(ids) == f"a{END_OF_TEXT}b"
    assert bpe.decode([0]) == END_OF_TEXT


def test_the_same_text_gives_the_same_tokenizer_whatever_the_pieces_and_threads(bpe: TextTokenizer) -> None:
    pieces = [line + "\n" for line in TEXT.splitlines()]
    assert train_bytes_bpe(pieces, 280).digest == bpe.digest
    code = (
        "import sys; from seqassay.text.tokenizer_training import train_bytes_bpe; "
        "print(train_bytes_bpe([sys.argv[1]], 280).digest)"
    )
    for parallel in ("true", "false"):
        done = subprocess.run(
            [sys.executable, "-c", code, TEXT],
            env={"TOKENIZERS_PARALLELISM": parallel},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        assert done.stdout.strip() == bpe.digest


def test_too_large_a_vocabulary_says_how_many_merges_there_are() -> None:
    with pytest.raises(InputError, match=r"vocabulary of 5,000 is too large.* allows 2 merges") as caught:
        train_bytes_bpe(["abc abc"], 5000)
    assert "largest vocabulary here is 259" in caught.value.hint
    assert train_bytes_bpe(["abc abc"], 259).vocab_size == 259
    with pytest.raises(UsageError, match="256 is too small"):
        train_bytes_bpe([TEXT], 256)


def test_the_main_thread_stays_free_for_signals_while_compiled_code_counts_pairs() -> None:
    threads = []

    def pieces() -> Iterator[str]:
        threads.append(threading.current_thread())
        yield "abc abc"
        if len(threads) > 1:
            raise InputError("bad text")

    train_bytes_bpe(pieces(), 259)
    assert threads[0] is not threading.main_thread()
    with pytest.raises(InputError, match="bad text"):
        train_bytes_bpe(pieces(), 259)


def test_saved_and_loaded_it_is_the_same(bpe: TextTokenizer, tmp_path: Path) -> None:
    bpe.save(tmp_path / "tokenizer.json")
    again = load_tokenizer(tmp_path)
    assert again.digest == bpe.digest
    assert again.encode(TEXT).tolist() == bpe.encode(TEXT).tolist()
    assert Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode(TEXT).ids == bpe.encode(TEXT).tolist()


def test_the_digest_is_of_the_content_not_the_layout(bpe: TextTokenizer, tmp_path: Path) -> None:
    content = json.loads(bpe.to_json())
    content["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
    path = tmp_path / "laid_out_otherwise.json"
    path.write_text(json.dumps(content, sort_keys=True))
    loaded = load_tokenizer(path)
    assert loaded.digest == bpe.digest
    assert len(loaded.encode(TEXT)) == len(bpe.encode(TEXT)), "a file's truncation is not taken over"
    content["model"]["merges"].pop()
    path.write_text(json.dumps(content))
    assert load_tokenizer(path).digest != bpe.digest


def test_characters_in_the_order_of_their_code_points(tmp_path: Path) -> None:
    tokenizer = character_tokenizer(["héllo\n", "😀 wörld"])
    assert isinstance(tokenizer, CharacterTokenizer)
    assert tokenizer.decode(range(tokenizer.vocab_size)) == "".join(sorted(set("héllo\n😀 wörld")))
    assert tokenizer.separator is None
    tokenizer.save(tmp_path / "characters.json")
    loaded = load_tokenizer(tmp_path / "characters.json")
    assert isinstance(loaded, CharacterTokenizer)
    assert loaded.digest == tokenizer.digest
    text = "wéd\no 😀"
    # the file means the same to the package that others would load it with
    assert Tokenizer.from_file(str(tmp_path / "characters.json")).encode(text).ids == loaded.encode(text).tolist()
    assert loaded.decode(loaded.encode(text)) == text


@settings(deadline=None)
@given(text=st.text(min_size=1))
def test_every_text_comes_back_from_its_own_characters(text: str) -> None:
    tokenizer = character_tokenizer([text])
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode(text)) == len(text)


def test_an_unknown_character_has_its_place() -> None:
    tokenizer = character_tokenizer(["abc"])
    with pytest.raises(UnknownCharacterError, match=r"'é' \(U\+00E9\)") as caught:
        tokenizer.encode_batch(["abc", "abéc"])
    assert (caught.value.text, caught.value.position) == (1, 2)
    with pytest.raises(InputError, match="empty"):
        character_tokenizer([""])


def test_other_tokenizers_are_run_as_they_are(bpe: TextTokenizer, tmp_path: Path) -> None:
    content = json.loads(bpe.to_json())
    content["normalizer"] = {"type": "Lowercase"}
    (tmp_path / "lower.json").write_text(json.dumps(content))
    loaded = load_tokenizer(tmp_path / "lower.json")
    assert loaded.kind == "other"
    assert not loaded.can_be_cut
    assert loaded.decode(loaded.encode("The Cat")) == "the cat"
    assert loaded.encode("The").dtype == np.uint32


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"version": "9"}', b"\xff\xfe"])
def test_what_is_no_tokenizer(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(InputError, match=r"tokenizer\.json: "):
        load_tokenizer(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        load_tokenizer(tmp_path / "absent.json")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe: the tokenizer is no file"):
        load_tokenizer(tmp_path / "pipe")
