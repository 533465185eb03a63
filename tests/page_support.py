"""Pages of the documentation whose commands the tests execute."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


@dataclass(frozen=True)
class Command:
    """A line of a page: its words, and the exit code that the page says."""

    words: list[str]
    code: int = 0


def blocks(page: str, language: str) -> list[str]:
    """The page's code blocks of a language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


def commands(page: str) -> list[Command]:
    """Every command of the page's bash blocks; ``# exit code N`` behind one is what it has to end with."""
    found = []
    for line in "".join(blocks(page, "bash")).replace("\\\n", " ").splitlines():
        said = re.search(r"# exit code (\d)$", line)
        found.append(Command(shlex.split(line, comments=True), int(said[1]) if said else 0))
    return found


def write_files(page: str, folder: Path, *languages: str) -> None:
    """The page's files: blocks whose first line is a comment with the file's name."""
    for language in languages:
        for text in blocks(page, language):
            name = re.match(r"# (\S+)\n", text)
            assert name is not None
            (folder / name[1]).write_text(text, encoding="utf-8")
