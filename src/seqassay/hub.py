"""One file of the Hugging Face Hub under a partial name, which keeps its bytes whatever happens; and what ends that.

Partial files are kept here by ourselves, because since its version 2 the Hub client throws them away.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from huggingface_hub import hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # documented, listed at run time

from seqassay.errors import SeqassayError

# The Hub client's errors derive from those of httpx or of requests, by its version; both are to be caught.
NETWORK_ERRORS: tuple[type[Exception], ...] = (OSError, *(base for base in HfHubHTTPError.__bases__))

log = logging.getLogger(__name__)


def download_error(repo_id: str, error: BaseException, *, without_network: str) -> SeqassayError:
    """What ended a download, and the ways to go on.

    Args:
        without_network: how the files are put there by hand.
    """
    lines = str(error).strip().splitlines()
    reason = "offline mode is on (HF_HUB_OFFLINE)" if isinstance(error, OfflineModeIsEnabled) else (lines or [""])[0]
    return SeqassayError(
        f"{repo_id} could not be downloaded: {reason or type(error).__name__}",
        hint="give the command again to go on where it stopped, or set HF_ENDPOINT to a mirror;\n"
        f"without network: {without_network}",
    )


def download_part(
    repo_id: str, commit: str, name: str, part: Path, *, size_bytes: int, repo_type: str | None = None
) -> None:
    """Make ``part`` the whole file; only what is missing of it is asked for. ``HF_ENDPOINT`` names a mirror.

    Args:
        repo_id, commit, name: of the file.
        part: where it is to lie; what is there is taken for its beginning.
        size_bytes: of the file; 0 where a mirror does not tell.
        repo_type: None for a model, ``dataset``.

    Raises:
        Exception: of ``NETWORK_ERRORS``; a full disk is among them.
    """
    have = part.stat().st_size if part.exists() else 0
    if have > size_bytes:  # not this file; or a mirror that does not tell sizes (0)
        part.unlink()
        have = 0
    if have == size_bytes and size_bytes:
        return
    log.info("%s: %s, %d of %d bytes are here", repo_id, name, have, size_bytes)
    with part.open("ab") as file:
        http_get(
            hf_hub_url(repo_id, name, revision=commit, repo_type=repo_type, endpoint=os.environ.get("HF_ENDPOINT")),
            file,
            resume_size=have,
            headers=build_hf_headers(library_name="seqassay"),
            expected_size=size_bytes or None,
            displayed_filename=name,
        )
        file.flush()
        os.fsync(file.fileno())
