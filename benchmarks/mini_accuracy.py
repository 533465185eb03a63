"""How good is `mini`? Every figure of its card, on fragments of taxa, families and a study that training never saw.

    python benchmarks/mini_accuracy.py --data ../shared/data/genomes --bundle mini --baselines build/baselines

Fragments of 100 to 3000 bases are drawn once from every record of the split (``evaluation_chunks``) and scored along
the path that `predict` takes. Figures: ROC-AUC, average precision and the metrics of a validation report at the default
threshold,
overall, by group and by family; with a stop-free frame, without one, and all; plain and with groups balanced;
calibration; made-up sequences; samples of known composition; speed. Baselines (`train_baselines.py`) score the same
fragments at 150, 300, 500 and 1000 bases, and differences to them are paired. Intervals: 95%, bootstrap over records
and over taxa (metagenome contigs: records). Records that share more than 10% of their sampled 31-mers with an earlier
split are left out of everything.

With --keep-scores FOLDER, scores stay there by weights, calibration and sequences, and an interrupted run goes on from
them; empty the folder when the program has changed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from _mini_figures import Resampling, ScoredFragments, fragment_figures, number, share
from _mini_floor import error_of_all_lengths, errors_over_taxa
from _mini_mixes import count_by, fdr_mixes
from _mini_scores import scores_digest
from baseline_models import BASELINES, Baseline, baseline_path, load_baseline
from seqassay import __version__
from seqassay.durable import write_durably
from seqassay.evaluate.uncertainty import share_interval
from seqassay.measure.provenance import provenance, utc_now
from seqassay.models.bundle import Bundle, load_bundle
from seqassay.predict.scoring import SequenceScorer, call_sequences, evidence_of
from seqassay.sequences.ragged import Ragged
from seqassay.train.dataset import LabelledRecords, evaluation_chunks, read_labelled, taxon_numbers
from seqassay.train.dataset_known import unknown_records
from seqassay.train.encoders import MINI_GROUP_WEIGHTS
from seqassay.train.made_up import KIND_SHARES
from seqassay.train.made_up_probes import made_up_sequences

LENGTHS = (100, 150, 250, 300, 500, 1000, 3000)
BASELINE_LENGTHS = (150, 300, 500, 1000)
SEED = 2026
SPEED_LENGTH = 150
MADE_UP_LENGTHS = (150, 300, 500)
N_MADE_UP = 1000  # of a kind and length
_BLOCK_BASES, _BLOCK_SEQUENCES = 2_000_000, 8192  # scored at a time, about a shard of `predict`


@dataclass(frozen=True, slots=True)
class Scores:
    """What a bundle says of sequences; see `ScoredFragments` for ``score`` and ``raw``."""

    score: npt.NDArray[np.float64]
    raw: npt.NDArray[np.float64]
    n_frames: npt.NDArray[np.int64]


class MainPath:
    """Scores as `predict` prints them, kept on disk where a folder is given."""

    def __init__(self, bundle: Bundle, threads: int, kept_in: Path | None) -> None:
        self.bundle, self.kept_in = bundle, kept_in
        self._scorer = SequenceScorer(bundle, device="cpu", threads=threads)

    def score(self, name: str, bases: Ragged) -> Scores:
        """Scores of sequences, read back where these sequences had them before."""
        if self.kept_in is None:
            return self._compute(bases)
        sequences = hashlib.sha256(bases.values.tobytes() + bases.offsets.tobytes()).hexdigest()
        path = self.kept_in / f"{name}_{scores_digest(self.bundle)[:16]}_{sequences[:16]}.npz"
        if not path.exists():
            scores = self._compute(bases)
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial.npz")
            np.savez(partial, score=scores.score, raw=scores.raw, n_frames=scores.n_frames)
            partial.replace(path)
        with np.load(path, allow_pickle=False) as file:
            return Scores(file["score"], file["raw"], file["n_frames"])

    def threshold(self, bases: Ragged, scores: Scores) -> npt.NDArray[np.float64]:
        """The score from which each of the sequences is called viral by default."""
        return self.bundle.thresholds.of(bases.lengths, scores.n_frames > 0)

    def probabilities(self, name: str, bases: Ragged) -> npt.NDArray[np.float64]:
        """The scores alone."""
        return self.score(name, bases).score

    def _compute(self, bases: Ragged) -> Scores:
        parts = [self._one_block(bases.take(rows)) for rows in blocks(bases)]
        return Scores(*(np.concatenate([getattr(part, name) for part in parts]) for name in Scores.__slots__))

    def _one_block(self, bases: Ragged) -> Scores:
        scored = self._scorer.scored(bases)
        calls = call_sequences(scored, self.bundle.calibration, self.bundle.thresholds)[1]
        evidence = evidence_of(scored)
        log_odds = np.where(np.isnan(evidence.joint), evidence.nucleotide, evidence.joint)
        return Scores(calls.score, 1 / (1 + np.exp(-log_odds)), calls.n_frames)  # log-odds lie within ± 30


def blocks(bases: Ragged) -> Iterator[npt.NDArray[np.int64]]:
    """Sequences in order, in blocks of bounded memory."""
    block = np.maximum(bases.offsets[1:] // _BLOCK_BASES, np.arange(len(bases)) // _BLOCK_SEQUENCES)
    cuts = np.flatnonzero(np.diff(block)) + 1
    return iter(np.split(np.arange(len(bases)), cuts))


@dataclass(frozen=True, slots=True)
class Split:
    """Labelled records with their taxa numbered, each metagenome contig as one of its own."""

    records: LabelledRecords
    taxa: npt.NDArray[np.int64]

    @classmethod
    def of(cls, records: LabelledRecords) -> Split:
        """Number the taxa."""
        return cls(records, taxon_numbers(records))


def read_splits(data: Path, reported: str) -> tuple[dict[str, LabelledRecords], dict[str, Any]]:
    """What was trained and validated with, and the reported split without what those know already."""
    names = ("train", "valid") if reported == "valid" else ("train", "valid", "test")
    files = {name: read_labelled(data / f"{name}.fa.gz") for name in names}
    found = unknown_records(files.pop(reported), files)
    return {**files, reported: found.records}, found.facts


def scored_fragments(
    split: Split, length: int, model: MainPath, baselines: dict[str, Baseline], *, per_record: int, name: str
) -> ScoredFragments:
    """Fragments of one length, scored by the bundle and by every baseline of that length."""
    chunks = evaluation_chunks(split.records, length, seed=SEED, max_per_record=per_record)
    scores = model.score(f"{name}_{length}", chunks.bases)
    return ScoredFragments(
        labels=chunks.labels,
        record=chunks.record,
        taxa=split.taxa[chunks.record],
        groups=split.records.groups[chunks.record],
        families=split.records.families[chunks.record],
        has_frame=scores.n_frames > 0,
        score=scores.score,
        raw=scores.raw,
        threshold=model.threshold(chunks.bases, scores),
        baselines={name: baseline.score(chunks.bases) for name, baseline in baselines.items()},
    )


def baselines_at(length: int, folder: Path, missing: list[dict[str, Any]]) -> dict[str, Baseline]:
    """The trained baselines of one length; those that are not trained yet are added to ``missing``."""
    found = {}
    for name in BASELINES if length in BASELINE_LENGTHS else ():
        if baseline_path(name, length, folder).exists():
            found[name] = load_baseline(name, length, folder)
        else:
            missing.append({"name": name, "length": length})
            print(f"missing: {name} for {length} bases in {folder} (benchmarks/train_baselines.py)", flush=True)
    return found


def made_up_figures(split: Split, model: MainPath, n: int) -> dict[str, Any]:
    """Share called viral of sequences that no organism has, by kind and length."""
    out: dict[str, Any] = {}
    for length in MADE_UP_LENGTHS:
        real = evaluation_chunks(split.records, length, seed=SEED, max_per_record=1)
        for i, (kind, made_of, bases) in enumerate(made_up_sequences(real, length, n=n, seed=SEED)):
            scores = model.score(f"made_up_{i}_{length}", bases)
            called = scores.score >= model.threshold(bases, scores)
            low, high = share_interval(int(called.sum()), len(called))
            out.setdefault(kind, {"made_of": made_of, "by_length": {}})["by_length"][str(length)] = {
                "n": len(called),
                "with_frame": share(scores.n_frames > 0),
                "scored": share(~np.isnan(scores.score)),
                "called_viral": share(called),
                "called_viral_interval": [number(low), number(high)],
                "called_viral_at_0.5": share(scores.score >= 0.5),
            }
    return out


def speed(split: Split, model: MainPath, threads: int, n_reads: int) -> dict[str, Any]:
    """Fragments a second from bases to calls, models loaded; three runs after a warm-up."""
    chunks = evaluation_chunks(split.records, SPEED_LENGTH, seed=SEED + 1, bases_per_chunk=500, max_per_record=20)
    chosen = np.random.default_rng(SEED).permutation(len(chunks))[:n_reads]
    bases = chunks.bases.take(chosen)
    scorer = SequenceScorer(model.bundle, device="cpu", threads=threads)
    scorer.calls(bases.take(np.arange(min(512, len(bases)))))
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        scorer.calls(bases)
        seconds.append(time.perf_counter() - started)
    return {
        "length": SPEED_LENGTH,
        "n_reads": len(bases),
        "threads": threads,
        "seconds": [round(value, 4) for value in seconds],
        "fragments_per_s": round(len(bases) / float(np.median(seconds)), 1),
        "load_average_before": round(os.getloadavg()[0], 2),
    }


def describe_bundle(bundle: Bundle) -> dict[str, Any]:
    """What the bundle is made of, from its own files."""
    files = [path for path in bundle.path.rglob("*") if path.is_file()]
    configs = {
        kind: json.loads((folder / "config.json").read_text(encoding="utf-8"))
        for kind, folder in (("nucleotide", bundle.nucleotide_path), ("protein", bundle.protein_path))
    }
    keys = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size", "vocab_size")
    nucleotide_head = bundle.load_nucleotide_head()
    return {
        "name": bundle.name,
        "digest": bundle.digest,
        "version": bundle.version,
        "bytes": sum(path.stat().st_size for path in files),
        "chunk_length": bundle.chunk_length,
        "chunk_rule": bundle.chunk_rule,
        "genetic_code": bundle.genetic_code,
        "ambiguity": bundle.ambiguity,
        "precision": bundle.precision,
        "encoders": {kind: {key: said.get(key) for key in keys} for kind, said in configs.items()},
        "sources": {"nucleotide": bundle.nucleotide.source, "protein": bundle.protein.source},
        "merged_dim": bundle.merged_dim,
        "hidden_units": bundle.load_head().hidden_layer.out_features,
        "nucleotide_head": None if nucleotide_head is None else nucleotide_head.hidden_layer.out_features,
        "calibration": None if bundle.calibration is None else bundle.calibration.as_json(),
    }


def describe_data(splits: dict[str, LabelledRecords]) -> dict[str, Any]:
    """Records, bases and taxa by split and group; viral families; taxon names that test and train share."""
    train, reported = splits["train"], list(splits.values())[-1]
    shared = np.isin(reported.taxa, train.taxa) & (reported.taxa != "")
    return {
        "by_split": {name: by_group(split) for name, split in splits.items()},
        "viral_families": {name: count_by(split.families[split.labels == 1]) for name, split in splits.items()},
        "taxon_names_shared_with_train": {
            group: {
                "taxa": len(np.unique(reported.taxa[shared & (reported.groups == group)])),
                "records": int((shared & (reported.groups == group)).sum()),
                "of_records": int((reported.groups == group).sum()),
            }
            for group in np.unique(reported.groups[shared]).tolist()
        },
    }


def by_group(records: LabelledRecords) -> dict[str, dict[str, int | str]]:
    """Records, bases and taxa of every group."""
    lengths = records.bases.lengths
    return {
        group: {
            "label": "viral" if records.labels[of_group][0] else "other",
            "records": int(of_group.sum()),
            "bases": int(lengths[of_group].sum()),
            "taxa": len(np.unique(records.taxa[of_group])),
        }
        for group in np.unique(records.groups).tolist()
        for of_group in [records.groups == group]
    }


def read_ablation(path: Path, bundle: Bundle) -> dict[str, Any]:
    """The record of `mini_ablation.py`, as it is."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if found.get("scores_digest") != scores_digest(bundle):
        raise SystemExit(f"{path}: is of the scores {found.get('scores_digest')}, not of {scores_digest(bundle)}")
    return found


