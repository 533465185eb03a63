"""The baselines: features, tables and trees against plain computations, and their training at toy size."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier

import baseline_models
import train_baselines
from baseline_cnn import _CODE, ConvolutionalNetwork, MaximumOverPositions, Network, both_strands, piece_widths
from baseline_models import (
    BASELINES,
    BoostedKmers,
    canonical_index,
    kmer_counts,
    kmer_features,
    load_baseline,
)
from seqassay.sequences.ragged import Ragged
from seqassay.train.dataset import reverse_complement

CODONS = {"viral": ("ATG", "GAT", "AAA", "TTT", "GTT", "CAT"), "other": ("GCC", "CGC", "GGC", "CTG", "GAG", "CCG")}
GROUPS = {"virus": "viral", "phage": "viral", "bacteria": "other", "human": "other"}
HOW = ("count", "square root", "frequency")
TINY = ["--length", "150", "--train-chunks", "300", "--network-chunks", "1500"]


def ragged(*sequences: str) -> Ragged:
    return Ragged.from_bytes(sequence.encode() for sequence in sequences)


def plain_counts(sequence: str, k: int) -> Counter[str]:
    """Counts by the smaller of a k-mer and its reverse complement."""
    counts: Counter[str] = Counter()
    for i in range(len(sequence) - k + 1):
        word = sequence[i : i + k]
        if "N" not in word:
            counts[min(word, word[::-1].translate(str.maketrans("ACGT", "TGCA")))] += 1
    return counts


def random_fragments(n: int, length: int, seed: int = 0, *, ambiguous: float = 0.0) -> Ragged:
    rng = np.random.default_rng(seed)
    letters = rng.choice(np.frombuffer(b"ACGTN", np.uint8), (n, length), p=[(1 - ambiguous) / 4] * 4 + [ambiguous])
    return Ragged.from_lengths(letters.reshape(-1), np.full(n, length))


@pytest.fixture(scope="module")
def genomes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("genomes")
    rng = np.random.default_rng(1)
    for split, bases in (("train", 900), ("valid", 300)):
        with gzip.open(folder / f"{split}.fa.gz", "wt") as file:
            for i in range(24 * len(GROUPS)):
                group = list(GROUPS)[i % len(GROUPS)]
                sequence = "".join(rng.choice(CODONS[GROUPS[group]], bases // 3))
                file.write(f">{split}_{i} label={GROUPS[group]} group={group}\n{sequence}\n")
    return folder


@pytest.fixture(autouse=True)
def few_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_baselines, "REGULARISATION", (1e-3, 1e-2))
    trials = ({"k": [2, 3], "learning_rate": 0.1, "max_trees": 5},)
    monkeypatch.setattr(train_baselines, "BOOSTED_TRIALS", trials)
    monkeypatch.setattr(train_baselines, "TRIALS", ({"filters": 30, "width": 10, "dense": 20, "dropout": 0.1},))


@pytest.mark.parametrize(("k", "n"), [(1, 2), (2, 10), (3, 32), (4, 136), (5, 512), (6, 2080)])
def test_strands_share_features(k: int, n: int) -> None:
    index = canonical_index(k)
    assert len(index) == 4**k
    assert sorted(set(index.tolist())) == list(range(n))


@pytest.mark.parametrize("k", [2, 3, 6])
def test_counts_are_those_of_a_plain_loop(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sequences = ["ACGTACGTAA", "NNNNNNNNNN", "TTTTTTTTTT", "ACGNNTTACG", "GATTACAGAT"]
    names = sorted({min(word, other) for word, other in both_names(k)})
    expected = [[plain_counts(sequence, k)[name] for name in names] for sequence in sequences]
    np.testing.assert_array_equal(kmer_counts(ragged(*sequences), 10, k), expected)
    monkeypatch.setattr(baseline_models, "_BLOCK_BASES", 20)  # two fragments a block
    np.testing.assert_array_equal(kmer_counts(ragged(*sequences), 10, k), expected)


def both_names(k: int) -> list[tuple[str, str]]:
    words = [""]
    for _ in range(k):
        words = [word + letter for word in words for letter in "ACGT"]
    return [(word, word[::-1].translate(str.maketrans("ACGT", "TGCA"))) for word in words]


def test_features_of_a_fragment_and_of_its_other_strand_are_the_same() -> None:
    fragments = random_fragments(20, 80, ambiguous=0.02)
    other = Ragged(reverse_complement(fragments.values.reshape(20, 80)).reshape(-1), fragments.offsets)
    np.testing.assert_array_equal(
        kmer_features(fragments, 80, (4, 5), "square root"), kmer_features(other, 80, (4, 5), "square root")
    )


def test_scales_of_features() -> None:
    fragments = ragged("AAAAAA", "AAAANN", "NNNNNN")
    counts, roots, shares = (kmer_features(fragments, 6, (3,), how)[:, 0] for how in HOW)
    assert counts.tolist() == [4, 2, 0]
    assert roots.tolist() == [2, pytest.approx(2**0.5), 0]
    assert shares.tolist() == [4, 4, 0]  # of the k-mers that count, at the scale of a whole fragment
    with pytest.raises(ValueError, match="no such k-mer feature: 'log'"):
        kmer_features(fragments, 6, (3,), "log")


@pytest.mark.parametrize("width", [3, 7, 10])
def test_maximum_from_tables_is_that_of_a_convolution(width: int) -> None:
    torch.manual_seed(0)
    codes = _CODE[random_fragments(6, 40, ambiguous=0.1).values.reshape(6, 40)]
    assert sum(piece_widths(width)) == width
    convolution = torch.nn.Conv1d(4, 17, width, bias=False)
    one_hot = torch.nn.functional.one_hot(torch.from_numpy(codes).long(), 5).float()
    one_hot = (one_hot[..., :4] + one_hot[..., 4:] / 4).transpose(1, 2)  # an ambiguous base is a quarter of each
    expected = convolution(one_hot).amax(dim=2)
    best = MaximumOverPositions.apply(codes, convolution.weight)
    torch.testing.assert_close(best, expected)
    toward = torch.randn_like(expected)
    (expected_gradient,) = torch.autograd.grad(expected, convolution.weight, toward)
    (gradient,) = torch.autograd.grad(best, convolution.weight, toward)
    torch.testing.assert_close(gradient, expected_gradient)


def test_network_reads_both_strands_alike_and_each_fragment_alone() -> None:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"filters": 12, "width": 10, "dense": 8, "dropout": 0.1}
    weights = {name: weight.numpy() for name, weight in Network(**settings).state_dict().items()}
    baseline = ConvolutionalNetwork(60, settings, weights)
    fragments = random_fragments(300, 60, ambiguous=0.02)
    scores = baseline.score(fragments)
    other = Ragged(reverse_complement(fragments.values.reshape(-1, 60)).reshape(-1), fragments.offsets)
    np.testing.assert_allclose(baseline.score(other), scores, atol=1e-6)
    np.testing.assert_allclose(baseline.score(fragments.take(np.array([299]))), scores[299:], atol=1e-6)
    assert both_strands(_CODE[np.frombuffer(b"AACGN", np.uint8)][None]).tolist() == [[0, 0, 1, 2, 4], [4, 1, 2, 3, 3]]


@pytest.mark.parametrize("n_trees", [1, 7, 12])
def test_trees_as_arrays_score_as_scikit_learn(n_trees: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.poisson(1.5, (600, 20)).astype(np.float32)
    labels = (x[:, 0] + x[:, 3] * x[:, 5] + rng.normal(size=600) > 4).astype(int)
    model = HistGradientBoostingClassifier(max_iter=12, early_stopping=False, random_state=0).fit(x, labels)
    arrays = train_baselines.tree_arrays(model, n_trees)
    expected = list(model.staged_decision_function(x))[n_trees - 1].ravel()
    np.testing.assert_allclose(BoostedKmers(6, {}, arrays).log_odds(x), expected, rtol=1e-12, atol=1e-12)


def test_trained_kept_and_loaded(genomes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--data", str(genomes), "--work", str(tmp_path), *TINY]
    train_baselines.main(arguments)
    assert capsys.readouterr().out.count('"valid_group_balanced_roc_auc"') == 4 + 1 + 1  # a line a trial
    fragments = random_fragments(11, 150, ambiguous=0.3)
    for name in BASELINES:
        baseline = load_baseline(name, 150, tmp_path)
        assert (baseline.name, baseline.length) == (name, 150)
        best = max(baseline.trials, key=lambda trial: trial["valid"])
        assert baseline.settings.items() <= best.items()
        assert best["valid"] > 0.9  # the codons of the two labels differ
        scores = baseline.score(fragments)
        assert scores.shape == (11,)
        assert scores.dtype == np.float64
        assert ((scores >= 0) & (scores <= 1)).all()
        assert baseline.score(fragments.take(np.array([], np.int64))).shape == (0,)
        with pytest.raises(ValueError, match="fragments of 150 bases; fragment 1 has 4"):
            baseline.score(Ragged.from_lengths(np.zeros(154, np.uint8), np.array([150, 4])))

    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.npz")}
    assert len(before) == 3
    train_baselines.main(arguments)
    assert capsys.readouterr().out.count("kept, valid") == 3
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.npz")} == before
    assert [entry["name"] for entry in record_of(tmp_path)["baselines"]] == list(BASELINES)


def record_of(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "record.json").read_text())
    return record


def test_a_stopped_run_goes_on_to_the_same_arrays(
    genomes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def arguments(work: str) -> list[str]:
        return ["--data", str(genomes), "--work", str(tmp_path / work), "--only", BASELINES[0], *TINY]

    train_baselines.main(arguments("whole"))
    fit = train_baselines.LogisticRegression.fit
    calls: list[int] = []

    def stopping_fit(self: Any, *given: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return fit(self, *given)

    monkeypatch.setattr(train_baselines.LogisticRegression, "fit", stopping_fit)
    with pytest.raises(KeyboardInterrupt):
        train_baselines.main(arguments("stopped"))
    with pytest.raises(FileNotFoundError):
        load_baseline(BASELINES[0], 150, tmp_path / "stopped")
    train_baselines.main(arguments("stopped"))
    assert len(calls) == 3 + 2
    whole, stopped = (load_baseline(BASELINES[0], 150, tmp_path / work) for work in ("whole", "stopped"))
    assert stopped.settings == whole.settings
    assert [trial["valid"] for trial in stopped.trials] == [trial["valid"] for trial in whole.trials]
    fragments = random_fragments(5, 150)
    np.testing.assert_array_equal(stopped.score(fragments), whole.score(fragments))


@pytest.mark.parametrize("name", BASELINES[1:])
def test_training_again_gives_the_same_arrays(name: str, genomes: Path, tmp_path: Path) -> None:
    for work in ("one", "two"):
        train_baselines.main(["--data", str(genomes), "--work", str(tmp_path / work), "--only", name, *TINY])
    fragments = random_fragments(5, 150)
    one, two = (load_baseline(name, 150, tmp_path / work).score(fragments) for work in ("one", "two"))
    np.testing.assert_array_equal(one, two)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"train_baselines.py --work .* --only '6-mer logistic.*' --length 300"):
        load_baseline(BASELINES[0], 300, tmp_path)
    with pytest.raises(ValueError, match="no baseline '5-mer'; there are: 6-mer"):
        load_baseline("5-mer", 300, tmp_path)


def test_without_data_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train_baselines.main(["--data", str(tmp_path / "none"), "--work", str(tmp_path)])
    assert capsys.readouterr().out.startswith("skipped: the labelled genomes are not here")
