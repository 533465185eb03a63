import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqassay.errors import InputError
from seqassay.evaluate.classification import (
    average_precision,
    confusion_matrix,
    metrics,
    roc_auc,
)
from seqassay.evaluate.reliability import brier_score, log_loss


def tied_examples(
    seed: int, n: int = 500
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Labels, scores with many ties, weights of which some are 0."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2, n), rng.integers(0, 40, n) / 40, np.maximum(rng.normal(1, 1, n), 0)


@pytest.mark.parametrize(
    ("labels", "scores", "auc", "precision_average"),
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4], 1.0, 1.0),
        ([0, 0, 1, 1], [0.4, 0.3, 0.2, 0.1], 0.0, (1 / 3 + 2 / 4) / 2),
        ([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5], 0.5, 0.5),
        ([0, 1, 1], [0.2, 0.1, 0.3], 0.5, (1 + 2 / 3) / 2),
        ([1, 0], [math.inf, -math.inf], 1.0, 1.0),
    ],
)
def test_ranking(labels: list[int], scores: list[float], auc: float, precision_average: float) -> None:
    assert roc_auc(labels, scores) == pytest.approx(auc, abs=1e-15)
    assert average_precision(labels, scores) == pytest.approx(precision_average, abs=1e-15)


def test_figures_by_hand() -> None:
    # 4 viral, 6 others; at 0.5 three of the viral and two of the others are called.
    labels = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    scores = [0.9, 0.8, 0.5, 0.1, 0.7, 0.6, 0.4, 0.3, 0.2, 0.0]
    found = metrics(labels, scores)
    assert found.confusion.matrix() == [[4, 2], [1, 3]]
    assert (found.n, found.n_viral, found.threshold) == (10, 4, 0.5)
    assert found.accuracy == pytest.approx(0.7)
    assert found.precision == pytest.approx(3 / 5)
    assert found.recall == pytest.approx(3 / 4)
    assert found.specificity == pytest.approx(4 / 6)
    assert found.f1 == pytest.approx(6 / 9)
    assert found.mcc == pytest.approx((3 * 4 - 2 * 1) / math.sqrt(5 * 4 * 6 * 5))
    assert found.roc_auc == pytest.approx((6 + 6 + 4 + 1) / 24)
    assert not found.undefined


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_figures_are_those_of_scikit_learn(seed: int, weighted: bool) -> None:
    reference = pytest.importorskip("sklearn.metrics", reason="scikit-learn is the reference")
    labels, scores, some_weights = tied_examples(seed)
    weights = some_weights if weighted else None
    found, calls = metrics(labels, scores, weights), scores >= 0.5
    expected = {
        "accuracy": reference.accuracy_score(labels, calls, sample_weight=weights),
        "precision": reference.precision_score(labels, calls, sample_weight=weights),
        "recall": reference.recall_score(labels, calls, sample_weight=weights),
        "f1": reference.f1_score(labels, calls, sample_weight=weights),
        "specificity": reference.recall_score(labels, calls, sample_weight=weights, pos_label=0),
        "mcc": reference.matthews_corrcoef(labels, calls, sample_weight=weights),
        "roc_auc": reference.roc_auc_score(labels, scores, sample_weight=weights),
        "average_precision": reference.average_precision_score(labels, scores, sample_weight=weights),
    }
    for name, value in expected.items():
        assert getattr(found, name) == pytest.approx(value, abs=1e-12), name
    assert np.allclose(
        found.confusion.matrix(), reference.confusion_matrix(labels, calls, sample_weight=weights), atol=1e-9
    )


@pytest.mark.parametrize(
    ("labels", "scores", "undefined"),
    [
        ([1, 1], [0.9, 0.1], {
            "roc_auc": "no example of class Non-Viral", "average_precision": "no example of class Non-Viral",
            "specificity": "no example of class Non-Viral", "mcc": "no example of class Non-Viral",
        }),
        ([0, 0], [0.9, 0.1], {
            "roc_auc": "no example of class Viral", "average_precision": "no example of class Viral",
            "recall": "no example of class Viral", "mcc": "no example of class Viral",
        }),
        ([0, 1], [0.1, 0.2], {"precision": "nothing is called Viral", "mcc": "nothing is called Viral"}),
        ([0, 1], [0.8, 0.9], {"mcc": "everything is called Viral"}),
        ([0], [0.1], {
            "precision": "nothing is called Viral", "f1": "nothing is Viral, and nothing is called so",
            "recall": "no example of class Viral", "mcc": "no example of class Viral",
            "roc_auc": "no example of class Viral", "average_precision": "no example of class Viral",
        }),
    ],
)  # fmt: skip
def test_what_is_undefined_says_why(labels: list[int], scores: list[float], undefined: dict[str, str]) -> None:
    found = metrics(labels, scores)
    assert found.undefined == undefined
    assert all(math.isnan(getattr(found, name)) for name in undefined)
    assert not math.isnan(found.accuracy)


