from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from support import exit_code


@pytest.fixture
def validate(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Call ``seqassay validate`` in this process; returns the exit code."""
    return partial(exit_code, monkeypatch, "validate")


def test_a_good_file(validate: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "reads.fa"
    file.write_text(">a\nACGT\n>b\nAC\n")
    assert validate(file) == 0
    out, err = capsys.readouterr()
    assert f"{file}: FASTA, not compressed" in out
    assert err == ""


def test_json(validate: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "räds.fa"
    file.write_text(">a\nACGT\n>b\nAC\n")
    assert validate("--json", file) == 0
    (summary,) = json.loads(capsys.readouterr().out)["inputs"]
    assert summary == {
        "name": str(file), "format": "FASTA", "compression": "none", "sequences": 2, "bases": 6, "min_length": 2,
        "median_length": 3.0, "max_length": 4, "ambiguous_bases": 0, "all_ambiguous": 0, "shorter_than_3": 1,
        "duplicate_ids": 0, "with_frame": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b">a\nACGT\n>b\nMKVL\n", "record 2 (b), line 4: 'L' at position 4"),
        (b"@a\nACGT\n+\nIII\n", "record 1 (a), line 4: 4 bases but 3 qualities"),
        (b"\x1f\x8b\x08\0\0\0", "gzip data end too early"),
    ],
)
def test_a_bad_file_ends_with_2_and_its_place(
    data: bytes, message: str, validate: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bad"
    file.write_bytes(data)
    assert validate(file) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert str(file) in err
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.fa"], "no such file"),
        (["."], "directory"),
        (["--pairing", "mates", "x.fa"], "unknown pairing 'mates'"),
        (["-", "-"], "only once"),
    ],
)
def test_bad_usage(
    words: list[str], message: str, validate: Callable[..., int], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert validate(*words) == 2
    assert message in capsys.readouterr().err


def test_standard_input_of_the_installed_command() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("seqassay"), "validate", "--json", "-"],
        input=b"@a\nACGT\n+\nIIII\n", capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (summary,) = json.loads(done.stdout)["inputs"]
    assert (summary["name"], summary["format"], summary["sequences"]) == ("standard input", "FASTQ", 1)
