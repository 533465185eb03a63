"""Bundles: everything a score depends on, in one folder with one identity.

``bundle.json`` names the encoders, the head, chunk length, translation rule and precision, and the SHA-256 of every
file. The bundle's digest is the SHA-256 of all of that but names and sources, so two bundles with the same digest give
the same scores. It is written into every output.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, cast

from seqassay import digests
from seqassay.durable import swap_in
from seqassay.errors import ModelError, ResourceError, UsageError
from seqassay.models.calibration import Calibration
from seqassay.models.checkpoint import open_checkpoint, read_json_object
from seqassay.models.head import ClassifierHead
from seqassay.models.identity import Kind
from seqassay.models.registry import BUNDLE_FILE, locate_bundle
from seqassay.models.thresholds import ARGMAX, CallThresholds
from seqassay.models.trained_head import check_fits_bundle, trained_on
from seqassay.models.weights import (
    EncoderClass,
    describe_encoder,
    load_head,
    save_head,
    write_text_atomically,
)
from seqassay.sequences.genetic_codes import codon_table

FORMAT = "seqassay-bundle"
# 2.1 added the nucleotide head and a calibration that is not null, 2.2 thresholds, 2.3 the best frames' weight in a
# calibration; all are read.
VERSION = "2.3"
HEAD_FILE = "head.safetensors"
NUCLEOTIDE_HEAD_FILE = "nucleotide_head.safetensors"
HOW_FILES_ARE_TAKEN = Literal["copy", "link"]

_KEYS: dict[str, type | tuple[type, ...]] = {
    "format": str,
    "version": str,
    "name": str,
    "description": str,
    "nucleotide": dict,
    "protein": dict,
    "head": dict,
    "nucleotide_head": (dict, type(None)),
    "merged_dim": int,
    "chunk_length": int,
    "chunk_rule": str,
    "translation": dict,
    "precision": str,
    "calibration": (dict, type(None)),
    "threshold": (str, float, dict),
    "files": dict,
    "digest": str,
}
_SINCE_2_1 = {"nucleotide_head": None}  # and what a 2.0 description means
_PRECISIONS = ("float32", "bf16", "fp16", "exact")


@dataclass(frozen=True, slots=True)
class BundledEncoder:
    """One encoder of a bundle: its folder, its class, its width and where it came from."""

    path: Path
    encoder_class: EncoderClass
    d_model: int
    source: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose description was checked (and, unless told otherwise, every byte of its files).

    Attributes:
        digest: SHA-256 over the description, which holds the SHA-256 of every file; the identity of its scores.
        chunk_length: in bases.
        genetic_code: NCBI table number.
        ambiguity: what becomes of a codon with an ambiguous base, `drop` or `X`.
        precision: the number format its published figures were measured in.
        nucleotide_head_path: head on the nucleotide embedding alone, for sequences without a stop-free frame; or None.
        calibration: turns evidence into probabilities; None: scores are VirNucPro's.
        thresholds: scores from which a sequence is called virus, unless a run asks for another rule.
        files: SHA-256 by path relative to the bundle's folder.
    """

    name: str
    path: Path
    digest: str
    version: str
    description: str
    nucleotide: BundledEncoder
    protein: BundledEncoder
    head_path: Path
    nucleotide_head_path: Path | None
    calibration: Calibration | None
    merged_dim: int
    chunk_length: int
    chunk_rule: Literal["even", "reference"]
    genetic_code: int
    ambiguity: Literal["drop", "X"]
    precision: str
    thresholds: CallThresholds
    files: Mapping[str, str]

    @property
    def nucleotide_path(self) -> Path:
        """Folder of the nucleotide encoder."""
        return self.nucleotide.path

    @property
    def protein_path(self) -> Path:
        """Folder of the protein encoder."""
        return self.protein.path

    def load_head(self) -> ClassifierHead:
        """The classifier head, in ``eval`` mode; a ModelError when it is not as wide as the two encoders together."""
        head = load_head(self.head_path)
        if head.input_dim != self.merged_dim:
            raise ModelError(
                _dimension_message(self.path, self.nucleotide.d_model, self.protein.d_model, head.input_dim)
            )
        trained_for = self.head_metadata().get("chunk_length", str(self.chunk_length))
        if trained_for != str(self.chunk_length):
            raise ModelError(
                f"{self.head_path}: was trained on chunks of {trained_for} bases, not the bundle's {self.chunk_length}",
                hint=_INSTALL_AGAIN,
            )
        return head

    def head_metadata(self) -> dict[str, str]:
        """What the head says of its training (`train head` writes it); empty for heads that say nothing."""
        return trained_on(self.head_path)

    def load_nucleotide_head(self) -> ClassifierHead | None:
        """The head on the nucleotide embedding alone, in ``eval`` mode; None in bundles without one."""
        if self.nucleotide_head_path is None:
            return None
        head = load_head(self.nucleotide_head_path)
        if head.input_dim != self.nucleotide.d_model:
            raise ModelError(
                f"{self.nucleotide_head_path}: takes {head.input_dim} values, the nucleotide encoder gives "
                f"{self.nucleotide.d_model}"
            )
        return head


