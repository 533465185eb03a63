"""Output folders of training: JSON files that are whole or absent, and one writer at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from seqassay.durable import write_durably
from seqassay.errors import InputError, UsageError


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write an object as indented JSON, whole or not at all."""
    write_durably(path, [(json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()])


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        InputError: it cannot be read, is no JSON, or no object.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path=path) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"is not JSON: {error}", path=path, hint="it was changed or cut; make it again") from error
    if not isinstance(content, dict):
        raise InputError(f"holds a JSON {type(content).__name__}, not an object", path=path)
    return content


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Make a folder and keep other runs out of it until the block ends, or the process, however it ends.

    Raises:
        UsageError: another run is working there, or something is in the way.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(
            f"{folder}: a file is in the way of this folder", hint="choose another --output-dir"
        ) from error
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems have no locks
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(f"{folder}: another run is working there", hint="wait for it, or stop it") from None
        yield
    finally:
        os.close(descriptor)
