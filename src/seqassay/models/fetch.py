"""Published encoders from the Hugging Face Hub into the cache: pinned, resumable, verified, or put there by hand.

Only weights, config.json and tokenizer.json are downloaded, never code. The revision is resolved to its commit, and a
manifest with that commit and the SHA-256 of every file is written last, so a folder with a manifest is whole. A
download that was cut or killed goes on where it stopped when the command is given again: partial files are kept here
by ourselves, because since its version 2 the Hub client throws them away. `HF_ENDPOINT` names a mirror.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from seqassay.errors import ModelError, ResourceError, SeqassayError, UsageError
from seqassay.hub import NETWORK_ERRORS, download_error, download_part
from seqassay.models.bundle import file_sha256
from seqassay.models.checkpoint import read_json_object
from seqassay.models.registry import ENCODERS, PUBLISHED_BUNDLES, KnownEncoder, encoder_folder, how_to_install
from seqassay.models.weights import EncoderClass, describe_encoder, write_text_atomically

MANIFEST = "manifest.json"
DEFAULT_REVISION = "main"
_SAFE_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
_BIN_SHARD = re.compile(r"pytorch_model-\d+-of-\d+\.bin")


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """A downloaded file's size and SHA-256."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a fetched encoder is: its repository, the commit the revision meant, and its files."""

    name: str
    repo_id: str
    revision: str
    commit: str
    files: Mapping[str, FetchedFile]

    @property
    def source(self) -> str:
        """Repository and commit, as written into bundles."""
        return f"{self.repo_id}@{self.commit}"


def fetch_encoder(name: str, *, revision: str | None = None, offline: bool = False) -> Manifest:
    """Make sure a known encoder is in the cache and whole; download what is missing.

    Args:
        name: a key of ``ENCODERS``.
        revision: branch, tag or commit; without it, what is in the cache is kept, else `main` is fetched.
        offline: use the cache only, and no network.

    Returns:
        The manifest of the encoder in the cache, every file checked against it.

    Raises:
        UsageError: no such encoder, or no such revision.
        ModelError: a file in the cache was changed, or the repository does not hold what it should.
        ResourceError: not enough disk.
        SeqassayError: no network; says where the files can be put by hand.
    """
    encoder = _known(name)
    folder = encoder_folder(name)
    present = read_manifest(folder)
    if present is not None and revision in (None, present.revision, present.commit) and (offline or revision is None):
        verify_manifest(folder, present)
        return present
    if offline:
        return _adopt_by_hand(encoder, folder, revision)
    try:
        commit, sizes, digests = _look_up(encoder, revision or DEFAULT_REVISION)
        if present is not None and present.commit == commit:
            verify_manifest(folder, present)
            return present
        _check_disk(folder, sizes)
        with _only_one(folder):
            parts = {file: _download(encoder, commit, file, size, folder) for file, size in sizes.items()}
            files = _verify_parts(parts, digests)
            (folder / MANIFEST).unlink(missing_ok=True)  # until it is there again the folder is not whole
            for old in (present.files if present else {}).keys() - files.keys():
                (folder / old).unlink(missing_ok=True)  # of another revision, in another layout
            for file, part in parts.items():
                part.replace(folder / file)
            describe_encoder(folder)
            manifest = Manifest(encoder.name, encoder.repo_id, revision or DEFAULT_REVISION, commit, files)
            write_text_atomically(folder / MANIFEST, json.dumps(asdict(manifest), indent=2) + "\n")
            for left in folder.glob(".*.partial"):  # of a revision that was never finished
                left.unlink()
            return manifest
    except NETWORK_ERRORS as error:
        raise _network_failure(encoder, folder, error) from error


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a fetched encoder; None where there is none (nothing there, partial, or put there by hand)."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    said = read_json_object(path)
    try:
        files = {file: FetchedFile(int(of["size_bytes"]), str(of["sha256"])) for file, of in said["files"].items()}
        return Manifest(said["name"], said["repo_id"], said["revision"], said["commit"], files)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ModelError(f"{path}: is not a manifest: {error}", hint=f"delete {folder} and fetch it again") from error


def verify_manifest(folder: Path, manifest: Manifest) -> None:
    """Every file of the manifest is there, with its size and SHA-256; a ModelError names the first that is not."""
    for file, expected in manifest.files.items():
        path = folder / file
        if not path.is_file():
            raise ModelError(f"{path}: is missing", hint=f"delete {folder} and fetch it again")
        if path.stat().st_size != expected.size_bytes or file_sha256(path) != expected.sha256:
            raise ModelError(
                f"{path}: is not the file that was fetched (SHA-256 differs from {MANIFEST})",
                hint=f"delete {folder} and fetch it again",
            )


def choose_files(names: Iterable[str], encoder_class: EncoderClass) -> list[str]:
    """The files of a repository that are needed: one layout of the weights, safetensors before pickled ones."""
    available = set(names)
    safe = [name for name in available if _SAFE_SHARD.fullmatch(name)]
    pickled = [name for name in available if _BIN_SHARD.fullmatch(name)]
    if "model.safetensors" in available:
        weights = ["model.safetensors"]
    elif "model.safetensors.index.json" in available and safe:
        weights = ["model.safetensors.index.json", *safe]
    elif "pytorch_model.bin" in available:
        weights = ["pytorch_model.bin"]
    elif "pytorch_model.bin.index.json" in available and pickled:
        weights = ["pytorch_model.bin.index.json", *pickled]
    else:
        weights = []
    others = ["config.json", *(["tokenizer.json"] if encoder_class == "dnabert" else [])]
    missing = [name for name in others if name not in available] + ([] if weights else ["weights"])
    if missing:
        raise ModelError(f"the repository has no {' and no '.join(missing)}", hint="try another --revision")
    return sorted([*others, *weights])


