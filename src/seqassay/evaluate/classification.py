"""Figures of a two-class classifier: confusion matrix, rates, ROC-AUC, average precision.

Labels are 0 (others) and 1 (virus); the higher a score, the likelier class 1. Every example may have a weight, so that
a test set whose groups are as large as what was at hand can be read as one whose groups count alike.

What is undefined (ROC-AUC of one class, precision where nothing is called) is NaN and `Metrics.undefined` says why;
a score that is not a number is an error. Curves are in `curves`, intervals and paired tests in `uncertainty`. Shape
letters: N examples, K distinct scores, S weightings of the examples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from seqassay.errors import InputError, SeqassayError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

CLASS_NAMES = ("Non-Viral", "Viral")
# Which classes a figure needs; the confusion matrix and the first five are what a validation report must show.
FIGURES: dict[str, tuple[int, ...]] = {
    "accuracy": (0, 1),
    "precision": (0, 1),
    "recall": (1,),
    "f1": (0, 1),
    "roc_auc": (0, 1),
    "specificity": (0,),
    "mcc": (0, 1),
    "average_precision": (0, 1),
}


@dataclass(frozen=True, slots=True)
class Examples:
    """Checked input: ``is_viral`` (bool), ``scores`` and ``weights`` (float64), all of one length."""

    is_viral: BoolArray
    scores: FloatArray
    weights: FloatArray

    def __len__(self) -> int:
        return len(self.is_viral)


def check_examples(
    labels: npt.ArrayLike, scores: npt.ArrayLike, weights: npt.ArrayLike | None = None, *, probabilities: bool = False
) -> Examples:
    """Labels, scores and weights of one length, every label 0 or 1, no score NaN, every weight finite and ≥ 0.

    Args:
        probabilities: scores have to lie between 0 and 1.

    Raises:
        InputError: says which values are wrong, and how many.
    """
    label_N, score_N = np.asarray(labels), np.asarray(scores, np.float64)
    weight_N = np.ones(len(label_N)) if weights is None else np.asarray(weights, np.float64)
    if not (label_N.ndim == score_N.ndim == weight_N.ndim == 1) or not len(label_N) == len(score_N) == len(weight_N):
        shapes = ", ".join(str(array.shape) for array in (label_N, score_N, weight_N))
        raise InputError(f"labels, scores and weights have the shapes {shapes}; expected three lists of one length")
    if not len(label_N):
        raise InputError("there is no example to evaluate")
    strange = ~np.isin(label_N, (0, 1))
    if strange.any():
        raise InputError(f"{strange.sum():,} labels are neither 0 nor 1, the first {label_N[strange][0]!r}")
    if np.isnan(score_N).any():
        raise InputError(
            f"{np.isnan(score_N).sum():,} of {len(score_N):,} scores are not a number",
            hint="leave out examples without a score, and report how many they were",
        )
    if probabilities and ((score_N < 0) | (score_N > 1)).any():
        raise InputError(f"scores from {score_N.min():g} to {score_N.max():g} are no probabilities")
    if not np.isfinite(weight_N).all() or (weight_N < 0).any() or not weight_N.sum() > 0:
        raise InputError("weights have to be finite, at least 0, and not all 0")
    return Examples(label_N == 1, score_N, weight_N)


@dataclass(frozen=True, slots=True)
class Confusion:
    """Weight of the four outcomes (their number, without weights); Viral is the positive class."""

    true_negative: float
    false_positive: float
    false_negative: float
    true_positive: float

    def matrix(self) -> list[list[float]]:
        """Rows are the truth, columns the calls, both in the order of ``CLASS_NAMES``."""
        return [[self.true_negative, self.false_positive], [self.false_negative, self.true_positive]]


@dataclass(frozen=True, slots=True)
class Metrics:
    """All figures of one set of examples; NaN where ``undefined`` says why.

    Attributes:
        n, n_viral: examples, and those of class 1 (numbers, whatever the weights).
        threshold: a score of at least this is a call of virus; one number, or one for every example.
        precision: share of calls of virus that are right; ``recall``: share of viral examples that are called.
        f1: harmonic mean of the two.
        specificity: share of the others that are not called.
        mcc: Matthews' correlation coefficient, −1 to 1.
        roc_auc: chance that a viral example scores above another one, ties counted half.
        average_precision: precision at every threshold, weighted with the recall it adds.
    """

    n: int
    n_viral: int
    threshold: float | FloatArray
    confusion: Confusion
    accuracy: float
    precision: float
    recall: float
    f1: float
    roc_auc: float
    specificity: float
    mcc: float
    average_precision: float
    undefined: Mapping[str, str] = field(default_factory=dict)


def confusion_matrix(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    *,
    threshold: float | FloatArray = 0.5,
) -> Confusion:
    """Outcomes when a score of at least ``threshold`` is called virus."""
    examples = check_examples(labels, scores, weights)
    return Confusion(*np.bincount(outcome(examples, threshold), examples.weights, minlength=4).tolist())


def metrics(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    *,
    threshold: float | FloatArray = 0.5,
) -> Metrics:
    """Every figure of one set of scores.

    Raises:
        InputError: see `check_examples`.
        SeqassayError: a figure came out of its possible range (a bug here).
    """
    examples = check_examples(labels, scores, weights)
    confusion = confusion_matrix(labels, scores, weights, threshold=threshold)
    ranking = Ranking(examples)
    figures = {
        name: float(values[0])
        for name, values in {
            **rates(np.array(confusion.matrix()).reshape(1, 4)),
            **ranking.figures(examples.weights[None, ranking.order]),
        }.items()
    }
    return Metrics(
        n=len(examples),
        n_viral=int(examples.is_viral.sum()),
        threshold=threshold,
        confusion=confusion,
        undefined={name: _why_undefined(name, confusion) for name, value in figures.items() if math.isnan(value)},
        **figures,
    )


def roc_auc(labels: npt.ArrayLike, scores: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float:
    """Area under the ROC curve, ties counted half; NaN where a class has no example (of a weight above 0)."""
    examples = check_examples(labels, scores, weights)
    ranking = Ranking(examples)
    return float(ranking.figures(examples.weights[None, ranking.order])["roc_auc"][0])


def average_precision(labels: npt.ArrayLike, scores: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float:
    """Precision at every threshold, weighted with the recall it adds (no interpolation); NaN as ``roc_auc``."""
    examples = check_examples(labels, scores, weights)
    ranking = Ranking(examples)
    return float(ranking.figures(examples.weights[None, ranking.order])["average_precision"][0])


class Ranking:
    """Examples sorted once by falling score; every weighting of them then costs one pass.

    Attributes:
        order: examples by falling score.
        bounds_K: where runs of equal scores begin and end in that order, from 0 to N.
    """

    def __init__(self, examples: Examples) -> None:
        self.order = np.argsort(-examples.scores, kind="stable")
        self.sorted_scores = examples.scores[self.order]
        changes = np.flatnonzero(self.sorted_scores[1:] != self.sorted_scores[:-1]) + 1
        self.bounds_K = np.concatenate([[0], changes, [len(examples)]])
        self._is_viral = examples.is_viral[self.order].astype(np.float64)

    def called(self, weights_SN: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Weight of viral and of other examples at or above each distinct score, from none to all: two ``[S, K + 1]``.

        Args:
            weights_SN: weights in the order of falling score.
        """
        return self._cumulated(weights_SN * self._is_viral), self._cumulated(weights_SN * (1 - self._is_viral))

    def figures(self, weights_SN: FloatArray) -> dict[str, FloatArray]:
        """ROC-AUC and average precision under every weighting; NaN where a class has no weight."""
        true_SK, false_SK = self.called(weights_SN)
        viral_S, others_S = true_SK[:, -1], false_SK[:, -1]
        new_true_SK, new_false_SK = np.diff(true_SK), np.diff(false_SK)
        area_S = (new_false_SK * (true_SK[:, 1:] + true_SK[:, :-1])).sum(axis=1) / 2
        called_SK = true_SK[:, 1:] + false_SK[:, 1:]
        precision_SK = np.divide(true_SK[:, 1:], called_SK, out=np.zeros_like(called_SK), where=called_SK > 0)
        both = (viral_S > 0) & (others_S > 0)
        nan = np.full(len(weights_SN), np.nan)
        return {
            "roc_auc": _in_range("roc_auc", np.divide(area_S, viral_S * others_S, out=nan.copy(), where=both)),
            "average_precision": _in_range(
                "average_precision",
                np.divide((new_true_SK * precision_SK).sum(axis=1), viral_S, out=nan.copy(), where=both),
            ),
        }

    def _cumulated(self, weights_SN: FloatArray) -> FloatArray:
        total_SK = np.zeros((len(weights_SN), len(self.bounds_K)))
        if len(self.bounds_K) == weights_SN.shape[1] + 1:  # no ties
            np.cumsum(weights_SN, axis=1, out=total_SK[:, 1:])
        else:
            np.cumsum(np.add.reduceat(weights_SN, self.bounds_K[:-1], axis=1), axis=1, out=total_SK[:, 1:])
        return total_SK


