"""Log-probabilities of continuations: a prompt is read once, whatever number of continuations follows it.

On the CPU every core scores questions of its own from the first product to the log-softmax, in micro-batches whose
activations stay in its cache. Logits are made for what is scored alone: the last token of a prompt, and those of a
continuation.

Shape letters: T tokens of a batch end to end, S sequences, N scored tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seqassay.evaluate.lm_guards import LmGuardError
from seqassay.models.attention import PackedLayout
from seqassay.models.causal_lm import CausalLm, KeyValueCache
from seqassay.models.cores import map_on_cores
from seqassay.models.lm_loss import logits_in_chunks

Ids = tuple[int, ...]
_CORE_TOKENS = 1024  # of a core's micro-batch


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt and its continuations, as tokens.

    Attributes:
        prompts: one for all continuations, or one each where truncation cut them differently; at least one token each.
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


@dataclass(frozen=True, slots=True)
class Score:
    """What a model makes of a continuation.

    Attributes:
        log_prob: of all its tokens together, in nats.
        is_greedy: each of them is the most likely one at its place (of equally likely ones the smallest id).
    """

    log_prob: float
    is_greedy: bool


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
) -> list[tuple[Score, ...]]:
    """Scores of every continuation of every question, in one batch without padding.

    Raises:
        LmGuardError: a log-probability is not a finite number.
    """
    on_cores = torch.device(device).type == "cpu"
    parts = list(batches_of_questions(questions, _CORE_TOKENS)) if on_cores else [list(range(len(questions)))]

    def score_part(part: list[int]) -> list[tuple[Score, ...]]:
        with torch.no_grad():
            return _score(model, [questions[i] for i in part], device)

    scored: list[tuple[Score, ...]] = [()] * len(questions)
    for part, found in zip(parts, map_on_cores(score_part, parts) if on_cores else map(score_part, parts), strict=True):
        for number, scores in zip(part, found, strict=True):
            scored[number] = scores
    return scored


def _score(model: CausalLm, questions: Sequence[Question], device: torch.device | str) -> list[tuple[Score, ...]]:
    """One micro-batch: what is read at once, and its continuations after it.

    A continuation that shares its prompt, and is longer than a token, starts from a copy of the prompt's keys and
    values; one that has a prompt of its own is read with it.
    """
    log_probs = [np.zeros(len(one.continuations)) for one in questions]
    is_greedy = [np.ones(len(one.continuations), np.bool_) for one in questions]
    apart: list[int] = []
    shared: list[int] = []
    for number, one in enumerate(questions):
        is_shared = len(one.prompts) == 1 and len(one.continuations) > 1 and max(map(len, one.continuations)) > 1
        (shared if is_shared else apart).append(number)
    for numbers, score in ((apart, _read_whole), (shared, _read_prompts_first)):
        if numbers:
            for (number, which), log_prob, greedy in score(model, {i: questions[i] for i in numbers}, device):
                log_probs[number][which] += log_prob
                is_greedy[number][which] &= greedy
    for found in log_probs:
        if not np.isfinite(found).all():
            raise LmGuardError(
                f"the log-probability of a continuation is {found[~np.isfinite(found)][0]}",
                hint="likely bug: weights or hidden states overflow; the training diverged, or ran in too narrow a "
                "format",
            )
    return [
        tuple(Score(*pair) for pair in zip(values.tolist(), greedy.tolist(), strict=True))
        for values, greedy in zip(log_probs, is_greedy, strict=True)
    ]


Found = Iterator[tuple[tuple[int, int], float, bool]]  # (question, continuation), and what was found of it


def _read_whole(model: CausalLm, questions: dict[int, Question], device: torch.device | str) -> Found:
    """Every prompt with what follows it but the last token; continuations of one token share the place they follow."""
    sequences: list[tuple[Ids, list[tuple[int, int]]]] = []
    for number, one in questions.items():
        if len(one.prompts) == 1 and len(one.continuations) > 1:
            sequences.append((one.prompts[0], [(number, which) for which in range(len(one.continuations))]))
            continue
        for which, (prompt, rest) in enumerate(zip(one.prompts, one.continuations, strict=True)):
            sequences.append((prompt + rest[:-1], [(number, which)]))
    sequences.sort(key=lambda sequence: len(sequence[0]))
    layout = PackedLayout.from_lengths([len(ids) for ids, _ in sequences], device)
    hidden_TD = model(_tensor([token for ids, _ in sequences for token in ids], device), layout)
    rows, owners, row_of, targets = [], [], [], []
    for end, (_, follow) in zip(layout.offsets[1:].tolist(), sequences, strict=True):
        n_places = len(questions[follow[0][0]].continuations[follow[0][1]])
        first = len(rows)
        rows.extend(range(end - n_places, end))
        for number, which in follow:
            owners.extend([(number, which)] * n_places)
            row_of.extend(range(first, first + n_places))
            targets.extend(questions[number].continuations[which])
    yield from _looked_up(model, hidden_TD[_tensor(rows, device)], row_of, targets, owners)


def _read_prompts_first(model: CausalLm, questions: dict[int, Question], device: torch.device | str) -> Found:
    """Every prompt once, its keys and values kept; then what follows, from copies of them."""
    numbers = sorted(questions, key=lambda number: len(questions[number].prompts[0]))
    prompts = [questions[number].prompts[0] for number in numbers]
    follows = [(row, number, which) for row, number in enumerate(numbers)
               for which in range(len(questions[number].continuations))]  # fmt: skip
    after = {(number, which): questions[number].continuations[which] for _, number, which in follows}
    layout = PackedLayout.from_lengths([len(ids) for ids in prompts], device)
    capacity = layout.max_length + max(map(len, after.values())) - 1
    cache = KeyValueCache(model.config, len(prompts), capacity, device=device)
    hidden_TD = model.extend(_tensor([token for ids in prompts for token in ids], device), layout, cache)
    owners = [(number, which) for _, number, which in follows]
    last_SD = hidden_TD[torch.from_numpy(layout.offsets[1:] - 1).to(device)]
    yield from _looked_up(model, last_SD, [row for row, _, _ in follows], [after[owner][0] for owner in owners], owners)

    longer = sorted((f for f in follows if len(after[f[1:]]) > 1), key=lambda f: len(after[f[1:]]))
    rests = [after[f[1:]] for f in longer]
    layout = PackedLayout.from_lengths([len(ids) - 1 for ids in rests], device)
    tokens_T = _tensor([token for ids in rests for token in ids[:-1]], device)
    hidden_TD = model.extend(tokens_T, layout, cache.take([row for row, _, _ in longer]))
    owners = [(number, which) for (_, number, which), ids in zip(longer, rests, strict=True) for _ in ids[1:]]
    yield from _looked_up(model, hidden_TD, list(range(len(owners))), [t for ids in rests for t in ids[1:]], owners)


def _looked_up(
    model: CausalLm, hidden_SD: Tensor, rows_N: list[int], targets_N: list[int], owners: list[tuple[int, int]]
) -> Found:
    """Log-probability of each target at its row, and whether it is the likeliest there."""
    n_rows = len(hidden_SD)
    order_N: npt.NDArray[np.int64] = np.argsort(rows_N, kind="stable")
    ordered = np.asarray(rows_N, np.int64)[order_N]
    log_probs_N, greedy_N = np.empty(len(order_N)), np.empty(len(order_N), np.bool_)
    for part, logits_BV in logits_in_chunks(model, hidden_SD):
        of_part = slice(*np.searchsorted(ordered, [part.start, min(part.stop, n_rows)]).tolist())
        at = torch.from_numpy(ordered[of_part] - part.start).to(hidden_SD.device)
        target = _tensor([targets_N[i] for i in order_N[of_part]], hidden_SD.device)
        found = logits_BV[at, target] - torch.logsumexp(logits_BV, dim=1)[at]
        log_probs_N[order_N[of_part]] = found.double().cpu().numpy()
        greedy_N[order_N[of_part]] = (logits_BV.argmax(1)[at] == target).cpu().numpy()
    yield from zip(owners, log_probs_N.tolist(), greedy_N.tolist(), strict=True)


def _tensor(ids: list[int], device: torch.device | str) -> Tensor:
    return torch.tensor(ids, dtype=torch.long, device=device)
