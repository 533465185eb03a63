"""The language models' page, from raw text to the report of a sweep, command by command, at toy size."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from page_support import commands, write_files
from support import exit_code

PAGE = "lm_walkthrough.md"
# What makes the page's commands small; what they are about stays as it is.
SMALLER = {
    ("lm", "train"): "--token-budget 4096 --evaluate-every 2 --threads 1",
    ("lm", "evaluate"): (
        "--latency-runs 3 --latency-warm-ups 1 --throughput-s 0.2 --scaling-batches 1,2 --scaling-runs 2 "
        "--memory-runs 1"
    ),
    ("lm", "generate"): "--max-new-tokens 8",
    ("lm", "sweep"): "--threads 1 --logger none",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's files in an empty folder, the sweep's with fewer tokens and seeds."""
    write_files(PAGE, tmp_path, "python", "yaml")
    sweep = tmp_path / "sweep.yaml"
    small, n = re.subn(r"(ranking|final)_tokens: \S+", r"\1_tokens: 1024", sweep.read_text())
    assert n == 2
    sweep.write_text(
        small.replace("throughput_s: 2", "throughput_s: 0.2, latency_runs: 3, skip_memory: true")
        + "final_seeds: [1, 2]\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_of_the_page(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in commands(PAGE):
        program, *arguments = command.words
        if program == "python":
            subprocess.run([sys.executable, *arguments], cwd=folder, check=True)
            continue
        assert program == "seqassay"
        small = SMALLER.get(tuple(arguments[:2]), "").split()
        if "--steps" in arguments:
            small = ["--threads", "1"]
        code = exit_code(monkeypatch, *arguments, *small)
        shown = capsys.readouterr()
        assert code == command.code, f"{arguments}\n{shown.out}\n{shown.err}"

    record = json.loads((folder / "evaluation" / "metrics.json").read_text())
    assert set(record["smallbench"]["tasks"]) == {"sentiment", "nli", "qa", "paraphrase"}
    sweep = json.loads((folder / "sweep" / "sweep.json").read_text())
    assert len(sweep["experiments"]) == 4 and not sweep["failed"]
    assert sweep["decision"]["reason"] in (folder / "sweep" / "REPORT.md").read_text()
    page = (folder / "runs.html").read_text()
    assert all(experiment["name"] in page for experiment in sweep["experiments"])
