"""The script that measures `mini` and the one that writes its card, at small size; and their made-up sequences."""

from __future__ import annotations

import gzip
import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import make_tiny_bundle

from _mini_figures import FEWEST_OF_A_GROUP, Resampling, ScoredFragments, fragment_figures
from seqassay.sequences.ragged import Ragged
from seqassay.train.dataset import evaluation_chunks, read_labelled
from seqassay.train.made_up_probes import made_up_sequences, shuffle_dinucleotides

GROUPS = (("viral", "virus"), ("viral", "phage"), ("other", "bacteria"), ("other", "metagenome_other"))


def write_split(path: Path, seed: int, *, n_per_group: int = 7) -> Path:
    """Records of 1100 random bases; viral ones are poorer in G and C."""
    rng = np.random.default_rng(seed)
    lines = []
    for label, group in GROUPS:
        gc = 0.2 if label == "viral" else 0.3
        for i in range(n_per_group):
            bases = "".join(rng.choice(list("ACGT"), 1100, p=[0.5 - gc, gc, gc, 0.5 - gc]))
            family = f'family="F{i % 2}viridae"' if label == "viral" else 'family=""'
            lines.append(f'>{group}{i}.{seed} label={label} group={group} taxon="{group} {i}" {family}\n{bases}\n')
    path.write_bytes(gzip.compress("".join(lines).encode()))
    return path


