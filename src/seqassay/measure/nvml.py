"""What NVML tells of one CUDA device: utilisation, memory in use, energy; and why where it tells nothing.

Telemetry never ends a run: whatever NVML refuses, loses or misreports becomes a reason, and the figure undefined.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch

logger = logging.getLogger(__name__)

# NVML's utilisation is the share of its last sample period in which a kernel ran; that period is 1/6 s to 1 s, by
# product. A reading speaks for a stage that has lasted at least this long.
UTILISATION_WINDOW_S = 1.0
EXTRA = "pip install 'seqassay[gpu]'"


@dataclass(frozen=True, slots=True)
class DeviceReading:
    """One look at the device; None where it does not tell."""

    utilisation: float | None
    memory_bytes: int | None


NOTHING = DeviceReading(None, None)


class DeviceMonitor:
    """NVML's view of a device; open it as a context; any thread may read.

    Attributes:
        why: for each of ``utilisation``, ``memory`` and ``energy``, why it is not known; empty while it is.
    """

    def __init__(self, device: torch.device, nvml: ModuleType | None = None) -> None:
        """Nothing is opened yet.

        Args:
            nvml: in place of the module ``pynvml``, for tests.
        """
        self.why = dict.fromkeys(("utilisation", "memory", "energy"), "")
        self._device, self._nvml, self._handle = device, nvml, None

    def __enter__(self) -> DeviceMonitor:
        if self._device.type != "cuda":
            self._give_up("the run is on the CPU")
            return self
        if self._nvml is None:
            try:
                import pynvml
            except ImportError:
                self._give_up(f"nvidia-ml-py is not installed ({EXTRA})")
                return self
            self._nvml = pynvml
        nvml = self._nvml
        try:
            nvml.nvmlInit()
            # by identity: CUDA_VISIBLE_DEVICES renumbers CUDA's devices, and not NVML's
            self._handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(self._device).uuid}")
        except nvml.NVMLError as error:
            self._give_up(f"NVML: {error}")
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle is not None and self._nvml is not None:
            self._handle = None
            try:
                self._nvml.nvmlShutdown()
            except self._nvml.NVMLError as error:
                logger.info("NVML does not shut down: %s", error)

    def read(self) -> DeviceReading:
        """Utilisation and memory now."""
        if self._handle is None:
            return NOTHING
        percent = self._asked("utilisation", lambda nvml, handle: nvml.nvmlDeviceGetUtilizationRates(handle).gpu, 100)
        memory = self._asked("memory", lambda nvml, handle: nvml.nvmlDeviceGetMemoryInfo(handle).used)
        return DeviceReading(None if percent is None else percent / 100, None if memory is None else int(memory))

    def energy_j(self) -> float | None:
        """Joules since the driver was loaded; only differences mean something."""
        if self._handle is None:
            return None
        millijoules = self._asked("energy", lambda nvml, handle: nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
        return None if millijoules is None else millijoules / 1000

    def _asked(self, what: str, ask: Callable[[ModuleType, Any], float], most: float | None = None) -> float | None:
        """NVML's answer; after one that is refused or impossible this is not asked again."""
        if self.why[what] or self._nvml is None:
            return None
        try:
            value = ask(self._nvml, self._handle)
        except self._nvml.NVMLError as error:
            self._give_up(f"NVML stopped telling it: {error}", what)
            return None
        if value < 0 or (most is not None and value > most):
            self._give_up(f"NVML told an impossible figure, {value}", what)
            return None
        return value

    def _give_up(self, why: str, what: str | None = None) -> None:
        for name in self.why if what is None else (what,):
            self.why[name] = why
        logger.log(
            logging.INFO if self._device.type == "cpu" else logging.WARNING,
            "GPU %s: not measured: %s", what or "utilisation, memory and energy", why,
        )  # fmt: skip
