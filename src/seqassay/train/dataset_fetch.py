"""RefSeq release files into a folder: resumable, checked, and never waiting for ever.

A release is a folder on NCBI's server with a file ``RELEASE_NUMBER``, a folder for every group of organisms
(``viral/viral.1.1.genomic.fna.gz``), and ``release-catalog/release230.files.installed``, which lists MD5 checksums and
file names. Files are downloaded under a name that ends in ``.partial`` and holds the release's number; whatever stops
the download, the same command goes on with an HTTP Range request. ``fetch.json`` is rewritten after every file.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import json
import logging
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import seqassay
from seqassay.durable import disk_errors, sync, write_durably
from seqassay.errors import InputError, SeqassayError, UsageError
from seqassay.train.dataset_download import FetchProgress, Patience, download, read_text
from seqassay.train.dataset_sources import FETCH_MANIFEST

BASE_URL = "https://ftp.ncbi.nlm.nih.gov/refseq/release/"
FORMAT, VERSION = "seqassay-fetch", 1
FileKind = Literal["gbff", "fna"]

# RefSeq's folders, and the label and group that their records get
GROUPS = {
    "viral": ("viral", "virus"),
    "vertebrate_mammalian": ("other", "vertebrate"),
    "vertebrate_other": ("other", "vertebrate"),
    "protozoa": ("other", "protozoa"),
    "plant": ("other", "plant"),
    "invertebrate": ("other", "invertebrate"),
    "fungi": ("other", "fungi"),
    "bacteria": ("other", "bacteria"),
    "archaea": ("other", "archaea"),
}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a release: group, name, address, and its MD5 where the release lists it."""

    refseq_group: str
    name: str
    url: str
    md5: str | None


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """A downloaded and checked file; ``checked`` says by what: ``md5`` or, where none is listed, ``gzip`` (its CRC)."""

    name: str
    refseq_group: str
    label: str
    group: str
    url: str
    bytes: int
    sha256: str
    md5: str
    checked: str


def list_release(
    groups: Sequence[str],
    *,
    kind: FileKind = "gbff",
    max_files: int | None = None,
    base_url: str = BASE_URL,
    patience: Patience | None = None,
) -> tuple[int, list[RemoteFile]]:
    """The current release's number, and its files of the groups, in their order.

    Raises:
        UsageError: an unknown group or address.
        SeqassayError: the server cannot be reached, or its answer is no release.
    """
    unknown = [group for group in groups if group not in GROUPS]
    if unknown or not groups:
        what = f"no RefSeq group {unknown[0]!r}" if unknown else "no group given"
        raise UsageError(what, hint=f"known groups: {', '.join(GROUPS)}")
    if urlsplit(base_url).scheme not in ("http", "https"):
        raise UsageError(f"{base_url}: is no address", hint="it begins with https:// or http://")
    patience = patience or Patience()
    base = base_url.rstrip("/") + "/"
    said = read_text(base + "RELEASE_NUMBER", patience)
    if not re.fullmatch(r"\s*\d{1,6}\s*", said or ""):
        raise SeqassayError(f"{base}RELEASE_NUMBER: is not there or no number", hint="is --base-url a RefSeq release?")
    release = int(said or "0")
    checksums = _checksums(base, release, patience)
    files = []
    for group in dict.fromkeys(groups):
        listing = read_text(f"{base}{group}/", patience)
        pattern = rf'href="(?:[^"]*/)?({re.escape(group)}\.[\d.]+\.genomic\.{kind}\.gz)"'
        names = sorted(set(re.findall(pattern, listing or "")), key=_natural)
        if not names:
            raise SeqassayError(f"{base}{group}/: lists no {group}.*.genomic.{kind}.gz")
        folder_url = f"{base}{group}/"
        files += [RemoteFile(group, name, folder_url + name, checksums.get(name)) for name in names[:max_files]]
    return release, files


def fetch_release(
    folder: Path,
    groups: Sequence[str],
    *,
    kind: FileKind = "gbff",
    max_files: int | None = None,
    base_url: str = BASE_URL,
    patience: Patience | None = None,
    progress: FetchProgress | None = None,
) -> dict[str, Any]:
    """Download a release's files of some groups; what is there already is kept, what was cut is gone on with.

    Args:
        folder: made if it is not there; files lie flat in it.
        groups: keys of `GROUPS`.
        kind: GenBank with annotation, or FASTA.
        max_files: of every group; None for all (bacteria: more than a terabyte).
        base_url: the server's release folder.
        patience: timeouts and attempts.
        progress: written while it runs.

    Returns:
        The manifest, as in ``fetch.json``.

    Raises:
        UsageError: an unknown group, another release in the folder, another fetch working there.
        ResourceError: the disk is full, or too small for the next file.
        SeqassayError: the network or the server fails for good; what was downloaded is kept.
    """
    patience, progress = patience or Patience(), progress or FetchProgress()
    progress.note = "asking for the list of files"
    release, files = list_release(groups, kind=kind, max_files=max_files, base_url=base_url, patience=patience)
    with disk_errors("the same command"), _only_one(folder):
        known = _known_files(folder, release, base_url)
        progress.n_files = len(files)
        for number, file in enumerate(files, 1):
            progress.file, progress.file_number, progress.note = file.name, number, ""
            if not _is_there(folder, file, known):
                known[file.name] = _fetch_file(folder, file, release, patience, progress)
            is_last = number == len(files)
            manifest = _write_manifest(folder, release, base_url, known, complete=is_last)
    return manifest