def outcome(examples: Examples, threshold: float | FloatArray) -> IntArray:
    """Of every example: 0 true negative, 1 false positive, 2 false negative, 3 true positive."""
    return 2 * examples.is_viral.astype(np.int64) + (examples.scores >= threshold)


def rates(outcomes_S4: FloatArray) -> dict[str, FloatArray]:
    """Figures that follow from the weights of the outcomes (in the order of `outcome`); NaN where undefined."""
    tn, fp, fn, tp = outcomes_S4.T

    def share(part: FloatArray, whole: FloatArray) -> FloatArray:
        quotient: FloatArray = np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
        return quotient

    figures = {
        "accuracy": share(tn + tp, tn + fp + fn + tp),
        "precision": share(tp, tp + fp),
        "recall": share(tp, tp + fn),
        "f1": share(2 * tp, 2 * tp + fp + fn),
        "specificity": share(tn, tn + fp),
        "mcc": share(tp * tn - fp * fn, np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))),
    }
    return {name: _in_range(name, values) for name, values in figures.items()}


def _in_range(name: str, values: FloatArray) -> FloatArray:
    """The values, held to their range where rounding left it by less than 1e-9; beyond it is an error."""
    lowest = -1.0 if name == "mcc" else 0.0
    if ((values < lowest - 1e-9) | (values > 1 + 1e-9)).any():
        raise SeqassayError(f"{name} came out as {np.nanmin(values)} to {np.nanmax(values)}, which cannot be")
    clipped: FloatArray = np.clip(values, lowest, 1.0)
    return clipped


def _why_undefined(name: str, confusion: Confusion) -> str:
    (tn, fp), (fn, tp) = confusion.matrix()
    if name == "f1":
        return "nothing is Viral, and nothing is called so"
    for needed, weight in ((0, tn + fp), (1, fn + tp)):
        if needed in FIGURES[name] and not weight and name != "precision":
            return f"no example of class {CLASS_NAMES[needed]}"
    return "nothing is called Viral" if not tp + fp else "everything is called Viral"
