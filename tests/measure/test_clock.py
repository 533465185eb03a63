"""The timer on a clock that tells what it is told: what is waited for, when runs are steady, what a ratio is."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from seqassay.errors import SeqassayError
from seqassay.measure.clock import (
    FEWEST_PAIRS,
    DeviceClock,
    ratio_of_pairs,
    time_pairs,
    warm_until_steady,
)


class FakeDevice:
    """A device with a queue: a launch takes no time, and waiting for it takes as long as the work."""

    def __init__(self) -> None:
        self.now_ns = 1_000
        self.queued_ns = 0
        self.waits = 0

    def launch(self, ns: int) -> None:
        self.queued_ns += ns

    def synchronize(self) -> None:
        self.waits += 1
        self.now_ns += self.queued_ns
        self.queued_ns = 0


@pytest.fixture
def device() -> FakeDevice:
    return FakeDevice()


def test_a_time_is_of_its_own_work_all_of_it_and_no_other(device: FakeDevice) -> None:
    clock = DeviceClock(device.synchronize, lambda: device.now_ns)
    device.launch(7_000_000)  # somebody else's work, still in the queue
    assert clock.time_s(lambda: device.launch(2_000_000)) == pytest.approx(0.002)
    assert (device.queued_ns, device.waits) == (0, 2)


def test_without_waiting_the_same_clock_sees_nothing_of_it(device: FakeDevice) -> None:
    """What makes the test above able to fail."""
    now = itertools.count(device.now_ns)
    assert DeviceClock(now_ns=lambda: next(now)).time_s(lambda: device.launch(2_000_000)) < 1e-6


def test_timed_hands_on_what_the_run_returns(device: FakeDevice) -> None:
    clock = DeviceClock(device.synchronize, lambda: device.now_ns)

    def run() -> str:
        device.launch(500)
        return "made"

    assert clock.timed(run) == ("made", pytest.approx(5e-7))


@pytest.mark.parametrize("step_ns", [0, -5])
def test_a_clock_that_stands_still_or_runs_back_is_no_clock(step_ns: int) -> None:
    now = itertools.count(1_000, step_ns) if step_ns else itertools.repeat(1_000)
    with pytest.raises(SeqassayError, match=f"moved by {step_ns} ns"):
        DeviceClock(now_ns=lambda: next(now)).time_s(lambda: None)


def test_an_error_of_the_run_is_not_swallowed() -> None:
    def run() -> None:
        raise ValueError("of the run")

    with pytest.raises(ValueError, match="of the run"):
        DeviceClock().time_s(run)


def test_the_clock_of_the_cpu_waits_for_nothing() -> None:
    assert DeviceClock.of(torch.device("cpu")) == DeviceClock()


def told(seconds: list[float]) -> Callable[[], float]:
    """A run that takes the next of these seconds; asked for more it fails the test."""
    times: Iterator[float] = iter(seconds)
    return lambda: next(times)


def test_warm_is_when_two_windows_have_the_same_median() -> None:
    falling = [9.0, 8.0, 7.0, 4.0, 3.0, 3.0, 2.0, 2.0, 2.0, 2.0, 2.01, 9.9]
    warm = warm_until_steady(told(falling), limit_s=1000)
    assert warm.steady
    assert warm.seconds == tuple(falling)  # medians 8, 3, 2, 2.01: an outlier does not move them


def test_warming_goes_on_by_whole_windows_until_its_limit() -> None:
    swinging = [1.0, 1.0, 1.0, 2.0, 2.0, 2.0] * 10
    warm = warm_until_steady(told(swinging), limit_s=10)
    assert not warm.steady
    assert warm.seconds == tuple(swinging[:9])  # 9 s is below the limit after two windows, 12 s after three is not


def test_runs_that_were_steady_before_need_no_more() -> None:
    warm = warm_until_steady(told([]), limit_s=10, before=[5.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0])
    assert (warm.seconds, warm.steady) == ((), True)


@pytest.mark.parametrize(("later", "steady"), [(1.019, True), (1.03, False)])
def test_the_tolerance_of_two_percent(later: float, steady: bool) -> None:
    assert warm_until_steady(told([]), limit_s=0, before=[1.0] * 3 + [later] * 3).steady is steady


def test_pairs_are_in_random_order_each_first_in_half() -> None:
    order: list[str] = []

    def time_one(name: str, seconds: float) -> float:
        order.append(name)
        return seconds

    times = time_pairs(lambda: time_one("a", 1.0), lambda: time_one("b", 3.0), n_pairs=40, seed=5)
    assert times.a_s.tolist() == [1.0] * 40
    assert times.b_s.tolist() == [3.0] * 40
    pairs = list(zip(order[::2], order[1::2], strict=True))
    assert [first == "a" for first, _ in pairs] == times.a_first.tolist()
    assert all(first != second for first, second in pairs)
    assert times.a_first.sum() == 20
    assert len(set(np.diff(times.a_first.astype(int)).tolist())) == 3  # neither in turn nor in two blocks
    again = time_pairs(lambda: 1.0, lambda: 1.0, n_pairs=40, seed=5)
    assert again.a_first.tolist() == times.a_first.tolist()


def test_the_ratio_is_of_pairs_so_that_a_slow_minute_meets_both() -> None:
    slow_minute = np.array([1.0] * 10 + [7.0] * 10)
    ratio = ratio_of_pairs(3.0 * slow_minute * np.tile([0.99, 1.01], 10), slow_minute, seed=0)
    assert ratio.value == pytest.approx(3.0)
    assert ratio.interval_95 is not None
    low, high = ratio.interval_95
    assert 2.97 - 1e-9 <= low <= 3.0 <= high <= 3.03 + 1e-9
    assert len(ratio.ratios) == 20


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    """Of 400 experiments of 20 pairs; 88% would be 4.5 standard errors below 95%."""
    rng = np.random.default_rng(3)
    held = 0
    for seed in range(400):
        slower, faster = 2 * np.exp(rng.normal(0, 0.1, 20)), np.exp(rng.normal(0, 0.1, 20))
        interval = ratio_of_pairs(slower, faster, seed=seed, resamples=500).interval_95
        assert interval is not None
        held += interval[0] <= 2 <= interval[1]
    assert 0.88 < held / 400 < 0.99


def test_few_or_equal_pairs_have_no_interval_and_say_why() -> None:
    few = ratio_of_pairs(np.array([4.0, 5.0, 6.0]), np.array([2.0, 2.0, 2.0]), seed=0)
    assert (few.value, few.interval_95) == (2.5, None)
    assert few.why_no_interval == f"3 pairs are too few to resample: it takes {FEWEST_PAIRS}"
    equal = ratio_of_pairs(np.full(9, 4.0), np.full(9, 2.0), seed=0)
    assert (equal.value, equal.interval_95) == (2.0, None)
    assert "same ratio" in equal.why_no_interval


@pytest.mark.parametrize("bad", [[], [0.0], [-1.0], [float("nan")], [float("inf")]])
def test_what_is_no_time_has_no_ratio(bad: list[float]) -> None:
    with pytest.raises(SeqassayError, match="seconds above 0"):
        ratio_of_pairs(np.array(bad), np.ones(len(bad)), seed=0)
