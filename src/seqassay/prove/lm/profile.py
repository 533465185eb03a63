"""Profiling of a language model as a whole: its parts one after the other, each kept when it is finished."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil
import torch

from seqassay.measure.metrics_log import MetricsLog
from seqassay.measure.progress import RunProgress
from seqassay.prove.lm.inputs import Checkpoint
from seqassay.prove.lm.memory import measure_memory
from seqassay.prove.lm.pieces import Pieces
from seqassay.prove.lm.profiling import (
    METHOD,
    LmBench,
    Shapes,
    busy_note,
    measure_latency,
    measure_scaling,
    measure_throughput,
    shapes_of,
)
from seqassay.prove.lm.settings import LmEvaluateSettings


@dataclass(frozen=True, slots=True)
class LmProfile:
    """What a profiling found.

    Attributes:
        record: method, latency, throughput, scaling, memory (None where a part was left out), notes.
        log: every run.
    """

    record: dict[str, Any]
    log: MetricsLog


def profile_lm(
    checkpoint: Checkpoint,
    settings: LmEvaluateSettings,
    device: torch.device,
    *,
    progress: RunProgress | None = None,
    pieces: Pieces | None = None,
) -> LmProfile:
    """Measure the parts that the settings ask for, on the checkpoint's model, which is on the device.

    Args:
        pieces: where finished parts are kept, and those of a stopped evaluation are.

    Raises:
        UsageError: a shape longer than the context was asked for.
        ResourceError: a shape does not fit into memory.
        SeqassayError: an impossible figure.
    """
    progress = progress or RunProgress(unit="runs")
    model = checkpoint.folder.model
    shapes = shapes_of(settings, model.config.context)
    bench = LmBench(model, device, progress)
    log = MetricsLog()
    load_before = psutil.getloadavg()[0]
    parts: dict[str, Callable[[], Any]] = {
        "latency": lambda: measure_latency(bench, settings, shapes.latency),
        "throughput": lambda: measure_throughput(bench, settings, shapes.throughput),
        "scaling": lambda: measure_scaling(bench, settings, shapes.scaling_length),
        "memory": lambda: measure_memory(
            checkpoint.folder.path, model, settings, shapes.memory, device, bench.log, progress
        ),
    }
    record: dict[str, Any] = {"method": METHOD, "number_format": "float32"}
    for name, measure in parts.items():
        if name not in settings.profiled_parts:
            record[name] = None
            continue

        def make(name: str = name, measure: Callable[[], Any] = measure) -> dict[str, Any]:
            found = measure()
            return {"found": found, "runs": bench.log.rows(part=name)}

        made = make() if pieces is None else pieces.get(name, make)
        record[name] = made["found"]
        log.extend(MetricsLog(made["runs"]))
    record["notes"] = _notes(record, shapes, load_before)
    return LmProfile(record, log)


def _notes(record: dict[str, Any], shapes: Shapes, load_before: float) -> list[str]:
    notes = [*shapes.notes, *filter(None, [busy_note(load_before)])]
    measured = [*(record["latency"] or ()), *filter(None, [record["throughput"]])]
    unsteady = [entry["shape"] for entry in measured if not entry["warm_up"]["steady"]]
    if unsteady:
        names = ", ".join(dict.fromkeys(unsteady))
        notes.append(f"runs of {names} never became steady: medians of windows of 3 went on differing by 2% and more")
    too_large = [entry["shape"] for entry in record["scaling"] or () if entry["latency_ms"]["value"] is None]
    if too_large:
        notes.append(f"scaling: out of memory from {too_large[0]} on")
    return notes
