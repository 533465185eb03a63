"""A folder that appears whole or not at all, under a name that nothing else has."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from seqassay.durable import disk_errors, swap_in, sync
from seqassay.errors import UsageError


def check_place(folder: Path, *, force: bool, what: str, is_part: Callable[[str], bool]) -> None:
    """Find before the work what would be in its way afterwards.

    Args:
        folder: the folder to make.
        force: it may replace one that is there.
        what: the folder holds, in words, for messages: ``dataset``.
        is_part: whether a file of this name is part of such a folder; one that is not is never removed.

    Raises:
        UsageError: the folder exists (and is not to be replaced, or holds something else), or cannot be made there.
    """
    if os.path.lexists(folder):
        if not folder.is_dir():
            raise UsageError(f"{folder}: a file is in the way of this folder", hint="choose another -o")
        foreign = sorted(entry.name for entry in folder.iterdir() if not is_part(entry.name))
        if foreign:
            raise UsageError(
                f"{folder}: exists and holds {foreign[0]}, which is no part of a {what}", hint="choose another -o"
            )
        if any(folder.iterdir()) and not force:
            raise UsageError(f"{folder}: exists already", hint="replace it (--force), or choose another -o")
    nearest = next(place for place in folder.absolute().parents if os.path.lexists(place))
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise UsageError(f"{folder}: cannot create it in {nearest}", hint="choose another -o")


@contextlib.contextmanager
def staged_folder(folder: Path, *, force: bool, what: str, is_part: Callable[[str], bool]) -> Iterator[Path]:
    """A folder beside ``folder`` to write into; at the block's end it takes its name, and replaces the one there.

    What a killed build left there is removed; two builds of one folder do not mix. Arguments as of `check_place`.

    Raises:
        UsageError: as `check_place`, or another build is writing.
        ResourceError: the disk is full; nothing is left behind then.
    """
    check_place(folder, force=force, what=what, is_part=is_part)
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
            check_place(folder, force=force, what=what, is_part=is_part)
            swap_in(staging, folder, aside=staging.with_name(f".{folder.absolute().name}.old"))
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise


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
