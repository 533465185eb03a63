"""One durable file a shard: a stored zip with the shard's part of every output, its counts and its input's digest.

A shard file is written once, under a temporary name, synced and renamed, so it is whole or absent. Its members
carry CRC-32 sums: a damaged file is recognised, and computed again. ``manifest.json`` beside the shards says which
run they belong to.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqassay.durable import TEMPORARY_SUFFIX, sync, write_durably
from seqassay.errors import UsageError
from seqassay.predict.counts import Counts

MANIFEST = "manifest.json"
META = "meta.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # zip's earliest date: the same shard is the same bytes whenever it is made
_MIXED = "a folder holds the shards of one run only; use the same settings, another --output-dir, or --force"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ShardMeta:
    """What is known of a committed shard without its parts.

    Attributes:
        index, first_record: its place in the run; records count from 0.
        input_digest: SHA-256 over its records, as they were read.
        has_qualities: whether the input is FASTQ.
        counts: of its sequences, chunks and frames.
    """

    index: int
    first_record: int
    input_digest: str
    has_qualities: bool
    counts: Counts

    def to_json(self) -> bytes:
        """As the shard file keeps it."""
        record = {
            "index": self.index,
            "first_record": self.first_record,
            "input_digest": self.input_digest,
            "has_qualities": self.has_qualities,
            "counts": self.counts.as_record(),
        }
        return json.dumps(record, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> ShardMeta:
        """Read back; anything amiss is a KeyError, TypeError or ValueError."""
        record = json.loads(data)
        return cls(
            index=int(record["index"]),
            first_record=int(record["first_record"]),
            input_digest=str(record["input_digest"]),
            has_qualities=bool(record["has_qualities"]),
            counts=Counts.from_record(record["counts"]),
        )


class ShardStore:
    """The ``shards`` folder of a run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path_of(self, index: int) -> Path:
        """The file of shard ``index``."""
        return self.folder / f"shard-{index:06d}.zip"

    def begin(self, identity: Mapping[str, Any]) -> None:
        """Make the folder ready for a new run: empty but for its manifest."""
        self.folder.mkdir(exist_ok=True)
        self.clear()
        write_durably(self.folder / MANIFEST, [json.dumps(identity, indent=1).encode()])
        sync(self.folder.parent)

    def identity(self) -> dict[str, Any] | None:
        """The identity of the run that the shards belong to; None when there is no readable manifest."""
        with contextlib.suppress(OSError, ValueError):
            identity = json.loads((self.folder / MANIFEST).read_bytes())
            if isinstance(identity, dict):
                return identity
        return None

    def commit(self, meta: ShardMeta, parts: Mapping[str, bytes]) -> None:
        """Make a shard durable.

        Raises:
            OSError: on a full disk and the like; nothing is left under the shard's name then.
        """
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for name, data in ((META, meta.to_json()), *parts.items()):
                archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
        write_durably(self.path_of(meta.index), [buffer.getvalue()])

    def read_meta(self, index: int) -> ShardMeta | None:
        """What shard ``index`` holds, after checking every byte of it; None when it isn't there or is damaged."""
        try:
            with zipfile.ZipFile(self.path_of(index)) as archive:
                damaged = archive.testzip()
                meta = ShardMeta.from_json(archive.read(META))
        except FileNotFoundError:
            return None
        except (zipfile.BadZipFile, EOFError, KeyError, TypeError, ValueError, NotImplementedError) as error:
            logger.warning("%s is damaged (%s): it is computed again", self.path_of(index).name, error)
            return None
        if damaged or meta.index != index:
            logger.warning("%s is damaged (%s): it is computed again", self.path_of(index).name, damaged or "its index")
            return None
        return meta

    def read_part(self, index: int, name: str) -> bytes:
        """One output's part of shard ``index``."""
        with zipfile.ZipFile(self.path_of(index)) as archive:
            return archive.read(name)

    def indices(self) -> Iterator[int]:
        """Of every shard file there is, damaged ones too, in no order."""
        for path in self.folder.glob("shard-*.zip"):
            number = path.stem.removeprefix("shard-")
            if number.isdecimal():
                yield int(number)

    def clear(self) -> None:
        """Remove the manifest, then the shards, and nothing that isn't ours."""
        if not self.folder.is_dir():
            return
        (self.folder / MANIFEST).unlink(missing_ok=True)  # first: shards without it are never trusted
        for pattern in ("shard-*.zip", f"shard-*.zip{TEMPORARY_SUFFIX}", MANIFEST + TEMPORARY_SUFFIX):
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)

    def remove(self) -> None:
        """``clear``, and the folder itself unless somebody else's files are in it."""
        self.clear()
        with contextlib.suppress(OSError):
            self.folder.rmdir()


def check_identity(found: Mapping[str, Any], wanted: Mapping[str, Any], folder: Path) -> None:
    """Refuse to mix two runs.

    Raises:
        UsageError: names every setting that differs, with both values.
    """
    if differences := list(_differences(found, wanted)):
        raise UsageError(f"{folder}: holds another run: " + "; ".join(differences), hint=_MIXED)


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any], within: str = "") -> Iterator[str]:
    """What differs, down to the single settings of a part."""
    for name in dict.fromkeys((*found, *wanted)):
        before, now = found.get(name), wanted.get(name)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            yield from _differences(before, now, f"{within}{name}.")
        elif before != now:
            yield f"{within}{name} was {before!r}, is now {now!r}"
