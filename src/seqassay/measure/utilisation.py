"""How busy processor and device were, over the very stages that the figures are quoted for.

Processor time is not sampled but cut: at every change of stage and at every tick the process's own clock is read, and
what passed since the last reading belongs to the stage that was on. Device utilisation is NVML's, read at every tick;
a reading counts for a stage that was on for as long as the reading looks back.

Memory is constant: sums, a minimum and a maximum for each stage, and a timeline of at most 200 points.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from seqassay.measure.nvml import UTILISATION_WINDOW_S, DeviceMonitor, DeviceReading
from seqassay.measure.progress import RunProgress
from seqassay.measure.timeline import Stretch, Timeline, cpu_share

INTERVAL_S = 0.5
WORK = "work"  # everything from the first shard to the last output
_SHORTEST_S = 0.2  # below, a stretch's share is more the clock's lag than the processor's work


@dataclass(slots=True)
class _Spread:
    """Mean, minimum and maximum in constant memory."""

    n: int = 0
    total: float = 0.0
    min: float = math.inf
    max: float = -math.inf

    def add(self, value: float) -> None:
        self.n, self.total = self.n + 1, self.total + value
        self.min, self.max = min(self.min, value), max(self.max, value)


@dataclass(slots=True)
class _StageUse:
    """What was used while a stage was on.

    Attributes:
        n_stretches: how many readings of the processor's clock lie between its first and its last.
        impossible: a stretch took more processor time than the cores can give.
        cpu: shares of the stretches that were long enough.
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0
    n_stretches: int = 0
    impossible: bool = False
    cpu: _Spread = field(default_factory=_Spread)
    device: _Spread = field(default_factory=_Spread)
    memory: _Spread = field(default_factory=_Spread)


