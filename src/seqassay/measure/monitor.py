"""Memory of this process and of its device: its peaks, and giving back what is free."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import sys
from pathlib import Path
from typing import Any

import torch


def peak_memory_bytes() -> int:
    """Largest resident set of this process so far, in bytes.

    On Linux ``VmHWM``: there ``ru_maxrss`` of a process begins with the peak of the one that started it. Elsewhere
    ``ru_maxrss`` (KiB, bytes on macOS).
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_device_memory_bytes(device: torch.device) -> int | None:
    """Most memory that tensors held on a CUDA device since the process began, in bytes; None on the CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def memory_record(device: torch.device) -> dict[str, Any]:
    """Both peaks, for a run's record."""
    return {"peak_host_bytes": peak_memory_bytes(), "peak_device_bytes": peak_device_memory_bytes(device)}


def give_back_free_memory() -> None:
    """Hand memory that was freed back to the system; does nothing where the C library isn't glibc.

    glibc keeps freed blocks for each thread. With several threads that work on shards in turn, the holes between what
    they hold add up to 50 MB and more over a long run.
    """
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
