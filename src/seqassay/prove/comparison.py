"""Candidate beside baseline: figures, differences with their intervals, and the gate's verdict."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from seqassay.errors import InputError
from seqassay.evaluate.classification import FIGURES, Metrics, metrics
from seqassay.evaluate.intervals import effective_number
from seqassay.evaluate.uncertainty import FEWEST_CLUSTERS, Bootstrap, bootstrap, mcnemar, share_interval
from seqassay.prove.baseline import REQUIRED, BaselineMetrics
from seqassay.prove.curves import curves_of
from seqassay.prove.figures import SAMPLES, SEED, coverage, figure, interval_entry
from seqassay.prove.gate import SKIPPED, UNDECIDED, Decision, decide, exact, next_steps, next_steps_on_sequences
from seqassay.prove.record import number
from seqassay.prove.scores import ScoredExamples
from seqassay.prove.test_set import Examples

_NOT_COUNTED = "{:,} sequences that the baseline scores have no score from the candidate; the drop is without them"
OF_HEADS = "figures are of the head of"  # how the reason of a verdict on heads alone begins
NO_BASELINE = (
    "no baseline was given (--baseline, --baseline-predictions or --baseline-metrics): there is nothing that accuracy "
    "could drop from"
)


class Model(Protocol):
    """What is said of a model whose scores are compared."""

    @property
    def name(self) -> str:
        """By which a reader knows it."""

    @property
    def digest(self) -> str | None:
        """Of its bundle; None where nobody knows."""


def compare_models(
    examples: Examples,
    candidate: ScoredExamples,
    baseline: ScoredExamples,
    units: npt.NDArray[np.int64],
    candidate_model: Model,
    baseline_model: Model,
) -> dict[str, Any]:
    """Both models on the sequences that both score, in the same bootstrap samples; and McNemar's test of their calls.

    Raises:
        InputError: no sequence has a score from both.
    """
    kept = candidate.has_score & baseline.has_score
    if not kept.any():
        raise InputError("no sequence has a score from both models: there is nothing to compare")
    labels, units = examples.labels[kept], units[kept]
    sets = {"candidate": candidate.score[kept], "baseline": baseline.score[kept]}
    thresholds = {"candidate": candidate.threshold[kept], "baseline": baseline.threshold[kept]}
    found = {name: metrics(labels, scores, threshold=thresholds[name]) for name, scores in sets.items()}
    samples = bootstrap(labels, sets, units, thresholds=thresholds, n_samples=SAMPLES, seed=SEED)
    same_model = candidate_model.digest is not None and candidate_model.digest == baseline_model.digest
    same_model &= bool((sets["candidate"] == sets["baseline"]).all())  # runs of one bundle may differ in precision
    rows = {name: _paired_row(name, found, samples, same_model) for name in FIGURES}
    differs = candidate.is_virus[kept] != baseline.is_virus[kept]
    if not differs.any() and not same_model:
        rows["accuracy"] |= _of_agreement(effective_number(np.bincount(units).astype(np.float64)))
    test = mcnemar(labels, candidate.is_virus[kept], baseline.is_virus[kept])
    n, theirs_alone = len(labels), int((baseline.has_score & ~candidate.has_score).sum())
    drop = Fraction(test.only_second_right - test.only_first_right, n)
    return {
        "kind": "paired",
        "baseline": {
            "name": baseline_model.name,
            "digest": baseline_model.digest,
            "scored": coverage(examples, baseline),
        },
        "n": n,
        "scored_by_candidate_alone": int((candidate.has_score & ~baseline.has_score).sum()),
        "scored_by_baseline_alone": theirs_alone,
        "figures": rows,
        "baseline_curves": curves_of(labels, sets["baseline"]),
        "mcnemar": {
            "only_candidate_right": test.only_first_right,
            "only_baseline_right": test.only_second_right,
            "p_exact": test.p_exact,
            "p_mid": test.p_mid,
        },
        "accuracy_drop": _drop(drop, rows["accuracy"]),
        "caveats": [] if not theirs_alone else [_NOT_COUNTED.format(theirs_alone)],
    }


def _paired_row(name: str, found: dict[str, Metrics], samples: Bootstrap, same_model: bool) -> dict[str, Any]:
    """One figure of both models, and the difference, which is certain where the two are one model."""
    row: dict[str, Any] = {key: figure(metric, samples, name, key) for key, metric in found.items()}
    row["difference"] = number(getattr(found["candidate"], name) - getattr(found["baseline"], name))
    row["interval_95"] = None
    if row["difference"] is not None:
        row |= interval_entry(samples.interval(name, "candidate", minus="baseline"))
        if not same_model and row["interval_95"] and row["interval_95"][0] == row["interval_95"][1]:
            row |= {"interval_95": None, "why_no_interval": "the same in every sample"}
    return row


def _of_agreement(n_units: float) -> dict[str, Any]:
    """Interval of a difference of accuracy where two models call every sequence alike.

    Resampling gives an interval of no width, however few the units are. The difference is at most the share of units
    in which calls differ, and 0 of ``n_units`` were seen to.
    """
    if n_units < FEWEST_CLUSTERS:
        return {"interval_95": None, "why_no_interval": f"{n_units:.1f} units of equal size: too few to resample"}
    most = share_interval(0, n_units)[1]
    return {"interval_95": [-most, most], "interval_by": "Wilson 1927, of the units in which calls differ (none does)"}


def compare_with_metrics(values: dict[str, Any], matrix: list[list[int]], baseline: BaselineMetrics) -> dict[str, Any]:
    """The candidate beside figures alone, which are taken as exact: what is not known of them is in no interval."""
    rows = {}
    for name in REQUIRED:
        ours, theirs = values[name], baseline.figures[name]
        row: dict[str, Any] = {
            "candidate": ours,
            "baseline": {"value": theirs, "interval_95": None, "n": baseline.n},
            "difference": None if None in (ours["value"], theirs) else ours["value"] - theirs,
            "interval_95": None,
        }
        if row["difference"] is not None and ours["interval_95"] is not None:
            row["interval_95"] = [end - theirs for end in ours["interval_95"]]
        elif "why_no_interval" in ours:
            row["why_no_interval"] = ours["why_no_interval"]
        rows[name] = row
    n = sum(map(sum, matrix))
    caveats = []
    if baseline.test_set_digest is None:
        caveats.append("nobody checked that the baseline's figures are of this test set")
    if baseline.n not in (None, n):
        caveats.append(f"the baseline's figures are of {baseline.n:,} sequences, the candidate's of {n:,}")
    drop = baseline.accuracy - Fraction(matrix[0][0] + matrix[1][1], n)
    return {
        "kind": "metrics",
        "baseline": {
            "name": baseline.name,
            "digest": None,
            "n": baseline.n,
            "test_set_digest": baseline.test_set_digest,
            "ignored_keys": list(baseline.ignored),
        },
        "n": n,
        "figures": rows,
        "mcnemar": None,
        "accuracy_drop": _drop(drop, rows["accuracy"]),
        "caveats": caveats,
    }


def accuracy_gate(
    comparison: dict[str, Any] | None, threshold: float, heads_alone: Sequence[str] = (), sequences: str = ""
) -> dict[str, Any]:
    """The verdict, with what it stands on.

    Args:
        comparison: None without a baseline.
        threshold: accuracy has to drop by less than this.
        heads_alone: models whose figures are not of what `predict` gives with them; no verdict can stand on those.
        sequences: where the labelled sequences are, on which it could.
    """
    gate = {"metric": "accuracy", "rule": f"baseline - candidate < {threshold:g}", "limit": threshold}
    if comparison is None:
        return {
            **gate,
            "drop": None,
            "interval_95": None,
            "verdict": SKIPPED,
            "reason": NO_BASELINE,
            "caveats": [],
            "next_steps": [],
        }
    drop = comparison["accuracy_drop"]
    interval = None if drop["interval_95"] is None else (drop["interval_95"][0], drop["interval_95"][1])
    decision = decide(
        Fraction(drop["exact"]), interval, exact(threshold), why_no_interval=drop.get("why_no_interval", "none given")
    )
    if heads_alone:
        decision = Decision(UNDECIDED, f"{OF_HEADS} {' and '.join(heads_alone)} alone, uncalibrated")
    return {
        **gate,
        "drop": drop["difference"],
        "interval_95": drop["interval_95"],
        "n": comparison["n"],
        "verdict": decision.verdict,
        "reason": decision.reason,
        "caveats": comparison["caveats"],
        "next_steps": next_steps_on_sequences(sequences) if heads_alone else next_steps(decision.verdict),
    }


def _drop(drop: Fraction, row: dict[str, Any]) -> dict[str, Any]:
    """Baseline's accuracy minus the candidate's; positive where accuracy is lost."""
    entry: dict[str, Any] = {"difference": float(drop), "exact": str(drop), "interval_95": None}
    if row["interval_95"] is not None:
        low, high = row["interval_95"]
        entry["interval_95"] = [0.0 - high, 0.0 - low]  # no minus zero
    elif "why_no_interval" in row:
        entry["why_no_interval"] = row["why_no_interval"]
    return entry
