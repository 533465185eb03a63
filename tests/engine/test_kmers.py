"""Words of k bases against the `tokenizers` package, on sequences as they come and on rubbish."""

from __future__ import annotations

import json
import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from seqassay.engine.tokens import NucleotideTokenizer
from seqassay.models.registry import embedded_bundle_folder
from seqassay.sequences.ragged import Ragged
from seqassay.train.kmer_tokenizer import build_kmer_tokenizer

MINI = (embedded_bundle_folder("mini") / "nucleotide" / "tokenizer.json").read_text(encoding="utf-8")
IN_FRAME = {k: build_kmer_tokenizer(k).to_str() for k in (3, 6)}


def some_words(k: int, *, template: str | None = "[CLS] $A [SEP]") -> str:
    """Words of any length up to ``k`` in any order, every third text of bases missing, ids with gaps."""
    rng = np.random.default_rng(k)
    texts = [""]
    for _ in range(k):
        texts += [text + base for text in texts[-(len(texts) * 3 // 4 + 1) :] for base in "ACGT"]
    texts = [text for text in dict.fromkeys(texts) if text and rng.random() < 0.67] + ["ACGT" * k]
    vocab = {"[UNK]": 3, "[CLS]": 1, "[SEP]": 2, **{text: 10 + 2 * i for i, text in enumerate(texts)}}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.add_special_tokens(["[UNK]", "[CLS]", "[SEP]"])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(f".{{1,{k}}}"), behavior="isolated")
    if template:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
        )
    return tokenizer.to_str()


def encoded(definition: str, sequences: list[bytes]) -> tuple[list[list[int]], list[list[int]], bool]:
    """Our ids, the package's, and whether there is a fast path."""
    ours, package = NucleotideTokenizer(definition), Tokenizer.from_str(definition)
    tokens = ours.encode(Ragged.from_bytes(sequences))
    assert tokens.values.dtype == np.int32
    return [row.tolist() for row in tokens], [package.encode(s.decode("latin-1")).ids for s in sequences], ours.is_fast


RUBBISH = [
    b"",
    b"A",
    b"ACGTN",
    b"NNNNNNN",
    b"acgtacgtac",
    b"ACgTAC",
    b"RYSWKMBDHVN" * 3,
    b"ZZZZZZ",
    b"ACG\nTACGTA",
    b"ACGTAC\r\nGT",
    b"\n",
    b" ",
    b"AC GTAC GTAC",
    b"[CLS]ACGTAC",
    b"ACG[UNK]TAC[SEP]",
    b"[MASK",
    b"ACGT\x00ACGT",
    b"ACGT\xe9ACGT\xff",
    b"ACGT-ACGT*",
    b"@`[{",
    bytes(range(256)),
    b"ACGT" * 3000,
]


@pytest.mark.parametrize(
    "definition", [MINI, *IN_FRAME.values(), *(some_words(k) for k in (1, 2, 3, 5)), some_words(4, template=None)]
)
def test_rubbish_is_encoded_as_the_package_does(definition: str) -> None:
    ours, expected, fast = encoded(definition, RUBBISH)
    assert fast
    assert ours == expected


@pytest.mark.parametrize("template", ["[CLS] $A", "$A [SEP]", "[CLS] [CLS] $A [SEP] [SEP]", None])
def test_special_tokens_stand_where_the_template_puts_them(template: str | None) -> None:
    ours, expected, fast = encoded(some_words(3, template=template), [b"ACGTA", b"", b"NNN"])
    assert fast
    assert ours == expected


def test_every_length_and_every_word_of_mini() -> None:
    rng = np.random.default_rng(2)
    sequences = [rng.choice(np.frombuffer(b"ACGT", np.uint8), n).tobytes() for n in range(200)]
    sequences += [word.encode() for word in json.loads(MINI)["model"]["vocab"] if word.isalpha()]
    ours, expected, fast = encoded(MINI, sequences)
    assert fast
    assert ours == expected


def test_sequences_with_n_and_what_only_the_package_takes_keep_their_order() -> None:
    rng = np.random.default_rng(3)
    letters = (b"ACGT", b"ACGTN", b"ACGTacgtn", b"ACGT \n[]")
    sequences = [
        rng.choice(np.frombuffer(letters[rng.integers(4)], np.uint8), rng.integers(0, 60)).tobytes() for _ in range(500)
    ]
    ours, expected, _ = encoded(MINI, sequences)
    assert ours == expected


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([MINI, IN_FRAME[3], some_words(2), some_words(5)]),
    st.lists(st.one_of(st.binary(max_size=30), st.text("ACGTN", max_size=50).map(str.encode)), max_size=8),
)
def test_any_bytes(definition: str, sequences: list[bytes]) -> None:
    ours, expected, fast = encoded(definition, sequences)
    assert fast
    assert ours == expected


