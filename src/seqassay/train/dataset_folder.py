"""The folder of a dataset, which appears whole or not at all; its files depend on their content alone."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Iterable, Iterator
from pathlib import Path

from seqassay import staged
from seqassay.digests import file_sha256
from seqassay.train.dataset_sources import SPLITS

MANIFEST = "dataset.json"
FILES = (*(f"{split}.fa.gz" for split in SPLITS), MANIFEST)
_PIECE_BYTES = 1 << 20
# Level 6 makes files 3% smaller and takes five times as long
_COMPRESSION = 4


def check_place(folder: Path, *, force: bool) -> None:
    """Find before the work what would be in its way afterwards; see ``staged.check_place``."""
    staged.check_place(folder, force=force, what="dataset", is_part=FILES.__contains__)


@contextlib.contextmanager
def staged_folder(folder: Path, *, force: bool) -> Iterator[Path]:
    """A folder to write a dataset into, which takes its name when it is whole; see ``staged.staged_folder``."""
    with staged.staged_folder(folder, force=force, what="dataset", is_part=FILES.__contains__) as staging:
        yield staging


def write_gzip(path: Path, pieces: Iterable[bytes]) -> str:
    """Write a gzip file without name and time, so that its bytes depend on the content alone; return its SHA-256."""
    with path.open("wb") as raw, gzip.GzipFile("", "wb", _COMPRESSION, raw, mtime=0) as file:
        waiting: list[bytes] = []
        n_bytes = 0
        for piece in pieces:
            waiting.append(piece)
            n_bytes += len(piece)
            if n_bytes >= _PIECE_BYTES:
                file.write(b"".join(waiting))
                waiting, n_bytes = [], 0
        file.write(b"".join(waiting))
    return file_sha256(path)
