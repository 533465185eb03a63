"""`seqassay dataset`: what it prints and makes, and its exit codes."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support import Run, in_process

from seqassay.cli.dataset import fetch_line
from seqassay.train.dataset import read_labelled
from seqassay.train.dataset_download import FetchProgress


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Call ``seqassay`` in this process; returns exit code, output, errors."""
    monkeypatch.chdir(tmp_path)
    return in_process(monkeypatch, capsys)


@pytest.fixture
def fasta(tmp_path: Path) -> list[str]:
    """One file of unlabelled sequences a label, given with their labels."""
    rng = random.Random(1)
    words = []
    codons = [a + b + c for a in "ACG" for b in "ACGT" for c in "ACGT"]  # no stop among them
    for name in ("viral", "other"):
        lines = [f">{name}{i}\n{''.join(rng.choices(codons, k=300))}\n" for i in range(40)]
        (tmp_path / f"{name}.fa").write_text("".join(lines))
        words.append(f"label={name},group={name}s:{name}.fa")
    return words


def test_build_and_its_summary(run: Run, fasta: list[str], tmp_path: Path) -> None:
    words = ["dataset", "build", *fasta, "-o", "data", "--chunk-length", "300", "--split-by", "genome"]
    code, out, errors = run(*words, "--balance", "all")
    assert code == 0
    assert "train  viral  virals" in out
    assert "read: 80 records, 72,000 bases" in out
    assert "31-mers of test in train" in out
    assert out.rstrip().endswith("in data")
    assert "starting: 0 sequences" in errors
    manifest = json.loads((tmp_path / "data" / "dataset.json").read_text())
    assert manifest["sources"][0]["fields"] == {"label": "viral", "group": "virals"}
    assert len(read_labelled(tmp_path / "data" / "train.fa.gz")) > 100

    code, _, errors = run(*words)
    assert (code, "data: exists already" in errors, "--force" in errors) == (2, True, True)
    assert run(*words, "--force", "--no-progress")[0] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.fa"], "none.fa: no such file"),
        (["--chunk-length", "many"], "--chunk-length is 'many'"),
        (["--chunk-length", "-3"], "--chunk-length is '-3'"),
        (["--fractions", "1,2"], "--fractions is '1,2'"),
        (["--fractions", "0.9,0.2,0.1"], "add up to 1"),
        (["--split-by", "read"], "cannot split by 'read'"),
        (["--balance", "dev"], "no split is called 'dev'"),
        (["--groups", "fungi"], "no record is of the group 'fungi'"),
        (["--frames", "good"], "unknown frame rule 'good'"),
        (["--split-table", "t.tsv"], "not both"),
        (["--table", "t.tsv"], "t.tsv: no such file"),
        (["--sketch-scale", "0"], "the sketch scale is 0"),
        (["-o", "viral.fa"], "viral.fa: a file is in the way"),
        (["viral.fa"], "has no label"),
    ],
)
def test_bad_usage_is_exit_code_2(run: Run, fasta: list[str], words: list[str], message: str, tmp_path: Path) -> None:
    defaults = ["--chunk-length", "300", "--split-by", "genome", "-o", "data"]
    code, out, errors = run("dataset", "build", *fasta, *defaults, *words, "--no-progress")
    assert (code, out) == (2, "")
    assert message in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "data").exists()


def test_fractions_without_a_draw_are_refused(run: Run, fasta: list[str]) -> None:
    words = ["dataset", "build", *fasta, "--chunk-length", "none", "-o", "data", "--fractions", "0.8,0.1,0.1"]
    code, _, errors = run(*words)
    assert (code, "--split-by taxon" in errors) == (2, True)


def test_near_duplicates_end_with_exit_code_2_and_the_way_out(run: Run, tmp_path: Path) -> None:
    rng = random.Random(2)
    same = "".join(rng.choices("ACGT", k=600))
    for split, end in (("train", "A"), ("test", "C")):
        lines = [f">{split}{i} label={label}\n{''.join(rng.choices('ACGT', k=600))}\n" for i, label in
                 enumerate(["viral", "other"] * 3)]  # fmt: skip
        (tmp_path / f"{split}.fa").write_text("".join([*lines, f">{split}_twin label=viral\n{same}{end * 9}\n"]))
    words = ["dataset", "build", "split=train:train.fa", "split=test:test.fa", "-o", "data", "--chunk-length", "none"]
    code, _, errors = run(*words)
    assert code == 2
    assert "test_twin" in errors
    assert "--drop-near-duplicates" in errors
    code, out, _ = run(*words, "--drop-near-duplicates")
    assert code == 0
    assert "left out: 1 records (near duplicate)" in out


