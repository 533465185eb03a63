"""Files that grow while a command works, line by line on the disk, and what a stopped command left in them."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from seqassay.durable import disk_errors, sync, write_durably
from seqassay.errors import InputError, UsageError

T = TypeVar("T")


class GrowingFile:
    """A file that grows by whole lines; each addition is on the disk before ``add`` returns."""

    def __init__(self, path: Path, n_bytes: int = 0) -> None:
        """Make the file, or go on after the first ``n_bytes`` of one; what lies behind them is removed.

        Raises:
            OSError: see ``disk_errors``.
        """
        self.path = path
        self._n_bytes = n_bytes
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
        os.ftruncate(self._descriptor, n_bytes)
        os.lseek(self._descriptor, n_bytes, os.SEEK_SET)
        sync(path.parent)

    def add(self, lines: str) -> None:
        """Add lines; after a failure, or a stop in between, the file is as it was before.

        Raises:
            ResourceError: the disk is full.
        """
        content = memoryview(lines.encode("utf-8", "backslashreplace"))
        n_bytes = len(content)
        try:
            with disk_errors(path=self.path):
                while content:  # a disk that fills takes a part
                    content = content[os.write(self._descriptor, content) :]
                os.fsync(self._descriptor)
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._n_bytes)
                os.lseek(self._descriptor, self._n_bytes, os.SEEK_SET)
            raise
        self._n_bytes += n_bytes

    def __enter__(self) -> GrowingFile:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        os.close(self._descriptor)


def take_up(
    path: Path, identity: Mapping[str, Any], read: Callable[[dict[str, Any]], T], *, resume: bool, of_another: str
) -> tuple[list[T], GrowingFile]:
    """What a stopped command kept in a file of JSON lines, and the file to go on with; or a new one.

    The first line is the file's identity. A last line that was cut off in a stop is removed.

    Args:
        identity: of all that the lines depend on.
        read: makes of a line's object what it says; a KeyError, TypeError or ValueError says that it is damaged.
        resume: False: what is there is replaced.
        of_another: what lines of another identity are of, in words.

    Raises:
        UsageError: the lines that are there have another identity.
        InputError: a line is damaged.
        ResourceError: the disk is full.
    """
    header = json.dumps(identity).encode() + b"\n"
    found: list[T] = []
    with disk_errors(path=path):
        content = path.read_bytes() if resume and path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if not whole:
            write_durably(path, [header])
            return found, GrowingFile(path, len(header))
        first, *lines = whole.splitlines(keepends=True)
        if first != header:
            raise UsageError(f"{path}: {of_another}", hint="begin again (--force), or choose another --output-dir")
        try:
            found.extend(read(json.loads(line)) for line in lines)
        except (KeyError, TypeError, ValueError, RecursionError):
            raise InputError(
                "the line is damaged", path=path, line=len(found) + 2,
                hint="take it out to have it done again, or begin again: --force in place of --resume",
            ) from None  # fmt: skip
        return found, GrowingFile(path, len(whole))
