"""The timer against kernels of known length: within 2%, and able to be wrong.

    python benchmarks/timer.py [--samples 50] [--limit 40]

**CPU.** A spin runs until its own thread's CPU clock (what the scheduler has charged it) has moved by so many
milliseconds. That clock knows nothing of the timer's, which counts wall time, and the two agree exactly while the
thread keeps its core; so a sample counts when the kernel says that the thread was not pushed off its core during it
(``ru_nivcsw``), and the others are counted. On a busy machine only short spins get through. A second kernel is
deferred: its launch puts the spin into a queue, and the spin runs when the device is waited for, as on a graphics
card.

**CUDA**, where there is one. A sleep of the device (``torch.cuda._sleep``), whose length the device's own events tell.

**Controls.** Timers that are wrong have to be found wrong by the same check: one that does not wait for the device, and
one whose clock is 3% fast.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from _timing import RESULTS
from seqassay.measure.clock import DeviceClock
from seqassay.measure.provenance import provenance, utc_now

BAR = 0.02
SPINS_MS = (1, 2, 5, 20, 100)
SLEEPS_MS = (1, 10, 100)
FEWEST = 10  # samples below which a length is not judged
_CALIBRATION_CYCLES = 10_000_000


@dataclass
class Check:
    """A timer against a kernel of one length."""

    name: str
    length_ms: float
    is_control: bool
    expected_s: list[float] = field(default_factory=list)
    measured_s: list[float] = field(default_factory=list)
    disturbed: int = 0

    @property
    def errors(self) -> np.ndarray:
        return np.array(self.measured_s) / np.array(self.expected_s) - 1

    @property
    def judged(self) -> bool:
        return len(self.measured_s) >= FEWEST

    @property
    def within(self) -> bool:
        return bool(abs(np.median(self.errors)) <= BAR)

    def as_record(self) -> dict[str, Any]:
        figures = {}
        if self.measured_s:
            low, median, high = np.percentile(self.errors, [5, 50, 95]).tolist()
            figures = {"error_median": median, "error_p5": low, "error_p95": high}
        return {
            "timer": self.name, "length_ms": self.length_ms, "control": self.is_control, "n": len(self.measured_s),
            "disturbed": self.disturbed, "judged": self.judged, **figures,
            "within_bar": self.within if self.judged else None,
            "expected_s": self.expected_s, "measured_s": self.measured_s,
        }  # fmt: skip


def main() -> None:
    """Check the timer on every device there is, and the check by its controls."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=50, help="undisturbed ones of every length")
    parser.add_argument("--limit", type=float, default=40, help="seconds for every timer and length")
    args = parser.parse_args()
    checks = cpu_checks(args.samples, args.limit)
    if torch.cuda.is_available():
        checks += cuda_checks(args.samples)
    for check in checks:
        said = "not judged: too few undisturbed samples"
        if check.judged:
            found = "within" if check.within else "off by more than"
            said = f"error {np.median(check.errors):+.3%} (n = {len(check.errors)}), {found} {BAR:.0%}"
        print(f"{check.name:34s}{check.length_ms:6g} ms  {said}; {check.disturbed} disturbed")
    judged = [check for check in checks if check.judged]
    good = [check for check in judged if not check.is_control]
    controls = [check for check in judged if check.is_control]
    passed = bool(good) and all(check.within for check in good)
    able_to_fail = bool(controls) and not any(check.within for check in controls)
    worst = max((abs(float(np.median(check.errors))) for check in good), default=None)
    figures = {"bar": BAR, "worst_error": worst, "passed": passed, "controls_found_wrong": able_to_fail}
    print(json.dumps({"benchmark": "timer", **figures}))
    record = {
        "benchmark": "timer", "time": utc_now(), **figures, "cuda": torch.cuda.is_available(),
        "checks": [check.as_record() for check in checks], "provenance": provenance(),
    }  # fmt: skip
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "timer.json").write_text(json.dumps(record, indent=1) + "\n")
    if not (passed and able_to_fail):
        sys.exit(1)


class DeferredDevice:
    """A device on the CPU: a launch queues a spin, which runs when the device is waited for."""

    def __init__(self) -> None:
        self.queue: list[float] = []
        self.spun_s = 0.0

    def launch(self, length_s: float) -> None:
        self.queue.append(length_s)

    def synchronize(self) -> None:
        while self.queue:
            self.spun_s = spin(self.queue.pop())


def spin(length_s: float) -> float:
    """Keep the core until this thread's CPU clock has moved so far; returns how far it did."""
    began = time.thread_time_ns()
    end = began + round(length_s * 1e9)
    while (now := time.thread_time_ns()) < end:
        pass
    return (now - began) / 1e9


def fast_clock() -> int:
    """3% fast."""
    return round(time.perf_counter_ns() * 1.03)


def cpu_checks(n_samples: int, limit_s: float) -> list[Check]:
    cpu, device = DeviceClock.of(torch.device("cpu")), DeferredDevice()
    waits, blind = DeviceClock(device.synchronize), DeviceClock()
    fast = DeviceClock(now_ns=fast_clock)

    def direct(clock: DeviceClock) -> Callable[[float], tuple[float, float]]:
        def sample(length_s: float) -> tuple[float, float]:
            return clock.timed(lambda: spin(length_s))

        return sample

    def deferred(clock: DeviceClock) -> Callable[[float], tuple[float, float]]:
        def sample(length_s: float) -> tuple[float, float]:
            measured_s = clock.time_s(lambda: device.launch(length_s))
            device.synchronize()
            return device.spun_s, measured_s

        return sample

    timers = [
        ("spin", False, direct(cpu), SPINS_MS),
        ("deferred spin", False, deferred(waits), SPINS_MS),
        ("control: does not wait", True, deferred(blind), SPINS_MS[:2]),
        ("control: clock 3% fast", True, direct(fast), SPINS_MS[:2]),
    ]
    checks = []
    for name, is_control, sample, lengths in timers:
        for length_ms in lengths:
            check = Check(name, length_ms, is_control)
            end = time.monotonic() + limit_s
            while len(check.measured_s) < n_samples and time.monotonic() < end:
                before = switched_out()
                expected_s, measured_s = sample(length_ms / 1e3)
                if switched_out() != before:
                    check.disturbed += 1
                    continue
                check.expected_s.append(expected_s)
                check.measured_s.append(measured_s)
            checks.append(check)
    return checks


def switched_out() -> int:
    """How often this thread was pushed off its core so far."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw


def cuda_checks(n_samples: int) -> list[Check]:
    device = torch.device("cuda", 0)
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)

    def sleep(cycles: int) -> None:
        begin.record()
        torch.cuda._sleep(cycles)
        end.record()

    for _ in range(3):
        sleep(_CALIBRATION_CYCLES)
        torch.cuda.synchronize(device)
    cycles_per_ms = _CALIBRATION_CYCLES / begin.elapsed_time(end)
    timers = [
        ("CUDA sleep", False, DeviceClock.of(device), SLEEPS_MS),
        ("control: CUDA, does not wait", True, DeviceClock(), SLEEPS_MS),
    ]
    checks = []
    for name, is_control, clock, lengths in timers:
        for length_ms in lengths:
            check = Check(name, length_ms, is_control)
            cycles = round(cycles_per_ms * length_ms)
            for _ in range(n_samples):
                check.measured_s.append(clock.time_s(lambda cycles=cycles: sleep(cycles)))
                torch.cuda.synchronize(device)
                check.expected_s.append(begin.elapsed_time(end) / 1e3)
            checks.append(check)
    return checks


if __name__ == "__main__":
    main()
