"""Does telemetry cost `predict` at most 1% of its wall time?

    python benchmarks/telemetry.py [--reads 10000] [--pairs 20]

Telemetry is all that watches a run: the utilisation sampler with its timeline, and the progress reporter. So small a
share is measured in two ways.

**Directly**: processor seconds of telemetry's own calls, on the threads that make them (`time.thread_time`): the
sampler's, which it counts itself, the reporter's thread, and the reading of queue states and waits timed by itself.
What they take of one core is the most that they can take of the wall time. This holds under load.

**Paired**: the same work with telemetry and without, one after the other in one process, in random order, each pair one
ratio, and the median of the ratios with its 95% bootstrap interval. It sees everything, contention included, but on a
machine that does other work its interval may be wider than the limit; then the direct figure alone decides.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import queue
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console

import seqassay
from seqassay.config import PredictSettings
from seqassay.measure.clock import ratio_of_pairs, time_pairs
from seqassay.measure.progress import RunProgress
from seqassay.measure.provenance import provenance, utc_now
from seqassay.measure.stages import WaitStatistics
from seqassay.measure.utilisation import UtilisationSampler
from seqassay.predict import record as run_record
from seqassay.predict.pipeline import QueueState
from seqassay.predict.run import predict
from seqassay.report.terminal import ProgressReporter

RESULTS = Path(__file__).parent / "results" / seqassay.__version__ / "telemetry.json"
LIMIT = 0.01
SEED = 7
READ_BASES = 150


class CountingReporter(ProgressReporter):
    """The reporter, which counts the processor time of its own thread."""

    cost_s = 0.0

    def _run(self) -> None:
        super()._run()
        self.cost_s = time.thread_time()


class NoSampler:
    """In place of the sampler: measures nothing."""

    def __init__(self, *_: object) -> None: ...

    def __enter__(self) -> NoSampler:
        return self

    def __exit__(self, *_: object) -> None: ...

    def as_record(self) -> None:
        """Nothing was measured."""

    def timeline(self) -> list[Any]:
        """Nothing was measured."""
        return []


def write_reads(path: Path, n_reads: int) -> None:
    """Random bases."""
    bases = np.frombuffer(b"ACGT", np.uint8)[np.random.default_rng(SEED).integers(0, 4, (n_reads, READ_BASES))]
    path.write_bytes(b"".join(b">r%d\n%b\n" % (i, row.tobytes()) for i, row in enumerate(bases)))


@contextlib.contextmanager
def without_sampler() -> Iterator[None]:
    """Runs of the block have no sampler."""
    run_record.UtilisationSampler = NoSampler  # type: ignore[assignment, misc]
    try:
        yield
    finally:
        run_record.UtilisationSampler = UtilisationSampler  # type: ignore[misc]


class Work:
    """One run, with telemetry or without, and what telemetry says of its own cost."""

    def __init__(self, settings: PredictSettings) -> None:
        self.settings, self.direct = settings, []  # type: ignore[var-annotated]

    def watched(self) -> float:
        """Seconds with telemetry as on a terminal, where it draws four times a second."""
        progress, console = RunProgress(), Console(file=io.StringIO(), force_terminal=True)
        began = time.perf_counter()
        with CountingReporter(progress, console) as reporter:
            record = predict(self.settings, progress=progress).record
        seconds = time.perf_counter() - began
        sampler_s, shards = record["utilisation"]["cost_s"], record["shards"]
        counters_s = shards * per_shard_s()
        self.direct.append(
            {
                "wall_s": seconds,
                "sampler_s": sampler_s,
                "reporter_s": reporter.cost_s,
                "counters_s": counters_s,
                "share": (sampler_s + reporter.cost_s + counters_s) / seconds,
            }
        )
        return seconds

    def bare(self) -> float:
        """Seconds without."""
        with without_sampler():
            began = time.perf_counter()
            predict(self.settings)
            return time.perf_counter() - began


def per_shard_s(n: int = 1000) -> float:
    """Processor seconds of a shard's queue states and wait, timed by themselves."""
    state, waits, full = QueueState(1), WaitStatistics(), queue.Queue[int](1)
    began = time.thread_time()
    for _ in range(n):
        state.count(full.qsize())
        state.count(1)
        waits.add(time.perf_counter() - time.perf_counter())
    return (time.thread_time() - began) / n


def main() -> None:
    """Measure both ways, print and keep the samples."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reads", type=int, default=10_000)
    parser.add_argument("--pairs", type=int, default=20)
    arguments = parser.parse_args()
    load_before = psutil.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        reads = Path(name) / "reads.fa"
        write_reads(reads, arguments.reads)
        settings = PredictSettings(
            inputs=(str(reads),), output_dir=Path(name) / "out", device="cpu", shard_size=1024, force=True
        )
        work = Work(settings)
        few = Path(name) / "few.fa"
        write_reads(few, 200)
        predict(replace(settings, inputs=(str(few),)))
        pairs = time_pairs(work.watched, work.bare, n_pairs=arguments.pairs, seed=SEED)
    ratio = ratio_of_pairs(pairs.a_s, pairs.b_s, seed=SEED)
    shares = np.array([entry["share"] for entry in work.direct])
    verdict = "PASSED" if shares.max() <= LIMIT else "FAILED"
    result = {
        "question": "telemetry's share of the wall time of seqassay predict",
        "measured_at": utc_now(),
        "reads": arguments.reads,
        "limit": LIMIT,
        "direct": {
            "share": {"value": float(np.median(shares)), "n": len(shares), "min": shares.min(), "max": shares.max()},
            "samples": work.direct,
        },
        "paired": {
            "ratio": {"value": ratio.value, "n": len(ratio.ratios), "interval_95": ratio.interval_95},
            "with_s": pairs.a_s.tolist(),
            "without_s": pairs.b_s.tolist(),
            "with_first": pairs.a_first.tolist(),
        },
        "load_average": {"before": load_before, "after": psutil.getloadavg()[0]},
        "verdict": verdict,
        "provenance": provenance(),
    }
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    interval = "no interval" if ratio.interval_95 is None else "{:.4f} to {:.4f}".format(*ratio.interval_95)
    print(f"direct  {np.median(shares):.4%} of wall time (most {shares.max():.4%}, n {len(shares)}), limit {LIMIT:.0%}")
    print(f"paired  with / without {ratio.value:.4f} ({interval}, n {len(ratio.ratios)})")
    print(f"load    {load_before:.1f} before, {psutil.getloadavg()[0]:.1f} after")
    print(f"{verdict}; {RESULTS}")
    sys.exit(0 if verdict == "PASSED" else 5)


if __name__ == "__main__":
    main()
