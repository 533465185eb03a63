"""Probe tasks: prompts and continuations as tokens, choices, and shares of right ones with their intervals.

Prompts are left-truncated as lm-evaluation-harness does it: prompt and continuation without its last token are the
input, and its first tokens go where it is longer than the context. Where that cuts the two continuations' prompts in
different places, each is read on its own. `seqassay.evaluate.continuations` scores them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from seqassay.evaluate.continuations import Ids, Question
from seqassay.evaluate.lm_guards import LmGuardError
from seqassay.evaluate.uncertainty import share_interval
from seqassay.text.tokenizer import TextTokenizer


def make_questions(
    tokenizer: TextTokenizer, asked: Sequence[tuple[str, Sequence[str]]], context_tokens: int
) -> list[Question]:
    """Tokens of prompts with each of their continuations, tokenised together, cut to the context.

    What the tokenised texts and the tokenised prompt share is the prompt: where a tokenizer joins the end of the
    prompt with a continuation, the joined token belongs to the continuation.

    Args:
        asked: prompt and continuations of every question.
    """
    texts = [text for prompt, continuations in asked for text in (prompt, *(prompt + c for c in continuations))]
    ids = iter(tokenizer.encode_batch(texts))
    found = []
    for _, continuations in asked:
        alone, *whole = (tuple(next(ids).tolist()) for _ in range(1 + len(continuations)))
        n_shared = min(_n_shared(alone, one) for one in whole)
        n_shared = max(1, min(n_shared, *(len(one) - 1 for one in whole)))
        found.append(cut_to_context(alone[:n_shared], tuple(one[n_shared:] for one in whole), context_tokens))
    return found


def cut_to_context(prompt: Ids, continuations: tuple[Ids, ...], context_tokens: int) -> Question:
    """A question whose prompt leaves room for each continuation but its last token.

    Raises:
        LmGuardError: a continuation fills the context on its own.
    """
    rooms = [context_tokens + 1 - len(rest) for rest in continuations]
    if min(rooms) < 1:
        raise LmGuardError(
            f"a continuation has {max(map(len, continuations))} tokens, and the context is {context_tokens}",
            hint="a prompt needs a token at least: evaluate with a longer context",
        )
    prompts = tuple(prompt[-room:] for room in rooms)
    n_cut = len(prompt) - min(map(len, prompts))
    return Question(prompts[:1] if len(set(prompts)) == 1 else prompts, continuations, n_cut)


def _n_shared(a: Ids, b: Ids) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def best(values: Sequence[float]) -> int:
    """Number of the largest; of equals the first, as argmax has it."""
    return max(range(len(values)), key=lambda i: (values[i], -i))


def accuracy(correct: int, n: int) -> dict[str, float | int | list[float]]:
    """A share with its Wilson interval."""
    return {"value": correct / n, "correct": correct, "n": n, "interval_95": list(share_interval(correct, n))}


def mean_accuracy(values: Sequence[tuple[float, tuple[float, float]]]) -> tuple[float, tuple[float, float]]:
    """Mean of independent accuracies, each counted once, and its interval from theirs (Zou & Donner 2008)."""
    k = len(values)
    mean = sum(value for value, _ in values) / k
    below = math.sqrt(sum((value - low) ** 2 for value, (low, _) in values)) / k
    above = math.sqrt(sum((high - value) ** 2 for value, (_, high) in values)) / k
    return mean, (max(0.0, mean - below), min(1.0, mean + above))
