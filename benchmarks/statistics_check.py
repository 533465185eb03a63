"""Do 95% intervals hold the truth in 95 of 100 test sets?

Test sets of genomes are made up, many times over: a genome is viral with a given chance, has a geometric number of
sequences (or one number for all), and its sequences share part of what their scores deviate by. So the true figures are
known, and so is how often the intervals of `seqassay evaluate` hold them; beside them the plain percentiles of the same
bootstrap samples, the procedure that they replace.

    python benchmarks/statistics_check.py --repetitions 1000 -o benchmarks/results/0.1.0/statistics_check.json

The bar is 93% to 97% where `seqassay evaluate` says nothing of few units; a coverage of 1,000 repetitions is known to
± 1.4 percentage points, of 200 to ± 3. The script ends with 1 when all of a coverage's Wilson interval lies outside.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seqassay.evaluate.classification import metrics
from seqassay.evaluate.uncertainty import FEW_CLUSTERS, Bootstrap, bootstrap, share_interval
from seqassay.measure.provenance import provenance, utc_now

FIGURES = ("accuracy", "f1", "mcc", "recall", "roc_auc")
BAR = (0.93, 0.97)
LIKENESS = 0.7  # correlation of what the two models' scores deviate by
TRUTH_GENOMES = 2_000_000

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """How test sets are made up.

    Attributes:
        genomes, viral: number, and chance of being viral.
        mean_sequences: of a genome; geometric, or the same for all where ``equal_sizes``.
        correlation: within a genome, of what scores deviate by.
        candidate, baseline: distance of the mean score from the boundary, of others and of viral sequences, in
            standard deviations.
    """

    name: str
    genomes: int
    viral: float = 0.5
    mean_sequences: int = 8
    equal_sizes: bool = False
    correlation: float = 0.4
    candidate: tuple[float, float] = (1.0, 1.3)
    baseline: tuple[float, float] = (1.2, 1.5)


SETTINGS = (
    Setting("80 genomes", 80),
    Setting("40 genomes", 40),
    Setting("a fifth viral", 150, viral=0.2, mean_sequences=4),
    Setting("200 genomes", 200, mean_sequences=4),
    Setting("an accurate model", 200, mean_sequences=4, candidate=(1.6, 1.8), baseline=(1.9, 1.9)),
    Setting("alike within genomes", 100, mean_sequences=4, correlation=0.8),
    Setting("80 genomes of equal size", 80, equal_sizes=True),
    Setting("one sequence a genome", 80, mean_sequences=1, equal_sizes=True, correlation=0.0),
    Setting("20 genomes", 20),
)


def main() -> int:
    """Run all settings, write the record, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=1000, help="test sets of every setting")
    parser.add_argument("--samples", type=int, default=300, help="bootstrap samples of a test set (evaluate: 1,000)")
    parser.add_argument("--only", nargs="*", help="names of settings")
    parser.add_argument("-o", "--output", type=Path, help="file for the record")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for number, setting in enumerate(SETTINGS):
        if options.only and setting.name not in options.only:
            continue
        rows.append(measure(setting, number, options.repetitions, options.samples))
        show(rows[-1])
        if options.output:  # after every setting: an hour's work is not lost
            options.output.write_text(
                json.dumps(record_of(rows, options.repetitions, options.samples), indent=1) + "\n"
            )
    outside = outside_the_bar(rows)
    print("outside the bar: " + (", ".join(outside) or "nothing"))
    return 1 if outside else 0


def record_of(rows: list[dict[str, Any]], repetitions: int, n_samples: int) -> dict[str, Any]:
    """What was measured so far, and how."""
    return {
        "question": "how often a 95% interval of `seqassay evaluate` holds the true figure",
        "bar": BAR,
        "repetitions": repetitions,
        "bootstrap_samples": n_samples,
        "few_units_below": FEW_CLUSTERS,
        "settings_wanted": len(SETTINGS),
        "written_at": utc_now(),
        "provenance": provenance(),
        "settings": rows,
        "outside_the_bar": outside_the_bar(rows),
    }


def outside_the_bar(rows: list[dict[str, Any]]) -> list[str]:
    """Settings and figures whose coverage is shown to be outside the bar."""
    return [f"{row['setting']['name']}: {name}" for row in rows for name in row["outside_the_bar"]]


