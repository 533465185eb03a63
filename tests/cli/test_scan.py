"""The command: its options, its exit codes, and the installed program in a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import make_tiny_bundle, random_reads, write_fasta

pytest.importorskip("ruptures", reason="regions are called with ruptures")
pytest.importorskip("matplotlib", reason="plots are drawn with matplotlib")

PROGRAM = [str(Path(sys.executable).with_name("seqassay")), "scan"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("calibrated"), calibrated=True)


def test_the_installed_command_scans_and_prints_its_summary(bundle: Path, tmp_path: Path) -> None:
    contigs = write_fasta(tmp_path / "contigs.fa", [*random_reads(2, length=4000), ("tiny", "A")])
    words = [str(contigs), "-o", "out", "-m", str(bundle), "--window", "900", "--step", "300", "--device", "cpu"]
    done = subprocess.run([*PROGRAM, *words], capture_output=True, text=True, cwd=tmp_path, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    for expected in ("3 (8,001 bases): 2 scanned, 1 without a score", "25 of 900 bases every 300", "out/track.tsv"):
        assert expected in done.stdout
    assert "[0:00:00] starting: 0 windows" in done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "track.tsv", "contigs.tsv", "regions.bed", "regions.gff3", "plots", "report.html", "run.json", "run.log",
    }  # fmt: skip
    assert len(list((tmp_path / "out" / "plots").glob("*.png"))) == 2
    again = subprocess.run(
        [*PROGRAM, *words, "--resume"], capture_output=True, text=True, cwd=tmp_path, timeout=300, check=False
    )
    assert again.returncode == 0 and "done already" in again.stdout


def test_a_stop_is_clean_and_the_command_it_prints_goes_on(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    contigs = write_fasta(tmp_path / "genome.fa", random_reads(1, length=900_000))
    words = [str(contigs), "-o", str(out), "-m", str(bundle), "--window", "300", "--no-plots", "--device", "cpu"]
    process = subprocess.Popen([*PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while not (out / "shards" / "shard-000000.zip").exists():
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 3, err
    assert "Traceback" not in err
    assert err.splitlines()[-1].strip().startswith("seqassay scan") and err.rstrip().endswith("--resume")
    assert not (out / "track.tsv").exists()
    assert json.loads((out / "run.json").read_text())["status"] == "stopped"


@pytest.mark.parametrize("kilobytes", [8, 48])  # full at the first shard, full at the plot
def test_a_file_system_without_room(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], bundle: Path, tmp_path: Path, kilobytes: int
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a file system can only be mounted by root")
    try:
        write_fasta(Path("c.fa"), random_reads(1, length=60_000))
        words = ["scan", "c.fa", "-o", "disk/out", "-m", str(bundle), "--window", "300", "--device", "cpu"]
        assert run(*words, "--no-progress") == 4
        error = capsys.readouterr().err
        assert "the disk is full" in error and "--resume" in error and "Traceback" not in error
        assert not list(disk.glob("out/*.tsv")) and not list(disk.glob("out/regions.*"))
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        assert run(*words, "--no-progress", "--resume") == 0
        assert (disk / "out" / "track.tsv").read_text().count("\n") == 201
    finally:
        subprocess.run(["umount", str(disk)], check=False)


def test_bad_usage_ends_with_2_and_says_why(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], bundle: Path
) -> None:
    write_fasta(Path("c.fa"), [("a", "ACGT" * 300)])
    Path("empty.fa").write_text("")
    Path("protein.fa").write_text(">p\nMKLVEEL\n")
    for words, message in (
        (["c.fa", "-o", "out", "--window", "100", "--step", "200"], "never be looked at"),
        (["c.fa", "-o", "out", "-m", "nowhere"], "nowhere"),
        (["c.fa"], "--output-dir"),
        (["empty.fa", "-o", "out", "-m", str(bundle)], "the file is empty"),
        (["protein.fa", "-o", "out", "-m", str(bundle)], "looks like a protein"),
        (["missing.fa", "-o", "out", "-m", str(bundle)], "no such file"),
    ):
        assert run("scan", *words) == 2
        assert message in capsys.readouterr().err
        assert not Path("out").exists()


def test_a_missing_extra_ends_with_2_and_names_the_install_command(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_fasta(Path("c.fa"), [("a", "ACGT" * 300)])
    for package in ("ruptures", "matplotlib"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            assert run("scan", "c.fa", "-o", "out", "-m", str(bundle)) == 2
        assert "pip install 'seqassay[scan]'" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run("scan", "c.fa", "-o", "out", "-m", str(bundle), "--no-plots", "--no-progress") == 0
