"""Figures of runs, each with n and spread, and ratios of runs of the same round with their interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seqassay.measure.clock import ratio_of_pairs
from seqassay.prove.pipeline.cases import Case, Plan
from seqassay.prove.pipeline.workload import Workload
from seqassay.prove.speed.figures import check_share_of_peak, figure, ratio_figure, undefined

Sample = dict[str, Any]
_NO_WORK = "there was nothing to embed"


def sample_of(result: Mapping[str, Any], workload: Workload, round_: int, position: int) -> Sample:
    """What the record keeps of one run of `predict`: times of the run, and figures out of its ``run.json``.

    Args:
        position: which run of the whole benchmark it was, from 0.
    """
    record, seconds = result["record"], result["seconds"]
    use = {entry["stage"]: entry for entry in record["utilisation"]["by_stage"]}
    ready, to_write = (record["queues"][name] for name in ("ready", "to_write"))
    tokens = record["packing"]["real_tokens"]
    return {
        "round": round_,
        "position": position,
        "wall_s": seconds,
        "warm_up_s": result["warm_up_s"],
        "sequences_per_s": workload.sequences / seconds,
        "tokens_per_s": tokens / seconds,
        "bases_per_s": workload.bases / seconds,
        "stages_s": {entry["stage"]: entry["seconds"] for entry in record["stages"]},
        "packing_efficiency": record["packing"]["efficiency"],
        "loader_wait_mean_s": record["loader_wait"]["mean_s"],
        "loader_wait_max_s": record["loader_wait"]["max_s"],
        "shards": record["shards"],
        "ready_queue_empty": ready["found_empty"] / ready["visits"] if ready["visits"] else None,
        "ready_queue_full": ready["found_full"] / ready["visits"] if ready["visits"] else None,
        "write_queue_full": to_write["found_full"] / to_write["visits"] if to_write["visits"] else None,
        "cpu_utilisation": use["work"]["cpu"],
        "cpu_utilisation_embedding": use["embedding"]["cpu"],
        "gpu_utilisation": use["embedding"]["gpu"],
        "gpu_memory_bytes": use["embedding"]["gpu_memory"],
        "peak_host_bytes": record["memory"]["peak_host_bytes"],
        "peak_device_bytes": record["memory"]["peak_device_bytes"],
        "energy_j": record["utilisation"]["energy_j"],
        "why_no_energy": record["utilisation"]["why_no_energy"],
        "flop": sum(record["flop"].values()),
        "embedding_s": sum(
            entry["seconds"] for entry in record["stages"] if entry["stage"].endswith(" embedding")
        ),
        "telemetry_cost_s": record["utilisation"]["cost_s"],
        "outputs": {output["name"]: output["sha256"] for output in record["outputs"]},
        "peak": result["peak"],
    }  # fmt: skip


def values_of(samples: Sequence[Sample], workload: Workload) -> dict[str, Any]:
    """All figures of a case's runs: medians, with n and spread.

    Raises:
        SeqassayError: more operations a second than the device can do.
    """

    def plain(name: str, why: str = _NO_WORK) -> dict[str, Any]:
        return _over([sample[name] for sample in samples], why)

    def busy(name: str) -> dict[str, Any]:
        why = next((s[name]["why_undefined"] for s in samples if s[name]["value"] is None), "")
        return _over([sample[name]["value"] for sample in samples], why)

    memory = samples[0]["gpu_memory_bytes"]
    energy = [sample["energy_j"] for sample in samples]
    why_no_energy = next((sample["why_no_energy"] for sample in samples if sample["energy_j"] is None), "")
    return {
        **{name: plain(name) for name in ("wall_s", "sequences_per_s", "tokens_per_s", "bases_per_s")},
        **{name: plain(name) for name in ("packing_efficiency", "loader_wait_mean_s", "loader_wait_max_s")},
        **{name: plain(name) for name in ("ready_queue_empty", "ready_queue_full", "write_queue_full")},
        **{name: busy(name) for name in ("cpu_utilisation", "cpu_utilisation_embedding", "gpu_utilisation")},
        "gpu_memory_bytes": _over(
            [sample["gpu_memory_bytes"]["max_bytes"] for sample in samples], memory.get("why_undefined", "")
        ),
        "peak_host_bytes": plain("peak_host_bytes"),
        "peak_device_bytes": plain("peak_device_bytes", "the run is on the CPU"),
        "model_flop_utilisation": model_flop_utilisation(samples),
        "energy_j": _over(energy, why_no_energy),
        "energy_per_sequence_j": _over(
            [None if joules is None else joules / workload.sequences for joules in energy], why_no_energy
        ),
        "warm_up_s": plain("warm_up_s"),
        "telemetry_share": _over([sample["telemetry_cost_s"] / sample["wall_s"] for sample in samples], ""),
    }


def model_flop_utilisation(samples: Sequence[Sample]) -> dict[str, Any]:
    """Rate of the models' matrix products over the embedding stages, over the device's best in the same runs.

    Raises:
        SeqassayError: it is above 1.
    """
    peaks = [sample["peak"]["flop_per_s"]["value"] for sample in samples if sample["peak"]]
    if not peaks:
        return undefined("the device's peak was not measured")
    rates = [s["flop"] / s["embedding_s"] / max(peaks) if s["embedding_s"] else None for s in samples]
    found = _over(rates, _NO_WORK)
    if found["value"] is not None:
        check_share_of_peak(found)
    return found


def stages_of(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Busy seconds and share of every stage, in their order."""
    totals = [sum(sample["stages_s"].values()) for sample in samples]
    return [
        {
            "stage": stage,
            "seconds": _over([sample["stages_s"][stage] for sample in samples], _NO_WORK),
            "share": _over(
                [s["stages_s"][stage] / total if total else None for s, total in zip(samples, totals, strict=True)],
                _NO_WORK,
            ),
        }
        for stage in samples[0]["stages_s"]
    ]


