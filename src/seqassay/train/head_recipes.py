"""How a head is trained: two named recipes, and what may be changed in them.

``reference`` is VirNucPro's (Li et al. 2025, bbaf224; its train.py): plain cross-entropy over frames, SGD, a step
schedule, early stopping on the validation loss as it computes it (the mean of the means of batches of 32, in file
order). What it did wrong is not repeated: the best weights are restored and not the last (it kept them by reference),
and the sets are split by whoever built the dataset, not frame by frame.

``default`` differs where that helps: AdamW with a warm-up and a cosine schedule, batches of 256, each class with half
of the loss whatever its share of the frames, inputs standardised (the scales of two encoders' embeddings differ by
an order of magnitude, and some of their dimensions by two; the scaling is folded into the head's first layer at the
end, so that a head is a head).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from seqassay.config import check_at_least
from seqassay.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class HeadRecipe:
    """Everything that decides a head's weights, besides its data and the machine's arithmetic.

    Raises:
        UsageError: a value out of its range.
    """

    name: str
    optimizer: Literal["adamw", "sgd"]
    learning_rate: float
    momentum: float = 0.0  # of SGD
    weight_decay: float = 0.0  # of AdamW
    schedule: Literal["step", "cosine"]
    step_epochs: int = 10  # step: epochs between two cuts of the rate
    step_factor: float = 0.85  # step: what the rate is multiplied with then
    warmup_steps: int = 0  # cosine: optimizer steps until the full rate, at most those of the first epoch
    batch_size: int  # frames
    class_weights: bool  # each class half of the loss
    standardise: bool  # inputs to mean 0 and deviation 1 over the training frames
    max_epochs: int
    patience: int  # epochs without a lower validation loss before training ends
    mean_of_batches: bool = False  # the validation loss is the mean of its batches' means, as in the reference
    seed: int = 42

    def __post_init__(self) -> None:
        check_at_least(self, batch_size=2, max_epochs=1, patience=1, seed=0)
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise UsageError(f"--learning-rate is {self.learning_rate}; it has to be above 0")

    def learning_rate_at(self, epoch: int, step: int, steps_in_epoch: int) -> float:
        """The rate of one optimizer step; a function of epoch and step (both from 0) alone: resuming needs no state."""
        if self.schedule == "step":
            rate = self.learning_rate
            for _ in range(epoch // self.step_epochs):  # one by one: the very numbers of torch's StepLR
                rate *= self.step_factor
            return rate
        done = step / (self.max_epochs * steps_in_epoch)
        warm = min(1.0, (step + 1) / max(1, min(self.warmup_steps, steps_in_epoch)))
        return self.learning_rate * warm * (1 + math.cos(math.pi * min(1.0, done))) / 2

    def changes(self) -> dict[str, Any]:
        """What differs from the recipe of this name, and is now so."""
        as_named = asdict(RECIPES[self.name])
        return {key: value for key, value in asdict(self).items() if value != as_named[key]}


RECIPES = {
    "default": HeadRecipe(
        name="default",
        optimizer="adamw",
        learning_rate=1e-3,
        weight_decay=0.01,
        schedule="cosine",
        warmup_steps=100,
        batch_size=256,
        class_weights=True,
        standardise=True,
        max_epochs=30,
        patience=8,
    ),
    "reference": HeadRecipe(
        name="reference",
        optimizer="sgd",
        learning_rate=2e-4,
        momentum=0.9,
        schedule="step",
        step_epochs=10,
        step_factor=0.85,
        batch_size=32,
        class_weights=False,
        standardise=False,
        max_epochs=200,
        patience=5,
        mean_of_batches=True,
    ),
}


def recipe_named(name: str, **changed: Any) -> HeadRecipe:
    """A recipe by its name, with some of its values replaced (None leaves one as it is).

    Raises:
        UsageError: an unknown name, or a value out of its range.
    """
    if name not in RECIPES:
        raise UsageError(f"--recipe is {name!r}; known are: {', '.join(RECIPES)}")
    known = {field.name for field in fields(HeadRecipe)}
    given = {key: value for key, value in changed.items() if value is not None}
    assert given.keys() <= known, f"no such setting of a recipe: {given.keys() - known}"
    return replace(RECIPES[name], **given)
