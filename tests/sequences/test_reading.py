from __future__ import annotations

import bz2
import gzip
import lzma
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqassay.errors import UsageError
from seqassay.sequences import opening
from seqassay.sequences.reading import InputSettings, Pairing, RecordsDigest, Shard, read_proteins, read_shards

Rows = list[tuple[str, str]]

FASTA = b">r1 first\nACGT\nAC\n>r2\nTTT\n"
FASTQ = b"@r1 first\nACGTAC\n+\nIIIIII\n@r2\nTTT\n+r2\n!~5\n"


def zstd(data: bytes) -> bytes:
    module = pytest.importorskip("zstandard", reason="writes the zstd input")
    return bytes(module.compress(data))


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes, "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstd,
}  # fmt: skip


@contextmanager
def standard_input(data: bytes) -> Iterator[None]:
    """File descriptor 0 gives ``data``."""
    before = os.dup(0)
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        os.dup2(file.fileno(), 0)
        try:
            yield
        finally:
            os.dup2(before, 0)
            os.close(before)


def write(folder: Path, data: bytes, name: str = "input") -> str:
    file = folder / name
    file.write_bytes(data)
    return str(file)


def shards_of(*paths: str, pairing: Pairing = "none", **limits: int) -> list[Shard]:
    return list(read_shards(InputSettings(paths, pairing), **limits))


def rows_of(shards: list[Shard]) -> Rows:
    return [
        (name, bases.decode())
        for shard in shards
        for name, bases in zip(shard.ids, shard.bases.to_bytes(), strict=True)
    ]


def read(folder: Path, data: bytes) -> Rows:
    return rows_of(shards_of(write(folder, data)))


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("data", [FASTA, FASTQ], ids=["fasta", "fastq"])
@pytest.mark.parametrize("source", ["right name", "wrong name", "stdin"])
def test_every_compression_by_content(data: bytes, compression: str, source: str, tmp_path: Path) -> None:
    packed = COMPRESSIONS[compression](data)
    if source == "stdin":
        with standard_input(packed):
            (shard,) = shards_of("-")
    else:
        (shard,) = shards_of(write(tmp_path, packed, "reads.fq." + (compression if source == "right name" else "gz")))
    assert shard.ids == ["r1", "r2"]
    assert shard.headers == ["r1 first", "r2"]
    assert shard.bases.to_bytes() == [b"ACGTAC", b"TTT"]
    assert shard.qualities == (["IIIIII", "!~5"] if data is FASTQ else None)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b">a\nACGT", [("a", "ACGT")]),
        (b">a\nACGT\n\n\n", [("a", "ACGT")]),
        (b"\n\n  \n>a\nAC\n", [("a", "AC")]),
        (b"\xef\xbb\xbf>a\nAC\n", [("a", "AC")]),
        (b">a\r\nAC\r\nGT\r\n>b\r\nT\r\n", [("a", "ACGT"), ("b", "T")]),
        (b">a\nAC GT\t\n\nAC\n", [("a", "ACGTAC")]),
        (b">a\nacgtunryswkmbdhv\n", [("a", "ACGTTNRYSWKMBDHV")]),
        (b">a\nACGU\n", [("a", "ACGT")]),
        (b">a\nA\n", [("a", "A")]),
        (b">a\nNNNN\n", [("a", "NNNN")]),
        (b">a\nA\n>a\nC\n>a\nA\n", [("a", "A"), ("a", "C"), ("a", "A")]),
        (b">a b\tc\nA\n>d\te\nC\n", [("a", "A"), ("d", "C")]),
        (b"> a b\nA\n", [("a", "A")]),
        (">Grünalge→7 x\nA\n".encode(), [("Grünalge→7", "A")]),
        (b">caf\xe9 latin-1\nA\n", [("caf\ufffd", "A")]),
        (b">" + b"x" * 10_000 + b"\nA\n", [("x" * 10_000, "A")]),
        (b">a>b\nA\n", [("a>b", "A")]),
        (b"@a\nAC\n+\nII", [("a", "AC")]),
        (b"@a\nAC\n+\n@@\n\n\n\n\n\n\n", [("a", "AC")]),
        (b"\n\n@a\r\nAC\r\n+\r\n>>\r\n@b\r\nG\r\n+b\r\n@\r\n", [("a", "AC"), ("b", "G")]),
        ("@ü x\nA\n+ü x\nI\n".encode(), [("ü", "A")]),
    ],
)
def test_odd_but_good_input(data: bytes, expected: Rows, tmp_path: Path) -> None:
    assert read(tmp_path, data) == expected


def test_headers_are_kept_whole(tmp_path: Path) -> None:
    (shard,) = shards_of(write(tmp_path, b">a  b\tc >d \nA\n"))
    assert shard.headers == ["a  b\tc >d "]


