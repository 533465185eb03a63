"""What `seqassay gate` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from seqassay.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class GateSettings:
    """Everything ``seqassay gate`` can be told; the names are those of the command's options.

    Raises:
        UsageError: no record, or ``force`` without a folder.
    """

    records: tuple[str, ...]  # metrics.json of `evaluate` and `compare`, run.json of `predict`, or their folders
    gates: Path
    only: tuple[str, ...] = ()  # gates of the file by name; empty: all
    output_dir: Path | None = None  # None: no record is written
    force: bool = False

    def __post_init__(self) -> None:
        if not self.records:
            raise UsageError("no record", hint="name metrics.json or run.json, or the folder that holds it")
        if self.force and self.output_dir is None:
            raise UsageError("--force is about the output folder, and none is given", hint="give --output-dir")
