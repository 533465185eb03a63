"""What `seqassay lm harness` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from seqassay.config import check_at_least
from seqassay.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class LmHarnessSettings:
    """Everything ``seqassay lm harness`` can be told; the names are those of the command's options.

    Raises:
        UsageError: a value out of its range, or options that exclude each other.
    """

    checkpoint: Path
    tasks: tuple[str, ...]  # of the harness, of --include, or smallbench, smallbench_qa and so on
    output_dir: Path
    include: tuple[Path, ...] = ()  # folders with tasks' files in the harness's format
    probes: tuple[str, ...] = ()  # files of the four tasks of SmallBench, or folders of them
    shots: int | None = None  # answered examples before every prompt; None: as each task says
    shots_from: Path | None = None  # training rows of SmallBench; None: train/ beside each task's file
    limit: int | None = None  # the first rows of every task; None: all
    context: int | None = None  # None: the model's
    seed: int = 1234  # draws the shots; the harness's own default
    batch: int = 16_384  # token budget of a batch
    device: str = "auto"
    threads: int | None = None
    force: bool = False
    resume: bool = False

    def __post_init__(self) -> None:
        if not self.tasks:
            raise UsageError("no task is named", hint="name some: --tasks smallbench, or --tasks arc_easy,piqa")
        repeated = {name for name in self.tasks if self.tasks.count(name) > 1}
        if repeated:
            raise UsageError(f"--tasks names {', '.join(sorted(repeated))} twice")
        check_at_least(self, shots=0, limit=1, context=1, seed=0, batch=1, threads=1)
        if self.force and self.resume:
            raise UsageError("--force and --resume exclude each other")
        if self.shots_from is not None and not self.probes:
            raise UsageError("--shots-from is about --probes, and there are none")
