"""How many records an input holds, counted beside the run, for its progress line; nothing depends on the figure."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from seqassay.errors import InputError
from seqassay.measure.progress import RunProgress
from seqassay.sequences.opening import DamagedError, can_be_read_twice, open_input

logger = logging.getLogger(__name__)


class BackgroundCount:
    """Counts the records of files (a subclass: something else) in a thread and tells ``progress``.

    Standard input and pipes are left alone.
    """

    def __init__(self, inputs: Sequence[str], progress: RunProgress) -> None:
        self._inputs, self._progress = tuple(inputs), progress
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="count-input", daemon=True)

    def __enter__(self) -> BackgroundCount:
        if all(can_be_read_twice(path) for path in self._inputs):
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(5)

    def _run(self) -> None:
        try:
            total = self._count()
        except (InputError, DamagedError) as error:
            logger.debug("the input cannot be counted ahead (%s)", error)  # reading it will say why
            return
        if total is not None:
            self._progress.total_sequences = total

    def _count(self) -> int | None:
        """What the progress line counts; None when the run ended first."""
        total = 0
        for path in self._inputs:
            n_records = count_records(path, self._ended)
            if n_records is None:
                return None
            total += n_records
        return total


def count_records(path: str, ended: threading.Event | None = None) -> int | None:
    """Records of a FASTA file (lines that begin with ``>``) or a FASTQ file (lines / 4), without checking them.

    Returns:
        The count; None when ``ended`` was set first.

    Raises:
        InputError, DamagedError: the file can't be opened or decompressed.
    """
    n_lines = n_headers = 0
    last = b"\n"
    is_fastq = None
    with open_input(path) as source:
        for block in source.blocks():
            if ended is not None and ended.is_set():
                return None
            if is_fastq is None:
                is_fastq = block.lstrip()[:1] == b"@"
            n_lines += block.count(b"\n")
            n_headers += block.count(b"\n>") + (last == b"\n" and block[:1] == b">")
            last = block[-1:]
    return (n_lines + (last != b"\n")) // 4 if is_fastq else n_headers