def _known(name: str) -> KnownEncoder:
    if name in ENCODERS:
        return ENCODERS[name]
    if name in PUBLISHED_BUNDLES:
        raise UsageError(
            f"{name} is a bundle of two encoders and a head, and the head is in no repository to fetch from",
            hint=how_to_install(PUBLISHED_BUNDLES[name]),
        )
    raise UsageError(f"no encoder named {name!r}", hint=f"known encoders: {', '.join(ENCODERS)}")


def _look_up(encoder: KnownEncoder, revision: str) -> tuple[str, dict[str, int], dict[str, str]]:
    """The commit a revision means, and the needed files' sizes and (where the Hub knows them) SHA-256."""
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    try:
        info = api.model_info(encoder.repo_id, revision=revision, files_metadata=True)
    except RevisionNotFoundError as error:
        raise UsageError(
            f"{encoder.repo_id} has no revision {revision!r}", hint="give a branch, tag or commit"
        ) from error
    except RepositoryNotFoundError as error:
        raise UsageError(
            f"{encoder.repo_id} was not found",
            hint="is HF_ENDPOINT a mirror that lacks it, or a token needed (HF_TOKEN)?",
        ) from error
    files = {sibling.rfilename: sibling for sibling in info.siblings or []}
    chosen = choose_files(files, encoder.encoder_class)
    sizes = {name: int(files[name].size or 0) for name in chosen}
    digests = {}
    for name in chosen:
        lfs = files[name].lfs
        if lfs is not None:
            digests[name] = str(lfs["sha256"])
    return str(info.sha), sizes, digests


def _download(encoder: KnownEncoder, commit: str, name: str, size_bytes: int, folder: Path) -> Path:
    """One file under a partial name; only what is missing is asked for."""
    part = folder / f".{name}.{commit[:12]}.partial"
    download_part(encoder.repo_id, commit, name, part, size_bytes=size_bytes)
    return part


def _verify_parts(parts: Mapping[str, Path], digests: Mapping[str, str]) -> dict[str, FetchedFile]:
    """Size and SHA-256 of every downloaded file; one that is not what was published is removed."""
    files: dict[str, FetchedFile] = {}
    for name, part in parts.items():
        files[name] = FetchedFile(part.stat().st_size, file_sha256(part))
        if files[name].sha256 != digests.get(name, files[name].sha256):
            part.unlink()
            raise ModelError(
                f"{name}: what was downloaded has another SHA-256 than the published one",
                hint="give the command again; if that repeats, a proxy or mirror changes it",
            )
    return files


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Two downloads into one partial file would spoil it; the lock goes with the process that holds it."""
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"{folder}: another process is fetching into it", hint="wait for it to end") from error
        yield


def _check_disk(folder: Path, sizes: Mapping[str, int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    needed, free = max(0, sum(sizes.values()) - there), shutil.disk_usage(folder).free
    if needed > free:
        raise ResourceError(
            f"{folder}: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free",
            hint="free some disk, or name another cache folder in SEQASSAY_HOME",
        )


def _adopt_by_hand(encoder: KnownEncoder, folder: Path, revision: str | None) -> Manifest:
    """Files that someone put into the cache folder: checked for names and shapes, and given a manifest."""
    if not folder.is_dir() or revision is not None:
        wanted = encoder.repo_id + (f" at revision {revision}" if revision else "")
        raise UsageError(f"{wanted} is not in the cache", hint=_by_hand(encoder, folder))
    shape = describe_encoder(folder)
    if (shape.encoder_class, shape.n_layers, shape.d_model) != (
        encoder.encoder_class,
        encoder.n_layers,
        encoder.d_model,
    ):
        raise ModelError(
            f"{folder}: holds {shape.encoder_class} of {shape.n_layers} layers and width {shape.d_model}; "
            f"{encoder.name} has {encoder.n_layers} and {encoder.d_model}"
        )
    files = {
        path.name: FetchedFile(path.stat().st_size, file_sha256(path))
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != MANIFEST and not path.name.startswith(".")
    }
    manifest = Manifest(encoder.name, encoder.repo_id, "by hand", "unknown", files)
    write_text_atomically(folder / MANIFEST, json.dumps(asdict(manifest), indent=2) + "\n")
    return manifest


def _network_failure(encoder: KnownEncoder, folder: Path, error: BaseException) -> SeqassayError:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return ResourceError(f"{folder}: the disk is full", hint="free some, or name another cache in SEQASSAY_HOME")
    if isinstance(error, PermissionError):
        return UsageError(f"{folder}: no permission to write", hint="name another cache folder in SEQASSAY_HOME")
    return download_error(encoder.repo_id, error, without_network=_by_hand(encoder, folder))


def _by_hand(encoder: KnownEncoder, folder: Path) -> str:
    needed = "config.json, the weights" + (" and tokenizer.json" if encoder.encoder_class == "dnabert" else "")
    return f"put {needed} of {encoder.repo_id} into {folder}, then: seqassay models fetch {encoder.name} --offline"
