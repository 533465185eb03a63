"""Fine-tuning of random encoders in published files: what learns, what stays, and that a stop changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from finetune_support import write_dnabert, write_esm2, write_fair_esm2

from seqassay.engine.embed import Encoder, load_encoder
from seqassay.errors import ModelError, UsageError
from seqassay.models.attention import PackedLayout
from seqassay.models.esm2 import Esm2
from seqassay.train.dataset import LabelledRecords
from seqassay.train.finetune import AUGMENTATION, FineTuner, FineTuneRecipe, leave_learning

Records = tuple[LabelledRecords, LabelledRecords]
WRITERS = [pytest.param(write, id=write.__name__) for write in (write_dnabert, write_fair_esm2)]


def recipe_for(encoder: Encoder, layers: int = 1, **changed: object) -> FineTuneRecipe:
    return FineTuneRecipe(
        encoder=encoder.model.config,  # type: ignore[arg-type]
        encoder_digest=encoder.digest,
        layers=layers,
        bases_per_step=1500,
        lengths=(60, 90),
        group_weights={"virus": 0.3, "phage": 0.2, "bacteria": 0.3, "human": 0.2},
        evaluation_lengths=(60,),
        **({"steps": 16, "evaluate_every_steps": 8, "warmup_steps": 2, "learning_rate": 3e-3, "average_decay": 0.8,
            "precision": "float32"} | AUGMENTATION[encoder.kind] | changed),  # type: ignore[arg-type]
    )  # fmt: skip


def states(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("write", WRITERS)
def test_the_last_layers_learn_and_the_others_stay(
    write: Callable[[Path], Path], records: Records, tmp_path: Path
) -> None:
    encoder = load_encoder(write(tmp_path / "encoder"))
    before = states(encoder.model)
    tuner = FineTuner(recipe_for(encoder, head_learning_rate=1e-2), encoder, *records, tmp_path / "out")
    began = tuner.evaluate(tuner.average)["auc_60"]
    best = tuner.run()
    assert tuner.evaluate(best)["auc_60"] > max(0.9, began)
    after = states(best.encoder)
    learnt = {name for name in after if name.startswith(("layers.1.", "final_norm."))}
    for name in before:
        assert torch.equal(before[name], after[name]) == (name not in learnt), name
    kept = torch.load(tmp_path / "out" / "checkpoint.pt", weights_only=True)
    head = {f"head.{name}" for name in best.head.state_dict()}
    for part in ("model", "average"):
        assert set(kept[part]) == {f"encoder.{name}" for name in learnt} | head
    assert set(torch.load(tmp_path / "out" / "best.pt", weights_only=True)["model"]) == set(kept["model"])
    assert len(kept["optimizer"]["state"]) == len([p for p in tuner.model.parameters() if p.requires_grad])


@pytest.mark.parametrize("write", WRITERS)
def test_an_interrupted_fine_tuning_ends_in_the_same_weights(
    write: Callable[[Path], Path], records: Records, tmp_path: Path
) -> None:
    path = write(tmp_path / "encoder")

    class Interrupted(Exception):
        pass

    class Stops(FineTuner):
        def _step(self, batch):  # type: ignore[no-untyped-def]
            if self.progress.step == 7:  # three steps after the last checkpoint
                raise Interrupted
            return super()._step(batch)

    ends = []
    for name, trainers in (("whole", (FineTuner,)), ("cut", (Stops, FineTuner))):
        for trainer in trainers:
            encoder = load_encoder(path)
            recipe = recipe_for(encoder, steps=9, evaluate_every_steps=4, precision="bf16")
            tuner = trainer(recipe, encoder, *records, tmp_path / name)
            if trainer is Stops:
                with pytest.raises(Interrupted):
                    tuner.run()
            else:
                ends.append((states(tuner.run()), states(tuner.model)))
    for whole, cut in zip(*ends, strict=True):
        assert whole.keys() == cut.keys()
        assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_a_checkpoint_goes_on_with_its_own_encoder_alone(records: Records, tmp_path: Path) -> None:
    for seed in (0, 1):
        encoder = load_encoder(write_esm2(tmp_path / f"encoder{seed}", seed=seed))
        tuner = FineTuner(recipe_for(encoder, steps=1), encoder, *records, tmp_path / "out")
        if seed == 0:
            tuner.run()
            with pytest.raises(ValueError, match="the recipe is for encoder"):
                FineTuner(replace(tuner.recipe, encoder_digest="f" * 64), encoder, *records, tmp_path / "out")
        else:
            with pytest.raises(ModelError, match=r'another recipe: encoder_digest is "\w{64}" there, "\w{64}" here'):
                tuner.run()


@pytest.mark.parametrize("write", [write_dnabert, write_esm2])
def test_frozen_layers_give_the_same_without_gradients(write: Callable[[Path], Path], tmp_path: Path) -> None:
    encoder = load_encoder(write(tmp_path / "encoder", n_layers=3)).model  # type: ignore[call-arg]
    layout, tokens_T = PackedLayout.from_lengths([5, 5, 9]), torch.arange(4, 23)
    expected_TD = encoder.requires_grad_(True)(tokens_T, layout)
    graphs = []
    for layers in (3, 1, 0):
        leave_learning(encoder, layers)  # type: ignore[arg-type]
        hidden_TD = encoder(tokens_T, layout)
        torch.testing.assert_close(hidden_TD, expected_TD, atol=1e-5, rtol=1e-5)
        graphs.append(hidden_TD.requires_grad)
        learning = {
            name.split(".")[1] for name, p in encoder.named_parameters() if p.requires_grad and "layers" in name
        }
        assert learning == {str(n) for n in range(3 - layers, 3)}
    assert graphs == [True, True, False]
    if isinstance(encoder, Esm2):
        assert not encoder.final_norm.weight.requires_grad  # of 0 layers, not even the norm learns


def test_more_layers_than_there_are(tmp_path: Path) -> None:
    encoder = load_encoder(write_esm2(tmp_path / "encoder"))
    with pytest.raises(UsageError, match="--layers is 3; the encoder has 2"):
        leave_learning(encoder.model, 3)  # type: ignore[arg-type]
