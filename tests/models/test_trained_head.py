"""A trained head in a bundle: what it says of its training stays with it, and is held against the bundle."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Run, edit_bundle, in_process

from seqassay.engine.embed import load_encoder
from seqassay.engine.tokens import ProteinTokenizer
from seqassay.errors import ModelError
from seqassay.models.bundle import Bundle, file_sha256, load_bundle, write_bundle
from seqassay.models.esm2 import Esm2, Esm2Config
from seqassay.models.head import ClassifierHead
from seqassay.models.identity import PROTEIN_TOKENIZER_DIGEST, digest_of_encoder
from seqassay.models.weights import save_esm2, save_head
from seqassay.train.head_file import HeadMetadata, load_trained_head, save_trained_head


@pytest.fixture(scope="module")
def metadata(tiny_bundle: Path) -> HeadMetadata:
    """Of a head that was trained on the tiny bundle's encoders."""
    return HeadMetadata(
        merged_dim=72,
        nucleotide="tiny-n",
        nucleotide_digest=load_encoder(tiny_bundle / "nucleotide").digest,
        protein="tiny-p",
        protein_digest=load_encoder(tiny_bundle / "protein").digest,
        chunk_length=300,
        recipe="default (patience=3)",
        seed=7,
        training_data="c" * 64,
        validation_data="d" * 64,
        seqassay="0.1.0",
    )


@pytest.fixture
def head(metadata: HeadMetadata, tmp_path: Path) -> Path:
    return write_head(tmp_path / "head.safetensors", metadata)


def write_head(path: Path, metadata: HeadMetadata) -> Path:
    torch.manual_seed(3)
    save_trained_head(ClassifierHead(metadata.merged_dim).eval(), path, metadata)
    return path


def bundle_of(encoders: Path, head: Path | ClassifierHead, folder: Path, **changes: Any) -> Bundle:
    settings = {"name": "b", "nucleotide": encoders / "nucleotide", "protein": encoders / "protein", "head": head}
    return write_bundle(folder, **{**settings, "chunk_length": 300, **changes})


def test_what_a_head_says_of_its_training_stays_with_it(
    tiny_bundle: Path, head: Path, metadata: HeadMetadata, tmp_path: Path
) -> None:
    bundle = bundle_of(tiny_bundle, head, tmp_path / "b")
    assert bundle.head_path.read_bytes() == head.read_bytes()
    kept, said = load_trained_head(bundle.head_path)
    assert said == metadata
    assert load_bundle(bundle.path).head_metadata() == {k: v for k, v in metadata.as_text().items() if k != "format"}
    assert torch.equal(bundle.load_head().hidden_layer.weight, kept.hidden_layer.weight)


def test_a_plain_head_gives_the_bundle_it_always_gave(tiny_bundle: Path, head: Path, tmp_path: Path) -> None:
    plain, _ = load_trained_head(head)
    save_head(plain, tmp_path / "plain.safetensors")
    bundle = bundle_of(tiny_bundle, tmp_path / "plain.safetensors", tmp_path / "a")
    assert bundle.digest == bundle_of(tiny_bundle, plain, tmp_path / "b").digest
    assert file_sha256(bundle.head_path) == file_sha256(tmp_path / "plain.safetensors")
    assert bundle.head_metadata() == {}


def test_the_embedded_bundle_is_as_it_was() -> None:
    bundle = load_bundle("mini")
    assert bundle.head_metadata() == {}
    bundle.load_head()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chunk_length": 500}, "chunk length 500, the bundle's is 300"),
        ({"protein_digest": "f" * 64}, "protein encoder tiny-p ffffffffffff, the bundle's is "),
        ({"nucleotide_digest": "f" * 64}, "nucleotide encoder tiny-n ffffffffffff, the bundle's is "),
        ({"merged_dim": 73}, "merged dimension 73, the bundle's is 72"),
    ],
)
def test_a_head_of_another_bundle_is_refused_with_the_commands_that_train_one(
    tiny_bundle: Path, metadata: HeadMetadata, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = write_head(tmp_path / "other.safetensors", replace(metadata, **changes))
    with pytest.raises(ModelError) as caught:
        bundle_of(tiny_bundle, path, tmp_path / "b")
    assert f"{path}: was trained for another bundle: {message}" in caught.value.message
    assert caught.value.message.count("the bundle's") == 1
    assert f"--protein {tiny_bundle / 'protein'} --chunk-length 300\n" in caught.value.hint
    assert "seqassay train head --train" in caught.value.hint
    assert [file.name for file in tmp_path.iterdir()] == ["other.safetensors"]


def test_encoders_are_told_apart_by_their_weights_and_not_by_their_names(
    tiny_bundle: Path, head: Path, tmp_path: Path
) -> None:
    torch.manual_seed(9)
    save_esm2(Esm2(Esm2Config(n_layers=2, d_model=40, n_heads=2, d_ff=64)), tmp_path / "protein")
    with pytest.raises(ModelError, match="another bundle: protein encoder tiny-p"):
        bundle_of(tiny_bundle, head, tmp_path / "b", protein=tmp_path / "protein")


def test_a_chunk_length_that_was_edited_afterwards_is_noticed(tiny_bundle: Path, head: Path, tmp_path: Path) -> None:
    bundle = bundle_of(tiny_bundle, head, tmp_path / "b")
    edit_bundle(bundle.path, lambda said: said.update(chunk_length=500))
    with pytest.raises(ModelError, match="was trained on chunks of 300 bases, not the bundle's 500"):
        load_bundle(bundle.path).load_head()


def test_the_digests_here_are_the_engine_s(tiny_bundle: Path) -> None:
    assert ProteinTokenizer().digest == PROTEIN_TOKENIZER_DIGEST
    for kind in ("nucleotide", "protein"):
        assert digest_of_encoder(tiny_bundle / kind) == load_encoder(tiny_bundle / kind).digest


@pytest.fixture
def run(in_cache: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return in_process(monkeypatch, capsys)


@pytest.fixture
def in_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEQASSAY_HOME", str(tmp_path / "cache"))


def test_import_keeps_it_and_info_shows_it(run: Run, tiny_bundle: Path, head: Path, metadata: HeadMetadata) -> None:
    words = ["models", "import", "--name", "mine", "--head", str(head)]
    words += ["--nucleotide", str(tiny_bundle / "nucleotide"), "--protein", str(tiny_bundle / "protein")]
    code, _, err = run(*words, "--chunk-length", "500")
    assert (code, "chunk length 300, the bundle's is 500" in err) == (2, True)
    assert run(*words, "--chunk-length", "300")[0] == 0
    trained = json.loads(run("models", "info", "mine", "--json")[1])["head"]["trained"]
    assert (trained["recipe"], trained["protein_digest"]) == ("default (patience=3)", metadata.protein_digest)
    assert "    recipe: default (patience=3)" in run("models", "info", "mine")[1]
