"""A stand-in for the module ``pynvml``: gives the figures it is told, and fails when it is told to."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

UUID = "01234567-89ab-cdef-0123-456789abcdef"


class NVMLError(Exception):
    """As NVML's: a text."""


class FakeNvml:
    """Each function gives the next of its figures; an exception among them is raised, the last one stays."""

    NVMLError = NVMLError

    def __init__(
        self,
        *,
        percent: Sequence[Any] = (50,),
        memory: Sequence[Any] = (1 << 30,),
        energy_mj: Sequence[Any] = (1000,),
        uuid: str = UUID,
    ) -> None:
        self._figures = {"percent": list(percent), "memory": list(memory), "energy": list(energy_mj)}
        self._uuid, self.calls = uuid, []

    def nvmlInit(self) -> None:
        self.calls.append("init")

    def nvmlShutdown(self) -> None:
        self.calls.append("shutdown")

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid != f"GPU-{self._uuid}":
            raise NVMLError("Not Found")
        return "handle"

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> SimpleNamespace:
        return SimpleNamespace(gpu=self._next("percent"), memory=99)

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> SimpleNamespace:
        return SimpleNamespace(used=self._next("memory"), free=0, total=0)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        return self._next("energy")

    def _next(self, what: str) -> Any:
        self.calls.append(what)
        figures = self._figures[what]
        figure = figures.pop(0) if len(figures) > 1 else figures[0]
        if isinstance(figure, Exception):
            raise figure
        return figure
