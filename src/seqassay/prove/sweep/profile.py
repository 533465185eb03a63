"""Latency, throughput and memory of a sweep's finalists, side by side, so that no moment of the machine decides.

Models of one seed are measured together, in turns: one is no slower than another because somebody else was at work
when its turn came. Timing is that of `lm evaluate`.
"""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from seqassay.config import settings_as_json
from seqassay.engine.precision import resolve_device
from seqassay.measure.metrics_log import MetricsLog
from seqassay.measure.progress import RunProgress
from seqassay.measure.provenance import device_name, utc_now
from seqassay.prove.lm.inputs import open_model
from seqassay.prove.lm.memory import measure_memory
from seqassay.prove.lm.profiling import LmBench, shapes_of
from seqassay.prove.lm.settings import LmEvaluateSettings, Shape, shape_name
from seqassay.prove.sweep.plan import Task
from seqassay.prove.sweep.results import Run
from seqassay.train.output_folder import read_json, write_json

PROFILE_FILE = "profile.json"
_ROUNDS = 10
METHOD = (
    f"models of one seed in turns, {_ROUNDS} rounds in an order drawn anew each time, one run before those that are "
    "timed in each turn; latency: mean and sd over the runs; throughput: tokens over seconds; memory: peak of fresh "
    "processes that load the model and make one scoring pass"
)


def profile_finalists(
    finals: Sequence[tuple[Task, Run]], settings: LmEvaluateSettings, folder: Path, progress: RunProgress
) -> list[Run]:
    """The final runs with figures of speed and memory; what was measured of the same runs before is taken over.

    Args:
        settings: shapes, numbers of runs, and which parts are skipped.
        folder: of `PROFILE_FILE`.

    Raises:
        UsageError: a shape is longer than a model's context.
        ResourceError: a shape does not fit into memory.
    """
    done = [(task, run) for task, run in finals if run.status == "done"]
    parts = [part for part in settings.profiled_parts if part != "scaling"]
    if not done or not parts:
        return [run for _, run in finals]
    device = resolve_device(settings.device)
    asked = {name: settings_as_json(settings)[name] for name in _ASKED}
    identity = {"runs": [task.name for task, _ in done], "device": device_name(device), "parts": parts, **asked}
    identity = json.loads(json.dumps(identity))  # shapes are tuples here, lists in the file
    place = folder / PROFILE_FILE
    said = read_json(place) if place.is_file() else {}
    if said.get("identity") != identity:
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        figures: dict[str, Any] = {}
        for seed in dict.fromkeys(task.seed for task, _ in done):
            figures |= _of_one_seed([task for task, _ in done if task.seed == seed], settings, device, parts, progress)
        said = {"identity": identity, "written_at": utc_now(), "method": METHOD, "figures": figures}
        write_json(place, said)
    measured: Mapping[str, Mapping[str, float | None]] = said["figures"]
    return [replace(run, figures={**run.figures, **measured.get(task.name, {})}) for task, run in finals]


_ASKED = (
    "latency_shapes", "latency_runs", "throughput_shape", "throughput_s", "memory_shape", "memory_runs", "threads",
)  # fmt: skip


def _of_one_seed(
    tasks: Sequence[Task],
    settings: LmEvaluateSettings,
    device: torch.device,
    parts: Sequence[str],
    progress: RunProgress,
) -> dict[str, dict[str, float | None]]:
    folders = {task.name: open_model(task.evaluate.checkpoint).folder for task in tasks}
    benches = {name: LmBench(folder.model.to(device), device, progress) for name, folder in folders.items()}
    shapes = {name: shapes_of(settings, bench.model.config.context) for name, bench in benches.items()}
    found: dict[str, dict[str, float | None]] = {name: {} for name in benches}
    rng = random.Random(tasks[0].seed)
    if "latency" in parts:
        progress.stage = f"latency of {len(tasks)} models in turns, seed {tasks[0].seed}"
        each = max(1, -(-settings.latency_runs // _ROUNDS))
        times = _in_turns(benches, {name: s.latency[0] for name, s in shapes.items()}, "latency", each, rng)
        for name, seconds in times.items():
            found[name] |= {
                "latency_ms": statistics.fmean(seconds) * 1e3,
                "latency_sd_ms": statistics.stdev(seconds) * 1e3,
            }
    if "throughput" in parts:
        progress.stage = f"throughput of {len(tasks)} models in turns, seed {tasks[0].seed}"
        shape = {name: s.throughput for name, s in shapes.items()}
        slowest = max(bench.clock.time_s(bench.run_of(shape[name])) for name, bench in benches.items())
        each = max(1, round(settings.throughput_s / _ROUNDS / slowest))
        times = _in_turns(benches, shape, "throughput", each, rng)
        for name, seconds in times.items():
            n_tokens = shape[name][0] * shape[name][1] * len(seconds)
            found[name]["throughput_tokens_per_s"] = n_tokens / sum(seconds)
    if "memory" in parts:
        for name, folder in folders.items():
            memory = measure_memory(
                folder.path, folder.model, settings, shapes[name].memory, device, MetricsLog(), progress
            )
            peak = memory["cuda_peak_allocated_bytes" if device.type == "cuda" else "peak_bytes"]
            found[name]["peak_memory_bytes"] = peak["value"]
    return found


def _in_turns(
    benches: Mapping[str, LmBench], shapes: Mapping[str, Shape], part: str, each: int, rng: random.Random
) -> dict[str, list[float]]:
    """Seconds of every timed run."""
    timers = {name: bench.timer(shapes[name], part) for name, bench in benches.items()}
    order = list(timers)
    for _ in range(_ROUNDS):
        rng.shuffle(order)
        for name in order:
            timers[name]("warm-up")
            for _ in range(each):
                timers[name]("timed")
    return {
        name: list(bench.log.values("seconds", part=part, shape=shape_name(shapes[name]), phase="timed"))
        for name, bench in benches.items()
    }
