"""Train the classifier on features: the main path of ``seqassay train head``."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

import seqassay
from seqassay.config import check_at_least, settings_as_json
from seqassay.durable import TEMPORARY_SUFFIX, disk_errors
from seqassay.engine.precision import resolve_device
from seqassay.errors import InputError, ModelError, UsageError, require_package
from seqassay.measure.provenance import device_name, provenance, utc_now
from seqassay.models.bundle import Bundle, write_bundle
from seqassay.models.head import ClassifierHead
from seqassay.models.identity import digest_of_encoder
from seqassay.models.weights import load_head
from seqassay.predict.shards import check_identity
from seqassay.predict.stop import command_to_resume
from seqassay.train.feature_files import FeatureSet, RecordRow, check_same_models, file_sha256
from seqassay.train.head_file import HeadMetadata, load_trained_head, save_trained_head
from seqassay.train.head_metrics import binary_metrics, chunk_consensus
from seqassay.train.head_recipes import HeadRecipe, recipe_named
from seqassay.train.output_folder import only_writer, read_json, write_json

if TYPE_CHECKING:
    from seqassay.train.head_checkpoint import BestAndCheckpoint

HEAD_FILE = "head.safetensors"
TRAINING_FILE = "training.json"
CHECKPOINT_FILE = "checkpoint.ckpt"
FORMAT, VERSION = "seqassay-head-training", "1.0"
_OURS = (HEAD_FILE, TRAINING_FILE, "metrics.csv", CHECKPOINT_FILE, "tensorboard")
_FRAMES_AT_A_TIME = 4096

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class HeadSettings:
    """Everything ``seqassay train head`` can be told; the names are those of the command's options.

    Raises:
        UsageError: a value out of its range, or settings that exclude each other.
    """

    train: Path  # folders that `train features` made
    valid: Path
    output_dir: Path
    test: Path | None = None  # evaluated once, after training
    recipe: str = "default"
    seed: int | None = None  # this and the four below: None leaves the recipe's
    max_epochs: int | None = None
    batch_size: int | None = None  # frames
    learning_rate: float | None = None
    patience: int | None = None  # epochs
    init: Path | None = None  # a head to begin with
    taxa_apart: bool = False  # refuse a taxon that is in two sets
    bundle: Path | None = None  # write a bundle here
    name: str | None = None  # the bundle's; its folder's by default
    nucleotide: Path | None = None  # where the bundle's encoders are now, if not where the features were made
    protein: Path | None = None
    device: str = "cpu"  # a head is small: a graphics card gains little
    threads: int | None = None
    checkpoint_every: int = 1000  # optimizer steps, within an epoch; every epoch's end is committed in any case
    resume: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        check_at_least(self, threads=1, checkpoint_every=1)
        if self.resume and self.force:
            raise UsageError("--resume and --force exclude each other")

    def resolved_recipe(self) -> HeadRecipe:
        """The named recipe with what was changed in it."""
        names = ("seed", "max_epochs", "batch_size", "learning_rate", "patience")
        return recipe_named(self.recipe, **{name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class HeadResult:
    """A finished training.

    Attributes:
        record: what ``training.json`` says.
        was_done: ``--resume`` found it finished, and nothing was trained.
    """

    folder: Path
    record: dict[str, Any]
    was_done: bool = False


@dataclass(frozen=True, slots=True)
class Sets:
    """The feature sets of one training, checked to belong together and to be apart."""

    train: FeatureSet
    valid: FeatureSet
    test: FeatureSet | None


def train_head(settings: HeadSettings) -> HeadResult:
    """Train a head, restore its best weights, save it with its metadata, evaluate it, put it into a bundle.

    Raises:
        MissingExtraError: Lightning is not installed.
        UsageError: settings that cannot work; the output folder holds something else.
        InputError: sets that overlap, of one class, or of other models than each other.
        ModelError: a loss or weights that are not finite; names the step.
        ResourceError: the disk is full; what was committed is kept.
    """
    require_package("lightning", extra="train", purpose="training a head")
    recipe = settings.resolved_recipe()
    device = resolve_device(settings.device)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    with disk_errors(command_to_resume("train head", settings)):
        check_output(settings)
        sets = open_sets(settings)
        start = load_trained_head(settings.init, sets.train.identity)[0] if settings.init else None
        check_bundle_place(settings, sets.train)
        identity = training_identity(settings, recipe, sets, device)
        with only_writer(settings.output_dir):
            if (done := finished_before(settings, identity)) is not None:
                if finish(settings, sets, load_head(settings.output_dir / HEAD_FILE), done):
                    write_json(settings.output_dir / TRAINING_FILE, done)
                (settings.output_dir / CHECKPOINT_FILE).unlink(missing_ok=True)
                return HeadResult(settings.output_dir, done, was_done=True)
            return HeadResult(settings.output_dir, run_training(settings, recipe, sets, start, device, identity))


def run_training(
    settings: HeadSettings,
    recipe: HeadRecipe,
    sets: Sets,
    start: ClassifierHead | None,
    device: torch.device,
    identity: dict[str, Any],
) -> dict[str, Any]:
    """The part that takes time; returns what ``training.json`` says, which comes last."""
    from seqassay.train.head_loop import run_loop

    folder, began = settings.output_dir, time.monotonic()
    record: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "status": "running",
        "identity": identity,
        "settings": settings_as_json(settings),
        "recipe": asdict(recipe),
        "recipe_changes": recipe.changes(),
        "sets": {name: describe_set(features) for name, features in named(sets) if name != "test"},
        "device": device_name(device),
        "provenance": provenance(),
        "started_at": utc_now(),
    }
    write_json(folder / TRAINING_FILE, record)
    head, kept = run_loop(
        recipe,
        sets.train,
        sets.valid,
        folder,
        start=start,
        device=device,
        checkpoint_every=settings.checkpoint_every,
    )
    save_trained_head(head, folder / HEAD_FILE, head_metadata(recipe, sets))
    record |= {
        "training": describe_training(kept),
        "validation": evaluate_head(head, sets.valid),
        "test": None,
        "head": {"path": HEAD_FILE, **head_metadata(recipe, sets).as_text()},
        "bundle": None,
    }
    finish(settings, sets, head, record)
    record["seconds"] = round(time.monotonic() - began, 3)
    record["status"] = "done"
    write_json(folder / TRAINING_FILE, record)
    (folder / CHECKPOINT_FILE).unlink(missing_ok=True)  # last: until now a resumed run would need it
    return record


def finish(settings: HeadSettings, sets: Sets, head: ClassifierHead, record: dict[str, Any]) -> bool:
    """What was asked for beside training and is not in the record yet: the test, the bundle. Whether there was any."""
    to_test, to_bundle = sets.test is not None and not record["test"], settings.bundle and not record["bundle"]
    if sets.test is not None and to_test:
        record["test"] = evaluate_head(head, sets.test)
        record["sets"]["test"] = describe_set(sets.test)
    if to_bundle:
        bundle = bundle_with(settings, sets.train)
        record["bundle"] = {"name": bundle.name, "path": str(bundle.path), "digest": bundle.digest}
    return bool(to_test or to_bundle)


def check_output(settings: HeadSettings) -> None:
    """Refuse a folder with something in it, unless told to go on there or to replace what training made.

    Raises:
        UsageError: says what is there.
    """
    folder = settings.output_dir
    if not folder.is_dir():
        return
    content = sorted(path.name for path in folder.iterdir() if not path.name.endswith(TEMPORARY_SUFFIX))
    foreign = [name for name in content if name not in _OURS]
    if foreign:
        raise UsageError(
            f"{folder}: the output folder holds something else ({foreign[0]})", hint="choose another --output-dir"
        )
    if content and not (settings.resume or settings.force):
        raise UsageError(
            f"{folder}: holds a training already",
            hint="go on with it (--resume), replace it (--force), or choose another --output-dir",
        )


def open_sets(settings: HeadSettings) -> Sets:
    """Open the feature sets and check them against each other.

    Raises:
        InputError: other models, one class, or records (or, if asked for, taxa) in two sets.
    """
    sets = Sets(
        FeatureSet(settings.train),
        FeatureSet(settings.valid),
        FeatureSet(settings.test) if settings.test is not None else None,
    )
    for name, features in named(sets):
        check_same_models(sets.train, features)
        check_classes(features, needs_both=name != "test")
    if len(sets.train) < 2:
        raise InputError("one frame is not enough to train on", path=sets.train.folder)
    check_apart(sets, taxa_too=settings.taxa_apart)
    return sets


def named(sets: Sets) -> list[tuple[str, FeatureSet]]:
    """The sets that there are, by their names."""
    return [
        (name, features)
        for name, features in (("train", sets.train), ("valid", sets.valid), ("test", sets.test))
        if features is not None
    ]


def check_classes(features: FeatureSet, *, needs_both: bool) -> None:
    """Refuse a set without frames, or with those of one class only.

    Raises:
        InputError: says which class there is.
    """
    if not len(features):
        raise InputError("has no stop-free frame", path=features.folder, hint="give a set with frames")
    viral = int(features.labels_F.sum())
    if needs_both and viral in (0, len(features)):
        which = "viral" if viral else "other"
        raise InputError(
            f"all of its {len(features):,} frames are {which}: a classifier needs both classes",
            path=features.folder,
            hint="build the dataset with label=viral and label=other records in every split",
        )


def check_apart(sets: Sets, *, taxa_too: bool) -> None:
    """Refuse sets that share a source record, or a taxon: figures on the second would be of memory, not of skill.

    Raises:
        InputError: names both sets and some of what they share.
    """

    def sources(row: RecordRow) -> str:
        return row.source

    def taxa(row: RecordRow) -> str:
        return row.taxon

    for what, key in (("record", sources), ("taxon", taxa)) if taxa_too else (("record", sources),):
        seen: dict[str, FeatureSet] = {}
        for _, features in named(sets):
            here = {key(row) for table in features.tables() for row in table} - {""}
            shared = sorted(here & seen.keys())
            if shared:
                some = ", ".join(shared[:3]) + (f" and {len(shared) - 3:,} more" if len(shared) > 3 else "")
                raise InputError(
                    f"{len(shared):,} {what if len(shared) == 1 else 'records' if what == 'record' else 'taxa'} "
                    f"of {seen[shared[0]].folder} "
                    f"{'is' if len(shared) == 1 else 'are'} in it too: {some}",
                    path=features.folder,
                    hint="split the dataset by record or taxon first: `seqassay dataset build`",
                )
            seen |= dict.fromkeys(here, features)


def training_identity(settings: HeadSettings, recipe: HeadRecipe, sets: Sets, device: torch.device) -> dict[str, Any]:
    """Everything that the trained weights depend on."""
    return {
        "seqassay": seqassay.__version__,
        "recipe": asdict(recipe),
        "train": sets.train.digest,
        "valid": sets.valid.digest,
        "init": None if settings.init is None else file_sha256(settings.init),
        "device": device.type,
    }


def finished_before(settings: HeadSettings, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The record of this very training where it is done; makes the folder ready to go on or to begin.

    Raises:
        UsageError: the folder holds another training; names what differs.
    """
    folder = settings.output_dir
    path = folder / TRAINING_FILE
    if settings.force or not path.is_file():
        for name in (TRAINING_FILE, HEAD_FILE, CHECKPOINT_FILE, "metrics.csv"):
            (folder / name).unlink(missing_ok=True)
        return None
    found = read_json(path)
    check_identity(found.get("identity", {}), identity, folder)
    return found if found.get("status") == "done" else None


