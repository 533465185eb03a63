import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from seqassay.engine.tokens import NucleotideTokenizer
from seqassay.errors import ModelError
from seqassay.models.dnabert import DnabertConfig
from seqassay.models.esm2 import Esm2Config
from seqassay.sequences.ragged import Ragged
from seqassay.train.dataset import LabelledChunks, LabelledRecords
from seqassay.train.encoders import (
    PRETRAINING,
    EncoderTrainer,
    Recipe,
    default_group_weights,
    substitute,
    with_made_up,
)
from seqassay.train.kmer_tokenizer import build_kmer_tokenizer

TOKENIZER = NucleotideTokenizer(build_kmer_tokenizer(3).to_str())
NUCLEOTIDE = Recipe(
    encoder=DnabertConfig(vocab_size=TOKENIZER.vocab_size, d_model=16, n_layers=1, n_heads=2, d_ff=32),
    steps=24,
    bases_per_step=3000,
    lengths=(60, 90),
    group_weights={"virus": 0.3, "phage": 0.2, "bacteria": 0.3, "human": 0.2},
    warmup_steps=4,
    base_substitution_rate=0.02,
    average_decay=0.9,
    precision="float32",
    evaluate_every_steps=8,
    evaluation_lengths=(60,),
)
PROTEIN = replace(NUCLEOTIDE, encoder=Esm2Config(n_layers=1, d_model=16, n_heads=2, d_ff=32), residue_mutation_rate=0.1)
SIDES = [pytest.param(NUCLEOTIDE, TOKENIZER, id="nucleotide"), pytest.param(PROTEIN, None, id="protein")]


Records = tuple[LabelledRecords, LabelledRecords]


def state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.mark.parametrize(("recipe", "tokenizer"), SIDES)
def test_classes_of_different_codons_are_learnt(
    recipe: Recipe, tokenizer: NucleotideTokenizer | None, records: Records, tmp_path: Path
) -> None:
    trainer = EncoderTrainer(recipe, *records, tokenizer, tmp_path)
    before = trainer.evaluate(trainer.average)["auc_60"]
    model = trainer.run()
    after = trainer.evaluate(model)["auc_60"]
    assert after > 0.97 > before or after == pytest.approx(1.0)
    rows = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [8, 16, 24]


@pytest.mark.parametrize(("recipe", "tokenizer"), SIDES)
def test_an_interrupted_run_ends_in_the_same_weights(
    recipe: Recipe, tokenizer: NucleotideTokenizer | None, records: Records, tmp_path: Path
) -> None:
    whole = state(EncoderTrainer(recipe, *records, tokenizer, tmp_path / "whole").run())

    class Interrupted(Exception):
        pass

    class Stops(EncoderTrainer):
        def _step(self, batch):  # type: ignore[no-untyped-def]
            if self.progress.step == 19:  # three steps after the last checkpoint
                raise Interrupted
            return super()._step(batch)

    with pytest.raises(Interrupted):
        Stops(recipe, *records, tokenizer, tmp_path / "cut").run()
    again = EncoderTrainer(recipe, *records, tokenizer, tmp_path / "cut").run()
    assert_same(state(again), whole)


def test_the_best_state_is_restored_not_the_last(records: Records, tmp_path: Path) -> None:
    figures = iter([0.6, 0.9, 0.7])
    kept: list[dict[str, torch.Tensor]] = []

    class Scripted(EncoderTrainer):
        def evaluate(self, model):  # type: ignore[no-untyped-def]
            kept.append(state(model))
            return {"selection": next(figures)}

    best = Scripted(NUCLEOTIDE, *records, TOKENIZER, tmp_path).run()
    assert len(kept) == 3
    assert_same(state(best), kept[1])
    assert not torch.equal(kept[1]["head.output_layer.weight"], kept[2]["head.output_layer.weight"])


@pytest.mark.parametrize(("recipe", "tokenizer"), SIDES)
def test_masked_tokens_are_learnt_and_training_begins_there(
    recipe: Recipe, tokenizer: NucleotideTokenizer | None, records: Records, tmp_path: Path
) -> None:
    pretraining = EncoderTrainer(replace(recipe, **PRETRAINING), *records, tokenizer, tmp_path / "pretrain")
    before = pretraining.evaluate(pretraining.average)
    assert pretraining.evaluate(pretraining.average) == before  # the same tokens are masked every time
    model = pretraining.run()
    after = pretraining.evaluate(model)
    assert after["masked_token_loss_60"] < before["masked_token_loss_60"]
    assert after["selection"] == -after["masked_token_loss_60"]
    training = EncoderTrainer(recipe, *records, tokenizer, tmp_path / "train", begin_with=model)
    assert_same(state(training.model), state(model))
    assert_same(state(training.average), state(model))


