"""What a result depends on besides its input: versions, hardware, the commit, the command."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import psutil
import torch

import seqassay

LIBRARIES = ("torch", "numpy", "xopen", "safetensors", "tokenizers")


def provenance() -> dict[str, Any]:
    """Package version, git commit, libraries, hardware and command line, as JSON types."""
    return {
        "seqassay": seqassay.__version__,
        "git_commit": git_commit(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "hardware": hardware(),
    }


def hardware() -> dict[str, Any]:
    """Processor, cores this process may use, memory and CUDA devices."""
    cuda = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    return {
        "platform": platform.platform(),
        "processor": processor_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "memory_bytes": psutil.virtual_memory().total,
        "cuda_devices": [torch.cuda.get_device_name(index) for index in cuda],
        "cuda": torch.version.cuda,
    }


def device_name(device: torch.device) -> str:
    """What a person calls the device: the graphics card's name, or the processor's."""
    return f"{device} ({torch.cuda.get_device_name(device) if device.type == 'cuda' else processor_name()})"


def processor_name() -> str:
    """The processor's marketing name where Linux tells it, else the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def git_commit() -> str | None:
    """The commit of the checkout that this package is run from (``-dirty`` if it has changes); None if installed."""
    source = Path(seqassay.__file__).resolve().parent
    return commit_of(source) if (source.parents[1] / ".git").exists() else None


def commit_of(folder: Path) -> str | None:
    """The commit of the checkout that a folder is in (``-dirty`` if files below it have changes); None outside one."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changes = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ".")
    except (OSError, subprocess.SubprocessError):
        return None  # no checkout, no git on this machine, or one it won't read: the commit is simply not known
    return f"{commit}-dirty" if changes else commit


def utc_now() -> str:
    """The time to the second, ISO 8601, UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-c", "core.fsmonitor=false", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
