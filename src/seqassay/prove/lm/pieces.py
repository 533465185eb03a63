"""Parts of an evaluation that are finished, each kept at once, so that a stop loses the part in work alone."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from seqassay.durable import TEMPORARY_SUFFIX, disk_errors, write_durably
from seqassay.predict.shards import check_identity

FOLDER = "finished_parts"
_MANIFEST = "manifest.json"
AGAIN = "the same command and --resume (in place of --force)"


class Pieces:
    """Finished parts in the output folder, while the evaluation lasts.

    Attributes:
        run_id: of the evaluation, the same after a stop.
        resumed: names of the parts that were taken over.
    """

    def __init__(self, output_dir: Path, identity: Mapping[str, Any], run_id: str, *, resume: bool) -> None:
        """Begin, or go on.

        Raises:
            UsageError: parts of another model, text or setting are there, with ``resume``.
            ResourceError: the disk is full.
        """
        self._folder = output_dir / FOLDER
        self._identity: dict[str, Any] = json.loads(json.dumps(identity))
        self.run_id, self.resumed = run_id, list[str]()
        found = _read(self._folder / _MANIFEST) if resume else None
        with disk_errors():
            if found is not None:
                check_identity(found["identity"], self._identity, output_dir)
                self.run_id = str(found["run_id"])
                return
            self.remove()
            self._folder.mkdir(parents=True, exist_ok=True)
            content = {"run_id": run_id, "identity": self._identity}
            write_durably(self._folder / _MANIFEST, [json.dumps(content, indent=1).encode()])

    def get(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """A part, made now or taken over.

        Raises:
            ResourceError: the disk is full.
        """
        path = self._path(name)
        found = _read(path)
        if found is not None and found["name"] == name:
            self.resumed.append(name)
            content: dict[str, Any] = found["content"]
            return content
        content = make()
        with disk_errors(AGAIN):
            write_durably(path, [_signed({"name": name, "content": content})])
        return content

    def remove(self) -> None:
        """Remove the parts, and nothing that isn't ours."""
        (self._folder / _MANIFEST).unlink(missing_ok=True)  # first: parts without it are never trusted
        for pattern in ("*.json", f"*{TEMPORARY_SUFFIX}"):
            for path in self._folder.glob(pattern):
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._folder.rmdir()

    def _path(self, name: str) -> Path:
        return self._folder / f"{name.replace(' ', '_')}.json"


def has_pieces(output_dir: Path) -> bool:
    """Whether an evaluation was interrupted there."""
    return (output_dir / FOLDER / _MANIFEST).is_file()


def _signed(content: Mapping[str, Any]) -> bytes:
    text = json.dumps(content, allow_nan=False)
    return json.dumps({"sha256": hashlib.sha256(text.encode()).hexdigest(), "text": text}).encode()


def _read(path: Path) -> dict[str, Any] | None:
    """What a file says; None where there is none, or a damaged one."""
    try:
        said = json.loads(path.read_bytes())
        if "text" in said:
            if hashlib.sha256(said["text"].encode()).hexdigest() != said["sha256"]:
                return None
            said = json.loads(said["text"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return said if isinstance(said, dict) else None
