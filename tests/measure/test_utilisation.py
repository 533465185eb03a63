"""The sampler on clocks and a device that the tests move."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import pytest
import torch

from measure.fake_nvml import FakeNvml, NVMLError
from seqassay.measure import utilisation
from seqassay.measure.nvml import DeviceMonitor
from seqassay.measure.progress import RunProgress
from seqassay.measure.utilisation import UtilisationSampler

GROUPS = {"embedding": ("nucleotide embedding", "protein embedding"), "protein embedding": ("protein embedding",)}
NEVER = 1e6  # seconds between ticks: only those of the test


class Clocks:
    """Both clocks, moved by hand."""

    def __init__(self) -> None:
        self.wall = self.cpu = 100.0

    def __call__(self) -> tuple[float, float]:
        return self.wall, self.cpu

    def move(self, wall_s: float, cpu_s: float) -> None:
        self.wall, self.cpu = self.wall + wall_s, self.cpu + cpu_s


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    moved = Clocks()
    monkeypatch.setattr(utilisation, "_clocks", moved)
    monkeypatch.setattr(utilisation, "usable_cores", lambda: 2)
    return moved


def sampler_of(device: torch.device, progress: RunProgress, nvml: FakeNvml | None = None) -> UtilisationSampler:
    monitor = DeviceMonitor(device, nvml)  # type: ignore[arg-type]
    return UtilisationSampler(device, progress, GROUPS, interval_s=NEVER, monitor=monitor)


def by_stage(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {entry["stage"]: entry for entry in record["by_stage"]}


def test_processor_time_belongs_to_the_stage_that_was_on(clocks: Clocks) -> None:
    progress = RunProgress()
    with sampler_of(torch.device("cpu"), progress) as sampler:
        clocks.move(1.0, 0.2)  # waiting for input: the work's alone
        progress.begin_stage("nucleotide embedding")
        clocks.move(2.0, 4.0)
        progress.begin_stage("protein embedding")
        clocks.move(1.0, 1.0)
        progress.begin_stage("prediction")
        clocks.move(0.5, 0.0)
        stages = by_stage(sampler.as_record())
    assert {name: entry["seconds"] for name, entry in stages.items()} == {
        "work": 4.5, "embedding": 3.0, "protein embedding": 1.0,
    }  # fmt: skip
    assert stages["work"]["cpu"] == {"value": round(5.2 / 9, 4), "n": 4, "min": 0.0, "max": 1.0}
    assert stages["embedding"]["cpu"] == {"value": round(5 / 6, 4), "n": 2, "min": 0.5, "max": 1.0}
    assert stages["protein embedding"]["cpu"]["value"] == 0.5
    assert stages["work"]["gpu"]["why_undefined"] == "the run is on the CPU"
    assert "why_undefined" not in stages["work"]["cpu"]


def test_a_share_above_one_is_no_figure(clocks: Clocks) -> None:
    progress = RunProgress()
    with sampler_of(torch.device("cpu"), progress) as sampler:
        clocks.move(1.0, 2.01)  # what the process's clock may lag
        assert by_stage(sampler.as_record())["work"]["cpu"]["value"] == 1.0
        clocks.move(1.0, 2.2)
        work = by_stage(sampler.as_record())["work"]["cpu"]
        assert work["value"] is None
        assert work["why_undefined"].startswith("it came out above what 2 cores can give")
        clocks.move(50.0, 1.0)
        assert by_stage(sampler.as_record())["work"]["cpu"]["value"] is None  # a mean would hide it
        sampler.tick()
        assert sampler.timeline()[0]["cpu"] is not None


def test_memory_does_not_grow_with_the_run(clocks: Clocks) -> None:
    progress = RunProgress()
    with sampler_of(torch.device("cpu"), progress) as sampler:

        def hours(n: int) -> None:
            for _ in range(n * 7200 // 10):
                clocks.move(5.0, 5.0)
                progress.begin_stage("protein embedding")
                sampler.tick()

        hours(1)
        tracemalloc.start()
        hours(4)
        grown, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(sampler.timeline()) <= 201
    assert grown < 100_000


def test_stretches_too_short_for_the_clock_have_no_share(clocks: Clocks) -> None:
    progress = RunProgress()
    with sampler_of(torch.device("cpu"), progress) as sampler:
        for _ in range(50):
            progress.begin_stage("protein embedding")
            clocks.move(0.01, 0.01)
            progress.begin_stage("waiting for input")
            clocks.move(1.0, 0.5)
        stages = by_stage(sampler.as_record())
    assert stages["protein embedding"]["cpu"]["value"] is None
    assert "too short" in stages["protein embedding"]["cpu"]["why_undefined"]
    assert stages["work"]["cpu"]["n"] == 50


def test_a_reading_counts_for_a_stage_that_lasted_as_long_as_it_looks_back(
    clocks: Clocks, cuda_device: torch.device
) -> None:
    nvml = FakeNvml(percent=[10, 90, 70, 20], memory=[5, 7, 9, 1], energy_mj=[1_000, 4_500])
    progress = RunProgress()
    with sampler_of(cuda_device, progress, nvml) as sampler:
        clocks.move(1.0, 0.1)
        sampler.tick()  # 10%: of the work alone
        progress.begin_stage("nucleotide embedding")
        clocks.move(1.0, 0.1)
        sampler.tick()  # 90%: of the embedding
        progress.begin_stage("protein embedding")
        clocks.move(0.5, 0.1)
        sampler.tick()  # 70%: of the embedding; looks back beyond the protein embedding's beginning
        progress.begin_stage("prediction")
        clocks.move(0.1, 0.1)
        sampler.tick()
        record = sampler.as_record()
    stages = by_stage(record)
    assert stages["work"]["gpu"] == {"value": round((0.1 + 0.9 + 0.7 + 0.2) / 4, 4), "n": 4, "min": 0.1, "max": 0.9}
    assert stages["embedding"]["gpu"] == {"value": 0.8, "n": 2, "min": 0.7, "max": 0.9}
    assert stages["embedding"]["gpu_memory"] == {"n": 2, "mean_bytes": 8, "max_bytes": 9}
    assert stages["protein embedding"]["gpu"]["value"] is None
    assert "1 s" in stages["protein embedding"]["gpu"]["why_undefined"]
    assert record["energy_j"] == 3.5
    assert record["why_no_energy"] == ""


def test_nvml_that_fails_in_the_middle_leaves_a_reason(clocks: Clocks, cuda_device: torch.device) -> None:
    lost = NVMLError("GPU is lost")
    progress = RunProgress()
    with sampler_of(cuda_device, progress, FakeNvml(percent=[50, lost], memory=[1, lost], energy_mj=[1, lost])) as s:
        for _ in range(3):
            clocks.move(1.0, 0.1)
            s.tick()
        record = s.as_record()
        points = s.timeline()
    work = by_stage(record)["work"]
    assert work["gpu"] == {
        "value": None, "n": 0, "min": None, "max": None, "why_undefined": "NVML stopped telling it: GPU is lost",
    }  # fmt: skip
    assert work["cpu"]["value"] == 0.05
    assert (record["energy_j"], record["why_no_energy"]) == (None, "NVML stopped telling it: GPU is lost")
    assert [point["gpu"] for point in points[:3]] == [0.5, None, None]


def test_the_timeline_has_what_was_done_in_between(clocks: Clocks) -> None:
    progress = RunProgress(tokens=lambda: tokens)
    tokens = 0
    with sampler_of(torch.device("cpu"), progress) as sampler:
        for n in (5, 10):
            tokens += 100
            progress.done_sequences += n
            clocks.move(0.5, 0.5)
            sampler.tick()
        points = sampler.timeline()
    assert [(point["seconds"], point["sequences"], point["tokens"]) for point in points[:2]] == [
        (0.5, 5, 100), (1.0, 15, 200),
    ]  # fmt: skip
    assert points[1]["sequences_per_s"] == 20.0


def test_its_own_thread_ticks_and_ends_with_the_block() -> None:
    progress = RunProgress()
    with UtilisationSampler(torch.device("cpu"), progress, GROUPS, interval_s=0.01) as sampler:
        deadline = time.monotonic() + 20
        while len(sampler.timeline()) < 6 and time.monotonic() < deadline:
            time.sleep(0.02)
    assert not sampler._thread.is_alive()
    record = sampler.as_record()
    assert record["cost_s"] > 0
    progress.begin_stage("protein embedding")  # nobody listens any more
    assert by_stage(sampler.as_record())["protein embedding"]["seconds"] == 0
