"""Speed and memory of a language model: latency, throughput, scaling over batch sizes, peak memory.

What is timed is a scoring pass: token ids on the device to the log-probability of every next token, logits over the
whole vocabulary in chunks, as perplexity is worked out. Every run goes into one `MetricsLog`, which figures come from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
import torch

from seqassay.errors import ResourceError, UsageError, is_out_of_memory
from seqassay.measure.clock import DeviceClock, FloatArray, warm_until_steady
from seqassay.measure.metrics_log import MetricsLog
from seqassay.measure.progress import RunProgress
from seqassay.models.attention import PackedLayout
from seqassay.models.causal_lm import CausalLm
from seqassay.models.lm_loss import CHUNK_BYTES, target_log_probs
from seqassay.prove.lm.settings import LmEvaluateSettings, Shape, shape_name
from seqassay.prove.speed.figures import check_share_of_peak, figure, undefined
from seqassay.prove.speed.memory import available_host_bytes
from seqassay.prove.speed.peak import METHOD as PEAK_METHOD
from seqassay.prove.speed.peak import Peak

DEFAULT_LATENCY_SHAPES: tuple[Shape, ...] = ((1, 128), (1, 512))
DEFAULT_THROUGHPUT_SHAPE: Shape = (32, 512)
DEFAULT_SCALING_LENGTH = 128
FEWEST_FOR_P95, FEWEST_FOR_P99 = 20, 100  # runs, below which the percentile is hardly more than the slowest run
_SLICES, _FEWEST_SLICES = 10, 3
_WARM_LIMIT_S = 5.0  # of runs for one shape to become steady, beyond the warm-ups asked for
_SCALING_WARM_UPS = 2
_BUSY_SHARE = 0.5  # of the cores, taken by others, above which the record says so
_PEAK_ATTEMPTS = 3
_STATES_AT_ONCE = 4  # tensors of hidden width that live at the same time, at least
METHOD = {
    "run": "a scoring pass: token ids on the device to the log-probability of every next token; logits over the whole "
    "vocabulary, in chunks",
    "tokens": "random, evenly drawn from the vocabulary, the same in every run",
    "clock": "monotonic (perf_counter_ns), the device synchronised before and after every run",
    "latency": "every shape by itself: warm-ups, runs until medians of two windows of 3 differ by under 2% or 5 s are "
    "over, then the timed runs; percentiles interpolate between runs",
    "throughput": "one shape over and over: all tokens over all seconds, the spread over slices of a tenth of the time",
    "scaling": "batch sizes in turns, one run of each a round; speed-up: median over rounds of the tokens a second "
    "over those of the smallest batch",
    "memory": "peak of fresh processes that load the model and run once",
    "flop": "counted from shapes: 2·m·k·n for each matrix product, head included, causal attention half of the square",
    "model_flop_utilisation": "operations a second over the best rate of plain float32 matrix products on this device "
    "in this evaluation",
    "peak": f"{PEAK_METHOD.partition(';')[0]}; measured before latency and before throughput, and again where a run "
    "came out above it",
}


@dataclass(frozen=True, slots=True)
class Shapes:
    """What is measured, and why some of it is not what the defaults say."""

    latency: tuple[Shape, ...]
    throughput: Shape
    scaling_length: int
    memory: Shape
    notes: tuple[str, ...]


def shapes_of(settings: LmEvaluateSettings, context_tokens: int) -> Shapes:
    """The shapes to measure, none longer than the context; defaults that are too long are left out, with a note.

    Raises:
        UsageError: a shape that was asked for is longer than the model's context.
    """
    asked = [*(settings.latency_shapes or ()), settings.throughput_shape, settings.memory_shape]
    if settings.scaling_length is not None:
        asked.append((1, settings.scaling_length))
    for shape in asked:
        if shape is not None and shape[1] > context_tokens:
            raise UsageError(
                f"{shape_name(shape)} has sequences of {shape[1]:,} tokens; the model was made for {context_tokens:,}",
                hint="measure shorter ones",
            )
    parts, notes = settings.profiled_parts, []
    latency = settings.latency_shapes
    if latency is None:
        latency = tuple(shape for shape in DEFAULT_LATENCY_SHAPES if shape[1] <= context_tokens)
        left_out = [shape_name(shape) for shape in DEFAULT_LATENCY_SHAPES if shape not in latency]
        if not latency:
            latency = ((1, context_tokens),)
        if left_out and "latency" in parts:
            notes.append(
                f"latency of {' and '.join(left_out)} is left out: the context is {context_tokens:,} tokens"
                + (f"; {shape_name(latency[0])} is measured instead" if latency[0][1] == context_tokens else "")
            )
    throughput = settings.throughput_shape
    if throughput is None:
        throughput = (DEFAULT_THROUGHPUT_SHAPE[0], min(DEFAULT_THROUGHPUT_SHAPE[1], context_tokens))
        if throughput != DEFAULT_THROUGHPUT_SHAPE and {"throughput", "memory"} & set(parts):
            notes.append(
                f"throughput and memory are those of {shape_name(throughput)}, not of "
                f"{shape_name(DEFAULT_THROUGHPUT_SHAPE)}: the context is {context_tokens:,} tokens"
            )
    length = settings.scaling_length or min(DEFAULT_SCALING_LENGTH, context_tokens)
    return Shapes(latency, throughput, length, settings.memory_shape or throughput, tuple(notes))


class LmBench:
    """Scoring passes of one model, timed by one clock, every run kept in one log."""

    def __init__(self, model: CausalLm, device: torch.device, progress: RunProgress) -> None:
        self.model, self.device, self.progress = model, device, progress
        self.clock, self.log = DeviceClock.of(device), MetricsLog()
        self.peak = Peak(device, torch.float32)

    def run_of(self, shape: Shape) -> Callable[[], object]:
        """The scoring pass of a shape.

        Raises:
            ResourceError: its hidden states alone do not fit into memory.
        """
        check_shape_fits(self.model, shape, self.device)
        batch, length = shape
        tokens = np.random.default_rng(0).integers(0, self.model.config.vocab_size, batch * length)
        tokens_T = torch.from_numpy(tokens).to(self.device)
        targets_T = tokens_T.roll(-1)
        layout = PackedLayout.from_lengths([length] * batch, self.device)

        def run() -> object:
            with torch.no_grad():
                return target_log_probs(self.model, self.model(tokens_T, layout), targets_T)

        return run

    def timer(self, shape: Shape, part: str) -> Callable[[str], float]:
        """Times one run of a shape, and keeps it under the phase that it is told."""
        run, name = self.run_of(shape), shape_name(shape)

        def time_once(phase: str) -> float:
            with out_of_memory(shape):
                seconds = self.clock.time_s(run)
            self.log.add({"seconds": seconds}, part=part, shape=name, phase=phase)
            return seconds

        return time_once

    def warm(self, time_once: Callable[[str], float], warm_ups: int) -> dict[str, Any]:
        """Warm-ups, and further ones until times are steady."""
        before = [time_once("warm-up") for _ in range(warm_ups)]
        more = warm_until_steady(lambda: time_once("warm-up"), limit_s=_WARM_LIMIT_S, before=before)
        return {"runs": len(before) + len(more.seconds), "steady": more.steady}

    def measure_peak(self) -> None:
        """The device's best rate, in the same minutes as what is held against it."""
        self.progress.begin_part("the device's peak", "runs", None)
        self.peak.measure(self.clock)

    def utilisation(self, shape: Shape, seconds: Sequence[float] | FloatArray, value_s: float) -> dict[str, Any]:
        """Model FLOP utilisation of runs; the device's peak is measured again where a run came out above it.

        Raises:
            SeqassayError: a run did more than the device's peak, however often that was measured.
        """
        flop = self.model.flops([shape[1]] * shape[0])
        runs_s = np.asarray(seconds, np.float64)
        for _ in range(_PEAK_ATTEMPTS):
            if flop / float(runs_s.min()) > self.peak.flop_per_s:
                self.peak.measure(self.clock)
        share = figure(flop / runs_s / self.peak.flop_per_s, flop / value_s / self.peak.flop_per_s)
        check_share_of_peak(share)
        return share