def read_history(path: Path) -> dict[str, Any]:
    """A training in brief: how long it was, and which state has the best validation figure."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    best = max(rows, key=lambda row: float(row["selection"]))
    return {
        "part": path.stem.removeprefix("mini_training_").replace("_", "-"),
        "steps": rows[-1]["step"],
        "minutes": round(rows[-1]["seconds"] / 60, 1),
        "best": best,
    }


def digests(paths: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of files by name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def to_text(record: dict[str, Any]) -> str:
    """Indented JSON with lists of numbers on one line; a NaN is an error."""
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    return re.sub(r"\[[^\[\]{}\"]*\]", lambda found: re.sub(r"\s+", " ", found[0]), text) + "\n"


def parse() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("SEQASSAY_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=shared / "genomes", help="default: $SEQASSAY_DATA/genomes")
    parser.add_argument("--bundle", default="mini")
    parser.add_argument("--split", default="test", choices=("test", "valid"), help="valid: to try the script out")
    parser.add_argument("--baselines", type=Path, default=Path("build/baselines"), help="by train_baselines.py")
    parser.add_argument("--ablation", type=Path, help="JSON that goes into the record as it is")
    parser.add_argument("--histories", type=Path, nargs="*", default=[], help="mini_training_PART.jsonl, to sum up")
    parser.add_argument("--keep-scores", type=Path, metavar="FOLDER", help="to go on from after an interruption")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--lengths", type=int, nargs="+", default=list(LENGTHS), help="fewer: to try the script out")
    parser.add_argument("--per-record", type=int, default=6, help="most fragments of a record")
    parser.add_argument("--n-bootstrap", type=int, default=1000)
    parser.add_argument("--n-made-up", type=int, default=N_MADE_UP, help="of every kind and length")
    parser.add_argument("--n-mix", type=int, default=20_000, help="fragments of a mix")
    parser.add_argument("--n-speed", type=int, default=4096, help="reads to time")
    parser.add_argument("--output", type=Path, default=Path(f"benchmarks/results/{__version__}/mini_accuracy.json"))
    return parser.parse_args()


def main() -> None:
    """Score, measure, write the record."""
    options = parse()
    if not options.data.is_dir():
        print(f"skipped: the labelled genomes are not here (no {options.data}; set SEQASSAY_DATA)")
        return
    torch.set_num_threads(options.threads)
    splits, left_out = read_splits(options.data, options.split)
    split = Split.of(splits[options.split])
    print(f"left out as known: {left_out['n_left_out']} of {left_out['of_records']} records", flush=True)
    model = MainPath(load_bundle(options.bundle), options.threads, options.keep_scores)
    ablation = read_ablation(options.ablation, model.bundle) if options.ablation else None
    resampling = Resampling(options.n_bootstrap, SEED)
    record: dict[str, Any] = {
        "kind": "mini_accuracy",
        "schema": 4,
        "package_version": __version__,
        "made": utc_now(),
        "split": options.split,
        "seed": SEED,
        "n_bootstrap": options.n_bootstrap,
        "threshold": model.bundle.thresholds.as_json(),
        "fragments_per_record": options.per_record,
        "group_weights": MINI_GROUP_WEIGHTS,
        "provenance": provenance(),
        "inputs_sha256": digests(options.data / f"{name}.fa.gz" for name in splits),
        "bundle": describe_bundle(model.bundle),
        "data": describe_data(splits),
        "left_out_as_known": left_out,
        "speed": speed(split, model, options.threads, options.n_speed),
        "training": [read_history(path) for path in options.histories],
        "ablation": ablation,
    }
    print(f"speed: {record['speed']['fragments_per_s']} fragments/s", flush=True)
    missing: list[dict[str, Any]] = []
    settings: dict[str, Any] = {}
    record["by_length"] = {}
    all_lengths: list[ScoredFragments] = []
    for length in options.lengths:
        baselines = baselines_at(length, options.baselines, missing)
        for name, baseline in baselines.items():
            settings.setdefault(name, {})[str(length)] = {"settings": baseline.settings, "trials": baseline.trials}
        fragments = scored_fragments(split, length, model, baselines, per_record=options.per_record, name=options.split)
        figures = fragment_figures(fragments, MINI_GROUP_WEIGHTS, resampling)
        figures["calibration"]["over_taxa"] = errors_over_taxa(fragments, resampling)
        record["by_length"][str(length)] = figures
        all_lengths.append(fragments)
        print(length, summary(figures), flush=True)
    record["calibration_of_all_lengths"] = error_of_all_lengths(all_lengths, resampling)
    record["baselines"] = {"names": list(BASELINES), "missing": missing, "trained": settings}
    record["made_up"] = made_up_figures(split, model, options.n_made_up)
    record["made_up_in_training"] = list(KIND_SHARES)
    record["fdr_mixes"] = fdr_mixes(
        split.records, model.probabilities, model.bundle.calibration, resampling, size=options.n_mix
    )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_durably(options.output, [to_text(record).encode()])
    print(f"wrote {options.output}")


def summary(figures: dict[str, Any]) -> str:
    """A line for whoever waits."""
    found = figures["populations"]["all"]
    if "plain" not in found:
        return f"{figures['n_drawn']} fragments: {found['reason']}"
    differences = [f"{name} {its['roc_auc']['difference']:+.3f}" for name, its in found["plain"]["baselines"].items()]
    line = f"{found['n']:,} of {figures['n_drawn']:,} fragments, ROC-AUC {found['plain']['roc_auc']:.3f}"
    return ", ".join([line, *differences])


if __name__ == "__main__":
    main()
