"""An evaluation between two steps is of the weights of that moment.

`seqassay.models.linear` lays weights out for inference and keeps them until they change, which it sees by torch's
count of changes; fused optimizers do not count.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from finetune_support import write_dnabert
from lm_support import settings, tiny_plan

from seqassay.engine.embed import load_encoder
from seqassay.engine.tokens import NucleotideTokenizer
from seqassay.models.attention import PackedLayout
from seqassay.models.dnabert import DnabertConfig
from seqassay.models.lm_files import build_lm
from seqassay.train.classifier import SideClassifier
from seqassay.train.dataset import LabelledRecords
from seqassay.train.encoder_checkpoint import copy_of_learnt
from seqassay.train.encoders import EncoderTrainer, Recipe
from seqassay.train.finetune import FineTuner, FineTuneRecipe
from seqassay.train.kmer_tokenizer import build_kmer_tokenizer

Records = tuple[LabelledRecords, LabelledRecords]
GROUPS = {"virus": 0.3, "phage": 0.2, "bacteria": 0.3, "human": 0.2}


def assert_sees_steps(trainer: EncoderTrainer, model: SideClassifier) -> None:
    before = trainer.evaluate(model.eval())
    for step in range(2):
        trainer._step(trainer.draw_batch(step))
        trainer.progress.step += 1
    after = trainer.evaluate(model.eval())
    fresh = copy_of_learnt(trainer.model)
    fresh.load_state_dict(model.state_dict())
    assert after == trainer.evaluate(fresh.eval())
    assert after != before


@pytest.mark.parametrize("which", ["average", "model"])
def test_of_a_small_encoder(records: Records, tmp_path: Path, which: str) -> None:
    tokenizer = NucleotideTokenizer(build_kmer_tokenizer(3).to_str())
    recipe = Recipe(
        encoder=DnabertConfig(vocab_size=tokenizer.vocab_size, d_model=16, n_layers=1, n_heads=2, d_ff=32),
        steps=2, bases_per_step=1500, lengths=(60,), group_weights=GROUPS, warmup_steps=1, average_decay=0.1,
        precision="float32", evaluation_lengths=(60,), learning_rate=1e-2,
    )  # fmt: skip
    trainer = EncoderTrainer(recipe, *records, tokenizer, tmp_path)
    assert_sees_steps(trainer, getattr(trainer, which))


@pytest.mark.parametrize("which", ["average", "model"])
def test_of_a_fine_tuned_encoder(records: Records, tmp_path: Path, which: str) -> None:
    encoder = load_encoder(write_dnabert(tmp_path / "encoder"))
    recipe = FineTuneRecipe(
        encoder=encoder.model.config, encoder_digest=encoder.digest, layers=1,  # type: ignore[arg-type]
        steps=2, bases_per_step=1500, lengths=(60,), group_weights=GROUPS, warmup_steps=1, average_decay=0.1,
        precision="float32", evaluation_lengths=(60,), learning_rate=1e-2,
    )  # fmt: skip
    trainer = FineTuner(recipe, encoder, *records, tmp_path / "out")
    assert_sees_steps(trainer, getattr(trainer, which))


def test_of_a_language_model(tmp_path: Path) -> None:
    pytest.importorskip("lightning", reason="the extra train is not installed")
    from seqassay.train.lm_module import loss_of, make_optimizer

    model = build_lm(tiny_plan(11).config, seed=1)
    optimizer = make_optimizer(model, settings(tmp_path, tmp_path))
    tokens = torch.randint(11, (2, 16), generator=torch.Generator().manual_seed(1))
    layout = PackedLayout.from_lengths([16] * 2)

    def hidden() -> torch.Tensor:
        with torch.no_grad():
            return model(tokens.flatten(), layout)

    before = hidden()
    loss_of(model, (tokens, tokens), layout).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    fresh = build_lm(model.config, seed=2)
    fresh.load_state_dict(model.state_dict())
    after = hidden()
    with torch.no_grad():
        assert torch.equal(after, fresh(tokens.flatten(), layout))
    assert not torch.equal(after, before)
