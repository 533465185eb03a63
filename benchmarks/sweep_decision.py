"""How often does a sweep name a winner where there is none, and how often does it find one that is there?

Sweeps are made up, many times over, by the arithmetic of real ones: a ranking of one seed, the finalists that
`select_finalists` takes from it, three seeds of each (or two, five), `decide`. The logarithm of a perplexity is the
experiment's own plus a normal deviate of each seed; latencies have noise too, and no experiment is truly faster.
Beside the rule stands what an earlier harness did: the experiment with the lowest perplexity of the ranking wins.

    python benchmarks/sweep_decision.py --repetitions 1000 -o benchmarks/results/0.1.0/sweep_decision.json

The bar: at most 5 of 100 sweeps of equal experiments have a winner, whatever the noise. The script ends with 1 when the
whole Wilson interval of a share lies above.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from pathlib import Path
from typing import Any

from seqassay.evaluate.uncertainty import share_interval
from seqassay.measure.provenance import provenance, utc_now
from seqassay.prove.sweep.decide import decide
from seqassay.prove.sweep.results import Run, Stage
from seqassay.prove.sweep.selection import PERPLEXITY, select_finalists

BAR = 0.05
AXES = {"embedding_ratio": (0.25, 0.35, 0.45), "glu_expansion": (2.0, 2.66, 3.0, 4.0)}
BASELINE = "0.35/2.66"
BETTER = "0.25/2.66"  # has the true gain, where there is one
NOISES = (0.003, 0.005, 0.01, 0.02, 0.05)  # sd of the logarithm of perplexity between seeds
GAINS = (0.0, 0.03, 0.06, 0.08, 0.12)
SEEDS = (2, 3, 5)
LATENCY_NOISE = 0.03


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=1000, help="sweeps of every row")
    parser.add_argument("-o", "--output", type=Path, help="file for the record")
    arguments = parser.parse_args()
    began = time.monotonic()
    rows = [
        measure(gain, noise, n_seeds, arguments.repetitions) for n_seeds in SEEDS for noise in NOISES for gain in GAINS
    ]
    held = all(row["wrong_winner"]["interval_95"][0] <= BAR for row in rows)
    print(f"wrong winners in at most {BAR:.0%} of the sweeps: {'held' if held else 'NOT HELD'}")
    if arguments.output:
        record = {
            "written_at": utc_now(),
            "repetitions": arguments.repetitions,
            "bar": BAR,
            "held": held,
            "experiments": 12,
            "latency_noise": LATENCY_NOISE,
            "rows": rows,
            "wall_s": round(time.monotonic() - began, 1),
            "provenance": provenance(),
        }
        arguments.output.write_text(json.dumps(record, indent=1) + "\n")
    return 0 if held else 1


def measure(gain: float, noise: float, n_seeds: int, repetitions: int) -> dict[str, Any]:
    """Shares of sweeps with a wrong winner, with the right one, and of the lowest figure of the ranking."""
    rng = random.Random(f"{gain} {noise} {n_seeds}")
    wrong = right = naive_wrong = 0
    for _ in range(repetitions):
        ranking = [run(name, axes, "ranking", 0, gain, noise, rng) for name, axes in EXPERIMENTS.items()]
        finalists = select_finalists(ranking, AXES, BASELINE).finalists
        finals = [
            run(name, EXPERIMENTS[name], "final", seed, gain, noise, rng)
            for name in finalists
            for seed in range(1, n_seeds + 1)
        ]
        winner = decide([*ranking, *finals], BASELINE).winner
        is_right = winner == BETTER and gain > 0
        right += is_right
        wrong += winner is not None and not is_right
        lowest = min(ranking, key=lambda one: one.figures[PERPLEXITY] or math.inf).experiment
        naive_wrong += lowest != (BETTER if gain > 0 else BASELINE)
    row = {
        "gain": gain, "noise": noise, "seeds": n_seeds,
        "wrong_winner": share(wrong, repetitions), "right_winner": share(right, repetitions),
        "lowest_of_ranking_wrong": share(naive_wrong, repetitions),
    }  # fmt: skip
    print(
        f"gain {gain:4.0%}  noise {noise:5.1%}  {n_seeds} seeds:  right {right / repetitions:6.1%}  "
        f"wrong {wrong / repetitions:6.1%}  lowest of the ranking wrong {naive_wrong / repetitions:6.1%}",
        flush=True,
    )
    return row


EXPERIMENTS = {
    f"{ratio}/{expansion}": {"embedding_ratio": ratio, "glu_expansion": expansion}
    for ratio in AXES["embedding_ratio"]
    for expansion in AXES["glu_expansion"]
}


def run(
    name: str, axes: dict[str, float], stage: Stage, seed: int, gain: float, noise: float, rng: random.Random
) -> Run:
    """A run that was never trained."""
    truth = math.log(100.0) + (math.log(1 - gain) if name == BETTER else 0.0)
    figures = {
        PERPLEXITY: math.exp(truth + rng.gauss(0, noise)),
        "latency_ms": 5.0 * math.exp(rng.gauss(0, LATENCY_NOISE)),
        "peak_memory_bytes": 3e8 * math.exp(rng.gauss(0, 0.002)),
    }
    return Run(name, axes, stage, seed, "done", None, f"runs/{stage}/{name}", figures)


def share(n: int, of: int) -> dict[str, Any]:
    return {"value": n / of, "interval_95": list(share_interval(n, of)), "n": of}


if __name__ == "__main__":
    sys.exit(main())
