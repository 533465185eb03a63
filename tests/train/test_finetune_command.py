"""`seqassay train finetune` from published files to an encoder that `embed` and bundles take; and what it refuses."""

from __future__ import annotations

import errno
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from finetune_support import write_dnabert, write_esm2, write_fair_esm2
from typer.testing import CliRunner

from seqassay.cli.main import build_app
from seqassay.engine.embed import Embedder, load_encoder
from seqassay.engine.embedding_files import read_embeddings
from seqassay.engine.tokens import NucleotideTokenizer, ProteinTokenizer
from seqassay.errors import InputError, MissingExtraError, ModelError, ResourceError, UsageError
from seqassay.models.bundle import write_bundle
from seqassay.models.head import ClassifierHead
from seqassay.models.identity import digest_of_encoder
from seqassay.sequences.ragged import Ragged
from seqassay.train import encoder_checkpoint
from seqassay.train.dataset import read_labelled
from seqassay.train.finetune import FineTuner
from seqassay.train.finetune_command import FineTuneSettings, finetune, recipe_of
from seqassay.train.frame_batches import pack
from seqassay.train.head_file import load_trained_head

SMALL = {
    "steps": 2,
    "evaluate_every": 2,
    "bases_per_step": 3000,
    "chunk_length": 100,
    "threads": 1,
    "device": "cpu",
    "learning_rate": 1e-2,
}


def settings(dataset: Path, encoder: Path | str, out: Path, **changed: object) -> FineTuneSettings:
    return FineTuneSettings(dataset=dataset, encoder=str(encoder), output_dir=out, **(SMALL | {"layers": 1} | changed))  # type: ignore[arg-type]


@pytest.mark.parametrize("side", ["nucleotide", "protein"])
def test_the_result_embeds_as_the_trained_model(side: str, records_folder: Path, tmp_path: Path) -> None:
    write = write_dnabert if side == "nucleotide" else write_fair_esm2
    published, out = write(tmp_path / "published"), tmp_path / "tuned"
    words = [word for key, value in SMALL.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    command = ["train", "finetune", str(records_folder), "-e", str(published), "--layers", "1", "-o", str(out), *words]
    result = CliRunner().invoke(build_app(), command)
    assert result.exit_code == 0, result.output

    record = json.loads((out / "training.json").read_text())
    assert record["encoder"]["digest"] == digest_of_encoder(out / "encoder") != record["begun_with"]["digest"]
    assert record["begun_with"]["digest"] == digest_of_encoder(published)
    assert (record["side"], record["best_step"], len(record["history"])) == (side, 2, 1)
    assert record["encoder"]["digest"][:12] in result.output

    # the trained model itself, from its checkpoint
    encoder = load_encoder(published)
    given = settings(records_folder, published, out)
    records = [read_labelled(records_folder / f"{split}.fa.gz") for split in ("train", "valid")]
    tuner = FineTuner(recipe_of(given, encoder, *records), encoder, *records, out)
    best = tuner.best()
    letters = [b"ATGGATAAATTTGTT", b"GCCCGC", b"GGCCTGGAG"] if side == "nucleotide" else [b"MKVLAT", b"GGSW", b"PLLA"]
    sequences = Ragged.from_bytes(letters)
    tokenizer = encoder.tokenizer
    assert isinstance(tokenizer, NucleotideTokenizer if side == "nucleotide" else ProteinTokenizer)
    packed = pack(tokenizer.encode(sequences))
    with torch.inference_mode():
        hidden_TD = best.encoder(packed.tokens_T, packed.layout, exact=True)
        pieces = hidden_TD.split(packed.layout.lengths.tolist())
        inner = slice(None) if side == "nucleotide" else slice(1, -1)
        expected = torch.stack([piece[inner].mean(0) for piece in pieces])[packed.row_F]
    fasta = tmp_path / "some.fa"
    fasta.write_bytes(b"".join(b">s%d\n%s\n" % (i, text) for i, text in enumerate(letters)))
    embedded = CliRunner().invoke(
        build_app(), ["embed", str(fasta), "-e", str(out / "encoder"), "-o", str(tmp_path / "e.npz"), "--device", "cpu"]
    )
    assert embedded.exit_code == 0, embedded.output
    _, rows, _ = read_embeddings(tmp_path / "e.npz")
    assert np.abs(np.asarray(rows[:]) - expected.numpy()).max() < 1e-5
    before = Embedder(load_encoder(published), device="cpu").embed(sequences)
    assert np.abs(before - expected.numpy()).max() > 1e-3  # and it is another model than before

    head, metadata = load_trained_head(out / "head.safetensors")
    assert all(torch.equal(head.state_dict()[name], tensor) for name, tensor in best.head.state_dict().items())
    said = metadata.as_text()
    assert (said[f"{side}_digest"], said["merged_dim"]) == (record["encoder"]["digest"], str(encoder.d_model))
    assert (said["version"], said["chunk_length"]) == ("2.0", "100")

    other = (write_esm2 if side == "nucleotide" else write_dnabert)(tmp_path / "other")
    sides = {"nucleotide": out / "encoder", "protein": other}
    if side == "protein":
        sides = {"nucleotide": other, "protein": out / "encoder"}
    bundle = write_bundle(
        tmp_path / "bundle",
        name="tuned",
        **sides,
        head=ClassifierHead(64 + 32),
        nucleotide_head=head if side == "nucleotide" else None,
        chunk_length=100,
    )
    assert bundle.merged_dim == 96


def test_no_layer_leaves_the_encoder_as_it_came(records_folder: Path, tmp_path: Path) -> None:
    published = write_fair_esm2(tmp_path / "published")
    record = finetune(settings(records_folder, published, tmp_path / "out", layers=0))
    assert record["encoder"]["digest"] == record["begun_with"]["digest"] == digest_of_encoder(tmp_path / "out/encoder")
    assert record["parameters"]["trained"] == sum(
        p.numel() for p in load_trained_head(tmp_path / "out" / "head.safetensors")[0].parameters()
    )
    with pytest.raises(ModelError, match="another recipe: layers is 0 there, 1 here"):
        finetune(settings(records_folder, published, tmp_path / "out"))


def test_what_is_refused_before_the_encoder_is_read(
    records_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published, out = write_esm2(tmp_path / "published"), tmp_path / "out"
    with pytest.raises(UsageError, match="--layers is 3; the encoder has 2"):
        finetune(settings(records_folder, published, out, layers=3))
    with pytest.raises(UsageError, match="no encoder named 'nowhere'"):
        finetune(settings(records_folder, "nowhere", out))
    (tmp_path / "train.fa").write_text(">a label=viral group=virus\n" + "ACG" * 60 + "\n")
    shutil.copy(records_folder / "valid.fa.gz", tmp_path)
    with pytest.raises(InputError, match="no record with label=other"):
        finetune(settings(tmp_path, published, out))
    monkeypatch.setitem(sys.modules, "Bio", None)
    monkeypatch.setitem(sys.modules, "Bio.Align", None)
    with pytest.raises(MissingExtraError, match="biopython"):
        finetune(settings(records_folder, published, out))
    assert not out.exists()


def test_a_full_disk(records_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(encoder_checkpoint.os, "fsync", full)
    with pytest.raises(ResourceError, match="the disk is full"):
        finetune(settings(records_folder, write_esm2(tmp_path / "published"), tmp_path / "out"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("layers", -1), ("steps", 0), ("chunk_length", 99), ("learning_rate", 0.0), ("bases_per_step", 9)],
)
def test_settings_out_of_their_range(name: str, value: float, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} is"):
        settings(tmp_path, "e", tmp_path, **{name: value})
