"""Trackers besides metrics.csv: Lightning's loggers of TensorBoard, Weights & Biases and MLflow, each an extra."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqassay.errors import require_package
from seqassay.train.lm_settings import LoggerName

TRACKING_EXTRA = "tracking"


def require_loggers(names: Sequence[LoggerName]) -> None:
    """Say how to install what the chosen loggers need.

    Raises:
        MissingExtraError: with the command.
    """
    for name in names:
        require_package(name, extra=TRACKING_EXTRA, purpose=f"--logger {name}")


def make_loggers(names: Sequence[LoggerName], folder: Path) -> list[Any]:
    """Loggers that write below the training's folder: MLflow into an SQLite file, W&B where its environment says."""
    require_loggers(names)
    made: list[Any] = []
    for name in names:
        if name == "tensorboard":
            from lightning.pytorch.loggers import TensorBoardLogger

            made.append(TensorBoardLogger(folder, name="tensorboard", version=""))
        elif name == "wandb":
            from lightning.pytorch.loggers import WandbLogger

            made.append(WandbLogger(name=folder.name, save_dir=folder, project="seqassay"))
        else:
            from lightning.pytorch.loggers import MLFlowLogger

            uri = f"sqlite:///{folder.absolute() / 'mlflow.db'}"
            artifacts = str(folder.absolute() / "mlruns")  # by default they go to where the command was typed
            made.append(
                MLFlowLogger(
                    experiment_name="seqassay", run_name=folder.name, tracking_uri=uri, artifact_location=artifacts
                )
            )
    return made
