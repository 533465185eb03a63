"""Encoder training on a CUDA device against the CPU: the same draws, the same loss, checkpoints that go either way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from seqassay.engine.embed import load_encoder
from seqassay.engine.tokens import NucleotideTokenizer
from seqassay.models.dnabert import Dnabert, DnabertConfig
from seqassay.models.esm2 import Esm2, Esm2Config
from seqassay.models.identity import digest_of_encoder, encoder_digest
from seqassay.models.weights import save_dnabert, save_esm2
from seqassay.sequences.ragged import Ragged
from seqassay.train.dataset import LabelledRecords
from seqassay.train.encoders import PRETRAINING, EncoderTrainer, Recipe
from seqassay.train.finetune import AUGMENTATION, FineTuner, FineTuneRecipe
from seqassay.train.finetune_output import write_encoder
from seqassay.train.kmer_tokenizer import build_kmer_tokenizer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

CUDA = torch.device("cuda", 0)
TOKENIZER = NucleotideTokenizer(build_kmer_tokenizer(3).to_str())
NUCLEOTIDE = Recipe(
    encoder=DnabertConfig(vocab_size=TOKENIZER.vocab_size, d_model=32, n_layers=2, n_heads=2, d_ff=64),
    steps=24,
    bases_per_step=3000,
    lengths=(60, 90),
    group_weights={"virus": 0.5, "bacteria": 0.5},
    warmup_steps=4,
    base_substitution_rate=0.02,
    average_decay=0.9,
    evaluate_every_steps=8,
    evaluation_lengths=(60,),
)
PROTEIN = replace(NUCLEOTIDE, encoder=Esm2Config(n_layers=2, d_model=32, n_heads=2, d_ff=64))
SIDES = [pytest.param(NUCLEOTIDE, TOKENIZER, id="nucleotide"), pytest.param(PROTEIN, None, id="protein")]


def records(seed: int, n: int = 40, bases: int = 300) -> LabelledRecords:
    """Two groups of other codons each."""
    rng = np.random.default_rng(seed)
    codons = (np.array(["ATG", "GAT", "AAA", "TTT", "GTT"]), np.array(["GCC", "CGC", "GGC", "CTG", "GAG"]))
    labels = np.arange(n) % 2
    texts = ["".join(rng.choice(codons[1 - label], bases // 3)).encode() for label in labels]
    groups = np.array(["virus" if label else "bacteria" for label in labels])
    ids = [f"{seed}_{i}" for i in range(n)]
    return LabelledRecords(ids, labels, groups, groups, groups, ids, Ragged.from_bytes(texts))


@pytest.mark.parametrize("precision", ["bf16", "float32"])
@pytest.mark.parametrize(("recipe", "tokenizer"), SIDES)
def test_classes_are_learnt_and_a_checkpoint_goes_on_on_the_cpu(
    recipe: Recipe, tokenizer: NucleotideTokenizer | None, precision: str, tmp_path: Path
) -> None:
    recipe = replace(recipe, precision=precision)  # type: ignore[arg-type]
    both = records(1), records(2)
    trainer = EncoderTrainer(recipe, *both, tokenizer, tmp_path, device=CUDA)
    best = trainer.run()
    assert next(trainer.model.parameters()).device == CUDA
    on_cpu = EncoderTrainer(recipe, *both, tokenizer, tmp_path)
    figures = on_cpu.evaluate(best)
    assert figures["auc_60"] > 0.95
    assert on_cpu.evaluate(on_cpu.run()) == figures  # the finished training is taken over, nothing is trained
    assert on_cpu.progress.step == 24
    assert trainer.evaluate(trainer.average)["auc_60"] > 0.95


@pytest.mark.parametrize("objective", ["labels", "masked tokens"])
@pytest.mark.parametrize(("recipe", "tokenizer"), SIDES)
def test_the_first_loss_is_the_cpus(
    recipe: Recipe, tokenizer: NucleotideTokenizer | None, objective: str, tmp_path: Path
) -> None:
    """In float32, without the head's dropout: the same weights, chunks and masks on both devices."""
    changed = PRETRAINING if objective == "masked tokens" else {}
    recipe = replace(recipe, precision="float32", **changed)
    losses = []
    for device in (torch.device("cpu"), CUDA):
        trainer = EncoderTrainer(recipe, records(1), records(2), tokenizer, tmp_path / device.type, device=device)
        trainer.model.head.dropout.p = 0.0
        losses.append(trainer._step(trainer.draw_batch(0)))
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.parametrize("side", ["nucleotide", "protein"])
def test_a_fine_tuned_encoder_is_written_from_the_device_and_goes_on_on_the_cpu(side: str, tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    tokenizer = folder / "tokenizer.json" if side == "nucleotide" else None
    if tokenizer is not None:
        save_dnabert(Dnabert(NUCLEOTIDE.encoder), folder)  # type: ignore[arg-type]
        tokenizer.write_text(build_kmer_tokenizer(3).to_str())
    else:
        save_esm2(Esm2(PROTEIN.encoder), folder)  # type: ignore[arg-type]
    encoder = load_encoder(folder)
    recipe = FineTuneRecipe(
        encoder=encoder.model.config,  # type: ignore[arg-type]
        encoder_digest=encoder.digest,
        layers=1,
        steps=8,
        evaluate_every_steps=4,
        bases_per_step=3000,
        lengths=(60, 90),
        evaluation_lengths=(60,),
        group_weights={"virus": 0.5, "bacteria": 0.5},
        **AUGMENTATION[side],
    )
    both = records(1), records(2)
    before = {name: tensor.clone() for name, tensor in encoder.model.state_dict().items()}
    best = FineTuner(recipe, encoder, *both, tmp_path / "out", device=CUDA).run()
    for name, tensor in best.encoder.state_dict().items():
        assert torch.equal(tensor.cpu(), before[name]) == (not name.startswith(("layers.1.", "final_norm."))), name
    write_encoder(best.encoder, tmp_path / "tuned", tokenizer=tokenizer)
    digest = encoder_digest(best.encoder.cpu(), encoder.tokenizer.digest)
    assert digest_of_encoder(tmp_path / "tuned") == digest
    on_cpu = FineTuner(recipe, load_encoder(folder), *both, tmp_path / "out").run()
    assert encoder_digest(on_cpu.encoder, encoder.tokenizer.digest) == digest
