"""Pooled embeddings: against one sequence at a time, in every batch, and when memory runs out."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from seqassay.engine.embed import Embedder, Encoder, load_encoder
from seqassay.errors import InputError, ModelError, ResourceError, UsageError, is_out_of_memory
from seqassay.models.attention import PackedLayout
from seqassay.sequences.ragged import Ragged

PROTEINS = [b"MKTAYIAKQR", b"G", b"MKTAYIAKQR", b"LLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLL", b"XBJ", b"MKTAYIAKQL"]
READS = [b"ACGTTTGACACGT", b"A", b"ACGTTTGACACGT", b"NNNN", b"ACGTRACGT", b"T" * 70, b"ACGTTTGACACGA"]


@pytest.fixture(scope="module")
def protein(protein_folder: Path) -> Encoder:
    return load_encoder(protein_folder)


@pytest.fixture(scope="module")
def nucleotide(nucleotide_folder: Path) -> Encoder:
    return load_encoder(nucleotide_folder)


def one_at_a_time(encoder: Encoder, sequences: list[bytes]) -> np.ndarray:
    """The definition: each sequence alone, plain kernel, then the mean over the positions that count."""
    rows = []
    for sequence in sequences:
        ids = torch.from_numpy(encoder.tokenizer.encode(Ragged.from_bytes([sequence])).values)
        with torch.inference_mode():
            hidden_TD = encoder.model(ids, PackedLayout.from_lengths([len(ids)]), exact=True)
        rows.append((hidden_TD[1:-1] if encoder.kind == "protein" else hidden_TD).mean(dim=0).numpy())
    return np.stack(rows)


def test_encoders_know_what_they_are(protein: Encoder, nucleotide: Encoder):
    assert (protein.kind, protein.name, protein.d_model) == ("protein", "tiny-esm2", 32)
    assert (nucleotide.kind, nucleotide.name, nucleotide.d_model) == ("nucleotide", "tiny-dnabert", 24)
    assert (protein.pooling, nucleotide.pooling) == ("mean over residues", "mean over all tokens")


@pytest.mark.parametrize("precision", ["float32", "exact"])
@pytest.mark.parametrize("token_budget", [None, 1, 13, 40])
def test_rows_equal_one_sequence_at_a_time_in_input_order(protein, nucleotide, precision, token_budget):
    for encoder, sequences in ((protein, PROTEINS), (nucleotide, READS)):
        embedder = Embedder(encoder, device="cpu", precision=precision, token_budget=token_budget)
        rows = embedder.embed(Ragged.from_bytes(sequences))
        assert rows.dtype == np.float32
        np.testing.assert_allclose(rows, one_at_a_time(encoder, sequences), atol=1e-6, rtol=0)


def test_an_embedding_does_not_move_with_its_batch(protein: Encoder):
    rng = np.random.default_rng(0)
    letters = np.frombuffer(b"LAGVSERTIDPKQNFYMHWC", np.uint8)
    sequences = [rng.choice(letters, n).tobytes() for n in rng.integers(1, 80, 200)]
    together = Embedder(protein, device="cpu").embed(Ragged.from_bytes(sequences))
    np.testing.assert_allclose(together, one_at_a_time(protein, sequences), atol=1e-5, rtol=0)


def test_bf16_is_near_and_its_rows_are_float32(protein: Encoder):
    exact = Embedder(protein, device="cpu", precision="exact").embed(Ragged.from_bytes(PROTEINS))
    half = Embedder(protein, device="cpu", precision="bf16").embed(Ragged.from_bytes(PROTEINS))
    assert half.dtype == np.float32
    assert 0 < np.abs(half - exact).max() < 0.1
    again = Embedder(protein, device="cpu", precision="exact").embed(Ragged.from_bytes(PROTEINS))
    np.testing.assert_array_equal(again, exact)  # the encoder itself was not cast


def test_identical_sequences_are_embedded_once_and_counted(protein: Encoder):
    embedder = Embedder(protein, device="cpu", token_budget=20)
    embedder.embed(Ragged.from_bytes([b"MKTAY", b"G", b"MKTAY", b"MKTAY"]))
    assert (embedder.stats.n_sequences, embedder.stats.n_unique) == (4, 2)
    assert embedder.stats.real_tokens == 7 + 3
    assert (embedder.stats.batches, embedder.stats.capacity_tokens) == (1, 20)
    assert embedder.stats.packing_efficiency == 0.5


def test_no_sequences(protein: Encoder):
    embedder = Embedder(protein, device="cpu")
    assert embedder.embed(Ragged.from_bytes([])).shape == (0, 32)
    assert embedder.stats.packing_efficiency == 1.0


def test_an_empty_sequence_is_an_error_that_names_it(protein: Encoder):
    with pytest.raises(InputError, match="sequence 2"):
        Embedder(protein, device="cpu").embed(Ragged.from_bytes([b"MK", b"", b"G"]))


class LimitedMemory(torch.nn.Module):
    """A model that holds at most so many tokens at a time, on a device made of cardboard."""

    def __init__(self, model: torch.nn.Module, limit: int, error: type[Exception], message: str) -> None:
        super().__init__()
        self.model, self.limit, self.error, self.message = model, limit, error, message
        self.config = model.config

    def forward(self, tokens_T, layout, *, exact=False):
        if len(tokens_T) > self.limit:
            raise self.error(self.message)
        return self.model(tokens_T, layout, exact=exact)


def limited(encoder: Encoder, limit: int, error=torch.OutOfMemoryError, message="CUDA out of memory") -> Encoder:
    return Encoder(
        encoder.kind,
        encoder.name,
        LimitedMemory(encoder.model, limit, error, message),
        encoder.tokenizer,
        encoder.d_model,
        encoder.digest,
    )


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.OutOfMemoryError, "CUDA out of memory"),
        (MemoryError, ""),
        (RuntimeError, "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        (RuntimeError, "DefaultCPUAllocator: not enough memory: you tried to allocate 5 bytes."),
        (RuntimeError, "could not create a primitive"),
        (RuntimeError, "std::bad_alloc"),
    ],
)
def test_out_of_memory_halves_the_budget_and_goes_on(protein, error, message, caplog):
    embedder = Embedder(limited(protein, 40, error, message), device="cpu", token_budget=1000)
    with caplog.at_level(logging.WARNING):
        rows = embedder.embed(Ragged.from_bytes(PROTEINS))
    np.testing.assert_allclose(rows, one_at_a_time(protein, PROTEINS), atol=1e-6, rtol=0)
    assert embedder.token_budget <= 40
    assert "token budget is now" in caplog.text
    assert embedder.stats.real_tokens == sum(len(p) + 2 for p in set(PROTEINS))
    assert embedder.stats.packing_efficiency <= 1


def test_one_sequence_that_does_not_fit_is_a_resource_error(protein):
    with pytest.raises(ResourceError, match="one sequence of 36 tokens"):
        Embedder(limited(protein, 30), device="cpu").embed(Ragged.from_bytes(PROTEINS))


def test_a_contig_whose_attention_would_fill_the_memory_is_refused_before_it_does(nucleotide):
    contig = Ragged.from_bytes([b"ACGT" * 200_000])
    with pytest.raises(ResourceError, match="cut the sequence into pieces"):
        Embedder(nucleotide, device="cpu").embed(contig)


def test_other_runtime_errors_are_not_taken_for_memory(protein):
    broken = limited(protein, 0, RuntimeError, "shapes do not match")
    with pytest.raises(RuntimeError, match="shapes do not match"):
        Embedder(broken, device="cpu").embed(Ragged.from_bytes(PROTEINS))
    assert not is_out_of_memory(RuntimeError("device-side assert"))


def test_the_digest_does_not_depend_on_the_file_layout(protein_folder: Path, protein: Encoder, tmp_path: Path):
    tensors = load_file(protein_folder / "model.safetensors")
    as_bin, sharded = tmp_path / "bin", tmp_path / "sharded"
    for folder in (as_bin, sharded):
        folder.mkdir()
        shutil.copy(protein_folder / "config.json", folder)
    torch.save(tensors, as_bin / "pytorch_model.bin")
    names = sorted(tensors)
    files = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, members in files.items():
        save_file({name: tensors[name] for name in members}, sharded / file)
    index = {"weight_map": {name: file for file, members in files.items() for name in members}}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    assert load_encoder(as_bin).digest == load_encoder(sharded).digest == protein.digest


def test_the_digest_changes_with_one_weight_and_with_the_tokenizer(
    protein_folder: Path, protein: Encoder, nucleotide_folder: Path, nucleotide: Encoder, tmp_path: Path
):
    changed = shutil.copytree(protein_folder, tmp_path / "protein")
    tensors = load_file(changed / "model.safetensors")
    next(t for name, t in sorted(tensors.items()) if name.endswith("layer.1.output.dense.bias"))[3] += 1e-6
    save_file(tensors, changed / "model.safetensors")
    assert load_encoder(changed).digest != protein.digest
    changed = shutil.copytree(nucleotide_folder, tmp_path / "nucleotide")
    text = (changed / "tokenizer.json").read_text()
    (changed / "tokenizer.json").write_text(text.replace('"[CLS]"', '"[BOS]"'))
    assert load_encoder(changed).digest != nucleotide.digest


def test_the_wrong_kind_or_no_encoder_is_a_model_error(protein_folder: Path, tmp_path: Path):
    with pytest.raises(ModelError, match="holds a protein encoder where a nucleotide encoder is needed"):
        load_encoder(protein_folder, kind="nucleotide")
    with pytest.raises(ModelError, match="no encoder at"):
        load_encoder(tmp_path / "nothing")


def test_a_tokenizer_larger_than_the_model_is_a_model_error(nucleotide_folder: Path, tmp_path: Path):
    changed = shutil.copytree(nucleotide_folder, tmp_path / "nucleotide")
    settings = json.loads((changed / "tokenizer.json").read_text())
    settings["model"]["vocab"] |= {"N": 14, "NN": 15, "NNN": 16}
    (changed / "tokenizer.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match="17 ids, the model only 16"):
        load_encoder(changed)


@pytest.mark.parametrize("budget", [0, -5])
def test_a_token_budget_below_one_is_a_usage_error(protein: Encoder, budget: int):
    with pytest.raises(UsageError, match=str(budget)):
        Embedder(protein, device="cpu", token_budget=budget)
