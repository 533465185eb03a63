"""What `seqassay lm evaluate` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seqassay.config import check_at_least
from seqassay.errors import UsageError

Windows = Literal["documents", "stream"]


@dataclass(frozen=True, kw_only=True)
class LmEvaluateSettings:
    """Everything ``seqassay lm evaluate`` can be told; the names are those of the command's options.

    Raises:
        UsageError: a value out of its range.
    """

    checkpoint: Path
    inputs: tuple[str, ...] = ()  # a folder of token files, or texts: FILE, SPLIT=PLACE, a folder of splits
    output_dir: Path
    splits: tuple[str, ...] = ()  # none: all but train (train alone where there is no other)
    documents: str = "file"  # where a document ends in texts; token files have their own
    windows: Windows = "documents"  # what is scored on its own: every document, or the whole split as one stream
    prefix: bool = True  # the tokenizer's token for it goes before every document
    context: int | None = None  # tokens of a window, the prefix included; None: the model's
    stride: int | None = None  # None: the context
    top_k: tuple[int, ...] = (1, 5)
    max_batches: int | None = None  # of every split; None: all
    batch: int = 16_384  # token budget of a batch
    probes: tuple[str, ...] = ()  # files of the four tasks, or folders of them; none: no SmallBench
    shots: int = 0  # answered rows of the training set before every prompt
    shots_from: Path | None = None  # folder of the training sets; None: train/ beside each task's file
    shots_seed: int = 0
    max_samples: int | None = None  # the first rows of every task; None: all
    device: str = "auto"
    threads: int | None = None
    force: bool = False
    resume: bool = False  # go on with the probe items that a stopped run has scored

    def __post_init__(self) -> None:
        if not self.inputs and not self.probes:
            raise UsageError("nothing to evaluate on", hint="name a folder of token files, text, or --probes")
        check_at_least(self, context=1, stride=1, max_batches=1, batch=1, threads=1)
        check_at_least(self, shots=0, shots_seed=0, max_samples=1)
        if not self.probes and (self.shots or self.max_samples or self.resume or self.shots_from):
            raise UsageError("--shots, --shots-from, --max-samples and --resume are about --probes, and there are none")
        if self.force and self.resume:
            raise UsageError("--force and --resume exclude each other")
        if any(k < 1 for k in self.top_k) or len(set(self.top_k)) != len(self.top_k):
            raise UsageError(f"--top-k is {', '.join(map(str, self.top_k))}; it is different numbers from 1 on")
