"""How long, how large, and how much memory: the HTML page of a run of a million sequences.

Makes the folder of a finished run (its record and ``sequences.tsv``) with made-up rows, twenty times apart in size. The
installed ``seqassay report`` makes the page of each, every time in a process of its own; wall time, processor time and
peak resident memory are the kernel's for that process. Counts on the page must be those of the rows.

    python benchmarks/report_html.py             # 1,000,000 sequences, about a minute on two quiet cores
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import seqassay

LIMIT_S, LIMIT_BYTES, LIMIT_MEMORY_RATIO = 20.0, 2_000_000, 1.10
RESULTS = Path(__file__).parent / "results" / seqassay.__version__ / "report_html.json"
DIGEST = "0" * 64
HEADER = "sequence_id\tlength\tn_chunks\tn_frames\tstatus\tscore\tcall\tq_value\n"
STAGES = ("six-frame translation", "nucleotide embedding", "protein embedding", "reading", "writing")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="write the folder of a run, and measure nothing")
    arguments = parser.parse_args()
    if arguments.write:
        write_run(arguments.write, arguments.sequences)
        return
    sizes = {"large": arguments.sequences, "small": arguments.sequences // 20}
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in sizes}
    with tempfile.TemporaryDirectory() as scratch:
        for name, n in sizes.items():  # in a process of its own: a child's peak begins at its parent's size
            subprocess.run(
                [sys.executable, __file__, "--write", Path(scratch) / name, "--sequences", str(n)], check=True
            )
        for _ in range(arguments.repeats):
            for name in sizes:
                page = Path(scratch) / f"{name}.html"
                command = [Path(sys.executable).with_name("seqassay"), "report", Path(scratch) / name, "-o", page]
                runs[name].append(timed([*command, "--force"]))
        pages = {name: (Path(scratch) / f"{name}.html").read_bytes() for name in sizes}
        n_virus = json.loads((Path(scratch) / "large" / "run.json").read_text())["counts"]["virus"]
    if f"{n_virus:,} of {arguments.sequences:,} sequences".encode() not in pages["large"]:
        raise SystemExit("the page does not say what the rows hold")
    peaks = {name: max(run["peak_bytes"] for run in runs[name]) for name in sizes}
    wall_s = statistics.median(run["wall_s"] for run in runs["large"])
    passed = (
        wall_s <= LIMIT_S
        and len(pages["large"]) < LIMIT_BYTES
        and peaks["large"] / peaks["small"] <= LIMIT_MEMORY_RATIO
    )
    from seqassay.measure.provenance import provenance, utc_now  # PyTorch: not before the children are measured

    record: dict[str, Any] = {
        "question": "wall time, size and peak resident memory of seqassay report for one run",
        "measured_at": utc_now(),
        "sequences": sizes,
        "median_wall_s": wall_s,
        "median_cpu_s": statistics.median(run["cpu_s"] for run in runs["large"]),
        "page_bytes": {name: len(page) for name, page in pages.items()},
        "peak_bytes": peaks,
        "peak_ratio": peaks["large"] / peaks["small"],
        "limits": {"wall_s": LIMIT_S, "page_bytes": LIMIT_BYTES, "peak_ratio": LIMIT_MEMORY_RATIO},
        "verdict": "PASSED" if passed else "FAILED",
        "runs": runs,
        "provenance": provenance(),
    }
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps({key: value for key, value in record.items() if key not in ("runs", "provenance")}, indent=1))


def timed(command: list[Any]) -> dict[str, float]:
    """Wall and processor seconds and peak memory of a command, which has to end well."""
    began = time.perf_counter()
    child = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{command} ended with {os.waitstatus_to_exitcode(status)}")
    return {
        "wall_s": time.perf_counter() - began,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * 1024,
        "load_average": os.getloadavg()[0],
    }


def write_run(folder: Path, n: int, *, seed: int = 1) -> dict[str, Any]:
    """The folder of a finished run of so many made-up sequences; returns its record."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    length = np.minimum(np.exp(rng.normal(5.5, 0.8, n)).astype(int) + 1, 100_000)
    score = np.round(rng.beta(0.4, 1.2, n), 6)
    has_score, is_virus = rng.random(n) > 0.02, score >= 0.5
    rows = []
    for i, (bases, s, scored) in enumerate(zip(length.tolist(), score.tolist(), has_score.tolist(), strict=True)):
        call = "virus" if s >= 0.5 else "others"
        end = f"1\t2\tclassified\t{s:.6f}\t{call}\t{1 - s:.6f}" if scored else "1\t0\tno_frame\t\t\t"
        rows.append(f"read{i}/1\t{bases}\t{end}\n")
    n_scored, n_virus = int(has_score.sum()), int((has_score & is_virus).sum())
    return write_rows(folder, rows, n_scored=n_scored, n_virus=n_virus)


