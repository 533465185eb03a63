"""The main path of ``seqassay train encoders``: labelled records in, a calibrated bundle of small encoders out."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from seqassay.config import check_at_least
from seqassay.durable import disk_errors, write_durably
from seqassay.engine.precision import resolve_device
from seqassay.errors import InputError, UsageError
from seqassay.measure.provenance import device_name, provenance, utc_now
from seqassay.models.bundle import Bundle, file_sha256
from seqassay.train.calibrate import check_enough
from seqassay.train.dataset import LABELS, LabelledRecords, read_labelled
from seqassay.train.encoder_bundle import SIDES, Plan, build_bundle, train_part
from seqassay.train.encoders import (
    MINI_NUCLEOTIDE,
    MINI_NUCLEOTIDE_FINISH,
    MINI_PROTEIN,
    PRETRAINING,
    Recipe,
    default_group_weights,
)

logger = logging.getLogger(__name__)

RECORD = "training.json"
BUNDLE = "bundle"
SPLITS = ("train", "valid")
_SUFFIXES = (".fa.gz", ".fasta.gz", ".fa", ".fasta")


@dataclass(frozen=True, kw_only=True)
class EncoderSettings:
    """Everything ``seqassay train encoders`` can be told; the names are those of the command's options.

    Raises:
        UsageError: a value out of its range.
    """

    dataset: Path  # folder with labelled records of the splits train and valid; a test split is never read
    output_dir: Path
    name: str | None = None  # the bundle's; the output folder's by default
    steps: int = Recipe.steps  # of each encoder
    pretrain_steps: int = 0  # masked tokens before the labels
    finish_steps: int = 1500  # of the nucleotide encoder, with made-up sequences, at the end
    max_minutes: float | None = None  # for each part of the training
    seed: int = Recipe.seed
    device: str = "auto"  # auto, cpu, cuda, cuda:N
    threads: int | None = None

    def __post_init__(self) -> None:
        check_at_least(self, steps=1, pretrain_steps=0, finish_steps=0, threads=1, seed=0)
        if self.max_minutes is not None and not self.max_minutes > 0:
            raise UsageError(f"--max-minutes is {self.max_minutes:g}; it has to be more than 0")


def train_encoders(settings: EncoderSettings) -> Bundle:
    """Train both encoders part by part, join them, calibrate, and write the bundle below the output folder.

    The same command goes on from the checkpoints that it finds; with other settings it refuses.

    Raises:
        UsageError, InputError: settings or records that cannot work; said before anything is trained.
        ModelError: checkpoints of another recipe, or training that went wrong.
        ResourceError: the disk is full; checkpoints are kept.
    """
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    device = resolve_device(settings.device)
    files = {split: find_split(settings.dataset, split) for split in SPLITS}
    records = {split: read_labelled(file) for split, file in files.items()}
    check_records(records, files)
    check_enough(records["valid"])
    plan = plan_of(settings, records["train"], records["valid"])
    with disk_errors(path=settings.output_dir):
        settings.output_dir.mkdir(parents=True, exist_ok=True)
        for part in plan.recipes:
            train_part(plan, part, records["train"], records["valid"], settings.output_dir, device=device)
        bundle = build_bundle(
            plan,
            records["train"],
            records["valid"],
            settings.output_dir,
            settings.output_dir / BUNDLE,
            threads=settings.threads,
            device=device,
        )
        record = training_record(settings, plan, records, files, bundle) | {"device": device_name(device)}
        said = json.dumps(record, indent=1) + "\n"
        write_durably(settings.output_dir / RECORD, [said.encode()])
    return bundle


def find_split(folder: Path, split: str) -> Path:
    """The split's file in a dataset folder."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: is no folder", hint="`seqassay dataset build` makes one")
    for suffix in _SUFFIXES:
        if (folder / f"{split}{suffix}").is_file():
            return folder / f"{split}{suffix}"
    raise UsageError(f"{folder}: has no {split}.fa.gz", hint="`seqassay dataset build` writes one for every split")


