"""The command in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from seqassay.cli.main import main


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """Call ``seqassay`` in this process, in an empty folder; returns the exit code."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["seqassay", *words])
        try:
            main()
        except SystemExit as exit_:
            return int(exit_.code or 0)
        return 0

    return call
