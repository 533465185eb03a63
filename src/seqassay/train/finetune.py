"""Fine-tune the last layers of a published encoder, with a new head, on labelled chunks.

The training is that of small encoders (`seqassay.train.encoders`): chunks, frames, losses, exchanged bases and
residues, the running average and the choice of the best state are the same. What differs, and why:

- All but the last layers are frozen: they are computed without gradients, shared between the model, its average and
  its best state, and are in no checkpoint. A checkpoint names the encoder by its digest in their place.
- The head begins at random and learns faster than the encoder, whose weights know much already.
- A protein encoder's tokens are not hidden: ESM-2 saw hidden residues as zeros and rescaled the others, which our
  forward pass, made for embeddings, does not do. Residues are exchanged as evolution does it instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from seqassay.engine.embed import Encoder
from seqassay.engine.tokens import NucleotideTokenizer
from seqassay.errors import ModelError, UsageError
from seqassay.models.dnabert import Dnabert
from seqassay.models.esm2 import Esm2
from seqassay.train.classifier import SideClassifier
from seqassay.train.dataset import LabelledRecords
from seqassay.train.encoder_checkpoint import copy_of_learnt, load_state
from seqassay.train.encoders import EncoderTrainer, Recipe, initialise_linear


@dataclass(frozen=True, kw_only=True)
class FineTuneRecipe(Recipe):
    """A `Recipe` whose encoder is trained already; what was chosen otherwise for that has defaults of its own.

    Attributes:
        encoder_digest: which encoder it begins with; a checkpoint of another one is refused.
        layers: how many of the last layers learn, with the final norm; 0: the head alone.
        head_learning_rate: the head's, at its top; ``learning_rate`` is the encoder's.
    """

    encoder_digest: str
    layers: int
    steps: int = 2000
    learning_rate: float = 5e-5
    head_learning_rate: float = 1e-3
    weight_decay: float = 0.01
    average_decay: float = 0.99  # of fewer steps than a training from random weights
    evaluate_every_steps: int = 200


# Token dropout and residue mutations by side; see the top of this file.
AUGMENTATION: dict[str, dict[str, Any]] = {
    "nucleotide": {"token_dropout": 0.1, "residue_mutation_rate": 0.0},
    "protein": {"token_dropout": 0.0, "residue_mutation_rate": 0.05},
}


class FineTuner(EncoderTrainer):
    """One fine-tuning in one folder; its files hold what is learnt, not the frozen layers."""

    recipe: FineTuneRecipe

    def __init__(
        self,
        recipe: FineTuneRecipe,
        encoder: Encoder,
        train_records: LabelledRecords,
        valid_records: LabelledRecords,
        folder: Path,
        *,
        mask_id: int | None = None,
        device: torch.device | None = None,
    ) -> None:
        """Prepare a run.

        Args:
            encoder: what the recipe's digest names; its weights become those of the training.
            mask_id: of the token that hidden ones become, in a nucleotide encoder's vocabulary.

        Raises:
            UsageError: more layers than the encoder has; as `EncoderTrainer`.
        """
        if encoder.digest != recipe.encoder_digest:
            raise ValueError(f"the recipe is for encoder {recipe.encoder_digest[:12]}, this is {encoder.digest[:12]}")
        self._published = cast("Dnabert | Esm2", encoder.model)
        tokenizer = encoder.tokenizer if isinstance(encoder.tokenizer, NucleotideTokenizer) else None
        super().__init__(recipe, train_records, valid_records, tokenizer, folder, device=device)
        self.mask_id = self.mask_id if mask_id is None else mask_id

    def _first_model(self, begin_with: SideClassifier | None) -> SideClassifier:
        leave_learning(self._published, self.recipe.layers)
        model = SideClassifier(self.recipe.encoder, encoder=self._published)
        initialise_linear(model.head)
        return model.train()

    def _optimizer(self) -> torch.optim.AdamW:
        recipe = self.recipe
        groups: list[dict[str, Any]] = []
        parts: tuple[tuple[nn.Module, float], ...] = (
            (self.model.encoder, recipe.learning_rate),
            (self.model.head, recipe.head_learning_rate),
        )
        for part, rate in parts:
            learning = [p for p in part.parameters() if p.requires_grad]
            matrices, vectors = [p for p in learning if p.ndim > 1], [p for p in learning if p.ndim < 2]
            groups.append({"params": matrices, "top_lr": rate, "weight_decay": recipe.weight_decay})
            groups.append({"params": vectors, "top_lr": rate, "weight_decay": 0.0})
        used = [group for group in groups if group["params"]]
        return torch.optim.AdamW(used, lr=recipe.learning_rate, betas=(0.9, 0.98), fused=True)

    def best(self) -> SideClassifier:
        """The state with the best validation figure so far, in ``eval`` mode; shares the frozen layers."""
        path = self.folder / "best.pt"
        if not path.exists():
            raise ModelError(f"{path}: no state was saved yet", hint="train for at least one evaluation")
        best = copy_of_learnt(self.model)
        self._load_learnt(best, load_state(path)["model"])
        return best.eval()


def leave_learning(encoder: Dnabert | Esm2, layers: int) -> None:
    """Freeze an encoder but for its last layers and, where one comes after them, the final norm; all of it for 0.

    Raises:
        UsageError: it has fewer layers.
    """
    n_layers = encoder.config.n_layers
    check_layers(layers, n_layers)
    encoder.requires_grad_(False)
    encoder.frozen_layers = n_layers - layers
    if layers:
        encoder.layers[n_layers - layers :].requires_grad_(True)
        if isinstance(encoder, Esm2):
            encoder.final_norm.requires_grad_(True)


def check_layers(layers: int, n_layers: int) -> None:
    """Refuse to train more layers than there are."""
    if layers > n_layers:
        raise UsageError(
            f"--layers is {layers}; the encoder has {n_layers}", hint=f"give 0 (the head alone) to {n_layers}"
        )
