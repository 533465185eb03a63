"""What an evaluation has scored so far, so that one that was stopped goes on: a durable file for every piece.

The folder ``scored`` lies in the output folder while the evaluation lasts. A piece is whole or absent, and its digest
says of which scores it is; ``scored.json`` says of which models, test set and settings.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import shlex
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seqassay.durable import TEMPORARY_SUFFIX, sync, write_durably
from seqassay.errors import UsageError
from seqassay.predict.shards import check_identity
from seqassay.prove.settings import EvaluateSettings

FOLDER, MANIFEST = "scored", "scored.json"
_PIECES = ("candidate-*.npz", "baseline-*.npz")

logger = logging.getLogger(__name__)


class ScoredParts:
    """The pieces of one model's scores.

    Args:
        folder: of the evaluation's pieces.
        role: candidate or baseline.
    """

    def __init__(self, folder: Path, role: str) -> None:
        self._folder, self._role = folder, role

    def get(self, index: int, n: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8]] | None:
        """Score and status of the ``n`` sequences of a piece; None where it is still to be scored, or damaged."""
        try:
            data = self._path(index).read_bytes()
            said, content = data[:64], data[64:]
            if hashlib.sha256(content).hexdigest().encode() != said:
                raise ValueError("another digest")
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                score, status = arrays["score"], arrays["status"]
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            logger.warning("%s is damaged (%s): it is scored again", self._path(index), error)
            return None
        if len(score) != n or len(status) != n:
            return None
        return score, status

    def put(self, index: int, score: npt.NDArray[np.float64], status: npt.NDArray[np.uint8]) -> None:
        """Make a piece durable.

        Raises:
            OSError: on a full disk; nothing is left under the piece's name then.
        """
        buffer = io.BytesIO()
        np.savez(buffer, score=score, status=status)
        content = buffer.getvalue()
        write_durably(self._path(index), [hashlib.sha256(content).hexdigest().encode(), content])

    def _path(self, index: int) -> Path:
        return self._folder / f"{self._role}-{index:06d}.npz"


def begin_parts(output_dir: Path, identity: Mapping[str, Any], *, resume: bool) -> Path:
    """The folder of pieces, with those of an earlier attempt only where they are to be gone on with.

    Raises:
        UsageError: pieces of other models, another test set or other settings.
    """
    folder = output_dir / FOLDER
    found = _manifest(folder)
    if resume and found is not None:
        check_identity(found, identity, folder)
        return folder
    _remove_pieces(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_durably(folder / MANIFEST, [json.dumps(identity, indent=1).encode()])
    sync(output_dir)
    return folder


def has_parts(output_dir: Path) -> bool:
    """Whether an evaluation was interrupted there."""
    return (output_dir / FOLDER / MANIFEST).is_file()


def n_parts(output_dir: Path) -> int:
    """How many pieces there are to go on with."""
    return sum(1 for pattern in _PIECES for _ in (output_dir / FOLDER).glob(pattern)) if has_parts(output_dir) else 0


def remove_parts(output_dir: Path) -> None:
    """Remove the pieces, and nothing that isn't ours; the output folder too where nothing else is in it."""
    _remove_pieces(output_dir / FOLDER)
    for path in (output_dir / FOLDER, output_dir):
        with contextlib.suppress(OSError):
            path.rmdir()


def finished_before(
    output_dir: Path, record_name: str, identity: Mapping[str, Any], settings: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The record of the finished evaluation in a folder; None where there is none.

    Raises:
        UsageError: it is of another model or test set, or was made with other settings.
    """
    try:
        record = json.loads((output_dir / record_name).read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or not {"settings", "identity", "gate"} <= record.keys():
        return None
    ignored = ("resume", "force", "threads")
    found, wanted = (
        {key: value for key, value in {**said, **of}.items() if key not in ignored}
        for said, of in ((record["settings"], record["identity"]), (settings, json.loads(json.dumps(identity))))
    )
    check_identity(found, wanted, output_dir)
    return record


def resume_command(settings: EvaluateSettings) -> str:
    """The command line that goes on with an evaluation, for the shell, on one line."""
    words = ["seqassay", "evaluate", settings.bundle, "--test", str(settings.test), "-o", str(settings.output_dir)]
    for option, value, default in (
        ("--baseline", settings.baseline, None),
        ("--baseline-metrics", settings.baseline_metrics, None),
        ("--baseline-predictions", settings.baseline_predictions, None),
        ("--threshold", settings.threshold, EvaluateSettings.threshold),
        ("--unit", settings.unit, EvaluateSettings.unit),
        ("--device", settings.device, EvaluateSettings.device),
        ("--threads", settings.threads, None),
    ):
        if value != default:
            words += [option, str(value)]
    return shlex.join([*words, "--resume"])


def _remove_pieces(folder: Path) -> None:
    (folder / MANIFEST).unlink(missing_ok=True)  # first: pieces without it are never trusted
    for pattern in (*_PIECES, f"*{TEMPORARY_SUFFIX}"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def _manifest(folder: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict):
        raise UsageError(f"{folder / MANIFEST}: is no manifest", hint="begin again with --force")
    return found
