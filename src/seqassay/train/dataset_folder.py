"""The folder of a dataset, which appears whole or not at all; its files depend on their content alone."""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from seqassay.durable import disk_errors, swap_in, sync
from seqassay.errors import UsageError
from seqassay.train.dataset_sources import SPLITS

MANIFEST = "dataset.json"
FILES = (*(f"{split}.fa.gz" for split in SPLITS), MANIFEST)
_PIECE_BYTES = 1 << 20
# Level 6 makes files 3% smaller and takes five times as long
_COMPRESSION = 4


def check_place(folder: Path, *, force: bool) -> None:
    """Find before the work what would be in its way afterwards.

    Raises:
        UsageError: the folder exists (and is not to be replaced, or is no dataset), or cannot be made there.
    """
    if os.path.lexists(folder):
        if not folder.is_dir():
            raise UsageError(f"{folder}: a file is in the way of this folder", hint="choose another -o")
        foreign = sorted(entry.name for entry in folder.iterdir() if entry.name not in FILES)
        if foreign:
            raise UsageError(
                f"{folder}: exists and holds {foreign[0]}, which is no part of a dataset", hint="choose another -o"
            )
        if any(folder.iterdir()) and not force:
            raise UsageError(f"{folder}: exists already", hint="replace it (--force), or choose another -o")
    nearest = next(place for place in folder.absolute().parents if os.path.lexists(place))
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise UsageError(f"{folder}: cannot create it in {nearest}", hint="choose another -o")


@contextlib.contextmanager
def staged_folder(folder: Path, *, force: bool) -> Iterator[Path]:
    """A folder beside ``folder`` to write into; at the block's end it takes its name, and replaces the one there.

    What a killed build left there is removed; two builds of one folder do not mix.

    Raises:
        UsageError: as `check_place`, or another build is writing.
        ResourceError: the disk is full; nothing is left behind then.
    """
    check_place(folder, force=force)
    staging = folder.absolute().with_name(f".{folder.absolute().name}.partial")
    with contextlib.ExitStack() as stack:
        stack.enter_context(disk_errors(path=folder))
        staging.mkdir(parents=True, exist_ok=True)
        _lock(staging, stack)
        _empty(staging)
        try:
            yield staging
            for path in staging.iterdir():
                sync(path)
            sync(staging)
            check_place(folder, force=force)
            swap_in(staging, folder, aside=staging.with_name(f".{folder.absolute().name}.old"))
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise


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
    return sha256_of(path)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 22):
            digest.update(piece)
    return digest.hexdigest()


def _lock(staging: Path, stack: contextlib.ExitStack) -> None:
    descriptor = os.open(staging, os.O_RDONLY)
    stack.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(f"{staging}: another build is writing there", hint="wait for it, or stop it") from None
    except OSError:  # some network file systems have no locks
        return


def _empty(staging: Path) -> None:
    for path in staging.iterdir():
        path.unlink()
