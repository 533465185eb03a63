"""Times that hold: the device is waited for, the clock never runs backwards, every sample is kept.

- A **time** is from a device that has nothing left to do to a device that has done all of it: a kernel on CUDA returns
  before its work is done, so both ends wait (`DeviceClock`).
- **Warm** is when the medians of two consecutive windows of runs differ by under 2% (`warm_until_steady`).
- A **ratio** is of two runs side by side: what else the machine does meets both. Pairs are timed in random order, each
  gives one ratio, and the median of these has a bootstrap interval over pairs (`time_pairs`, `ratio_of_pairs`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from seqassay.errors import SeqassayError

Run = Callable[[], object]
Result = TypeVar("Result")
FloatArray = npt.NDArray[np.float64]

WINDOW = 3  # runs whose medians are compared while warming
STEADY = 0.02  # relative difference of those medians below which a run counts as warm
FEWEST_PAIRS = 6  # with fewer, not even all of them on one side of a limit happen by chance in under 5% (2 / 2**6)
RESAMPLES = 10_000
_NS = 1e-9


def _nothing_to_wait_for() -> None:
    """On the CPU a call returns when its work is done."""


@dataclass(frozen=True, slots=True)
class DeviceClock:
    """Monotonic time of a device's work.

    Attributes:
        synchronize: returns when the device has done all that it was given.
        now_ns: a monotonic clock, in nanoseconds.
    """

    synchronize: Callable[[], None] = _nothing_to_wait_for
    now_ns: Callable[[], int] = time.perf_counter_ns

    @classmethod
    def of(cls, device: torch.device) -> DeviceClock:
        """The clock of a CPU or CUDA device."""
        if device.type == "cuda":
            return cls(synchronize=lambda: torch.cuda.synchronize(device))
        return cls()

    def time_s(self, run: Run) -> float:
        """Seconds that ``run`` takes, from an idle device to an idle device.

        Raises:
            SeqassayError: the clock ran backwards, or stood still: then it measures nothing.
        """
        return self.timed(run)[1]

    def timed(self, run: Callable[[], Result]) -> tuple[Result, float]:
        """What ``run`` returns, and the seconds of `time_s`."""
        self.synchronize()
        began = self.now_ns()
        result = run()
        self.synchronize()
        took_ns = self.now_ns() - began
        if took_ns <= 0:
            raise SeqassayError(
                f"the clock of this machine moved by {took_ns} ns during a run: it cannot time anything"
            )
        return result, took_ns * _NS


@dataclass(frozen=True, slots=True)
class WarmUp:
    """Runs before the measured ones, in seconds, and whether they had become steady."""

    seconds: tuple[float, ...]
    steady: bool


def warm_until_steady(
    time_once: Callable[[], float],
    *,
    limit_s: float,
    before: Sequence[float] = (),
    window: int = WINDOW,
    tolerance: float = STEADY,
) -> WarmUp:
    """Run until the medians of the last two windows of runs differ by less than ``tolerance`` of the later one.

    Args:
        time_once: runs once and returns the seconds it took.
        limit_s: no window is begun when the runs of this call took so long together.
        before: times of runs that came just before; where they are steady already, nothing is run.

    Returns:
        The runs of this call, without those before.
    """
    seconds: list[float] = []
    while True:
        steady = _is_steady([*before, *seconds], window, tolerance)
        if steady or sum(seconds) >= limit_s:
            return WarmUp(tuple(seconds), steady)
        seconds += [time_once() for _ in range(window)]


def _is_steady(seconds: Sequence[float], window: int, tolerance: float) -> bool:
    if len(seconds) < 2 * window:
        return False
    earlier, later = np.median([seconds[-2 * window : -window], seconds[-window:]], axis=1).tolist()
    return bool(abs(earlier - later) < tolerance * later)


@dataclass(frozen=True, slots=True)
class PairedTimes:
    """Seconds of two things timed side by side: ``float64[n]`` each; ``a_first[i]``: whether ``a`` came first."""

    a_s: FloatArray
    b_s: FloatArray
    a_first: npt.NDArray[np.bool_]


def time_pairs(time_a: Callable[[], float], time_b: Callable[[], float], *, n_pairs: int, seed: int) -> PairedTimes:
    """Time ``a`` and ``b`` one after the other, ``n_pairs`` times; which comes first is random, each in half the pairs.

    Args:
        time_a, time_b: run once and return the seconds it took.
    """
    a_first = np.random.default_rng(seed).permutation(np.arange(n_pairs) % 2 == 0)
    a_s, b_s = np.empty(n_pairs), np.empty(n_pairs)
    for i, goes_first in enumerate(a_first):
        if goes_first:
            a_s[i] = time_a()
            b_s[i] = time_b()
        else:
            b_s[i] = time_b()
            a_s[i] = time_a()
    return PairedTimes(a_s, b_s, a_first)


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as long one of two things takes as the other.

    Attributes:
        value: the median over pairs.
        interval_95: None where ``why_no_interval`` says why.
        ratios: of every pair.
    """

    value: float
    interval_95: tuple[float, float] | None
    ratios: FloatArray
    why_no_interval: str = ""


def ratio_of_pairs(slower_s: FloatArray, faster_s: FloatArray, *, seed: int, resamples: int = RESAMPLES) -> Ratio:
    """The median of the pairs' ratios ``slower / faster``, and its 95% percentile bootstrap interval over pairs.

    Ends of the interval are medians of samples that came up, the outer ones where the percentile lies between two.

    Raises:
        SeqassayError: a time that is none (not finite, not above 0).
    """
    times = np.stack([slower_s, faster_s])
    if not times.size or not np.isfinite(times).all() or times.min() <= 0:
        raise SeqassayError("a ratio of times needs pairs of seconds above 0")
    ratios = times[0] / times[1]
    value = float(np.median(ratios))
    if len(ratios) < FEWEST_PAIRS:
        why = f"{len(ratios)} pairs are too few to resample: it takes {FEWEST_PAIRS}"
        return Ratio(value, None, ratios, why)
    if ratios.min() == ratios.max():
        return Ratio(value, None, ratios, "all pairs gave the same ratio: resampling cannot tell how far off it may be")
    drawn = np.random.default_rng(seed).integers(len(ratios), size=(resamples, len(ratios)))
    medians = np.median(ratios[drawn], axis=1)
    low = float(np.percentile(medians, 2.5, method="lower"))
    high = float(np.percentile(medians, 97.5, method="higher"))
    return Ratio(value, (low, high), ratios)
