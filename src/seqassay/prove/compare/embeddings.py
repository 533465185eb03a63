"""Embeddings of the same sequences, side by side: the angle between them, and how far their values are apart.

Shape letters: P pairs of rows, D values of an embedding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seqassay.engine.embedding_files import FORMAT, read_embeddings
from seqassay.errors import InputError
from seqassay.models.bundle import file_sha256
from seqassay.prove.compare.figures import ROUNDING, mean, quantile, share
from seqassay.prove.compare.pairing import Ids, Pairing
from seqassay.sequences.ragged import Ragged

FloatArray = npt.NDArray[np.float64]

LEVEL = "embeddings"
_AT_ONCE = 4096  # rows turned into float64 together: 100 MB of 3,328 values
_QUANTILES = {"p1": 0.01, "p5": 0.05, "median": 0.5}


@dataclass(frozen=True, slots=True)
class Embeddings:
    """A file of embeddings, its rows checked to be numbers."""

    path: Path
    ids: Ids
    rows_ND: npt.NDArray[np.float32]
    metadata: Mapping[str, str]
    sha256: str
    n_bytes: int


def read_checked(path: Path) -> Embeddings:
    """Read a file of embeddings.

    Raises:
        InputError: damaged, of another format, or with values that are no numbers; names the file and the row.
    """
    try:
        ids, rows_ND, metadata = read_embeddings(path)
        sha256, n_bytes = file_sha256(path), path.stat().st_size
    except (ValueError, IndexError, TypeError) as error:
        raise InputError(f"not a whole file of embeddings: {error}", path=path) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", path=path) from error
    if metadata.get("format") != FORMAT:
        raise InputError(f"not a file of embeddings: its format is not {FORMAT!r}", path=path)
    if rows_ND.ndim != 2 or len(rows_ND) != len(ids):
        raise InputError(f"{len(ids):,} ids for embeddings of the shape {rows_ND.shape}", path=path)
    for first in range(0, len(rows_ND), _AT_ONCE):
        bad = ~np.isfinite(rows_ND[first : first + _AT_ONCE]).all(axis=1)
        if bad.any():
            row = first + int(np.argmax(bad))
            raise InputError("a value is no number (NaN or infinite)", path=path, record=row + 1, record_id=ids[row])
    ragged = Ragged.from_bytes(i.encode("utf-8", "surrogateescape") for i in ids)
    flat = Ids(np.frombuffer(ragged.values.tobytes(), np.uint8), ragged.offsets[:-1].copy(), ragged.offsets[1:].copy())
    return Embeddings(path, flat, rows_ND, metadata, sha256, n_bytes)


def check_comparable(a: Embeddings, b: Embeddings) -> None:
    """Refuse embeddings that no figure could put side by side.

    Raises:
        InputError: another width, kind or pooling; names both.
    """
    if a.rows_ND.shape[1] != b.rows_ND.shape[1]:
        raise InputError(
            f"embeddings of {b.rows_ND.shape[1]:,} values, those of {a.path} have {a.rows_ND.shape[1]:,}", path=b.path
        )
    for name in ("kind", "pooling"):
        ours, theirs = a.metadata.get(name), b.metadata.get(name)
        if ours != theirs:
            raise InputError(f"{name} is {theirs!r}, that of {a.path} is {ours!r}", path=b.path)


def compare_embeddings(a: Embeddings, b: Embeddings, pairing: Pairing, tolerance: float) -> dict[str, Any]:
    """Every figure of the pairs, as the record has it."""
    n = len(pairing)
    cosine, largest, average = np.full(n, np.nan), np.zeros(n), np.zeros(n)
    for first in range(0, n, _AT_ONCE):
        rows = slice(first, first + _AT_ONCE)
        a_PD = a.rows_ND[pairing.in_a[rows]].astype(np.float64)
        b_PD = b.rows_ND[pairing.in_b[rows]].astype(np.float64)
        apart_PD = np.abs(b_PD - a_PD)
        largest[rows], average[rows] = apart_PD.max(axis=1, initial=0), apart_PD.sum(axis=1) / max(1, a_PD.shape[1])
        cosine[rows] = _cosine(a_PD, b_PD)
    known = np.sort(cosine[~np.isnan(cosine)])
    return {
        "level": LEVEL,
        "rows": pairing.counts(),
        "d_model": int(a.rows_ND.shape[1]),
        "cosine": {
            "mean": mean(known),
            **{name: quantile(known, q) for name, q in _QUANTILES.items()},
            "min": _smallest(known),
        },
        "without_cosine": n - len(known),  # a row of zeros has no direction
        "differences": {
            "max_absolute": _largest(largest),
            "mean_absolute": mean(average, low=0.0, high=math.inf),
        },
        "tolerance": tolerance,
        "within_tolerance": share(int((largest <= tolerance + ROUNDING).sum()), n),
        "identical": share(int((largest == 0).sum()), n),
    }


def _cosine(a_PD: FloatArray, b_PD: FloatArray) -> FloatArray:
    """Cosine of the angle of every pair, clipped to what a cosine can be; NaN where a side is all zeros."""
    norms = np.linalg.norm(a_PD, axis=1) * np.linalg.norm(b_PD, axis=1)
    dots = np.einsum("pd,pd->p", a_PD, b_PD)
    cosine: FloatArray = np.divide(dots, norms, out=np.full(len(dots), np.nan), where=norms > 0)
    return np.clip(cosine, -1, 1)


def _smallest(ascending: FloatArray) -> dict[str, Any]:
    return _extreme(ascending[:1], len(ascending), "the smallest of those seen")


def _largest(values: FloatArray) -> dict[str, Any]:
    return _extreme(
        values[np.argmax(values) :][:1] if len(values) else values, len(values), "the largest of those seen"
    )


def _extreme(value: FloatArray, n: int, why: str) -> dict[str, Any]:
    if not n:
        return {"value": None, "interval_95": None, "n": 0, "why_undefined": "no row has this on both sides"}
    return {"value": float(value[0]), "interval_95": None, "n": n, "why_no_interval": why}