def load_bundle(name_or_path: str | Path, *, verify: bool = True) -> Bundle:
    """Find a bundle by name (`mini`, an imported one) or by its folder, and check it.

    Args:
        name_or_path: a name that `seqassay models list` shows, or a folder.
        verify: also read every file and compare its SHA-256 (a gigabyte takes about a second).

    Raises:
        UsageError: there is no such bundle.
        ModelError: another major version, a setting missing, unknown or of a wrong value, a file missing, unlisted
            or changed, dimensions that do not fit.
    """
    folder = locate_bundle(str(name_or_path))
    description = folder / BUNDLE_FILE
    try:
        if not description.is_file():
            raise ModelError(f"{folder}: is no bundle: it has no {BUNDLE_FILE}", hint=_HOW_TO_MAKE)
    except PermissionError as error:
        raise ModelError(f"{folder}: no permission to read it", hint="change its permissions (chmod)") from error
    said = read_json_object(description)
    _check_version(description, said)
    if said["version"] == "2.0":
        said = {**_SINCE_2_1, **said}
    _check_keys(description, said)
    bundle = _parse(folder, description, said)
    _check_digest(description, said)
    check_files(folder, bundle.files, hash_them=verify)
    if bundle.nucleotide.d_model + bundle.protein.d_model != bundle.merged_dim:
        raise ModelError(
            _dimension_message(description, bundle.nucleotide.d_model, bundle.protein.d_model, bundle.merged_dim)
        )
    return bundle


