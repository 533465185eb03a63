"""Figures of fragments of one length: how well they are told apart, by group and family, and whether scores hold.

Everything here is a function of labels, groups and scores: no model runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seqassay.evaluate.classification import FIGURES, Metrics, metrics
from seqassay.evaluate.curves import precision_recall_curve, roc_curve
from seqassay.evaluate.reliability import (
    BINS,
    bootstrap_reliability,
    brier_score,
    log_loss,
    reliability_curve,
)
from seqassay.evaluate.uncertainty import Balance, Bootstrap, Interval, bootstrap, share_interval

FEWEST_OF_A_GROUP = 20  # fragments; smaller groups take no part in balanced figures
OURS = "mini"

Json = dict[str, Any]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
StrArray = npt.NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class ScoredFragments:
    """Fragments of one length; all arrays have one entry each.

    Attributes:
        record: number of the record that it was cut from.
        taxa: number of its taxon (metagenome contigs: of its record).
        families: family, "" where unknown.
        has_frame: it has a stop-free frame.
        score: as `predict` prints it; NaN without one.
        raw: probability before calibration; NaN without one.
        threshold: the score from which it is called virus by default.
        baselines: scores by baseline.
    """

    labels: IntArray
    record: IntArray
    taxa: IntArray
    groups: StrArray
    families: StrArray
    has_frame: npt.NDArray[np.bool_]
    score: FloatArray
    raw: FloatArray
    threshold: FloatArray
    baselines: Mapping[str, FloatArray]

    @property
    def called(self) -> npt.NDArray[np.bool_]:
        """Which are called viral by default."""
        found: npt.NDArray[np.bool_] = self.score >= self.threshold
        return found

    @property
    def scored(self) -> IntArray:
        """Fragments with a score."""
        return np.flatnonzero(~np.isnan(self.score))


@dataclass(frozen=True, slots=True)
class Resampling:
    """How intervals are made."""

    n_samples: int
    seed: int

    def of(
        self, f: ScoredFragments, rows: IntArray, unit: str, sets: Mapping[str, FloatArray], balance: Balance | None
    ) -> Bootstrap:
        """Samples of records or taxa."""
        clusters = {"records": f.record, "taxa": f.taxa}[unit][rows]
        thresholds = {of: thresholds_of(f, of)[rows] for of in sets}
        return bootstrap(
            f.labels[rows],
            sets,
            clusters,
            balance=balance,
            thresholds=thresholds,
            n_samples=self.n_samples,
            seed=self.seed,
        )


def thresholds_of(f: ScoredFragments, scores: str) -> FloatArray:
    """Of ours the bundle's, of baselines 0.5."""
    return f.threshold if scores == OURS else np.full(len(f.labels), 0.5)


def fragment_figures(f: ScoredFragments, group_weights: Mapping[str, float], resampling: Resampling) -> Json:
    """All figures of one length."""
    scored = f.scored
    return {
        "n_drawn": len(f.labels),
        "n_viral": int(f.labels.sum()),
        "n_records": len(np.unique(f.record)),
        "n_unscored": len(f.labels) - len(scored),
        "share_with_frame": {
            name: share(f.has_frame[f.labels == label]) for name, label in (("viral", 1), ("other", 0))
        },
        "populations": {
            name: population(f, scored[kept], group_weights, resampling)
            for name, kept in (
                ("all", np.ones(len(scored), np.bool_)),
                ("with_frame", f.has_frame[scored]),
                ("without_frame", ~f.has_frame[scored]),
            )
        },
        "by_group": by_group(f, scored, resampling),
        "by_family": by_family(f, scored, resampling),
        "calibration": calibration_figures(f, scored, group_weights, resampling),
    }


def population(f: ScoredFragments, rows: IntArray, group_weights: Mapping[str, float], resampling: Resampling) -> Json:
    """Figures of ours and of every baseline on the same fragments, plain and with groups balanced."""
    labels = f.labels[rows]
    out: Json = {"n": len(rows), "n_viral": int(labels.sum())}
    if not 0 < labels.sum() < len(labels):
        return {**out, "reason": "figures need fragments of both labels"}
    sets = {OURS: f.score[rows], **{name: scores[rows] for name, scores in f.baselines.items()}}
    balance, left_out = group_balance(labels, f.groups[rows], group_weights)
    out["curves"] = curves(labels, sets[OURS])
    for name, weighting in (("plain", None), ("group_balanced", balance)):
        weights = None if weighting is None else weighting.weights()
        if weighting is not None and len(np.unique(labels[weights > 0])) < 2:
            out[name] = {"reason": f"every group of one label has under {FEWEST_OF_A_GROUP} fragments"}
            continue
        points = {
            of: metrics(labels, scores, weights, threshold=thresholds_of(f, of)[rows]) for of, scores in sets.items()
        }
        samples = {unit: resampling.of(f, rows, unit, sets, weighting) for unit in ("records", "taxa")}
        out[name] = {
            **as_json(points[OURS]),
            "intervals": {
                unit: {
                    "n_clusters": found.n_clusters,
                    **{figure: interval_json(found.interval(figure, OURS)) for figure in FIGURES},
                }
                for unit, found in samples.items()
            },
            "baselines": {of: against(points, samples, of) for of in f.baselines},
        }
    out["group_balanced"]["groups_left_out"] = left_out
    plain = metrics(labels, sets[OURS])
    out["plain"]["at_0.5"] = {name: number(getattr(plain, name)) for name in ("precision", "recall", "specificity")}
    return out


