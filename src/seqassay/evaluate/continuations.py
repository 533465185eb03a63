"""Log-probabilities of continuations: a prompt is read once, whatever number of continuations follows it.

Where continuations differ in their last token alone, or one goes on where another ends, prompt and continuation are one
sequence. Otherwise they start from copies of the prompt's keys and values. On the CPU every core reads questions of its
own, in micro-batches whose activations stay in its cache. Logits are made for what is scored alone, and for many
questions at a time, since each product reads the whole token table.

Shape letters: T tokens of a batch end to end, S tokens that something scored follows, N scored tokens, D hidden width,
V vocabulary, B scored tokens of a part.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seqassay.evaluate.lm_guards import LmGuardError
from seqassay.models.attention import PackedLayout
from seqassay.models.causal_lm import CausalLm, KeyValueCache
from seqassay.models.cores import map_on_cores

Ids = tuple[int, ...]
_CORE_TOKENS = 1024  # of a core's micro-batch
_ROWS_AT_ONCE = 128  # of logits: 8 MB at a vocabulary of 16k


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
    if torch.device(device).type == "cpu":
        parts = [[questions[i] for i in part] for part in batches_of_questions(questions, _CORE_TOKENS)]
        order = [i for part in batches_of_questions(questions, _CORE_TOKENS) for i in part]
        read = list(map_on_cores(partial(_read, model, device=device), parts))
    else:
        order = list(range(len(questions)))
        read = [_read(model, questions, device=device)]
    hidden_SD = torch.cat([part.hidden_SD for part in read])
    firsts = np.cumsum([0, *(len(part.hidden_SD) for part in read)])[:-1].tolist()
    rows_N = np.array([first + row for first, part in zip(firsts, read, strict=True) for row in part.rows_N], np.int64)
    log_probs_N, greedy_N = _looked_up(model, hidden_SD, rows_N, [token for part in read for token in part.targets_N])

    scores: list[list[Score]] = [[] for _ in questions]
    at = 0
    for number in order:
        for continuation in questions[number].continuations:
            of_one = slice(at, at + len(continuation))
            at = of_one.stop
            log_prob = float(log_probs_N[of_one].sum())
            if not math.isfinite(log_prob):
                raise LmGuardError(
                    f"the log-probability of a continuation is {log_prob}",
                    hint="likely bug: weights or hidden states overflow; the training diverged, or ran in too narrow "
                    "a format",
                )
            scores[number].append(Score(log_prob, bool(greedy_N[of_one].all())))
    return [tuple(of_question) for of_question in scores]


@dataclass(frozen=True, slots=True)
class _Reading:
    """Hidden states of a micro-batch, and which of them each scored token follows.

    Attributes:
        hidden_SD: of the tokens that something scored follows.
        rows_N, targets_N: of every token of every continuation, in the order of the questions.
    """

    hidden_SD: Tensor
    rows_N: list[int]
    targets_N: list[int]


def _read(model: CausalLm, questions: Sequence[Question], *, device: torch.device | str) -> _Reading:
    """Have the model read a micro-batch."""
    sequences: list[tuple[Ids, list[tuple[int, int]]]] = []  # what is read whole; continuations that it holds
    forked = []
    for number, one in enumerate(questions):
        longest = max(one.continuations, key=len)
        if len(one.prompts) > 1:
            pairs = zip(one.prompts, one.continuations, strict=True)
            sequences += [(prompt + ids[:-1], [(number, which)]) for which, (prompt, ids) in enumerate(pairs)]
        elif all(ids[:-1] == longest[: len(ids) - 1] for ids in one.continuations):
            sequences.append((one.prompts[0] + longest[:-1], [(number, i) for i in range(len(one.continuations))]))
        else:
            forked.append(number)
    rows: dict[tuple[int, int], list[int]] = {}
    hidden = []
    with torch.no_grad():
        if sequences:
            hidden.append(_read_whole(model, questions, sequences, device, rows))
        if forked:
            n_before = sum(map(len, hidden))
            hidden.append(_read_forked(model, {i: questions[i] for i in forked}, device, rows, n_before))
    named = [(number, which) for number, one in enumerate(questions) for which in range(len(one.continuations))]
    return _Reading(
        torch.cat(hidden),
        [row for owner in named for row in rows[owner]],
        [token for number, which in named for token in questions[number].continuations[which]],
    )


def _read_whole(
    model: CausalLm,
    questions: Sequence[Question],
    sequences: list[tuple[Ids, list[tuple[int, int]]]],
    device: torch.device | str,
    rows: dict[tuple[int, int], list[int]],
) -> Tensor:
    """Sequences that hold all that comes before any scored token; fills in where that is."""
    sequences.sort(key=lambda sequence: len(sequence[0]))
    layout = PackedLayout.from_lengths([len(ids) for ids, _ in sequences], device)
    kept: list[int] = []
    for end, (_, owners) in zip(layout.offsets[1:].tolist(), sequences, strict=True):
        n_places = max(len(questions[number].continuations[which]) for number, which in owners)
        for number, which in owners:
            rows[number, which] = list(range(len(kept), len(kept) + len(questions[number].continuations[which])))
        kept.extend(range(end - n_places, end))
    tokens_T = _tensor([token for ids, _ in sequences for token in ids], device)
    kept_T = _tensor(kept, device)
    hidden_SD: Tensor = model(tokens_T, layout, kept_T=kept_T)
    return hidden_SD


def _read_forked(
    model: CausalLm,
    questions: dict[int, Question],
    device: torch.device | str,
    rows: dict[tuple[int, int], list[int]],
    first_row: int,
) -> Tensor:
    """Prompts once, their keys and values kept; then what follows them, from copies of those; fills in where it is."""
    numbers = sorted(questions, key=lambda number: len(questions[number].prompts[0]))
    prompts = [questions[number].prompts[0] for number in numbers]
    follows = [
        (row, (number, which), ids)
        for row, number in enumerate(numbers)
        for which, ids in enumerate(questions[number].continuations)
    ]
    layout = PackedLayout.from_lengths([len(ids) for ids in prompts], device)
    capacity = layout.max_length + max(len(ids) for _, _, ids in follows) - 1
    cache = KeyValueCache(model.config, len(prompts), capacity, device=device)
    hidden_TD = model.extend(_tensor([token for ids in prompts for token in ids], device), layout, cache)
    last_SD = hidden_TD[torch.from_numpy(layout.offsets[1:] - 1).to(device)]
    for row, owner, _ in follows:
        rows[owner] = [first_row + row]
    longer = sorted((one for one in follows if len(one[2]) > 1), key=lambda one: len(one[2]))
    layout = PackedLayout.from_lengths([len(ids) - 1 for _, _, ids in longer], device)
    tokens_T = _tensor([token for _, _, ids in longer for token in ids[:-1]], device)
    after_TD = model.extend(tokens_T, layout, cache.take([row for row, _, _ in longer]))
    first_row += len(prompts)
    for (_, owner, _), begin, end in zip(
        longer, layout.offsets[:-1].tolist(), layout.offsets[1:].tolist(), strict=True
    ):
        rows[owner] += range(first_row + begin, first_row + end)
    return torch.cat((last_SD, after_TD))


def _looked_up(
    model: CausalLm, hidden_SD: Tensor, rows_N: npt.NDArray[np.int64], targets_N: list[int]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Log-probability of each target after its row, and whether it is the likeliest there."""
    order_N = np.argsort(rows_N, kind="stable")
    ordered, targets = rows_N[order_N], np.asarray(targets_N, np.int64)[order_N]
    parts = [(i, min(i + _ROWS_AT_ONCE, len(hidden_SD))) for i in range(0, len(hidden_SD), _ROWS_AT_ONCE)]

    def look_up(part: tuple[int, int]) -> tuple[Tensor, Tensor]:
        first, last = np.searchsorted(ordered, part)
        rows_B = torch.from_numpy(ordered[first:last] - part[0]).to(hidden_SD.device)
        targets_B = torch.from_numpy(targets[first:last]).to(hidden_SD.device)
        with torch.no_grad():
            logits_SV = model.logits(hidden_SD[part[0] : part[1]])
            log_probs_B = logits_SV[rows_B, targets_B] - torch.logsumexp(logits_SV, dim=1)[rows_B]
            return log_probs_B.double().cpu(), (logits_SV.argmax(1)[rows_B] == targets_B).cpu()

    found = list(map_on_cores(look_up, parts) if hidden_SD.device.type == "cpu" else map(look_up, parts))
    log_probs_N, greedy_N = np.empty(len(order_N)), np.empty(len(order_N), np.bool_)
    log_probs_N[order_N] = torch.cat([log_probs for log_probs, _ in found]).numpy()
    greedy_N[order_N] = torch.cat([greedy for _, greedy in found]).numpy()
    return log_probs_N, greedy_N


def _tensor(ids: list[int], device: torch.device | str) -> Tensor:
    return torch.tensor(ids, dtype=torch.long, device=device)
