"""Embeddings beside embeddings: angles, differences, and what cannot be put side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from seqassay.engine.embedding_files import EmbeddingWriter
from seqassay.errors import InputError, UsageError
from seqassay.prove.compare.command import Comparison, compare
from seqassay.prove.compare.settings import CompareSettings

IDS = ["a", "b", "b", "c"]
ROWS = np.random.default_rng(1).normal(size=(4, 6)).astype(np.float32)
METADATA = {"encoder": "tiny", "encoder_digest": "0" * 64, "kind": "protein", "pooling": "mean over residues"}


def write(path: Path, ids: list[str], rows: np.ndarray, **metadata: str) -> Path:
    with EmbeddingWriter(path, d_model=rows.shape[1], metadata={**METADATA, **metadata}, force=True) as writer:
        writer.append(ids, rows.astype(np.float32))
    return path


def run(tmp_path: Path, a: Path, b: Path, **settings: object) -> Comparison:
    return compare(CompareSettings(a=a, b=b, output_dir=tmp_path / "out", force=True, **settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".h5"])
def test_cosine_and_differences(tmp_path: Path, suffix: str) -> None:
    if suffix == ".h5":
        pytest.importorskip("h5py")
    order = [3, 0, 1, 2]
    moved = ROWS[order].copy()
    moved[0, 2] += 0.5
    a = write(tmp_path / "a.npz", IDS, ROWS)
    b = write(tmp_path / f"b{suffix}", [*(IDS[i] for i in order), "new"], np.vstack([moved, ROWS[:1]]))
    record = run(tmp_path, a, b).record
    (level,) = record["levels"]
    assert {name: level["rows"][name] for name in ("in_both", "only_a", "only_b", "same_order")} == {
        "in_both": 4, "only_a": 0, "only_b": 1, "same_order": False,
    }  # fmt: skip
    expected = float(moved[0] @ ROWS[3] / np.linalg.norm(moved[0]) / np.linalg.norm(ROWS[3]))
    assert level["cosine"]["min"]["value"] == pytest.approx(expected, abs=1e-6)
    assert level["cosine"]["mean"]["value"] == pytest.approx((3 + expected) / 4, abs=1e-6)
    assert level["cosine"]["median"]["value"] == pytest.approx(1)
    assert level["differences"]["max_absolute"]["value"] == pytest.approx(0.5)
    assert level["differences"]["mean_absolute"]["value"] == pytest.approx(0.5 / 24)
    assert level["within_tolerance"]["value"] == level["identical"]["value"] == 0.75
    assert record["identity"]["found"] == {"encoder": "same"}
    report = (tmp_path / "out" / "reports" / "comparison_report.md").read_text()
    assert "| largest | 0.5 |" in report
    assert (tmp_path / "out" / "mismatches.tsv").read_text().splitlines()[1].startswith("embeddings\tonly_in_b\tnew\t1")


def test_a_row_of_zeros_has_no_direction(tmp_path: Path) -> None:
    zeros = ROWS.copy()
    zeros[1] = 0
    a, b = write(tmp_path / "a.npz", IDS, zeros), write(tmp_path / "b.npz", IDS, ROWS)
    (level,) = run(tmp_path, a, b).record["levels"]
    assert (level["without_cosine"], level["cosine"]["mean"]["n"]) == (1, 3)


def test_another_encoder_has_to_be_named(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a.npz", IDS, ROWS), write(tmp_path / "b.npz", IDS, ROWS, encoder_digest="1" * 64)
    with pytest.raises(UsageError, match=r"encoder: A has tiny 000000000000, B has tiny 111111111111"):
        run(tmp_path, a, b)
    assert not (tmp_path / "out").exists()
    record = run(tmp_path, a, b, allow_different=("encoder",)).record
    assert record["identity"]["found"] == {"encoder": "different"}
    with pytest.raises(UsageError, match="--allow-different names bundle; these files differ in encoder at most"):
        run(tmp_path, a, b, allow_different=("bundle",))


@pytest.mark.parametrize(
    ("rows", "metadata", "message"),
    [
        (ROWS[:, :4], {}, "embeddings of 4 values, those of"),
        (ROWS, {"pooling": "mean over all tokens"}, "pooling is 'mean over all tokens', that of"),
        (ROWS, {"kind": "nucleotide"}, "kind is 'nucleotide', that of"),
        (np.where(np.arange(24).reshape(4, 6) == 8, np.nan, ROWS), {}, r"record 2 \(b\): a value is no number"),
        (np.where(np.arange(24).reshape(4, 6) == 23, np.inf, ROWS), {}, r"record 4 \(c\): a value is no number"),
    ],
)
def test_what_cannot_be_compared(tmp_path: Path, rows: np.ndarray, metadata: dict[str, str], message: str) -> None:
    a, b = write(tmp_path / "a.npz", IDS, ROWS), write(tmp_path / "b.npz", IDS, rows, **metadata)
    with pytest.raises(InputError, match=message):
        run(tmp_path, a, b)
    assert not (tmp_path / "out").exists()


def test_damaged_and_foreign_files(tmp_path: Path) -> None:
    a = write(tmp_path / "a.npz", IDS, ROWS)
    whole = write(tmp_path / "w.safetensors", IDS, ROWS).read_bytes()
    for name, content, message in (
        ("cut.safetensors", whole[:-10], "not a safetensors file"),
        ("noise.npz", bytes(range(256)), "not an .npz file"),
        ("empty.safetensors", b"", "not a safetensors file"),
        ("some.pt", b"x", "pickled files are not read"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message):
            run(tmp_path, a, tmp_path / name)
    foreign = {
        "ids": np.zeros(3, np.uint8),
        "ids_offsets": np.array([0, 1, 3]),
        "embeddings": np.zeros((5, 6), np.float32),
    }
    save_file(foreign, tmp_path / "odd.safetensors", {"format": "seqassay-embeddings"})
    with pytest.raises(InputError, match=r"2 ids for embeddings of the shape \(5, 6\)"):
        run(tmp_path, a, tmp_path / "odd.safetensors")
    save_file({**foreign, "embeddings": np.zeros((2, 6), np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="its format is not 'seqassay-embeddings'"):
        run(tmp_path, a, tmp_path / "other.safetensors")


def test_embeddings_have_no_labels_to_agree(tmp_path: Path) -> None:
    a = write(tmp_path / "a.npz", IDS, ROWS)
    with pytest.raises(UsageError, match="embeddings have none"):
        run(tmp_path, a, a, min_agreement=0.9)
