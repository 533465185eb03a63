"""The command: its options, its exit codes, and the installed program in a process of its own."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import exit_code, fasta_text, random_reads, write_fasta

PROGRAM = [str(Path(sys.executable).with_name("seqassay")), "predict"]
OUTPUTS = {"prediction_results.txt", "prediction_results_highestscore.csv", "sequences.tsv", "viral.fasta.gz"}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path, tmp_path: Path) -> Callable[..., int]:
    """Call ``seqassay predict`` in this process, in an empty folder; returns the exit code."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str, model: str = str(tiny_bundle)) -> int:
        return exit_code(monkeypatch, "predict", "-m", model, "--device", "cpu", *words)

    return call


def test_a_run_prints_its_summary_and_the_paths(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    write_fasta(Path("reads.fa"), random_reads(30))
    assert run("reads.fa", "-o", "out") == 0
    out, err = capsys.readouterr()
    for expected in (
        "30: ",
        "wall time",
        "protein embedding",
        "packing efficiency",
        "peak memory",
        "out/sequences.tsv",
    ):
        assert expected in out
    assert "[0:00:00] starting: 0 sequences" in err  # something at once
    assert {path.name for path in Path("out").iterdir()} == OUTPUTS | {"report.html", "run.json", "run.log"}
    assert "done: 30 sequences" in Path("out/run.log").read_text()


def test_quiet_prints_nothing(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    write_fasta(Path("reads.fa"), random_reads(5))
    assert run("reads.fa", "-o", "out", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_verbose_logs_to_the_terminal_and_the_log_goes_where_it_is_told(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    write_fasta(Path("reads.fa"), random_reads(5))
    assert run("reads.fa", "-o", "out", "--verbose", "--no-progress", "--log-file", "my.log") == 0
    assert "done: 5 sequences" in capsys.readouterr().err
    assert "done: 5 sequences" in Path("my.log").read_text()
    assert not Path("out/run.log").exists()


def test_settings_from_a_file_and_the_command_line(run: Callable[..., int]) -> None:
    write_fasta(Path("reads.fa"), random_reads(5))
    Path("s.yaml").write_text("inputs: reads.fa\noutput-dir: from_file\nkeep_intermediate: true\n")
    assert run("--config", "s.yaml", "-o", "from_line") == 0
    assert Path("from_line/shards").is_dir()
    assert not Path("from_file").exists()


@pytest.mark.parametrize(
    ("suffix", "compress"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress), ("txt", bytes)]
)
def test_compressed_input_gives_the_same_table(
    run: Callable[..., int], suffix: str, compress: Callable[[bytes], bytes]
) -> None:
    write_fasta(Path("reads.fa"), random_reads(10))
    Path(f"packed.{suffix}").write_bytes(compress(Path("reads.fa").read_bytes()))
    assert run("reads.fa", "-o", "plain") == 0
    assert run(f"packed.{suffix}", "-o", "packed") == 0
    assert Path("plain/sequences.tsv").read_bytes() == Path("packed/sequences.tsv").read_bytes()


GOOD = b">a\nACGTACGTACGT\n"
FASTQ = b"@a\nACGT\n+\nIIII\n"
BAD_INPUTS = {
    "an empty file": b"",
    "no sequence file at all": b"these are\njust words\n",
    "FASTQ with unequal lengths": b"@a\nACGT\n+\nIII\n",
    "FASTQ cut in the middle": FASTQ + b"@b\nACGT\n+\n",
    "a cut gzip": gzip.compress(fasta_text(random_reads(200)).encode())[:-200],
    "binary rubbish": bytes(range(256)) * 20,
    "a header without a sequence": GOOD + b">b\n",
    "a sequence before its header": b"ACGT\n" + GOOD,
    "protein letters": b">a\nMKVLAAGIVGLPQ\n",
    "a gap": b">a\nACGT-ACGT\n",
    "a digit": b">a\nACGT1ACGT\n",
}


@pytest.mark.parametrize("content", BAD_INPUTS.values(), ids=BAD_INPUTS.keys())
def test_bad_input_names_the_file_and_leaves_nothing(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    Path("bad_input").write_bytes(content)
    assert run("bad_input", "-o", "out", "--no-progress") == 2
    error = capsys.readouterr().err
    assert error.startswith("seqassay: error: bad_input")
    assert "Traceback" not in error
    assert not Path("out").exists()


GOOD_INPUTS = {
    "duplicate ids": b">a\nACGTACGT\n>a\nACGTACGT\n",
    "ids with spaces and tabs": b">a b\tc\nACGTACGT\n>d\te\nACGTACGT\n",
    "UTF-8 ids": ">läs\nACGTACGT\n>読\nACGTACGT\n".encode(),
    "an id of 10,000 characters": b">" + b"x" * 10_000 + b"\nACGTACGT\n>b\nACGT\n",
    "CRLF": b">a\r\nACGTACGT\r\n>b\r\nACGT\r\n",
    "lower case and RNA": b">a\nacgtacgu\n>b\nacgt\n",
    "all N": b">a\nNNNNNNNNNN\n>b\nACGT\n",
    "one base": b">a\nA\n>b\nACGT\n",
    "no newline at the end": b">a\nACGT\n>b\nACGT",
    "FASTQ": FASTQ * 2,
}


@pytest.mark.parametrize("content", GOOD_INPUTS.values(), ids=GOOD_INPUTS.keys())
def test_odd_input_gets_a_row_for_each_of_its_two_records(run: Callable[..., int], content: bytes) -> None:
    Path("odd_input").write_bytes(content)
    assert run("odd_input", "-o", "out", "--no-progress") == 0
    lines = Path("out/sequences.tsv").read_bytes().splitlines()
    assert len(lines) == 3
    assert all(line.count(b"\t") == 7 for line in lines)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["reads.fa"], "--output-dir"),
        (["-o", "out"], "not given: INPUT"),
        (["none.fa", "-o", "out"], "none.fa"),
        ([".", "-o", "out"], "directory"),
        (["reads.fa", "-o", "full"], "not empty"),
        (["reads.fa", "-o", "reads.fa"], "in the way"),
        (["reads.fa", "-o", "out", "--device", "tpu"], "tpu"),
        (["reads.fa", "-o", "out", "--device", "cuda:99"], "cuda:99"),
        (["reads.fa", "-o", "out", "--precision", "int3"], "int3"),
        (["reads.fa", "-o", "out", "--pairing", "both"], "both"),
        (["reads.fa", "-o", "out", "--threads", "0"], "--threads is 0"),
        (["reads.fa", "-o", "out", "--shard-size", "0"], "--shard-size is 0"),
        (["reads.fa", "-o", "out", "--resume", "--force"], "exclude"),
        (["reads.fa", "-o", "out", "--config", "none.yaml"], "none.yaml"),
        (["reads.fa", "-o", "out", "--config", "unknown.yaml"], "thread"),
        (["reads.fa", "-o", "out", "--no-such-option"], "--no-such-option"),
        (["reads.fa", "-o", "out", "--log-file", "nowhere/log"], "nowhere/log"),
        (["reads.fa", "odd.fa", "-o", "out", "--pairing", "two-files"], "odd.fa"),
        (["reads.fa", "reads.fq", "-o", "out"], "reads.fq"),
    ],
)
def test_bad_usage_says_what_is_wrong(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    write_fasta(Path("reads.fa"), random_reads(4))
    write_fasta(Path("odd.fa"), random_reads(3))
    Path("reads.fq").write_bytes(FASTQ)
    Path("unknown.yaml").write_text("thread: 3\n")
    Path("full").mkdir()
    Path("full/notes.txt").write_text("mine")
    words = [*words, "--no-progress"]
    assert run(*words) == 2
    assert says in capsys.readouterr().err
    assert not Path("out").exists()


def test_an_unknown_or_broken_bundle(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], tiny_bundle: Path
) -> None:

    write_fasta(Path("reads.fa"), random_reads(4))
    assert run("reads.fa", "-o", "out", model="no_such_bundle") == 2
    assert "no_such_bundle" in capsys.readouterr().err
    shutil.copytree(tiny_bundle, "flipped")
    head = Path("flipped/head.safetensors")
    content = bytearray(head.read_bytes())
    content[-1] ^= 1
    head.write_bytes(content)
    assert run("reads.fa", "-o", "out", model="flipped") == 2
    assert "head.safetensors" in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_places_without_permission(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    reads = write_fasta(Path("reads.fa"), random_reads(4))
    Path("locked").mkdir(mode=0o500)
    for place in ("locked", "locked/out"):
        assert run("reads.fa", "-o", place) == 2
        assert "locked" in capsys.readouterr().err
    reads.chmod(0)
    assert run("reads.fa", "-o", "out") == 2
    assert "reads.fa" in capsys.readouterr().err


def test_a_full_disk_is_resumable(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    write_fasta(Path("reads.fa"), random_reads(400))
    assert run("reads.fa", "-o", "whole") == 0
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # files of at most 16 kB: shards of 50 reads fit, the joined table does not
    resource.setrlimit(resource.RLIMIT_FSIZE, (16_000, hard))
    try:
        assert run("reads.fa", "-o", "out", "--shard-size", "50", "--no-progress") == 4
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    error = capsys.readouterr().err
    assert "the disk is full" in error
    assert "--resume" in error
    assert {path.name for path in Path("out").iterdir()} == {"run.json", "run.log", "shards"}
    assert run("reads.fa", "-o", "out", "--shard-size", "50", "--resume") == 0
    assert Path("out/sequences.tsv").read_text().count("\n") == 401


@pytest.mark.parametrize("kilobytes", [8, 48, 160])
def test_a_file_system_without_room(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path, kilobytes: int
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a file system can only be mounted by root")
    try:
        write_fasta(Path("reads.fa"), random_reads(400))
        assert run("reads.fa", "-o", "disk/out", "--shard-size", "50", "--no-progress") == 4
        error = capsys.readouterr().err
        assert "the disk is full" in error
        assert "Traceback" not in error
        assert not OUTPUTS & {path.name for path in disk.glob("out/*")}
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        assert run("reads.fa", "-o", "disk/out", "--shard-size", "50", "--resume") == 0
        assert Path("disk/out/sequences.tsv").read_text().count("\n") == 401
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# --- the installed program ----------------------------------------------------------------------------------------


def program(tiny_bundle: Path, *words: str, **options: object) -> subprocess.Popen[str]:
    command = [*PROGRAM, *words, "-m", str(tiny_bundle), "--device", "cpu", "--threads", "1"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_standard_input(tiny_bundle: Path, tmp_path: Path) -> None:
    process = program(tiny_bundle, "-", "-o", str(tmp_path / "out"), stdin=subprocess.PIPE)
    out, err = process.communicate(fasta_text(random_reads(20)), timeout=120)
    assert process.returncode == 0, err
    assert "sequences.tsv" in out
    assert (tmp_path / "out" / "sequences.tsv").read_text().count("\n") == 21


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_clean_and_the_command_it_prints_goes_on(
    tiny_bundle: Path, tmp_path: Path, number: signal.Signals
) -> None:
    reads, out = write_fasta(tmp_path / "reads.fa", random_reads(40_000)), tmp_path / "out"
    process = program(tiny_bundle, str(reads), "-o", str(out), "--shard-size", "500")
    wait_for(lambda: (out / "shards" / "shard-000001.zip").exists())
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 3, err
    assert "Traceback" not in err
    printed = err.splitlines()[-1].strip()
    assert printed.endswith("--resume")
    assert not OUTPUTS & {path.name for path in out.iterdir()}
    write_fasta(reads, random_reads(40_000)[:1500])  # a short end, so that the test doesn't wait for all of it
    n_kept = len(list((out / "shards").glob("shard-*.zip")))
    words = printed.split()
    resumed = subprocess.run([*PROGRAM, *words[2:]], capture_output=True, text=True, timeout=120, check=False)
    if n_kept <= 3:
        assert resumed.returncode == 0, resumed.stderr
    else:
        assert "shorter" in resumed.stderr


@pytest.mark.parametrize("n_reads", [0, 60])
def test_a_stop_while_standard_input_waits(tiny_bundle: Path, tmp_path: Path, n_reads: int) -> None:
    out = tmp_path / "out"
    process = program(tiny_bundle, "-", "-o", str(out), "--shard-size", "10", stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stderr is not None
    # input is read a mebibyte at a time: with these headers some shards are there while the rest waits
    process.stdin.write(fasta_text([(f"{name} {'x' * 30_000}", bases) for name, bases in random_reads(n_reads)]))
    process.stdin.flush()
    process.stderr.readline()  # the first progress line: PyTorch is imported, the run has begun
    wait_for(lambda: not n_reads or (out / "shards" / "shard-000001.zip").exists())
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    assert process.returncode == 3
    error = process.stderr.read()
    assert "stopped by SIGTERM" in error
    assert "Traceback" not in error
    assert out.exists() == bool(n_reads)


def wait_for(condition: Callable[[], bool], *, at_most_s: float = 120) -> None:
    deadline = time.monotonic() + at_most_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
