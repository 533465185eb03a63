"""Folders of language models: there and back, what transformers makes of them, and damaged ones."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import train_bpe
from torch import Tensor

from seqassay.errors import ModelError, ResourceError, SeqassayError, UsageError
from seqassay.models import lm_files
from seqassay.models.attention import PackedLayout
from seqassay.models.causal_lm import CausalLm, CausalLmConfig
from seqassay.models.lm_files import build_lm, export_lm, load_lm, save_lm
from seqassay.text.tokenizer import load_tokenizer

CONFIG = CausalLmConfig(vocab_size=100, d_model=16, n_layers=2, n_heads=2, d_ff=24, context=32)


def same_weights(one: CausalLm, other: CausalLm) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    path = tmp_path / "tokenizer.json"
    train_bpe(96).save(str(path))
    return path


@pytest.fixture
def saved(tmp_path: Path, tokenizer: Path) -> Path:
    save_lm(build_lm(CONFIG, seed=3), tmp_path / "lm", seed=3, tokenizer=tokenizer)
    return tmp_path / "lm"


def test_our_folder_gives_the_same_model_back(saved: Path, tokenizer: Path) -> None:
    loaded = load_lm(saved)
    assert loaded.model.config == CONFIG
    assert same_weights(loaded.model, build_lm(CONFIG, seed=3))
    assert all(parameter.requires_grad for parameter in loaded.model.parameters())
    assert sorted(path.name for path in saved.iterdir()) == ["lm.json", "model.safetensors", "tokenizer.json"]
    assert [path.name for path in saved.parent.iterdir() if path.name.startswith(".")] == []
    said = json.loads((saved / "lm.json").read_text())
    assert said["seed"] == 3
    assert said["plan"]["params"] == sum(parameter.numel() for parameter in loaded.model.parameters())
    digest = load_tokenizer(tokenizer).digest  # what token files name, too
    assert said["tokenizer"] == {"file": "tokenizer.json", "digest": digest, "tokens": 96}
    assert loaded.tokenizer_digest == digest
    assert said["provenance"]["libraries"]["torch"]
    assert loaded.tokenizer_path is not None
    assert loaded.tokenizer_path.read_bytes() == tokenizer.read_bytes()


@pytest.mark.parametrize("change", [{}, {"tied": False}, {"norm": "layernorm"}])
def test_an_exported_folder_loaded_back_is_the_same_model(tmp_path: Path, change: dict[str, Any]) -> None:
    config = dataclasses.replace(CONFIG, **change)
    save_lm(build_lm(config, seed=1), tmp_path / "lm")
    export_lm(tmp_path / "lm", tmp_path / "out")
    loaded = load_lm(tmp_path / "out")
    assert loaded.model.config == config
    assert same_weights(loaded.model, load_lm(tmp_path / "lm").model)
    assert loaded.said == {}
    assert loaded.tokenizer_digest is None


def test_transformers_loads_the_export_with_equal_logits_and_its_own_saving_loads_here(
    saved: Path, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    export_lm(saved, tmp_path / "out")
    ours = load_lm(saved).model
    for config, again in ((CONFIG, saved), (dataclasses.replace(CONFIG, norm="layernorm", tied=False), None)):
        if again is None:
            save_lm(build_lm(config, seed=2), tmp_path / "ln")
            export_lm(tmp_path / "ln", tmp_path / "out", replace=True)
            ours = load_lm(tmp_path / "ln").model
        theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
        assert type(theirs).__name__ == ("LlamaForCausalLM" if config.norm == "rmsnorm" else "StableLmForCausalLM")
        tokens = torch.arange(32)
        with torch.inference_mode():
            difference = theirs(tokens[None]).logits[0] - ours.logits(ours(tokens, PackedLayout.from_lengths([32])))
        assert difference.abs().max() <= 1e-5
        theirs.save_pretrained(tmp_path / f"theirs-{config.norm}")
        back = load_lm(tmp_path / f"theirs-{config.norm}").model
        assert back.config == config
        assert same_weights(back, ours)
    export_lm(saved, tmp_path / "out", replace=True)
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert words("ACGT")["input_ids"] == train_bpe(96).encode("ACGT").ids


def test_learned_positions_are_not_exported(tmp_path: Path) -> None:
    save_lm(build_lm(dataclasses.replace(CONFIG, positions="learned"), seed=1), tmp_path / "lm")
    with pytest.raises(UsageError, match="learned positions cannot be exported"):
        export_lm(tmp_path / "lm", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_is_not_exported_over_itself(saved: Path) -> None:
    before = {path: path.read_bytes() for path in saved.iterdir()}
    with pytest.raises(UsageError, match="is the model itself"):
        export_lm(saved, saved.parent / "other" / ".." / saved.name, replace=True)
    assert {path: path.read_bytes() for path in saved.iterdir()} == before


def rewrite(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        change(state)
        save_file(state, folder / "model.safetensors")

    return apply


def edit(**changes: Any) -> Callable[[Path], None]:
    """Change entries of lm.json's config, or of lm.json itself for capitalised names; None removes."""

    def apply(folder: Path) -> None:
        said = json.loads((folder / "lm.json").read_text())
        for name, value in changes.items():
            place = said if name[0].isupper() else said["config"]
            place.pop(name.lower())
            if value is not None:
                place[name.lower()] = value
        (folder / "lm.json").write_text(json.dumps(said))

    return apply


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def other_tokenizer(folder: Path) -> None:
    train_bpe(60).save(str(folder / "tokenizer.json"))


