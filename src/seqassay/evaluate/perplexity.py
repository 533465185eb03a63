"""Perplexity: the loss of every token of a text exactly once, summed by unit, with intervals of the ratios.

A loss is a float32 log-softmax over the whole vocabulary, a chunk of logits at a time
(`seqassay.models.lm_loss`); sums are float64. Token, word and byte perplexity share one numerator and differ in what
it is divided by. Shape letters: T inputs of a batch end to end, N scored targets, U units, V vocabulary, K values of k.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from seqassay.evaluate.intervals import effective_number, student_t
from seqassay.evaluate.lm_guards import LmGuardError
from seqassay.models.attention import PackedLayout
from seqassay.models.causal_lm import CausalLm
from seqassay.models.lm_loss import logits_in_chunks
from seqassay.text.windows import EvaluationWindow, Tokens

FEWEST_UNITS = 5  # effective units below which no interval is given
ENOUGH_DOCUMENTS = 15  # effective documents below which blocks of the text are the units
BLOCKS = 50
LARGEST_PERPLEXITY = 1e300  # what is above is named so, not computed: the exponential of 710 nats overflows
Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ScoredBatch:
    """The scored targets of a batch.

    Attributes:
        places_N: index of each in the tokens.
        losses_N: in nats.
        ranks_N: how many tokens the model holds more likely; of equally likely ones, those with a smaller id.
    """

    places_N: Counts
    losses_N: Floats
    ranks_N: Counts


def batches_of(windows: Iterable[EvaluationWindow], batch_tokens: int) -> Iterator[list[EvaluationWindow]]:
    """Consecutive windows, of no more inputs together than the budget (but one window at least)."""
    batch: list[EvaluationWindow] = []
    n_tokens = 0
    for window in windows:
        if batch and n_tokens + window.n_inputs > batch_tokens:
            yield batch
            batch, n_tokens = [], 0
        batch.append(window)
        n_tokens += window.n_inputs
    if batch:
        yield batch


def score_windows(
    model: CausalLm,
    tokens: Tokens,
    windows: Sequence[EvaluationWindow],
    *,
    prefix_id: int | None,
    device: torch.device | str = "cpu",
) -> ScoredBatch:
    """Losses and ranks of what the windows score, in one batch without padding.

    Args:
        tokens: what the windows index.
        prefix_id: stands at the first place of windows that have a prefix.

    Raises:
        LmGuardError: a loss is not a finite number.
    """
    ordered = sorted(windows, key=lambda window: window.n_inputs)
    lengths = [window.n_inputs for window in ordered]
    inputs_T = np.empty(sum(lengths), np.int64)
    rows, places = [], []
    at = 0
    for window in ordered:
        end = at + window.n_inputs
        if window.has_prefix:
            if prefix_id is None:
                raise ValueError("a window has a prefix, and no prefix token is given")
            inputs_T[at] = prefix_id
        inputs_T[at + window.has_prefix : end] = tokens[window.start + window.has_prefix : window.stop - 1]
        rows.append(np.arange(end - window.n_scored, end))
        places.append(np.arange(window.stop - window.n_scored, window.stop))
        at = end
    places_N = np.concatenate(places)
    targets_N = torch.from_numpy(np.asarray(tokens[places_N], np.int64)).to(device)
    losses_N = torch.empty(len(targets_N), device=device)
    ranks_N = torch.empty(len(targets_N), dtype=torch.long, device=device)
    with torch.no_grad():
        hidden_TD = model(torch.from_numpy(inputs_T).to(device), PackedLayout.from_lengths(lengths, device))
        hidden_ND = hidden_TD[torch.from_numpy(np.concatenate(rows)).to(device)]
        for part, logits_BV in logits_in_chunks(model, hidden_ND):
            target_B1 = targets_N[part, None]
            picked_B1 = logits_BV.gather(1, target_B1)
            losses_N[part] = torch.logsumexp(logits_BV, dim=1) - picked_B1.squeeze(1)
            above_B = (logits_BV > picked_B1).sum(1)
            tied = (logits_BV == picked_B1).sum(1) > 1
            if bool(tied.any()):  # as argmax and topk have it; without this a model of equal logits is always right
                ids_V = torch.arange(logits_BV.shape[1], device=device)
                above_B += ((logits_BV == picked_B1) & (ids_V < target_B1)).sum(1)
            ranks_N[part] = above_B
    losses = losses_N.double().cpu().numpy()
    if not np.isfinite(losses).all():
        place = int(places_N[np.flatnonzero(~np.isfinite(losses))[0]])
        raise LmGuardError(
            f"the loss of token {place:,} is {losses[~np.isfinite(losses)][0]}",
            hint="likely bug: weights or hidden states overflow; the training diverged, or ran in too narrow a format",
        )
    return ScoredBatch(places_N, losses, ranks_N.cpu().numpy())


@dataclass(slots=True)
class UnitSums:
    """What was scored, summed by unit (document or block).

    Attributes:
        edges: index in the tokens where each unit begins, and the end; ``int64 [U + 1]``.
        top_k: values of k.
        losses_U: sum of the losses in nats; scored_U: how many; hits_KU: targets among the k most likely.
        seen: which tokens were scored.
    """

    edges: Counts
    top_k: tuple[int, ...]
    losses_U: Floats = field(init=False)
    scored_U: Counts = field(init=False)
    hits_KU: Counts = field(init=False)
    seen: npt.NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        n_units = len(self.edges) - 1
        self.losses_U, self.scored_U = np.zeros(n_units), np.zeros(n_units, np.int64)
        self.hits_KU = np.zeros((len(self.top_k), n_units), np.int64)
        self.seen = np.zeros(int(self.edges[-1]), np.bool_)

    def add(self, batch: ScoredBatch) -> None:
        """Add a batch.

        Raises:
            LmGuardError: a token was scored before.
        """
        places = batch.places_N
        again = places[self.seen[places]]
        if len(again) or len(np.unique(places)) != len(places):
            raise LmGuardError(
                f"token {int(again[0] if len(again) else places[0]):,} is scored twice",
                hint="likely bug: windows overlap in what they score; each may score its stride alone",
            )
        self.seen[places] = True
        unit_N = np.searchsorted(self.edges, places, "right") - 1
        n_units = len(self.losses_U)
        self.losses_U += np.bincount(unit_N, batch.losses_N, n_units)
        self.scored_U += np.bincount(unit_N, minlength=n_units)
        for i, k in enumerate(self.top_k):
            self.hits_KU[i] += np.bincount(unit_N[batch.ranks_N < k], minlength=n_units)

    @property
    def loss_sum(self) -> float:
        """Of all units, in nats."""
        return math.fsum(self.losses_U.tolist())

    @property
    def n_scored(self) -> int:
        """Scored tokens of all units."""
        return int(self.scored_U.sum())


def unit_edges(offsets: Counts, context_tokens: int) -> tuple[Counts, str]:
    """Where the units of an interval begin, and what they are called.

    Documents, if there are as many as 15 of equal size; else blocks, 50 or as many as there are of a context or more.
    """
    lengths = np.diff(offsets)
    if effective_number(lengths.astype(np.float64)) >= ENOUGH_DOCUMENTS:
        return offsets.astype(np.int64), "documents"
    size = max(context_tokens, -(-int(offsets[-1]) // BLOCKS))
    edges = np.append(np.arange(0, int(offsets[-1]), size, dtype=np.int64), offsets[-1])
    if len(edges) > 2 and edges[-1] - edges[-2] < size // 2:  # a rest joins the block before it
        edges = np.delete(edges, -2)
    return edges, f"blocks of {size:,} tokens"


def ratio_interval(sums_U: Floats, weights_U: Floats, *, level: float = 0.95) -> tuple[float, float] | str:
    """Interval of Σ sums / Σ weights over units that are drawn whole (linearised, Student's t), or why there is none.

    Degrees of freedom are those of the effective number of units (Kish 1965).
    """
    used = weights_U > 0
    x, w = sums_U[used], weights_U[used]
    effective = effective_number(w)
    if effective < FEWEST_UNITS:
        return f"{len(w)} units are worth {effective:.1f} of equal size: too few"
    ratio = float(x.sum() / w.sum())
    variance = len(w) / (len(w) - 1) * float(((x - ratio * w) ** 2).sum()) / float(w.sum()) ** 2
    half = student_t((1 + level) / 2, effective - 1) * math.sqrt(variance)
    return max(0.0, ratio - half), ratio + half


def perplexity(nats: float) -> float | None:
    """The exponential; None where it is over `LARGEST_PERPLEXITY`."""
    return math.exp(nats) if nats <= math.log(LARGEST_PERPLEXITY) else None


NOISE_SLACK_NATS = math.log(1e9)
ScoreTokens = Callable[[Tokens], Floats]


def check_noise(score: ScoreTokens, vocab_size: int, *, n_tokens: int, seed: int = 0) -> float:
    """No model can predict uniform noise: a loss below ln V means that it sees what it is asked for.

    The product of V·p over the tokens is a supermartingale of mean 1 at most, so that a gain of ln(1e9) nats over all
    tokens together happens by chance once in a billion times (Ville 1939), however the model was trained.

    Args:
        score: losses in nats of tokens of one document: what figures are computed with.

    Returns:
        The mean loss in nats.

    Raises:
        LmGuardError: the loss is lower than chance allows.
    """
    tokens = np.random.default_rng(seed).integers(0, vocab_size, n_tokens)
    losses = score(tokens)
    gain = len(losses) * math.log(vocab_size) - float(losses.sum())
    if gain > NOISE_SLACK_NATS:
        raise LmGuardError(
            f"{len(losses):,} random tokens have a mean loss of {losses.mean():.4f} nats; for a vocabulary of "
            f"{vocab_size:,} nothing can be below {math.log(vocab_size):.4f}",
            hint="likely bug: the target is visible to the model (labels not shifted, the future leaks, or windows "
            "give away what they score)",
        )
    return float(losses.mean())
