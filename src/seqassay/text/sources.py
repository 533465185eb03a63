"""Which files are whose split: ``train=FILE``, folders, globs, and an INDEX.tsv."""

from __future__ import annotations

import csv
import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seqassay.errors import InputError, UsageError
from seqassay.sequences.opening import can_be_read_twice

SPLITS = ("train", "valid", "test")
INDEX = "INDEX.tsv"
_ALIASES = {"validation": "valid", "val": "valid", "dev": "valid"}
_SUFFIXES = ("", ".gz", ".bz2", ".xz", ".zst")
_HOW = "give train=FILE valid=FILE, or a folder with train.txt and valid.txt"


@dataclass(frozen=True, slots=True)
class TextSource:
    """A file of a split."""

    split: str
    path: str


def find_sources(inputs: Sequence[str]) -> tuple[TextSource, ...]:
    """The files of all inputs, by split (train, valid, test), in the order given.

    An input is ``SPLIT=PLACE`` or a folder. A place is a file, a folder (its .txt files, compressed or not, in the
    order of their names) or a glob. A folder on its own has an INDEX.tsv with the columns ``split`` and ``file``, or
    files that are called as the splits are: train.txt, valid.txt.gz, …

    Raises:
        UsageError: an unknown split, a file twice.
        InputError: a place where there is no text file.
    """
    found = [source for text in inputs for source in _of_input(text)]
    if not found:
        raise UsageError("no text given", hint=_HOW)
    seen: dict[Path, str] = {}
    for source in found:
        if not can_be_read_twice(source.path):
            raise UsageError(
                f"{source.path}: text is read more than once, so it has to be in files", hint="save it to a file"
            )
        real = Path(source.path).resolve()
        if real in seen:
            raise UsageError(f"{source.path} is given twice, in {seen[real]} and in {source.split}")
        seen[real] = source.split
    return tuple(sorted(found, key=lambda source: SPLITS.index(source.split)))


def _of_input(text: str) -> list[TextSource]:
    name, equals, place = text.partition("=")
    if Path(text).is_dir():
        return _of_folder(Path(text))
    if not equals or "/" in name:
        if Path(text).is_file():
            raise UsageError(f"{text}: of which split is this?", hint=f"say so: train={text}")
        raise InputError("no such folder", path=text, hint=_HOW)
    if not place:
        raise UsageError(f"{text}: no file is named", hint=_HOW)
    split = _ALIASES.get(name, name)
    if split not in SPLITS:
        raise UsageError(f"{text}: no split is called {name!r}", hint=f"splits are {', '.join(SPLITS)}")
    return [TextSource(split, path) for path in _files_at(place)]


def _files_at(place: str) -> list[str]:
    path = Path(place)
    if path.is_dir():
        names = sorted(str(entry) for entry in path.iterdir() if entry.is_file() and _is_text(entry.name))
        if not names:
            raise InputError("the folder holds no .txt file", path=place, hint=_HOW)
        return names
    if path.exists() or not glob.has_magic(place):
        if not path.is_file() and can_be_read_twice(place):
            raise InputError("no such file", path=place, hint=_HOW)
        return [place]
    names = sorted(name for name in glob.glob(place, recursive=True) if Path(name).is_file())  # noqa: PTH207 - absolute too
    if not names:
        raise InputError("no file is called so", path=place, hint=_HOW)
    return names


def _of_folder(folder: Path) -> list[TextSource]:
    if (folder / INDEX).is_file():
        listed = _of_index(folder / INDEX)
        if listed is not None:
            return listed
    found = []
    for name in (*SPLITS, *_ALIASES):
        for suffix in _SUFFIXES:
            path = folder / f"{name}.txt{suffix}"
            if path.is_file():
                found.append(TextSource(_ALIASES.get(name, name), str(path)))
    if not found:
        raise InputError("the folder has no train.txt, valid.txt or test.txt", path=folder, hint=_HOW)
    return found


def _of_index(path: Path) -> list[TextSource] | None:
    """The files that a table lists; None for a table without the columns ``split`` and ``file``."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            if not {"split", "file"} <= set(rows.fieldnames or ()):
                return None
            found = []
            for row in rows:
                split, name = (row["split"] or "").strip(), (row["file"] or "").strip()
                split = _ALIASES.get(split, split)
                if split not in SPLITS:
                    raise InputError(
                        f"split is {split!r}; it can be {', '.join(SPLITS)}", path=path, line=rows.line_num
                    )
                if not name or not (path.parent / name).is_file():
                    raise InputError(f"there is no file {name!r}", path=path, line=rows.line_num)
                found.append(TextSource(split, str(path.parent / name)))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"this is no table: {error}", path=path) from None
    if not found:
        raise InputError("the table lists no file", path=path)
    return found


def _is_text(name: str) -> bool:
    return any(name.endswith(f".txt{suffix}") for suffix in _SUFFIXES) and not name.startswith(".")
