"""The command: what it writes, and how it fails."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support import exit_code

from seqassay import __version__
from seqassay.engine.embed import Embedder, load_encoder
from seqassay.engine.embedding_files import read_embeddings
from seqassay.sequences.ragged import Ragged

PROTEINS = ">p1 first of two\nMKTAYIAKQRQISFVK\nSHFSRQ*\n>p2\nggsl\n>p1\nMKTAYIAKQRQISFVKSHFSRQ\n>größe\nW\n"
READS = ">r1\nACGTTTGACACGTNNACGT\n>r2\nuuacg\n"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """Call ``seqassay embed`` in this process, in a folder that holds p.faa and r.fa; returns the exit code."""
    monkeypatch.chdir(tmp_path)
    Path("p.faa").write_text(PROTEINS)
    Path("r.fa").write_text(READS)
    # the last of two options wins: what a test says comes after
    return lambda *words: exit_code(monkeypatch, "embed", "--device", "cpu", *words)


def names_here() -> set[str]:
    return {path.name for path in Path.cwd().iterdir()} - {"p.faa", "r.fa"}


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".h5"])
def test_proteins(run, tiny_bundle: Path, suffix: str, capsys):
    if suffix == ".h5":
        pytest.importorskip("h5py", reason="the extra h5 is not installed")
    assert run("p.faa", "--encoder", str(tiny_bundle / "protein"), "-o", f"out{suffix}") == 0
    assert f"out{suffix}: 4 embeddings of" in capsys.readouterr().out
    ids, embeddings, metadata = read_embeddings(f"out{suffix}")
    assert ids == ["p1", "p2", "p1", "größe"]
    encoder = load_encoder(tiny_bundle / "protein")
    alone = [b"MKTAYIAKQRQISFVKSHFSRQ", b"GGSL", b"MKTAYIAKQRQISFVKSHFSRQ", b"W"]
    expected = Embedder(encoder, device="cpu", precision="exact").embed(Ragged.from_bytes(alone))
    np.testing.assert_allclose(embeddings, expected, atol=1e-5, rtol=0)
    assert metadata == {
        "format": "seqassay-embeddings",
        "format_version": "1",
        "encoder": "protein",
        "encoder_digest": encoder.digest,
        "kind": "protein",
        "pooling": "mean over residues",
        "precision": "float32",
        "seqassay_version": __version__,
    }
    assert names_here() == {f"out{suffix}"}


def test_nucleotides_with_a_bundle_s_part(run, tiny_bundle: Path):
    assert run("r.fa", "--encoder", f"{tiny_bundle}:nucleotide", "-o", "out.npz", "--precision", "exact") == 0
    ids, embeddings, metadata = read_embeddings("out.npz")
    assert ids == ["r1", "r2"]
    assert metadata["pooling"] == "mean over all tokens"
    assert metadata["encoder"].endswith(":nucleotide")
    expected = Embedder(load_encoder(tiny_bundle / "nucleotide"), device="cpu", precision="exact").embed(
        Ragged.from_bytes([b"ACGTTTGACACGTNNACGT", b"TTACG"])
    )
    np.testing.assert_allclose(embeddings, expected, atol=1e-6, rtol=0)


def test_several_inputs_longer_than_a_block_stay_in_order(run, tiny_bundle: Path):
    rng = np.random.default_rng(0)
    sequences = ["".join(rng.choice(list("LAGVSERT"), n)) for n in rng.integers(1, 9, 9000)]
    text = "".join(f">s{i}\n{sequence}\n" for i, sequence in enumerate(sequences))
    with gzip.open("many.faa.gz", "wt") as file:
        file.write(text)
    assert run("many.faa.gz", "p.faa", "--encoder", str(tiny_bundle / "protein"), "-o", "out.safetensors") == 0
    ids, embeddings, _ = read_embeddings("out.safetensors")
    assert ids == [f"s{i}" for i in range(9000)] + ["p1", "p2", "p1", "größe"]
    some = [0, 17, 8191, 8192, 8999]
    expected = Embedder(load_encoder(tiny_bundle / "protein"), device="cpu").embed(
        Ragged.from_bytes(sequences[i].encode() for i in some)
    )
    np.testing.assert_allclose(embeddings[some], expected, atol=1e-5, rtol=0)


def test_an_existing_output_is_kept_unless_forced(run, tiny_bundle: Path, capsys):
    words = ("p.faa", "--encoder", str(tiny_bundle / "protein"), "-o", "out.npz")
    Path("out.npz").write_text("mine")
    assert run(*words) == 2
    assert "out.npz exists" in capsys.readouterr().err
    assert Path("out.npz").read_text() == "mine"
    assert run(*words, "--force") == 0
    assert len(read_embeddings("out.npz")[0]) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["p.faa", "-e", "{protein}", "-o", "out.txt"], "unknown kind of file '.txt'"),
        (["p.faa", "-e", "{protein}", "-o", "no/out.npz"], "there is no folder"),
        (["p.faa", "-e", "{nucleotide}", "-o", "out.npz"], "p.faa, record 1 (p1), line 2"),
        (["none.faa", "-e", "{protein}", "-o", "out.npz"], "none.faa"),
        (["p.faa", "-e", "esm3", "-o", "out.npz"], "no encoder named 'esm3'"),
        (["p.faa", "-e", "nowhere:protein", "-o", "out.npz"], "no bundle named 'nowhere'"),
        (["p.faa", "-e", "{protein}", "-o", "out.npz", "--device", "gpu"], "unknown device 'gpu'"),
        (["p.faa", "-e", "{protein}", "-o", "out.npz", "--precision", "float8"], "unknown precision 'float8'"),
        (["p.faa", "-e", "{protein}", "-o", "out.npz", "--batch", "0"], "token budget of 0"),
        (["p.faa", "-e", "{protein}", "-o", "out.npz", "--threads", "0"], "--threads is 0"),
    ],
)
def test_what_cannot_work_says_why_ends_with_2_and_writes_nothing(run, tiny_bundle, capsys, words, message):
    places = {"{protein}": str(tiny_bundle / "protein"), "{nucleotide}": str(tiny_bundle / "nucleotide")}
    words = [places.get(word, word) for word in words]
    assert run(*words) == 2
    assert message in capsys.readouterr().err
    assert names_here() == set()


def test_a_bad_letter_in_the_second_block_leaves_nothing(run, tiny_bundle: Path, capsys):
    Path("bad.faa").write_text(">x\nMKL\n" * 9000 + ">bad\nMK7L\n")
    assert run("bad.faa", "-e", str(tiny_bundle / "protein"), "-o", "out.npz") == 2
    assert "bad.faa, record 9001 (bad), line 18002" in capsys.readouterr().err
    assert names_here() == {"bad.faa"}


def test_nucleotides_given_to_a_protein_encoder_raise_a_warning(run, tiny_bundle: Path, capsys):
    Path("reads.fa").write_text(">r\nACGTTGCAACGT\n")
    assert run("reads.fa", "-e", str(tiny_bundle / "protein"), "-o", "out.npz") == 0
    assert "are they nucleotides?" in capsys.readouterr().err


def test_sigterm_ends_it_with_nothing_half_written(tiny_bundle: Path, tmp_path: Path):
    program = str(Path(sys.executable).with_name("seqassay"))
    output = tmp_path / "out.safetensors"
    words = ["embed", "-", "-e", str(tiny_bundle / "protein"), "-o", str(output), "--threads", "1"]
    with subprocess.Popen(
        [program, *words], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        assert process.stdin is not None and process.stderr is not None
        process.stdin.write(PROTEINS * 5000)
        process.stdin.flush()
        partial = output.with_name(output.name + ".partial")
        deadline = time.monotonic() + 60
        while not partial.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        errors = process.stderr.read()
        assert process.wait(30) == 3
    assert "was not written" in errors
    assert list(tmp_path.iterdir()) == []
