"""Features: the embeddings of predict, in shards that survive a kill."""

from __future__ import annotations

import gzip
import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from seqassay import durable
from seqassay.engine.embed import Embedder, load_encoder
from seqassay.errors import InputError, ModelError, ResourceError, UsageError
from seqassay.models.bundle import load_bundle
from seqassay.sequences.chunking import chunk
from seqassay.sequences.frames import six_frames
from seqassay.sequences.ragged import Ragged
from seqassay.train.dataset import read_labelled
from seqassay.train.feature_files import FeatureSet, FeatureWriter, check_same_models
from seqassay.train.features import FeatureSettings, Models, make_features, parse_header, split_of

STOPS = "TAATTAATTAATTAATTAACTAACTAA"  # a stop in each frame of both strands


def records_text(n: int, *, seed: int = 0, length: int = 60, prefix: str = "r") -> str:
    rng = np.random.default_rng(seed)
    codons = np.array(["ATG", "GAT", "GCC", "CTG", "GAG", "AAA", "CCG", "ACC"])
    return "".join(
        f'>{prefix}{i} label={("other", "viral")[i % 2]} group=g{i % 3} taxon="taxon {i}" record={prefix}g{i // 2}\n'
        f"{''.join(rng.choice(codons, length // 3))}\n"
        for i in range(n)
    )


@pytest.fixture
def settings(tiny_bundle: Path, tmp_path: Path) -> FeatureSettings:
    """Twenty-one records of 60 bases, one without a frame, in three shards."""
    path = tmp_path / "train.fa"
    path.write_text(records_text(20) + f">stopped label=viral group=g0\n{STOPS}\n")
    return FeatureSettings(
        input=path, output_dir=tmp_path / "features", model=str(tiny_bundle), shard_size=8, device="cpu", threads=1
    )


def shard_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("shard-*.safetensors"))}


def test_features_are_predict_s_embeddings_nucleotide_first(settings: FeatureSettings) -> None:
    (said,) = make_features(settings)
    features = FeatureSet(settings.output_dir)
    records = read_labelled(settings.input)
    frames = six_frames(records.bases, chunk(records.bases.lengths, 300))
    bundle = load_bundle(str(settings.model))
    parts = [
        Embedder(load_encoder(path), device="cpu", precision="exact").embed(letters)
        for path, letters in ((bundle.nucleotide_path, frames.nucleotide), (bundle.protein_path, frames.protein))
    ]
    expected = np.concatenate(parts, axis=1)
    found = features.rows(np.arange(len(features))).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
    assert features.merged_dim == expected.shape[1] == 32 + 40
    assert features.labels_F.tolist() == records.labels[frames.chunk].tolist()
    assert features.chunk_F.tolist() == frames.chunk.tolist()
    shards = [load_file(path) for path in sorted(settings.output_dir.glob("shard-*.safetensors"))]
    assert len(shards) == 3
    assert torch.cat([shard["record"] for shard in shards]).tolist() == frames.chunk.tolist()
    assert torch.cat([shard["frame"] for shard in shards]).tolist() == frames.frame.tolist()
    rows = [row for table in features.tables() for row in table]
    assert [row.id for row in rows] == records.ids
    assert rows[3] == ("r3", "rg1", "g0", "taxon 3", 1)
    assert rows[-1] == ("stopped", "stopped", "g0", "", 1)
    assert said["counts"] == {
        "records": 21,
        "records_without_frame": 1,
        "viral_records": 11,
        "chunks": 21,
        "chunks_with_frame": 20,
        "frames": len(frames),
        "viral_frames": int(records.labels[frames.chunk].sum()),
        "frames_not_listed": 0,
        "listed_frames_not_stop_free": 0,
    }


def test_rows_come_in_the_order_asked_for_from_any_shard(settings: FeatureSettings) -> None:
    make_features(settings)
    features = FeatureSet(settings.output_dir)
    everything = features.rows(np.arange(len(features)))
    order = np.random.default_rng(0).permutation(len(features))[:30]
    assert torch.equal(features.rows(order), everything[torch.from_numpy(order)])


