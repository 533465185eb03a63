from __future__ import annotations

import ctypes
import subprocess
import sys

import numpy as np
import psutil
import pytest
import torch

from seqassay.measure.monitor import give_back_free_memory, memory_record, peak_memory_bytes


def test_the_peak_is_in_bytes_and_follows_an_allocation() -> None:
    before = peak_memory_bytes()
    filler = np.ones(before // 8 + 25_000_000)  # a little more than all that was ever held
    assert peak_memory_bytes() >= filler.nbytes
    assert before > 20_000_000  # a Python with numpy and torch holds more than 20 MB


def test_the_peak_is_not_that_of_the_process_that_started_this_one() -> None:
    words = "from seqassay.measure.monitor import peak_memory_bytes as peak; print(peak())"
    alone = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    words = (
        f"import subprocess, sys, numpy; x = numpy.ones(80_000_000); subprocess.run([sys.executable, '-c', {words!r}])"
    )
    started = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert int(started.stdout) < int(alone.stdout) + 320_000_000  # of the 640 MB that its parent holds


def test_the_cpu_has_no_device_memory() -> None:
    assert memory_record(torch.device("cpu"))["peak_device_bytes"] is None


def test_freed_memory_goes_back() -> None:
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("this C library keeps its free memory to itself")
    blocks = [bytes(60_000) for _ in range(2_000)]  # below the size for which glibc asks the system each time
    kept = blocks[::50]
    del blocks
    before = psutil.Process().memory_info().rss
    give_back_free_memory()
    assert psutil.Process().memory_info().rss < before - 50_000_000
    assert len(kept) == 40
