"""Does `seqassay scan` find the known prophages of a whole bacterial genome, and only these?

The genome is *Streptococcus pyogenes* M1 GAS (NC_002737, 1.85 Mb), whose four prophages PhiSpy's authors have placed;
no split of the training data holds the species, and nothing in `scan` was chosen on it. A prophage counts as found
when regions cover half of it; a region that touches no prophage is false. Runs the installed command.

    python benchmarks/scan_prophages.py                      # the embedded model; minutes on two cores
    python benchmarks/scan_prophages.py --model my-bundle

The genome is looked for in $SEQASSAY_DATA or ../shared/data (genomes/NC_002737.fa.gz, NC_002737.prophages.tsv).
Exit code 0 when the goal is met, 5 when not, 2 without the genome.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import seqassay
from seqassay.measure.provenance import provenance, utc_now

LEAST_FOUND, MOST_FALSE = 3, 3
LEAST_COVERED = 0.5
RESULTS = Path(__file__).parent / "results" / seqassay.__version__ / "scan_prophages.json"
Interval = tuple[int, int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("SEQASSAY_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=shared / "genomes", help="default: $SEQASSAY_DATA/genomes")
    parser.add_argument("--model", default="mini", help="a bundle's name or folder")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the record goes")
    parser.add_argument("--keep", type=Path, help="keep the scan's output folder here, plot included")
    options = parser.parse_args()
    genome, table = options.data / "NC_002737.fa.gz", options.data / "NC_002737.prophages.tsv"
    if not (genome.is_file() and table.is_file()):
        print(f"skipped: the genome and its prophages are not here (no {genome} or {table}; set SEQASSAY_DATA)")
        sys.exit(2)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "scan"
        record = scanned(genome, out, options.model)
        regions = read_regions(out / "regions.bed")
        track = np.genfromtxt(out / "track.tsv", delimiter="\t", skip_header=1, usecols=(1, 2, 3))
        if options.keep:
            shutil.copytree(out, options.keep, dirs_exist_ok=True)
    result = judged(read_prophages(table), regions, track) | {
        "question": "known prophages of a whole genome found by seqassay scan, and regions that are none",
        "measured_at": utc_now(),
        "genome": {"name": "NC_002737", "bases": record["counts"]["bases"], "input_digest": record["input_digest"]},
        "bundle": record["bundle"],
        "windows": record["windows"],
        "regions_by": record["regions"],
        "wall_s": record["wall_s"],
        "peak_host_bytes": record["memory"]["peak_host_bytes"],
        "provenance": provenance(),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    show(result, options.output)
    sys.exit(0 if result["verdict"] == "PASSED" else 5)


def scanned(genome: Path, out: Path, model: str) -> dict[str, Any]:
    """The record of one scan by the installed command, which shows its progress."""
    command = [Path(sys.executable).with_name("seqassay"), "scan", genome, "-o", out, "-m", model]
    status = subprocess.run([*map(str, command)], stdout=subprocess.DEVNULL, check=False).returncode
    if status:
        sys.exit(f"the scan ended with exit code {status}")
    record: dict[str, Any] = json.loads((out / "run.json").read_text())
    return record


def read_prophages(path: Path) -> dict[str, Interval]:
    """By name, 0-based half-open; the table is 1-based with both ends included."""
    with path.open(newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return {row["name"]: (int(row["start"]) - 1, int(row["end"])) for row in rows}


def read_regions(path: Path) -> list[dict[str, Any]]:
    """The rows of the BED file."""
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    return [{"start": int(row[1]), "end": int(row[2]), "bed_score": int(row[4])} for row in rows]


def judged(prophages: dict[str, Interval], regions: list[dict[str, Any]], track: Any) -> dict[str, Any]:
    """Coverage of every prophage, false regions, and how well single windows tell prophage from host.

    Args:
        prophages: by name.
        regions: as called.
        track: start, end and score of every window, ``[W, 3]``.
    """
    found = {}
    for name, (start, end) in prophages.items():
        covered = sum(overlap((start, end), (region["start"], region["end"])) for region in regions) / (end - start)
        found[name] = {"start": start, "end": end, "covered": round(covered, 4), "found": covered >= LEAST_COVERED}
    for region in regions:
        span = (region["start"], region["end"])
        region["prophages"] = [name for name, prophage in prophages.items() if overlap(prophage, span)]
    middle, score = track[:, :2].mean(axis=1), track[:, 2]
    inside = np.any([(middle >= start) & (middle < end) for start, end in prophages.values()], axis=0)
    n_found = sum(one["found"] for one in found.values())
    n_false = sum(not region["prophages"] for region in regions)
    return {
        "verdict": "PASSED" if n_found >= LEAST_FOUND and n_false <= MOST_FALSE else "FAILED",
        "goal": {"least_found": LEAST_FOUND, "least_covered": LEAST_COVERED, "most_false": MOST_FALSE},
        "prophages_found": n_found,
        "false_regions": n_false,
        "prophages": found,
        "regions": regions,
        "window_scores": {
            "roc_auc": round(roc_auc(score[inside], score[~inside]), 4),
            "prophage": {"n": int(inside.sum()), "quartiles": np.percentile(score[inside], [25, 50, 75]).tolist()},
            "host": {"n": int((~inside).sum()), "quartiles": np.percentile(score[~inside], [25, 50, 75]).tolist()},
        },
    }


def overlap(a: Interval, b: Interval) -> int:
    """Bases that both hold."""
    return max(0, min(a[1], b[1]) - max(a[0], b[0]))


def roc_auc(positive: Any, negative: Any) -> float:
    """How often a score of the first is above one of the second; ties count half."""
    above = (positive[:, None] > negative[None]).mean()
    return float(above + (positive[:, None] == negative[None]).mean() / 2)


def show(result: dict[str, Any], path: Path) -> None:
    """The result for a person."""
    for name, one in result["prophages"].items():
        print(f"{name}  {one['start']:>9,} to {one['end']:>9,}  {one['covered']:6.1%} covered")
    for region in result["regions"]:
        what = ", ".join(region["prophages"]) or "FALSE"
        print(f"region {region['start']:>9,} to {region['end']:>9,}  {what}")
    print(f"windows: ROC-AUC {result['window_scores']['roc_auc']:.3f} (windows overlap, one genome: no interval)")
    print(
        f"{result['prophages_found']} of {len(result['prophages'])} found, {result['false_regions']} false regions: "
        f"{result['verdict']}; {result['bundle']['name']} {result['bundle']['digest'][:12]}; {path}"
    )


if __name__ == "__main__":
    main()
