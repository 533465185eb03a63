"""The timer waits for a CUDA device: a sleep there lasts as long as the device's own events say."""

from __future__ import annotations

import time

import pytest
import torch

from seqassay.measure.clock import DeviceClock

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

_CYCLES = 200_000_000  # about a tenth of a second


def by_events_s(cycles: int) -> float:
    """What the device itself says that a sleep of so many cycles lasts."""
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    torch.cuda._sleep(cycles)
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3


def test_a_sleep_on_the_device_within_two_percent() -> None:
    clock = DeviceClock.of(torch.device("cuda", 0))
    by_events_s(_CYCLES)
    expected = sorted(by_events_s(_CYCLES) for _ in range(5))[2]
    measured = sorted(clock.time_s(lambda: torch.cuda._sleep(_CYCLES)) for _ in range(5))[2]
    assert measured == pytest.approx(expected, rel=0.02)


def test_work_that_was_there_before_is_not_counted() -> None:
    clock = DeviceClock.of(torch.device("cuda", 0))
    torch.cuda._sleep(_CYCLES)
    assert clock.time_s(lambda: torch.cuda._sleep(_CYCLES // 100)) < by_events_s(_CYCLES) / 2


def test_without_waiting_a_launch_looks_like_nothing() -> None:
    """What makes the tests above able to fail."""
    expected = by_events_s(_CYCLES)
    began = time.perf_counter()
    torch.cuda._sleep(_CYCLES)
    assert time.perf_counter() - began < expected / 2
    torch.cuda.synchronize()