def head_metadata(recipe: HeadRecipe, sets: Sets) -> HeadMetadata:
    """What the head's file says of itself."""
    identity, encoders = sets.train.identity, sets.train.description["encoders"]
    changes = ", ".join(f"{key}={value}" for key, value in recipe.changes().items() if key != "seed")
    return HeadMetadata(
        merged_dim=identity["merged_dim"],
        nucleotide=encoders["nucleotide"]["name"],
        nucleotide_digest=identity["nucleotide"]["digest"],
        protein=encoders["protein"]["name"],
        protein_digest=identity["protein"]["digest"],
        chunk_length=identity["chunk_length"],
        recipe=f"{recipe.name} ({changes})" if changes else recipe.name,
        seed=recipe.seed,
        training_data=sets.train.digest,
        validation_data=sets.valid.digest,
        seqassay=seqassay.__version__,
    )


def describe_set(features: FeatureSet) -> dict[str, Any]:
    """A set as the record keeps it."""
    return {"folder": str(features.folder), "digest": features.digest, "counts": features.counts}


def describe_training(kept: BestAndCheckpoint) -> dict[str, Any]:
    """How the training went."""
    return {
        "epochs": len(kept.history),
        "steps": kept.history[-1]["step"],
        "best_epoch": kept.best_epoch,
        "best_validation_loss": kept.best_loss,
        "history": kept.history,
    }


