"""Going on with an interrupted evaluation: the same outputs, nothing scored twice, and pieces of others refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqassay.errors import StoppedError, UsageError
from seqassay.measure.progress import RunProgress
from seqassay.predict.scoring import SequenceScorer
from seqassay.predict.stop import StopRequested
from seqassay.prove.evaluate import Evaluation, evaluate
from seqassay.prove.parts import ScoredParts, resume_command
from seqassay.prove.settings import EvaluateSettings
from seqassay.sequences.reading import InputSettings, read_shards
from seqassay.train.output_folder import only_writer

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(inputs: InputSettings) -> Any:
        return read_shards(inputs, max_sequences=20)

    monkeypatch.setattr("seqassay.prove.test_set.read_shards", read)


def settings_of(bundle: Path, test: Path, out: Path, **options: Any) -> EvaluateSettings:
    return EvaluateSettings(bundle=str(bundle), test=test, output_dir=out, device="cpu", threads=1, **options)


def stop_after(monkeypatch: pytest.MonkeyPatch, n: int) -> list[int]:
    """Ask for a stop when ``n`` pieces are scored; returns the sizes of those that are."""
    whole, scored = SequenceScorer.calls, []

    def calls(self: SequenceScorer, bases: Any) -> Any:
        if len(scored) == n:
            raise StopRequested("SIGTERM")
        scored.append(len(bases))
        return whole(self, bases)

    monkeypatch.setattr(SequenceScorer, "calls", calls)
    return scored


def test_a_stopped_evaluation_goes_on_and_ends_alike(
    write_labelled: Write,
    tiny_bundle: Path,
    calibrated_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, baseline = write_labelled(80), str(calibrated_bundle)
    whole = evaluate(settings_of(tiny_bundle, path, tmp_path / "whole", baseline=baseline))
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        stop_after(patched, 7)  # five pieces of the candidate and two of the baseline
        with pytest.raises(StoppedError, match="stopped by SIGTERM; 7 scored pieces are kept") as caught:
            evaluate(settings_of(tiny_bundle, path, out, baseline=baseline))
        assert "--resume" in caught.value.hint
        assert not (out / "metrics.json").exists()
        with pytest.raises(UsageError, match="holds an interrupted evaluation"):
            evaluate(settings_of(tiny_bundle, path, out, baseline=baseline))
    (out / "scored" / "candidate-000001.npz").write_bytes(b"damaged")
    progress = RunProgress()
    with monkeypatch.context() as patched:
        scored = stop_after(patched, 99)
        resumed = evaluate(settings_of(tiny_bundle, path, out, baseline=baseline, resume=True), progress=progress)
    assert len(scored) == 1 + 3  # the damaged piece, and what was left of the baseline
    assert progress.resumed_sequences == 6 * 20 - 18
    for key in ("values", "curves", "comparison", "gate", "by_group", "by_length", "calibration", "identity"):
        assert resumed.record[key] == whole.record[key], key
    assert (out / "predictions.tsv").read_bytes() == (tmp_path / "whole" / "predictions.tsv").read_bytes()
    assert sorted(file.name for file in out.iterdir()) == ["metrics.json", "predictions.tsv", "reports"]


def test_a_finished_evaluation_is_not_made_again(
    write_labelled: Write, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = write_labelled(40), tmp_path / "out"
    first = evaluate(settings_of(tiny_bundle, path, out))
    stop_after(monkeypatch, 0)
    again: Evaluation = evaluate(settings_of(tiny_bundle, path, out, resume=True))
    assert again.record["values"] == first.record["values"]
    with pytest.raises(UsageError, match=r"threshold was 0\.05, is now 0\.1"):
        evaluate(settings_of(tiny_bundle, path, out, resume=True, threshold=0.1))


def test_pieces_of_another_model_or_test_set_are_refused(
    write_labelled: Write,
    tiny_bundle: Path,
    calibrated_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, out = write_labelled(60), tmp_path / "out"
    with monkeypatch.context() as patched:
        stop_after(patched, 1)
        with pytest.raises(StoppedError):
            evaluate(settings_of(tiny_bundle, path, out))
    with pytest.raises(UsageError, match="candidate was"):
        evaluate(settings_of(calibrated_bundle, path, out, resume=True))
    path.write_text(path.read_text() + ">more label=viral group=phage\nATGGATAAATTTGTT\n")
    with pytest.raises(UsageError, match="test_set was"):
        evaluate(settings_of(tiny_bundle, path, out, resume=True))


def test_a_stop_before_the_first_piece_leaves_nothing(
    write_labelled: Write, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(monkeypatch, 0)
    with pytest.raises(StopRequested):
        evaluate(settings_of(tiny_bundle, write_labelled(40), tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_stop_while_figures_are_worked_out_keeps_the_scores(
    write_labelled: Write, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise StopRequested("Ctrl-C")

    monkeypatch.setattr("seqassay.prove.evaluate.overall", stop)
    with pytest.raises(StoppedError, match="stopped by Ctrl-C; 3 scored pieces are kept") as caught:
        evaluate(settings_of(tiny_bundle, write_labelled(40), tmp_path / "out"))
    assert "--resume" in caught.value.hint


def test_two_evaluations_in_one_folder_are_kept_apart(write_labelled: Write, tiny_bundle: Path, tmp_path: Path) -> None:
    path, out = write_labelled(40), tmp_path / "out"
    with only_writer(out), pytest.raises(UsageError, match="another run is working there"):
        evaluate(settings_of(tiny_bundle, path, out))
    assert list(out.iterdir()) == []
    evaluate(settings_of(tiny_bundle, path, out))


def test_a_piece_is_whole_or_scored_again(tmp_path: Path) -> None:
    parts = ScoredParts(tmp_path, "candidate")
    assert parts.get(0, 3) is None
    score, status = np.array([0.1, np.nan, 0.9]), np.array([0, 1, 0], np.uint8)
    parts.put(0, score, status)
    found = parts.get(0, 3)
    assert found is not None and np.array_equal(found[0], score, equal_nan=True) and np.array_equal(found[1], status)
    assert parts.get(0, 4) is None
    path = tmp_path / "candidate-000000.npz"
    whole = path.read_bytes()
    for cut in range(0, len(whole), 97):
        path.write_bytes(whole[:cut])
        assert parts.get(0, 3) is None


def test_the_command_that_goes_on() -> None:
    settings = EvaluateSettings(
        bundle="my bundle", test=Path("t.fa"), output_dir=Path("o"), baseline="mini", threshold=0.01, unit="taxon"
    )
    assert resume_command(settings) == (
        "seqassay evaluate 'my bundle' --test t.fa -o o --baseline mini --threshold 0.01 --unit taxon --resume"
    )