def against(points: Mapping[str, Metrics], samples: Mapping[str, Bootstrap], baseline: str) -> Json:
    """A baseline's ranking figures, and ours minus its own on the same fragments."""
    out: Json = {}
    for figure in ("roc_auc", "average_precision"):
        ours, its = getattr(points[OURS], figure), getattr(points[baseline], figure)
        out[figure] = {
            "value": number(its),
            "intervals": {unit: interval_json(found.interval(figure, baseline)) for unit, found in samples.items()},
            "difference": number(ours - its),
            "difference_intervals": {
                unit: interval_json(found.interval(figure, OURS, minus=baseline)) for unit, found in samples.items()
            },
        }
    return out


def by_group(f: ScoredFragments, rows: IntArray, resampling: Resampling) -> Json:
    """Every group against all fragments of the other label."""
    out: Json = {}
    for group in np.unique(f.groups[rows]).tolist():
        of_group = f.groups[rows] == group
        label = int(f.labels[rows][of_group][0])
        kept = rows[of_group | (f.labels[rows] != label)]
        out[group] = {
            "label": "viral" if label else "other",
            "n": int(of_group.sum()),
            "records": len(np.unique(f.record[rows[of_group]])),
            "taxa": len(np.unique(f.taxa[rows[of_group]])),
            "called_viral": share(f.called[rows[of_group]]),
            "called_viral_at_0.5": share(f.score[rows[of_group]] >= 0.5),
            "called_viral_interval": called_viral_interval(f, rows[of_group], label, resampling),
        }
        if len(np.unique(f.labels[kept])) == 2:
            sets = {OURS: f.score[kept], **{name: scores[kept] for name, scores in f.baselines.items()}}
            points = {of: metrics(f.labels[kept], scores) for of, scores in sets.items()}
            out[group]["roc_auc"] = {of: number(point.roc_auc) for of, point in points.items()}
            out[group]["roc_auc_intervals"] = {
                unit: interval_json(resampling.of(f, kept, unit, {OURS: sets[OURS]}, None).interval("roc_auc", OURS))
                for unit in ("records", "taxa")
            }
    return out


def by_family(f: ScoredFragments, rows: IntArray, resampling: Resampling) -> Json:
    """Recall of every viral family that has at least `FEWEST_OF_A_GROUP` fragments."""
    viral = rows[f.labels[rows] == 1]
    out: Json = {}
    for family in np.unique(f.families[viral]).tolist():
        of_family = viral[f.families[viral] == family]
        if len(of_family) >= FEWEST_OF_A_GROUP:
            out[family] = {
                "n": len(of_family),
                "records": len(np.unique(f.record[of_family])),
                "taxa": len(np.unique(f.taxa[of_family])),
                "recall": share(f.called[of_family]),
                "recall_interval": called_viral_interval(f, of_family, 1, resampling),
            }
    return out


def called_viral_interval(f: ScoredFragments, rows: IntArray, label: int, resampling: Resampling) -> list[float] | Json:
    """Interval over records of the share of fragments of one label that is called viral."""
    called = f.called[rows]
    if called.all() or not called.any():
        return none_or_all_interval(bool(called.any()), f.record[rows])
    figure = "recall" if label else "specificity"
    found = resampling.of(f, rows, "records", {OURS: f.score[rows]}, None).interval(figure, OURS)
    low, high = (found.low, found.high) if label else (1 - found.high, 1 - found.low)
    return {"reason": found.reason} if found.reason else [number(low), number(high)]


def none_or_all_interval(are_all: bool, clusters: IntArray) -> list[float]:
    """Wilson's interval where no example is such, or every one: resampling gives none. It counts clusters."""
    n = len(np.unique(clusters))
    return [number(bound) for bound in share_interval(n if are_all else 0, n)]


