"""Test sets: a labelled FASTA file, the test split of a dataset folder, or a folder of its features.

Reading one gives the labels and all that figures are grouped by, checked before a model is loaded; the bases are read
again when they are scored. A test set's digest is its identity: two evaluations of one digest saw the same examples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from seqassay.errors import InputError
from seqassay.measure.progress import RunProgress
from seqassay.prove.settings import Unit
from seqassay.sequences.reading import InputSettings, RecordsDigest, Shard, read_shards
from seqassay.train.dataset_build import FORMAT as DATASET_FORMAT
from seqassay.train.dataset_folder import MANIFEST
from seqassay.train.feature_files import FEATURES_FILE, TEST_METADATA_FILE, FeatureSet, RecordRow, file_sha256
from seqassay.train.features import parse_header
from seqassay.train.output_folder import read_json

TEST_SPLIT, TEST_FILE = "test", "test.fa.gz"


@dataclass(frozen=True, slots=True)
class Examples:
    """The sequences of a test set, in its order; lists and arrays of one length.

    Attributes:
        labels: ``int64``, 1 for viral and 0 for others.
        genomes: what a sequence was cut from: ``genome=`` of its header, else ``record=``, else its own id.
        taxa: "" where the header gives none.
        lengths: ``int64``, in bases; None for features, which do not keep them.
    """

    ids: list[str]
    labels: npt.NDArray[np.int64]
    groups: npt.NDArray[np.str_]
    genomes: npt.NDArray[np.str_]
    taxa: npt.NDArray[np.str_]
    lengths: npt.NDArray[np.int64] | None

    def __len__(self) -> int:
        return len(self.ids)

    def units(self, unit: Unit) -> npt.NDArray[np.int64]:
        """Number of the genome or taxon of every sequence; without a taxon, a genome stands for itself."""
        names = self.genomes
        if unit == "taxon":
            names = np.where(self.taxa == "", np.char.add("genome ", self.genomes), np.char.add("taxon ", self.taxa))
        return np.unique(names, return_inverse=True)[1].reshape(-1).astype(np.int64)


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """A test set that was read and checked.

    Attributes:
        path: as it was given.
        source: the FASTA file, or the folder of features.
        digest: SHA-256 over ids, headers and bases (the same for plain and compressed files), or over the features.
        features: None for sequences.
        records_digest: as ``run.json`` has it of a run's input; None for features.
        facts: for the record.
        notes: what a reader of the figures should know.
    """

    kind: Literal["fasta", "dataset", "features"]
    path: Path
    source: Path
    digest: str
    examples: Examples
    features: FeatureSet | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    records_digest: str | None = None


def read_test_set(path: Path, progress: RunProgress | None = None) -> EvaluationSet:
    """Read labels and groups of every example, and check that files are those that their manifest lists.

    Raises:
        InputError: there is no test set, a header lacks ``label`` or ``group``, or a file was changed.
    """
    progress = progress or RunProgress()
    progress.stage = "reading the test set"
    if not path.exists():
        raise InputError("no such file or folder", path=path, hint=_WHAT_TO_GIVE)
    if not path.is_dir():
        return _sequences("fasta", path, path)
    if (path / FEATURES_FILE).is_file() or (path / TEST_METADATA_FILE).is_file():
        return _features(path)
    if (path / TEST_SPLIT / FEATURES_FILE).is_file():  # a folder of all splits' features
        return _features(path / TEST_SPLIT)
    if (path / MANIFEST).is_file():
        return _dataset(path)
    raise InputError(f"holds neither {MANIFEST} nor {TEST_METADATA_FILE}", path=path, hint=_WHAT_TO_GIVE)


def read_again(test_set: EvaluationSet) -> Iterator[Shard]:
    """The sequences of a test set in blocks of bounded memory.

    Raises:
        InputError: they are no longer those that were read before.
    """
    digest = hashlib.sha256()
    for shard in read_shards(InputSettings(paths=(str(test_set.source),))):
        _add(digest, shard)
        yield shard
    if digest.hexdigest() != test_set.digest:
        raise InputError(
            "was changed while it was being evaluated", path=test_set.source, hint="run the evaluation again"
        )


def sequences_of(test_set: EvaluationSet) -> str:
    """Where the labelled sequences of a test set are (or were, when its features were made)."""
    return str(test_set.source if test_set.features is None else test_set.features.description["input"]["path"])


_WHAT_TO_GIVE = (
    "give a labelled FASTA file, a folder of `seqassay dataset build`, or a test folder of `seqassay train features`"
)


def _sequences(kind: Literal["fasta", "dataset"], path: Path, source: Path) -> EvaluationSet:
    rows: list[RecordRow] = []
    lengths: list[npt.NDArray[np.int64]] = []
    digest, records_digest = hashlib.sha256(), RecordsDigest()
    for shard in records_digest.watch(read_shards(InputSettings(paths=(str(source),)))):
        for number, header in enumerate(shard.headers, shard.first_record + 1):
            row, _ = parse_header(header, path=source, number=number)
            rows.append(row)
        lengths.append(shard.bases.lengths)
        _add(digest, shard)
    if not rows:
        raise InputError("holds no sequence", path=source, hint=_WHAT_TO_GIVE)
    facts = {"file": source.name, "file_sha256": file_sha256(source)}
    return EvaluationSet(
        kind, path, source, digest.hexdigest(), _examples(rows, np.concatenate(lengths)), facts=facts,
        records_digest=records_digest.hexdigest(),
    )  # fmt: skip


def _dataset(folder: Path) -> EvaluationSet:
    """The test split of a dataset, which must be the file that its manifest lists."""
    manifest = read_json(folder / MANIFEST)
    hint = "build the dataset again with `seqassay dataset build`"
    if manifest.get("format") != DATASET_FORMAT:
        raise InputError(f"format is {manifest.get('format')!r}, not {DATASET_FORMAT!r}", path=folder / MANIFEST)
    listed = manifest.get("files", {}).get(TEST_FILE)
    if listed is None:
        raise InputError(f"lists no {TEST_FILE}: the dataset has no test split", path=folder / MANIFEST)
    found = file_sha256(folder / TEST_FILE)
    if found is None:
        raise InputError(f"is gone; {MANIFEST} lists it", path=folder / TEST_FILE, hint=hint)
    if found != listed["sha256"]:
        raise InputError(
            f"was changed: its SHA-256 is {found}, {MANIFEST} says {listed['sha256']}",
            path=folder / TEST_FILE,
            hint=hint,
        )
    test_set = _sequences("dataset", folder, folder / TEST_FILE)
    test_set.facts["manifest_sha256"] = file_sha256(folder / MANIFEST)
    return test_set


def _features(folder: Path) -> EvaluationSet:
    """Features of a test split, whose shards are those that their metadata list: `FeatureSet` has looked."""
    features = FeatureSet(folder)
    description = features.description
    if not (folder / TEST_METADATA_FILE).is_file():
        raise InputError(
            f"holds features of the split {description['split']!r}, not of a test set (no {TEST_METADATA_FILE})",
            path=folder,
            hint="`seqassay train features TEST.fa --split test …` makes those of a test set",
        )
    metadata = read_json(folder / TEST_METADATA_FILE)
    if (metadata.get("digest"), metadata.get("identity")) != (features.digest, features.identity):
        raise InputError(f"does not belong to the {FEATURES_FILE} beside it", path=folder / TEST_METADATA_FILE)
    rows = [row for table in features.tables() for row in table]
    if not rows:
        raise InputError("holds no record", path=folder, hint=_WHAT_TO_GIVE)
    notes = ["features do not keep lengths: there are no figures by length"]
    left_out = features.counts["frames_not_listed"]
    if left_out:
        notes.append(
            f"{left_out:,} stop-free frames are not in the features, since headers list others (frames=); "
            "`predict` would read them too"
        )
    facts = {
        "identity": features.identity,
        "encoders": description["encoders"],
        "input": description["input"],
        "counts": features.counts,
    }
    examples = _examples(rows, None)
    return EvaluationSet("features", folder, folder, features.digest, examples, features, facts, tuple(notes))


def _examples(rows: list[RecordRow], lengths: npt.NDArray[np.int64] | None) -> Examples:
    return Examples(
        ids=[row.id for row in rows],
        labels=np.array([row.label for row in rows], np.int64),
        groups=np.array([row.group for row in rows]),
        genomes=np.array([row.source for row in rows]),
        taxa=np.array([row.taxon for row in rows]),
        lengths=lengths,
    )


def _add(digest: Any, shard: Shard) -> None:
    digest.update(f"{shard.digest()}\n".encode())