@contextmanager
def out_of_memory(shape: Shape) -> Iterator[None]:
    """Memory that runs out as what the user can act on.

    Raises:
        ResourceError: a shape does not fit.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise _does_not_fit(shape) from error


def _does_not_fit(shape: Shape) -> ResourceError:
    return ResourceError(
        f"out of memory with {shape[0]:,} sequences of {shape[1]:,} tokens",
        hint="measure a smaller shape (--latency-shapes, --throughput-shape, --scaling-batches), or leave the part out",
    )


def check_shape_fits(model: CausalLm, shape: Shape, device: torch.device) -> None:
    """The hidden states of a shape fit; Linux grants more memory than it has and ends the process that uses it.

    Raises:
        ResourceError: they do not.
    """
    wanted = shape[0] * shape[1] * (4 * _STATES_AT_ONCE * model.config.d_model + 16) + CHUNK_BYTES
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_host_bytes()
    if wanted > free:
        raise _does_not_fit(shape)


def measure_latency(bench: LmBench, settings: LmEvaluateSettings, shapes: Sequence[Shape]) -> list[dict[str, Any]]:
    """Latency of every shape: mean with its spread, median, percentiles."""
    found = []
    bench.measure_peak()
    for shape in shapes:
        name = shape_name(shape)
        bench.progress.begin_part(f"latency of {name}", "runs", settings.latency_runs)
        time_once = bench.timer(shape, "latency")
        warm_up = bench.warm(time_once, settings.latency_warm_ups)
        for _ in range(settings.latency_runs):
            time_once("timed")
            bench.progress.done_sequences += 1
        seconds = bench.log.values("seconds", part="latency", shape=name, phase="timed")
        found.append(_latency(bench, shape, warm_up, seconds))
    return found


def _latency(bench: LmBench, shape: Shape, warm_up: Mapping[str, Any], seconds: Sequence[float]) -> dict[str, Any]:
    in_ms = np.asarray(seconds, np.float64) * 1e3
    mean_s = float(in_ms.mean()) / 1e3
    n_tokens = shape[0] * shape[1]
    median, p95, p99 = (float(x) for x in np.percentile(in_ms, (50, 95, 99)))
    return {
        **_said(shape),
        "latency_ms": figure(in_ms, float(in_ms.mean())),
        "median_ms": median,
        "p95_ms": p95 if len(in_ms) >= FEWEST_FOR_P95 else None,
        "p99_ms": p99 if len(in_ms) >= FEWEST_FOR_P99 else None,
        "tokens_per_s": figure(n_tokens / np.asarray(seconds), n_tokens / mean_s),
        "model_flop_utilisation": bench.utilisation(shape, seconds, mean_s),
        "device_peak_flop_per_s": bench.peak.flop_per_s,
        "warm_up": dict(warm_up),
        "samples_ms": in_ms.tolist(),
    }


def measure_throughput(bench: LmBench, settings: LmEvaluateSettings, shape: Shape) -> dict[str, Any]:
    """Tokens and sequences a second over a duration, with the spread over its slices."""
    name = shape_name(shape)
    bench.measure_peak()
    bench.progress.begin_part(f"throughput of {name}", "sequences", None)
    warm_up = bench.warm(bench.timer(shape, "throughput"), 1)
    run_s = bench.log.values("seconds", part="throughput", shape=name, phase="warm-up")[-1]
    run = bench.run_of(shape)
    n_runs = max(1, round(settings.throughput_s / _SLICES / run_s))

    def run_slice() -> None:
        for _ in range(n_runs):
            run()

    seconds: list[float] = []
    while sum(seconds) < settings.throughput_s or len(seconds) < _FEWEST_SLICES:
        with out_of_memory(shape):
            seconds.append(bench.clock.time_s(run_slice))
        bench.log.add({"seconds": seconds[-1], "runs": n_runs}, part="throughput", shape=name, phase="timed")
        bench.progress.done_sequences += n_runs * shape[0]
    slices_s, total_s = np.asarray(seconds), math.fsum(seconds)
    n_sequences = n_runs * shape[0]

    def rate(amount: int) -> dict[str, Any]:
        return figure(amount / slices_s, amount * len(slices_s) / total_s)

    return {
        **_said(shape),
        "duration_s": total_s,
        "runs": n_runs * len(seconds),
        "runs_per_slice": n_runs,
        "tokens_per_s": rate(n_sequences * shape[1]),
        "sequences_per_s": rate(n_sequences),
        "model_flop_utilisation": bench.utilisation(shape, slices_s / n_runs, total_s / n_runs / len(seconds)),
        "device_peak_flop_per_s": bench.peak.flop_per_s,
        "warm_up": warm_up,
        "slices_s": seconds,
    }


def measure_scaling(bench: LmBench, settings: LmEvaluateSettings, length: int) -> list[dict[str, Any]]:
    """Latency and rate over batch sizes, in turns; one that does not fit ends the list, and says so."""
    bench.progress.begin_part("scaling over batch sizes", "rounds", settings.scaling_runs)
    shapes = [(batch, length) for batch in sorted(settings.scaling_batches)]
    timers: dict[Shape, Callable[[str], float]] = {}
    too_large: dict[Shape, str] = {}
    for shape in shapes:
        try:
            timer = bench.timer(shape, "scaling")
            for _ in range(_SCALING_WARM_UPS):
                timer("warm-up")
        except ResourceError as error:
            if not timers:
                raise
            too_large = dict.fromkeys(shapes[len(timers) :], error.message)
            break
        timers[shape] = timer
    for _ in range(settings.scaling_runs):
        for timer in timers.values():
            timer("timed")
        bench.progress.done_sequences += 1
    times_s = {
        shape: np.asarray(bench.log.values("seconds", part="scaling", shape=shape_name(shape), phase="timed"))
        for shape in timers
    }
    per_token = {shape: seconds / (shape[0] * length) for shape, seconds in times_s.items()}
    smallest = per_token[shapes[0]]
    found: list[dict[str, Any]] = []
    for shape, seconds in times_s.items():
        mean_s, speed_ups = float(seconds.mean()), smallest / per_token[shape]
        n_tokens = shape[0] * length
        found.append(
            {
                **_said(shape),
                "latency_ms": figure(seconds * 1e3, mean_s * 1e3),
                "tokens_per_s": figure(n_tokens / seconds, n_tokens / mean_s),
                "speed_up": figure(speed_ups, float(np.median(speed_ups))),
                "samples_ms": (seconds * 1e3).tolist(),
            }
        )
    for shape, why in too_large.items():
        missing = {name: undefined(why) for name in ("latency_ms", "tokens_per_s", "speed_up")}
        found.append({**_said(shape), **missing, "samples_ms": []})
    return found


def _said(shape: Shape) -> dict[str, Any]:
    return {"shape": shape_name(shape), "batch": shape[0], "length_tokens": shape[1]}


def busy_note(load_average: float) -> str | None:
    """What to mind when others were at work on the machine before the profiling began."""
    cores = len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else psutil.cpu_count()
    if not cores or load_average <= _BUSY_SHARE * cores:
        return None
    return (
        f"the machine was busy when the profiling began (load average {load_average:.1f} on {cores} cores): times are "
        "longer than on a quiet one"
    )