def scaling_of(plan: Plan, cases: Mapping[Any, Case], seed: int) -> dict[str, Any] | None:
    """Speed-up and efficiency of every number of workers over one; None where nobody asked for them."""
    if not plan.scaling:
        return None
    one = cases[plan.scaling[0]]
    rows, on_two = [], undefined("two workers were not measured")
    for setup in plan.scaling:
        case, workers = cases[setup], setup.workers or 1
        speed_up = paired_speed_up(one, case, seed)
        efficiency = {
            **speed_up,
            **{name: _scaled(speed_up[name], 1 / workers) for name in ("value", "sd", "min", "max")},
            "interval_95": _scaled(speed_up["interval_95"], 1 / workers),
        }
        rows.append(
            {
                "workers": workers,
                "wall_s": over_runs(case, "wall_s"),
                "speed_up": speed_up,
                "efficiency": efficiency,
                "flag": _above_one(efficiency) if workers > 1 else "",
            }
        )
        if workers == 2:
            on_two = speed_up
    return {"cases": rows, "on_two": on_two}


def paired_speed_up(slower: Case, faster: Case, seed: int) -> dict[str, Any]:
    """How many times as fast the second is, by rounds that both have a run of."""
    rounds = [round_ for round_ in slower.runs if round_ in faster.runs]
    if not rounds:
        return undefined(_why_not_run(faster) or _why_not_run(slower) or "no round has a run of both")
    if slower is faster:
        return {**figure(np.ones(len(rounds)), 1.0), "interval_95": None, "why_no_interval": "it is 1 by definition"}
    times = [np.array([case.runs[round_]["wall_s"] for round_ in rounds]) for case in (slower, faster)]
    return ratio_figure(ratio_of_pairs(times[0], times[1], seed=seed))


def given_speed_up(baseline_s: float, case: Case, seed: int) -> dict[str, Any]:
    """How many times as fast as a wall time that somebody else measured; its own spread is not known."""
    walls = np.array([run["wall_s"] for run in case.runs.values()])
    return ratio_figure(ratio_of_pairs(np.full(len(walls), baseline_s), walls, seed=seed))


def over_runs(case: Case, name: str) -> dict[str, Any]:
    """A figure of all runs of a case."""
    return _over([run[name] for run in case.runs.values()], _why_not_run(case))


def _over(values: Sequence[float | None], why: str) -> dict[str, Any]:
    """The median of values, with n and spread; undefined when one of them is."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return undefined(why or "not known of every run")
    return figure(known, float(np.median(known)))


def _why_not_run(case: Case) -> str:
    return "" if case.failure is None else f"its run failed: {case.failure['error']}"


def _scaled(value: Any, factor: float) -> Any:
    if value is None:
        return None
    return [end * factor for end in value] if isinstance(value, list) else value * factor


def _above_one(efficiency: Mapping[str, Any]) -> str:
    """What to think of an efficiency above 1, which cores alone cannot give."""
    value, interval = efficiency["value"], efficiency["interval_95"]
    if value is None or value <= 1:
        return ""
    if interval is None or interval[0] <= 1:
        return "above 1 within noise: no more than 1 is shown"
    return "above 1 beyond noise: something besides the cores differs (caches, what else ran); not a scaling figure"
