"""The record of a pipeline benchmark, ``metrics.json``: how it was measured, and checks before anything is written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from seqassay.errors import SeqassayError
from seqassay.measure.schema import check_schema
from seqassay.prove.record import check_figure_of_runs, figures_in
from seqassay.prove.speed.peak import METHOD as PEAK_METHOD

FORMAT, VERSION = "seqassay-pipeline", "1.0"
METHOD = {
    "run": "predict on the whole input, from reading it and loading the models to its last output",
    "process": "every run in a fresh process, warmed by predict on the first 64 sequences; on the CPU a worker is "
    "a core",
    "order": "round by round, every case once, in an order drawn anew",
    "figures": "median over runs; ratios: median over rounds of the quotient of two runs of one round",
    "interval": "95%, percentile bootstrap over rounds (10,000 resamples)",
    "model_flop_utilisation": "operations of the encoders' matrix products, counted from shapes, a second of the "
    "embedding stages, over the device's best matrix product in the same processes",
    "peak": PEAK_METHOD.rpartition(";")[0] + "; measured after each run of the main case",
    "gpu_utilisation": "NVML over the embedding stages",
    "cpu_utilisation": "processor time of the process over what the cores it may use could give",
    "recommendation": "the fastest setting of the sweep is run again beside the current one; those runs decide",
}
_SHARES = (
    "share", "packing_efficiency", "ready_queue_empty", "ready_queue_full", "write_queue_full", "cpu_utilisation",
    "cpu_utilisation_embedding", "gpu_utilisation", "model_flop_utilisation", "telemetry_share", "agreement",
)  # fmt: skip
_BUSY = 0.5  # load a core before the first run from which on the machine was not quiet
_FEW_SHARDS = 3


def range_of(place: str) -> tuple[float, float]:
    """The range of the figure that a place in the record names: shares to 1, all others without end."""
    return (0.0, 1.0) if any(name in _SHARES for name in place.split(".")) else (0.0, math.inf)


def notes_on(record: Mapping[str, Any], *, main: str) -> list[str]:
    """What a reader has to know before using the figures."""
    notes = []
    cores = record["provenance"]["hardware"]["cores"] or 1
    before = record["load_average"]["before"]
    if before > _BUSY * cores:
        notes.append(
            f"the machine was busy: {before:g} processes wanted one of {cores} cores before the first run; ratios of "
            "runs of one round hold better than times do"
        )
    samples = next(case["runs"] for case in record["cases"] if case["name"] == main)
    if samples[0]["shards"] < _FEW_SHARDS:
        notes.append(
            f"the input is {samples[0]['shards']} shard(s): queues and overlapping stages show with "
            f"{_FEW_SHARDS} and more (a larger input, a smaller --shard-size)"
        )
    rows = (record["scaling"] or {}).get("cases", ())
    notes += [f"efficiency of {row['workers']} workers is {row['flag']}" for row in rows if row["flag"]]
    for case in record["cases"]:
        if case["failure"]:
            notes.append(f"{case['name']} failed in round {case['failure']['round'] + 1}: {case['failure']['error']}")
        if case["same_outputs"] is False:
            notes.append(f"runs of {case['name']} did not write the same bytes")
    return notes


def check_record(record: Mapping[str, Any]) -> None:
    """Everything is as the schema has it, every figure in its range and between its extremes, and counts add up.

    Raises:
        SeqassayError: names the figure (a bug here, or a record that was changed).
    """
    check_schema(record, "pipeline")
    for place, figure in figures_in(record):
        if not place.startswith("cases["):
            check_figure_of_runs(figure, place, range_of(place))
    shares = [stage["share"]["value"] for stage in record["stages"]]
    n = record["values"]["wall_s"]["n"]
    if n == 1 and None not in shares and abs(sum(shares) - 1) > 1e-4:
        raise SeqassayError(f"the stages' shares add up to {sum(shares)}")
    main = next(case for case in record["cases"] if "main" in case["roles"])
    if len(main["runs"]) != n:
        raise SeqassayError(f"{len(main['runs'])} runs of the main case, but its figures have n {n}")
