"""What a schema cannot say of a profiling: figures are those of their samples, and none is impossible."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from seqassay.errors import SeqassayError


def check_profiling(profiling: Mapping[str, Any], *, weight_bytes: int) -> None:
    """Figures are those of their samples, percentiles in order, nothing beyond what is possible.

    Raises:
        SeqassayError: names the figure (a bug here, or a record that was changed).
    """
    for entry in profiling["latency"] or ():
        _check_samples(f"latency of {entry['shape']}", entry)
        in_order = [entry["latency_ms"]["min"], entry["median_ms"], entry["p95_ms"], entry["p99_ms"]]
        in_order = [x for x in [*in_order, entry["latency_ms"]["max"]] if x is not None]
        if in_order != sorted(in_order):
            raise SeqassayError(f"latency of {entry['shape']}: percentiles are not in order: {in_order}")
    for entry in profiling["scaling"] or ():
        if entry["latency_ms"]["value"] is not None:
            _check_samples(f"scaling to {entry['shape']}", entry)
    entry = profiling["throughput"]
    if entry is not None:
        n_sequences = entry["runs"] * entry["batch"]
        for name, amount in (("tokens_per_s", n_sequences * entry["length_tokens"]), ("sequences_per_s", n_sequences)):
            if not math.isclose(entry[name]["value"] * math.fsum(entry["slices_s"]), amount, rel_tol=1e-9):
                raise SeqassayError(f"throughput: {name} is {entry[name]['value']:g}, not what the slices say")
    memory = profiling["memory"]
    if memory is not None:
        peak = memory["peak_bytes"]
        if peak["min"] < weight_bytes:
            raise SeqassayError(f"memory: a peak of {peak['min']:,.0f} bytes, below the weights' {weight_bytes:,}")


def _check_samples(name: str, entry: Mapping[str, Any]) -> None:
    samples, said = entry["samples_ms"], entry["latency_ms"]
    if said["n"] != len(samples) or min(samples) <= 0:
        raise SeqassayError(
            f"{name}: {len(samples)} samples, the least {min(samples):g} ms; the figure has {said['n']}"
        )
    mean = math.fsum(samples) / len(samples)
    rate = entry["batch"] * entry["length_tokens"] / mean * 1e3
    for what, is_said, is_so in (
        ("latency_ms", said["value"], mean),
        ("tokens_per_s", entry["tokens_per_s"]["value"], rate),
    ):
        if not math.isclose(is_said, is_so, rel_tol=1e-9):
            raise SeqassayError(f"{name}: {what} is {is_said:g}, and its samples say {is_so:g}")
