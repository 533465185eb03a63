"""`seqassay compare` as a command: files, verdicts and exit codes."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from seqassay import durable
from seqassay.cli.main import build_app
from seqassay.predict.stop import StopRequested
from seqassay.prove.compare.settings import CompareSettings
from seqassay.train.output_folder import only_writer

HEADER = "Sequence_ID\tPrediction\tscore1\tscore2\n"


def write_frames(name: str, n: int, *, flipped: int = 0, shift: float = 0.0, n_missing: int = 0) -> Path:
    """Half virus, half others; ``flipped`` of them with the other label."""
    rows = []
    for i in range(n_missing, n):
        p = (0.9 if i % 2 else 0.1) if i >= flipped else 0.495 if i % 2 else 0.505
        p += shift if i >= flipped else 0
        rows.append(f"r{i}_chunk_1F1\t{'virus' if p > 0.5 else 'others'}\t{1 - p:.6f}\t{p:.6f}\n")
    path = Path(name)
    path.write_text(HEADER + "".join(rows))
    return path


@pytest.fixture
def compare(run: Callable[..., int]) -> Callable[..., int]:
    """Compare a.txt with b.txt into ``out``."""
    write_frames("a.txt", 1000)
    write_frames("b.txt", 1000, shift=5e-5)
    return lambda *words: run("compare", "a.txt", "b.txt", "-o", "out", *words)


def record() -> dict[str, Any]:
    return json.loads(Path("out/metrics.json").read_text())


def test_the_installed_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_frames("a.txt", 1000)
    write_frames("b.txt", 1000, flipped=2, shift=5e-5, n_missing=1)
    command = [Path(sys.executable).with_name("seqassay"), "compare", "a.txt", "b.txt", "-o", "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "999 in both, 1 in A alone, 0 in B alone" in done.stdout
    assert (
        "1: 0 within 0.01, 0 within 0.05, 0 within 0.1 of the decision boundary, the farthest at 0.4000" in done.stdout
    )
    assert "identity unknown: nothing says which model A is of" in done.stdout
    assert "SKIPPED: no limit was given (--min-agreement)" in done.stdout
    assert "reading frames of A: a.txt" in done.stderr
    files = sorted(str(path.relative_to("out")) for path in Path("out").rglob("*") if path.is_file())
    assert files == ["metrics.json", "mismatches.tsv", "reports/comparison_report.md"]
    rows = [line.split("\t") for line in Path("out/mismatches.tsv").read_text().splitlines()]
    assert rows[0][:4] == ["level", "kind", "id", "occurrence"]
    assert [row[:4] for row in rows[1:]] == [
        ["frames", "flip", "r1_chunk_1F1", "1"],
        ["frames", "only_in_a", "r0_chunk_1F1", "1"],
    ]
    assert record()["format"] == "seqassay-comparison"
    assert record()["levels"][0]["scores"]["differences"]["score2"]["median_absolute"]["value"] == pytest.approx(5e-5)
    assert "| virus in A | 499 | 1 |" in Path("out/reports/comparison_report.md").read_text()


def test_verdicts_and_exit_codes(compare, capsys) -> None:
    assert compare("--min-agreement", "0.99") == 0
    assert record()["verdict"] == "PASSED"
    assert "PASSED: at every level the agreement and its whole interval reach the limit" in capsys.readouterr().out

    write_frames("b.txt", 1000, flipped=100)
    assert compare("--min-agreement", "0.99", "--force") == 5
    shown = capsys.readouterr()
    assert "FAILED: agreement counting missing rows: frames 90.00% (87.98% to 91.71%); it has to be" in shown.err
    assert "1. Do not take one side for the other." in shown.err
    assert record()["verdict"] == "FAILED"
    assert "**FAILED**" in Path("out/reports/comparison_report.md").read_text()

    write_frames("b.txt", 1000, flipped=9)
    assert compare("--min-agreement", "0.99", "--force") == 5
    assert "UNDECIDED" in capsys.readouterr().err

    write_frames("b.txt", 1000, n_missing=300)
    assert compare("--min-agreement", "0.99", "--force") == 5, "half a file must not pass for the whole"
    assert record()["levels"][0]["labels"]["agreement"]["value"] == 1
    assert record()["verdict"] == "FAILED"


def test_tolerance_and_mismatch_limit(compare, capsys) -> None:
    write_frames("b.txt", 1000, flipped=20, shift=5e-5)
    assert compare("--tolerance", "1e-5", "--mismatch-limit", "3") == 0
    assert record()["levels"][0]["scores"]["within_tolerance"]["value"] == 0
    assert record()["mismatches"][0] == {"level": "frames", "kind": "flip", "n": 20, "listed": 3}
    assert len(Path("out/mismatches.tsv").read_text().splitlines()) == 4
    assert "3 of 20 rows; --mismatch-limit lists more" in capsys.readouterr().out
    assert compare("--mismatch-limit", "0", "--force") == 0
    assert len(Path("out/mismatches.tsv").read_text().splitlines()) == 1


def test_a_folder_with_something_in_it_is_left_alone(compare, capsys) -> None:
    Path("out").mkdir()
    Path("out/notes.txt").write_text("mine")
    assert compare() == 2
    assert "the output folder is not empty (it holds notes.txt)" in capsys.readouterr().err
    assert compare("--force") == 0
    assert Path("out/notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--min-agreement", "99"], "for 99 percent give 0.99"),
        (["--min-agreement", "1"], "no number of rows proves an agreement of 1"),
        (["--tolerance", "-1"], "--tolerance is -1"),
        (["--mismatch-limit", "-1"], "it is a number of rows, from 0 on"),
        (["--allow-different", "bundle,model"], "--allow-different names 'model'; it takes any of: bundle, encoder"),
    ],
)
def test_what_cannot_work_says_why_ends_with_2_and_writes_nothing(
    compare, capsys, words: list[str], message: str
) -> None:
    assert compare(*words) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert not Path("out").exists()


def test_a_bad_row_names_file_and_line(compare, capsys) -> None:
    with Path("b.txt").open("a") as file:
        file.write("r1000_chunk_1F1\tvirus\t0.1\n")
    assert compare() == 2
    assert "b.txt, line 1002: 3 columns where the header has 4" in capsys.readouterr().err
    assert not Path("out").exists()


def test_the_output_folder_is_needed_and_is_no_side(run, compare, capsys) -> None:
    assert run("compare", "a.txt", "b.txt") == 2
    assert "not given: --output-dir" in capsys.readouterr().err
    Path("folder").mkdir()
    assert run("compare", "a.txt", "folder", "-o", "folder", "--force") == 2
    assert "folder: is one of the two sides" in capsys.readouterr().err


def test_every_option_is_a_setting_and_every_setting_an_option() -> None:
    command = get_command(build_app()).commands["compare"]  # type: ignore[attr-defined]
    fields = {field.name for field in dataclasses.fields(CompareSettings)}
    assert {parameter.name for parameter in command.params} - {"progress"} == fields


def test_a_stopped_comparison_ends_with_3_and_writes_nothing(compare, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    monkeypatch.setattr("seqassay.prove.compare.command.compare_tables", stopped)
    assert compare() == 3
    assert "stopped by SIGTERM; the comparison was not finished" in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), StopRequested("SIGTERM")])
def test_a_full_disk_or_a_stop_while_outputs_are_written_leaves_what_was_there(
    compare, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    assert compare() == 0
    before = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    write_frames("b.txt", 1000, flipped=100)
    staged: list[str] = []

    def third_fails(path: Path, pieces: Iterable[bytes]) -> int:
        staged.append(path.name)
        if len(staged) == 3:
            raise error
        return durable.stage(path, pieces)

    monkeypatch.setattr("seqassay.prove.outputs.stage", third_fails)
    assert compare("--force") == (4 if isinstance(error, OSError) else 3)
    assert staged == ["mismatches.tsv", "comparison_report.md", "metrics.json"]
    assert {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()} == before


def test_of_two_comparisons_in_one_folder_the_later_is_refused(
    compare, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both began when the folder was empty; the other one is writing, or ended first."""
    with only_writer(Path("out")):
        assert compare() == 2
    assert "out: another run is working there" in capsys.readouterr().err
    assert list(Path("out").iterdir()) == []

    with monkeypatch.context() as patched:
        others = Path("out/metrics.json")
        patched.setattr("seqassay.prove.compare.command.check_record", lambda _: others.write_text("the other's"))
        assert compare() == 2
    assert "out: the output folder is not empty (it holds metrics.json)" in capsys.readouterr().err
    assert [(path.name, path.read_text()) for path in Path("out").iterdir()] == [("metrics.json", "the other's")]
    assert compare("--force") == 0
    assert record()["kind"] == "comparison"
