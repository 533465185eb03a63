"""Contigs cut into windows, and the windows put into shards: what a scan scores, streamed.

A window is treated as `predict` treats a sequence, so its score is the one that `predict` would print for it. Windows
overlap, and where window and step are multiples of the bundle's chunk length they share whole chunks: identical frames
of a shard are embedded once, so the overlap costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seqassay.measure.progress import RunProgress
from seqassay.predict.count_input import BackgroundCount
from seqassay.predict.scan_settings import Windows
from seqassay.sequences.ragged import Ragged
from seqassay.sequences.reading import InputSettings, Shard, read_records

# A shard is what a stop can lose: seconds of work; and what is in memory at a time.
SHARD_WINDOWS = 512
SHARD_BASES = 2_000_000

Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class WindowPlace:
    """Where a window lies; travels as the ``headers`` of a shard of windows.

    Attributes:
        contig: 0-based number of the contig over all inputs.
        contig_length: bases.
        start: 0-based.
    """

    contig: int
    contig_length: int
    start: int

    def to_text(self) -> str:
        """``contig`` TAB ``contig_length`` TAB ``start``."""
        return f"{self.contig}\t{self.contig_length}\t{self.start}"

    @classmethod
    def from_text(cls, text: str) -> WindowPlace:
        """What ``to_text`` gave."""
        return cls(*map(int, text.split("\t")))


def window_starts(contig_length: int, windows: Windows) -> Int64Array:
    """0-based first bases of a contig's windows, ascending; every base is in one at least.

    Windows begin every ``step`` bases; the last one ends with the contig. A contig shorter than a window is one window
    as long as itself.
    """
    last = max(contig_length - windows.length, 0)
    starts = np.arange(0, last + 1, windows.step, dtype=np.int64)
    return starts if starts[-1] == last else np.append(starts, last)


def window_shards(contigs: Iterable[Shard], windows: Windows) -> Iterator[Shard]:
    """The windows of all contigs in order, ``SHARD_WINDOWS`` or ``SHARD_BASES`` at a time, at least one.

    Args:
        contigs: shards of contigs, as the reader gives them.
        windows: their length and step.

    Returns:
        Shards whose sequences are windows: ``ids`` are the contigs' ids, ``headers`` are `WindowPlace` as text.
    """
    n_contigs = n_windows = n_shards = 0
    ids: list[str] = []
    headers: list[str] = []
    parts: list[Ragged] = []
    n_bases = 0

    def shard() -> Shard:
        return Shard(n_shards, n_windows, ids, headers, Ragged.joined(parts), None)

    for group in contigs:
        for name, bases in zip(group.ids, group.bases, strict=True):
            length = min(windows.length, len(bases))
            starts = window_starts(len(bases), windows)
            first = 0
            while first < len(starts):
                room = min(SHARD_WINDOWS - len(ids), (SHARD_BASES - n_bases) // length)
                if ids and room <= 0:
                    yield shard()
                    n_shards, n_windows = n_shards + 1, n_windows + len(ids)
                    ids, headers, parts, n_bases = [], [], [], 0
                    continue
                piece = starts[first : first + max(room, 1)]
                whole = Ragged.from_lengths(bases, np.array([len(bases)]))
                parts.append(whole.slices(piece, np.full(len(piece), length)))
                ids += [name] * len(piece)
                headers += [WindowPlace(n_contigs, len(bases), start).to_text() for start in piece.tolist()]
                n_bases += length * len(piece)
                first += len(piece)
            n_contigs += 1
    if ids:
        yield shard()


class WindowCount(BackgroundCount):
    """Counts the windows of files in a thread, for the progress line; nothing depends on the figure."""

    def __init__(self, inputs: Sequence[str], windows: Windows, progress: RunProgress) -> None:
        super().__init__(inputs, progress)
        self._windows = windows

    def _count(self) -> int | None:
        total = 0
        for records in read_records(InputSettings(self._inputs)):
            surplus = np.maximum(records.lengths - self._windows.length, 0)
            total += int((1 - (-surplus // self._windows.step)).sum())
            if self._ended.is_set():
                return None
        return total
