"""The validation workflow in the documentation, by the installed commands, at toy size."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from page_support import commands, write_files

PAGE = "validation.md"
CODONS = {
    "viral": ("ATG", "GAT", "AAA", "TTT", "GTT", "CAT", "AAT", "ATT", "ACA", "GAA"),
    "other": ("GCC", "CGC", "GGC", "CTG", "GAG", "CCG", "ACC", "GAC", "AAG", "CAG"),
}
# What makes the page's commands small; what they are about stays as it is.
SMALLER = {
    ("benchmark", "speed"): "--n-sequences 8 --warm-ups 1 --runs 1 --pairs 6 --threads 1",
    ("benchmark", "pipeline"): "--repeats 1",
}
TIMED = {("benchmark", "speed"), ("gate",)}  # their verdicts depend on how fast the machine is just now


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Labelled records of codons that tell their label, and reads, under the page's names."""
    rng = np.random.default_rng(1)
    with (tmp_path / "labelled.fa").open("w") as file:
        for label, codons in CODONS.items():
            other = CODONS["other" if label == "viral" else "viral"]
            for i in range(250):
                # a third of the codons are the other label's: a head has to be trained to tell them
                drawn = np.where(rng.random(200) < 2 / 3, rng.choice(codons, 200), rng.choice(other, 200))
                file.write(f'>{label}{i} label={label} group={label}s taxon="{label} {i}"\n{"".join(drawn)}\n')
    subprocess.run(["gzip", str(tmp_path / "labelled.fa")], check=True)
    with (tmp_path / "reads.fastq").open("w") as file:
        for i in range(60):
            bases = "".join(rng.choice(np.array(CODONS["viral" if i % 2 else "other"]), 50))
            file.write(f"@r{i}\n{bases}\n+\n{'I' * len(bases)}\n")
    subprocess.run(["gzip", str(tmp_path / "reads.fastq")], check=True)
    write_files(PAGE, tmp_path, "yaml")
    return tmp_path


def test_every_command_of_the_page(folder: Path) -> None:
    program = shutil.which("seqassay", path=str(Path(sys.executable).parent)) or "seqassay"
    for command in commands(PAGE):
        name, *arguments = command.words
        assert name == "seqassay"
        key = next((key for key in SMALLER if tuple(arguments[: len(key)]) == key), None)
        small = shlex.split(SMALLER[key]) if key else []
        done = subprocess.run([program, *arguments, *small], cwd=folder, capture_output=True, text=True, timeout=300)
        is_timed = any(tuple(arguments[: len(key)]) == key for key in TIMED)
        assert done.returncode in ((0, 5) if is_timed else (command.code,)), (
            f"{arguments}\n{done.stdout}\n{done.stderr}"
        )

    record = json.loads((folder / "evaluation" / "metrics.json").read_text())
    assert record["verdict"] == "PASSED"
    # The toy test set is small, so that "cannot tell" is an answer as well: what matters is that it does not pass.
    halted = json.loads((folder / "halted" / "metrics.json").read_text())["verdict"]
    assert halted in ("DEPLOYMENT HALTED", "UNDECIDED")
    gates = {
        gate["name"]: gate["verdict"] for gate in json.loads((folder / "gates" / "metrics.json").read_text())["gates"]
    }
    assert gates.keys() == {"accuracy", "same calls", "encoder", "packing"}
    assert "MISSING" not in gates.values()
    page = (folder / "decision.html").read_text(encoding="utf-8")
    assert halted in page
    assert not re.search(r'(src|href)="(?!#)', page)  # it needs no network