def write_bundle(
    folder: Path | str,
    *,
    name: str,
    nucleotide: Path | str,
    protein: Path | str,
    head: ClassifierHead | Path | str,
    chunk_length: int,
    chunk_rule: Literal["even", "reference"] = "even",
    genetic_code: int = 1,
    ambiguity: Literal["drop", "X"] = "drop",
    precision: str = "float32",
    nucleotide_head: ClassifierHead | None = None,
    calibration: Calibration | None = None,
    thresholds: CallThresholds | None = None,
    description: str = "",
    nucleotide_source: str = "",
    protein_source: str = "",
    files_by: HOW_FILES_ARE_TAKEN = "copy",
    replace: bool = False,
) -> Bundle:
    """Put two encoders and a head into a bundle folder, which appears whole or not at all.

    Args:
        folder: the bundle's folder; its parents are made.
        nucleotide, protein: folder or weight file of each encoder; the nucleotide one has its tokenizer.json beside it.
        head: a head, or a file of one (ours or the published pickle, which becomes safetensors). The file of a
            trained head is taken as it is, with what it says of its training.
        chunk_length: in bases; reads are cut to it.
        nucleotide_head: head on the nucleotide embedding alone, for sequences without a stop-free frame.
        calibration: fitted with exactly these weights.
        thresholds: fitted with exactly this calibration; None: 0.5, the class of the higher probability.
        nucleotide_source, protein_source: where the weights came from (a repository and revision, a training run).
        files_by: `copy`, or `link`: a hard link where the file system allows one, else a symbolic link, so that an
            11 GB encoder is not stored twice. A linked file that changes later is noticed by its SHA-256.
        replace: replace a bundle that is already there.

    Raises:
        UsageError: the folder exists, or cannot be written.
        ResourceError: the disk is full.
        ModelError: an encoder of the wrong class, incomplete, or dimensions that do not fit the head; a head that says
            that it was trained on other encoders or another chunk length.
    """
    folder = Path(folder)
    codon_table(genetic_code)  # a bundle that cannot translate is never written
    if folder.exists() and not replace:
        raise UsageError(f"{folder}: exists already", hint="choose another name, or replace it (--force)")
    shapes = {"nucleotide": describe_encoder(nucleotide), "protein": describe_encoder(protein)}
    for kind, wanted in (("nucleotide", "dnabert"), ("protein", "esm2")):
        if shapes[kind].encoder_class != wanted:
            raise ModelError(f"{shapes[kind].path}: is of class {shapes[kind].encoder_class}; {kind} needs {wanted}")
    widths = (shapes["nucleotide"].d_model, shapes["protein"].d_model)
    trained_head = None
    if not isinstance(head, ClassifierHead):
        if said_of_head := trained_on(head):
            trained_head = Path(head)
            encoders: dict[Kind, Path | str] = {"nucleotide": nucleotide, "protein": protein}
            check_fits_bundle(head, said_of_head, encoders, merged_dim=sum(widths), chunk_length=chunk_length)
        head = load_head(head)
    if sum(widths) != head.input_dim:
        raise ModelError(_dimension_message(folder, *widths, head.input_dim))
    staging = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        for kind, source in (("nucleotide", nucleotide), ("protein", protein)):
            (staging / kind).mkdir(parents=True)
            for file in _files_of_encoder(Path(source), with_tokenizer=kind == "nucleotide"):
                _take(file, staging / kind / file.name, files_by)
        if trained_head is None:
            save_head(head, staging / HEAD_FILE)
        else:
            shutil.copyfile(trained_head, staging / HEAD_FILE)
        if nucleotide_head is not None:
            save_head(nucleotide_head, staging / NUCLEOTIDE_HEAD_FILE)
        said: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "name": name,
            "description": description,
            "nucleotide": {"path": "nucleotide", "class": "dnabert", "d_model": widths[0], "source": nucleotide_source},
            "protein": {"path": "protein", "class": "esm2", "d_model": widths[1], "source": protein_source},
            "head": {"path": HEAD_FILE, "input_dim": head.input_dim},
            "nucleotide_head": None if nucleotide_head is None else {"path": NUCLEOTIDE_HEAD_FILE},
            "merged_dim": sum(widths),
            "chunk_length": chunk_length,
            "chunk_rule": chunk_rule,
            "translation": {"genetic_code": genetic_code, "ambiguity": ambiguity},
            "precision": precision,
            "calibration": None if calibration is None else calibration.as_json(),
            "threshold": ARGMAX if thresholds is None else thresholds.as_json(),
            "files": hash_files(staging),
        }
        said["digest"] = digest_of(said)
        write_text_atomically(staging / BUNDLE_FILE, json.dumps(said, indent=2) + "\n")
        load_bundle(staging, verify=False)
        swap_in(staging, folder, aside=folder.with_name(f".{folder.name}.old-{os.getpid()}"))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise ResourceError(f"{folder}: the disk is full; nothing was changed", hint="free some disk") from error
        raise UsageError(f"{folder}: cannot be written: {error.strerror}", hint="is its parent writable?") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return load_bundle(folder, verify=False)


