"""The runner: sequences in, one pooled float32 vector for each out, in input order.

Shape letters: S sequences, T tokens of a batch end to end, D hidden width.
"""

from __future__ import annotations

import copy
import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
import torch
from torch import nn

from seqassay.engine.batching import IndexArray, plan_batches
from seqassay.engine.precision import ResolvedPrecision, resolve, resolve_device
from seqassay.engine.tokens import NucleotideTokenizer, ProteinTokenizer, Tokenizer
from seqassay.errors import InputError, ModelError, ResourceError, UsageError, is_out_of_memory
from seqassay.models.attention import PackedLayout
from seqassay.models.dnabert import Dnabert
from seqassay.models.esm2 import Esm2
from seqassay.models.identity import Kind, encoder_digest
from seqassay.models.weights import detect_encoder_class, load_dnabert, load_esm2
from seqassay.sequences.ragged import Ragged

logger = logging.getLogger(__name__)

# Tokens at the start and at the end of every sequence that the mean leaves out.
_SPECIALS_LEFT_OUT: dict[Kind, int] = {"nucleotide": 0, "protein": 1}
POOLING: dict[Kind, str] = {"nucleotide": "mean over all tokens", "protein": "mean over residues"}

# Tokens a batch, the same whatever the number of threads: batches are part of what a resumed run must repeat. CPU: some
# micro-batches a core (from 1,024 to 8,192 tokens the speed of one core is the same within 4%). CUDA: enough for
# full-size matrix products.
_CPU_TOKEN_BUDGET = 8192
_CUDA_TOKEN_BUDGET = 65536

_MATRICES_OF_PAIRS = 3  # alive at once in the kernels that hold them: bias, scores, their softmax
_CHECK_ABOVE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Encoder:
    """A language model with its tokenizer and identity.

    Attributes:
        kind: ``nucleotide`` (DNABERT-S class) or ``protein`` (ESM-2 class).
        name: for people: the folder's or file's name.
        digest: SHA-256 over configuration, tokenizer and tensors; the same whatever files they came from.
    """

    kind: Kind
    name: str
    model: nn.Module
    tokenizer: Tokenizer
    d_model: int
    digest: str

    @property
    def pooling(self) -> str:
        """Which positions the mean is taken over."""
        return POOLING[self.kind]


def load_encoder(folder_or_file: Path | str, *, kind: Kind | None = None, name: str | None = None) -> Encoder:
    """Load an ESM-2 or DNABERT-S class encoder in float32 from any of its published file layouts.

    Args:
        folder_or_file: a folder with weights (and, for a nucleotide encoder, ``tokenizer.json``), or a weight file.
        kind: the class it must be; any when not given.
        name: how outputs call it; the folder's name when not given.

    Raises:
        ModelError: when it is neither, is incomplete, or holds a tensor too many or too few.
    """
    path = Path(folder_or_file)
    if not path.exists():
        raise ModelError(f"no encoder at {path}", hint="give a folder with config.json and weights, or a weight file")
    found: Kind = "nucleotide" if detect_encoder_class(path) == "dnabert" else "protein"
    if kind not in (None, found):
        raise ModelError(f"{path}: holds a {found} encoder where a {kind} encoder is needed")
    tokenizer: Tokenizer
    model: Esm2 | Dnabert
    if found == "nucleotide":
        tokenizer = NucleotideTokenizer.from_file((path if path.is_dir() else path.parent) / "tokenizer.json")
        model = load_dnabert(path)
        if tokenizer.vocab_size > model.config.vocab_size:
            raise ModelError(
                f"{path}: the tokenizer has {tokenizer.vocab_size} ids, the model only {model.config.vocab_size}",
                hint="the tokenizer.json belongs to another model",
            )
    else:
        tokenizer = ProteinTokenizer()
        model = load_esm2(path)
    model.requires_grad_(False).eval()
    return Encoder(
        kind=found,
        name=name or path.resolve().name,
        model=model,
        tokenizer=tokenizer,
        d_model=model.config.d_model,
        digest=encoder_digest(model, tokenizer.digest),
    )


