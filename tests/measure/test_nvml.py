"""NVML behind a stand-in: figures in, figures or reasons out; nothing that it does ends a run."""

from __future__ import annotations

import builtins
from typing import Any

import pytest
import torch

from measure.fake_nvml import FakeNvml, NVMLError
from seqassay.measure.nvml import NOTHING, DeviceMonitor, DeviceReading


def test_figures_come_in_shares_bytes_and_joules(cuda_device: torch.device) -> None:
    fake = FakeNvml(percent=[0, 87], memory=[5_000], energy_mj=[2_500])
    with DeviceMonitor(cuda_device, fake) as monitor:  # type: ignore[arg-type]
        assert monitor.read() == DeviceReading(0.0, 5_000)
        assert monitor.read() == DeviceReading(0.87, 5_000)
        assert monitor.energy_j() == 2.5
    assert monitor.why == {"utilisation": "", "memory": "", "energy": ""}
    assert fake.calls[0] == "init"
    assert fake.calls[-1] == "shutdown"


def test_a_figure_that_the_device_refuses_leaves_the_others(cuda_device: torch.device) -> None:
    fake = FakeNvml(percent=[50, NVMLError("Not Supported"), 60], energy_mj=[NVMLError("Not Supported")])
    with DeviceMonitor(cuda_device, fake) as monitor:  # type: ignore[arg-type]
        assert monitor.read().utilisation == 0.5
        assert [monitor.read().utilisation for _ in range(2)] == [None, None]  # it is not asked again
        assert monitor.read().memory_bytes == 1 << 30
        assert monitor.energy_j() is None
    assert monitor.why["utilisation"] == "NVML stopped telling it: Not Supported"
    assert monitor.why["memory"] == ""
    assert fake.calls.count("percent") == 2


@pytest.mark.parametrize("percent", [101, -1])
def test_an_impossible_figure_is_no_figure(cuda_device: torch.device, percent: int) -> None:
    with DeviceMonitor(cuda_device, FakeNvml(percent=[percent])) as monitor:  # type: ignore[arg-type]
        assert monitor.read().utilisation is None
    assert monitor.why["utilisation"] == f"NVML told an impossible figure, {percent}"


def test_another_device_than_cudas_is_never_read(cuda_device: torch.device) -> None:
    with DeviceMonitor(cuda_device, FakeNvml(uuid="another")) as monitor:  # type: ignore[arg-type]
        assert monitor.read() == NOTHING
    assert monitor.why["utilisation"] == "NVML: Not Found"


def test_the_cpu_has_no_figures_and_says_why() -> None:
    with DeviceMonitor(torch.device("cpu")) as monitor:
        assert monitor.read() == NOTHING
        assert monitor.energy_j() is None
    assert set(monitor.why.values()) == {"the run is on the CPU"}


def test_without_the_package_the_reason_is_the_command(
    cuda_device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "pynvml":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with DeviceMonitor(cuda_device) as monitor:
        assert monitor.read() == NOTHING
    assert "pip install 'seqassay[gpu]'" in monitor.why["utilisation"]
