"""Probe tasks scored: the log-probabilities of two continuations of one prompt, the prompt read once.

Prompts are left-truncated as lm-evaluation-harness does it: prompt and continuation without its last token are the
input, and its first tokens go where it is longer than the context. Where that cuts the two continuations' prompts in
different places, each is read on its own. Shape letters: T tokens of a batch end to end, S prompts, N continuations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seqassay.evaluate.lm_guards import LmGuardError
from seqassay.evaluate.uncertainty import share_interval
from seqassay.models.attention import PackedLayout
from seqassay.models.causal_lm import CausalLm, KeyValueCache
from seqassay.models.lm_loss import target_log_probs
from seqassay.text.tokenizer import TextTokenizer

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt and its continuations, as tokens.

    Attributes:
        prompts: one for all continuations, or one each where truncation cut them differently.
        continuations: at least one token each.
        n_cut: tokens that were left out of the longest prompt.
    """

    prompts: tuple[Ids, ...]
    continuations: tuple[Ids, ...]
    n_cut: int

    @property
    def n_tokens(self) -> int:
        """What the model reads."""
        shared = len(self.prompts) == 1
        return sum(map(len, self.prompts)) + sum(map(len, self.continuations)) * (2 if shared else 1)


def question(tokenizer: TextTokenizer, prompt: str, continuations: Sequence[str], context_tokens: int) -> Question:
    """Tokens of a prompt with each continuation, tokenised together, cut to the context.

    What the tokenised texts and the tokenised prompt share is the prompt: where a tokenizer joins the end of the
    prompt with a continuation, the joined token belongs to the continuation.
    """
    alone, *whole = (
        tuple(map(int, ids)) for ids in tokenizer.encode_batch([prompt, *(prompt + c for c in continuations)])
    )
    n_shared = min(_n_shared(alone, ids) for ids in whole)
    n_shared = max(1, min(n_shared, *(len(ids) - 1 for ids in whole)))
    rests = tuple(ids[n_shared:] for ids in whole)
    rooms = [context_tokens + 1 - len(rest) for rest in rests]
    if min(rooms) < 1:
        raise LmGuardError(
            f"a continuation has {max(map(len, rests))} tokens, and the context is {context_tokens}",
            hint="a prompt needs a token at least: evaluate with a longer context",
        )
    prompts = tuple(ids[:n_shared][-room:] for ids, room in zip(whole, rooms, strict=True))
    n_cut = n_shared - min(map(len, prompts))
    return Question(prompts[:1] if len(set(prompts)) == 1 else prompts, rests, n_cut)


def _n_shared(a: Ids, b: Ids) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def batches_of_questions(questions: Sequence[Question], batch_tokens: int) -> Iterator[list[int]]:
    """Numbers of the questions, the long ones first, in batches within the token budget (one question at least)."""
    batch: list[int] = []
    n_tokens = 0
    for number in sorted(range(len(questions)), key=lambda i: -questions[i].n_tokens):
        if batch and n_tokens + questions[number].n_tokens > batch_tokens:
            yield batch
            batch, n_tokens = [], 0
        batch.append(number)
        n_tokens += questions[number].n_tokens
    if batch:
        yield batch


def score_questions(
    model: CausalLm, questions: Sequence[Question], *, device: torch.device | str = "cpu"
) -> list[tuple[float, ...]]:
    """Log-probability in nats of every continuation of every question, in one batch without padding.

    Raises:
        LmGuardError: a log-probability is not a finite number.
    """
    # every distinct prompt is read once; the continuations that follow it start from a copy of its keys and values
    prompts: list[Ids] = []
    follows: list[tuple[int, int, int]] = []  # prompt, question, continuation
    for number, one in enumerate(questions):
        for which in range(len(one.continuations)):
            if which < len(one.prompts):
                prompts.append(one.prompts[which])
            follows.append((len(prompts) - 1, number, which))
    order_S = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    row_of = {prompt: row for row, prompt in enumerate(order_S)}
    rest = {(number, which): questions[number].continuations[which] for _, number, which in follows}
    lengths_S = [len(prompts[i]) for i in order_S]
    longest = max(map(len, rest.values()))
    found = np.zeros(len(follows))
    with torch.no_grad():
        layout = PackedLayout.from_lengths(lengths_S, device)
        tokens_T = _tensor([token for i in order_S for token in prompts[i]], device)
        cache = None
        if longest == 1:  # nothing to read after the prompts: no keys to keep
            hidden_TD = model(tokens_T, layout)
        else:
            capacity = max(lengths_S) + longest - 1
            cache = KeyValueCache(model.config, len(prompts), capacity, device=device)
            hidden_TD = model.extend(tokens_T, layout, cache)
        last_SD = hidden_TD[torch.from_numpy(layout.offsets[1:] - 1).to(device)]
        rows_N = [row_of[prompt] for prompt, _, _ in follows]
        firsts_N = _tensor([rest[number, which][0] for _, number, which in follows], device)
        found += _log_probs(model, last_SD[_tensor(rows_N, device)], firsts_N)

        longer = sorted(
            (i for i, (_, number, which) in enumerate(follows) if len(rest[number, which]) > 1),
            key=lambda i: len(rest[follows[i][1:]]),
        )
        if cache is not None and longer:
            after = [rest[follows[i][1:]] for i in longer]
            copies = cache.take([rows_N[i] for i in longer])
            layout = PackedLayout.from_lengths([len(ids) - 1 for ids in after], device)
            hidden_TD = model.extend(_tensor([token for ids in after for token in ids[:-1]], device), layout, copies)
            targets_T = _tensor([token for ids in after for token in ids[1:]], device)
            log_probs_T = _log_probs(model, hidden_TD, targets_T)
            found[longer] += np.add.reduceat(log_probs_T, layout.offsets[:-1])
    if not np.isfinite(found).all():
        raise LmGuardError(
            f"the log-probability of a continuation is {found[~np.isfinite(found)][0]}",
            hint="likely bug: weights or hidden states overflow; the training diverged, or ran in too narrow a format",
        )
    sums = iter(found.tolist())
    return [tuple(next(sums) for _ in one.continuations) for one in questions]


def _tensor(ids: list[int], device: torch.device | str) -> Tensor:
    return torch.tensor(ids, dtype=torch.long, device=device)


def _log_probs(model: CausalLm, hidden_TD: Tensor, targets_T: Tensor) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    found: np.ndarray[tuple[int], np.dtype[np.float64]] = (
        target_log_probs(model, hidden_TD, targets_T).double().cpu().numpy()
    )
    return found


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
