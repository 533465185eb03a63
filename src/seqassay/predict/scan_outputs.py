"""The files a scan gives: the track, a row for every contig, the regions as BED and GFF3; in one pass over the shards.

Coordinates are 0-based and half-open everywhere but in GFF3, which is 1-based with both ends included.
"""

from __future__ import annotations

import heapq
import itertools
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from seqassay.predict.consensus import SCORE_DECIMALS, STATUSES, SequenceCalls
from seqassay.predict.regions import Region, RegionCaller
from seqassay.predict.scan_windows import WindowPlace
from seqassay.predict.shards import ShardStore
from seqassay.sequences.reading import Shard

TRACK_TABLE = "track.tsv"
CONTIGS_TABLE = "contigs.tsv"
REGIONS_BED = "regions.bed"
REGIONS_GFF = "regions.gff3"
PLOTS = "plots"
OUTPUT_NAMES = (TRACK_TABLE, CONTIGS_TABLE, REGIONS_BED, REGIONS_GFF)
ROWS_PART = "windows.tsv"

TRACK_HEADER = "contig\tstart\tend\tscore\tstatus\n"
CONTIGS_HEADER = "contig\tlength\tn_windows\tn_scored\tn_regions\tregion_bases\tstatus\tplot\n"
GFF_HEADER = "##gff-version 3\n"

_GFF_SEQID = ".:^*$@!+_?-|"  # what GFF3 lets stand in its first column beside letters and digits
_BED_MOST = 1000
_NAME_BYTES = 100


@dataclass(frozen=True, slots=True)
class ContigTrack:
    """The windows of one contig, in order.

    Attributes:
        number: 0-based, over all inputs.
        start, end: of the windows, 0-based half-open.
        score: probability of virus; NaN without one.
        status: of the windows, in words.
    """

    number: int
    name: str
    length: int
    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    score: npt.NDArray[np.float64]
    status: list[str]


@dataclass(frozen=True, slots=True)
class PlacedRegion:
    """A region with its contig's number, name and length."""

    number: int
    contig: str
    contig_length: int
    region: Region


@dataclass
class ScanCounts:
    """What a scan found, in counts that add up.

    Attributes:
        contigs: = scanned + short + no_score, by status.
        bases: of all contigs.
        windows: rows of the track = windows_scored + windows_without_score.
        regions, region_bases: those written; regions_too_short: called, and shorter than the least length.
        plots, plots_left_out: contigs with and without a plot; together they are the contigs.
    """

    contigs: int = 0
    scanned: int = 0
    short: int = 0
    no_score: int = 0
    bases: int = 0
    windows: int = 0
    windows_scored: int = 0
    windows_without_score: int = 0
    contigs_with_regions: int = 0
    regions: int = 0
    region_bases: int = 0
    regions_too_short: int = 0
    plots: int = 0
    plots_left_out: int = 0


def window_rows(shard: Shard, calls: SequenceCalls) -> bytes:
    """A shard's windows as its file keeps them: place, end, score, status, name of the contig."""
    rows = []
    columns = (shard.bases.lengths, calls.score, calls.status)
    for name, place, length, score, status in zip(
        shard.ids, shard.headers, *(column.tolist() for column in columns), strict=True
    ):
        end = WindowPlace.from_text(place).start + length
        rows.append(f"{place}\t{end}\t{shown_score(score)}\t{STATUSES[status]}\t{name}\n")
    return "".join(rows).encode()


def shown_score(score: float) -> str:
    """As all tables print it; empty for NaN."""
    return "" if math.isnan(score) else f"{score:.{SCORE_DECIMALS}f}"


def contig_tracks(store: ShardStore, n_shards: int) -> Iterator[ContigTrack]:
    """The track of every contig, in input order; one contig is in memory at a time."""
    parts = (store.read_part(index, ROWS_PART).decode() for index in range(n_shards))
    rows = (line.split("\t") for part in parts for line in part.split("\n")[:-1])
    for number, group in itertools.groupby(rows, key=lambda row: row[0]):
        windows = list(group)
        yield ContigTrack(
            number=int(number),
            name=windows[0][6],
            length=int(windows[0][1]),
            start=np.array([int(row[2]) for row in windows], np.int64),
            end=np.array([int(row[3]) for row in windows], np.int64),
            score=np.array([float(row[4] or "nan") for row in windows], np.float64),
            status=[row[5] for row in windows],
        )


def track_rows(track: ContigTrack) -> bytes:
    """One row a window."""
    columns = (track.start.tolist(), track.end.tolist(), track.score.tolist(), track.status)
    return "".join(
        f"{track.name}\t{start}\t{end}\t{shown_score(score)}\t{status}\n"
        for start, end, score, status in zip(*columns, strict=True)
    ).encode()


