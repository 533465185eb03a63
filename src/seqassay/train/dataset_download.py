"""One file over HTTP: goes on where it was cut, tries again, and never waits for ever."""

from __future__ import annotations

import http.client
import logging
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import seqassay
from seqassay.errors import ResourceError, SeqassayError

_PIECE_BYTES = 1 << 18
_MAX_TEXT_BYTES = 64 << 20  # of a listing; bacteria's has some thousand names
_LATER = (408, 425, 429)  # a client's fault by their number, but over in a while; so is every 5xx
_HINT = "is the address right? a mirror can be given with --base-url"
_AGAIN = "give the same command again: it goes on where it stopped"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for a server.

    Attributes:
        timeout_s: for a connection, and for every next piece of data.
        attempts: in a row without a single byte; a connection that breaks after some starts the count anew.
        pause_s: before the second attempt; doubled before each further one, up to ``max_pause_s``.
    """

    timeout_s: float = 60.0
    attempts: int = 6
    pause_s: float = 1.0
    max_pause_s: float = 30.0


@dataclass(slots=True)
class FetchProgress:
    """Where a download stands; any thread may read."""

    file: str = ""
    file_number: int = 0
    n_files: int = 0
    file_bytes: int = 0
    file_total_bytes: int | None = None
    fetched_bytes: int = 0  # by this run, over all files
    note: str = ""


class _CutError(Exception):
    """The connection ended before the file did."""


_NETWORK_ERRORS = (
    urllib.error.URLError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
    _CutError,
)


def download(url: str, part: Path, patience: Patience, progress: FetchProgress) -> int:
    """Append what is missing to ``part``; return its size. A server without Range sends all of it again.

    Raises:
        ResourceError: the disk is too small for the rest.
        SeqassayError: refused by the server, or too many attempts without a byte.
    """
    attempt = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            return _download_once(url, part, before, patience, progress)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416 and before:  # nothing beyond what is here, or another file
                if _total_of(error.headers.get("Content-Range", "")) == before:
                    return before
                part.unlink()
                continue
            if error.code < 500 and error.code not in _LATER:
                raise SeqassayError(f"{url}: the server says {error.code} {error.reason}", hint=_HINT) from error
            fault: Exception = error
        except _NETWORK_ERRORS as error:
            fault = error
        after = part.stat().st_size if part.exists() else 0
        attempt = 1 if after > before else attempt + 1
        _pause(url, fault, attempt, patience, progress)


def _download_once(url: str, part: Path, have: int, patience: Patience, progress: FetchProgress) -> int:
    request = urllib.request.Request(url, headers=_headers() | ({"Range": f"bytes={have}-"} if have else {}))
    with urllib.request.urlopen(request, timeout=patience.timeout_s) as answer:
        if answer.status == 206:
            first, total = _range_of(answer.headers.get("Content-Range", ""))
            if first != have:
                raise _CutError(f"asked for byte {have}, got byte {first}")
        else:
            have, total = 0, _length(answer.headers)
        progress.file_bytes, progress.file_total_bytes = have, total
        if total is not None:
            _check_room(part, total - have)
        with part.open("r+b" if part.exists() else "wb") as file:
            file.truncate(have)
            file.seek(have)
            try:
                while piece := answer.read1(_PIECE_BYTES):  # what has come is kept, whatever comes next
                    file.write(piece)
                    have += len(piece)
                    progress.file_bytes = have
                    progress.fetched_bytes += len(piece)
            finally:
                file.flush()
                os.fsync(file.fileno())
    if total is not None and have != total:
        raise _CutError(f"the connection ended after {have:,} of {total:,} bytes")
    return have


def read_text(url: str, patience: Patience, *, is_optional: bool = False) -> str | None:
    """A small text file; None if it is not there and need not be."""
    attempt = 0
    while True:
        try:
            request = urllib.request.Request(url, headers=_headers())
            with urllib.request.urlopen(request, timeout=patience.timeout_s) as answer:
                data = answer.read(_MAX_TEXT_BYTES)
                length = _length(answer.headers)
            if length is not None and len(data) < min(length, _MAX_TEXT_BYTES):
                raise _CutError(f"the connection ended after {len(data):,} of {length:,} bytes")
            return str(data.decode("utf-8", "replace"))
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in (404, 410) and is_optional:
                return None
            if error.code < 500 and error.code not in _LATER:
                raise SeqassayError(f"{url}: the server says {error.code} {error.reason}", hint=_HINT) from error
            fault: Exception = error
        except _NETWORK_ERRORS as error:
            fault = error
        attempt += 1
        _pause(url, fault, attempt, patience, None)


def _pause(url: str, fault: Exception, attempt: int, patience: Patience, progress: FetchProgress | None) -> None:
    """Wait before the next attempt, or give up."""
    reason = getattr(fault, "reason", None) or fault
    if attempt >= patience.attempts:
        raise SeqassayError(f"{url}: {reason} ({attempt} attempts)", hint=f"{_AGAIN}; {_HINT}") from fault
    seconds = min(patience.pause_s * 2 ** (attempt - 1), patience.max_pause_s)
    log.warning("%s: %s; again in %.0f s", url, reason, seconds)
    if progress is not None:
        progress.note = f"waiting for the server ({reason})"
    time.sleep(seconds)
    if progress is not None:
        progress.note = ""


def _check_room(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise ResourceError(
            f"{part.parent}: {needed / 1e9:.1f} GB are needed for {part.name}, {free / 1e9:.1f} GB are free",
            hint=f"make room, then {_AGAIN}",
        )


def _headers() -> dict[str, str]:
    # "identity": what is compressed on the way has no length that could be checked, and no Range
    return {"User-Agent": f"seqassay/{seqassay.__version__}", "Accept-Encoding": "identity"}


def _length(headers: Any) -> int | None:
    text = headers.get("Content-Length", "")
    return int(text) if text.isdigit() else None


def _range_of(text: str) -> tuple[int | None, int | None]:
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", text)
    if not found:
        return None, None
    return int(found[1]), int(found[2]) if found[2] != "*" else None


def _total_of(text: str) -> int | None:
    found = re.fullmatch(r"bytes \*/(\d+)", text)
    return int(found[1]) if found else None
