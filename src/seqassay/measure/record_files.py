"""Files that hold records: the one of a folder, read whole as JSON."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any, NoReturn

from seqassay.errors import InputError

FILE_NAMES = ("metrics.json", "run.json", "training.json", "sweep.json")


def read_record_file(path: Path) -> tuple[Path, Any, str]:
    """A record's file (a folder's only one), the JSON in it, and the SHA-256 of its bytes.

    Raises:
        InputError: no such file, several in one folder, or no whole JSON.
    """
    if path.is_dir():
        held = [path / name for name in FILE_NAMES if (path / name).is_file()]
        if len(held) != 1:
            found = " and ".join(place.name for place in held) or f"none of {', '.join(FILE_NAMES)}"
            raise InputError(f"holds {found}: name the record itself", path=path)
        path = held[0]
    try:
        data = path.read_bytes()
        content = json.loads(data, parse_constant=_refuse, parse_int=_whole, parse_float=_finite)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path=path) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"is no whole record: {error}", path=path, hint="write it again, or name another") from error
    return path, content, hashlib.sha256(data).hexdigest()


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _whole(text: str) -> int:
    _finite(text)
    return int(text)


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text[:40]} is too large a number")
    return value
