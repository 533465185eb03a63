"""WikiText from the Hugging Face Hub as text files: pinned, resumable, verified, or its files put there by hand.

The Hub holds a row for every line, with blank lines as empty rows; in the original files a blank line is a space and
a line end, and so it is again here (wiki.test.raw has its 1,290,590 bytes).
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import RevisionNotFoundError

from seqassay.digests import file_sha256
from seqassay.durable import disk_errors, write_durably
from seqassay.errors import InputError, MissingExtraError, SeqassayError, UsageError
from seqassay.hub import NETWORK_ERRORS, download_error, download_part
from seqassay.measure.progress import RunProgress

REPO_ID = "Salesforce/wikitext"
REVISION = "b08601e04326c79dfdd32d625aee71d232d685c3"
MANIFEST = "fetch.json"
PARQUET = "parquet"  # folder of the downloaded files until their text is written
# files of every split, by configuration
CONFIGS = {
    "wikitext-2-raw-v1": {"train": 1, "validation": 1, "test": 1},
    "wikitext-103-raw-v1": {"train": 2, "validation": 1, "test": 1},
}
_BLANK_LINE = " \n"
_DAMAGED = "delete it, and give the command again"


@dataclass(frozen=True, slots=True)
class TextFile:
    """A written text file."""

    name: str
    lines: int
    bytes: int
    sha256: str


def fetch_wikitext(
    config: str, output_dir: Path, *, revision: str | None = None, progress: RunProgress | None = None
) -> list[TextFile]:
    """Make sure that the folder has WikiText's train.txt, valid.txt and test.txt; download what is missing.

    Files that lie in its folder ``parquet`` already are taken as they are, without network.

    Args:
        config: of ``CONFIGS``.
        output_dir: made if it is not there.
        revision: of the repository; None for the pinned one.
        progress: written while it runs.

    Raises:
        UsageError: an unknown configuration or revision; another one in the folder.
        MissingExtraError: pyarrow is not installed.
        InputError: a downloaded file is no Parquet with a column ``text``.
        ResourceError: the disk is full.
        SeqassayError: no network; says where the files can be put by hand.
    """
    if config not in CONFIGS:
        raise UsageError(f"no configuration is called {config!r}", hint=f"known: {', '.join(CONFIGS)}")
    progress, revision = progress or RunProgress(), revision or REVISION
    done = _fetched(output_dir, config, revision)
    if done is not None:
        return done
    parquet = _import_parquet()
    with disk_errors(path=output_dir):
        (output_dir / PARQUET).mkdir(parents=True, exist_ok=True)
        names = [name for split in CONFIGS[config] for name in _parquet_names(config, split)]
        progress.total_sequences = len(names)
        if not all((output_dir / PARQUET / name).is_file() for name in names):
            progress.stage = "downloading"
            _download_all(config, names, output_dir / PARQUET, revision, progress)
        files = []
        for split in CONFIGS[config]:
            progress.stage = f"writing {split}"
            sources = [output_dir / PARQUET / name for name in _parquet_names(config, split)]
            files.append(_write_text(parquet, sources, output_dir / f"{split.replace('validation', 'valid')}.txt"))
        said = {"repo_id": REPO_ID, "revision": revision, "config": config, "files": [asdict(file) for file in files]}
        write_durably(output_dir / MANIFEST, [(json.dumps(said, indent=1) + "\n").encode()])
        shutil.rmtree(output_dir / PARQUET)
    return files


def _parquet_names(config: str, split: str) -> list[str]:
    n = CONFIGS[config][split]
    return [f"{split}-{i:05d}-of-{n:05d}.parquet" for i in range(n)]


def _import_parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("pyarrow", extra="text", purpose="reading the Hub's Parquet files") from None
    return pyarrow.parquet


def _fetched(folder: Path, config: str, revision: str) -> list[TextFile] | None:
    """The files of an earlier fetch, each with its digest; None where there is none."""
    path = folder / MANIFEST
    if not path.exists():
        return None
    try:
        said = json.loads(path.read_bytes())
        found = (said["config"], said["revision"])
        files = [TextFile(**file) for file in said["files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"is not the manifest of a fetch: {error}", path=path, hint="delete it") from None
    if found != (config, revision):
        raise UsageError(f"{folder}: holds {found[0]} at {found[1][:12]}", hint="choose another -o")
    for file in files:
        text = folder / file.name
        if not text.is_file() or file_sha256(text) != file.sha256:
            raise InputError("was changed since it was fetched", path=text, hint=f"delete {path} to fetch it again")
    return files


def _download_all(config: str, names: Sequence[str], folder: Path, revision: str, progress: RunProgress) -> None:
    try:
        info = HfApi(endpoint=os.environ.get("HF_ENDPOINT")).dataset_info(
            REPO_ID, revision=revision, files_metadata=True
        )
        known = {sibling.rfilename: sibling for sibling in info.siblings or []}
        for name in names:
            remote = known.get(f"{config}/{name}")
            if remote is None:
                raise UsageError(f"{REPO_ID} has no {config}/{name} at {revision}", hint="leave --revision out")
            if not (folder / name).is_file():
                part = folder / f".{name}.{str(info.sha)[:12]}.partial"
                download_part(
                    REPO_ID, str(info.sha), f"{config}/{name}", part,
                    size_bytes=int(remote.size or 0), repo_type="dataset",
                )  # fmt: skip
                if remote.lfs is not None and file_sha256(part) != remote.lfs["sha256"]:
                    part.unlink()
                    raise SeqassayError(
                        f"{name}: what was downloaded has another SHA-256 than the published one",
                        hint="give the command again; if that repeats, a proxy or mirror changes it",
                    )
                part.replace(folder / name)
            progress.done_sequences += 1
    except RevisionNotFoundError as error:
        raise UsageError(f"{REPO_ID} has no revision {revision!r}", hint="give a branch, tag or commit") from error
    except NETWORK_ERRORS as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise  # of the disk
        by_hand = f"put {', '.join(names)} of its folder {config} into {folder}, and give the command again"
        raise download_error(REPO_ID, error, without_network=by_hand) from error


def _write_text(parquet: Any, sources: Sequence[Path], path: Path) -> TextFile:
    n_lines = 0

    def pieces() -> Iterator[bytes]:
        nonlocal n_lines
        for source in sources:
            for rows in _rows(parquet, source):
                n_lines += len(rows)
                yield "".join(row or _BLANK_LINE for row in rows).encode()

    n_bytes = write_durably(path, pieces())
    if n_bytes == 0:
        raise InputError("the file holds no row", path=sources[0], hint=_DAMAGED)
    return TextFile(path.name, n_lines, n_bytes, file_sha256(path))


def _rows(parquet: Any, source: Path) -> Iterator[list[str | None]]:
    """The column ``text``, some rows at a time."""
    try:
        with parquet.ParquetFile(source) as file:
            for batch in file.iter_batches(columns=["text"]):
                yield batch.column("text").to_pylist()
    except (ValueError, KeyError) as error:  # ArrowInvalid is a ValueError
        reason = str(error).splitlines()[0]
        raise InputError(f"is no Parquet file with a column text: {reason}", path=source, hint=_DAMAGED) from None
