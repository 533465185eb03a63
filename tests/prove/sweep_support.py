"""Runs of sweeps that were never trained: figures as if they had been."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from seqassay.measure.provenance import provenance
from seqassay.prove.sweep.decide import decide
from seqassay.prove.sweep.record import FORMAT, KIND, VERSION
from seqassay.prove.sweep.results import AxisValue, Run
from seqassay.prove.sweep.selection import select_finalists
from seqassay.prove.sweep.tables import summarise

AXES = {"embedding_ratio": (0.25, 0.35, 0.45), "glu_expansion": (2.0, 2.66)}
BASELINE = "er0.35_glu2.66"


def name_of(axes: Mapping[str, AxisValue]) -> str:
    """``er0.35_glu2.66``."""
    return f"er{axes['embedding_ratio']}_glu{axes['glu_expansion']}"


def a_run(
    experiment: str = BASELINE,
    *,
    perplexity: float | None = 40.0,
    stage: Any = "final",
    seed: int = 1,
    status: Any = "done",
    why: str | None = None,
    axes: Mapping[str, AxisValue] | None = None,
    latency_ms: float | None = 5.0,
    memory: float | None = 3e8,
    **figures: float | None,
) -> Run:
    """One run; only what is given is measured."""
    said = {"valid_token_perplexity": perplexity, "latency_ms": latency_ms, "peak_memory_bytes": memory, **figures}
    if perplexity is not None:
        said["valid_loss"] = math.log(perplexity)
    folder = f"runs/{stage}/{experiment}/seed{seed}"
    return Run(experiment, axes or {}, stage, seed, status, why, folder, said, curve(perplexity))


def curve(perplexity: float | None) -> Sequence[tuple[int, float]]:
    """Falls to this perplexity."""
    if perplexity is None:
        return ()
    return tuple((200_000 * k, math.log(perplexity) + 2.0 / k**1.5) for k in range(1, 9))


def a_grid(gains: Mapping[str, float] | None = None, *, stage: str = "ranking", seed: int = 0) -> list[Run]:
    """The ranking of all six; perplexity 40, times what is given by name."""
    runs = []
    for ratio in AXES["embedding_ratio"]:
        for expansion in AXES["glu_expansion"]:
            axes = {"embedding_ratio": ratio, "glu_expansion": expansion}
            gain = (gains or {}).get(name_of(axes), 1.0)
            runs.append(a_run(name_of(axes), perplexity=40 * gain, stage=stage, seed=seed, axes=axes))
    return runs


def finals(
    gains: Mapping[str, float],
    *,
    seeds: Sequence[int] = (1, 2, 3),
    noise: float = 0.004,
    rng: random.Random | None = None,
    **more: Any,
) -> list[Run]:
    """Final runs of the baseline and of others by their gains; ``noise`` is the sd of the logarithm."""  # fmt: skip
    rng = rng or random.Random(1)
    return [
        a_run(name, perplexity=40 * gain * math.exp(rng.gauss(0, noise)), seed=seed, **more)
        for name, gain in {BASELINE: 1.0, **gains}.items()
        for seed in seeds
    ]


def a_record(runs: Sequence[Run], *, is_finished: bool = True, **more: Any) -> dict[str, Any]:
    """``sweep.json`` of these runs, as `lm sweep` writes it; the schema holds."""
    names = {run.experiment: dict(run.axes) for run in runs if run.stage == "ranking"}
    axes = {axis: list(dict.fromkeys(run.axes[axis] for run in runs if axis in run.axes)) for axis in runs[0].axes}
    record = {
        "format": FORMAT,
        "version": VERSION,
        "kind": KIND,
        "status": "done" if is_finished else "running",
        "written_at": "2026-01-01T00:00:00+00:00",
        "settings": {"config": "sweep.yaml", "output_dir": "out/sweep"},
        "config": {"path": "sweep.yaml", "sha256": "c0" * 32, "evaluate": {}, "protocol": PROTOCOL},
        "identity": {"tokenizer": "f1" * 32, "tokens": {"train": "aa" * 32, "valid": "bb" * 32}},
        "baseline": runs[0].experiment,
        "axes": axes,
        "experiments": [
            {
                "name": name, "axes": of, "overrides": of, "settings": {"total_params": 1000, **of}, "line": 3,
                "plan": {}, "training_flop_per_token": 10,
            }
            for name, of in names.items()
        ],
        "runs": [run.as_json() for run in runs],
        "summary": summarise(runs),
        "selection": select_finalists(runs, axes, runs[0].experiment).as_json(),
        "decision": decide(runs, runs[0].experiment).as_json() if is_finished else None,
        "failed": [{"run": r.name, "why": r.why, "folder": r.folder} for r in runs if r.status == "failed"],
        "device": "cpu",
        "provenance": provenance(),
        "wall_s": 12.5,
        "notes": [],
    }  # fmt: skip
    return record | more


PROTOCOL = {
    "tokens": "tokens", "ranking_tokens": 1000, "final_tokens": 5000, "ranking_seed": 0, "final_seeds": [1, 2, 3],
    "kill_margin": 0.5, "kill_tokens": 100, "margin": 0.05,
}  # fmt: skip
