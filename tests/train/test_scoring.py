import numpy as np
import pytest

from seqassay.evaluate.classification import roc_auc
from seqassay.train.scoring import group_balanced_auc


def test_balanced_auc_counts_groups_and_not_chunks() -> None:
    # 90 bacteria are told from viruses always, 10 archaea never.
    groups = np.array(["virus"] * 50 + ["bacteria"] * 90 + ["archaea"] * 10)
    labels = (groups == "virus").astype(np.int64)
    scores = np.where(groups == "virus", 0.5, np.where(groups == "bacteria", 0.1, 0.9))
    assert roc_auc(labels, scores) == pytest.approx(0.9)
    weights = {"virus": 0.5, "bacteria": 0.25, "archaea": 0.25}
    assert group_balanced_auc(labels, scores, groups, weights, min_chunks=5) == pytest.approx(0.5)
    assert group_balanced_auc(labels, scores, groups, weights, min_chunks=20) == pytest.approx(1.0)


def test_balanced_auc_of_groups_that_are_all_too_small_is_undefined() -> None:
    labels, groups = np.array([0, 1]), np.array(["bacteria", "virus"])
    assert np.isnan(group_balanced_auc(labels, np.array([0.1, 0.9]), groups, {"virus": 0.5, "bacteria": 0.5}))
