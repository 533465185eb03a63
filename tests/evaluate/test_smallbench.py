"""Continuations scored after one reading of their prompt, against each whole sequence on its own in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import sharp_lm

from seqassay.evaluate.lm_guards import LmGuardError
from seqassay.evaluate.smallbench import (
    Question,
    accuracy,
    batches_of_questions,
    best,
    mean_accuracy,
    question,
    score_questions,
)
from seqassay.models.attention import PackedLayout
from seqassay.models.causal_lm import CausalLmConfig
from seqassay.text.tokenizer import TextTokenizer
from seqassay.text.tokenizer_training import character_tokenizer, train_bytes_bpe

V = 41
CONFIG = CausalLmConfig(vocab_size=V, d_model=16, n_layers=2, n_heads=2, d_ff=24, context=12)


MODEL = sharp_lm(CONFIG)


def by_hand(one: Question) -> list[float]:
    model = sharp_lm(CONFIG).double()
    found = []
    for which, continuation in enumerate(one.continuations):
        prompt = one.prompts[which if len(one.prompts) > 1 else 0]
        ids = torch.tensor(prompt + continuation)
        with torch.no_grad():
            hidden = model(ids[:-1], PackedLayout.from_lengths([len(ids) - 1]), exact=True)
            log_probs = F.linear(hidden, model.head_weight_VD).log_softmax(-1)
        found.append(float(log_probs.gather(1, ids[1:, None])[len(prompt) - 1 :].sum()))
    return found


def made_up(seed: int, lengths: list[tuple[int, int, int]], *, shared: bool = True) -> list[Question]:
    rng = np.random.default_rng(seed)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(rng.integers(0, V, n).tolist())

    return [Question((ids(p),) if shared else (ids(p), ids(p - 1)), (ids(a), ids(b)), 0) for p, a, b in lengths]


@pytest.mark.parametrize(
    "questions",
    [
        made_up(0, [(5, 1, 1), (1, 1, 1), (9, 1, 1), (5, 1, 1)]),  # no token to read after a prompt
        made_up(1, [(5, 2, 1), (1, 1, 1), (9, 1, 3), (5, 4, 2), (2, 1, 2)]),
        made_up(2, [(5, 2, 1), (3, 1, 2)], shared=False),
        [*made_up(3, [(5, 2, 3)]), *made_up(4, [(4, 3, 1)], shared=False), *made_up(5, [(2, 1, 1)])],
    ],
)
def test_log_probabilities_are_those_of_whole_sequences_in_float64(questions: list[Question]) -> None:
    together = score_questions(MODEL, questions)
    for one, found in zip(questions, together, strict=True):
        assert found == pytest.approx(by_hand(one), abs=2e-4)
        assert score_questions(MODEL, [one])[0] == pytest.approx(found, abs=2e-4)


def test_a_number_that_is_none_is_refused() -> None:
    broken = sharp_lm(CONFIG)
    with torch.no_grad():
        broken.head_weight_VD[0] = torch.nan
    with pytest.raises(LmGuardError, match="the log-probability of a continuation is nan"):
        score_questions(broken, made_up(0, [(5, 1, 2)]))


def test_batches_keep_the_budget_and_hold_every_question_once() -> None:
    questions = made_up(0, [(n % 9 + 1, 1, n % 3 + 1) for n in range(40)])
    batches = list(batches_of_questions(questions, 30))
    assert sorted(number for batch in batches for number in batch) == list(range(40))
    assert len(batches) > 5
    assert all(sum(questions[i].n_tokens for i in batch) <= 30 for batch in batches)
    assert [len(batch) for batch in batches_of_questions(questions, 1)] == [1] * 40


TEXT = "The cat is good. Answer: yes\nThe dog is bad. Answer: no\n" * 5
CHARACTERS = character_tokenizer([TEXT])
BPE = train_bytes_bpe([TEXT], 280)


@pytest.mark.parametrize("tokenizer", [CHARACTERS, BPE])
def test_prompt_and_continuations_are_tokenised_together(tokenizer: TextTokenizer) -> None:
    prompt, continuations = "The cat is good. Answer:", (" yes", " no")
    one = question(tokenizer, prompt, continuations, 100)
    assert one.n_cut == 0 and len(one.prompts) == 1
    for text, ids in zip(continuations, one.continuations, strict=True):
        assert tokenizer.decode(one.prompts[0] + ids) == prompt + text
        assert list(one.prompts[0] + ids) == tokenizer.encode(prompt + text).tolist()
    assert tokenizer.decode(one.prompts[0]) == prompt


def test_a_token_that_joins_prompt_and_continuation_belongs_to_the_continuation() -> None:
    one = question(BPE, "The cat is good. Answer: y", ("es", "no"), 100)
    assert len(one.prompts) == 1
    for text, ids in zip(("es", "no"), one.continuations, strict=True):
        assert BPE.decode(one.prompts[0] + ids) == f"The cat is good. Answer: y{text}"
    assert BPE.decode(one.prompts[0]).rstrip() == "The cat is good. Answer:"  # y goes with es


def test_long_prompts_lose_their_beginning_as_in_the_harness() -> None:
    prompt = "The dog is bad. Answer:"
    one = question(CHARACTERS, prompt, (" yes", " no"), 12)
    for text, cut, ids in zip((" yes", " no"), one.prompts, one.continuations, strict=True):
        whole = CHARACTERS.encode(prompt + text).tolist()
        assert list(cut + ids)[:-1] == whole[-13:][:-1]  # the harness: the last context + 1 tokens, without the last
    assert one.n_cut == len(prompt) - 9
    same = question(CHARACTERS, prompt, (" ba", " go"), 12)
    assert len(same.prompts) == 1 and len(same.prompts[0]) == 10
    with pytest.raises(LmGuardError, match="a continuation has 4 tokens, and the context is 3"):
        question(CHARACTERS, prompt, (" yes", " no"), 3)


def test_choices_and_shares() -> None:
    assert [best(values) for values in ([-2.0, -1.0], [-1.0, -2.0], [-1.0, -1.0])] == [1, 0, 0]
    found = accuracy(8, 10)
    assert (found["value"], found["correct"], found["n"]) == (0.8, 8, 10)
    assert found["interval_95"] == pytest.approx([0.4901625, 0.9433178], abs=1e-6)
    mean, (low, high) = mean_accuracy([(0.8, (0.5, 0.9)), (0.6, (0.2, 0.7))])
    assert mean == pytest.approx(0.7)
    assert (low, high) == pytest.approx((0.7 - 0.5 / 2, 0.7 + 0.02**0.5 / 2))