def run(script: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [f"{script}.py", *arguments])
    __import__(script).main()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, a calibrated bundle and a baseline."""
    models = pytest.importorskip("baseline_models")
    folder = tmp_path_factory.mktemp("mini")
    for seed, split in enumerate(("train", "valid", "test")):
        write_split(folder / f"{split}.fa.gz", seed)
    make_tiny_bundle(folder / "bundles", calibrated=True)
    weights = np.random.default_rng(1).normal(0, 0.1, 136)
    said: dict[str, Any] = {"k": 4, "counts": "square root"}
    models.LogisticKmers(300, said, {"weights": weights, "bias": np.array(0.0)}).write(
        models.baseline_path(models.BASELINES[0], 300, folder / "baselines")
    )
    return folder


@pytest.fixture(scope="module")
def record(folder: Path) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        run("mini_accuracy", arguments(folder), monkeypatch)
    return json.loads((folder / "record.json").read_text())


def arguments(folder: Path) -> list[str]:
    sizes = ["--n-bootstrap", "20", "--n-made-up", "4", "--n-mix", "100", "--n-speed", "20", "--per-record", "3"]
    places = ["--data", folder, "--bundle", folder / "bundles" / "tiny", "--baselines", folder / "baselines"]
    kept = ["--keep-scores", folder / "scores", "--output", folder / "record.json"]
    return [*map(str, places), *map(str, kept), *sizes, "--threads", "1", "--lengths", "100", "300"]


def test_record_holds_every_figure(record: dict[str, Any]) -> None:
    assert list(record["by_length"]) == ["100", "300"]
    found = record["by_length"]["300"]
    assert found["n_drawn"] == found["populations"]["all"]["n"] == 28
    assert found["populations"]["with_frame"]["n"] + found["populations"]["without_frame"]["n"] == 28
    plain = found["populations"]["all"]["plain"]
    assert 0 <= plain["intervals"]["records"]["roc_auc"][0] <= plain["roc_auc"] <= 1
    assert sum(map(sum, plain["confusion"])) == 28
    assert set(found["by_group"]) == {group for _, group in GROUPS}
    error = found["calibration"]["class_balanced"]["calibrated"]["expected_calibration_error"]
    assert 0 <= error <= 1
    ours, its = plain["roc_auc"], plain["baselines"]["6-mer logistic regression"]["roc_auc"]
    assert its["difference"] == pytest.approx(ours - its["value"], abs=2e-5)
    missing = {(m["name"], m["length"]) for m in record["baselines"]["missing"]}
    assert missing == {("gradient-boosted k-mers", 300), ("convolutional network", 300)}
    assert set(record["made_up"]["random, 50% GC"]["by_length"]) == {"150", "300", "500"}
    mix = record["fdr_mixes"]["by_length"]["1000"]["by_viral_share"]["0.5"]
    assert (mix["n"], mix["viral_share"]) == (100, 0.5)
    assert len(record["speed"]["seconds"]) == 3


def test_kept_scores_give_the_same_record(
    folder: Path, record: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import mini_accuracy

    def refuse(*_: object) -> None:
        raise AssertionError("scored again")

    monkeypatch.setattr(mini_accuracy.MainPath, "_compute", refuse)
    run("mini_accuracy", arguments(folder), monkeypatch)
    again = json.loads((folder / "record.json").read_text())
    assert list(again) == list(record)
    for key in set(record) - {"made", "speed", "provenance"}:
        assert again[key] == record[key], key


def test_card_is_written_from_the_record(
    folder: Path, record: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason="the card's pictures need matplotlib")
    run("mini_card", [str(folder / "record.json"), str(tmp_path / "mini.md")], monkeypatch)
    page = (tmp_path / "mini.md").read_text()
    assert record["bundle"]["digest"] in page
    assert f"{record['by_length']['300']['populations']['all']['plain']['roc_auc']:.3f}" in page
    assert not re.search(r"\bNone\b|\bnan\b", page.replace("None of the sequences", ""))
    for name in ("accuracy", "curves", "calibration"):
        assert f"(mini_{name}.svg)" in page
        assert (tmp_path / f"mini_{name}.svg").stat().st_size > 5000
    (tmp_path / "other.json").write_text('{"kind": "speed"}')
    with pytest.raises(SystemExit, match="no record of mini_accuracy"):
        run("mini_card", [str(tmp_path / "other.json"), str(tmp_path / "x.md")], monkeypatch)


def test_figures_of_one_label_say_so() -> None:
    n = FEWEST_OF_A_GROUP
    scores = np.linspace(0, 1, n)
    fragments = ScoredFragments(
        labels=np.ones(n, np.int64),
        record=np.arange(n),
        taxa=np.arange(n),
        groups=np.full(n, "virus"),
        families=np.full(n, ""),
        has_frame=np.arange(n) % 2 == 0,
        score=np.where(np.arange(n) == 3, np.nan, scores),
        raw=scores,
        threshold=np.full(n, 0.5),
        baselines={},
    )
    found = fragment_figures(fragments, {"virus": 1.0}, Resampling(10, 1))
    assert found["n_unscored"] == 1
    assert found["populations"]["all"] == {
        "n": n - 1, "n_viral": n - 1, "reason": "figures need fragments of both labels",
    }  # fmt: skip
    assert found["calibration"] == {"reason": "figures need fragments of both labels"}
    assert found["by_group"]["virus"]["called_viral"] == pytest.approx(10 / 19, abs=1e-5)


@settings(deadline=None)
@given(st.text("ACGT", min_size=1, max_size=80), st.integers(0, 5))
def test_shuffling_keeps_every_dinucleotide(sequence: str, seed: int) -> None:
    bases = np.frombuffer(sequence.encode(), np.uint8)
    shuffled = shuffle_dinucleotides(bases, np.random.default_rng(seed)).tobytes().decode()
    pairs = [Counter(text[i : i + 2] for i in range(len(text) - 1)) for text in (sequence, shuffled)]
    assert pairs[0] == pairs[1]
    assert (shuffled[0], shuffled[-1]) == (sequence[0], sequence[-1])


def test_shuffling_reaches_every_order() -> None:
    """A,C,A,G,A has two orders of its dinucleotides; both come, about as often."""
    rng = np.random.default_rng(1)
    bases = np.frombuffer(b"ACAGA", np.uint8)
    found = Counter(shuffle_dinucleotides(bases, rng).tobytes() for _ in range(400))
    assert set(found) == {b"ACAGA", b"AGACA"}
    assert 140 < found[b"ACAGA"] < 260


def test_made_up_sequences(tmp_path: Path) -> None:
    chunks = evaluation_chunks(read_labelled(write_split(tmp_path / "x.fa.gz", 3)), 150, seed=1)
    made: dict[str, Ragged] = {kind: bases for kind, _, bases in made_up_sequences(chunks, 150, n=8, seed=1)}
    assert len(made) == 11
    for kind, bases in made.items():
        assert len(bases) == 8 and (bases.lengths == 150).all(), kind
        assert set(bases.values.tolist()) <= set(b"ACGT")
    gc = np.isin(made["random, 60% GC"].values, list(b"GC")).mean()
    assert 0.55 < gc < 0.65

    def letters(bases: Ragged) -> list[Counter[int]]:
        return sorted((Counter(one.tolist()) for one in bases), key=lambda counts: sorted(counts.items()))

    for name in ("viral", "other"):  # all of them are of the same real fragments
        assert letters(made[f"bases shuffled, {name}"]) == letters(made[f"reversed, {name}"])
    most = max(Counter(made["one base repeated"].to_bytes()[0]).values())
    assert most >= 0.9 * 150