@dataclass(slots=True)
class EmbedStats:
    """Counters of an Embedder since it was made."""

    n_sequences: int = 0
    n_unique: int = 0
    real_tokens: int = 0
    capacity_tokens: int = 0
    batches: int = 0
    seconds: float = 0.0

    @property
    def packing_efficiency(self) -> float:
        """Real tokens over what the batches could have held, in (0, 1]; 1.0 before the first batch."""
        return self.real_tokens / self.capacity_tokens if self.capacity_tokens else 1.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """Tokens of the distinct sequences of a set, and which of them each sequence is; made without the device."""

    tokens: Ragged
    inverse: npt.NDArray[np.int64]


class Embedder:
    """Runs one encoder on one device.

    The encoder given stays as it is: what the device and the number format change is a copy of the weights.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        device: str = "auto",
        precision: str = "float32",
        token_budget: int | None = None,
        threads: int | None = None,
    ) -> None:
        """Place the encoder on a device.

        Args:
            encoder: from `load_encoder`.
            device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
            precision: ``float32``, ``bf16``, ``fp16`` or ``exact``.
            token_budget: most tokens a batch holds; by default what suits the device.
            threads: CPU threads PyTorch may use (for the whole process).
        """
        if token_budget is not None and token_budget < 1:
            raise UsageError(f"a token budget of {token_budget} holds nothing", hint="give at least 1")
        if threads is not None:
            torch.set_num_threads(threads)
        self.encoder = encoder
        self.device = resolve_device(device)
        self.precision: ResolvedPrecision = resolve(self.device, precision)
        self.token_budget = token_budget or (_CUDA_TOKEN_BUDGET if self.device.type == "cuda" else _CPU_TOKEN_BUDGET)
        self.stats = EmbedStats()
        self._model = _placed_copy(encoder.model, self.device, self.precision.dtype)

    def embed(self, sequences: Ragged) -> npt.NDArray[np.float32]:
        """Pooled embeddings, float32 ``[len(sequences), d_model]``, rows in input order.

        Args:
            sequences: ``uint8`` letters: upper-case bases, or residues. Identical ones are computed once.

        Raises:
            InputError: for a sequence without a letter.
            ResourceError: when one sequence alone does not fit into the device's memory.
        """
        return self.run(self.prepare(sequences))

    def prepare(self, sequences: Ragged) -> Prepared:
        """Tokenise the distinct sequences; needs no device, so another thread may do it ahead of time."""
        if len(sequences) and int(sequences.lengths.min()) == 0:
            raise InputError(f"sequence {int(sequences.lengths.argmin()) + 1} of the set to embed is empty")
        first, inverse = sequences.unique()
        distinct = sequences if len(first) == len(sequences) else sequences.take(first)
        return Prepared(self.encoder.tokenizer.encode(distinct), inverse)

    @torch.inference_mode()
    def run(self, prepared: Prepared) -> npt.NDArray[np.float32]:
        """Embed what `prepare` made; float32 ``[S, d_model]``."""
        began = time.perf_counter()
        tokens = prepared.tokens
        lengths = tokens.lengths
        pending = plan_batches(lengths, self.token_budget)
        order = np.concatenate(pending) if pending else np.empty(0, np.int64)
        # Rows in order of length: batches are runs of them, filled from the end, the longest (the hungriest) first.
        sorted_SD = torch.empty(len(tokens), self.encoder.d_model, pin_memory=self.device.type == "cuda")
        end = len(tokens)
        while pending:
            batch = pending.pop()
            pooled_SD = self._pooled_or_none(tokens.take(batch))
            if pooled_SD is None:
                pending = self._replan([*pending, batch], lengths)
                continue
            sorted_SD[end - len(batch) : end].copy_(pooled_SD, non_blocking=True)
            end -= len(batch)
            n_tokens = int(lengths[batch].sum())
            self.stats.batches += 1
            self.stats.real_tokens += n_tokens
            self.stats.capacity_tokens += max(n_tokens, self.token_budget)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.stats.n_sequences += len(prepared.inverse)
        self.stats.n_unique += len(tokens)
        self.stats.seconds += time.perf_counter() - began
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        rows: npt.NDArray[np.float32] = sorted_SD.numpy()[rank[prepared.inverse]]
        return rows

    def _pooled_or_none(self, tokens: Ragged) -> torch.Tensor | None:
        """One batch through the model, pooled, float32 ``[S, D]`` on the device; None when memory does not suffice."""
        try:
            if self._exceeds_free_memory(tokens.lengths):
                return None
            layout = PackedLayout.from_lengths(tokens.lengths, self.device)
            ids = torch.from_numpy(tokens.values)
            if self.device.type == "cuda":
                ids = ids.pin_memory().to(self.device, non_blocking=True)
            hidden_TD = self._model(ids, layout, exact=self.precision.exact)
            return pool(hidden_TD, layout, left_out=_SPECIALS_LEFT_OUT[self.encoder.kind])
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return None

    def _exceeds_free_memory(self, lengths: npt.NDArray[np.int64]) -> bool:
        """Whether the scores of the longest sequence alone are more than the CPU's memory.

        The system grants such an allocation and ends the process when it is used, so waiting for an error is no use.
        Only kernels that hold a score or a bias for every pair of tokens need so much: ALiBi's and the exact one.
        """
        holds_all_pairs = self.precision.exact or self.encoder.kind == "nucleotide"
        if self.device.type != "cpu" or not holds_all_pairs:
            return False
        n_heads: int = self._model.config.n_heads  # type: ignore[union-attr, assignment]
        n_bytes = _MATRICES_OF_PAIRS * 4 * n_heads * int(lengths.max()) ** 2
        return n_bytes > _CHECK_ABOVE_BYTES and n_bytes > psutil.virtual_memory().available

    def _replan(self, pending: list[IndexArray], lengths: npt.NDArray[np.int64]) -> list[IndexArray]:
        """Halve the token budget and plan the remaining sequences again, whose last batch did not fit."""
        failed = pending[-1]
        n_tokens = int(lengths[failed].sum())
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(failed) == 1:
            raise ResourceError(
                f"out of memory on {self.device}: one sequence of {n_tokens} tokens does not fit by itself",
                hint="use a device with more memory, a smaller encoder, bf16, or cut the sequence into pieces",
            )
        self.token_budget = max(1, min(self.token_budget, n_tokens) // 2)
        logger.warning(
            "out of memory on %s with a batch of %d tokens: the token budget is now %d",
            self.device, n_tokens, self.token_budget,
        )  # fmt: skip
        remaining = np.concatenate(pending)
        return [remaining[batch] for batch in plan_batches(lengths[remaining], self.token_budget)]


def pool(hidden_TD: torch.Tensor, layout: PackedLayout, *, left_out: int) -> torch.Tensor:
    """Mean over every sequence's positions but the first and last ``left_out``, summed in float32: ``[S, D]``."""
    d_model = hidden_TD.shape[-1]
    means = [
        hidden_TD[first : first + n * length]
        .view(n, length, d_model)[:, left_out : length - left_out]
        .mean(dim=1, dtype=torch.float32)
        for first, n, length in layout.groups
    ]
    return torch.cat(means)


def _placed_copy(model: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """The model with its parameters on a device in a number format; buffers keep theirs; shares what is the same."""
    parameters = {
        id(p): nn.Parameter(p.detach().to(device=device, dtype=dtype), requires_grad=False) for p in model.parameters()
    }
    buffers = {id(b): b.to(device=device) for b in model.buffers()}
    return copy.deepcopy(model, {**parameters, **buffers}).eval()
