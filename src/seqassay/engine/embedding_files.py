"""Files of embeddings: .safetensors, .npz and .h5, written row by row and read whole.

Every format holds ids and embeddings in input order (ids may repeat) and the same metadata, all of it text:
``format``, ``format_version``, ``encoder``, ``encoder_digest``, ``kind``, ``pooling``, ``precision``,
``seqassay_version``.

==========  ==================================================================================
part        in every format
==========  ==================================================================================
embeddings  ``embeddings`` float32 [N, D]
ids         ``ids`` uint8, UTF-8 of all ids end to end, and ``ids_offsets`` int64 [N + 1]: id i is
            ``ids[ids_offsets[i]:ids_offsets[i + 1]]``
metadata    safetensors' own; ``metadata`` in .npz, a JSON object in a string array without
            dimensions; attributes of the file in .h5
==========  ==================================================================================

A file appears under its name when it is whole. Until then there is only ``NAME.partial`` and files without a name.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt

from seqassay.durable import disk_errors, sync
from seqassay.errors import InputError, UsageError, require_package
from seqassay.sequences.ragged import Ragged

SUFFIXES = (".safetensors", ".npz", ".h5")
FORMAT, FORMAT_VERSION = "seqassay-embeddings", "1"
PARTIAL_SUFFIX = ".partial"
_COPY_BYTES = 1 << 20
_ALIGNMENT_BYTES = 8  # of safetensors' header, so that rows can be mapped into memory

Rows = npt.NDArray[np.float32]


class _Target(Protocol):
    """One format under construction."""

    def append(self, ids: Sequence[bytes], rows: Rows) -> None: ...

    def finish(self) -> None: ...

    def close(self) -> None: ...


class EmbeddingWriter:
    """Writes embeddings in one pass with the memory of one block; use it in a ``with`` statement.

    Leaving the block normally puts the file in its place; an exception leaves what was there before and nothing else.
    """

    def __init__(self, path: Path | str, *, d_model: int, metadata: Mapping[str, str], force: bool = False) -> None:
        """Begin a file.

        Args:
            path: its suffix chooses the format.
            d_model: values of an embedding.
            metadata: written beside ``format`` and ``format_version``.
            force: replace an existing file.

        Raises:
            UsageError: see `check_output`; also where nothing can be written.
        """
        self.path = Path(path)
        check_output(self.path, force=force)
        self.n_rows = 0
        self._partial = self.path.with_name(self.path.name + PARTIAL_SUFFIX)
        everything = {"format": FORMAT, "format_version": FORMAT_VERSION, **metadata}
        with disk_errors(path=self.path):
            self._target: _Target = _TARGETS[self.path.suffix](self._partial, d_model, everything)

    def append(self, ids: Sequence[str], rows: Rows) -> None:
        """Add the embeddings ``rows[i]`` of ``ids[i]``.

        Raises:
            ResourceError: the disk is full.
        """
        if len(ids) != len(rows):
            raise ValueError(f"{len(ids)} ids for {len(rows)} rows")
        with disk_errors(path=self.path):
            self._target.append([i.encode("utf-8", "surrogateescape") for i in ids], rows)
        self.n_rows += len(ids)

    def __enter__(self) -> EmbeddingWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                with disk_errors(path=self.path):
                    self._target.finish()
                    self._target.close()
                    sync(self._partial)
                    self._partial.replace(self.path)
                    sync(self.path.parent)
        finally:
            with contextlib.suppress(OSError):  # after a failure, closing may fail in the same way
                self._target.close()
            self._partial.unlink(missing_ok=True)


def check_output(path: Path, *, force: bool) -> None:
    """Whether a file of embeddings can be begun here, before hours are spent on its content.

    Raises:
        UsageError: an unknown suffix, an existing file without ``force``, a folder in the way or none to put it in.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path}: unknown kind of file {path.suffix!r}", hint=f"use one of {', '.join(SUFFIXES)}")
    if path.is_dir():
        raise UsageError(f"{path} is a folder", hint="give the name of a file")
    if path.exists() and not force:
        raise UsageError(f"{path} exists", hint="choose another name, or replace it with --force")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}", hint=f"make it first: mkdir -p {path.parent}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UsageError(f"{path}: cannot write into {path.parent}", hint="choose another place")
    if path.suffix == ".h5":
        require_package("h5py", extra="h5", purpose="writing .h5")


