"""The table-driven encoder against the `tokenizers` package, and its tables against the definition."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, trainers

from seqassay.engine.bpe import DnaBpe, UnsupportedVocabularyError
from seqassay.sequences.ragged import Ragged

Merges = list[tuple[str, str]]

# Written down by hand: runs, repeats, and merges whose order decides.
HAND_MADE: dict[str, Merges] = {
    "no merges": [],
    "runs of A": [("A", "A"), ("AA", "A"), ("AA", "AA"), ("AAAA", "AAAA"), ("AAAAAAAA", "AA")],
    "runs of A without AA": [("A", "A"), ("AA", "AA"), ("AAAA", "AA")],
    "repeat of AT": [("A", "T"), ("AT", "AT"), ("ATAT", "A"), ("ATAT", "AT"), ("T", "A")],
    "a token that never occurs (ACG)": [("C", "G"), ("A", "C"), ("AC", "G"), ("CG", "T"), ("A", "CGT"), ("G", "ACGT")],
    "long tokens": [("A", "C"), ("G", "T"), ("AC", "GT"), ("ACGT", "ACGT"), ("ACGTACGT", "ACGT"), ("T", "A")],
}


def vocabulary(merges: Merges) -> dict[str, int]:
    tokens = ["A", "C", "G", "T", *(a + b for a, b in merges)]
    return {token: i for i, token in enumerate(dict.fromkeys(tokens), start=5)}


def reference(vocab: dict[str, int], merges: Merges) -> Tokenizer:
    return Tokenizer(models.BPE(vocab=vocab, merges=merges))


def encoder(vocab: dict[str, int], merges: Merges) -> DnaBpe:
    package = reference(vocab, merges)
    return DnaBpe(vocab, merges, [t for t, i in vocab.items() if package.encode(t).ids == [i]])


def encode(dna_bpe: DnaBpe, texts: list[str]) -> list[list[int]]:
    sequences = Ragged.from_bytes(text.encode() for text in texts)
    ids, counts = dna_bpe.encode(sequences.values, sequences.offsets)
    assert ids.dtype == np.int32
    return [item.tolist() for item in Ragged.from_lengths(ids, counts)]


def trained(rng: np.random.Generator, *, n_tokens: int, letter_weights: tuple[float, ...]) -> tuple[dict, Merges]:
    """A vocabulary trained by the package on random text of a given composition."""
    texts = ["".join(rng.choice(list("ACGT"), 200, p=letter_weights)) for _ in range(150)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=n_tokens, show_progress=False))
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


@pytest.mark.parametrize("name", HAND_MADE)
def test_every_text_up_to_six_bases(name):
    merges = HAND_MADE[name]
    vocab = vocabulary(merges)
    package = reference(vocab, merges)
    texts = ["".join(p) for n in range(7) for p in itertools.product("ACGT", repeat=n)]
    assert encode(encoder(vocab, merges), texts) == [e.ids for e in package.encode_batch(texts)]


@pytest.mark.parametrize("name", HAND_MADE)
def test_runs_and_repeats_of_every_length_up_to_60(name):
    merges = HAND_MADE[name]
    vocab = vocabulary(merges)
    package = reference(vocab, merges)
    units = ["A", "T", "AT", "AAC", "ACGT", "CG"]
    texts = [(unit * 60)[:n] for unit in units for n in range(61)]
    assert encode(encoder(vocab, merges), texts) == [e.ids for e in package.encode_batch(texts)]


@pytest.mark.parametrize(
    "weights", [(0.25, 0.25, 0.25, 0.25), (0.7, 0.1, 0.1, 0.1), (0.45, 0.05, 0.05, 0.45), (0.94, 0.02, 0.02, 0.02)]
)
@pytest.mark.parametrize("n_tokens", [12, 300, 1500])
def test_trained_vocabularies(weights, n_tokens):
    rng = np.random.default_rng(n_tokens)
    vocab, merges = trained(rng, n_tokens=n_tokens, letter_weights=weights)
    package, ours = reference(vocab, merges), encoder(vocab, merges)
    lengths = rng.integers(0, 400, 400)
    texts = ["".join(rng.choice(list("ACGT"), n, p=weights)) for n in lengths]
    texts += ["".join(rng.choice(list("ACGT"), n)) for n in lengths]
    assert encode(ours, texts) == [e.ids for e in package.encode_batch(texts)]


@given(
    # Sources of a vocabulary and texts over two letters: many equal neighbours, many overlaps.
    st.lists(st.text("AC", min_size=1, max_size=40), min_size=1, max_size=20),
    st.lists(st.text("AC", max_size=80), min_size=1, max_size=20),
    st.integers(5, 60),
)
@settings(max_examples=150, deadline=None)
def test_any_trained_vocabulary(sources, texts, n_tokens):
    tokenizer = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=n_tokens, show_progress=False, initial_alphabet=list("ACGT"))
    tokenizer.train_from_iterator(sources, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    ours = encoder(model["vocab"], [tuple(merge) for merge in model["merges"]])
    assert encode(ours, texts) == [e.ids for e in tokenizer.encode_batch(texts)]


def test_nothing_to_encode():
    ours = encoder(vocabulary([]), [])
    assert encode(ours, []) == []
    assert encode(ours, ["", ""]) == [[], []]


@pytest.mark.parametrize(
    ("merges", "message"),
    [
        ([("AC", "G"), ("A", "C")], "no earlier merge"),
        ([("A", "C"), ("C", "G"), ("AC", "G"), ("A", "CG")], "a second time"),
    ],
)
def test_vocabularies_the_tables_cannot_hold_are_refused(merges, message):
    with pytest.raises(UnsupportedVocabularyError, match=message):
        DnaBpe(vocabulary(merges), merges, ["A", "C", "G", "T"])


def test_a_vocabulary_without_a_base_is_refused():
    with pytest.raises(UnsupportedVocabularyError, match="no token for T"):
        DnaBpe({"A": 0, "C": 1, "G": 2}, [], ["A", "C", "G"])