class UtilisationSampler:
    """Reads clocks and device while its block runs; ``progress`` tells it when a stage begins.

    Stages of ``progress`` that no group names count for the whole work alone.
    """

    def __init__(
        self,
        device: torch.device,
        progress: RunProgress,
        groups: Mapping[str, tuple[str, ...]],
        *,
        interval_s: float = INTERVAL_S,
        monitor: DeviceMonitor | None = None,
    ) -> None:
        """Nothing is read yet.

        Args:
            groups: name of each figure's stage, and the stages of ``progress`` that belong to it.
            monitor: in place of the device's own, for tests.
        """
        self._progress, self._groups, self._interval_s = progress, dict(groups), interval_s
        self._monitor = monitor or DeviceMonitor(device)
        self.cores = usable_cores()
        self._uses = {name: _StageUse() for name in (WORK, *groups)}
        self._on_since: dict[str, float] = {}  # of the groups that are on
        self._timeline = Timeline()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="utilisation", daemon=True)
        self._cost_s = 0.0
        self._first_energy_j: float | None = None

    def __enter__(self) -> UtilisationSampler:
        self._monitor.__enter__()
        self._first_energy_j = self._monitor.energy_j()
        self._wall, self._cpu = _clocks()
        self._on_since[WORK] = self._wall
        self._done = (self._progress.scored_sequences, self._progress.tokens())
        self._pending = Stretch()
        self._progress.on_stage = self._stage_begins
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.on_stage = lambda stage: None
        self._ended.set()
        self._thread.join(5)
        self._monitor.__exit__()

    def as_record(self) -> dict[str, Any]:
        """Figures up to now, by stage: value, minimum and maximum, number of readings, and why where there is none."""
        with self._lock:
            self._cut()
            energy_j = self._monitor.energy_j()
            used_j = None if energy_j is None or self._first_energy_j is None else energy_j - self._first_energy_j
            return {
                "interval_s": self._interval_s,
                "cores": self.cores,
                "by_stage": [self._stage_record(name, use) for name, use in self._uses.items()],
                "energy_j": None if used_j is None else round(used_j, 3),
                "why_no_energy": self._monitor.why["energy"] if used_j is None else "",
                "cost_s": round(self._cost_s, 6),
            }

    def timeline(self) -> list[dict[str, Any]]:
        """At most 200 points and the one that is not full yet."""
        with self._lock:
            self._cut()
            self._end_point(DeviceReading(None, None))
            return self._timeline.as_records(self.cores)

    def tick(self) -> None:
        """Read clocks and device once; the sampler's own thread does it every ``interval_s``."""
        began = time.thread_time()
        reading = self._monitor.read()
        with self._lock:
            self._cut()
            self._count_reading(reading)
            self._end_point(reading)
            self._cost_s += time.thread_time() - began

    def _run(self) -> None:
        while not self._ended.wait(self._interval_s):
            self.tick()

    def _stage_begins(self, stage: str) -> None:
        """Called by the thread that does the work: what passed until now belongs to the stage before."""
        began = time.thread_time()
        with self._lock:
            self._cut()
            on = {name for name, stages in self._groups.items() if stage in stages}
            self._on_since = {
                WORK: self._on_since[WORK],
                **{name: self._on_since.get(name, self._wall) for name in on},
            }
            self._cost_s += time.thread_time() - began

    def _cut(self) -> None:
        """Give what passed since the last reading of the clocks to the stages that are on."""
        wall, cpu = _clocks()
        wall_s, cpu_s = wall - self._wall, cpu - self._cpu
        self._wall, self._cpu = wall, cpu
        self._pending.wall_s += wall_s
        self._pending.cpu_s += cpu_s
        for name in self._on_since:
            use = self._uses[name]
            use.wall_s, use.cpu_s, use.n_stretches = use.wall_s + wall_s, use.cpu_s + cpu_s, use.n_stretches + 1
            if wall_s >= _SHORTEST_S:
                share = cpu_share(cpu_s, wall_s, cores=self.cores)
                if share is None:
                    use.impossible = True
                else:
                    use.cpu.add(share)

    def _count_reading(self, reading: DeviceReading) -> None:
        for name, since in self._on_since.items():
            if self._wall - since < UTILISATION_WINDOW_S:
                continue
            if reading.utilisation is not None:
                self._uses[name].device.add(reading.utilisation)
            if reading.memory_bytes is not None:
                self._uses[name].memory.add(reading.memory_bytes)

    def _end_point(self, reading: DeviceReading) -> None:
        done = (self._progress.scored_sequences, self._progress.tokens())
        self._pending.sequences = max(0, done[0] - self._done[0])
        self._pending.tokens = done[1] - self._done[1]
        if reading.utilisation is not None:
            self._pending.device_sum, self._pending.device_n = reading.utilisation, 1
        self._timeline.add(self._pending)
        self._pending, self._done = Stretch(), (max(done[0], self._done[0]), done[1])

    def _stage_record(self, name: str, use: _StageUse) -> dict[str, Any]:
        return {
            "stage": name,
            "seconds": round(use.wall_s, 3),
            "cpu": self._cpu_figure(use),
            "gpu": self._device_figure(use),
            "gpu_memory": {
                "n": use.memory.n,
                "mean_bytes": round(use.memory.total / use.memory.n) if use.memory.n else None,
                "max_bytes": int(use.memory.max) if use.memory.n else None,
                **({} if use.memory.n else {"why_undefined": self._why_no_reading("memory")}),
            },
        }

    def _cpu_figure(self, use: _StageUse) -> dict[str, Any]:
        if use.wall_s < _SHORTEST_S or use.wall_s / use.n_stretches < _SHORTEST_S / 2:
            return _undefined(use.cpu.n, "its stretches are too short for the processor's clock")
        share = cpu_share(use.cpu_s, use.wall_s, cores=self.cores, n_stretches=use.n_stretches)
        if share is None or use.impossible:
            return _undefined(0, f"it came out above what {self.cores} cores can give: threads run on others too")
        return _figure(share, use.cpu)

    def _device_figure(self, use: _StageUse) -> dict[str, Any]:
        if self._monitor.why["utilisation"] or not use.device.n:
            return _undefined(0, self._why_no_reading("utilisation"))
        return _figure(use.device.total / use.device.n, use.device)

    def _why_no_reading(self, what: str) -> str:
        return self._monitor.why[what] or f"it never lasted the {UTILISATION_WINDOW_S:g} s that a reading looks back"


def usable_cores() -> int:
    """Processor cores that this process may use (on Linux: its main thread, whichever thread asks)."""
    return len(os.sched_getaffinity(os.getpid())) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _clocks() -> tuple[float, float]:
    """Wall and processor time, read at one moment: a thread that loses the processor between them reads again."""
    for _ in range(10):
        before = time.perf_counter()
        cpu = time.process_time()
        after = time.perf_counter()
        if after - before < 0.001:
            break
    return after, cpu


def _figure(value: float, spread: _Spread) -> dict[str, Any]:
    known = spread.n > 0
    return {
        "value": round(value, 4),
        "n": spread.n,
        "min": round(spread.min, 4) if known else None,
        "max": round(spread.max, 4) if known else None,
    }


def _undefined(n: int, why: str) -> dict[str, Any]:
    return {"value": None, "n": n, "min": None, "max": None, "why_undefined": why}
