"""Files that are whole or absent, whenever the process or the machine stops; and disk errors in plain words."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from seqassay.errors import ResourceError, SeqassayError, UsageError

TEMPORARY_SUFFIX = ".partial"

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


def write_durably(path: Path, pieces: Iterable[bytes]) -> int:
    """Write a file under a temporary name, sync it, rename it, sync its folder; return its size in bytes.

    After a crash there is the old file, the new one, or a ``.partial`` that the next run overwrites; never a piece
    under the file's own name. A failed write leaves no ``.partial`` behind.

    Raises:
        OSError: see ``disk_errors``; and whatever ``pieces`` raises.
    """
    n_bytes = stage(path, pieces)
    publish([path])
    return n_bytes


def stage(path: Path, pieces: Iterable[bytes]) -> int:
    """Write and sync a file under its temporary name; return its size in bytes."""
    temporary = _temporary(path)
    n_bytes = 0
    try:
        with temporary.open("wb") as file:
            for piece in pieces:
                n_bytes += file.write(piece)
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        unstage([path])
        if isinstance(error, OSError) and error.filename is None:  # a write that fails does not name its file
            error.filename = str(path)
        raise
    return n_bytes


def publish(paths: Sequence[Path]) -> None:
    """Give staged files of one folder their names, and make the names durable."""
    for path in paths:
        _temporary(path).replace(path)
    sync(paths[0].parent)


def unstage(paths: Iterable[Path]) -> None:
    """Remove what was staged and will not be published."""
    for path in paths:
        with contextlib.suppress(OSError):
            _temporary(path).unlink()


def _temporary(path: Path) -> Path:
    return path.with_name(path.name + TEMPORARY_SUFFIX)


def swap_in(staging: Path, folder: Path, *, aside: Path) -> None:
    """Rename a finished folder into place; one that is there is moved ``aside`` first and removed last.

    Raises:
        OSError: nothing has changed then.
    """
    shutil.rmtree(aside, ignore_errors=True)
    if folder.exists():
        folder.rename(aside)
    try:
        staging.rename(folder)
    except OSError:
        if aside.exists():
            aside.rename(folder)
        raise
    sync(folder.absolute().parent)
    shutil.rmtree(aside, ignore_errors=True)


def sync(path: Path) -> None:
    """Make a file's content, or the names in a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def disk_errors(resume_command: str = "", *, path: Path | None = None) -> Iterator[None]:
    """Turn an ``OSError`` into what the user can act on: a full disk or memory (exit code 4), a forbidden place (2).

    Args:
        resume_command: how to go on once there is room.
        path: what was being written, for errors that do not name it (those of libraries).
    """
    try:
        yield
    except OSError as error:
        name = path or error.filename
        place = f"{name}: " if name else ""
        text = error.strerror or str(error)
        if error.errno in _FULL or "No space left" in text:  # HDF5 gives the text alone
            hint = f"make room, then go on with:\n  {resume_command}" if resume_command else "make room on the disk"
            raise ResourceError(f"{place}the disk is full ({text})", hint=hint) from error
        if error.errno in _FORBIDDEN:
            raise UsageError(f"{place}cannot write there ({text})", hint="choose another place") from error
        if error.errno == errno.ENOMEM:
            raise ResourceError(f"{place}out of memory ({text})", hint="use a machine with more memory") from error
        raise SeqassayError(f"{place}{text}") from error
