"""A folder of features: merged embeddings of every stop-free frame of one split, in durable shards.

``features.json`` says what they are and lists the committed shards with their SHA-256; it is rewritten whole after
every shard, so a shard is committed once it is listed, and nothing else in the folder counts. A shard is one
safetensors file:

============  ================  ===========================================================================
tensor        type, shape       content
============  ================  ===========================================================================
``merged``    float32 or bf16   nucleotide embedding, then protein embedding, of every frame
              ``[F, D]``
``labels``    int64 ``[F]``     1 for viral, 0 for others
``record``    int64 ``[F]``     number of the frame's FASTA record in the split's file, from 0
``chunk``     int64 ``[F]``     number of its chunk over the whole split, from 0; chunks without a frame count
``frame``     uint8 ``[F]``     0 to 5 for F1 F2 F3 R1 R2 R3
``table``     uint8             JSON list of the shard's records: ``[id, source, group, taxon, label]``
============  ================  ===========================================================================

Shape letters: F frames, D merged width, B frames of a batch.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from seqassay import digests
from seqassay.durable import TEMPORARY_SUFFIX, write_durably
from seqassay.errors import InputError
from seqassay.predict.shards import check_identity
from seqassay.train.output_folder import read_json, write_json

FORMAT, VERSION = "seqassay-features", "1.0"
FEATURES_FILE = "features.json"
TEST_METADATA_FILE = "test_metadata.json"
COUNTS = (
    "records",
    "records_without_frame",
    "viral_records",
    "chunks",
    "chunks_with_frame",
    "frames",
    "viral_frames",
    "frames_not_listed",  # stop-free, but not among the record's frames=
    "listed_frames_not_stop_free",  # among frames=, but with a stop (or no whole codon) under this genetic code
)

logger = logging.getLogger(__name__)


class RecordRow(NamedTuple):
    """One FASTA record as a shard's table keeps it; ``source`` is the genome (or record) it was cut from."""

    id: str
    source: str
    group: str
    taxon: str
    label: int


@dataclass(frozen=True, slots=True)
class FeatureShard:
    """What a shard holds; the names are those of the head of this module."""

    index: int
    merged_FD: Tensor
    labels_F: npt.NDArray[np.int64]
    record_F: npt.NDArray[np.int64]
    chunk_F: npt.NDArray[np.int64]
    frame_F: npt.NDArray[np.uint8]
    table: list[RecordRow]
    counts: Mapping[str, int]