def test_a_contig_of_ten_megabases(tmp_path: Path) -> None:
    bases = np.random.default_rng(1).choice(np.frombuffer(b"ACGT", np.uint8), 10_000_000).tobytes()
    lines = b"\n".join(bases[i : i + 70] for i in range(0, len(bases), 70))
    before, contig, after = shards_of(write(tmp_path, b">a\nAC\n>long\n" + lines + b"\n>b\nG\n"))
    assert (before.ids, contig.ids, after.ids) == (["a"], ["long"], ["b"])
    assert contig.bases.to_bytes() == [bases]


line_ends = st.sampled_from([b"\n", b"\r\n"])
names = st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), min_size=1, max_size=8)
records = st.lists(st.tuples(names, st.text("ACGTNacgt", min_size=1, max_size=30)), min_size=1, max_size=12)


@settings(deadline=None)
@given(records, line_ends, st.booleans(), st.booleans(), st.integers(1, 9), st.integers(1, 40))
def test_what_is_written_is_read_whatever_the_blocks(
    tmp_path_factory: pytest.TempPathFactory,
    records: Rows,
    line_end: bytes,
    is_fastq: bool,
    ends_with_line_end: bool,
    width: int,
    block_bytes: int,
) -> None:
    lines: list[str] = []
    for name, bases in records:
        if is_fastq:
            lines += [f"@{name}", bases, "+", "@" * len(bases)]
        else:
            lines += [f">{name}", *(bases[i : i + width] for i in range(0, len(bases), width))]
    data = line_end.join(line.encode() for line in lines) + line_end * ends_with_line_end
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "BLOCK_BYTES", block_bytes)
        path = write(tmp_path_factory.mktemp("input"), data)
        assert rows_of(shards_of(path)) == [(name, bases.upper()) for name, bases in records]


def test_equal_to_dnaio_on_real_records(shared_data: Path) -> None:
    dnaio = pytest.importorskip("dnaio", reason="the reader to compare with")
    file = shared_data / "genomes" / "unlabelled.fa.gz"
    with dnaio.open(file) as reader:
        expected = [(record.name, record.sequence.upper()) for record in reader]
    shards = shards_of(str(file), max_sequences=100)
    headers = [header for shard in shards for header in shard.headers]
    assert list(zip(headers, (bases for _, bases in rows_of(shards)), strict=True)) == expected


# --- shards


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(1, 9), st.integers(1, 60), st.integers(1, 200)
)
def test_shards_are_cut_by_the_rule_alone(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], max_sequences: int, max_bases: int, block: int
) -> None:
    expected: list[list[int]] = [[]]
    for length in lengths:
        if expected[-1] and (len(expected[-1]) == max_sequences or sum(expected[-1]) + length > max_bases):
            expected.append([])
        expected[-1].append(length)
    data = b"".join(b">r%d\n%s\n" % (i, b"A" * length) for i, length in enumerate(lengths))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "BLOCK_BYTES", block)
        path = write(tmp_path_factory.mktemp("input"), data)
        shards = shards_of(path, max_sequences=max_sequences, max_bases=max_bases)
    assert [shard.bases.lengths.tolist() for shard in shards] == expected
    assert [shard.index for shard in shards] == list(range(len(expected)))
    assert [shard.first_record for shard in shards] == [sum(map(len, expected[:i])) for i in range(len(expected))]
    assert [name for shard in shards for name in shard.ids] == [f"r{i}" for i in range(len(lengths))]


def test_shards_run_on_over_files(tmp_path: Path) -> None:
    first, second = write(tmp_path, b">a\nA\n>b\nC\n", "1"), write(tmp_path, b">c\nG\n", "2")
    (shard,) = shards_of(first, second)
    assert rows_of([shard]) == [("a", "A"), ("b", "C"), ("c", "G")]
    assert [shard.first_record for shard in shards_of(first, second, max_sequences=1)] == [0, 1, 2]


def test_digest_tells_every_change_and_nothing_else(tmp_path: Path) -> None:
    def digest(data: bytes) -> tuple[str, str]:
        (shard,) = shards_of(write(tmp_path, data))
        return shard.digest(), digest_of_records([shard])

    same = [b">a x\nACGT\n>b\nT\n", b">a x\r\nAC\r\ngt\r\n>b\r\nT", gzip.compress(b">a x\nACGU\n>b\nT\n")]
    assert len({digest(data) for data in same}) == 1
    other = [
        b">a x\nACG\n>b\nTT\n", b">a y\nACGT\n>b\nT\n", b">ax\nACGT\n>b\nT\n", b">a x\nACGA\n>b\nT\n",
        b">a x\nACGT\n", b"@a x\nACGT\n+\nIIII\n@b\nT\n+\nI\n", b"@a x\nACGT\n+\nIIII\n@b\nT\n+\nJ\n",
    ]  # fmt: skip
    for digests in zip(*(digest(data) for data in [same[0], *other]), strict=True):
        assert len(set(digests)) == 1 + len(other)


