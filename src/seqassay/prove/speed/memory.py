"""Whether a model's weights fit into the memory there is: asked before they are loaded.

Linux grants more memory than it has and ends the process that uses it, so waiting for an error is no use on the CPU.
"""

from __future__ import annotations

from pathlib import Path

import psutil
import torch

from seqassay.engine.precision import ResolvedPrecision
from seqassay.errors import ResourceError
from seqassay.models.esm2 import Esm2Config

_CGROUP = Path("/sys/fs/cgroup")
# Limit and use of a container's memory, by version of the kernel's interface.
_CGROUP_FILES = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)
_FLOAT32_BYTES = 4
KEPT_TWICE_BYTES = 32 << 20  # weights up to this size have a second copy in the kernels' layout (models/linear.py)
_WORK_BYTES = 256 << 20  # activations of a batch and what libraries keep; small models need less


def check_fits(name: str, shape: Esm2Config, device: torch.device, precision: ResolvedPrecision) -> None:
    """The weights fit: in float32 into the host's memory, where they are read, and in their format onto the device.

    Raises:
        ResourceError: they do not; says how much is missing.
    """
    layer_matrices = (3 * shape.d_model**2, shape.d_model**2, *[shape.d_model * shape.d_ff] * 2)  # projections, FFN
    n_weights = shape.n_layers * sum(layer_matrices)
    item_bytes = precision.dtype.itemsize
    on_host = n_weights * _FLOAT32_BYTES
    if device.type == "cpu":
        if precision.dtype != torch.float32:
            on_host += n_weights * item_bytes
        if not precision.exact:
            copied = [n for n in layer_matrices if n * item_bytes <= KEPT_TWICE_BYTES]
            on_host += shape.n_layers * sum(copied) * item_bytes
    _check(name, on_host + _WORK_BYTES, available_host_bytes(), "the memory of this machine")
    if device.type == "cuda":
        free_bytes, _ = torch.cuda.mem_get_info(device)
        _check(name, n_weights * item_bytes + _WORK_BYTES, free_bytes, str(device))


def available_host_bytes() -> int:
    """Memory that this process can still take: the machine's, and no more than a container's limit leaves."""
    available: int = psutil.virtual_memory().available
    for limit_file, used_file in _CGROUP_FILES:
        try:
            limit, used = (int((_CGROUP / name).read_text()) for name in (limit_file, used_file))
        except (OSError, ValueError):  # no such interface here, or "max": no limit
            continue
        available = min(available, max(0, limit - used))
    return available


def _check(name: str, wanted: int, available: int, where: str) -> None:
    if wanted > available:
        raise ResourceError(
            f"{name} does not fit: it takes {wanted / 2**30:.1f} GiB, and {available / 2**30:.1f} GiB of {where} are "
            "free",
            hint="use a machine or device with more memory, a smaller model, or end what else is running",
        )