def measure(setting: Setting, number: int, repetitions: int, n_samples: int) -> dict[str, Any]:
    """Coverage and mean width of every figure's interval, and of its difference to the baseline's."""
    true = {name: true_figures(getattr(setting, name), setting.viral) for name in ("candidate", "baseline")}
    held: dict[str, dict[str, list[float]]] = {}
    effective = []
    started = time.monotonic()
    for repetition in range(repetitions):
        labels, scores, clusters = made_up(setting, np.random.default_rng([number, repetition]))
        found = bootstrap(labels, scores, clusters, n_samples=n_samples, seed=repetition)
        effective.append(min(found.effective_by_class))
        for figure in FIGURES:
            for minus in (None, "baseline"):
                truth = true["candidate"][figure] - (true["baseline"][figure] if minus else 0.0)
                count(held.setdefault(figure + (" difference" if minus else ""), {}), found, figure, minus, truth)
    rows = {name: summary(kept, repetitions) for name, kept in held.items()}
    few = float(np.mean(effective)) < FEW_CLUSTERS
    return {
        "setting": asdict(setting),
        "true": true,
        "effective_units_of_the_smaller_class": round(float(np.mean(effective)), 1),
        "said_to_have_few_units": few,
        "wall_s": round(time.monotonic() - started, 1),
        "figures": rows,
        "outside_the_bar": [] if few else [name for name, row in rows.items() if is_outside(row)],
    }


def made_up(
    setting: Setting, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int64], dict[str, FloatArray], npt.NDArray[np.int64]]:
    """Labels, scores of both models and genomes of one test set with at least three genomes of each label."""
    is_viral = np.zeros(setting.genomes, bool)
    while not 3 <= is_viral.sum() <= setting.genomes - 3:
        is_viral = rng.random(setting.genomes) < setting.viral
    n = np.full(setting.genomes, setting.mean_sequences)
    if not setting.equal_sizes:
        n = rng.geometric(1 / setting.mean_sequences, setting.genomes)
    clusters = np.repeat(np.arange(setting.genomes), n)
    labels = is_viral[clusters].astype(np.int64)

    def deviation() -> FloatArray:
        of_genome, of_sequence = rng.standard_normal(setting.genomes)[clusters], rng.standard_normal(len(clusters))
        return np.sqrt(setting.correlation) * of_genome + np.sqrt(1 - setting.correlation) * of_sequence

    shared = deviation()
    own = np.sqrt(LIKENESS) * shared + np.sqrt(1 - LIKENESS) * deviation()
    scores = {
        name: 1 / (1 + np.exp(-(np.where(labels == 1, distance[1], -distance[0]) + noise)))
        for name, distance, noise in (("candidate", setting.candidate, own), ("baseline", setting.baseline, shared))
    }
    return labels, scores, clusters


def true_figures(distance: tuple[float, float], viral: float) -> dict[str, float]:
    """Figures of a model on two million genomes of one sequence each."""
    rng = np.random.default_rng(2)
    labels = (rng.random(TRUTH_GENOMES) < viral).astype(np.int64)
    scores = np.where(labels == 1, distance[1], -distance[0]) + rng.standard_normal(TRUTH_GENOMES)
    found = metrics(labels, scores, threshold=0.0)
    return {figure: float(getattr(found, figure)) for figure in FIGURES}


def count(kept: dict[str, list[float]], found: Bootstrap, figure: str, minus: str | None, truth: float) -> None:
    """Whether the interval and the percentiles of one test set hold the truth, and how wide they are."""
    interval = found.interval(figure, "candidate", minus=minus)
    samples = found.samples["candidate"][figure] - (found.samples["baseline"][figure] if minus else 0.0)
    for name, (low, high) in (
        ("interval", (interval.low, interval.high)),
        ("percentiles", np.nanpercentile(samples, [2.5, 97.5])),
    ):
        if not np.isnan(low):
            kept.setdefault(f"{name} holds", []).append(float(low <= truth <= high))
            kept.setdefault(f"{name} width", []).append(float(high - low))


def summary(kept: dict[str, list[float]], repetitions: int) -> dict[str, Any]:
    """Coverage with its Wilson interval and mean width, of intervals and of percentiles."""
    row: dict[str, Any] = {"repetitions": repetitions, "without_an_interval": repetitions - len(kept["interval holds"])}
    for name in ("interval", "percentiles"):
        holds = kept[f"{name} holds"]
        row[name] = {
            "coverage": sum(holds) / len(holds),
            "wilson_95": list(share_interval(sum(holds), len(holds))),
            "n": len(holds),
            "mean_width": float(np.mean(kept[f"{name} width"])),
        }
    return row


def is_outside(row: dict[str, Any]) -> bool:
    """Whether the coverage is shown to be outside the bar."""
    low, high = row["interval"]["wilson_95"]
    return bool(high < BAR[0] or low > BAR[1])


def show(row: dict[str, Any]) -> None:
    """One setting on the terminal."""
    few = ", said to be few" if row["said_to_have_few_units"] else ""
    units = f"{row['effective_units_of_the_smaller_class']:g} effective units of the smaller class{few}"
    print(f"{row['setting']['name']}: {units}; {row['wall_s']:g} s")
    for name, figure in row["figures"].items():
        ours, theirs = figure["interval"], figure["percentiles"]
        print(
            f"  {name:<20} {ours['coverage']:.1%} of {ours['n']:,} (percentiles {theirs['coverage']:.1%}), "
            f"{ours['mean_width'] / theirs['mean_width']:.2f} times as wide",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