def test_bf16_takes_half_the_room(settings: FeatureSettings, tmp_path: Path) -> None:
    make_features(settings)
    half = replace(settings, output_dir=tmp_path / "half", dtype="bf16")
    make_features(half)
    a, b = FeatureSet(settings.output_dir), FeatureSet(half.output_dir)
    everything = np.arange(len(a))
    assert torch.equal(b.rows(everything), a.rows(everything).bfloat16().float())


def test_only_listed_frames_count(settings: FeatureSettings) -> None:
    make_features(settings)
    every = load_file(settings.output_dir / "shard-000000.safetensors")
    of_first = every["frame"][every["record"] == 0].tolist()
    names = [("F1", "F2", "F3", "R1", "R2", "R3")[f] for f in of_first]
    assert len(names) >= 2
    text = (
        settings.input.read_text().replace(">r0 ", f">r0 frames={names[1]} ").replace(">stopped", ">stopped frames=F1")
    )
    settings.input.write_text(text)
    (said,) = make_features(replace(settings, force=True))
    some = load_file(settings.output_dir / "shard-000000.safetensors")
    assert some["frame"][some["record"] == 0].tolist() == [of_first[1]]
    torch.testing.assert_close(some["merged"][0], every["merged"][1], atol=1e-5, rtol=0)
    assert said["counts"]["frames_not_listed"] == len(names) - 1
    assert said["counts"]["listed_frames_not_stop_free"] == 1


def test_a_long_record_is_cut_as_predict_cuts_it(settings: FeatureSettings) -> None:
    settings.input.write_text(records_text(4, length=900) + records_text(3, prefix="s"))
    (said,) = make_features(settings)
    assert said["counts"]["chunks"] == 4 * 3 + 3
    features = FeatureSet(settings.output_dir)
    assert (np.diff(features.chunk_F.numpy()) >= 0).all()
    assert int(features.chunk_F.max()) == 14


