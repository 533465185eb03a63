"""What a page shows of a scan: its contigs with the most viral bases, their scores thinned, their regions.

Taken from the tables of the scan, one contig's windows in memory at a time: ``scan`` and ``seqassay report`` show the
same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seqassay.errors import InputError

TRACK, CONTIGS, REGIONS = "track.tsv", "contigs.tsv", "regions.gff3"
MOST_CONTIGS = 24
MOST_REGIONS = 200
MOST_POINTS = 500  # of a contig's line; each with the range of its windows, that is 1,000 more numbers
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Contig:
    """A row of the contigs' table."""

    number: int
    name: str
    length: int
    n_windows: int
    n_scored: int
    n_regions: int
    region_bases: int
    status: str


@dataclass(frozen=True, slots=True)
class RegionRow:
    """A viral region: 0-based half-open, with the mean score of its windows."""

    contig_number: int
    start: int
    end: int
    score: float


@dataclass(frozen=True)
class Track:
    """A contig's scores, as few points as can be seen.

    Attributes:
        points: position and mean score; None without a score.
        band: position, lowest and highest score, where a point stands for several windows.
    """

    contig: Contig
    points: list[tuple[float, float | None]]
    band: list[tuple[float, float, float]]
    regions: list[tuple[int, int]]


@dataclass(frozen=True)
class ScanFindings:
    """All that the page shows of a scan's tables."""

    contigs: list[Contig]  # the chosen ones
    n_contigs: int
    regions: list[RegionRow]  # the first ``MOST_REGIONS``
    n_regions: int
    names: Mapping[int, str]  # of the regions' contigs
    tracks: list[Track]


def read_scan(folder: Path, outputs: Mapping[str, Mapping[str, Any]]) -> ScanFindings:
    """Read the tables of a finished scan.

    Args:
        outputs: by name, what the scan's record says of its files.

    Raises:
        InputError: a table is not the one that the scan wrote.
    """
    contigs = _contigs(folder, outputs)
    regions = _regions(folder, outputs)
    scanned = [contig for contig in contigs if contig.n_scored]
    # the most region bases first, then the longest, then the first: the order in which `scan` chooses its plots
    chosen = sorted(scanned, key=lambda contig: (-contig.region_bases, -contig.length, contig.number))[:MOST_CONTIGS]
    by_contig: dict[int, list[tuple[int, int]]] = {}
    for region in regions:
        by_contig.setdefault(region.contig_number, []).append((region.start, region.end))
    wanted = {contig.number for contig in chosen}
    tracks = {
        contig.number: thinned(contig, starts, ends, scores, by_contig.get(contig.number, []))
        for contig, starts, ends, scores in _tracks(folder, outputs, contigs, wanted)
    }
    shown = regions[:MOST_REGIONS]
    names = {region.contig_number: contigs[region.contig_number].name for region in shown}
    in_order = [tracks[contig.number] for contig in chosen]
    return ScanFindings(chosen, len(contigs), shown, len(regions), names, in_order)


def thinned(
    contig: Contig, starts: FloatArray, ends: FloatArray, scores: FloatArray, regions: list[tuple[int, int]]
) -> Track:
    """At most ``MOST_POINTS`` points: means of neighbouring windows, with their range."""
    middle = (starts + ends) / 2
    per_point = -(-len(scores) // MOST_POINTS)
    points: list[tuple[float, float | None]] = []
    band = []
    for first in range(0, len(scores), per_point):
        at, here = float(middle[first : first + per_point].mean()), scores[first : first + per_point]
        known = here[~np.isnan(here)]
        points.append((at, float(known.mean()) if len(known) else None))
        if per_point > 1 and len(known):
            band.append((at, float(known.min()), float(known.max())))
    return Track(contig, points, band, regions)


def _contigs(folder: Path, outputs: Mapping[str, Mapping[str, Any]]) -> list[Contig]:
    return [
        _contig(number, row, folder / CONTIGS, line)
        for number, (line, row) in enumerate(_rows(folder / CONTIGS, outputs))
    ]


def _contig(number: int, row: list[str], path: Path, line: int) -> Contig:
    try:
        name, length, n_windows, n_scored, n_regions, region_bases, status, _ = row
        return Contig(
            number, name, int(length), int(n_windows), int(n_scored), int(n_regions), int(region_bases), status
        )
    except ValueError as error:
        raise _changed(path, line, str(error)) from error


def _regions(folder: Path, outputs: Mapping[str, Mapping[str, Any]]) -> list[RegionRow]:
    return [_region(row, folder / REGIONS, line) for line, row in _rows(folder / REGIONS, outputs)]


def _region(row: list[str], path: Path, line: int) -> RegionRow:
    try:
        attributes = dict(pair.split("=", 1) for pair in row[8].split(";"))
        return RegionRow(int(attributes["contig_number"]) - 1, int(row[3]) - 1, int(row[4]), float(row[5]))
    except (ValueError, KeyError, IndexError) as error:
        raise _changed(path, line, repr(error)) from error


def _tracks(
    folder: Path, outputs: Mapping[str, Mapping[str, Any]], contigs: list[Contig], wanted: set[int]
) -> Iterator[tuple[Contig, FloatArray, FloatArray, FloatArray]]:
    """Starts, ends and scores of the wanted contigs' windows; all rows are read, for the digest."""
    rows = _rows(folder / TRACK, outputs)
    for contig in contigs:
        kept = []
        for _ in range(contig.n_windows):
            line, row = next(rows, (0, []))
            if len(row) != 5 or row[0] != contig.name:
                raise _changed(folder / TRACK, line, f"a window of {contig.name!r} was expected")
            if contig.number in wanted:
                try:
                    kept.append((float(row[1]), float(row[2]), float(row[3] or "nan")))
                except ValueError as error:
                    raise _changed(folder / TRACK, line, str(error)) from error
        if contig.number in wanted:
            starts, ends, scores = np.array(kept, np.float64).T
            yield contig, starts, ends, scores
    if next(rows, None) is not None:
        raise _changed(folder / TRACK, None, "it has more windows than contigs.tsv says")


def _rows(path: Path, outputs: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and rows below the header line; at the end the file's digest is checked."""
    sha256 = hashlib.sha256()
    with path.open("rb") as file:
        for line, text in enumerate(file, 1):
            sha256.update(text)
            if line > 1:
                yield line, text.decode("utf-8", "surrogateescape").rstrip("\n").split("\t")
    if sha256.hexdigest() != outputs[path.name]["sha256"]:
        raise _changed(path, None, "its SHA-256 is not the one in run.json")


def _changed(path: Path, line: int | None, what: str) -> InputError:
    return InputError(f"is not the table that the scan wrote: {what}", path=path, line=line, hint="make it again")
