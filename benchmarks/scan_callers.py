"""How should `seqassay scan` call regions: by change points (ruptures), or by a hidden Markov model (hmmlearn)?

Made-up contigs of held-out taxa: pieces of 9.9 kb of one bacterium or archaeon joined to a host, alone and with a
phage of 6 kb or more put in between two pieces. All callers see the same tracks. A phage counts as found when half of
it is covered; every region on a host alone is false (though its pieces may hold prophages that nobody marked).

    pip install hmmlearn
    python benchmarks/scan_callers.py      # about ten minutes on two cores

The sequences are looked for in $SEQASSAY_DATA or ../shared/data (genomes/valid.fa.gz). The test split and the genome of
`scan_prophages.py` are not looked at.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import logging
import os
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import seqassay
from seqassay.measure.provenance import provenance, utc_now
from seqassay.models.bundle import Bundle, load_bundle
from seqassay.models.calibration import Evidence, log_odds_of
from seqassay.predict import regions
from seqassay.predict.regions import RegionCaller, cells, log_odds
from seqassay.predict.scan_settings import ScanSettings, Windows
from seqassay.predict.scan_windows import window_starts
from seqassay.predict.scoring import SequenceScorer
from seqassay.sequences.ragged import Ragged

PIECE_CHUNKS, LEAST_PIECES, LEAST_PHAGE_BASES = 33, 3, 6000
HOST_RUN_BASES, VIRUS_RUN_BASES = 200_000, 20_000  # mean lengths that the hidden Markov models expect
EVERY_HOST = 3  # phages are put into every third host
RESULTS = Path(__file__).parent / "results" / seqassay.__version__ / "scan_callers.json"
Track = tuple[Any, Any, Any, int]  # start, end, score, length of the contig
Caller = Callable[[Track], list[tuple[int, int]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("SEQASSAY_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=shared / "genomes", help="default: $SEQASSAY_DATA/genomes")
    parser.add_argument("--model", default="mini", help="a bundle's name or folder, with a calibration")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the record goes")
    options = parser.parse_args()
    source = options.data / "valid.fa.gz"
    if not source.is_file():
        print(f"skipped: the validation sequences are not here (no {source}; set SEQASSAY_DATA)")
        sys.exit(2)
    try:
        import hmmlearn  # noqa: F401
    except ImportError:
        sys.exit("the hidden Markov models need hmmlearn: pip install hmmlearn")
    logging.getLogger("hmmlearn").setLevel(logging.ERROR)  # says of every fit that ends within the tolerance
    bundle = load_bundle(options.model)
    hosts, phages = pieces(source, bundle.chunk_length)
    scorer = SequenceScorer(bundle)
    evidence = {name: chunk_evidence(scorer, bases) for name, bases in (hosts | phages).items()}
    windows = ScanSettings(inputs=("-",), output_dir=Path()).for_chunks_of(bundle.chunk_length)
    alone = [(name, track([evidence[name]], bundle, windows)) for name in hosts]
    with_phage = [
        (phage, *inserted(evidence[host], evidence[phage], bundle, windows))
        for host in list(hosts)[::EVERY_HOST]
        for phage in phages
    ]
    results = {}
    for name, caller in callers(windows).items():
        results[name] = measured(caller, alone, with_phage)
        print(f"{name:44}", json.dumps({k: v for k, v in results[name].items() if k != "false"}), flush=True)
    record = {
        "question": "regions by change points or by a hidden Markov model, on hosts with a phage put in and without",
        "measured_at": utc_now(),
        "bundle": {"name": bundle.name, "digest": bundle.digest},
        "windows": {"length": windows.length, "step": windows.step},
        "hosts": {name: len(bases) for name, bases in hosts.items()},
        "phages": {name: len(bases) for name, bases in phages.items()},
        "contigs_with_phage": len(with_phage),
        "callers": results,
        "provenance": provenance(),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(record, indent=2) + "\n")


def pieces(path: Path, chunk_length: int) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Hosts by taxon and phages by genome, each joined from its records, cut to whole chunks."""
    hosts: dict[str, list[bytes]] = defaultdict(list)
    phages: dict[str, list[tuple[int, bytes]]] = defaultdict(list)
    piece = PIECE_CHUNKS * chunk_length
    for header, bases in fasta(path):
        group, taxon = re.search(r"group=(\S+)", header), re.search(r'taxon="([^"]*)"', header)
        if group is None or taxon is None:
            continue
        if group[1] in ("bacteria", "archaea") and len(bases) >= piece:
            hosts[taxon[1]].append(bases[:piece])
        elif group[1] == "phage":
            genome, _, place = header.split()[0].partition(":")  # some are pieces of a genome: ID:first-last
            phages[genome].append((int(place.split("-")[0] or 0), bases))
    joined = {name: b"".join(bases for _, bases in sorted(parts)) for name, parts in phages.items()}
    return (
        {name: b"".join(parts) for name, parts in hosts.items() if len(parts) >= LEAST_PIECES},
        {
            name: bases[: len(bases) // chunk_length * chunk_length]
            for name, bases in joined.items()
            if len(bases) >= LEAST_PHAGE_BASES
        },
    )


def fasta(path: Path) -> Iterator[tuple[str, bytes]]:
    """Headers and upper-case bases."""
    for record in gzip.decompress(path.read_bytes()).split(b">")[1:]:
        header, _, bases = record.partition(b"\n")
        yield header.decode(), bases.replace(b"\n", b"").upper()


def chunk_evidence(scorer: SequenceScorer, bases: bytes) -> Any:
    """Of every chunk: sum and number of the joint log-odds, of the nucleotide's, and of its best frame, ``[C, 6]``."""
    parts = []
    step = 1000 * scorer.bundle.chunk_length
    for first in range(0, len(bases), step):
        scored = scorer.scored(Ragged.from_bytes([bases[first : first + step]]))
        sums = np.zeros((len(scored.chunks), 6))
        log_odds = log_odds_of(scored.scores_F2)
        np.add.at(sums[:, 0], scored.frame_chunk, log_odds)
        np.add.at(sums[:, 1], scored.frame_chunk, 1)
        np.add.at(sums[:, 2], scored.every_frame_chunk, scored.nucleotide_log_odds)
        np.add.at(sums[:, 3], scored.every_frame_chunk, 1)
        has_frame = sums[:, 1] > 0
        best = np.full(len(sums), -np.inf)
        np.maximum.at(best, scored.frame_chunk, log_odds)
        sums[has_frame, 4], sums[:, 5] = best[has_frame], has_frame
        parts.append(sums)
    return np.concatenate(parts)


def track(parts: list[Any], bundle: Bundle, windows: Windows) -> Track:
    """What a scan would make of a contig of these chunks: windows hold whole chunks, so their evidence adds up."""
    sums, c = np.concatenate(parts), bundle.chunk_length
    start = window_starts(len(sums) * c, windows)
    end = np.minimum(start + windows.length, len(sums) * c)
    running = np.vstack([np.zeros(6), np.cumsum(sums, axis=0)])
    joint, n_joint, nucleotide, n_nucleotide, best, n_best = (running[end // c] - running[start // c]).T
    with np.errstate(invalid="ignore"):
        evidence = Evidence(end - start, joint / n_joint, nucleotide / n_nucleotide, best / n_best)
    assert bundle.calibration is not None
    return start, end, bundle.calibration.for_tracks().probability(evidence), len(sums) * c


def inserted(host: Any, phage: Any, bundle: Bundle, windows: Windows) -> tuple[Track, tuple[int, int]]:
    """The track of a host with a phage between its middle pieces, and where the phage is."""
    middle = len(host) // PIECE_CHUNKS // 2 * PIECE_CHUNKS
    place = (middle * bundle.chunk_length, (middle + len(phage)) * bundle.chunk_length)
    return track([host[:middle], phage, host[middle:]], bundle, windows), place


def callers(windows: Windows) -> dict[str, Caller]:
    """What is compared, by name."""
    least = ScanSettings(inputs=("-",), output_dir=Path()).min_region
    compared: dict[str, Caller] = {}
    for price in (2.0, 3.0, 4.0):
        compared[f"change points, {price:g} log(n)"] = change_points(windows, least, price)
    compared["hidden Markov model, calibrated odds"] = hidden_markov(windows, least, sd=None)
    for sd in (0.8, 1.2):
        compared[f"hidden Markov model, means fitted, sd {sd:g}"] = hidden_markov(windows, least, sd=sd)
    return compared


def change_points(windows: Windows, least: int, price: float) -> Caller:
    """`RegionCaller` with a price of a change."""

    def call(contig: Track) -> list[tuple[int, int]]:
        regions.PRICE_OF_A_CHANGE = price
        found = RegionCaller(windows, least).regions(*contig)
        return [(region.start, region.end) for region in found if region.end - region.start >= least]

    return call


def hidden_markov(windows: Windows, least: int, *, sd: float | None) -> Caller:
    """Two states with Gaussian emissions: log-odds taken at their word, or means fitted to the contig from a prior.

    Gaussians of means ± m and variance 2m have the log-likelihood ratio x at x: the calibrated odds themselves. A base
    is in ``overlap`` windows, so its evidence is divided by that.
    """
    from hmmlearn.hmm import GaussianHMM

    overlap = windows.length / windows.step
    leave_host = -np.expm1(-windows.step / HOST_RUN_BASES)
    leave_virus = -np.expm1(-windows.step / VIRUS_RUN_BASES)

    def call(contig: Track) -> list[tuple[int, int]]:
        start, end, score, length = contig
        odds = log_odds(score)[:, None]
        means = np.array([[-1.0], [1.0]]) if sd is None else np.array([[-2.0], [1.0]])
        variance = overlap * (2.0 if sd is None else sd**2)
        model = GaussianHMM(
            2, "diag", init_params="", params="" if sd is None else "m", n_iter=20,
            means_prior=means, means_weight=30_000 / windows.step,
        )  # fmt: skip
        model.startprob_ = np.array([leave_virus, leave_host]) / (leave_virus + leave_host)
        model.transmat_ = np.array([[1 - leave_host, leave_host], [leave_virus, 1 - leave_virus]])
        model.means_, model.covars_ = means.copy(), np.full((2, 1), variance)
        if sd is not None:
            model.fit(odds)
        is_viral = model.predict(odds) == int(np.argmax(model.means_))
        first, last = cells(start, end, length)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], is_viral, [0]])))
        found = [(int(first[a]), int(last[b - 1])) for a, b in zip(edges[::2], edges[1::2], strict=True)]
        return [(a, b) for a, b in found if b - a >= least]

    return call


def measured(caller: Caller, alone: list[tuple[str, Track]], with_phage: list[Any]) -> dict[str, Any]:
    """False regions per Mb of host, and the share of phages found by their length."""
    false = {name: len(found) for name, contig in alone if (found := caller(contig))}
    bases = sum(contig[3] for _, contig in alone)
    by_length: dict[str, list[bool]] = {"6 to 9 kb": [], "9 to 24 kb": [], "24 kb and more": []}
    for _, contig, (begin, end) in with_phage:
        covered = sum(max(0, min(b, end) - max(a, begin)) for a, b in caller(contig)) / (end - begin)
        length = end - begin
        name = "6 to 9 kb" if length < 9000 else "9 to 24 kb" if length < 24_000 else "24 kb and more"
        by_length[name].append(covered >= 0.5)
    return {
        "false_regions": sum(false.values()),
        "false_per_mb": round(sum(false.values()) / bases * 1e6, 3),
        "found": round(float(np.mean(list(itertools.chain(*by_length.values())))), 3),
        "found_by_length": {name: round(float(np.mean(hits)), 3) for name, hits in by_length.items() if hits},
        "false": false,
    }


if __name__ == "__main__":
    main()
