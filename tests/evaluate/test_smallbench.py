"""Questions as tokens, cut to the context; choices and shares."""

from __future__ import annotations

import pytest

from seqassay.evaluate.continuations import Question
from seqassay.evaluate.lm_guards import LmGuardError
from seqassay.evaluate.smallbench import accuracy, best, make_questions, mean_accuracy
from seqassay.text.tokenizer import TextTokenizer
from seqassay.text.tokenizer_training import character_tokenizer, train_bytes_bpe

TEXT = "The cat is good. Answer: yes\nThe dog is bad. Answer: no\n" * 5
CHARACTERS = character_tokenizer([TEXT])
BPE = train_bytes_bpe([TEXT], 280)


def question(tokenizer: TextTokenizer, prompt: str, continuations: tuple[str, ...], context_tokens: int) -> Question:
    return make_questions(tokenizer, [("Another", (" one",)), (prompt, continuations)], context_tokens)[1]


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
