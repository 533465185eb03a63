"""``metrics.csv`` of a training: appended to while it runs, cut back to the checkpoint when it goes on from there.

Lightning's own CSV logger begins a new file at every start and keeps all rows in memory.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqassay.durable import write_durably
from seqassay.errors import InputError

METRICS_FILE = "metrics.csv"
COLUMNS = (
    "step", "tokens", "learning_rate", "train_loss", "gradient_norm", "dev_loss", "dev_perplexity", "tokens_per_s",
)  # fmt: skip


class MetricsFile:
    """Rows of `COLUMNS`; an empty field was not measured at that step."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def cut_back(self, step: int) -> int:
        """Keep the rows up to a step: what came after the checkpoint is computed again.

        Returns:
            The step of the last row that there was; 0 without any.

        Raises:
            InputError: the file was changed to something else.
        """
        rows: list[dict[str, str]] = []
        last_step = 0
        if self.path.is_file():
            try:
                with self.path.open(encoding="utf-8", newline="") as file:
                    # A line that a power failure cut short is none.
                    whole = [row for row in csv.DictReader(file) if None not in row.values()]
                last_step = int(whole[-1]["step"]) if whole else 0
                rows = [{name: row[name] for name in COLUMNS} for row in whole if int(row["step"]) <= step]
            except (ValueError, KeyError, csv.Error) as error:
                raise InputError(
                    f"these are not the rows of a training ({error})",
                    path=self.path,
                    hint="remove it to go on without the rows before, or begin again with --force",
                ) from None
        write_durably(self.path, [_text([dict(zip(COLUMNS, COLUMNS, strict=True)), *rows])])
        return last_step

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row; it is durable after `sync`."""
        with self.path.open("ab") as file:
            file.write(_text([row]))

    def sync(self) -> None:
        """Make what was added durable."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())


def _text(rows: list[dict[str, str]] | list[Mapping[str, Any]]) -> bytes:
    text = io.StringIO()
    csv.DictWriter(text, COLUMNS, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