@pytest.fixture
def release(tmp_path: Path) -> Iterator[str]:
    """A served folder with a release of two files."""
    folder = tmp_path / "release"
    rng = random.Random(3)
    (folder / "viral").mkdir(parents=True)
    (folder / "fungi").mkdir()
    (folder / "release-catalog").mkdir()
    lines = []
    for group in ("viral", "fungi"):
        bases = [">NC_{}.{} x\n{}\n".format(group, i, "".join(rng.choices("ACGT", k=900))) for i in range(30)]
        data = gzip.compress("".join(bases).encode())
        name = f"{group}.1.1.genomic.fna.gz"
        (folder / group / name).write_bytes(data)
        lines.append(f"{hashlib.md5(data).hexdigest()}\t{name}\n")
    (folder / "RELEASE_NUMBER").write_text("230\n")
    (folder / "release-catalog" / "release230.files.installed").write_text("".join(lines))

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_from_a_fetch_to_a_dataset(run: Run, release: str, tmp_path: Path) -> None:
    words = ["dataset", "fetch", "viral", "fungi", "--format", "fna", "--base-url", release]
    code, out, _ = run(*words, "--list")
    assert (code, "RefSeq release 230, 2 files" in out) == (0, True)
    code, out, errors = run(*words, "-o", "refseq")
    assert code == 0
    assert "RefSeq release 230: 2 files" in out
    assert "checked by their MD5: 2, by gzip's checksum (none is listed): 0" in out
    assert "[0:00:00]" in errors
    code, out, _ = run(*words, "-o", "refseq", "--no-progress")
    assert (code, "downloaded now: 0.0 MB" in out) == (0, True)
    code, out, _ = run("dataset", "build", "refseq", "-o", "data", "--chunk-length", "none", "--split-by", "genome")
    assert code == 0
    assert "other  fungi" in out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["virus", "-o", "refseq"], 2, "no RefSeq group 'virus'"),
        (["viral", "--format", "faa"], 2, "--format is 'faa'"),
        (["viral"], 2, "no folder given"),
        (["plant", "-o", "refseq"], 1, "404"),
    ],
)
def test_fetches_that_fail(run: Run, release: str, words: list[str], code: int, message: str) -> None:
    found, out, errors = run("dataset", "fetch", *words, "--base-url", release, "--attempts", "1")
    assert (found, out) == (code, "")
    assert message in errors


def test_the_line_of_a_download() -> None:
    state = FetchProgress("x.gz", 1, 3, 5_000_000, 20_000_000, 5_000_000)
    line = fetch_line(state, 10)
    assert line == "[0:00:10] file 1 of 3, x.gz: 5.0 of 20.0 MB, 0.5 MB/s, ETA of this file 0:00:30"
    assert fetch_line(FetchProgress(note="asking"), 1) == "[0:00:01] asking"


def test_real_splits(run: Run, shared_data: Path, tmp_path: Path) -> None:
    """The validation records alone, in two drawn splits."""
    source = shared_data / "genomes" / "valid.fa.gz"
    code, out, _ = run(
        "dataset", "build", str(source), "-o", "data", "--chunk-length", "500", "--split-by", "family",
        "--fractions", "0.7,0,0.3", "--drop-near-duplicates", "--balance", "train",
    )  # fmt: skip
    assert code == 0
    assert "read: 2,467 records" in out
    manifest = json.loads((tmp_path / "data" / "dataset.json").read_text())
    viral, other = (
        sum(entry["chunks"] for entry in manifest["counts"]["train"][label].values()) for label in ("viral", "other")
    )
    assert viral == other > 1000
    assert all(row["above_limit"] == 0 for row in manifest["near_duplicates"].get("splits_after", []))
