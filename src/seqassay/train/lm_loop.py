"""The training loop of a language model, on Lightning: one device, or several with DDP.

Exact resume on the CPU rests on three things. Windows, dropout and learning rate of a step are functions of (seed,
step), so no random state is kept. One checkpoint holds model, optimizer and progress, so they can't come apart. And it
is written whole or not at all. On CUDA some kernels add in varying order: there a resumed run is the same up to that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import lightning.pytorch as pl

from seqassay.models.causal_lm import CausalLm
from seqassay.train.head_checkpoint import DurableCheckpointIO
from seqassay.train.head_loop import quiet_lightning
from seqassay.train.lm_callback import CHECKPOINT_FILE, LmCallback, Progress
from seqassay.train.lm_kill import KillRule
from seqassay.train.lm_loggers import Trackers
from seqassay.train.lm_module import LmModule, StepBatches
from seqassay.train.lm_settings import LmTrainSettings, number_of_steps
from seqassay.train.lm_start import Start


def run_lm_loop(
    settings: LmTrainSettings,
    start: Start,
    rule: KillRule | None,
    folder: Path,
    trackers: Trackers,
    *,
    save_best: Callable[[CausalLm, Progress], None],
    callbacks: Sequence[pl.Callback] = (),
) -> Progress:
    """Train from the folder's checkpoint where there is one; where the training stands at its end.

    Raises:
        DivergedError: a loss is not finite.
        StopRequested: SIGTERM or Ctrl-C, after a checkpoint.
    """
    n_steps = number_of_steps(settings, start.model.config.context)
    module = LmModule(start.model, settings)
    batches = StepBatches(start.windows, n_steps * settings.accumulate)
    keeper = LmCallback(folder, module, start.dev, batches, rule, trackers, save_best)
    on_cuda = start.device.type == "cuda"
    single = [start.device.index or 0] if on_cuda else 1
    with quiet_lightning():
        trainer = pl.Trainer(
            accelerator="gpu" if on_cuda else "cpu",
            devices=single if settings.devices == 1 else settings.devices,
            strategy="auto" if settings.devices == 1 else "ddp",
            precision="bf16-mixed" if start.precision == "bf16" else "32-true",
            max_steps=n_steps,
            min_epochs=0,
            max_epochs=1,
            accumulate_grad_batches=settings.accumulate,
            logger=False,
            callbacks=[keeper, *callbacks],
            plugins=[DurableCheckpointIO()],
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        batches.rank, batches.n_ranks = trainer.global_rank, trainer.world_size
        checkpoint = folder / CHECKPOINT_FILE
        trainer.fit(module, train_dataloaders=batches, ckpt_path=checkpoint if checkpoint.is_file() else None)
    return keeper.progress
