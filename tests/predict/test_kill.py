"""SIGKILL at every point where a run makes something durable, then ``--resume``: the same bytes."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from seqassay import durable
from seqassay.config import PredictSettings
from seqassay.predict.run import predict

# The server imports PyTorch once and has no threads, so that a child is a clean process within milliseconds.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["seqassay.predict.run"])

OUTPUTS = ("prediction_results.txt", "prediction_results_highestscore.csv", "sequences.tsv", "viral.fasta.gz")


def run_killed_at_sync(settings: PredictSettings, number: int) -> None:
    """Run, and die by SIGKILL in place of the fsync of this number, counted from 0."""
    original, calls = os.fsync, iter(range(1_000_000))

    def fsync(descriptor: int) -> None:
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        original(descriptor)

    durable.os.fsync = fsync
    predict(settings)


def output_bytes(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in OUTPUTS}


def exit_code(settings: PredictSettings, kill_at_sync: int) -> int | None:
    process = _processes.Process(target=run_killed_at_sync, args=(settings, kill_at_sync))
    process.start()
    process.join(120)
    return process.exitcode


def count_syncs(settings: PredictSettings, monkeypatch: pytest.MonkeyPatch) -> int:
    calls = []
    with monkeypatch.context() as patch:
        patch.setattr(durable.os, "fsync", calls.append)
        predict(settings)
    return len(calls)


def test_killed_at_every_sync_and_resumed(
    settings: PredictSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = replace(settings, output_dir=tmp_path / "whole")
    n_syncs = count_syncs(whole, monkeypatch)
    assert n_syncs >= 20  # manifest, run.json twice, five shards: a file and its folder each; four outputs
    expected = output_bytes(whole.output_dir)
    for number in range(n_syncs):
        folder = tmp_path / f"killed{number}"
        killed = replace(settings, output_dir=folder)
        assert exit_code(killed, number) == -signal.SIGKILL
        predict(replace(killed, resume=True))
        assert output_bytes(folder) == expected, f"killed at sync {number} of {n_syncs}"
        assert sorted(path.name for path in folder.iterdir()) == sorted([*OUTPUTS, "report.html", "run.json"])


def test_killed_again_and_again(settings: PredictSettings, tmp_path: Path) -> None:
    expected_folder = tmp_path / "whole"
    predict(replace(settings, output_dir=expected_folder))
    resumed = replace(settings, output_dir=tmp_path / "killed", resume=True)
    codes = []
    for number in (1, 6, 3, 4, 9, 2, 5):  # counted anew in every run; each gets further than the one before
        codes.append(exit_code(resumed, number))
        if codes[-1] == 0:
            break
    assert codes.count(-signal.SIGKILL) >= 3
    predict(resumed)
    assert output_bytes(resumed.output_dir) == output_bytes(expected_folder)


def test_killed_at_a_random_moment(settings: PredictSettings, tmp_path: Path) -> None:
    expected_folder = tmp_path / "whole"
    predict(replace(settings, output_dir=expected_folder))
    for i, delay_s in enumerate((0.02, 0.1, 0.2, 0.3)):
        folder = tmp_path / f"killed{i}"
        process = _processes.Process(target=predict, args=(replace(settings, output_dir=folder),))
        process.start()
        process.join(delay_s)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.join()
        predict(replace(settings, output_dir=folder, resume=True))
        assert output_bytes(folder) == output_bytes(expected_folder)
