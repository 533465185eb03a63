"""A convolutional network after DeepVirFinder (Ren et al., Quantitative Biology 2020, 8:64–77), in PyTorch.

Of the source's network and training (``training.py`` of its repository): bases one-hot, an ambiguous one 1/4 of each;
convolution of width 10, ReLU, maximum over positions, dropout, dense layer with ReLU, dropout, one logit with a
sigmoid; both strands through the same layers and their probabilities averaged; binary cross-entropy, Adam at 0.001,
Glorot's initial weights, one network for each length.

Departures:

- Chunks are drawn afresh all along, by the sampler that `mini` is trained with, instead of passes over a fixed set.
- Early stopping and the weights kept go by the figure that chooses among all baselines (mean of the plain and the
  group-balanced ROC-AUC on validation fragments), not by accuracy; the learning rate falls linearly to a tenth.
- The rate of dropout, 0.1 in the source, is chosen on validation fragments. Its released models have 1,000 filters and
  dense units instead of the 500 here and in the paper: twice the time a chunk, spent here on twice the chunks.
- The maximum over positions of the convolution is computed from tables: the sum over a window of ten bases is that of
  one row for its first four bases and two for three each; and only the best position of a filter has a gradient. Same
  numbers (a test compares), about 5,000 instead of 80 fragments of 300 bases a second of one core's time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from baseline_models import BASELINES, StoredBaseline, blocks
from seqassay.compiled import compiled
from seqassay.sequences.ragged import Ragged
from seqassay.train.dataset import ChunkSampler

# Letters in tensor names: N fragments, S their strands (first all forward ones, then all reverse ones), L bases,
# F filters, W width of a filter, B the five letters A C G T N.
SOURCE = {"filters": 500, "width": 10, "dense": 500, "dropout": 0.1}
TRIALS: tuple[dict[str, Any], ...] = (SOURCE, SOURCE | {"dropout": 0.5})
# For about a minute on one core at every length.
CHUNKS = {150: 450_000, 300: 400_000, 500: 320_000, 1000: 220_000}
BATCH = 256  # fragments
LEARNING_RATE = 1e-3
EVALUATIONS = 10  # in a whole training
PATIENCE = 3  # evaluations without a better figure

_CODE = np.full(256, 4, np.uint8)
_CODE[list(b"ACGT")] = np.arange(4)
_ONE_HOT_BB = np.vstack([np.eye(4), np.full((1, 4), 0.25)]).astype(np.float32)


class Network(nn.Module):
    """The network; ``forward`` gives the probability of fragments ``uint8[N, L]`` of codes 0–4 for A C G T N."""

    def __init__(self, *, filters: int, width: int, dense: int, dropout: float) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(4, filters, width)  # holds the weights; see `MaximumOverPositions`
        self.dense, self.out = nn.Linear(filters, dense), nn.Linear(dense, 1)
        self.dropout = dropout
        for layer in (self.convolution, self.dense, self.out):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, codes_NL: npt.NDArray[np.uint8]) -> Tensor:
        codes_SL = both_strands(codes_NL)
        best_SF = MaximumOverPositions.apply(codes_SL, self.convolution.weight) + self.convolution.bias
        hidden = nn.functional.dropout(torch.relu(best_SF), self.dropout, self.training)
        hidden = nn.functional.dropout(torch.relu(self.dense(hidden)), self.dropout, self.training)
        probability_S = torch.sigmoid(self.out(hidden)[:, 0])
        return probability_S.view(2, -1).mean(dim=0)


class MaximumOverPositions(torch.autograd.Function):
    """Largest value over positions of a convolution without bias: ``float32[S, F]`` of codes and weights [F, 4, W].

    The bias is added and ReLU taken afterwards: neither changes which position is the largest.
    """

    @staticmethod
    def forward(ctx: Any, codes_SL: npt.NDArray[np.uint8], weight_F4W: Tensor) -> Tensor:
        weight_FWB = letters(weight_F4W.detach().numpy())
        widths = piece_widths(weight_FWB.shape[1])
        tables, first = [], 0
        for width in widths:
            tables.append(word_table(weight_FWB[:, first : first + width]))
            first += width
        best_SF, position_SF = best_positions(codes_SL, np.array(widths), *tables)
        ctx.codes_SL, ctx.position_SF, ctx.shape = codes_SL, position_SF, weight_FWB.shape
        return torch.from_numpy(best_SF)

    @staticmethod
    def backward(ctx: Any, gradient_SF: Tensor) -> tuple[None, Tensor]:  # type: ignore[override]
        gradient_FWB = np.zeros(ctx.shape, np.float32)
        spread_gradient(ctx.codes_SL, ctx.position_SF, gradient_SF.contiguous().numpy(), gradient_FWB)
        return None, torch.from_numpy(np.ascontiguousarray((gradient_FWB @ _ONE_HOT_BB).transpose(0, 2, 1)))


def piece_widths(width: int) -> tuple[int, int, int]:
    """A filter's width as three even pieces: 10 = 4 + 3 + 3, small enough for tables that stay in the cache."""
    return width - 2 * (width // 3), width // 3, width // 3


def letters(weight_F4W: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Weights ``[F, W, 5]`` by letter: those of N are the mean of the four bases'."""
    return np.ascontiguousarray(weight_F4W.transpose(0, 2, 1) @ _ONE_HOT_BB.T)


def word_table(weight_FWB: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """``float32[5^W, F]``: the sum of weights of every word of W letters."""
    table = np.zeros((1, weight_FWB.shape[0]), np.float32)
    for j in range(weight_FWB.shape[1]):
        table = (table[:, None, :] + weight_FWB[:, j].T[None]).reshape(-1, weight_FWB.shape[0])
    return np.ascontiguousarray(table)  # rows of vectors; numpy's own order here follows the weights


@compiled
def keep_larger(best, position, row_a, row_b, row_c, p):  # type: ignore[no-untyped-def]
    """One position for all filters. In a function of its own the compiler makes vector instructions of it: 10 times."""
    for f in range(best.shape[0]):
        value = row_a[f] + row_b[f] + row_c[f]
        if value > best[f]:
            best[f] = value
            position[f] = p


@compiled
def best_positions(codes_SL, widths, table_a, table_b, table_c):  # type: ignore[no-untyped-def]
    """Largest sum of a filter over all positions of a strand, and the first position that has it."""
    n_strands, length = codes_SL.shape
    n_filters = table_a.shape[1]
    best_SF = np.full((n_strands, n_filters), -np.inf, np.float32)
    position_SF = np.zeros((n_strands, n_filters), np.int32)
    for s in range(n_strands):
        best, position, codes = best_SF[s], position_SF[s], codes_SL[s]
        for p in range(length - widths.sum() + 1):
            a, b, c, q = 0, 0, 0, p
            for _ in range(widths[0]):
                a = a * 5 + codes[q]
                q += 1
            for _ in range(widths[1]):
                b = b * 5 + codes[q]
                q += 1
            for _ in range(widths[2]):
                c = c * 5 + codes[q]
                q += 1
            keep_larger(best, position, table_a[a], table_b[b], table_c[c], np.int32(p))
    return best_SF, position_SF


@compiled
def spread_gradient(codes_SL, position_SF, gradient_SF, gradient_FWB):  # type: ignore[no-untyped-def]
    """Add every maximum's gradient to the weights of the letters at its position."""
    n_filters, width, _ = gradient_FWB.shape
    for s in range(len(codes_SL)):
        for f in range(n_filters):
            gradient = gradient_SF[s, f]
            if gradient != 0:
                p = position_SF[s, f]
                for j in range(width):
                    gradient_FWB[f, j, codes_SL[s, p + j]] += gradient


def both_strands(codes_NL: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """All fragments, then all their reverse complements, ``uint8[2 N, L]``."""
    complement = np.array([3, 2, 1, 0, 4], np.uint8)
    return np.concatenate([codes_NL, complement[codes_NL[:, ::-1]]])


class ConvolutionalNetwork(StoredBaseline):
    """Probability of the network; the arrays are its weights by their names in `Network`."""

    name = BASELINES[2]

    def _score_block(self, table_NL: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        network = Network(**{key: self.settings[key] for key in SOURCE}).eval()
        network.load_state_dict({name: torch.from_numpy(array) for name, array in self.arrays.items()})
        return probabilities(network, _CODE[table_NL])


def probabilities(network: Network, codes_NL: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Scores of many fragments under a network in evaluation mode."""
    with torch.inference_mode():
        parts = [network(codes_NL[i : i + BATCH]).double().numpy() for i in range(0, len(codes_NL), BATCH)]
    return np.concatenate(parts)


def train_network(
    settings: dict[str, Any],
    sampler: ChunkSampler,
    length: int,
    *,
    n_chunks: int,
    seed: int,
    valid: Ragged,
    figure: Callable[[npt.NDArray[np.float64]], float],
    report: Callable[[str], None],
) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Train one network; the same seed gives the same weights on one machine with one thread.

    Args:
        settings: keyword arguments of `Network`.
        n_chunks: drawn in all, unless the figure stops getting better before.
        valid: fragments after whose scores' ``figure`` the weights are kept.
        report: takes a line an evaluation.

    Returns:
        What training came to (chunks read and, at every evaluation, the figure), and the best weights.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, length])
    network = Network(**settings)
    valid_codes = np.concatenate([_CODE[table] for table in blocks(valid, length)])
    n_steps = max(1, n_chunks // BATCH)
    every = max(1, n_steps // EVALUATIONS)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - 0.9 * step / n_steps)
    figures: list[float] = []
    best: dict[str, npt.NDArray[Any]] = {}
    started, loss_sum = time.monotonic(), 0.0
    for step, (codes_NL, labels) in enumerate(batches(sampler, length, n_steps, rng), start=1):
        loss = nn.functional.binary_cross_entropy(network(codes_NL), torch.from_numpy(labels).float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        loss_sum += loss.item()
        if step % every and step != n_steps:
            continue
        network.eval()
        figures.append(round(figure(probabilities(network, valid_codes)), 4))
        network.train()
        if figures[-1] >= max(figures):
            best = {name: weight.numpy().copy() for name, weight in network.state_dict().items()}
        chunks_per_s = step * BATCH / (time.monotonic() - started)
        report(f"{step * BATCH:,} chunks, mean loss {loss_sum / step:.4f}, valid {figures[-1]}, {chunks_per_s:,.0f}/s")
        if len(figures) - 1 - int(np.argmax(figures)) >= PATIENCE:
            break
    return {"chunks": step * BATCH, "valid_by_evaluation": figures}, best


def batches(
    sampler: ChunkSampler, length: int, n_steps: int, rng: np.random.Generator
) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]]:
    """Codes and labels of freshly drawn chunks. Their strand plays no part: the network reads both."""
    for _ in range(n_steps):
        drawn = sampler.draw(BATCH, length, rng)
        yield _CODE[drawn.bases.values.reshape(-1, length)], drawn.labels
