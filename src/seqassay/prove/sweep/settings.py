"""What `seqassay lm sweep` can be told beside its file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seqassay.config import check_at_least
from seqassay.train.lm_settings import LoggerName

Engine = Literal["local", "ray"]


@dataclass(frozen=True, kw_only=True)
class SweepSettings:
    """Everything ``seqassay lm sweep`` can be told; the names are those of the command's options.

    None of it changes a figure but those of time, on the same kind of device with the same number of threads.

    Raises:
        UsageError: a value out of its range.
    """

    config: Path  # the YAML file
    output_dir: Path
    tokens: Path | None = None  # None: those that the file names
    engine: Engine = "local"
    jobs: int | None = None  # trainings at a time; None: one for every CUDA device, else one
    threads: int | None = None  # CPU threads of each training; None: the cores divided by the jobs
    device: str = "auto"
    ray_address: str | None = None  # of a cluster that runs; None: one on this machine, while the sweep lasts
    loggers: tuple[LoggerName, ...] | None = None  # None: mlflow, where it is installed
    force: bool = False

    def __post_init__(self) -> None:
        check_at_least(self, jobs=1, threads=1)