def calibration_figures(
    f: ScoredFragments, rows: IntArray, group_weights: Mapping[str, float], resampling: Resampling
) -> Json:
    """Calibration error, Brier score and log loss, before and after calibration, for three compositions.

    ``plain`` is the composition of the file, ``class_balanced`` counts both labels alike, ``group_balanced`` too, and
    within them the groups by their weight in training: what the calibration was fitted to.
    """
    labels = f.labels[rows]
    if not 0 < labels.sum() < len(labels):
        return {"reason": "figures need fragments of both labels"}
    compositions = {
        "plain": np.ones(len(rows)),
        "class_balanced": Balance(labels, np.array([0.5, 0.5])).weights(),
        "group_balanced": group_balance(labels, f.groups[rows], group_weights)[0].weights(),
    }
    out: Json = {"bins": BINS}
    for name, weights in compositions.items():
        if len(np.unique(labels[weights > 0])) < 2:
            out[name] = {"reason": f"every group of one label has under {FEWEST_OF_A_GROUP} fragments"}
            continue
        out[name] = {
            "viral_share": number(float(np.average(labels, weights=weights))),
            "calibrated": probability_figures(labels, f.score[rows], f.record[rows], weights, resampling),
            "raw": probability_figures(labels, f.raw[rows], f.record[rows], weights, resampling),
        }
    return out


def probability_figures(
    labels: IntArray, probabilities: FloatArray, clusters: IntArray, weights: FloatArray, resampling: Resampling
) -> Json:
    """Whether one set of probabilities holds, with the curve and its intervals over records."""
    curve = reliability_curve(labels, probabilities, weights)
    errors_S, shares_SB = bootstrap_reliability(
        labels, probabilities, clusters, weights, n_samples=resampling.n_samples, seed=resampling.seed
    )
    low_B, high_B = np.nanpercentile(shares_SB, [2.5, 97.5], axis=0)
    low, high = np.nanpercentile(errors_S, [2.5, 97.5]).tolist()
    return {
        "expected_calibration_error": number(curve.expected_calibration_error),
        "expected_calibration_error_interval": [number(low), number(high)],
        "maximum_calibration_error": number(curve.maximum_calibration_error),
        "brier_score": number(brier_score(labels, probabilities, weights)),
        "log_loss": number(log_loss(labels, probabilities, weights)),
        "curve": {
            "mean_probability": numbers(curve.mean_probability),
            "viral_share": numbers(curve.viral_share),
            "viral_share_low": numbers(low_B),
            "viral_share_high": numbers(high_B),
            "n": curve.n.tolist(),
        },
    }


def group_balance(labels: IntArray, groups: StrArray, group_weights: Mapping[str, float]) -> tuple[Balance, list[str]]:
    """Groups in the proportions of training, each label one half, without groups of few fragments; their names."""
    names, first, codes = np.unique(groups, return_index=True, return_inverse=True)
    kept = np.bincount(codes) >= FEWEST_OF_A_GROUP
    weights = np.array([group_weights.get(name, 0.0) for name in names.tolist()]) * kept
    for label in (0, 1):
        of_label = labels[first] == label
        weights[of_label] *= 0.5 / max(weights[of_label].sum(), 1e-12)
    return Balance(codes.astype(np.int64), weights), names[~kept].tolist()


def curves(labels: IntArray, scores: FloatArray) -> Json:
    """ROC and precision-recall curve, thinned for drawing."""
    roc, recall = roc_curve(labels, scores, max_points=100), precision_recall_curve(labels, scores, max_points=100)
    return {
        "roc": {"false_positive_rate": numbers(roc.x), "recall": numbers(roc.y)},
        "precision_recall": {"recall": numbers(recall.x), "precision": numbers(recall.y)},
    }


def as_json(found: Metrics) -> Json:
    """Figures as JSON types, with the reason for every one that is missing."""
    out: Json = {name: number(getattr(found, name)) for name in FIGURES}
    out["confusion"] = [numbers(np.array(row)) for row in found.confusion.matrix()]
    return {**out, "undefined": dict(found.undefined)} if found.undefined else out


def interval_json(interval: Interval) -> list[float | None] | Json:
    """``[low, high]``, or the reason why there is none."""
    return {"reason": interval.reason} if interval.reason else [number(interval.low), number(interval.high)]


def share(flags: npt.NDArray[np.bool_]) -> float | None:
    """Share that is true; None of nothing."""
    return number(float(flags.mean())) if len(flags) else None


def number(value: float) -> float | None:
    """Five decimals; None for NaN, which JSON doesn't have."""
    return None if math.isnan(value) else round(float(value), 5)


def numbers(values: FloatArray) -> list[float | None]:
    """As `number`."""
    return [number(value) for value in values.tolist()]
