"""Tokens from a language model, one after another: many prompts beside each other, read once, keys and values kept.

What the model reads at once is whole prompts at first, then one token of each continuation; nothing is padded. What is
chosen depends on the prompt, the settings and random numbers of the continuation's own, not on what shares its batch
(logits differ by rounding, which only a tie can show).

A model sees ``context`` tokens at a time. Where a continuation needs more, its window begins anew with the newest half
of them, or the continuation ends there. A prompt longer than the context loses its beginning.

Shape letters: S sequences in work, T their new tokens end to end, D hidden width, V vocabulary, R candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seqassay.errors import ModelError, UsageError
from seqassay.measure.clock import DeviceClock
from seqassay.models.attention import PackedLayout
from seqassay.models.causal_lm import CausalLm, KeyValueCache

Ids = tuple[int, ...]
Ended = Literal["stop token", "stop text", "length", "context"]
FullContext = Literal["slide", "stop"]
Part = tuple[int, range]  # the number of a prompt, and those of its samples that are wanted
COLDEST = 1e-3  # logits divided by much less than this overflow


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How tokens are chosen, and when a continuation ends.

    Attributes:
        temperature: logits are divided by it; 0: the most likely token (greedy).
        top_k: only so many of the most likely tokens can be drawn; None: all.
        top_p: of those, only the fewest most likely ones that have this probability together (Holtzman et al. 2020).
        stop_ids: tokens that end a continuation.
        full_context: what happens where a continuation needs more than the model's context.
        samples: continuations of every prompt.

    Raises:
        UsageError: a value out of its range.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    seed: int = 0
    stop_ids: frozenset[int] = frozenset()
    full_context: FullContext = "slide"
    samples: int = 1

    def __post_init__(self) -> None:
        if self.temperature and not COLDEST <= self.temperature < float("inf"):
            raise UsageError(f"the temperature is {self.temperature:g}; it is 0 (greedy), or from {COLDEST:g} on")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top-p is {self.top_p:g}; it is a probability above 0 and up to 1")
        for name, value in (("top-k", self.top_k), ("new tokens", self.max_new_tokens), ("samples", self.samples)):
            if value is not None and value < 1:
                raise UsageError(f"{name}: {value}; it has to be at least 1")


@dataclass(frozen=True, slots=True)
class Continuation:
    """What followed a prompt.

    Attributes:
        tokens: the chosen ones, a stop token included.
        log_probs: of each in nats, as the model has it: over the whole vocabulary, at temperature 1.
        ended: why there are no more.
        cut_tokens: of the prompt's beginning, that the model never saw.
        restarts: how often the window began anew.
    """

    tokens: Ids
    log_probs: tuple[float, ...]
    ended: Ended
    cut_tokens: int
    restarts: int


@dataclass(slots=True)
class Timing:
    """Seconds from an idle device to an idle device, of every batch's prompts and of every step, and their tokens.

    Each continuation's first token is chosen from what the model says of its prompt, and belongs to the prompts' time.
    A step reads the newest token of each continuation in work and chooses the next.
    """

    prefill_s: list[float] = field(default_factory=list)
    prefill_tokens: list[int] = field(default_factory=list)
    decode_s: list[float] = field(default_factory=list)
    decode_tokens: list[int] = field(default_factory=list)


def generate(
    model: CausalLm,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    *,
    batch_tokens: int = 16_384,
    is_stop: Callable[[Sequence[int]], bool] | None = None,
    timing: Timing | None = None,
    on_batch: Callable[[int], None] = lambda n_continuations: None,
    parts: Sequence[Part] | None = None,
) -> list[list[Continuation]]:
    """Continue every prompt, on the device that the model is on.

    Args:
        prompts: token ids, at least one each.
        batch_tokens: room for the keys and values of a batch (one continuation at least). A prompt is read once where
            its samples fit into one, and once for each batch of them otherwise.
        is_stop: whether these tokens of a continuation, the newest last, end it ("stop text").
        timing: is added to.
        on_batch: called after each batch with its number of continuations.
        parts: some prompts, each once, and some of their samples; None: every sample of all.

    Returns:
        The continuations of each part, in the order of the parts.

    Raises:
        UsageError: a prompt without a token.
        ModelError: a log-probability that is not a finite number.
    """
    empty = next((number for number, ids in enumerate(prompts, 1) if not len(ids)), None)
    if empty is not None:
        raise UsageError(f"prompt {empty} has no token", hint="a model needs a token to begin with")
    timing = Timing() if timing is None else timing
    clock = DeviceClock.of(model.embed_tokens.weight.device)
    if parts is None:
        parts = [(number, range(decoding.samples)) for number in range(len(prompts))]
    found: dict[int, list[Continuation]] = {}
    with torch.no_grad():
        for some in batches_of_parts(
            parts, [len(ids) for ids in prompts], decoding, model.config.context, batch_tokens
        ):
            batch = _Batch(model, [(number, prompts[number], samples) for number, samples in some], decoding, is_stop)
            n_tokens, seconds = clock.timed(batch.read_prompts)
            timing.prefill_tokens.append(n_tokens)
            timing.prefill_s.append(seconds)
            while batch.in_work:
                n_tokens, seconds = clock.timed(batch.step)
                timing.decode_tokens.append(n_tokens)
                timing.decode_s.append(seconds)
            for sequence in batch.sequences:
                found.setdefault(sequence.prompt, []).append(sequence.continuation())
            on_batch(len(batch.sequences))
    return [found[number] for number, _ in parts]


def batches_of_parts(
    parts: Sequence[Part], lengths: Sequence[int], decoding: Decoding, context: int, batch_tokens: int
) -> Iterator[list[Part]]:
    """What shares a batch: long prompts first, so that a batch's are of about one length; many samples are parted.

    Args:
        lengths: of all prompts, by their numbers.
    """
    batch: list[Part] = []
    n_in_batch = 0
    for number, samples in sorted(parts, key=lambda part: -lengths[part[0]]):
        most = max(1, batch_tokens // room_tokens(lengths[number], decoding, context))
        for first in range(0, len(samples), most):
            some = samples[first : first + most]
            room = room_tokens(lengths[batch[0][0] if batch else number], decoding, context)  # of the longest
            if batch and (n_in_batch + len(some)) * room > batch_tokens:
                yield batch
                batch, n_in_batch = [], 0
            batch.append((number, some))
            n_in_batch += len(some)
    if batch:
        yield batch


def room_tokens(longest: int, decoding: Decoding, context: int) -> int:
    """Tokens of a sequence whose keys are kept; those of its last token are not needed."""
    return min(context, longest + decoding.max_new_tokens - 1)


@dataclass(slots=True)
class _Sequence:
    """One continuation.

    Attributes:
        prompt: its number.
        window: tokens that the model sees of prompt and continuation.
        unread: those of them that it has yet to read.
        draws: random numbers of its own, one for each new token; None: none is drawn.
        row: of the cache.
    """

    prompt: int
    window: list[int]
    draws: np.random.Generator | None
    row: int
    cut_tokens: int
    unread: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    restarts: int = 0
    ended: Ended | None = None

    def continuation(self) -> Continuation:
        """What it came to."""
        if self.ended is None:
            raise RuntimeError("a continuation was asked for before its end")
        return Continuation(tuple(self.tokens), tuple(self.log_probs), self.ended, self.cut_tokens, self.restarts)


class _Batch:
    """Prompts that share a batch.

    Attributes:
        sequences: the continuations, those of one prompt beside each other.
        in_work: those that have not ended.
    """

    def __init__(
        self,
        model: CausalLm,
        prompts: list[tuple[int, Sequence[int], range]],
        decoding: Decoding,
        is_stop: Callable[[Sequence[int]], bool] | None,
    ) -> None:
        self._model, self._decoding, self._is_stop = model, decoding, is_stop
        context, weight = model.config.context, model.embed_tokens.weight
        self._kept = [list(ids[-context:]) for _, ids, _ in prompts]
        self._n_samples = [len(samples) for _, _, samples in prompts]
        self.sequences = [
            _Sequence(number, list(kept), self._draws(number, sample), row, len(ids) - len(kept))
            for row, ((number, ids, samples), kept) in enumerate(zip(prompts, self._kept, strict=True))
            for sample in samples
        ]
        self.in_work = self.sequences
        room = room_tokens(max(map(len, self._kept)), decoding, context)
        self._cache = KeyValueCache(model.config, len(prompts), room, device=weight.device, dtype=weight.dtype)

    def read_prompts(self) -> int:
        """Read every prompt once, and choose the first token of every continuation; returns the prompts' tokens."""
        self._logits_SV = self._read(self._kept, list(range(len(self._kept))))
        if len(self.sequences) > len(self._kept):
            n_samples = torch.tensor(self._n_samples, device=self._logits_SV.device)
            self._logits_SV = self._logits_SV.repeat_interleave(n_samples, 0)
            self._take_rows()
        self._choose()
        return sum(map(len, self._kept))

    def step(self) -> int:
        """Read the newest token of every continuation in work, and choose the next; returns how many."""
        n = len(self.in_work)
        if 2 * n <= len(self._cache.n_tokens_S):  # copying the rest costs less than dragging all along
            self._take_rows()
        self._logits_SV = self._read([s.unread for s in self.in_work], [s.row for s in self.in_work])
        self._choose()
        return n

    def _choose(self) -> None:
        """The next token of every continuation in work, and which of them go on."""
        chosen = self.in_work
        uniforms_S = np.array([0.0 if sequence.draws is None else sequence.draws.random() for sequence in chosen])
        tokens_S, log_probs_S = choose(self._logits_SV, self._decoding, uniforms_S)
        for sequence, token, log_prob in zip(chosen, tokens_S, log_probs_S, strict=True):
            sequence.tokens.append(token)
            sequence.log_probs.append(log_prob)
            sequence.ended = self._end(sequence)
            if sequence.ended is None:
                self._go_on(sequence, token)
        self.in_work = [sequence for sequence in chosen if sequence.ended is None]

    def _end(self, sequence: _Sequence) -> Ended | None:
        if sequence.tokens[-1] in self._decoding.stop_ids:
            return "stop token"
        if self._is_stop is not None and self._is_stop(sequence.tokens):
            return "stop text"
        if len(sequence.tokens) == self._decoding.max_new_tokens:
            return "length"
        is_full = len(sequence.window) == self._model.config.context
        return "context" if is_full and self._decoding.full_context == "stop" else None

    def _go_on(self, sequence: _Sequence, token: int) -> None:
        """The window moves on by a token; one that is full begins anew with its newest half."""
        context = self._model.config.context
        if len(sequence.window) < context:
            sequence.window.append(token)
            sequence.unread = [token]
            return
        sequence.window = [*sequence.window, token][-max(1, context // 2) :]
        sequence.unread = sequence.window.copy()
        sequence.restarts += 1
        self._cache.n_tokens_S[sequence.row] = 0

    def _take_rows(self) -> None:
        """A cache with a row for each continuation in work."""
        self._cache = self._cache.take([sequence.row for sequence in self.in_work])
        for row, sequence in enumerate(self.in_work):
            sequence.row = row

    def _read(self, new: list[list[int]], rows: list[int]) -> Tensor:
        """Logits ``[S, V]`` after the last of each sequence's new tokens."""
        order = sorted(range(len(new)), key=lambda i: len(new[i]))
        device = self._model.embed_tokens.weight.device
        layout = PackedLayout.from_lengths([len(new[i]) for i in order], device)
        tokens_T = torch.tensor([token for i in order for token in new[i]], device=device)
        hidden_TD = self._model.extend(tokens_T, layout, self._cache, rows_S=[rows[i] for i in order])
        last_S = np.empty(len(new), np.int64)
        last_S[order] = layout.offsets[1:] - 1
        return self._model.logits(hidden_TD[torch.from_numpy(last_S).to(device)])

    def _draws(self, number: int, sample: int) -> np.random.Generator | None:
        """Of this continuation alone, whatever batch it is in."""
        if not self._decoding.temperature:
            return None
        return np.random.default_rng([self._decoding.seed, number, sample])


def choose(logits_SV: Tensor, decoding: Decoding, uniforms_S: npt.NDArray[np.float64]) -> tuple[list[int], list[float]]:
    """The next token of every sequence, and its log-probability in nats as the model has it.

    Args:
        uniforms_S: from [0, 1); where in the cumulated probabilities each draw is.

    Raises:
        ModelError: a log-probability that is not a finite number.
    """
    if decoding.temperature:
        uniforms_S1 = torch.from_numpy(uniforms_S).to(logits_SV.device)[:, None]
        probabilities_SR, ids_SR = candidates(logits_SV, decoding)
        cumulated_SR = probabilities_SR.cumsum(-1, dtype=torch.float64)
        rank_S1 = (cumulated_SR <= uniforms_S1 * cumulated_SR[:, -1:]).sum(-1, keepdim=True)
        tokens_S1 = rank_S1 if ids_SR is None else ids_SR.gather(-1, rank_S1)
    else:
        tokens_S1 = logits_SV.argmax(-1, keepdim=True)
    log_probs_S = (logits_SV.gather(-1, tokens_S1) - logits_SV.logsumexp(-1, keepdim=True))[:, 0]
    found = log_probs_S.tolist()
    if not np.isfinite(found).all():
        raise ModelError(
            f"the log-probability of a token is {next(value for value in found if not np.isfinite(value))}",
            hint="weights or hidden states overflow: the training diverged, or ran in too narrow a format",
        )
    return tokens_S1[:, 0].tolist(), found


def candidates(logits_SV: Tensor, decoding: Decoding) -> tuple[Tensor, Tensor | None]:
    """Probabilities of the tokens that can be drawn, and their ids (None: all, in order); both ``[S, R]``.

    Temperature first, then top-k, then top-p of what that leaves. Probabilities left out are 0; the others need not sum
    to 1.
    """
    vocab_size = logits_SV.shape[-1]
    scaled_SV = (logits_SV - logits_SV.amax(-1, keepdim=True)) / decoding.temperature
    ids_SR = None
    if decoding.top_k is not None and decoding.top_k < vocab_size:
        scaled_SV, ids_SR = scaled_SV.topk(decoding.top_k)
    elif decoding.top_p < 1:
        scaled_SV, ids_SR = scaled_SV.sort(dim=-1, descending=True, stable=True)
    probabilities_SR = scaled_SV.softmax(-1)
    if decoding.top_p < 1:
        before_SR = probabilities_SR.cumsum(-1, dtype=torch.float64) - probabilities_SR
        before_SR[:, 0] = 0  # the most likely one stays, whatever it has
        probabilities_SR = probabilities_SR.masked_fill(before_SR >= decoding.top_p, 0)
    return probabilities_SR, ids_SR
