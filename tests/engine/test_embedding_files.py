"""Three formats, the same content back; nothing half-written."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import numpy as np
import pytest

from seqassay.engine.embedding_files import SUFFIXES, EmbeddingWriter, read_embeddings
from seqassay.errors import InputError, MissingExtraError, ResourceError, UsageError

METADATA = {"encoder": "tiny", "encoder_digest": "ab" * 32, "pooling": "mean over residues"}
IDS = ["a", "", "repeated", "repeated", "größe-µ", "x" * 10_000, "日本"]


@pytest.fixture(params=SUFFIXES)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == ".h5":
        pytest.importorskip("h5py", reason="the extra h5 is not installed")
    return tmp_path / f"out{request.param}"


def names_beside(path: Path) -> list[str]:
    return [entry.name for entry in path.parent.iterdir()]


def rows(n: int, d_model: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d_model)).astype(np.float32)


def write(path: Path, blocks: list[tuple[list[str], np.ndarray]], *, d_model: int = 6, force: bool = False) -> None:
    with EmbeddingWriter(path, d_model=d_model, metadata=METADATA, force=force) as writer:
        for ids, values in blocks:
            writer.append(ids, values)


@pytest.mark.parametrize("cut", [0, 1, 3, 7])
def test_what_is_written_in_blocks_is_read_whole(path: Path, cut: int):
    values = rows(7)
    write(path, [(IDS[:cut], values[:cut]), (IDS[cut:], values[cut:])])
    ids, embeddings, metadata = read_embeddings(path)
    assert ids == IDS
    np.testing.assert_array_equal(embeddings, values)
    assert embeddings.dtype == np.float32
    assert metadata == {**METADATA, "format": "seqassay-embeddings", "format_version": "1"}
    assert names_beside(path) == [path.name]


def test_no_rows_are_a_file_too(path: Path):
    write(path, [])
    ids, embeddings, _ = read_embeddings(path)
    assert (ids, embeddings.shape) == ([], (0, 6))


def test_ids_that_are_not_utf8_come_back(path: Path):
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    write(path, [([name], rows(1))])
    assert read_embeddings(path)[0] == [name]


def test_the_format_s_own_readers_find_the_arrays(tmp_path: Path):
    values = rows(2)
    write(tmp_path / "a.safetensors", [(["p", "qr"], values)])
    write(tmp_path / "a.npz", [(["p", "qr"], values)])
    from safetensors.torch import load_file

    tensors = load_file(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(tensors["embeddings"].numpy(), values)
    assert bytes(tensors["ids"].tolist()) == b"pqr"
    assert tensors["ids_offsets"].tolist() == [0, 1, 3]
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["embeddings"], values)
        assert json.loads(str(arrays["metadata"]))["encoder"] == "tiny"
    h5py = pytest.importorskip("h5py", reason="the extra h5 is not installed")
    write(tmp_path / "a.h5", [(["p", "qr"], values)])
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["embeddings"], values)
        assert bytes(file["ids"][:]) == b"pqr"
        assert file["ids_offsets"][:].tolist() == [0, 1, 3]
        assert file.attrs["pooling"] == "mean over residues"


def test_the_same_content_gives_the_same_bytes(tmp_path: Path):
    for suffix in (".safetensors", ".npz"):
        first, second = tmp_path / f"1{suffix}", tmp_path / f"2{suffix}"
        write(first, [(["a", "b"], rows(2))])
        write(second, [(["a"], rows(2)[:1]), (["b"], rows(2)[1:])])
        assert first.read_bytes() == second.read_bytes()


def test_an_existing_file_stays_unless_forced_and_after_a_failure(path: Path):
    write(path, [(["old"], rows(1))])
    with pytest.raises(UsageError, match="exists"):
        write(path, [(["new"], rows(1))])
    with (
        pytest.raises(RuntimeError, match="in the middle"),
        EmbeddingWriter(path, d_model=6, metadata=METADATA, force=True) as writer,
    ):
        writer.append(["new"], rows(1))
        raise RuntimeError("in the middle")
    assert read_embeddings(path)[0] == ["old"]
    assert names_beside(path) == [path.name]
    write(path, [(["new"], rows(1))], force=True)
    assert read_embeddings(path)[0] == ["new"]


def test_a_full_disk_is_a_resource_error_and_leaves_nothing(path: Path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(ResourceError, match="the disk is full"):
            write(path, [(["x"] * 1000, rows(1000, 600)) for _ in range(3)], d_model=600)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names_beside(path) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out.txt", "unknown kind of file '.txt'"),
        ("out", "unknown kind of file ''"),
        ("nowhere/out.npz", "there is no folder"),
        ("folder.npz", "is a folder"),
    ],
)
def test_outputs_that_cannot_be(tmp_path: Path, name: str, message: str):
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(UsageError, match=message):
        write(tmp_path / name, [])


def test_h5_without_its_package_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError) as caught:
        write(tmp_path / "a.h5", [])
    assert "pip install 'seqassay[h5]'" in str(caught.value)


def test_reading_what_is_no_file_of_embeddings(path: Path, tmp_path: Path):
    with pytest.raises(InputError, match="no such file"):
        read_embeddings(path)
    path.write_bytes(b"not what its name says")
    with pytest.raises(InputError, match="not a"):
        read_embeddings(path)
    with pytest.raises(UsageError, match="unknown kind"):
        read_embeddings(tmp_path / "a.csv")
