"""NVML's own figures over a stage that keeps a CUDA device busy."""

from __future__ import annotations

import time

import pytest
import torch

from seqassay.measure.progress import RunProgress
from seqassay.measure.utilisation import UtilisationSampler

pytest.importorskip("pynvml")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

BUSY_S = 4.0


def test_a_busy_device_reads_as_busy_over_that_stage_alone() -> None:
    device, progress = torch.device("cuda", 0), RunProgress()
    a = torch.randn(4096, 4096, device=device)
    with UtilisationSampler(device, progress, {"busy": ("busy",)}, interval_s=0.2) as sampler:
        progress.begin_stage("idle")
        time.sleep(2.0)
        progress.begin_stage("busy")
        until = time.monotonic() + BUSY_S
        while time.monotonic() < until:
            for _ in range(20):
                a @ a
            torch.cuda.synchronize(device)
        progress.begin_stage("idle")
        record = sampler.as_record()
    stages = {entry["stage"]: entry for entry in record["by_stage"]}
    assert stages["busy"]["gpu"]["value"] > 0.9
    assert stages["work"]["gpu"]["min"] < stages["busy"]["gpu"]["min"]
    assert stages["busy"]["gpu_memory"]["max_bytes"] >= a.nbytes
    assert record["energy_j"] > 0