def test_a_dataset_folder_gives_a_folder_for_each_split(settings: FeatureSettings, tmp_path: Path) -> None:
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    for seed, split in enumerate(("train", "valid", "test")):
        with gzip.open(dataset / f"{split}.fa.gz", "wt") as file:
            file.write(records_text(6, seed=seed, prefix=split))
    (dataset / "dataset.json").write_text(json.dumps({"chunk_length": 300}))
    said = make_features(replace(settings, input=dataset))
    assert [split["split"] for split in said] == ["train", "valid", "test"]
    out = settings.output_dir
    assert sorted(path.name for path in out.iterdir()) == ["test", "train", "valid"]
    assert not (out / "train" / "test_metadata.json").exists()
    metadata = json.loads((out / "test" / "test_metadata.json").read_text())
    assert metadata["labels"] == {"others": 0, "virus": 1}
    assert metadata["counts"]["records"] == 6
    assert metadata["identity"]["chunk_length"] == 300
    assert [entry["name"] for entry in metadata["files"]] == ["shard-000000.safetensors"]
    assert all(len(entry["sha256"]) == 64 for entry in metadata["files"])
    (dataset / "dataset.json").write_text(json.dumps({"chunk_length": 500}))
    with pytest.raises(UsageError, match="chunks are 500 bases long, the model's 300") as error:
        make_features(replace(settings, input=dataset, force=True))
    assert "seqassay dataset build" in error.value.hint


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def test_stopped_at_every_write_and_resumed(
    settings: FeatureSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_features(settings)
    expected = shard_bytes(settings.output_dir)
    whole = FeatureSet(settings.output_dir)
    original = durable.os.fsync
    for number in range(100):
        stopped = replace(settings, output_dir=tmp_path / f"stopped{number}", resume=True)
        calls = iter(range(1000))

        def fsync(descriptor: int, calls: Any = calls, number: int = number) -> None:
            if next(calls) == number:
                raise Killed
            original(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(durable.os, "fsync", fsync)
            try:
                make_features(stopped)
            except Killed:
                pass
            else:
                break
        make_features(stopped)
        assert shard_bytes(stopped.output_dir) == expected, f"stopped at sync {number}"
        assert FeatureSet(stopped.output_dir).digest == whole.digest
    assert number >= 8  # features.json five times and three shards, and their folders


def test_resuming_embeds_only_what_is_missing(settings: FeatureSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    make_features(settings)
    expected = shard_bytes(settings.output_dir)
    path = settings.output_dir / "features.json"
    said = json.loads(path.read_text())
    path.write_text(json.dumps({**said, "status": "running"}))
    last = settings.output_dir / "shard-000002.safetensors"
    last.write_bytes(last.read_bytes()[:-1] + b"?")
    indices = []
    original = Models.embed

    def embed(self: Models, prepared: Any, first_chunk: int) -> Any:
        indices.append(prepared.shard.index)
        return original(self, prepared, first_chunk)

    monkeypatch.setattr(Models, "embed", embed)
    make_features(replace(settings, resume=True))
    assert indices == [2]
    assert shard_bytes(settings.output_dir) == expected
    make_features(replace(settings, resume=True))  # done: nothing to do
    assert indices == [2]


def test_another_identity_is_refused(settings: FeatureSettings) -> None:
    make_features(settings)
    with pytest.raises(UsageError, match="holds features already"):
        make_features(settings)
    with pytest.raises(UsageError, match="dtype was 'float32', is now 'bf16'"):
        make_features(replace(settings, resume=True, dtype="bf16"))
    settings.input.write_text(settings.input.read_text().replace("label=viral", "label=other", 1))
    with pytest.raises(UsageError, match="input_sha256 was"):
        make_features(replace(settings, resume=True))
    make_features(replace(settings, force=True))


def test_a_folder_of_something_else_is_left_alone(settings: FeatureSettings) -> None:
    settings.output_dir.mkdir()
    (settings.output_dir / "mine.txt").write_text("mine")
    for options in ({}, {"force": True}, {"resume": True}):
        with pytest.raises(UsageError, match=r"mine\.txt"):
            make_features(replace(settings, **options))
    assert [path.name for path in settings.output_dir.iterdir()] == ["mine.txt"]


def test_a_full_disk_leaves_what_was_committed(settings: FeatureSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    original = FeatureWriter.commit

    def commit(self: FeatureWriter, shard: Any) -> None:
        if shard.index == 2:
            raise OSError(28, "No space left on device", "shard")
        original(self, shard)

    with monkeypatch.context() as patch:
        patch.setattr(FeatureWriter, "commit", commit)
        with pytest.raises(ResourceError, match="disk is full") as full:
            make_features(settings)
    assert f"seqassay train features {shlex.quote(str(settings.input))} --output-dir " in full.value.hint
    assert full.value.hint.endswith(" --resume")
    with pytest.raises(InputError, match="not complete") as error:
        FeatureSet(settings.output_dir)
    assert "--resume" in error.value.hint
    make_features(replace(settings, resume=True))
    FeatureSet(settings.output_dir)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (">a group=g\nACGTACGT\n", "record 1 (a): needs label="),
        (">a label=viral group=g\nACGTACGT\n>b label=viral\nACGT\n", "record 2 (b): needs label="),
        (">a label=viral group=g frames=F1,F9\nACGTACGT\n", "frames= can list F1, F2"),
        ("", "the file is empty"),
    ],
)
def test_bad_records_end_it_before_anything_is_loaded_or_written(
    settings: FeatureSettings, text: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.input.write_text(text)
    monkeypatch.setattr(Models, "__init__", lambda *_: pytest.fail("models were loaded"))
    with pytest.raises(InputError) as error:
        make_features(settings)
    assert message in str(error.value)
    assert not settings.output_dir.exists()


def test_embeddings_that_are_not_finite_name_the_record(
    settings: FeatureSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Embedder.run

    def run(self: Embedder, prepared: Any) -> Any:
        rows = original(self, prepared)
        rows[-1, 0] = np.nan
        return rows

    monkeypatch.setattr(Embedder, "run", run)
    with pytest.raises(ModelError, match="record r7: its embedding holds NaN"):
        make_features(settings)


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def change(folder: Path, **changes: Any) -> None:
    path = folder / "features.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "features.json").unlink(), "holds no features"),
        (lambda folder: (folder / "features.json").write_text("rubbish"), "is not JSON"),
        (lambda folder: change(folder, version="1x"), "is 'seqassay-features' version '1x'"),
        (lambda folder: change(folder, version="2.0"), "this seqassay reads 'seqassay-features' version 1.x"),
        (lambda folder: (folder / "shard-000001.safetensors").unlink(), "shard-000001.safetensors: cannot be read"),
        (lambda folder: (folder / "shard-000001.safetensors").write_bytes(b"x"), "has 1 bytes, features.json says"),
        (lambda folder: flip_a_bit(folder / "shard-000001.safetensors"), "was changed: its SHA-256 is"),
    ],
)
def test_features_that_cannot_be_used(settings: FeatureSettings, spoil: Callable[[Path], Any], message: str) -> None:
    make_features(settings)
    spoil(settings.output_dir)
    with pytest.raises(InputError) as error:
        FeatureSet(settings.output_dir)
    assert message in str(error.value)
    assert error.value.hint or "cannot be read" in message


def test_features_of_other_models_name_both_and_the_command(
    settings: FeatureSettings, tiny_bundle: Path, tmp_path: Path
) -> None:
    make_features(settings)
    other = replace(
        settings,
        output_dir=tmp_path / "other",
        model=None,
        nucleotide=str(tiny_bundle / "nucleotide"),
        protein=str(tiny_bundle / "protein"),
        chunk_length=45,
    )
    make_features(other)
    with pytest.raises(InputError, match="chunk length: 300 there, 45 here") as error:
        check_same_models(FeatureSet(settings.output_dir), FeatureSet(other.output_dir))
    assert f"seqassay train features {settings.input} -o {other.output_dir} --model {tiny_bundle}" in error.value.hint
    with pytest.raises(InputError, match="chunk length: 45 there, 300 here") as error:
        check_same_models(FeatureSet(other.output_dir), FeatureSet(settings.output_dir))
    assert f"--nucleotide {tiny_bundle / 'nucleotide'}" in error.value.hint
    assert "--chunk-length 45" in error.value.hint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": None}, "no encoders"),
        ({"model": None, "nucleotide": "x"}, "no encoders"),
        ({"protein": "x"}, "give no others beside it"),
        ({"chunk_length": 300}, "give no others beside it"),
        ({"shard_size": 0}, "--shard-size is 0"),
        ({"dtype": "fp16"}, "--dtype is 'fp16'"),
        ({"resume": True, "force": True}, "exclude each other"),
        ({"input": Path("nowhere")}, "no such file or folder"),
        ({"input": Path(__file__).parent}, "holds no train.fa.gz or valid.fa.gz or test.fa.gz"),
    ],
)
def test_settings_that_cannot_work(settings: FeatureSettings, changes: dict[str, Any], message: str) -> None:
    with pytest.raises((UsageError, InputError)) as error:
        make_features(replace(settings, **changes))
    assert message in str(error.value)