def bed_rows(regions: Iterable[PlacedRegion]) -> Iterator[bytes]:
    """BED6: score is the region's mean probability times 1000, the strand is not known."""
    for number, placed in enumerate(regions, 1):
        region = placed.region
        score = round(_BED_MOST * region.score)
        yield f"{placed.contig}\t{region.start}\t{region.end}\tregion_{number}\t{score}\t.\n".encode()


def gff_rows(regions: Iterable[PlacedRegion]) -> Iterator[bytes]:
    """GFF3: 1-based, both ends included; a whole contig is a ``viral_sequence``, a part of one a ``prophage``."""
    yield GFF_HEADER.encode()
    for number, placed in enumerate(regions, 1):
        region, whole = placed.region, placed.region.end - placed.region.start == placed.contig_length
        kind = "viral_sequence" if whole else "prophage"
        attributes = f"ID=region_{number};contig_number={placed.number + 1};windows={region.n_windows}"
        columns = (
            quote(placed.contig, safe=_GFF_SEQID), "seqassay", kind, str(region.start + 1), str(region.end),
            f"{region.score:.{SCORE_DECIMALS}f}", ".", ".", attributes,
        )  # fmt: skip
        yield ("\t".join(columns) + "\n").encode()


def plot_name(contig: str, taken: set[str]) -> str:
    """A file name for a contig's plot: letters, digits, ``.``, ``_`` and ``-`` only, different from those taken.

    Names are told apart without regard to case, as some file systems do; the name is added to ``taken``.
    """
    stem = re.sub(r"[^A-Za-z0-9._-]", "_", contig)[:_NAME_BYTES].lstrip(".") or "contig"
    candidates = itertools.chain([stem], (f"{stem}.{number}" for number in itertools.count(2)))
    name = next(name for name in candidates if name.lower() not in taken)
    taken.add(name.lower())
    return f"{name}.png"


@dataclass
class Findings:
    """What one pass over the tracks leaves behind; grows with contigs and regions, not with bases or windows.

    Attributes:
        max_plots: contigs to plot at the most.
        rows: of the contigs' table, up to the plot.
    """

    caller: RegionCaller
    window: int
    max_plots: int
    counts: ScanCounts = field(default_factory=ScanCounts)
    regions: list[PlacedRegion] = field(default_factory=list)
    rows: list[bytes] = field(default_factory=list)
    _wanted: list[tuple[int, int, int]] = field(default_factory=list)

    def take(self, track: ContigTrack) -> bytes:
        """Call a contig's regions, count it, and give its rows of the track."""
        status = self._status(track)
        regions: list[Region] = []
        if status == "scanned":
            called = self.caller.regions(track.start, track.end, track.score, track.length)
            regions = [region for region in called if region.end - region.start >= self.caller.min_region]
            self.counts.regions_too_short += len(called) - len(regions)
        n_scored = int(np.count_nonzero(~np.isnan(track.score)))
        region_bases = sum(region.end - region.start for region in regions)
        self._count(track, status, n_scored, regions, region_bases)
        self.regions += [PlacedRegion(track.number, track.name, track.length, region) for region in regions]
        columns = (track.name, track.length, len(track.start), n_scored, len(regions), region_bases, status)
        self.rows.append(("\t".join(map(str, columns)) + "\t").encode())
        if status == "scanned" and self.max_plots:
            # the most region bases first, then the longest contig, then the first
            heapq.heappush(self._wanted, (region_bases, track.length, -track.number))
            if len(self._wanted) > self.max_plots:
                heapq.heappop(self._wanted)
        return track_rows(track)

    def to_plot(self) -> set[int]:
        """Numbers of the contigs to plot."""
        return {-number for _, _, number in self._wanted}

    def contig_rows(self, plots: dict[int, str]) -> Iterator[bytes]:
        """The contigs' table; ``plots`` are file names by contig number."""
        yield CONTIGS_HEADER.encode()
        for number, row in enumerate(self.rows):
            yield row + plots.get(number, "").encode() + b"\n"

    def _status(self, track: ContigTrack) -> str:
        if np.isnan(track.score).all():
            return "no_score"
        return "short" if track.length < self.window else "scanned"

    def _count(self, track: ContigTrack, status: str, n_scored: int, regions: list[Region], region_bases: int) -> None:
        counts = self.counts
        counts.contigs += 1
        setattr(counts, status, getattr(counts, status) + 1)
        counts.bases += track.length
        counts.windows += len(track.start)
        counts.windows_scored += n_scored
        counts.windows_without_score += len(track.start) - n_scored
        counts.contigs_with_regions += bool(regions)
        counts.regions += len(regions)
        counts.region_bases += region_bases
