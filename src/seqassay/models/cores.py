"""CPU inference on several cores: every core runs whole micro-batches by itself, in one thread.

Splitting each operation over the cores instead, as torch does by default, makes all of them wait for the slowest at
the end of every operation, some hundred times a forward pass. A micro-batch is also small enough for its activations to
stay in a core's cache. Every sequence is computed by itself whatever micro-batch it is in, to within rounding.

Shape letters: T tokens of a batch end to end, D hidden width.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from threading import Barrier
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from seqassay.models.attention import PackedLayout

Part = TypeVar("Part")
Result = TypeVar("Result")
_MOST_TOKENS = 1024  # of a micro-batch
_FEWEST_TOKENS = 128  # below this matrix products get slower
# Most micro-batches have about the wanted size; there a fine step wastes little. The others, a shard's last, are few.
_COMMON_SIZES = range(896, 1153)
_COMMON_STEP = 32


def run_on_cores(encode: Callable[[Tensor, PackedLayout], Tensor], tokens_T: Tensor, layout: PackedLayout) -> Tensor:
    """``encode(tokens_T, layout)``, computed in micro-batches by as many cores as torch has threads.

    Only for inference on the CPU; elsewhere, and for batches too small to share out, it is one plain call.

    Args:
        encode: hidden states ``[T, D]`` of a batch; called from several threads at once.
        tokens_T: token ids of all sequences end to end.
        layout: where sequences begin.
    """
    n_threads = torch.get_num_threads()
    cuts = _cuts(layout, n_threads)
    elsewhere = tokens_T.device.type != "cpu" or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu")
    if elsewhere:
        return encode(tokens_T, layout)
    if len(cuts) < 3:
        return _encode_filled(encode, tokens_T, layout)
    inference = torch.is_inference_mode_enabled()

    def encode_part(first: int, last: int) -> Tensor:
        # Both modes belong to the thread that set them.
        with torch.inference_mode(inference), torch.no_grad():
            begin, end = int(layout.offsets[first]), int(layout.offsets[last])
            return _encode_filled(encode, tokens_T[begin:end], PackedLayout.from_lengths(layout.lengths[first:last]))

    if n_threads == 1:
        return torch.cat([encode_part(first, last) for first, last in pairwise(cuts)])
    return torch.cat(list(_workers(n_threads, os.getpid()).map(encode_part, cuts[:-1], cuts[1:])))


def map_on_cores(work: Callable[[Part], Result], parts: Sequence[Part]) -> Iterator[Result]:
    """``work`` on every part, as many at a time as torch has threads, each in one thread; results in order.

    For inference on the CPU whose parts are whole micro-batches; `run_on_cores` inside of one stays in its thread.
    """
    n_threads = torch.get_num_threads()
    if n_threads == 1 or len(parts) < 2:
        return map(work, parts)
    return _workers(n_threads, os.getpid()).map(work, parts)


def encode_kept(
    encode: Callable[[Tensor, PackedLayout, Tensor], Tensor], tokens_T: Tensor, layout: PackedLayout, kept_T: Tensor
) -> Tensor:
    """``encode(tokens_T, layout, kept_T)`` on a micro-batch, filled on the CPU as those of `run_on_cores` are."""
    n_filler = _filler(layout.n_tokens)
    if tokens_T.device.type != "cpu" or n_filler == 0:
        return encode(tokens_T, layout, kept_T)
    filled_T, filled_layout, begin = _filled(tokens_T, layout, n_filler)
    return encode(filled_T, filled_layout, torch.where(kept_T < begin, kept_T, kept_T + n_filler))


def _encode_filled(encode: Callable[[Tensor, PackedLayout], Tensor], tokens_T: Tensor, layout: PackedLayout) -> Tensor:
    """``encode`` with a sequence of its own that makes the number of tokens round, left out of the result."""
    n_filler = _filler(layout.n_tokens)
    if n_filler == 0:
        return encode(tokens_T, layout)
    filled_T, filled_layout, begin = _filled(tokens_T, layout, n_filler)
    hidden_TD = encode(filled_T, filled_layout)
    return torch.cat((hidden_TD[:begin], hidden_TD[begin + n_filler :]))


def _filled(tokens_T: Tensor, layout: PackedLayout, n_filler: int) -> tuple[Tensor, PackedLayout, int]:
    """Tokens and layout with the filler, and where it begins."""
    place = int(np.searchsorted(layout.lengths, n_filler))
    begin = int(layout.offsets[place])
    filled_T = torch.cat((tokens_T[:begin], tokens_T.new_zeros(n_filler), tokens_T[begin:]))
    return filled_T, PackedLayout.from_lengths(np.insert(layout.lengths, place, n_filler)), begin


def _filler(n_tokens: int) -> int:
    """Tokens that are missing to the next of a few sizes: steps of 32 about the common one, else four to an octave.

    oneDNN makes kernels for every number of rows it meets, and never frees them all: half a megabyte for each product
    of a model and each size. With any size, a run's memory would go on growing for a million reads.
    """
    if n_tokens in _COMMON_SIZES:
        return -n_tokens % _COMMON_STEP
    return -n_tokens % max(_COMMON_STEP, 1 << max(0, n_tokens.bit_length() - 3))


def _cuts(layout: PackedLayout, n_threads: int) -> list[int]:
    """Bounds of micro-batches of about equally many tokens, as sequence numbers: first 0, last the number of them."""
    n_tokens, n_sequences = layout.n_tokens, len(layout.lengths)
    rounds = -(-n_tokens // (_MOST_TOKENS * n_threads))
    n_parts = max(1, min(rounds * n_threads, n_tokens // _FEWEST_TOKENS))
    targets = np.arange(1, n_parts) * (n_tokens / n_parts)
    inner = np.searchsorted(layout.offsets, targets)
    return sorted({0, *inner.tolist(), n_sequences})


@cache
def _workers(n_threads: int, pid: int) -> ThreadPoolExecutor:
    """Threads that let torch use one thread each; one set a process (after a fork those of the parent are gone)."""
    workers = ThreadPoolExecutor(n_threads, "encode", initializer=_use_one_thread)
    all_started = Barrier(n_threads)
    list(workers.map(lambda _: all_started.wait(), range(n_threads)))
    # A thread's own setting is also what torch gives to threads that start later: put that back.
    torch.set_num_threads(n_threads)
    return workers


def _use_one_thread() -> None:
    torch.set_num_threads(1)
    torch.get_num_threads()  # the first use in a thread takes over the setting of the process, so have it now
