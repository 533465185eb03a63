"""SHA-256 of files."""

from __future__ import annotations

import hashlib
from pathlib import Path

_PIECE_BYTES = 1 << 22


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, which need not fit in memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()