@torch.inference_mode()
def evaluate_head(head: ClassifierHead, features: FeatureSet) -> dict[str, Any]:
    """Metrics of a head on a set, over its frames and over its chunks by the consensus of `predict`.

    A chunk's score is max P(virus) / (max P(virus) + max P(others)) over its frames; it is called viral from 0.5.
    Chunks without a frame are in no figure; ``counts`` says how many there are.
    """
    logits = [
        head(features.rows(np.arange(first, min(first + _FRAMES_AT_A_TIME, len(features)))))
        for first in range(0, len(features), _FRAMES_AT_A_TIME)
    ]
    scores_F = torch.softmax(torch.cat(logits).double(), dim=1)[:, 1].numpy()
    labels_F = features.labels_F.numpy()
    scores_N, first_N = chunk_consensus(scores_F, features.chunk_F.numpy())
    return {
        "frames": binary_metrics(labels_F, scores_F),
        "chunks": binary_metrics(labels_F[first_N], scores_N, scores_N >= 0.5),
        "records": features.counts["records"],
        "records_without_frame": features.counts["records_without_frame"],
    }


def check_bundle_place(settings: HeadSettings, train: FeatureSet) -> None:
    """Find out before training whether the bundle can be written after it.

    Raises:
        UsageError: there is a bundle already.
        ModelError: an encoder is not where it was, or is another one.
    """
    if settings.bundle is None:
        return
    if settings.bundle.exists() and not (settings.force or settings.resume):
        raise UsageError(f"{settings.bundle}: exists already", hint="choose another --bundle, or replace it (--force)")
    encoder_folders(settings, train)