def test_default_weights_even_labels_and_dampen_groups(records: Records) -> None:
    weights = default_group_weights(records[0])
    assert weights == pytest.approx({"virus": 0.25, "phage": 0.25, "bacteria": 0.25, "human": 0.25})


def test_made_up_chunks_are_others() -> None:
    rng = np.random.default_rng(6)
    bases = np.frombuffer(b"ACGT", np.uint8)[rng.integers(0, 4, (50, 60))]
    chunks = LabelledChunks(np.arange(50), np.ones(50, np.int64), Ragged.from_lengths(bases.reshape(-1), [60] * 50))
    made = with_made_up(chunks, 0.16, rng)
    changed = (made.bases.values.reshape(50, 60) != bases).any(axis=1)
    assert changed.sum() == (made.labels == 0).sum() == 8
    assert (made.labels[changed] == 0).all()
    assert (chunks.labels == 1).all()
    assert with_made_up(chunks, 0.0, rng) is chunks


def test_a_tokenizer_goes_with_a_nucleotide_encoder_alone(records: Records, tmp_path: Path) -> None:
    for recipe, tokenizer in ((NUCLEOTIDE, None), (PROTEIN, TOKENIZER)):
        with pytest.raises(ValueError, match="needs its tokenizer"):
            EncoderTrainer(recipe, *records, tokenizer, tmp_path)


def test_another_recipe_does_not_go_on_from_a_checkpoint(records: Records, tmp_path: Path) -> None:
    EncoderTrainer(replace(NUCLEOTIDE, steps=8), *records, TOKENIZER, tmp_path).run()
    with pytest.raises(ModelError, match="another recipe"):
        EncoderTrainer(replace(NUCLEOTIDE, steps=9), *records, TOKENIZER, tmp_path).run()


def test_the_best_state_of_an_untrained_folder_is_an_error(records: Records, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no state was saved yet"):
        EncoderTrainer(NUCLEOTIDE, *records, TOKENIZER, tmp_path).best()


@pytest.mark.parametrize(("recipe", "tokenizer"), SIDES)
def test_a_batch_is_a_function_of_seed_and_step(
    recipe: Recipe, tokenizer: NucleotideTokenizer | None, records: Records, tmp_path: Path
) -> None:
    trainer = EncoderTrainer(recipe, *records, tokenizer, tmp_path)
    a, b, c = trainer.draw_batch(5), trainer.draw_batch(5), trainer.draw_batch(6)
    tokens, same, other = (batch.packed.tokens_T for batch in (a, b, c))
    assert torch.equal(tokens, same)
    assert tokens.shape != other.shape or not torch.equal(tokens, other)


def test_the_clock_can_end_the_schedule(records: Records, tmp_path: Path) -> None:
    trainer = EncoderTrainer(replace(NUCLEOTIDE, max_minutes=1e-9), *records, TOKENIZER, tmp_path)
    trainer.run()
    assert trainer.progress.step <= 1


def test_substitutions_stay_below_their_rate() -> None:
    bases = Ragged.from_bytes([b"A" * 5000] * 40)
    chunks = LabelledChunks(np.arange(40), np.zeros(40, np.int64), bases)
    changed = substitute(chunks, 0.1, np.random.default_rng(0)).bases.values.reshape(40, 5000) != ord("A")
    rates = changed.mean(axis=1) * 4 / 3  # a quarter of the draws gives the same letter
    assert rates.max() < 0.12
    assert rates.mean() == pytest.approx(0.05, abs=0.02)
    assert rates.std() > 0.01  # each chunk has its own
    assert set(np.unique(chunks.bases.values)) == {ord("A")}  # the input is untouched


@pytest.mark.parametrize(("recipe", "tokenizer"), SIDES)
def test_made_up_sequences_in_the_training_are_learnt_and_count_in_the_choice_of_a_state(
    recipe: Recipe, tokenizer: NucleotideTokenizer | None, records: Records, tmp_path: Path
) -> None:
    trainer = EncoderTrainer(replace(recipe, made_up_share=0.3, steps=48), *records, tokenizer, tmp_path)
    before = trainer.evaluate(trainer.average)
    after = trainer.evaluate(trainer.run())
    assert after["made_up_auc_60"] > 0.9 > before["made_up_auc_60"]
    figures = [value for name, value in after.items() if name != "selection"]
    assert len(figures) == 3
    assert after["selection"] == pytest.approx(np.mean(figures))
