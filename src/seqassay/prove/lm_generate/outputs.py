"""The outputs of a generation: a file that grows with every few batches, and what is written beside it at the end."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from seqassay.durable import TEMPORARY_SUFFIX
from seqassay.errors import ResourceError, SeqassayError, StoppedError
from seqassay.predict.stop import StopRequested
from seqassay.prove.kept_lines import GrowingFile
from seqassay.prove.lm_generate.settings import LmGenerateSettings
from seqassay.prove.outputs import only_outputs, write_report_and_record
from seqassay.report.lm_generation import lm_generation_report, plain_text

CONTINUATIONS, TEXT, REPORT = "continuations.jsonl", "continuations.txt", "lm_generation.md"


class Outputs:
    """The folder of a generation while it lasts.

    Attributes:
        n_kept: continuations that are in the growing file, ``continuations.jsonl.partial``.
    """

    def __init__(self, folder: Path, file: GrowingFile) -> None:
        self._folder, self._file = folder, file
        self.n_kept = 0

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep continuations, durably.

        Raises:
            ResourceError: the disk is full.
        """
        self._file.add("".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))
        self.n_kept += len(rows)

    def finish(self, record: Mapping[str, Any], first_rows: Sequence[Mapping[str, Any]]) -> None:
        """Write texts, report and record, and give the grown file its name; or nothing of it.

        Raises:
            ResourceError: the disk is full.
        """
        report = lm_generation_report(record, first_rows)
        more = {TEXT: self._texts(record)}
        write_report_and_record(self._folder, REPORT, report, record, more, staged=[CONTINUATIONS])

    def _texts(self, record: Mapping[str, Any]) -> Iterator[bytes]:
        is_only, samples = record["continuations"]["n"] == 1, record["method"]["samples"]
        with self._file.path.open(encoding="utf-8") as lines:
            for line in lines:
                text = plain_text(json.loads(line), is_only=is_only, samples=samples)
                yield text.encode("utf-8", "backslashreplace")


@contextlib.contextmanager
def outputs_of(settings: LmGenerateSettings, folder: Path) -> Iterator[Outputs]:
    """Make the folder and keep others out of it; a stop or a full disk leaves the continuations so far.

    Raises:
        UsageError: something is in the folder's way, or another command is writing there.
        StoppedError: SIGTERM or Ctrl-C.
    """
    is_new = not folder.exists()
    with only_outputs(folder, force=settings.force, what="generation"):
        path = folder / f"{CONTINUATIONS}{TEMPORARY_SUFFIX}"
        with GrowingFile(path) as file:
            outputs = Outputs(folder, file)
            try:
                yield outputs
            except (StopRequested, ResourceError) as error:
                if not outputs.n_kept:
                    _remove(path, folder, is_new=is_new)
                    raise
                kept = f"{outputs.n_kept:,} continuations are in {path}, which the next generation there replaces"
                if isinstance(error, ResourceError):
                    raise ResourceError(error.message, hint=f"{error.hint}; {kept}" if error.hint else kept) from error
                raise StoppedError(f"stopped by {error}; {kept}", hint="run it again") from None
            except SeqassayError:  # a figure would be wrong
                _remove(path, folder, is_new=is_new)
                raise


def _remove(path: Path, folder: Path, *, is_new: bool) -> None:
    path.unlink(missing_ok=True)
    if is_new:
        with contextlib.suppress(OSError):
            folder.rmdir()