def encoder_folders(settings: HeadSettings, train: FeatureSet) -> dict[Literal["nucleotide", "protein"], Path]:
    """Where the encoders that made the features are, each checked by its digest.

    Raises:
        ModelError: gone, or not the one that made the features.
    """
    folders: dict[Literal["nucleotide", "protein"], Path] = {}
    given: dict[Literal["nucleotide", "protein"], Path | None]
    given = {"nucleotide": settings.nucleotide, "protein": settings.protein}
    for kind, path in given.items():
        place = path or Path(train.description["encoders"][kind]["path"])
        if not place.exists():
            raise ModelError(
                f"{place}: the {kind} encoder that made the features is no longer there",
                hint=f"say where it is: --{kind} DIR, or leave --bundle out",
            )
        digest = digest_of_encoder(place)
        wanted = train.identity[kind]["digest"]
        if digest != wanted:
            raise ModelError(
                f"{place}: is not the {kind} encoder that made the features: its digest is {digest[:12]}, "
                f"theirs {wanted[:12]}",
                hint=f"give the right one (--{kind} DIR), or make the features again:\n  {train.rebuild_command()}",
            )
        folders[kind] = place
    return folders


def bundle_with(settings: HeadSettings, train: FeatureSet) -> Bundle:
    """Put the trained head's file and the encoders that made its features into a bundle."""
    assert settings.bundle is not None
    folders, identity = encoder_folders(settings, train), train.identity
    encoders = train.description["encoders"]
    return write_bundle(
        settings.bundle,
        name=settings.name or settings.bundle.name,
        nucleotide=folders["nucleotide"],
        protein=folders["protein"],
        head=settings.output_dir / HEAD_FILE,
        chunk_length=identity["chunk_length"],
        chunk_rule=identity["chunk_rule"],
        genetic_code=identity["genetic_code"],
        ambiguity=identity["ambiguity"],
        precision=identity["precision"],
        description=f"head trained by seqassay, recipe {settings.recipe}",
        nucleotide_source=encoders["nucleotide"]["name"],
        protein_source=encoders["protein"]["name"],
        replace=settings.force or settings.resume,
    )
