"""A scan: viral regions, and the score along the contigs that have them."""

from __future__ import annotations

from typing import Any

from seqassay.report.html import numbers
from seqassay.report.html.blocks import Block, Column, Drawing, Row, Section, Table, Text, Tiles, View, bounded
from seqassay.report.html.chart import track
from seqassay.report.html.records import Record
from seqassay.report.html.shared import about_sections, dict_table, inputs_in_words, stage_drawing, status_banner
from seqassay.report.html.tracks import CONTIGS, MOST_REGIONS, REGIONS, TRACK, ScanFindings, Track, read_scan

_THRESHOLD = 0.5
_NAME_CHARACTERS = 120
_MOST_TABLE_ROWS = 100  # of the figures behind a picture
_STATUSES = {
    "scanned": "scored, and searched for regions",
    "short": "shorter than a window: a score, no search for regions (predict calls such contigs)",
    "no_score": "no window has a score",
}


def scan_view(record: Record) -> View:
    """The page of a scan; of one that is not done, what is known of it."""
    scan = record.content
    banner = status_banner(scan, "scan")
    counts, bundle = scan["counts"], scan["bundle"]
    lead = (
        f"{counts['windows_in_shards']:,} windows were scored so far; regions are called when all are."
        if banner
        else f"{counts['regions']:,} viral regions ({counts['region_bases']:,} bases) on "
        f"{counts['contigs_with_regions']:,} of {counts['contigs']:,} contigs ({counts['bases']:,} bases), with the "
        f"bundle {bundle['name']}."
    )
    return View(
        title=f"seqassay scan: {inputs_in_words(scan)}",
        lead=lead,
        banner=banner,
        sections=[
            *([] if banner else _finished(record)),
            Section("How the scan went", _how_it_went(scan)),
            *about_sections(scan, bundle=bundle),
        ],
    )


def _finished(record: Record) -> list[Section]:
    found, findings = Section("What was found", _found(record.content)), findings_of(record)
    if findings is None:
        why = f"{TRACK}, {CONTIGS} or {REGIONS} is not beside the record: plots and regions are left out."
        return [found, Section("Along the contigs", [Text(why, "unsure")])]
    return [found, Section("Along the contigs", _along(findings)), Section("Regions", _regions(findings))]


def findings_of(record: Record) -> ScanFindings | None:
    """What the scan's tables say; None where they are not beside the record.

    Raises:
        InputError: there are tables, and they are not the scan's.
    """
    outputs = {str(output["name"]): output for output in record.content["outputs"]}
    if any(name not in outputs or not (record.folder / name).is_file() for name in (TRACK, CONTIGS, REGIONS)):
        return None
    return read_scan(record.folder, outputs)


def _found(scan: dict[str, Any]) -> list[Block]:
    counts, windows = scan["counts"], scan["windows"]
    share = numbers.share_of(counts["region_bases"], counts["bases"])
    spaced = f"of {windows['length']:,} bases every {windows['step']:,}"
    tiles = [
        ("viral regions", numbers.count(counts["regions"]), f"on {counts['contigs_with_regions']:,} contigs"),
        ("viral bases", numbers.count(counts["region_bases"]), f"{share} of all bases"),
        ("contigs", numbers.count(counts["contigs"]), f"{counts['bases']:,} bases"),
        ("windows", numbers.count(counts["windows"]), f"{spaced}; {counts['windows_without_score']:,} without a score"),
    ]
    rows = [[name, numbers.count(counts[name]), meaning] for name, meaning in _STATUSES.items()]
    columns = [Column("status"), Column("contigs", True), Column("meaning")]
    least = scan["regions"]["min_region"]
    short = f"{counts['regions_too_short']:,} stretches looked viral and are shorter than {least:,} bases."
    return [Tiles(tiles), Text(short, "quiet"), Table("Contigs by status", columns, rows)]


def _along(findings: ScanFindings) -> list[Block]:
    """One picture a contig."""
    if not findings.tracks:
        return [Text("No contig has a score.", "unsure")]
    drawn, left_out = len(findings.tracks), findings.n_contigs - len(findings.tracks)
    said = f"Contigs drawn: {drawn:,}, those with the most viral bases first, then the longest."
    if left_out:
        said += f" Left out here: {left_out:,}. {CONTIGS} has all contigs, {TRACK} every window."
    return [Text(said), *map(_track_drawing, findings.tracks)]


def _track_drawing(found: Track) -> Drawing:
    contig = found.contig
    name = bounded(contig.name, _NAME_CHARACTERS)
    joined = " The line is the mean of neighbouring windows, the band their range." if found.band else ""
    where = ", ".join(f"{start + 1:,} to {end:,}" for start, end in found.regions[:20])
    chart = track(
        f"{name}, {contig.length:,} bases",
        f"Windows along {name}: {contig.n_windows:,}; viral regions: {where or 'none'}.{joined}",
        found.points, found.band, found.regions, length=contig.length, threshold=_THRESHOLD,
    )  # fmt: skip
    every = -(-len(found.points) // _MOST_TABLE_ROWS)
    rows = [
        [numbers.count(round(at)), "–" if score is None else numbers.decimal(score)]
        for at, score in found.points[::every]
    ]
    note = "" if every == 1 else f"Every {every} points; {TRACK} has every window."
    columns = [Column("position", True), Column("score", True)]
    return Drawing(chart, Table(f"Scores along {name}", columns, rows, note, row_heads=False))


def _regions(findings: ScanFindings) -> list[Block]:
    if not findings.regions:
        return [Text("No viral region was called.", "quiet")]
    rows = [
        [
            bounded(findings.names[region.contig_number], _NAME_CHARACTERS), numbers.count(region.start + 1),
            numbers.count(region.end), numbers.count(region.end - region.start), numbers.decimal(region.score),
        ]
        for region in findings.regions
    ]  # fmt: skip
    columns = [Column("contig"), *(Column(n, True) for n in ("first base", "last base", "bases", "mean score"))]
    said = f"All {findings.n_regions:,} regions." if findings.n_regions <= MOST_REGIONS else (
        f"The first {MOST_REGIONS} of {findings.n_regions:,} regions; regions.bed and {REGIONS} have them all."
    )  # fmt: skip
    return [Text(said), Table("Viral regions, counted from base 1", columns, rows)]


def _how_it_went(scan: dict[str, Any]) -> list[Block]:
    memory = scan["memory"]
    tiles = [
        ("wall time", numbers.seconds(scan["wall_s"]), "of this process"),
        ("peak memory", numbers.n_bytes(memory["peak_host_bytes"]), "of the process"),
    ]
    return [Tiles(tiles), Row([stage_drawing(scan["stages"]), dict_table("How regions are called", scan["regions"])])]