def read_embeddings(path: Path | str) -> tuple[list[str], Rows, dict[str, str]]:
    """Ids, embeddings ``[N, D]`` and metadata of a file that `EmbeddingWriter` wrote.

    Raises:
        InputError: no such file, or not a file of embeddings.
        UsageError: an unknown suffix.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path}: unknown kind of file {path.suffix!r}", hint=f"use one of {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise InputError("no such file", path=path)
    arrays, metadata = _READERS[path.suffix](path)
    missing = [name for name in ("ids", "ids_offsets", "embeddings") if name not in arrays]
    if missing:
        raise InputError(f"not a file of embeddings: it holds no {', '.join(missing)}", path=path)
    ids = Ragged(arrays["ids"], arrays["ids_offsets"]).to_bytes()
    return [i.decode("utf-8", "surrogateescape") for i in ids], arrays["embeddings"], metadata


class _IdSpool:
    """Ids on their way to the end of the file, in files without a name."""

    def __init__(self, folder: Path) -> None:
        self.text: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - lives as long as the writer
        self.offsets: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - lives as long as the writer
        self.n_ids = self.n_bytes = 0
        self.offsets.write(struct.pack("<q", 0))

    def append(self, ids: Sequence[bytes]) -> None:
        ends = self.n_bytes + np.cumsum(np.fromiter(map(len, ids), np.int64, len(ids)))
        self.text.write(b"".join(ids))
        self.offsets.write(ends.astype("<i8").tobytes())
        self.n_ids += len(ids)
        self.n_bytes = int(ends[-1]) if len(ids) else self.n_bytes

    def close(self) -> None:
        self.text.close()
        self.offsets.close()


class _SafetensorsTarget:
    """Rows go straight to their place behind a header of the largest size it can have; it is filled in at the end."""

    def __init__(self, partial: Path, d_model: int, metadata: Mapping[str, str]) -> None:
        self._metadata, self._d_model = dict(metadata), d_model
        largest = 10**15
        room = len(self._header(largest, largest))
        self._header_bytes = room + -room % _ALIGNMENT_BYTES
        self._ids = _IdSpool(partial.parent)
        self._file = partial.open("wb")
        self._file.write(bytes(8 + self._header_bytes))

    def append(self, ids: Sequence[bytes], rows: Rows) -> None:
        self._ids.append(ids)
        self._file.write(np.ascontiguousarray(rows, "<f4").data)

    def finish(self) -> None:
        for spool in (self._ids.offsets, self._ids.text):
            spool.seek(0)
            shutil.copyfileobj(spool, self._file, _COPY_BYTES)
        self._file.seek(0)
        header = self._header(self._ids.n_ids, self._ids.n_bytes).ljust(self._header_bytes)
        self._file.write(struct.pack("<Q", self._header_bytes) + header)

    def close(self) -> None:
        self._ids.close()
        self._file.close()

    def _header(self, n_ids: int, n_id_bytes: int) -> bytes:
        """The JSON header: names, types, shapes, and where the data of each lies behind it."""
        parts: list[tuple[str, str, list[int], int]] = [
            ("embeddings", "F32", [n_ids, self._d_model], 4 * n_ids * self._d_model),
            ("ids_offsets", "I64", [n_ids + 1], 8 * (n_ids + 1)),
            ("ids", "U8", [n_id_bytes], n_id_bytes),
        ]
        header: dict[str, Any] = {"__metadata__": self._metadata}
        begin = 0
        for name, dtype, shape, n_bytes in parts:
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, begin + n_bytes]}
            begin += n_bytes
        return json.dumps(header, separators=(",", ":")).encode()


class _SpooledTarget:
    """Rows wait in a file without a name, for formats whose arrays begin with their number of rows."""

    def __init__(self, partial: Path, d_model: int, metadata: Mapping[str, str]) -> None:
        self._metadata, self._d_model = dict(metadata), d_model
        self._ids = _IdSpool(partial.parent)
        self._rows: IO[bytes] = tempfile.TemporaryFile(dir=partial.parent)  # noqa: SIM115 - lives as long as the writer
        self._file = partial.open("w+b")

    def append(self, ids: Sequence[bytes], rows: Rows) -> None:
        self._ids.append(ids)
        self._rows.write(np.ascontiguousarray(rows, "<f4").data)

    def close(self) -> None:
        self._ids.close()
        self._rows.close()
        self._file.close()

    def _arrays(self) -> list[tuple[str, str, tuple[int, ...], IO[bytes]]]:
        """Name, type, shape and content of what the file holds."""
        n_ids = self._ids.n_ids
        arrays: list[tuple[str, str, tuple[int, ...], IO[bytes]]] = [
            ("embeddings", "<f4", (n_ids, self._d_model), self._rows),
            ("ids_offsets", "<i8", (n_ids + 1,), self._ids.offsets),
            ("ids", "|u1", (self._ids.n_bytes,), self._ids.text),
        ]
        for _, _, _, content in arrays:
            content.seek(0)
        return arrays


class _NpzTarget(_SpooledTarget):
    """A zip of .npy members."""

    def finish(self) -> None:
        with zipfile.ZipFile(self._file, "w", zipfile.ZIP_STORED) as archive:
            for name, dtype, shape, content in self._arrays():
                # ZipInfo's own date, 1980: the same embeddings give the same bytes.
                with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                    header = {"descr": dtype, "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(member, header)
                    shutil.copyfileobj(content, member, _COPY_BYTES)
            text = io.BytesIO()
            np.save(text, np.array(json.dumps(self._metadata)), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo("metadata.npy"), text.getvalue())


class _H5Target(_SpooledTarget):
    """HDF5 lays the file out, and the arrays are copied to their places by us.

    Written through HDF5 (1.14), an array that does not fit on the disk ends the whole process with a segmentation
    fault; here a full disk is an OSError like everywhere else.
    """

    def finish(self) -> None:
        import h5py

        arrays = self._arrays()
        with h5py.File(self._file.name, "w") as file:
            file.attrs.update(self._metadata)
            places = [self._place(file, name, dtype, shape) for name, dtype, shape, _ in arrays]
        for place, (_, _, _, content) in zip(places, arrays, strict=True):
            if place is not None:
                self._file.seek(place)
                shutil.copyfileobj(content, self._file, _COPY_BYTES)

    @staticmethod
    def _place(file: Any, name: str, dtype: str, shape: tuple[int, ...]) -> int | None:
        """Make an unwritten contiguous array; where its bytes lie in the file, None for an array of none."""
        from h5py import h5d, h5p, h5s, h5t

        how = h5p.create(h5p.DATASET_CREATE)
        how.set_layout(h5d.CONTIGUOUS)
        how.set_alloc_time(h5d.ALLOC_TIME_EARLY)
        how.set_fill_time(h5d.FILL_TIME_NEVER)
        array = h5d.create(file.id, name.encode(), h5t.py_create(np.dtype(dtype)), h5s.create_simple(shape), how)
        place: int | None = array.get_offset()
        return place


_TARGETS: dict[str, Any] = {".safetensors": _SafetensorsTarget, ".npz": _NpzTarget, ".h5": _H5Target}


def _read_safetensors(path: Path) -> tuple[dict[str, npt.NDArray[Any]], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"not a safetensors file: {error}", path=path) from error


def _read_npz(path: Path) -> tuple[dict[str, npt.NDArray[Any]], dict[str, str]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"not an .npz file: {error}", path=path) from error
    return arrays, json.loads(str(arrays.pop("metadata", "{}")))


def _read_h5(path: Path) -> tuple[dict[str, npt.NDArray[Any]], dict[str, str]]:
    require_package("h5py", extra="h5", purpose="reading .h5")
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return {name: file[name][:] for name in file}, {key: str(value) for key, value in file.attrs.items()}
    except OSError as error:
        raise InputError(f"not an .h5 file: {error}", path=path) from error


_READERS = {".safetensors": _read_safetensors, ".npz": _read_npz, ".h5": _read_h5}
