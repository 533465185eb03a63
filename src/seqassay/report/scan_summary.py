"""What a person sees at the end of a scan, from its record and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqassay.report.layout import labelled
from seqassay.report.terminal import clock


def scan_summary(record: Mapping[str, Any]) -> str:
    """The block at the end of a scan, from ``run.json``."""
    counts, windows = record["counts"], record["windows"]
    contigs = [f"{counts['scanned']:,} scanned"]
    if counts["short"]:
        contigs.append(f"{counts['short']:,} shorter than a window")
    if counts["no_score"]:
        contigs.append(f"{counts['no_score']:,} without a score")
    with_one = counts["contigs_with_regions"]
    regions = f"{counts['regions']:,} ({counts['region_bases']:,} bases), contigs with one: {with_one:,}"
    if counts["regions_too_short"]:
        least = record["regions"]["min_region"]
        regions += f"; left out, shorter than {least:,} bases: {counts['regions_too_short']:,}"
    after = f", after {record['resumed_windows']:,} resumed windows" if record["resumed_windows"] else ""
    rows = [
        ("contigs", f"{counts['contigs']:,} ({counts['bases']:,} bases): " + ", ".join(contigs)),
        ("windows", f"{counts['windows']:,} of {windows['length']:,} bases every {windows['step']:,}"),
        ("viral regions", regions),
        ("plots", _plots_line(record)),
        ("bundle", f"{record['bundle']['name']} {record['bundle']['digest'][:12]}"),
        ("device", f"{record['device']}, {record['precision']}"),
        ("wall time", clock(record["wall_s"]) + after),
    ]
    tables = [output["name"] for output in record["outputs"] if "/" not in output["name"]]
    rows += [(name, f"{record['output_dir']}/{name}") for name in (*tables, "run.json")]
    return "\n".join(labelled(rows))


def _plots_line(record: Mapping[str, Any]) -> str:
    counts, settings = record["counts"], record["settings"]
    if not settings["plots"]:
        return "none (--no-plots)"
    left_out = counts["scanned"] - counts["plots"]
    why = f"; scanned contigs without: {left_out:,} (--max-plots {settings['max_plots']})" if left_out else ""
    return f"{counts['plots']:,} in {record['output_dir']}/plots{why}" if counts["plots"] else f"none{why}"
