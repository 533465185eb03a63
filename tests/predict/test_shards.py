from __future__ import annotations

from pathlib import Path

import pytest

from seqassay.errors import UsageError
from seqassay.predict.counts import Counts
from seqassay.predict.shards import ShardMeta, ShardStore, check_identity


def meta(index: int = 0) -> ShardMeta:
    counts = Counts(sequences=2, classified=1, no_frame=1, virus=1, chunks=2, chunks_classified=1, frames=1)
    return ShardMeta(index, 20 * index, "ab" * 32, False, counts)


@pytest.fixture
def store(tmp_path: Path) -> ShardStore:
    store = ShardStore(tmp_path / "shards")
    store.begin({"bundle": "x"})
    return store


def test_a_committed_shard_reads_back(store: ShardStore) -> None:
    store.commit(meta(3), {"a.txt": b"rows\n", "b.gz": b""})
    assert store.read_meta(3) == meta(3)
    assert store.read_part(3, "a.txt") == b"rows\n"
    assert store.read_part(3, "b.gz") == b""
    assert list(store.indices()) == [3]
    assert sorted(path.name for path in store.folder.iterdir()) == ["manifest.json", "shard-000003.zip"]


def test_the_same_shard_is_the_same_bytes(store: ShardStore) -> None:
    store.commit(meta(), {"a.txt": b"rows\n"})
    first = store.path_of(0).read_bytes()
    store.commit(meta(), {"a.txt": b"rows\n"})
    assert store.path_of(0).read_bytes() == first


def test_a_shard_that_is_not_there_is_none(store: ShardStore) -> None:
    assert store.read_meta(0) is None


def test_cut_at_every_byte_it_is_damaged(store: ShardStore) -> None:
    store.commit(meta(), {"a.txt": b"rows\n"})
    whole = store.path_of(0).read_bytes()
    for length in range(len(whole)):
        store.path_of(0).write_bytes(whole[:length])
        assert store.read_meta(0) is None


def test_a_flipped_byte_of_content_is_damage(store: ShardStore) -> None:
    rows = b"read1_chunk_1F1\tvirus\t0.1\t0.9\n"
    store.commit(meta(), {"a.txt": rows})
    whole = bytearray(store.path_of(0).read_bytes())
    for place in (whole.index(rows), whole.index(b'"sequences": 2') + 13):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        store.path_of(0).write_bytes(flipped)
        assert store.read_meta(0) is None


def test_a_shard_under_another_number_is_damage(store: ShardStore) -> None:
    store.commit(meta(1), {})
    store.path_of(1).rename(store.path_of(0))
    assert store.read_meta(0) is None


def test_beginning_again_forgets_the_shards_and_nothing_else(store: ShardStore) -> None:
    store.commit(meta(), {})
    (store.folder / "notes.txt").write_text("mine")
    store.begin({"bundle": "y"})
    assert store.identity() == {"bundle": "y"}
    assert sorted(path.name for path in store.folder.iterdir()) == ["manifest.json", "notes.txt"]
    store.remove()
    assert [path.name for path in store.folder.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff"])
def test_an_unreadable_manifest_is_none(store: ShardStore, content: bytes) -> None:
    (store.folder / "manifest.json").write_bytes(content)
    assert store.identity() is None


def test_differences_are_named_with_both_values(tmp_path: Path) -> None:
    check_identity({"a": 1}, {"a": 1}, tmp_path)
    with pytest.raises(UsageError) as caught:
        check_identity({"a": 1, "b": [2], "same": 0}, {"a": 2, "c": None, "same": 0, "b": [3]}, tmp_path)
    assert "a was 1, is now 2; b was [2], is now [3]" in caught.value.message
    assert "same" not in caught.value.message
    with pytest.raises(UsageError, match=r"run: model\.digest was 'x', is now 'y'"):
        check_identity({"model": {"digest": "x", "n": 1}}, {"model": {"digest": "y", "n": 1}}, tmp_path)