QKV = "layers.1.qkv.weight"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (rewrite(lambda s: s[QKV].view(-1)[7:8].fill_(float("nan"))), f"{QKV} holds NaN"),
        (rewrite(lambda s: s.pop(QKV)), f"tensor {QKV} is missing"),
        (rewrite(lambda s: s.update(extra=torch.ones(1))), "unknown tensor extra"),
        (rewrite(lambda s: s.update({QKV: torch.ones(48, 15)})), r"has shape \[48, 15\], expected \[48, 16\]"),
        (cut, "not a readable weight file"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no weights found"),
        (lambda folder: (folder / "lm.json").write_text("{"), "not readable as JSON"),
        (lambda folder: (folder / "lm.json").unlink(), "neither lm.json nor config.json"),
        (other_tokenizer, "is not the tokenizer that lm.json names"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json: is missing"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "is no tokenizer"),
        (edit(n_layers=3), "tensor layers.2.* is missing"),
        (edit(n_layers=10**9), "has 1,000,000,000 layers by its settings"),
        (edit(eps=-1e-5), "eps is -1e-05; it has to be above 0"),
        (edit(rotary_base=0.0), "rotary_base is 0; it has to be above 0"),
        (edit(n_heads=3), "does not divide into 3 heads"),
        (edit(d_model="16"), "d_model is '16', which it cannot be"),
        (edit(norm="batchnorm"), "norm is 'batchnorm'"),
        (edit(eps=None), "config must hold exactly"),
        (edit(Version="2.0"), "version 2.0 cannot be read"),
        (edit(Config=None), "has no config"),
    ],
)
def test_damaged_folders(saved: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(saved)
    with pytest.raises(ModelError, match=message) as caught:
        load_lm(saved)
    assert str(saved) in caught.value.message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt2"}, "model_type is 'gpt2'"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'; only 'silu'"),
        ({"num_key_value_heads": 1}, "num_key_value_heads is 1"),
        ({"head_dim": 32}, "head_dim is 32"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "rope_type is 'yarn'"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_type is 'linear'"),
        ({"num_hidden_layers": 1}, "unknown tensor model.layers.1"),
        ({"hidden_size": None}, "hidden_size is None"),
        ({"num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": None}, "does not divide into 3 heads"),
        ({"tie_word_embeddings": False}, "lm_head.weight is missing"),
    ],
)
def test_folders_of_transformers_that_ask_for_something_else(
    saved: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    export_lm(saved, tmp_path / "out")
    path = tmp_path / "out" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ModelError, match=message):
        load_lm(tmp_path / "out")


def test_a_tied_head_that_was_saved_must_be_the_table(saved: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_lm(saved, out)
    rewrite(lambda s: s.update({"lm_head.weight": s["model.embed_tokens.weight"].clone()}))(out)
    assert same_weights(load_lm(out).model, load_lm(saved).model)
    rewrite(lambda s: s["lm_head.weight"].mul_(2))(out)
    with pytest.raises(ModelError, match=r"lm_head\.weight differs"):
        load_lm(out)


def test_what_is_in_the_way_stays(saved: Path, tmp_path: Path, tokenizer: Path) -> None:
    model = build_lm(CONFIG, seed=4)
    with pytest.raises(UsageError, match="is there already"):
        save_lm(model, saved)
    with pytest.raises(UsageError, match="a file is in the way"):
        save_lm(model, tokenizer, replace=True)
    other = tmp_path / "letters"
    other.mkdir()
    (other / "diary").write_text("dear")
    with pytest.raises(UsageError, match="is there already"):
        save_lm(model, other, replace=True)  # no model: not ours to replace
    assert load_lm(saved).said["seed"] == 3
    save_lm(model, saved, seed=4, replace=True)
    assert load_lm(saved).said["seed"] == 4
    with pytest.raises(UsageError, match=r"has 96 tokens; the model has a vocabulary of 90"):
        save_lm(build_lm(dataclasses.replace(CONFIG, vocab_size=90), seed=1), tmp_path / "small", tokenizer=tokenizer)


def test_a_full_disk_leaves_the_previous_model_whole(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise lm_files.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(lm_files, "save_tensors", full)
    with pytest.raises(ResourceError, match="the disk is full") as caught:
        save_lm(build_lm(CONFIG, seed=4), saved, replace=True)
    assert isinstance(caught.value, SeqassayError)
    assert load_lm(saved).said["seed"] == 3
    assert [path.name for path in saved.parent.iterdir() if path.name.startswith(".")] == []
