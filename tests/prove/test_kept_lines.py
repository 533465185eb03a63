"""Files that grow line by line, and what a stopped command left in them."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from seqassay.errors import InputError, ResourceError, UsageError
from seqassay.prove.kept_lines import take_up

IDENTITY = {"of": "a model"}


def taken(path: Path, *, resume: bool = True, identity: dict[str, Any] = IDENTITY) -> list[int]:
    found, file = take_up(path, identity, lambda said: int(said["n"]), resume=resume, of_another="of another model")
    with file:
        file.add('{"n": 7}\n')
    return found


def test_lines_are_taken_up_and_a_torn_one_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    assert taken(path) == [] and taken(path) == [7]
    for torn in (b'{"n": ', b"\0" * 9):
        whole = path.read_bytes()
        path.write_bytes(whole + torn)
        n = whole.count(b"\n") - 1
        assert taken(path) == [7] * n
        assert path.read_bytes() == whole + b'{"n": 7}\n'
    assert taken(path, resume=False) == [] and path.read_text() == '{"of": "a model"}\n{"n": 7}\n'


def test_lines_of_another_and_damaged_ones_are_refused_and_stay(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    taken(path)
    with pytest.raises(UsageError, match="of another model\nbegin again"):
        taken(path, identity={"of": "another"})
    for damaged in (b"rubbish \xff\n", b"[]\n", b"{}\n", b'{"n": "x"}\n'):
        content = b'{"of": "a model"}\n{"n": 7}\n' + damaged + b'{"n": 7}\n'
        path.write_bytes(content)
        with pytest.raises(InputError, match="line 3: the line is damaged\ntake it out"):
            taken(path)
        assert path.read_bytes() == content


def test_a_disk_that_fills_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kept.jsonl"
    taken(path)
    before, write, calls = path.read_bytes(), os.write, list[int]()

    def part_of(descriptor: int, content: Any) -> int:
        calls.append(len(content))
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, content[:3])

    with monkeypatch.context() as planted, pytest.raises(ResourceError, match=r"kept.jsonl: the disk is full"):
        planted.setattr(os, "write", part_of)
        taken(path)
    assert calls == [9, 6] and path.read_bytes() == before
