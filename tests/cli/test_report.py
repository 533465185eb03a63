"""`seqassay report` as a command, on what the other commands wrote."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support import random_reads, write_fasta

from report_html import write_run

PROGRAM = Path(sys.executable).with_name("seqassay")


def section(html: str, title: str) -> str:
    start = html.index(f"<h2>{title}</h2>")
    return html[start : html.index("</section>", start)]


def test_a_run_writes_its_page_and_report_makes_the_same(run: Callable[..., int], tiny_bundle: Path) -> None:
    write_fasta(Path("reads.fa"), [*random_reads(40), ("<b>bold</b>", "ATGGCC" * 20), ("short", "A"), ("n", "N" * 50)])
    options = ("-m", str(tiny_bundle), "--device", "cpu", "--threads", "1", "--shard-size", "10", "--quiet")
    assert run("predict", "reads.fa", "-o", "out", *options, "--keep-intermediate") == 0
    page = Path("out/report.html").read_bytes()
    assert run("report", "out", "-o", "again.html") == 0
    assert Path("again.html").read_bytes() == page
    assert b"<b>bold" not in page and b"43 sequences" in page
    # made again by a run that is resumed: the same but for its times
    Path("out/sequences.tsv").unlink()
    assert run("predict", "reads.fa", "-o", "out", *options, "--keep-intermediate", "--resume") == 0
    resumed = Path("out/report.html").read_text()
    titles = ("How many are viral", "How sure the calls are", "Which sequences are viral", "How long they are",
              "What was not classified, and why")  # fmt: skip
    for title in titles:
        assert section(resumed, title) == section(page.decode(), title)


def test_the_installed_command(tmp_path: Path) -> None:
    write_run(tmp_path / "run", 100)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/run.json").write_text((tmp_path / "run/run.json").read_text()[:-100])

    def report(*words: str) -> subprocess.CompletedProcess[str]:
        command = [PROGRAM, "report", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)

    done = report("run")
    assert done.returncode == 0, done.stderr
    n_bytes = (tmp_path / "report.html").stat().st_size
    assert done.stdout == f"page  report.html ({n_bytes:,} bytes)\n"
    refused = report("run")
    assert refused.returncode == 2 and "report.html: is there already" in refused.stderr
    broken = report("run", "broken", "-o", "two.html")
    assert broken.returncode == 2 and "broken/run.json: is no whole record" in broken.stderr
    assert not (tmp_path / "two.html").exists()


def test_a_full_disk(run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = Path("/dev/full")
    if not small.exists():
        pytest.skip("there is no /dev/full here")
    write_run(tmp_path / "run", 20)
    (tmp_path / "page.html.partial").symlink_to(small)
    assert run("report", "run", "-o", "page.html") == 4
    assert "the disk is full" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()


def test_counts_that_do_not_add_up_are_refused(run: Callable[..., int], tmp_path: Path, capsys) -> None:
    record = write_run(tmp_path / "run", 100)
    (tmp_path / "run/run.json").write_text(json.dumps(record | {"counts": record["counts"] | {"virus": 999}}))
    assert run("report", str(tmp_path / "run"), "-o", "page.html") == 2
    assert "the counts don't add up: scored sequences by call" in capsys.readouterr().err
    assert not Path("page.html").exists()
