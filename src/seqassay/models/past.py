"""Groups of sequences with equally many new tokens, and the rows of a cache that hold what came before them.

Worked out once for all layers of a model. In decoding, where each sequence gets one token and the rows lie beside each
other, the cache is written and read in place, without a copy.

Shape letters: N sequences of a group, H heads, L new tokens of each, M tokens of the longest with them, C tokens a
cache has room for, S rows of a cache, K head width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seqassay.models.attention import PackedLayout, seen_over_past


@dataclass(frozen=True, slots=True)
class PastGroup:
    """One group.

    Attributes:
        tokens: its new tokens on the batch's token axis.
        n: sequences.
        longest: tokens of the longest, the new ones included.
        rows: of the cache.
        place: of each sequence's new token, where it is one and the same; else of each new token, ``[N, L]``.
        seen: what new tokens see, ``[N, 1, L, M]``; None: everything.
    """

    tokens: slice
    n: int
    longest: int
    rows: slice | Tensor
    place: int | Tensor
    seen: Tensor | None

    def write(self, kept_SHCK: Tensor, new_NHLK: Tensor) -> None:
        """Put keys or values of the new tokens into the cache."""
        if isinstance(self.place, int):
            kept_SHCK[self.rows, :, self.place] = new_NHLK[:, :, 0].to(kept_SHCK.dtype)
        else:
            row_N = torch.arange(self.rows.start, self.rows.stop) if isinstance(self.rows, slice) else self.rows
            row_N1 = row_N.to(kept_SHCK.device)[:, None]
            kept_SHCK[row_N1, :, self.place] = new_NHLK.transpose(1, 2).to(kept_SHCK.dtype)

    def read(self, kept_SHCK: Tensor, dtype: torch.dtype) -> Tensor:
        """Keys or values from the start of each sequence, ``[N, H, M, K]``."""
        return kept_SHCK[self.rows, :, : self.longest].to(dtype)


def groups_over_past(
    layout: PackedLayout, rows_S: npt.NDArray[np.int64], n_past_S: npt.NDArray[np.int64], device: torch.device
) -> list[PastGroup]:
    """The groups of a batch.

    Args:
        layout: of the new tokens.
        rows_S: row of the cache of each sequence.
        n_past_S: tokens that each has there.
    """
    groups = []
    sequence = 0
    for first, n, length in layout.groups:
        row_N, n_past_N = rows_S[sequence : sequence + n], n_past_S[sequence : sequence + n]
        sequence += n
        longest = int(n_past_N.max()) + length
        in_a_row = bool((np.diff(row_N) == 1).all())
        is_even = bool((n_past_N == n_past_N[0]).all())
        past_N = torch.from_numpy(n_past_N).to(device)
        groups.append(
            PastGroup(
                slice(first, first + n * length),
                n,
                longest,
                slice(int(row_N[0]), int(row_N[-1]) + 1) if in_a_row else torch.from_numpy(row_N).to(device),
                int(n_past_N[0]) if is_even and length == 1 else past_N[:, None] + torch.arange(length, device=device),
                None if is_even and length == 1 else seen_over_past(past_N, length, longest),
            )
        )
    return groups
