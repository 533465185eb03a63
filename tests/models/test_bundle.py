"""Bundles: their identity, and one clear error for each way in which they can be wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import edit_bundle, make_tiny_bundle

from seqassay.errors import ModelError, ResourceError, UsageError
from seqassay.models.bundle import BUNDLE_FILE, Bundle, digest_of, file_sha256, load_bundle, write_bundle
from seqassay.models.dnabert import Dnabert, DnabertConfig
from seqassay.models.esm2 import Esm2, Esm2Config
from seqassay.models.head import ClassifierHead
from seqassay.models.weights import load_dnabert, load_esm2, save_dnabert, save_esm2, save_head


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `nucleotide`, `protein` and `head.safetensors`, tiny and random."""
    folder = tmp_path_factory.mktemp("parts")
    torch.manual_seed(5)
    save_dnabert(
        Dnabert(DnabertConfig(vocab_size=40, d_model=24, n_layers=2, n_heads=3, d_ff=32)), folder / "nucleotide"
    )
    (folder / "nucleotide" / "tokenizer.json").write_text('{"model": {}}')
    save_esm2(Esm2(Esm2Config(n_layers=2, d_model=16, n_heads=2)), folder / "protein")
    save_head(ClassifierHead(40), folder / "head.safetensors")
    return folder


def make(parts: Path, folder: Path, **changes: Any) -> Bundle:
    settings: dict[str, Any] = {
        "name": "tiny",
        "nucleotide": parts / "nucleotide",
        "protein": parts / "protein",
        "head": parts / "head.safetensors",
        "chunk_length": 300,
    }
    return write_bundle(folder, **{**settings, **changes})


@pytest.fixture
def bundle(parts: Path, tmp_path: Path) -> Bundle:
    return make(parts, tmp_path / "tiny")


def test_what_was_written_is_what_is_loaded(parts: Path, bundle: Bundle) -> None:
    loaded = load_bundle(bundle.path)
    assert loaded == bundle
    assert (loaded.chunk_length, loaded.chunk_rule, loaded.genetic_code, loaded.ambiguity) == (300, "even", 1, "drop")
    assert (loaded.precision, loaded.version, loaded.merged_dim) == ("float32", "2.3", 40)
    assert (loaded.nucleotide.d_model, loaded.protein.d_model) == (24, 16)
    assert loaded.load_head().input_dim == 40
    ours, theirs = load_esm2(loaded.protein_path), load_esm2(parts / "protein")
    assert torch.equal(ours.state_dict()["embed_tokens.weight"], theirs.state_dict()["embed_tokens.weight"])
    assert load_dnabert(loaded.nucleotide_path).config.vocab_size == 40


def test_bundle_json_has_the_documented_keys(bundle: Bundle) -> None:
    said = json.loads((bundle.path / BUNDLE_FILE).read_text())
    assert list(said) == [
        "format", "version", "name", "description", "nucleotide", "protein", "head", "nucleotide_head",
        "merged_dim", "chunk_length", "chunk_rule", "translation", "precision", "calibration", "threshold", "files",
        "digest",
    ]  # fmt: skip
    assert sorted(said["files"]) == [
        "head.safetensors",
        "nucleotide/config.json",
        "nucleotide/model.safetensors",
        "nucleotide/tokenizer.json",
        "protein/config.json",
        "protein/model.safetensors",
    ]


def test_digest_is_of_what_scores_depend_on(parts: Path, bundle: Bundle, tmp_path: Path) -> None:
    def digest(folder: str, **changes: Any) -> str:
        return make(parts, tmp_path / folder, **changes).digest

    assert digest("again") == bundle.digest
    assert digest("renamed", name="other", description="x", protein_source="y") == bundle.digest
    different = {
        bundle.digest,
        digest("longer", chunk_length=500),
        digest("rule", chunk_rule="reference"),
        digest("code", genetic_code=11),
        digest("ambiguity", ambiguity="X"),
        digest("precision", precision="bf16"),
        digest("head", head=ClassifierHead(40)),
    }
    assert len(different) == 7


