"""The command in this process."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from support import exit_code


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """Call ``seqassay`` in this process, in an empty folder; returns the exit code."""
    monkeypatch.chdir(tmp_path)
    return partial(exit_code, monkeypatch)