def test_a_view_that_does_not_start_at_zero() -> None:
    whole = Ragged.from_bytes([b"TTT\n", b"ACGTACN", b"ACG"])
    rows = NucleotideTokenizer(MINI).encode(Ragged(whole.values, whole.offsets[1:]))
    assert [row.tolist() for row in rows] == encoded(MINI, [b"ACGTACN", b"ACG"])[1]


def changed(*path: str, to: Any) -> str:
    """mini's tokenizer with one setting changed."""
    loaded = json.loads(MINI)
    part = loaded
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = to
    return json.dumps(loaded)


VOCAB = json.loads(MINI)["model"]["vocab"]
ADDED = json.loads(MINI)["added_tokens"]
OTHERS = {
    "another pattern": changed("pre_tokenizer", "pattern", to={"Regex": "[ACGT]{1,6}"}),
    "a plain string": changed("pre_tokenizer", "pattern", to={"String": ".{1,6}"}),
    "pieces of three to six": changed("pre_tokenizer", "pattern", to={"Regex": ".{3,6}"}),
    "pieces removed": changed("pre_tokenizer", "behavior", to="Removed"),
    "inverted": changed("pre_tokenizer", "invert", to=True),
    "no pre-tokenizer": changed("pre_tokenizer", to=None),
    "white space": changed("pre_tokenizer", to={"type": "Whitespace"}),
    "long words": changed("pre_tokenizer", "pattern", to={"Regex": ".{1,11}"}),
    "a word with N": changed("model", "vocab", to={**VOCAB, "ACGTAN": 4425}),
    "a lower-case word": changed("model", "vocab", to={**VOCAB, "acg": 4425}),
    "a normalizer": changed("normalizer", to={"type": "Lowercase"}),
    "an added word": changed("added_tokens", to=[*ADDED, {**ADDED[0], "id": 4425, "content": "NN"}]),
    "another unknown token": changed("model", "unk_token", to="[none]"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_of_another_form_goes_through_the_package(name: str, caplog: pytest.LogCaptureFixture) -> None:
    sequences = [b"ACGTACGTA", b"ACGTAN", b"acgacg", b"NNAC", b"", b"ACGTAC"]
    with caplog.at_level(logging.INFO, logger="seqassay"):
        tokenizer = NucleotideTokenizer(OTHERS[name])
    assert not tokenizer.is_fast
    assert "nucleotide sequences are tokenised by the tokenizers package: it" in caplog.text
    if name != "another unknown token":  # of which the package knows no id: it refuses unknown words
        ours, expected, _ = encoded(OTHERS[name], sequences)
        assert ours == expected


def test_another_normalizer_object_is_seen() -> None:
    tokenizer = Tokenizer.from_str(MINI)
    tokenizer.normalizer = normalizers.Replace("T", "A")
    ours, expected, fast = encoded(tokenizer.to_str(), [b"TTTTTTA"])
    assert not fast
    assert ours == expected
