"""One run of a benchmark in a process of its own: ``python -m seqassay.prove.pipeline.child JOB.json``.

A fresh process has its own peak of memory, its own threads and nothing warm from the run before. It may use as many
cores as the job says. It runs once on a few sequences, so that compilers and first calls are over, then takes the time
of the whole work, its models' loading included, and measures the device's peak last, when memory no longer counts.

Its standard input ends when its parent does, however that ends; then it ends as well.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqassay.prove.child_process import end_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable

_MORE_ROOM = "make room, or choose a smaller --batch or --shard-size"


def main() -> None:
    """Do the job and write what came out beside it; a failure the user can act on is part of that."""
    end_with_parent()
    path = Path(sys.argv[1])
    job = json.loads(path.read_text(encoding="utf-8"))
    if job["cores"] is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job["cores"]])
    result = run_job(job)
    Path(job["result"]).write_text(json.dumps(result), encoding="utf-8")


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """Seconds of the warm-up and of the run, or what went wrong."""
    from seqassay.durable import disk_errors
    from seqassay.errors import ResourceError, SeqassayError

    try:
        with disk_errors():
            measured = _reference(job) if job["kind"] == "reference" else _predict(job)
    except SeqassayError as error:
        # its hint says how to go on with that one run, whose folder will be gone
        hint = _MORE_ROOM if isinstance(error, ResourceError) else ""
        return {"error": error.message, "hint": hint, "exit_code": error.exit_code}
    except MemoryError:
        return {"error": "out of memory", "hint": _MORE_ROOM, "exit_code": ResourceError.exit_code}
    return measured


def _predict(job: dict[str, Any]) -> dict[str, Any]:
    from dataclasses import replace

    from seqassay.config import PredictSettings, resolve_settings
    from seqassay.predict.run import predict

    settings = resolve_settings(PredictSettings, job["settings"], {})
    few = replace(
        settings, inputs=(job["few"],), pairing="none", output_dir=settings.output_dir.with_name("warm"), force=True
    )
    warm_up_s = _seconds(lambda: predict(few))
    seconds = _seconds(lambda: predict(settings))
    return {"warm_up_s": warm_up_s, "seconds": seconds, "peak": _peak(settings) if job["peak"] else None}


def _peak(settings: Any) -> dict[str, Any]:
    """The best matrix product of the device in this process, in the run's own number format."""
    from seqassay.engine.precision import resolve, resolve_device
    from seqassay.measure.clock import DeviceClock
    from seqassay.models.bundle import load_bundle
    from seqassay.prove.speed.peak import Peak

    device = resolve_device(settings.device)
    precision = settings.precision or load_bundle(settings.model).precision
    peak = Peak(device, resolve(device, precision).dtype)
    peak.measure(DeviceClock.of(device))
    return peak.as_record()


def _reference(job: dict[str, Any]) -> dict[str, Any]:
    import torch

    from seqassay.prove.pipeline.reference_files import ReferenceFiles
    from seqassay.prove.pipeline.reference_procedure import run_reference

    if job["threads"] is not None:
        torch.set_num_threads(job["threads"])
    paths = {name: Path(path) for name, path in job["paths"].items()}
    files = ReferenceFiles(dnabert_heads=job["dnabert_heads"], **paths)
    options = {"chunk_length": job["chunk_length"], "chunk_rule": job["chunk_rule"]}
    folder = Path(job["folder"])
    warm_up_s = _seconds(lambda: run_reference(Path(job["few"]), files, folder, **options))
    seconds = _seconds(lambda: run_reference(Path(job["fasta"]), files, folder, **options))
    return {"warm_up_s": warm_up_s, "seconds": seconds, "peak": None}


def _seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
