from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from measure.fake_nvml import UUID


@pytest.fixture
def cuda_device(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """A CUDA device that is only named; torch tells the identity of the one that the stand-in for NVML has."""
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=UUID))
    return torch.device("cuda", 0)
