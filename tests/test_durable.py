from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from seqassay.durable import disk_errors, publish, stage, unstage, write_durably
from seqassay.errors import ResourceError, SeqassayError, UsageError


def test_writes_all_pieces_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    assert write_durably(tmp_path / "a", [b"12", b"", b"3"]) == 3
    assert (tmp_path / "a").read_bytes() == b"123"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"new"
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(OSError, match="No space"):
        write_durably(tmp_path / "a", pieces())
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("number", "kind", "code"),
    [
        (errno.ENOSPC, ResourceError, 4),
        (errno.EFBIG, ResourceError, 4),
        (errno.EDQUOT, ResourceError, 4),
        (errno.EACCES, UsageError, 2),
        (errno.EROFS, UsageError, 2),
        (errno.EIO, SeqassayError, 1),
    ],
)
def test_disk_errors_become_exit_codes(number: int, kind: type[SeqassayError], code: int) -> None:
    with pytest.raises(kind) as caught, disk_errors("seqassay predict --resume"):
        raise OSError(number, "why", "the/file")
    assert caught.value.exit_code == code
    assert "the/file" in caught.value.message
    if kind is ResourceError:
        assert "seqassay predict --resume" in caught.value.hint


def test_a_write_that_fails_names_its_file(tmp_path: Path) -> None:
    """The system's own error of a full disk names none; which of two disks is full has to be said."""

    def full() -> Iterator[bytes]:
        yield b"some"
        raise OSError(errno.ENOSPC, "No space left on device")

    with (
        pytest.raises(ResourceError, match=rf"{tmp_path}/head: the disk is full") as error,
        disk_errors("the same command"),
    ):
        write_durably(tmp_path / "head", full())
    assert "the same command" in error.value.hint
    assert not list(tmp_path.iterdir())


def test_staged_files_appear_together_or_not_at_all(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        stage(path, [path.name.encode()])
    assert not any(path.exists() for path in paths)
    publish(paths)
    assert [path.read_bytes() for path in paths] == [b"a", b"b"]
    stage(paths[0], [b"new"])
    unstage(paths)
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == [b"a", b"b"]