@pytest.mark.parametrize(
    ("labels", "scores", "weights", "message"),
    [
        ([], [], None, "no example"),
        ([0, 1], [0.5], None, "expected three lists of one length"),
        ([[0, 1]], [[0.1, 0.2]], None, "expected three lists of one length"),
        ([0, 2], [0.1, 0.2], None, "1 labels are neither 0 nor 1"),
        ([0, 1], [0.1, math.nan], None, "1 of 2 scores are not a number"),
        ([0, 1], [0.1, 0.2], [1, -1], "weights"),
        ([0, 1], [0.1, 0.2], [1, math.nan], "weights"),
        ([0, 1], [0.1, 0.2], [0, 0], "weights"),
    ],
)
def test_bad_input_is_refused(
    labels: list[int], scores: list[float], weights: list[float] | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        metrics(labels, scores, weights)


examples = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 8), st.integers(1, 4)), min_size=2, max_size=40).filter(
    lambda rows: len({label for label, _, _ in rows}) == 2
)


@settings(deadline=None)
@given(examples)
def test_auc_counts_pairs(rows: list[tuple[int, int, int]]) -> None:
    labels, scores, weights = (np.array(column) for column in zip(*rows, strict=True))
    won = total = 0.0
    for i in np.flatnonzero(labels == 1):
        for j in np.flatnonzero(labels == 0):
            pair = float(weights[i] * weights[j])
            total += pair
            won += pair * (1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0)
    assert roc_auc(labels, scores, weights) == pytest.approx(won / total, abs=1e-12)


@settings(deadline=None)
@given(examples)
def test_whole_weights_are_repetitions(rows: list[tuple[int, int, int]]) -> None:
    labels, scores, weights = (np.array(column) for column in zip(*rows, strict=True))
    weighted = metrics(labels, scores, weights, threshold=4)
    repeated = metrics(np.repeat(labels, weights), np.repeat(scores, weights), threshold=4)
    for name in ("accuracy", "precision", "recall", "f1", "specificity", "mcc", "roc_auc", "average_precision"):
        assert getattr(weighted, name) == pytest.approx(getattr(repeated, name), abs=1e-12, nan_ok=True), name


@settings(deadline=None)
@given(examples)
def test_reversed_scores_reverse_the_auc_and_order_does_not_matter(rows: list[tuple[int, int, int]]) -> None:
    labels, scores, weights = (np.array(column) for column in zip(*rows, strict=True))
    auc = roc_auc(labels, scores, weights)
    assert roc_auc(labels, -scores, weights) == pytest.approx(1 - auc, abs=1e-12)
    assert roc_auc(labels[::-1], scores[::-1], weights[::-1]) == pytest.approx(auc, abs=1e-12)


def test_threshold_is_inclusive() -> None:
    assert confusion_matrix([0, 1], [0.5, 0.5]).matrix() == [[0, 1], [0, 1]]
    assert confusion_matrix([0, 1], [0.5, 0.5], threshold=0.6).matrix() == [[1, 0], [1, 0]]


imbalanced = st.tuples(
    st.integers(1, 3), st.integers(1, 400), st.booleans(), st.integers(0, 2**32 - 1), st.integers(1, 6)
)


@settings(deadline=None, max_examples=60)
@given(imbalanced)
def test_every_figure_is_scikit_learn_s_to_1e_12(drawn: tuple[int, int, bool, int, int]) -> None:
    """With ties (scores of few decimals) and as few as one example of a class among hundreds."""
    reference = pytest.importorskip("sklearn.metrics", reason="scikit-learn is the reference")
    n_few, n_many, few_are_viral, seed, decimals = drawn
    rng = np.random.default_rng(seed)
    labels = np.repeat([1, 0] if few_are_viral else [0, 1], [n_few, n_many])
    scores = np.round(rng.random(len(labels)), decimals)
    calls = scores >= 0.5
    found = metrics(labels, scores)
    expected = {
        "accuracy": reference.accuracy_score(labels, calls),
        "recall": reference.recall_score(labels, calls),
        "f1": reference.f1_score(labels, calls),
        "specificity": reference.recall_score(labels, calls, pos_label=0),
        "roc_auc": reference.roc_auc_score(labels, scores),
        "average_precision": reference.average_precision_score(labels, scores),
    }
    if calls.any():
        expected["precision"] = reference.precision_score(labels, calls)
    if calls.any() and not calls.all():
        expected["mcc"] = reference.matthews_corrcoef(labels, calls)
    for name, value in expected.items():
        assert getattr(found, name) == pytest.approx(value, abs=1e-12), name
    assert set(found.undefined) == {"precision", "mcc"} - set(expected)
    assert log_loss(labels, scores) == pytest.approx(reference.log_loss(labels, scores, labels=[0, 1]), abs=1e-12)
    assert brier_score(labels, scores) == pytest.approx(reference.brier_score_loss(labels, scores), abs=1e-12)