def check_records(records: dict[str, LabelledRecords], files: dict[str, Path]) -> None:
    """Both labels in both splits, and no genome in two of them.

    Raises:
        InputError: names the file, and a record.
    """
    for split, found in records.items():
        missing = [name for name, label in LABELS.items() if not (found.labels == label).any()]
        if missing:
            raise InputError(f"no record with label={missing[0]}; both labels are needed", path=files[split])
    seen = set(records["train"].ids) | set(records["train"].genomes) | set(_contents(records["train"]))
    valid = records["valid"]
    known = zip(valid.ids, valid.genomes, _contents(valid), strict=True)
    both = [names[0] for names in known if not seen.isdisjoint(names)]
    if both:
        raise InputError(
            f"{both[0]}, its genome or its sequence is in {files['train'].name} as well ({len(both):,} such records)",
            path=files["valid"],
            hint="split by genome: `seqassay dataset build --split-by genome`, or taxon, or study",
        )


def longest_to_draw(train: LabelledRecords, valid: LabelledRecords) -> int:
    """The most bases that a chunk can have in both splits and labels.

    Raises:
        InputError: too few to train on.
    """
    longest = [int(found.bases.lengths[found.labels == label].max()) for found in (train, valid) for label in (0, 1)]
    shortest = min(longest)
    if shortest < min(Recipe.lengths):
        raise InputError(
            f"the longest records of one label have {shortest} bases; training draws at least {min(Recipe.lengths)}"
        )
    return shortest


def plan_of(settings: EncoderSettings, train: LabelledRecords, valid: LabelledRecords) -> Plan:
    """Recipes of all parts for these records."""
    most = longest_to_draw(train, valid)
    lengths = tuple(length for length in Recipe.lengths if length <= most)
    weights = default_group_weights(train)
    common: dict[str, Any] = {
        "seed": settings.seed,
        "lengths": lengths,
        "evaluation_lengths": tuple(n for n in Recipe.evaluation_lengths if n <= most) or lengths[:1],
        "group_weights": weights,
    }
    if settings.max_minutes is not None:
        common["max_minutes"] = settings.max_minutes
    recipes: dict[str, Recipe] = {}
    for side, main in zip(SIDES, (MINI_NUCLEOTIDE, MINI_PROTEIN), strict=True):
        if settings.pretrain_steps:
            recipes[f"{side}-pretrain"] = replace(main, **PRETRAINING, **common, steps=settings.pretrain_steps)
        recipes[side] = replace(main, **common, steps=settings.steps)
    if settings.finish_steps:
        recipes["nucleotide-finish"] = replace(MINI_NUCLEOTIDE_FINISH, **common, steps=settings.finish_steps)
    # groups that training never saw have no weight of their own; they count like the average one
    unseen = set(valid.groups.tolist()) - set(weights)
    return Plan(
        recipes=recipes,
        group_weights=weights | dict.fromkeys(sorted(unseen), sum(weights.values()) / len(weights)),
        name=settings.name or settings.output_dir.resolve().name,
        description="small encoders and heads trained by `seqassay train encoders`",
        source=f"trained by `seqassay train encoders`, seed {settings.seed}",
    )


def training_record(
    settings: EncoderSettings,
    plan: Plan,
    records: dict[str, LabelledRecords],
    files: dict[str, Path],
    bundle: Bundle,
) -> dict[str, Any]:
    """What was trained on what, and how it went, as JSON types."""
    history = {
        part: [json.loads(line) for line in (settings.output_dir / part / "history.jsonl").read_text().splitlines()]
        for part in plan.recipes
    }
    return {
        "kind": "train_encoders",
        "written_at": utc_now(),
        "bundle": {"name": bundle.name, "digest": bundle.digest, "path": str(bundle.path)},
        "data": describe_records(records, files),
        "recipes": {part: asdict(recipe) for part, recipe in plan.recipes.items()},
        "history": history,
        "provenance": provenance(),
    }


def describe_records(records: dict[str, LabelledRecords], files: dict[str, Path]) -> dict[str, Any]:
    """File, SHA-256 and counts of every split."""
    return {
        split: {
            "file": str(files[split]),
            "sha256": file_sha256(files[split]),
            "records": len(found),
            "viral_records": int(found.labels.sum()),
            "bases": int(found.bases.lengths.sum()),
        }
        for split, found in records.items()
    }


def _contents(records: LabelledRecords) -> Iterator[bytes]:
    return (bases.tobytes() for bases in records.bases)