def test_a_flipped_byte_in_any_file_is_named(bundle: Bundle) -> None:
    for name in bundle.files:
        path = bundle.path / name
        data = path.read_bytes()
        for position in (0, len(data) // 2, len(data) - 1):
            flipped = bytearray(data)
            flipped[position] ^= 1
            path.write_bytes(flipped)
            with pytest.raises(ModelError, match="was changed") as caught:
                load_bundle(bundle.path)
            assert str(path) in str(caught.value)
        path.write_bytes(data)
    load_bundle(bundle.path)


def test_a_missing_file_is_named(bundle: Bundle) -> None:
    (bundle.path / "nucleotide" / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"tokenizer\.json: is missing"):
        load_bundle(bundle.path, verify=False)


def test_an_extra_weight_file_would_be_read_first_and_is_refused(bundle: Bundle) -> None:
    (bundle.path / "protein" / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ModelError, match="is not listed"):
        load_bundle(bundle.path)
    (bundle.path / "protein" / "model.safetensors.index.json").unlink()
    (bundle.path / "README.md").write_text("a model card may lie beside")
    (bundle.path / "protein" / ".DS_Store").write_text("")
    load_bundle(bundle.path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda said: said.update(version="1.4"), r"version '1\.4' cannot be read; this seqassay reads 2\.x"),
        (lambda said: said.update(version="3.0"), r"version '3\.0' cannot be read"),
        (lambda said: said.update(version=2), "version 2 cannot be read"),
        (lambda said: said.pop("version"), "version None cannot be read"),
        (lambda said: said.update(format="zip"), "format is 'zip'"),
        (lambda said: said.pop("chunk_length"), "key 'chunk_length' is missing"),
        (lambda said: said.pop("nucleotide"), "key 'nucleotide' is missing"),
        (lambda said: said.update(chunk_length="300"), "chunk_length is '300'"),
        (lambda said: said.update(chunk_length=True), "chunk_length is True"),
        (lambda said: said.update(chunk_length=2), "a codon needs 3"),
        (lambda said: said.update(chunk_rule="odd"), "chunk_rule is 'odd'"),
        (lambda said: said["translation"].update(ambiguity="N"), "ambiguity is 'N'"),
        (lambda said: said["translation"].pop("genetic_code"), r"translation\.genetic_code is None"),
        (lambda said: said.update(precision="int4"), "precision is 'int4'"),
        (lambda said: said.update(calibration={"temperature": 2}), "calibration has the keys"),
        (lambda said: said.update(nucleotide_head={"path": "head.safetensors"}), "nucleotide_head is"),
        (lambda said: said.update(nucleotide_head={"path": "nucleotide_head.safetensors"}), "does not list nucleotide"),
        (lambda said: said.update(threshold="0.9"), "threshold is '0.9'"),
        (lambda said: said.update(colour="red"), "unknown key 'colour'"),
        (lambda said: said["nucleotide"].update({"class": "esm2"}), r"nucleotide\.class is 'esm2'"),
        (lambda said: said["protein"].update(path="/etc"), r"protein\.path is '/etc'"),
        (lambda said: said["protein"].update(path="../protein"), r"protein\.path"),
        (lambda said: said["head"].update(path="../head.safetensors"), r"head\.path"),
        (lambda said: said["head"].update(input_dim=41), r"head\.input_dim is 41"),
        (lambda said: said["files"].update({"../../x": "0" * 64}), "not a path inside the bundle"),
        (lambda said: said["files"].update({"/etc/passwd": "0" * 64}), "not a path inside the bundle"),
        (lambda said: said["files"].update({"head.safetensors": "abc"}), "not a SHA-256"),
        (lambda said: said["files"].pop("head.safetensors"), r"does not list head\.safetensors"),
        (lambda said: said["nucleotide"].update(d_model=32), r"32 \(nucleotide\) \+ 16 \(protein\) = 48 .* takes 40"),
    ],
)
def test_a_wrong_description_is_refused(
    bundle: Bundle, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit_bundle(bundle.path, change)
    with pytest.raises(ModelError, match=message) as caught:
        load_bundle(bundle.path)
    assert BUNDLE_FILE in str(caught.value)


def test_an_edited_setting_is_noticed_by_the_digest(bundle: Bundle) -> None:
    edit_bundle(bundle.path, lambda said: said.update(chunk_length=500), sign=False)
    with pytest.raises(ModelError, match="does not have the digest it states"):
        load_bundle(bundle.path)


def test_another_minor_version_is_read(bundle: Bundle) -> None:
    edit_bundle(bundle.path, lambda said: said.update(version="2.7"))
    assert load_bundle(bundle.path).version == "2.7"


@pytest.mark.parametrize("content", ["", "{", "[1]", "\x00\x01", "null"])
def test_a_damaged_description(bundle: Bundle, content: str) -> None:
    (bundle.path / BUNDLE_FILE).write_text(content)
    with pytest.raises(ModelError, match=r"bundle\.json"):
        load_bundle(bundle.path)


def test_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no bundle\.json"):
        load_bundle(tmp_path)
    with pytest.raises(UsageError, match="no bundle named"):
        load_bundle("nonesuch")


def test_encoders_and_head_that_do_not_fit_are_named(parts: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"24 \(nucleotide\) \+ 16 \(protein\) = 40 values a frame, the head takes 41"):
        make(parts, tmp_path / "b", head=ClassifierHead(41))
    assert list(tmp_path.iterdir()) == []


def test_a_head_swapped_later_is_noticed_even_unverified(bundle: Bundle) -> None:
    save_head(ClassifierHead(41), bundle.head_path)
    with pytest.raises(ModelError, match="the head takes 41"):
        load_bundle(bundle.path, verify=False).load_head()


def test_a_missing_tensor_is_named_even_where_every_digest_is_right(
    parts: Path, bundle: Bundle, tmp_path: Path
) -> None:
    name = "esm.encoder.layer.1.output.dense.bias"
    state = load_file(bundle.protein_path / "model.safetensors")
    del state[name]
    save_file(state, bundle.protein_path / "model.safetensors")
    digest = file_sha256(bundle.protein_path / "model.safetensors")
    edit_bundle(bundle.path, lambda said: said["files"].update({"protein/model.safetensors": digest}))
    with pytest.raises(ModelError, match=r"layer\.1\.output\.dense\.bias is missing"):
        load_esm2(load_bundle(bundle.path).protein_path)
    with pytest.raises(ModelError, match=r"layer\.1\.output\.dense\.bias is missing"):
        make(parts, tmp_path / "other", protein=bundle.protein_path)


def test_encoders_swapped_are_refused(parts: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is of class esm2; nucleotide needs dnabert"):
        make(parts, tmp_path / "b", nucleotide=parts / "protein", protein=parts / "nucleotide")


def test_a_nucleotide_encoder_without_tokenizer_is_refused(parts: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(parts / "nucleotide", tmp_path / "n")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"tokenizer\.json: is missing"):
        make(parts, tmp_path / "b", nucleotide=folder)
    assert [path.name for path in tmp_path.iterdir()] == ["n"]


def test_nothing_is_overwritten_unless_asked(parts: Path, bundle: Bundle) -> None:
    before = (bundle.path / BUNDLE_FILE).read_bytes()
    with pytest.raises(UsageError, match="exists already"):
        make(parts, bundle.path, chunk_length=500)
    assert (bundle.path / BUNDLE_FILE).read_bytes() == before
    assert make(parts, bundle.path, chunk_length=500, replace=True).chunk_length == 500
    assert [path.name for path in bundle.path.parent.iterdir()] == ["tiny"]


@pytest.mark.parametrize(
    ("error", "raised"),
    [(OSError(28, "No space left on device"), ResourceError), (PermissionError(13, "Permission denied"), UsageError)],
)
def test_a_failing_write_leaves_the_old_bundle_and_no_rubbish(
    parts: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, error: OSError, raised: type[Exception]
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("seqassay.models.bundle.save_head", fail)
    with pytest.raises(raised, match="tiny: "):
        make(parts, bundle.path, chunk_length=500, replace=True)
    assert load_bundle(bundle.path).chunk_length == 300
    assert [path.name for path in bundle.path.parent.iterdir()] == ["tiny"]


def test_a_failing_rename_puts_the_old_bundle_back(
    parts: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if "partial" in self.name:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(UsageError, match="Input/output error"):
        make(parts, bundle.path, chunk_length=500, replace=True)
    assert load_bundle(bundle.path).chunk_length == 300
    assert [path.name for path in bundle.path.parent.iterdir()] == ["tiny"]


def test_linking_stores_nothing_twice(parts: Path, tmp_path: Path) -> None:
    linked = make(parts, tmp_path / "linked", files_by="link")
    weights = linked.protein_path / "model.safetensors"
    assert weights.samefile(parts / "protein" / "model.safetensors")
    copied = make(parts, tmp_path / "copied", files_by="copy")
    assert not weights.samefile(copied.protein_path / "model.safetensors")
    assert linked.digest == copied.digest


def test_linking_falls_back_to_symbolic_links(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other_file_system(self: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", other_file_system)
    bundle = make(parts, tmp_path / "linked", files_by="link")
    assert (bundle.protein_path / "model.safetensors").is_symlink()
    assert load_bundle(bundle.path) == bundle


def test_a_bundle_with_a_fair_esm_file_and_a_pickled_head(parts: Path, tmp_path: Path) -> None:
    """What `models import --protein esm2.pt --head 300_model.pth` makes."""
    state = {}
    renamed = {"qkv": "self_attn.{}_proj", "out": "self_attn.out_proj", "attention_norm": "self_attn_layer_norm"}
    model = load_esm2(parts / "protein")
    for name, tensor in model.state_dict().items():
        if ".qkv." in name:
            layer, kind = name.split(".qkv.")
            for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                state[f"{layer}.{renamed['qkv'].format(letter)}.{kind}"] = part.clone()
            continue
        for ours, fair in (*renamed.items(), ("ffn_norm", "final_layer_norm"), ("final_norm", "emb_layer_norm_after")):
            name = name.replace(f"{ours}.", f"{fair}.")
        state[name] = tensor.clone()
    state["embed_tokens.weight"] /= 0.88
    settings = {"encoder_layers": 2, "encoder_embed_dim": 16, "encoder_attention_heads": 2, "token_dropout": True}
    torch.save({"model": state, "cfg": {"model": settings}}, tmp_path / "esm2_tiny.pt")
    torch.save(ClassifierHead(40).state_dict(), tmp_path / "300_model.pth")
    bundle = make(parts, tmp_path / "b", protein=tmp_path / "esm2_tiny.pt", head=tmp_path / "300_model.pth")
    assert "protein/esm2_tiny.pt" in bundle.files
    loaded = load_esm2(load_bundle(bundle.path).protein_path)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, atol=1e-6, rtol=1e-6)
    assert bundle.load_head().input_dim == 40


def test_a_bundle_of_version_2_0_is_read(bundle: Bundle) -> None:
    path = bundle.path / BUNDLE_FILE
    said = json.loads(path.read_text())
    said = {key: value for key, value in said.items() if key != "nucleotide_head"} | {"version": "2.0"}
    said["digest"] = digest_of(said)
    path.write_text(json.dumps(said))
    old = load_bundle(bundle.path)
    assert (old.version, old.nucleotide_head_path, old.calibration) == ("2.0", None, None)


def test_nucleotide_head_and_calibration_come_back(tmp_path: Path) -> None:
    folder = make_tiny_bundle(tmp_path, calibrated=True)
    loaded = load_bundle(folder)
    assert loaded.calibration is not None
    assert loaded.calibration.lengths_K.tolist() == [100.0, 300.0]
    head = loaded.load_nucleotide_head()
    assert head is not None
    assert head.input_dim == loaded.nucleotide.d_model


def test_a_calibration_without_its_head_is_refused(tmp_path: Path) -> None:
    path = make_tiny_bundle(tmp_path, calibrated=True) / BUNDLE_FILE
    said = json.loads(path.read_text())
    said["calibration"]["unframed"] = None
    said["digest"] = digest_of(said)
    path.write_text(json.dumps(said))
    with pytest.raises(ModelError, match="do not belong together"):
        load_bundle(path.parent)
