import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqassay.errors import InputError, UsageError
from seqassay.evaluate.classification import metrics, roc_auc
from seqassay.evaluate.uncertainty import Balance, bootstrap, mcnemar, share_interval

NAMES = ("accuracy", "precision", "recall", "f1", "specificity", "mcc", "roc_auc", "average_precision")


def clustered_examples(
    seed: int, n_clusters: int = 60, per_cluster: int = 8
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Labels, scores and clusters; a cluster has one label and a level of its own."""
    rng = np.random.default_rng(seed)
    label_C = np.arange(n_clusters) % 2
    clusters = np.repeat(np.arange(n_clusters), per_cluster)
    log_odds = label_C + rng.normal(0, 1, n_clusters)
    scores = 1 / (1 + np.exp(-(log_odds[clusters] + rng.normal(0, 0.5, len(clusters)))))
    return label_C[clusters], np.round(scores, 2), clusters


def test_samples_are_those_of_resampled_examples() -> None:
    """Against the slow way: build every sample's list of examples and measure it."""
    labels, scores, clusters = clustered_examples(1, n_clusters=12, per_cluster=5)
    names = np.array([f"genome {c}" for c in clusters])
    other = np.round(1 - scores / 2, 2)
    found = bootstrap(labels, {"ours": scores, "theirs": other}, names, n_samples=30, seed=5)
    assert (found.n_clusters, found.n_clusters_by_class) == (12, (6, 6))
    distinct, cluster_N = np.unique(names, return_inverse=True)
    drawn = np.random.default_rng(5).integers(0, len(distinct), (30, len(distinct)))
    for i, sample in enumerate(drawn):
        rows = np.concatenate([np.flatnonzero(cluster_N == c) for c in sample])
        for name, values in (("ours", scores), ("theirs", other)):
            expected = metrics(labels[rows], values[rows])
            for figure in NAMES:
                value = found.samples[name][figure][i]
                assert value == pytest.approx(getattr(expected, figure), abs=1e-12, nan_ok=True), figure


def test_blocks_of_samples_do_not_change_them(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, scores, clusters = clustered_examples(2)
    whole = bootstrap(labels, {"a": scores}, clusters, n_samples=50, seed=3)
    monkeypatch.setattr("seqassay.evaluate.uncertainty._SAMPLED_VALUES", 7 * len(labels))
    parts = bootstrap(labels, {"a": scores}, clusters, n_samples=50, seed=3)
    for figure in NAMES:
        assert np.array_equal(whole.samples["a"][figure], parts.samples["a"][figure])


def test_groups_keep_their_weight_in_every_sample() -> None:
    labels, scores, clusters = clustered_examples(3, n_clusters=20)
    groups = clusters % 4  # groups 1 and 3 are viral
    balance = Balance(groups.astype(np.int64), np.array([0.1, 0.2, 0.5, 0.2]))
    found = bootstrap(labels, {"a": scores}, clusters, balance=balance, n_samples=20, seed=9)
    drawn = np.random.default_rng(9).integers(0, 20, (20, 20))
    for i, sample in enumerate(drawn):
        rows = np.concatenate([np.flatnonzero(clusters == c) for c in sample])
        expected = metrics(labels[rows], scores[rows], Balance(groups[rows], balance.group_weights).weights())
        for figure in NAMES:
            assert found.samples["a"][figure][i] == pytest.approx(getattr(expected, figure), abs=1e-12, nan_ok=True)


def test_balanced_weights() -> None:
    balance = Balance(np.array([0, 0, 0, 1, 2]), np.array([0.6, 0.4, 0.0]))
    assert np.allclose(balance.weights(), [0.2, 0.2, 0.2, 0.4, 0.0])


def test_difference_is_paired() -> None:
    labels, scores, clusters = clustered_examples(4)
    slightly_better = scores + np.where(labels == 1, 0.05, 0)
    found = bootstrap(labels, {"a": slightly_better, "b": scores}, clusters, n_samples=400)
    apart = found.interval("roc_auc", "a"), found.interval("roc_auc", "b")
    difference = found.interval("roc_auc", "a", minus="b")
    assert apart[0].low < apart[1].high  # each by itself is wide
    assert difference.low > 0  # the difference is not
    assert difference.low < roc_auc(labels, slightly_better) - roc_auc(labels, scores) < difference.high


def test_no_interval_from_a_handful_of_clusters() -> None:
    labels, scores, _ = clustered_examples(5)
    clusters = np.where(labels == 1, np.arange(len(labels)), -1 - np.arange(len(labels)) % 2)
    found = bootstrap(labels, {"a": scores}, clusters, n_samples=20)
    interval = found.interval("roc_auc", "a")
    assert math.isnan(interval.low)
    assert interval.reason == "2 clusters of class Non-Viral: too few to resample"
    assert found.interval("recall", "a").low > 0
    assert math.isnan(found.interval("specificity", "a").high)


def test_no_interval_of_what_never_varies() -> None:
    labels = np.repeat([0, 1], 10)
    found = bootstrap(labels, {"a": labels * 1.0, "b": labels * 0.9}, np.arange(20), n_samples=50)
    assert found.interval("roc_auc", "a").reason.startswith("1 in every sample")
    assert found.interval("roc_auc", "a", minus="b").high == 0.0


def test_samples_without_the_figure_are_counted() -> None:
    labels = np.repeat([0, 1], [95, 5])
    found = bootstrap(labels, {"a": np.linspace(0, 1, 100)}, np.arange(100), n_samples=1000)
    undefined = int(np.isnan(found.samples["a"]["roc_auc"]).sum())
    assert 0 < undefined < 50
    assert found.interval("roc_auc", "a").n_undefined == undefined
    sparse = bootstrap(labels, {"a": np.linspace(1, 0, 100) * 0.502}, np.arange(100), n_samples=200)
    assert "undefined in" in sparse.interval("precision", "a").reason


def test_coverage_of_the_interval() -> None:
    """Examples that share their genome's level: 95% intervals over genomes hold the truth in about 95 of 100."""
    truth = metrics(*clustered_examples(0, n_clusters=40_000)[:2])
    n = 200
    hits = {"roc_auc": 0, "recall": 0}
    for seed in range(1, n + 1):
        labels, scores, clusters = clustered_examples(seed, n_clusters=100)
        found = bootstrap(labels, {"a": scores}, clusters, n_samples=200, seed=seed)
        for figure in hits:
            interval = found.interval(figure, "a")
            hits[figure] += interval.low <= getattr(truth, figure) <= interval.high
    assert all(0.90 <= hit / n <= 0.99 for hit in hits.values()), hits  # ± 3 standard errors of 200 repetitions


def test_examples_as_clusters_would_be_too_sure() -> None:
    labels, scores, clusters = clustered_examples(6)
    by_cluster = bootstrap(labels, {"a": scores}, clusters).interval("roc_auc", "a")
    by_example = bootstrap(labels, {"a": scores}, np.arange(len(labels))).interval("roc_auc", "a")
    assert by_cluster.high - by_cluster.low > 1.5 * (by_example.high - by_example.low)


def test_bad_requests_are_refused() -> None:
    labels, scores, clusters = clustered_examples(7)
    with pytest.raises(UsageError, match="clusters for another number"):
        bootstrap(labels, {"a": scores}, clusters[1:])
    with pytest.raises(UsageError, match="at least one set"):
        bootstrap(labels, {}, clusters)
    with pytest.raises(InputError, match="not a number"):
        bootstrap(labels, {"a": np.full(len(labels), np.nan)}, clusters)
    found = bootstrap(labels, {"a": scores}, clusters, n_samples=5)
    with pytest.raises(UsageError, match="no figure 'roc_auc' of 'b'"):
        found.interval("roc_auc", "b")
    with pytest.raises(UsageError, match="between 0 and 1"):
        found.interval("roc_auc", "a", level=95)


def test_mcnemar_by_hand() -> None:
    labels = [1] * 10
    first = [1] * 9 + [0]
    second = [0] * 7 + [1, 1, 1]
    found = mcnemar(labels, first, second)
    assert (found.only_first_right, found.only_second_right) == (7, 1)
    assert found.p_exact == 2 * (1 + 8) / 2**8
    assert found.p_mid == 2 * (1 + 8) / 2**8 - 8 / 2**8


def test_mcnemar_of_equal_calls() -> None:
    found = mcnemar([0, 1, 1], [0, 1, 0], [0, 1, 0])
    assert (found.only_first_right, found.only_second_right, found.p_exact) == (0, 0, 1.0)
    tie = mcnemar([1, 1], [1, 0], [0, 1])
    assert (tie.p_exact, tie.p_mid) == (1.0, 0.75)


@settings(deadline=None)  # the first example imports scipy
@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_binomial_test(b: int, c: int) -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is the reference")
    calls = np.repeat([[1, 0], [0, 1], [1, 1]], [b, c, 1], axis=0).T
    found = mcnemar(np.ones(b + c + 1), *calls)
    expected = stats.binomtest(b, b + c).pvalue if b + c else 1.0
    assert found.p_exact == pytest.approx(expected, rel=1e-9)
    assert 0 < found.p_mid <= found.p_exact <= 1
    swapped = mcnemar(np.ones(b + c + 1), *calls[::-1])
    assert swapped.p_mid == found.p_mid


def test_mcnemar_of_many_pairs() -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is the reference")
    for b, c in ((5200, 4900), (60_000, 60_500), (5000, 5000), (15_000, 15_000)):
        calls = np.repeat([[1, 0], [0, 1]], [b, c], axis=0).T
        expected = stats.binomtest(b, b + c).pvalue
        assert mcnemar(np.ones(b + c), *calls).p_exact == pytest.approx(expected, rel=1e-7)


def test_mcnemar_wants_calls() -> None:
    with pytest.raises(InputError, match="compares calls"):
        mcnemar([0, 1], [0.2, 0.8], [0, 1])


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (3, 17), (400, 8000)])
def test_share_interval_is_wilsons(k: int, n: int) -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is the reference")
    expected = stats.binomtest(k, n).proportion_ci(method="wilson")
    assert share_interval(k, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_no_share_of_nothing() -> None:
    for k, n in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(UsageError, match="is no share"):
            share_interval(k, n)


@settings(deadline=None)
@given(st.integers(0, 200), st.integers(0, 200))
def test_mcnemar_is_statsmodels(b: int, c: int) -> None:
    tables = pytest.importorskip("statsmodels.stats.contingency_tables", reason="statsmodels is the reference")
    calls = np.repeat([[1, 0], [0, 1], [1, 1]], [b, c, 1], axis=0).T
    found = mcnemar(np.ones(b + c + 1), *calls)
    assert found.p_exact == pytest.approx(tables.mcnemar([[1, b], [c, 0]], exact=True).pvalue, abs=1e-12)
    stats = pytest.importorskip("scipy.stats", reason="scipy is the reference")
    fewer = min(b, c)
    mid = 2 * stats.binom.cdf(fewer, b + c, 0.5) - stats.binom.pmf(fewer, b + c, 0.5) if b != c else None
    assert found.p_mid == pytest.approx(1 - stats.binom.pmf(b, 2 * b, 0.5) / 2 if mid is None else mid, abs=1e-12)


@given(st.integers(1, 100_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(deadline=None)
def test_share_interval_is_statsmodels(counts: tuple[int, int]) -> None:
    proportion = pytest.importorskip("statsmodels.stats.proportion", reason="statsmodels is the reference")
    k, n = counts
    assert share_interval(k, n) == pytest.approx(proportion.proportion_confint(k, n, method="wilson"), abs=1e-12)


def test_a_perfect_share_has_wilson_s_interval_over_clusters_of_equal_size() -> None:
    clusters = np.repeat(np.arange(20), 5)
    labels = clusters % 2
    found = bootstrap(labels, {"a": labels * 1.0, "b": 0.9 - labels * 0.0}, clusters, n_samples=100)
    assert found.effective_by_class == pytest.approx((10, 10))
    recall = found.interval("recall", "a")
    assert (recall.low, recall.high) == pytest.approx(share_interval(10, 10))
    assert "Wilson" in recall.by
    assert found.interval("mcc", "a").reason.startswith("1 in every sample")


def test_a_difference_to_a_perfect_model_is_newcombe_s() -> None:
    labels, scores, clusters = clustered_examples(8, n_clusters=40)
    found = bootstrap(labels, {"perfect": labels * 1.0, "ours": scores}, clusters, n_samples=200)
    difference = found.interval("recall", "ours", minus="perfect")
    ours = found.interval("recall", "ours")
    assert "Newcombe" in difference.by
    assert -1 <= difference.low < found.values["ours"]["recall"] - 1 < difference.high < 1
    assert difference.low <= ours.low - 1


def test_a_few_clusters_that_hold_most_examples_are_few() -> None:
    labels = np.repeat([0, 1], [1000, 20])
    clusters = np.concatenate([np.repeat([0, 1], 495), 2 + np.arange(10), 100 + np.arange(20)])
    found = bootstrap(labels, {"a": np.linspace(0, 1, 1020)}, clusters, n_samples=20)
    assert found.n_clusters_by_class == (12, 20)
    assert found.interval("roc_auc", "a").reason.startswith(
        "12 clusters of class Non-Viral are worth 2.0 of equal size"
    )
    assert found.interval("recall", "a").low >= 0
