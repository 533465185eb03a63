"""Measurements in a process of their own, which neither outlives the measuring command nor hears its Ctrl-C."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

PARENT_GONE = 3
_PATIENCE_S = 5.0


@contextmanager
def child_process(module: str, job: Path, said: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """``python -m module JOB``; ended with the block, and with the parent where it calls `end_with_parent`.

    Args:
        said: where its standard error goes.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", module, str(job)],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.stdin is not None:
            process.stdin.close()
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def end_with_parent() -> None:
    """In the child: end as soon as the parent, which holds the other end of standard input, is gone."""
    threading.Thread(target=_wait_for_the_end, daemon=True).start()


def _wait_for_the_end() -> None:
    while os.read(0, 1024):
        pass
    os._exit(PARENT_GONE)