def digest_of(said: Mapping[str, Any]) -> str:
    """SHA-256 over all that scores depend on, in canonical JSON (sorted keys, no spaces, UTF-8).

    Name, description and sources are left out: the same files under another name have the same identity.
    """
    content = {key: value for key, value in said.items() if key not in ("digest", "name", "description")}
    if content.get("version") == "2.0":
        content = {key: value for key, value in content.items() if key not in _SINCE_2_1}
    for section in ("nucleotide", "protein"):
        content[section] = {key: value for key, value in content[section].items() if key != "source"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """As `digests.file_sha256`; a file that cannot be read is a ModelError."""
    try:
        return digests.file_sha256(path)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error


def hash_files(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a bundle's folder but its description, by relative path."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / BUNDLE_FILE]
    with ThreadPoolExecutor() as pool:  # hashing releases the interpreter lock
        found = list(pool.map(file_sha256, paths))
    return {path.relative_to(folder).as_posix(): digest for path, digest in zip(paths, found, strict=True)}


def check_files(folder: Path, files: Mapping[str, str], *, hash_them: bool) -> None:
    """Every listed file is there and has its SHA-256; an encoder's folder holds no other, which could be read first."""
    for name in files:
        if not (folder / name).is_file():
            raise ModelError(f"{folder / name}: is missing; {BUNDLE_FILE} lists it", hint=_INSTALL_AGAIN)
    for kind in ("nucleotide", "protein"):
        for path in sorted((folder / kind).glob("*")):
            if path.relative_to(folder).as_posix() not in files and not path.name.startswith("."):
                raise ModelError(f"{path}: is not listed in {BUNDLE_FILE}", hint="move it out of the bundle's folder")
    if hash_them:
        with ThreadPoolExecutor() as pool:
            found = list(pool.map(lambda name: file_sha256(folder / name), files))
        for (name, expected), digest in zip(files.items(), found, strict=True):
            if digest != expected:
                raise ModelError(
                    f"{folder / name}: was changed: its SHA-256 is {digest}, {BUNDLE_FILE} says {expected}",
                    hint=_INSTALL_AGAIN,
                )


_HOW_TO_MAKE = "give a bundle's name or folder; `seqassay models list` shows those installed, `models import` makes one"
_INSTALL_AGAIN = "install the package or import the bundle again"


def _check_version(path: Path, said: Mapping[str, Any]) -> None:
    if said.get("format") != FORMAT:
        raise ModelError(f"{path}: format is {said.get('format')!r}, not {FORMAT!r}", hint=_HOW_TO_MAKE)
    version = said.get("version")
    major = version.split(".", 1)[0] if isinstance(version, str) else version
    if major != VERSION.split(".", 1)[0]:
        raise ModelError(
            f"{path}: bundle version {version!r} cannot be read; this seqassay reads {VERSION.split('.', 1)[0]}.x",
            hint="train or import the bundle again with this version, or install the seqassay that wrote it",
        )


def _check_keys(path: Path, said: Mapping[str, Any]) -> None:
    for key, kind in _KEYS.items():
        if key not in said:
            raise ModelError(f"{path}: key {key!r} is missing", hint=_INSTALL_AGAIN)
        if not isinstance(said[key], kind) or isinstance(said[key], bool):
            raise ModelError(f"{path}: {key} is {said[key]!r}, which is not of the right type")
    unknown = sorted(set(said) - set(_KEYS))
    if unknown:
        raise ModelError(f"{path}: unknown key {unknown[0]!r}", hint="it may come from a newer seqassay: upgrade")


def _check_digest(path: Path, said: Mapping[str, Any]) -> None:
    if said["digest"] != digest_of(said):
        raise ModelError(f"{path}: was changed: its content does not have the digest it states", hint=_INSTALL_AGAIN)


def _parse(folder: Path, path: Path, said: Mapping[str, Any]) -> Bundle:
    def field(section: str, key: str, kind: type) -> Any:
        value = said[section].get(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ModelError(f"{path}: {section}.{key} is {value!r}, expected {kind.__name__}")
        return value

    def choice(name: str, value: object, allowed: tuple[object, ...]) -> Any:
        if value not in allowed:
            raise ModelError(f"{path}: {name} is {value!r}; this version knows {', '.join(map(repr, allowed))}")
        return value

    def check_inside(relative: object) -> None:
        pure = PurePosixPath(str(relative))
        if pure.is_absolute() or ".." in pure.parts or not isinstance(relative, str):
            raise ModelError(f"{path}: {relative!r} is not a path inside the bundle")

    def encoder(section: str, encoder_class: EncoderClass) -> BundledEncoder:
        choice(f"{section}.class", field(section, "class", str), (encoder_class,))
        choice(f"{section}.path", field(section, "path", str), (section,))
        return BundledEncoder(
            path=folder / section,
            encoder_class=encoder_class,
            d_model=field(section, "d_model", int),
            source=field(section, "source", str),
        )

    for needed in (HEAD_FILE, "nucleotide/tokenizer.json"):
        if needed not in said["files"]:
            raise ModelError(f"{path}: files does not list {needed}", hint=_INSTALL_AGAIN)
    for name, digest in said["files"].items():
        check_inside(name)
        if not isinstance(digest, str) or len(digest) != 64:
            raise ModelError(f"{path}: files has {digest!r} for {name}, not a SHA-256")
    choice("head.path", field("head", "path", str), (HEAD_FILE,))
    choice("head.input_dim", field("head", "input_dim", int), (said["merged_dim"],))
    nucleotide_head = said["nucleotide_head"]
    if nucleotide_head is not None:
        choice("nucleotide_head", nucleotide_head, ({"path": NUCLEOTIDE_HEAD_FILE},))
        if NUCLEOTIDE_HEAD_FILE not in said["files"]:
            raise ModelError(f"{path}: files does not list {NUCLEOTIDE_HEAD_FILE}", hint=_INSTALL_AGAIN)
    calibration = None
    if said["calibration"] is not None:
        try:
            calibration = Calibration.from_json(said["calibration"])
        except ValueError as error:
            raise ModelError(f"{path}: calibration {error}", hint=_INSTALL_AGAIN) from error
        if (calibration.unframed_K2 is None) != (nucleotide_head is None):
            raise ModelError(f"{path}: calibration and nucleotide_head do not belong together", hint=_INSTALL_AGAIN)
    try:
        thresholds = CallThresholds.from_json(said["threshold"])
    except ValueError as error:
        raise ModelError(f"{path}: threshold {error}", hint=_INSTALL_AGAIN) from error
    if said["chunk_length"] < 3:
        raise ModelError(f"{path}: chunk_length is {said['chunk_length']}; a codon needs 3 bases")
    return Bundle(
        name=said["name"],
        path=folder,
        digest=said["digest"],
        version=said["version"],
        description=said["description"],
        nucleotide=encoder("nucleotide", "dnabert"),
        protein=encoder("protein", "esm2"),
        head_path=folder / HEAD_FILE,
        nucleotide_head_path=folder / NUCLEOTIDE_HEAD_FILE if nucleotide_head is not None else None,
        calibration=calibration,
        merged_dim=said["merged_dim"],
        chunk_length=said["chunk_length"],
        chunk_rule=choice("chunk_rule", said["chunk_rule"], ("even", "reference")),
        genetic_code=field("translation", "genetic_code", int),
        ambiguity=choice("translation.ambiguity", field("translation", "ambiguity", str), ("drop", "X")),
        precision=choice("precision", said["precision"], _PRECISIONS),
        thresholds=thresholds,
        files=cast("dict[str, str]", said["files"]),
    )


def _dimension_message(path: Path, nucleotide_dim: int, protein_dim: int, head_dim: int) -> str:
    return (
        f"{path}: the encoders give {nucleotide_dim} (nucleotide) + {protein_dim} (protein) = "
        f"{nucleotide_dim + protein_dim} values a frame, the head takes {head_dim}"
    )


def _files_of_encoder(source: Path, *, with_tokenizer: bool) -> list[Path]:
    checkpoint = open_checkpoint(source)
    files = [*checkpoint.files, *(path for path in (checkpoint.config_path, checkpoint.index_path) if path)]
    if with_tokenizer:
        tokenizer = (source if source.is_dir() else source.parent) / "tokenizer.json"
        if not tokenizer.is_file():
            raise ModelError(f"{tokenizer}: is missing", hint="a nucleotide encoder needs its tokenizer.json beside it")
        files.append(tokenizer)
    return files


def _take(source: Path, target: Path, files_by: HOW_FILES_ARE_TAKEN) -> None:
    source = source.resolve()  # download caches hold symbolic links
    if files_by == "copy":
        shutil.copyfile(source, target)
        return
    try:
        target.hardlink_to(source)
    except OSError:  # another file system, or one without hard links
        target.symlink_to(source)
