"""How long a sweep took over all its starts; one that was killed counts as far as it had noted."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from seqassay.errors import InputError
from seqassay.measure.provenance import utc_now
from seqassay.train.output_folder import read_json, write_json

STARTS_FILE = "starts.json"
MARK_EVERY_S = 10.0


class Starts:
    """Notes this start in the sweep's folder, every few seconds and at its end.

    Args:
        folder: the sweep's, which nobody else writes in.
        began_s: of this start, by the monotonic clock.
    """

    def __init__(self, folder: Path, began_s: float) -> None:
        self._path, self._began_s = folder / STARTS_FILE, began_s
        self._earlier, self._misses_earlier = _read(folder)
        self._this: dict[str, Any] = {"began_at": utc_now(), "wall_s": 0.0, "noted_its_end": False}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="starts", daemon=True)

    def __enter__(self) -> Starts:
        self._write()
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        self._this["noted_its_end"] = True
        with contextlib.suppress(OSError):  # a full disk, which the sweep is ending for: the last mark counts
            self._write()

    def said(self) -> dict[str, Any]:
        """``wall_s`` of all starts up to now, and what is not in it."""
        cut = sum(not start["noted_its_end"] for start in self._earlier)
        wall_s = sum(start["wall_s"] for start in self._earlier) + time.monotonic() - self._began_s
        starts = {
            "n": len(self._earlier) + 1,
            "without_end": cut,
            "mark_every_s": MARK_EVERY_S,
            "misses_earlier": self._misses_earlier,
        }
        return {"wall_s": round(wall_s, 3), "starts": starts}

    def _run(self) -> None:
        while not self._ended.wait(MARK_EVERY_S):
            with contextlib.suppress(OSError):
                self._write()

    def _write(self) -> None:
        self._this["wall_s"] = round(time.monotonic() - self._began_s, 3)
        said = {"misses_earlier": self._misses_earlier, "starts": [*self._earlier, self._this]}
        write_json(self._path, said)


def _read(folder: Path) -> tuple[list[dict[str, Any]], bool]:
    """Earlier starts, and whether there were any that noted nothing."""
    path = folder / STARTS_FILE
    if not path.is_file():
        return [], any((folder / stage).exists() for stage in ("ranking", "final"))
    try:
        said = read_json(path)
        starts = [
            {
                "began_at": str(one["began_at"]),
                "wall_s": float(one["wall_s"]),
                "noted_its_end": one["noted_its_end"] is True,
            }
            for one in said["starts"]
        ]
        return starts, said["misses_earlier"] is not False
    except (InputError, KeyError, TypeError, ValueError):  # changed by somebody: what it said is not known
        return [], True
