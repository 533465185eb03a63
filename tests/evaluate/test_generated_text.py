"""BLEU and ROUGE against the libraries, by hand, and their intervals."""

from __future__ import annotations

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU

from seqassay.evaluate.generated_text import score_texts

TEXTS = ["the cat sat on the mat", "a dog barked loudly", "", "Hello there general you are bold", "x y z w", "it is"]
KNOWN = [
    ("the cat sat on a mat", "on the mat the cat sat"),
    ("the dog barked",),
    ("something",),
    ("hello there General", "you are bold there", "hello"),
    ("x y z w",),
    ("it was", "so it is"),
]


@pytest.mark.parametrize("lowercase", [False, True])
def test_figures_are_those_of_the_libraries(lowercase: bool) -> None:
    scores = score_texts(TEXTS, KNOWN, lowercase=lowercase)
    bleu = BLEU(lowercase=lowercase)
    streams = [[known[i] if i < len(known) else None for known in KNOWN] for i in range(3)]
    expected = bleu.corpus_score(TEXTS, streams)
    assert scores.figures["bleu"].value == pytest.approx(expected.score, abs=1e-9)
    assert scores.bleu_signature == str(bleu.get_signature())
    assert f"case:{'lc' if lowercase else 'mixed'}" in scores.bleu_signature and "nrefs:var" in scores.bleu_signature
    rouge = RougeScorer(["rouge1", "rouge2", "rougeL"])
    for name in ("rouge1", "rouge2", "rougeL"):
        each = [
            max(rouge.score(one, text)[name].fmeasure for one in known)
            for text, known in zip(TEXTS, KNOWN, strict=True)
        ]
        assert scores.pairs[name] == pytest.approx(each)
        assert scores.figures[name].value == pytest.approx(np.mean(each))
        assert scores.figures[name].n == 6


def test_bleu_by_hand() -> None:
    """7 of 8 words, 5 of 7 pairs, 3 of 6 triples, 1 of 5 in fours: as many words as the reference, no penalty."""
    scores = score_texts(["a b c d X f g h"], [["a b c d e f g h"]])
    product = (7 / 8) * (5 / 7) * (3 / 6) * (1 / 5)
    assert scores.figures["bleu"].value == pytest.approx(100 * product**0.25)
    assert scores.precisions == pytest.approx((100 * 7 / 8, 100 * 5 / 7, 50, 20))
    short = score_texts(["a b c d"], [["a b c d e f g h"]])
    assert short.brevity_penalty == pytest.approx(np.exp(1 - 8 / 4))
    assert short.figures["bleu"].value == pytest.approx(100 * np.exp(-1))


def test_intervals_are_of_pairs_and_as_wide_as_they_should_be() -> None:
    """The percentiles of a bootstrap of a mean come to its standard error; those of few pairs are left out."""
    rng = np.random.default_rng(1)
    words = np.array(list("abcdefghij"))
    references = [(" ".join(rng.choice(words, 12)),) for _ in range(200)]
    texts = [" ".join(w if rng.random() < 0.7 else "x" for w in known[0].split()) for known in references]
    scores = score_texts(texts, references, n_samples=500)
    low, high = scores.figures["rouge1"].interval_95 or (0, 0)
    error = np.std(scores.pairs["rouge1"], ddof=1) / 200**0.5
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.15)
    low, high = scores.figures["bleu"].interval_95 or (0, 0)
    assert low < (scores.figures["bleu"].value or 0) < high
    again = score_texts(texts, references, n_samples=500)
    assert again.figures == scores.figures
    assert score_texts(texts, references, n_samples=500, seed=1).figures != scores.figures
    few = score_texts(texts[:4], references[:4]).figures["bleu"]
    assert few.interval_95 is None and few.why_no_interval == "4 pairs: too few to resample"
    same = score_texts(texts[:1] * 9, references[:1] * 9).figures["bleu"]
    assert same.interval_95 is None and "the same in every sample" in same.why_no_interval


def test_what_is_undefined_is_no_number() -> None:
    scores = score_texts(["привет мир", "a b"], [["привет мир дорогой"], ["a c"]])
    assert scores.figures["rouge1"].n == 1 and scores.figures["rouge1"].value == pytest.approx(0.5)
    assert scores.figures["bleu"].value is None and scores.figures["bleu"].reason == "no text has 4 words in a row"
    scores = score_texts(["привет мир"], [["привет мир"]])
    assert scores.figures["rougeL"].value is None and "no reference has a letter" in scores.figures["rougeL"].reason
    stems = score_texts(["running dogs"], [["run dog"]], stemmer=True)
    assert stems.figures["rouge1"].value == 1 and score_texts(["running"], [["run"]]).figures["rouge1"].value == 0