def _fetch_file(
    folder: Path, file: RemoteFile, release: int, patience: Patience, progress: FetchProgress
) -> FetchedFile:
    part = folder / f".{file.name}.r{release}.partial"
    for attempt in (1, 2):
        size = download(file.url, part, patience, progress)
        progress.note = "checking"
        sha256, md5, is_gzip = _digests(part)
        if (md5 == file.md5) if file.md5 else is_gzip:
            break
        part.unlink()
        what = f"has the MD5 {md5}, the release lists {file.md5}" if file.md5 else "is no whole gzip file"
        if attempt == 2:
            raise SeqassayError(f"{file.url}: {what}, twice", hint="a proxy or a mirror may change it: see --base-url")
        log.warning("%s: %s; downloading it again", file.name, what)
    part.replace(folder / file.name)
    sync(folder)
    label, group = GROUPS[file.refseq_group]
    checked = "md5" if file.md5 else "gzip"
    return FetchedFile(file.name, file.refseq_group, label, group, file.url, size, sha256, md5, checked)


def _digests(path: Path) -> tuple[str, str, bool]:
    """SHA-256, MD5, and whether the file is whole gzip (its own checksums hold)."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(1 << 22):
            sha256.update(piece)
            md5.update(piece)
    try:
        with gzip.open(path) as packed:
            while packed.read(1 << 22):
                pass
    except (OSError, EOFError, zlib.error):
        return sha256.hexdigest(), md5.hexdigest(), False
    return sha256.hexdigest(), md5.hexdigest(), True


def _is_there(folder: Path, file: RemoteFile, known: dict[str, FetchedFile]) -> bool:
    """Whether a file was fetched before and still is what it was; a changed one is fetched again."""
    path, expected = folder / file.name, known.get(file.name)
    if expected is None or not path.is_file() or path.stat().st_size != expected.bytes:
        return False
    if _digests(path)[0] == expected.sha256 and file.md5 in (None, expected.md5):
        return True
    log.warning("%s: was changed since it was fetched; downloading it again", path)
    return False


def _known_files(folder: Path, release: int, base_url: str) -> dict[str, FetchedFile]:
    path = folder / FETCH_MANIFEST
    if not path.exists():
        return {}
    try:
        said = json.loads(path.read_bytes())
        found, files = int(said["release"]), {file["name"]: FetchedFile(**file) for file in said["files"]}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"is not the manifest of a fetch: {error}", path=path, hint="delete it") from None
    if found != release:
        raise UsageError(
            f"{folder}: holds files of release {found}, and {base_url} has release {release} now",
            hint="releases don't mix: choose another -o",
        )
    return files


def _write_manifest(
    folder: Path, release: int, base_url: str, files: dict[str, FetchedFile], *, complete: bool
) -> dict[str, Any]:
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "seqassay": seqassay.__version__,
        "base_url": base_url,
        "release": release,
        "complete": complete,
        "files": [asdict(files[name]) for name in sorted(files, key=_natural)],
    }
    write_durably(folder / FETCH_MANIFEST, [(json.dumps(manifest, indent=1) + "\n").encode()])
    return manifest


def _checksums(base: str, release: int, patience: Patience) -> dict[str, str]:
    """MD5 by file name, as the release lists them; empty where it doesn't."""
    text = read_text(f"{base}release-catalog/release{release}.files.installed", patience, is_optional=True)
    if text is None:
        log.warning("the release lists no checksums; files are checked by their size and gzip's own checksum")
        return {}
    return {name: md5.lower() for md5, name in re.findall(r"^([0-9a-fA-F]{32})\s+(\S+)\s*$", text, re.MULTILINE)}


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Make the folder and keep a second fetch out: two downloads into one partial file would spoil it."""
    if os.path.lexists(folder) and not folder.is_dir():
        raise UsageError(f"{folder}: a file is in the way of this folder", hint="choose another -o")
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{folder}: another fetch is working there", hint="wait for it, or stop it") from None
        except OSError:
            log.info("%s: cannot be locked", folder)  # some network file systems have no locks
        yield
    finally:
        os.close(descriptor)


def _natural(name: str) -> list[tuple[int, str]]:
    """viral.2 before viral.10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]