def test_a_chunk_length_is_needed_with_encoders(settings: FeatureSettings, tiny_bundle: Path) -> None:
    encoders = {"nucleotide": str(tiny_bundle / "nucleotide"), "protein": str(tiny_bundle / "protein")}
    with pytest.raises(UsageError, match="no chunk length"):
        make_features(replace(settings, model=None, **encoders))


def test_headers_and_names_of_splits() -> None:
    row, frames = parse_header('x label=viral group=phage taxon="A b" frames=F1,R3', path=Path("f"), number=1)
    assert row == ("x", "x", "phage", "A b", 1)
    assert frames == {0, 5}
    row, frames = parse_header("x label=other group=g genome=A record=A1", path=Path("f"), number=1)
    assert (row.source, frames) == ("A", set(range(6)))
    names = ("train.fa.gz", "test-300.fa", "valid_1.fasta", "tests.fa", "mine.fa")
    assert [split_of(Path(name)) for name in names] == ["train", "test", "valid", "tests", "mine"]


def test_ragged_letters_are_those_of_the_file(settings: FeatureSettings) -> None:
    """Lower case, IUPAC codes and U are read as predict reads them."""
    settings.input.write_text(">a label=viral group=g\naugGCCRAUGCC\n>b label=other group=g\nATGGCC\n")
    make_features(settings)
    shard = load_file(settings.output_dir / "shard-000000.safetensors")
    f1 = shard["merged"][(shard["record"] == 0) & (shard["frame"] == 0)][0, 32:]
    protein = load_encoder(load_bundle(str(settings.model)).protein_path)
    expected = Embedder(protein, device="cpu").embed(Ragged.from_bytes([b"MAA"]))[0]  # the codon RAU is dropped
    np.testing.assert_allclose(f1.numpy(), expected, atol=1e-5, rtol=0)
