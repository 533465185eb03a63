"""BLEU (Papineni et al. 2002, by sacrebleu) and ROUGE (Lin 2004, by rouge-score) of texts against references.

BLEU is of the corpus: n-gram counts are summed over all pairs before precisions are taken. ROUGE is the mean of the
pairs' F-measures; of several references the one with the highest counts, as rouge-score has it. Intervals are of a
bootstrap over pairs: every figure sees the same samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seqassay.errors import SeqassayError, require_package

Floats = npt.NDArray[np.float64]
ROUGE = ("rouge1", "rouge2", "rougeL")
FEWEST_PAIRS = 5  # with fewer, resampling says next to nothing about the spread
_BLEU_ORDERS = 4


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of all pairs.

    Attributes:
        value: BLEU from 0 to 100, ROUGE from 0 to 1; None where ``reason`` says why there is none.
        interval_95: None where ``why_no_interval`` says why.
        n: pairs that it is over.
    """

    value: float | None
    interval_95: tuple[float, float] | None
    n: int
    reason: str = ""
    why_no_interval: str = ""


@dataclass(frozen=True, slots=True)
class TextScores:
    """Figures of texts against references.

    Attributes:
        bleu_signature: what makes a BLEU comparable with another (Post 2018).
        pairs: of every pair its sentence BLEU (effective order) and ROUGE F-measures, by the names of ``figures``.
        brevity_penalty, precisions: of the corpus BLEU; precisions of 1- to 4-grams, from 0 to 100.
    """

    figures: Mapping[str, Figure]
    bleu_signature: str
    brevity_penalty: float
    precisions: tuple[float, ...]
    prediction_words: int
    reference_words: int
    pairs: Mapping[str, tuple[float, ...]]


def score_texts(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    bleu_tokenizer: str = "13a",
    lowercase: bool = False,
    stemmer: bool = False,
    n_samples: int = 1000,
    seed: int = 0,
) -> TextScores:
    """Score every text against its references, one at least.

    Args:
        bleu_tokenizer: of sacrebleu (``13a``, ``intl``, ``char``, ``zh``, ``none``).
        lowercase: BLEU without regard to case; ROUGE never regards it.
        stemmer: ROUGE over Porter's stems.

    Raises:
        MissingExtraError: sacrebleu or rouge-score is not installed.
        SeqassayError: BLEU of the pairs' counts is not that of sacrebleu (a bug).
    """
    require_package("sacrebleu", extra="generation", purpose="BLEU")
    require_package("rouge_score", extra="generation", purpose="ROUGE", package="rouge-score")
    from sacrebleu.metrics.bleu import BLEU

    bleu = BLEU(tokenize=bleu_tokenizer, lowercase=lowercase)
    sentence_bleu = BLEU(tokenize=bleu_tokenizer, lowercase=lowercase, effective_order=True)
    of_pairs = [
        sentence_bleu.sentence_score(text, list(known)) for text, known in zip(predictions, references, strict=True)
    ]
    counts_NC = np.array([[one.sys_len, one.ref_len, *one.counts, *one.totals] for one in of_pairs], np.int64)
    # None: this pair has fewer references than others (sacrebleu's types leave that out)
    streams: Any = [
        [known[i] if i < len(known) else None for known in references] for i in range(max(map(len, references)))
    ]
    whole = bleu.corpus_score(list(predictions), streams)
    drawn_SN = np.random.default_rng(seed).integers(0, len(predictions), (n_samples, len(predictions)))
    value = _corpus_bleu(bleu, counts_NC.sum(axis=0))
    if abs(value - whole.score) > 1e-9:
        raise SeqassayError(f"BLEU of the pairs' counts is {value}, and sacrebleu's {whole.score}")
    samples_S = np.array([_corpus_bleu(bleu, counts_NC[drawn_N].sum(axis=0)) for drawn_N in drawn_SN])
    figures = {"bleu": _figure(min(100.0, value), samples_S.clip(max=100), len(predictions))}
    if whole.totals[-1] == 0:
        reason = f"no text has {_BLEU_ORDERS} words in a row"
        figures["bleu"] = Figure(None, None, len(predictions), reason, reason)
    pairs: dict[str, tuple[float, ...]] = {"bleu": tuple(min(100.0, one.score) for one in of_pairs)}
    has_words, rouge = _rouge(predictions, references, stemmer=stemmer)
    for name, f_N in rouge.items():
        pairs[name] = tuple(f_N.tolist())
        if not has_words.any():
            reason = "no reference has a letter a to z or a digit, which is all that ROUGE's words are made of"
            figures[name] = Figure(None, None, 0, reason, reason)
            continue
        kept_N = f_N[has_words]
        drawn = np.random.default_rng(seed).integers(0, len(kept_N), (n_samples, len(kept_N)))
        figures[name] = _figure(float(kept_N.mean()), kept_N[drawn].mean(axis=1), len(kept_N))
    return TextScores(
        figures, str(bleu.get_signature()), whole.bp, tuple(whole.precisions), whole.sys_len, whole.ref_len, pairs
    )


def _corpus_bleu(bleu: Any, counts_C: npt.NDArray[np.int64]) -> float:
    """BLEU of summed counts: words of the texts and of the references, n-grams that match, n-grams in all."""
    sys_len, ref_len, *counts = counts_C.tolist()
    found = bleu.compute_bleu(
        counts[:_BLEU_ORDERS], counts[_BLEU_ORDERS:], sys_len, ref_len, smooth_method=bleu.smooth_method
    )
    return float(found.score)


def _rouge(
    predictions: Sequence[str], references: Sequence[Sequence[str]], *, stemmer: bool
) -> tuple[npt.NDArray[np.bool_], dict[str, Floats]]:
    """Which pairs have a reference with words to compare, and the F-measures of every pair."""
    from rouge_score.rouge_scorer import RougeScorer
    from rouge_score.tokenizers import DefaultTokenizer

    tokenizer = DefaultTokenizer(use_stemmer=stemmer)
    scorer = RougeScorer(list(ROUGE), tokenizer=tokenizer)
    has_words = np.array([any(tokenizer.tokenize(text) for text in known) for known in references])
    scores = [scorer.score_multi(list(known), text) for text, known in zip(predictions, references, strict=True)]
    return has_words, {name: np.array([one[name].fmeasure for one in scores], np.float64) for name in ROUGE}


def _figure(value: float, samples_S: Floats, n: int) -> Figure:
    if n < FEWEST_PAIRS:
        return Figure(value, None, n, why_no_interval=f"{n} pair{'s' if n > 1 else ''}: too few to resample")
    if np.ptp(samples_S) < 1e-12:
        return Figure(value, None, n, why_no_interval="the same in every sample: resampling cannot tell its spread")
    low, high = np.percentile(samples_S, (2.5, 97.5)).tolist()
    return Figure(value, (low, high), n)