def write_rows(folder: Path, rows: list[str], *, n_scored: int, n_virus: int) -> dict[str, Any]:
    """The table of a run and a record that fits it."""
    table = (HEADER + "".join(rows)).encode("utf-8", "surrogateescape")
    (folder / "sequences.tsv").write_bytes(table)
    n = len(rows)
    counts = {
        "sequences": n, "classified": n_scored, "no_frame": n - n_scored, "too_short": 0, "no_bases": 0,
        "scored": n_scored, "virus": n_virus, "others": n_scored - n_virus, "chunks": n,
        "chunks_classified": n_scored, "chunks_virus": n_virus, "frames": 2 * n_scored, "frames_virus": n_virus,
    }  # fmt: skip
    side = {"real_tokens": 900, "capacity_tokens": 1000, "batches": 1}
    record: dict[str, Any] = {
        "format": "seqassay-run", "version": "1.3", "status": "done", "error": None,
        "identity": {"seqassay": "0.1.0", "bundle": DIGEST, "inputs": ["reads.fa"], "shard_size": 8192,
                     "device": "cpu", "precision": "float32"},
        "settings": {"inputs": ["reads.fa"], "output_dir": folder.name},
        "output_dir": folder.name,
        "inputs": [{"name": "reads.fa", "bytes": 1}],
        "input_digest": DIGEST,
        "bundle": {"name": "mini", "digest": DIGEST, "chunk_length": 300},
        "device": "cpu", "precision": "float32", "counts": counts,
        "calls": {
            "rule": "score >= 0.5",
            "composition": {"n_scored": n_scored, "viral_share": 0.25, "interval_95": [0.24, 0.26]},
            "false_discovery_rate": {"of_calls": 0.1, "wanted": 0.05, "can_tell": True, "reason": None},
        },
        "shards": 1, "resumed_sequences": 0, "started_at": "2026-01-01T00:00:00+00:00",
        "written_at": "2026-01-01T00:01:00+00:00", "wall_s": 60.0,
        "stages": [{"stage": name, "seconds": 1.0 + i, "share": (1.0 + i) / 15} for i, name in enumerate(STAGES)],
        "loader_wait": {"count": 1, "total_s": 0.1, "mean_s": 0.1, "max_s": 0.1},
        "throughput": {"work_s": 50.0, "sequences_per_s": n / 50, "tokens_per_s": 1000.0},
        "packing": {"real_tokens": 1800, "capacity_tokens": 2000, "efficiency": 0.9,
                    "nucleotide": side, "protein": side},
        "memory": {"peak_host_bytes": 10**9, "peak_device_bytes": None},
        "outputs": [{"name": "sequences.tsv", "bytes": len(table), "sha256": hashlib.sha256(table).hexdigest()}],
        "provenance": {
            "seqassay": "0.1.0", "git_commit": None, "command": "seqassay predict reads.fa", "python": "3.11",
            "libraries": {}, "hardware": {"platform": "Linux", "processor": "x", "cores": 2, "memory_bytes": 10**10,
                                          "cuda_devices": []},
        },
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(record, indent=1))
    return record


if __name__ == "__main__":
    main()