class FeatureWriter:
    """Commits shards to a folder, in order, and knows which of them an earlier run has committed."""

    def __init__(self, folder: Path, description: Mapping[str, Any]) -> None:
        """Prepare to write; nothing is touched before `begin` or `resume`.

        Args:
            folder: of one split.
            description: the keys of ``features.json`` but status, counts, files and digest; ``identity`` in it decides
                what may be gone on with.
        """
        self.folder = folder
        self._content: dict[str, Any] = {"format": FORMAT, "version": VERSION, "status": "running", **description}
        self._content |= {"counts": dict.fromkeys(COUNTS, 0), "files": []}

    @property
    def counts(self) -> dict[str, int]:
        """Over all committed shards."""
        counts: dict[str, int] = self._content["counts"]
        return counts

    def begin(self) -> None:
        """Start from the first shard; what an earlier run left in the folder is removed."""
        (self.folder / FEATURES_FILE).unlink(missing_ok=True)  # first: shards that nothing lists are no features
        (self.folder / TEST_METADATA_FILE).unlink(missing_ok=True)
        for pattern in ("shard-*.safetensors", f"*{TEMPORARY_SUFFIX}"):
            for path in self.folder.glob(pattern):
                path.unlink()
        write_json(self.folder / FEATURES_FILE, self._content)

    def resume(self) -> bool:
        """Take over the shards of an earlier run of the same identity; whether that run was done.

        Raises:
            UsageError: the folder holds features of another identity; names every difference.
        """
        found = read_json(self.folder / FEATURES_FILE)
        check_identity(found.get("identity", {}), self._content["identity"], self.folder)
        if found.get("status") == "done":
            return True
        for entry in found.get("files", []):
            if file_sha256(self.folder / entry["name"]) != entry["sha256"]:
                logger.warning("%s is damaged or gone: it and what follows is made again", self.folder / entry["name"])
                break
            self._add(entry)
        return False

    @property
    def n_committed(self) -> int:
        """Shards committed so far: also the index of the next one."""
        return len(self._content["files"])

    def commit(self, shard: FeatureShard) -> None:
        """Make one shard durable, then list it.

        Raises:
            OSError: on a full disk and the like; the shards before it stay committed.
        """
        name = f"shard-{shard.index:06d}.safetensors"
        tensors = {
            "merged": shard.merged_FD.contiguous(),
            "labels": torch.from_numpy(shard.labels_F),
            "record": torch.from_numpy(shard.record_F),
            "chunk": torch.from_numpy(shard.chunk_F),
            "frame": torch.from_numpy(shard.frame_F),
            "table": torch.frombuffer(
                bytearray(json.dumps(shard.table, ensure_ascii=False).encode()), dtype=torch.uint8
            ),
        }
        data = save(tensors, {"format": "pt"})
        write_durably(self.folder / name, [data])
        self._add(
            {
                "name": name,
                "sha256": hashlib.sha256(data).hexdigest(),
                "bytes": len(data),
                "counts": dict(shard.counts),
            }
        )
        write_json(self.folder / FEATURES_FILE, self._content)

    def finish(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        """Set the status to done, with the digest over all shards; returns what ``features.json`` says."""
        files = "".join(f"{entry['name']} {entry['sha256']}\n" for entry in self._content["files"])
        self._content |= {"status": "done", "digest": hashlib.sha256(files.encode()).hexdigest(), **extra}
        if self._content["split"] == "test":
            keys = ("split", "identity", "encoders", "bundle", "input", "counts", "files", "digest")
            write_json(
                self.folder / TEST_METADATA_FILE,
                {
                    "format": "seqassay-test-metadata",
                    "version": VERSION,
                    "labels": {"others": 0, "virus": 1},
                    **{key: self._content[key] for key in keys},
                },
            )
        write_json(self.folder / FEATURES_FILE, self._content)
        return self._content

    def _add(self, entry: dict[str, Any]) -> None:
        self._content["files"].append(entry)
        for name in COUNTS:
            self.counts[name] += entry["counts"][name]


class FeatureSet:
    """The features in one folder, mapped into memory: rows are read from the disk when a batch needs them."""

    def __init__(self, folder: Path | str) -> None:
        """Open a finished folder, and read it through once: what is trained on is what the digest is of.

        Raises:
            InputError: no features, unfinished, of another version, or a shard that is missing, cut or changed.
        """
        self.folder = Path(folder)
        self.description = _read_description(self.folder)
        self.identity: dict[str, Any] = self.description["identity"]
        self.counts: dict[str, int] = self.description["counts"]
        self.digest: str = self.description["digest"]
        self._merged: list[Tensor] = []
        parts: dict[str, list[npt.NDArray[Any]]] = {"labels": [], "chunk": []}
        for entry in self.description["files"]:
            tensors = self._open_shard(entry)
            if (found := file_sha256(self.folder / entry["name"])) != entry["sha256"]:
                raise InputError(
                    f"was changed: its SHA-256 is {found}, {FEATURES_FILE} says {entry['sha256']}",
                    path=self.folder / entry["name"],
                    hint=self._rebuild_hint(),
                )
            self._merged.append(tensors["merged"])
            for name, arrays in parts.items():
                arrays.append(tensors[name].numpy().copy())
        self._first_row = np.concatenate([[0], np.cumsum([len(merged) for merged in self._merged])])
        self.labels_F = torch.from_numpy(np.concatenate(parts["labels"]))
        self.chunk_F = torch.from_numpy(np.concatenate(parts["chunk"]))

    def __len__(self) -> int:
        return len(self.labels_F)

    @property
    def merged_dim(self) -> int:
        """Width D of the merged embedding."""
        return int(self.identity["merged_dim"])

    def rows(self, indices_B: npt.NDArray[np.int64]) -> Tensor:
        """Merged embeddings ``[B, D]`` of these frames, float32, in this order."""
        x_BD = torch.empty(len(indices_B), self.merged_dim)
        shard_B = np.searchsorted(self._first_row, indices_B, side="right") - 1
        for shard in np.unique(shard_B).tolist():
            here = np.flatnonzero(shard_B == shard)
            rows = torch.from_numpy(indices_B[here] - self._first_row[shard])
            x_BD[torch.from_numpy(here)] = self._merged[shard][rows].float()
        return x_BD

    def tables(self) -> Iterator[list[RecordRow]]:
        """The records of every shard in turn, so that the whole table is never in memory."""
        for entry in self.description["files"]:
            table = self._open_shard(entry)["table"]
            yield [RecordRow(*row) for row in json.loads(table.numpy().tobytes())]

    def _open_shard(self, entry: Mapping[str, Any]) -> dict[str, Tensor]:
        """Tensors of a shard; ``merged`` is mapped, not read."""
        path = self.folder / entry["name"]
        try:
            n_bytes = path.stat().st_size
            if n_bytes != entry["bytes"]:
                raise InputError(
                    f"has {n_bytes} bytes, {FEATURES_FILE} says {entry['bytes']}", path=path, hint=self._rebuild_hint()
                )
            with safe_open(path, framework="pt", device="cpu") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        except (OSError, SafetensorError) as error:
            said = (error.strerror if isinstance(error, OSError) else None) or error
            raise InputError(f"cannot be read: {said}", path=path, hint=self._rebuild_hint()) from error

    def _rebuild_hint(self) -> str:
        return f"make the features again:\n  {self.rebuild_command()}"

    def rebuild_command(self, like: Mapping[str, Any] | None = None) -> str:
        """The command that makes the features of this input again, with the models that made ``like``'s features."""
        description = like or self.description
        encoders, split = description["encoders"], self.description["split"]
        words = ["seqassay", "train", "features", self.description["input"]["path"], "-o", str(self.folder)]
        if description["bundle"]:
            words += ["--model", description["bundle"]["path"]]
        else:
            words += ["--nucleotide", encoders["nucleotide"]["path"], "--protein", encoders["protein"]["path"]]
            words += ["--chunk-length", str(description["identity"]["chunk_length"])]
        if not Path(self.description["input"]["path"]).name.startswith(split):  # else the name says it
            words += ["--split", split]
        return shlex.join([*words, "--force"])


def check_same_models(first: FeatureSet, other: FeatureSet) -> None:
    """Refuse two sets whose features were not made alike.

    Raises:
        InputError: names both folders, what differs with both values, and the command that rebuilds the second.
    """
    differences = []
    for name in ("merged_dim", "nucleotide", "protein", "chunk_length", "chunk_rule", "genetic_code", "ambiguity"):
        a, b = first.identity[name], other.identity[name]
        if a != b:
            differences.append(f"{name.replace('_', ' ')}: {_shown(first, name)} there, {_shown(other, name)} here")
    if differences:
        raise InputError(
            f"features made differently from those in {first.folder}: {'; '.join(differences)}",
            path=other.folder,
            hint=f"make them again with the same models:\n  {other.rebuild_command(first.description)}",
        )


def _shown(features: FeatureSet, name: str) -> str:
    if name not in ("nucleotide", "protein"):
        return str(features.identity[name])
    encoder = features.identity[name]
    return f"{features.description['encoders'][name]['name']} ({encoder['d_model']} wide, {encoder['digest'][:12]})"


def file_sha256(path: Path) -> str | None:
    """As `digests.file_sha256`; None where there is no file."""
    try:
        return digests.file_sha256(path)
    except FileNotFoundError:
        return None


_NO_FEATURES = "give a folder that `seqassay train features` made, with features.json in it"


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / FEATURES_FILE
    if not path.is_file():
        splits = sorted(place.parent.name for place in folder.glob(f"*/{FEATURES_FILE}"))
        which = f"; it has them below: {', '.join(splits)}" if splits else ""
        raise InputError(f"holds no features (no {FEATURES_FILE}){which}", path=folder, hint=_NO_FEATURES)
    description = read_json(path)
    major = str(description.get("version", "")).split(".")[0]
    if description.get("format") != FORMAT or major != VERSION.split(".")[0]:
        raise InputError(
            f"is {description.get('format')!r} version {description.get('version')!r}; "
            f"this seqassay reads {FORMAT!r} version {VERSION.split('.')[0]}.x",
            path=path,
            hint="make the features again with `seqassay train features`",
        )
    if description.get("status") != "done":
        raise InputError(
            "the features are not complete: their run was stopped",
            path=folder,
            hint="go on with it: give its `seqassay train features` command again with --resume",
        )
    return description
