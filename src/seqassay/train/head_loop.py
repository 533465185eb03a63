"""The training loop of a head, on Lightning.

Exact resume rests on three things. The batches of an epoch, the dropout of a step and the learning rate are functions
of (seed, epoch, step), so no random state has to be kept. One checkpoint holds model, optimizer, progress, the best
weights so far and the metrics of every epoch, so they can't come apart. And it is written whole or not at all.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from seqassay.errors import SeqassayError
from seqassay.models.head import ClassifierHead
from seqassay.train.feature_files import FeatureSet
from seqassay.train.head import CHECKPOINT_FILE
from seqassay.train.head_batches import EpochBatches, InOrder, class_weights, mean_and_deviation
from seqassay.train.head_checkpoint import BestAndCheckpoint, DurableCheckpointIO
from seqassay.train.head_module import HeadModule, ScaledHead, folded
from seqassay.train.head_recipes import HeadRecipe


def run_loop(
    recipe: HeadRecipe,
    train: FeatureSet,
    valid: FeatureSet,
    folder: Path,
    *,
    start: ClassifierHead | None,
    device: torch.device,
    checkpoint_every: int,
) -> tuple[ClassifierHead, BestAndCheckpoint]:
    """Train from the folder's checkpoint where there is one; the best head, restored, and what was kept of the run.

    Args:
        recipe: how.
        train, valid: features of the same models, of other records.
        folder: takes checkpoint and metrics.
        start: weights to begin with; random ones of the recipe's seed when None.
        device: CPU or one CUDA device.
        checkpoint_every: optimizer steps between two checkpoints within an epoch.
    """
    torch.manual_seed(recipe.seed)  # for the first weights
    head = ClassifierHead(train.merged_dim) if start is None else start.train()
    if recipe.standardise and start is None:
        mean_D, deviation_D = mean_and_deviation(train)
    else:
        mean_D, deviation_D = torch.zeros(train.merged_dim), torch.ones(train.merged_dim)
    weights_C = class_weights(train.labels_F) if recipe.class_weights else None
    module = HeadModule(ScaledHead(head, mean_D, deviation_D), recipe, weights_C)
    batches = EpochBatches(train, recipe)
    keeper = BestAndCheckpoint(folder, recipe, batches, checkpoint_every)
    with quiet_lightning():
        trainer = pl.Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=[device.index or 0] if device.type == "cuda" else 1,
            max_epochs=recipe.max_epochs,
            deterministic=True,
            logger=tensorboard(folder),
            callbacks=[keeper],
            plugins=[DurableCheckpointIO()],
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        checkpoint = folder / CHECKPOINT_FILE
        trainer.fit(
            module,
            train_dataloaders=batches,
            val_dataloaders=InOrder(valid),
            ckpt_path=checkpoint if checkpoint.is_file() else None,
        )
    if not keeper.best_state:
        raise SeqassayError("training ended before its first epoch")
    return folded(keeper.best_state), keeper


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Lightning without its notices and advertisements, and torch's determinism as it was afterwards."""
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")
            yield
    finally:
        torch.use_deterministic_algorithms(was_deterministic)


def tensorboard(folder: Path) -> Any:
    """Lightning's TensorBoard logger where that package is installed; the metrics' CSV is there in any case."""
    if util.find_spec("tensorboard") is None and util.find_spec("tensorboardX") is None:
        return False
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(folder, name="tensorboard", version="")
