"""Continuations scored after one reading of their prompt, against each whole sequence on its own in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import sharp_lm

from seqassay.evaluate import continuations
from seqassay.evaluate.continuations import Question, batches_of_questions, score_questions
from seqassay.evaluate.lm_guards import LmGuardError
from seqassay.models.attention import PackedLayout
from seqassay.models.causal_lm import CausalLmConfig

V = 41
CONFIG = CausalLmConfig(vocab_size=V, d_model=16, n_layers=2, n_heads=2, d_ff=24, context=12)


MODEL = sharp_lm(CONFIG)


def by_hand(one: Question) -> tuple[list[float], list[bool]]:
    model = sharp_lm(CONFIG).double()
    found, greedy = [], []
    for which, continuation in enumerate(one.continuations):
        prompt = one.prompts[which if len(one.prompts) > 1 else 0]
        ids = torch.tensor(prompt + continuation)
        with torch.no_grad():
            hidden = model(ids[:-1], PackedLayout.from_lengths([len(ids) - 1]), exact=True)
            log_probs = F.linear(hidden, model.head_weight_VD).log_softmax(-1)
        found.append(float(log_probs.gather(1, ids[1:, None])[len(prompt) - 1 :].sum()))
        greedy.append(bool((log_probs.argmax(1) == ids[1:])[len(prompt) - 1 :].all()))
    return found, greedy


def greedy_question(n_continuation: int) -> Question:
    """Its first continuation is what the model itself would say, its second is not."""
    ids = [3, 1, 4]
    for _ in range(n_continuation):
        with torch.no_grad():
            hidden = MODEL(torch.tensor(ids), PackedLayout.from_lengths([len(ids)]))
            ids.append(int(MODEL.logits(hidden[-1:]).argmax()))
    said = tuple(ids[3:])
    return Question((tuple(ids[:3]),), (said, (*said[:-1], (said[-1] + 1) % V)), 0)


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
        [Question(((1, 2, 3),), ((4, 5, 6, 7),), 0)],  # a text of its own, as harnesses ask for perplexity
        [greedy_question(1), greedy_question(3), *made_up(6, [(5, 2, 1)])],
    ],
)
def test_log_probabilities_are_those_of_whole_sequences_in_float64(questions: list[Question]) -> None:
    together = score_questions(MODEL, questions)
    for one, found in zip(questions, together, strict=True):
        log_probs, greedy = by_hand(one)
        assert [score.log_prob for score in found] == pytest.approx(log_probs, abs=2e-4)
        assert [score.is_greedy for score in found] == greedy
        alone = score_questions(MODEL, [one])[0]
        assert [score.log_prob for score in alone] == pytest.approx(log_probs, abs=2e-4)


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


def test_cores_share_the_work_and_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    questions = [*made_up(7, [(n % 9 + 1, n % 3 + 1, n % 2 + 1) for n in range(30)]), greedy_question(2)]
    whole = score_questions(MODEL, questions)
    monkeypatch.setattr(continuations, "_CORE_TOKENS", 40)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        shared = score_questions(MODEL, questions)
    finally:
        torch.set_num_threads(n_threads)
    assert whole[-1][0].is_greedy and not whole[-1][1].is_greedy
    for one, other in zip(whole, shared, strict=True):
        assert [score.log_prob for score in one] == pytest.approx([score.log_prob for score in other], abs=2e-4)
        assert [score.is_greedy for score in one] == [score.is_greedy for score in other]