def test_the_digest_of_all_records_does_not_depend_on_the_shards(tmp_path: Path) -> None:
    path = write(tmp_path, b"".join(b"@r%d x\n%s\n+\n%s\n" % (i, b"ACGTN" * i, b"I?5+!" * i) for i in range(1, 30)))
    limits = [{"max_sequences": n, "max_bases": m} for n in (1, 7, 100) for m in (40, 10**6)]
    digests = {digest_of_records(shards_of(path, **limit)) for limit in limits}
    assert len(digests) == 1
    assert digest_of_records([]) == digest_of_records(shards_of(path)[:0]) not in digests
    assert digest_of_records(shards_of(path, max_sequences=7)[:-1]) not in digests


def digest_of_records(shards: list[Shard]) -> str:
    digest = RecordsDigest()
    assert list(digest.watch(shards)) == shards
    return digest.hexdigest()


def test_a_named_pipe_is_read_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(FASTA,), daemon=True)
    writer.start()
    assert rows_of(shards_of(str(pipe))) == [("r1", "ACGTAC"), ("r2", "TTT")]
    writer.join(10)


# --- pairs


def fastq(*ids: str, bases: str = "ACGT") -> bytes:
    return "".join(f"@{name} x\n{bases}\n+\n{'I' * len(bases)}\n" for name in ids).encode()


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("a", "a", ("a/1", "a/2")),
        ("a/1", "a/2", ("a/1", "a/2")),
        ("a/1", "a", ("a/1", "a/2")),
        ("SRR1.7.1", "SRR1.7.2", ("SRR1.7.1/1", "SRR1.7.2/2")),
    ],
)
def test_pairs_in_two_files(first: str, second: str, expected: tuple[str, str], tmp_path: Path) -> None:
    r1 = write(tmp_path, fastq(first, "b", "c", bases="AAAA"), "r1")
    r2 = write(tmp_path, fastq(second, "b", "c", bases="CCC"), "r2")
    shards = shards_of(r1, r2, pairing="two-files", max_sequences=3)
    assert rows_of(shards) == [
        (expected[0], "AAAA"), (expected[1], "CCC"), ("b/1", "AAAA"), ("b/2", "CCC"), ("c/1", "AAAA"), ("c/2", "CCC"),
    ]  # fmt: skip
    assert [len(shard.ids) for shard in shards] == [2, 2, 2]  # mates are never parted
    assert shards[0].headers == [f"{first} x", f"{second} x"]
    assert shards[0].qualities == ["IIII", "III"]


def test_pairs_in_four_files_and_fasta(tmp_path: Path) -> None:
    paths = [write(tmp_path, b">%c\nA\n" % name, f"{i}") for i, name in enumerate(b"aabb")]
    assert [name for name, _ in rows_of(shards_of(*paths, pairing="two-files"))] == ["a/1", "a/2", "b/1", "b/2"]


@pytest.mark.parametrize("block_bytes", [1, 17, 50, 1 << 20])
def test_pairs_interleaved(block_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "BLOCK_BYTES", block_bytes)
    path = write(tmp_path, fastq("a", "a", "b/1", "b/2", "a", "a"))
    assert [name for name, _ in rows_of(shards_of(path, pairing="interleaved"))] == [
        "a/1", "a/2", "b/1", "b/2", "a/1", "a/2",
    ]  # fmt: skip


# --- proteins


def test_proteins(tmp_path: Path) -> None:
    path = write(tmp_path, b">p1 x\nmkv\nLX*\n>p2\nACDEFGHIKLMNPQRSTVWYXBZUOJ\n")
    ((ids, residues),) = read_proteins([path])
    assert ids == ["p1", "p2"]
    assert residues.to_bytes() == [b"MKVLX", b"ACDEFGHIKLMNPQRSTVWYXBZUOJ"]


def test_proteins_in_blocks(tmp_path: Path) -> None:
    path = write(tmp_path, b">p\nMK\n" * 5)
    assert [len(ids) for ids, _ in read_proteins([path], max_sequences=2)] == [2, 2, 1]


# --- usage


@pytest.mark.parametrize(
    ("paths", "pairing", "message"),
    [
        ((), "none", "no input"),
        (("-", "-"), "none", "only once"),
        (("a", "b", "c"), "two-files", "not 3"),
        (("a",), "mates", "'mates'"),
    ],
)
def test_bad_usage(paths: tuple[str, ...], pairing: Pairing, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        shards_of(*paths, pairing=pairing)
