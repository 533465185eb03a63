"""`seqassay benchmark speed`: the steps from two encoders' names to a record and a report."""

from __future__ import annotations

import time
from typing import Any

import psutil

from seqassay.engine.precision import resolve, resolve_device
from seqassay.errors import ModelError, ResourceError
from seqassay.measure.clock import DeviceClock, PairedTimes
from seqassay.measure.progress import RunProgress
from seqassay.measure.provenance import device_name
from seqassay.prove.outputs import check_place, only_outputs, write_report_and_record
from seqassay.prove.speed.build import Times, build_record
from seqassay.prove.speed.encoders import (
    Opened,
    Wanted,
    check_random_is_used,
    find_baseline,
    find_candidate,
    open_encoder,
)
from seqassay.prove.speed.measuring import Bench, Measured, passes
from seqassay.prove.speed.peak import Peak
from seqassay.prove.speed.record import check_record
from seqassay.prove.speed.sequences import make_workload
from seqassay.prove.speed.settings import SpeedSettings
from seqassay.prove.speed.verdict import CANDIDATE_ONLY
from seqassay.report.speed import speed_report

REPORT = "speed_benchmark.md"


def benchmark_speed(settings: SpeedSettings, *, progress: RunProgress | None = None) -> dict[str, Any]:
    """Measure both encoders on the same sequences, and write what was found; returns the record (``metrics.json``).

    A baseline that cannot be loaded, or that does not fit into memory, is skipped, and the verdict is UNDECIDED.

    Raises:
        UsageError: settings that cannot work, an encoder that nobody knows, something in the output folder's way.
        InputError: bad sequences; names file, record and line.
        ModelError: a candidate that cannot be used.
        ResourceError: a candidate that does not fit into memory; a full disk.
    """
    began = time.monotonic()
    progress = progress or RunProgress(unit="passes")
    check_place(settings.output_dir, force=settings.force, what="benchmark")
    check_random_is_used(settings)
    device = resolve_device(settings.device)
    clock = DeviceClock.of(device)
    for precision in {settings.precision, settings.baseline_precision or settings.precision}:
        resolve(device, precision)
    wanted = find_candidate(settings)
    baseline_wanted = CANDIDATE_ONLY if settings.candidate_only else find_baseline(settings)
    progress.stage = "reading the sequences"
    workload = make_workload(settings)
    load_before = psutil.getloadavg()[0]

    bench = Bench(workload.residues, clock, progress)
    progress.stage = f"loading {wanted.name}"
    candidate_opened = open_encoder(wanted, settings)
    baseline_opened = _open_baseline(baseline_wanted, settings, progress)
    progress.total_sequences = passes(
        warm_ups=settings.warm_ups,
        runs=settings.runs,
        pairs=settings.pairs,
        with_baseline=isinstance(baseline_opened, Opened),
    )
    progress.begin_work()
    candidate = bench.first_call(candidate_opened)
    baseline = _first_call_of_baseline(bench, baseline_opened)
    del baseline_opened  # one that is skipped gives its memory back
    peaks = _peaks(candidate, baseline)
    _measure_peaks(peaks, clock, progress)
    bench.classic(candidate, warm_ups=settings.warm_ups, runs=settings.runs)
    pairs: PairedTimes | None = None
    if isinstance(baseline, Measured):
        bench.classic(baseline, warm_ups=settings.warm_ups, runs=settings.runs)
        pairs = bench.pairs(candidate, baseline, n_pairs=settings.pairs, seed=settings.seed)
        bench.check_last(baseline)
    bench.check_last(candidate)
    _measure_peaks(peaks, clock, progress)

    progress.stage = "writing"
    times = Times(candidate, baseline, pairs, [*peaks.values()], load_before)
    record = build_record(settings, workload, device_name(device), times)
    record["wall_s"] = round(time.monotonic() - began, 3)
    check_record(record)
    with only_outputs(settings.output_dir, force=settings.force, what="benchmark"):
        write_report_and_record(settings.output_dir, REPORT, speed_report(record), record)
    return record


def _open_baseline(wanted: Wanted | str, settings: SpeedSettings, progress: RunProgress) -> Opened | str:
    """The baseline on its device, or why it is not."""
    if isinstance(wanted, str):
        return wanted
    progress.stage = f"loading {wanted.name}"
    try:
        return open_encoder(wanted, settings)
    except (ModelError, ResourceError) as error:
        return error.message


def _first_call_of_baseline(bench: Bench, opened: Opened | str) -> Measured | str:
    """Its first call, or why there is none."""
    if isinstance(opened, str):
        return opened
    try:
        return bench.first_call(opened)
    except ResourceError as error:
        return error.message


def _peaks(candidate: Measured, baseline: Measured | str) -> dict[str, Peak]:
    """One peak for every number format in use, by its name."""
    embedders = [m.opened.embedder for m in (candidate, baseline) if isinstance(m, Measured)]
    return {str(e.precision.dtype): Peak(e.device, e.precision.dtype) for e in embedders}


def _measure_peaks(peaks: dict[str, Peak], clock: DeviceClock, progress: RunProgress) -> None:
    progress.stage = "the device's peak"
    for peak in peaks.values():
        peak.measure(clock)
