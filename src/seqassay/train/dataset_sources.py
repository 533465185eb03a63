"""Labelled records from FASTA, CSV and GenBank, and what a table or the command line adds to them.

An input is a file, or fields and a file: ``label=other,group=human:contigs.fa``. The input's fields win over a row of
the metadata table, and that over what a record says of itself (header, column, taxonomy). A label or a split that two
of them state differently is an error: nothing decides silently which of them is right.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

from seqassay.errors import InputError, UsageError
from seqassay.sequences.alphabets import ILLEGAL, NUCLEOTIDES
from seqassay.sequences.opening import DamagedError, can_be_read_twice, open_input
from seqassay.sequences.reading import InputSettings, read_shards
from seqassay.train.dataset import LABELS, header_fields

ByteArray = npt.NDArray[np.uint8]
Progress = Callable[[int], None]

FIELDS = ("label", "group", "taxon", "family", "study", "genome", "split")
SPLITS = ("train", "valid", "test")
FETCH_MANIFEST = "fetch.json"  # written by `dataset fetch` into its folder
LEFT_OUT = "none"  # as a split: in no split, and counted
_INPUT_FIELDS = re.compile(r"((?:\w+=[^,:=]*,)*\w+=[^,:=]*):(.+)", re.DOTALL)
# A record that is a piece of another: NC_012589.1:2314986-2324985, or with its strand behind
_PIECE = re.compile(r"(.+):\d+-\d+(?::[+-])?")
_MAX_FIELD = 2**31 - 1  # characters of a CSV field: a sequence may be a chromosome


@dataclass(slots=True)
class SourceRecord:
    """One labelled sequence.

    Attributes:
        id: header up to the first white space, column, or accession with version.
        bases: ``uint8``, upper-case IUPAC letters, T for U.
        file: the input it came from.
        number: 1-based, within its file.
        label: ``viral`` or ``other``.
        group: host or virus group.
        taxon, family, study: "" where nothing says.
        genome: what the record is a piece of; records of one genome never go into two splits.
        split: ``train``, ``valid``, ``test``, ``none`` (left out), or "" (to be drawn).
        proteins: the annotated proteins (GenBank); None where the format has no annotation.
    """

    id: str
    bases: ByteArray
    file: str
    number: int
    label: str = ""
    group: str = ""
    taxon: str = ""
    family: str = ""
    study: str = ""
    genome: str = ""
    split: str = ""
    proteins: tuple[bytes, ...] | None = None

    def __len__(self) -> int:
        return len(self.bases)

    def error(self, message: str, hint: str = "") -> InputError:
        """An error that names this record and its file."""
        return InputError(message, path=self.file, record=self.number, record_id=self.id, hint=hint)


@dataclass(frozen=True, slots=True)
class Source:
    """An input file and the fields that hold for all of its records."""

    path: str
    fields: Mapping[str, str]

    def facts(self) -> dict[str, object]:
        """File, given fields, size and SHA-256, for the manifest."""
        digest = hashlib.sha256()
        with Path(self.path).open("rb") as file:
            while piece := file.read(1 << 22):
                digest.update(piece)
        size = Path(self.path).stat().st_size
        return {"path": self.path, "fields": dict(self.fields), "bytes": size, "sha256": digest.hexdigest()}


def parse_sources(text: str) -> tuple[Source, ...]:
    """``FILE`` or ``FIELD=VALUE,…:FILE``; a file that has exactly this name is that file.

    In place of a file the folder of a `dataset fetch` stands for all that was fetched into it: FASTA files with the
    label and the group that they were fetched as, GenBank files to be labelled by their taxonomy.

    Raises:
        UsageError: an unknown field or value, standard input, a pipe.
        InputError: no such file, or one that cannot be opened.
    """
    fields: dict[str, str] = {}
    path, found = text, _INPUT_FIELDS.fullmatch(text)
    if found and not Path(text).exists():
        fields, path = dict(pair.split("=", 1) for pair in found[1].split(",")), found[2]
        for name in fields:
            if name not in FIELDS:
                raise UsageError(f"{text}: unknown field {name!r}", hint=f"known are: {', '.join(FIELDS)}")
        if fields.get("label", "viral") not in LABELS:
            raise UsageError(f"{text}: label is {fields['label']!r}", hint="it can be viral or other")
        if fields.get("split", LEFT_OUT) not in (*SPLITS, LEFT_OUT):
            raise UsageError(f"{text}: split is {fields['split']!r}", hint=f"it can be {', '.join(SPLITS)} or none")
    if (Path(path) / FETCH_MANIFEST).is_file():
        return _fetched(Path(path), fields)
    if not can_be_read_twice(path):
        raise UsageError(f"{path}: a dataset is built from files, which can be read twice", hint="save it to a file")
    with open_input(path):
        return (Source(path, fields),)


def _fetched(folder: Path, fields: Mapping[str, str]) -> tuple[Source, ...]:
    try:
        said = json.loads((folder / FETCH_MANIFEST).read_bytes())
        complete = said["complete"]
        files = [(str(file["name"]), str(file["label"]), str(file["group"])) for file in said["files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"is not the manifest of a fetch: {error}", path=folder / FETCH_MANIFEST) from None
    if not complete or not files:
        raise InputError(
            "the fetch has not ended", path=folder, hint="give the `dataset fetch` command again; it goes on"
        )
    sources = []
    for name, label, group in files:
        if not (folder / name).is_file():
            raise InputError("no such file, but it was fetched", path=folder / name, hint="fetch it again")
        of_file = {"label": label, "group": group} if name.endswith(".fna.gz") else {}
        sources.append(Source(str(folder / name), {**of_file, **fields}))
    return tuple(sources)


def read_source(source: Source, progress: Progress = lambda _: None) -> Iterator[SourceRecord]:
    """Records of one file, in order, with their own fields alone; the first bytes tell the format.

    Raises:
        InputError: names the file, the record and (where there are lines) the line.
        MissingExtraError: GenBank records without Biopython.
    """
    start = _first_bytes(source.path)
    if start.startswith(b"LOCUS"):
        from seqassay.train.dataset_genbank import read_genbank

        records = read_genbank(source.path)
    elif start.startswith(b">"):
        records = _read_fasta(source.path)
    elif start.startswith(b"@"):
        raise InputError("this is FASTQ; records of a dataset are FASTA, CSV or GenBank", path=source.path)
    elif b"," in start.split(b"\n")[0] or b"\t" in start.split(b"\n")[0]:
        records = _read_csv(source.path)
    else:
        hint = "FASTA begins with >, GenBank with LOCUS, a CSV file with its column names"
        raise InputError(
            f"this is no FASTA, CSV or GenBank: it begins with {start[:30]!r}", path=source.path, hint=hint
        )
    for record in records:
        progress(1)
        yield record


def complete(record: SourceRecord, row: Mapping[str, str], given: Mapping[str, str]) -> SourceRecord:
    """Overwrite a record's fields by its row of the metadata table, then by its input's fields; check the outcome.

    Raises:
        InputError: no label, an unknown label or split, or two that contradict each other.
    """
    found: dict[str, Any] = {name: getattr(record, name) for name in FIELDS}
    for where, fields in (("the metadata table", row), ("the command line", given)):
        for name in ("label", "split"):
            if found[name] and fields.get(name) and found[name] != fields[name]:
                raise record.error(f"{name} is {found[name]!r}, but {where} says {fields[name]!r}")
        found = {name: fields.get(name) or value for name, value in found.items()}
    if found["label"] not in LABELS:
        what = f"label is {found['label']!r}, not viral or other" if found["label"] else "has no label"
        raise record.error(
            what, "say label=viral or label=other in the header, in --table, or for the file: label=viral:FILE"
        )
    if found["split"] not in ("", LEFT_OUT, *SPLITS):
        raise record.error(f"split is {found['split']!r}", f"it can be {', '.join(SPLITS)} or {LEFT_OUT}")
    found["group"] = found["group"] or ("virus" if found["label"] == "viral" else "other")
    piece = _PIECE.fullmatch(record.id)
    found["genome"] = found["genome"] or (piece[1] if piece else record.id)
    return replace(record, **found)


def read_metadata(path: str) -> dict[str, dict[str, str]]:
    """Rows of a metadata table by id: a CSV or TSV file with the column ``id`` and any of `FIELDS`.

    Raises:
        InputError: an unknown column, none but ``id``, an id twice, a row of another width.
    """
    rows: dict[str, dict[str, str]] = {}
    for line, row in read_table(path, needed=("id",), known=FIELDS):
        name = row.pop("id")
        if name in rows:
            raise InputError(f"a second row for the id {name!r}", path=path, line=line)
        rows[name] = row
    return rows


def read_split_table(path: str) -> tuple[str, dict[str, str]]:
    """Which field a split table assigns by (its first column: id, genome, taxon, family or study), and the splits.

    Raises:
        InputError: other columns, an unknown split, or one key in two splits.
    """
    keys = ("id", "genome", "taxon", "family", "study")
    splits: dict[str, str] = {}
    key_name = ""
    for line, row in read_table(path, needed=("split",), known=keys):
        names = [name for name in row if name != "split"]
        if len(names) != 1:
            raise InputError(f"needs one of the columns {', '.join(keys)} beside split", path=path, line=1)
        key_name = names[0]
        key, split = row[key_name], row["split"]
        if split not in (*SPLITS, LEFT_OUT):
            raise InputError(
                f"split is {split!r}", path=path, line=line, hint=f"it can be {', '.join(SPLITS)} or {LEFT_OUT}"
            )
        if splits.setdefault(key, split) != split:
            raise InputError(f"{key_name} {key!r} is in {splits[key]} and in {split}", path=path, line=line)
    if not splits:
        raise InputError("the table has no rows", path=path)
    return key_name, splits


def read_table(path: str, *, needed: Sequence[str], known: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Line numbers and rows of a CSV or TSV file with a line of column names; white space around values is left out.

    Raises:
        InputError: names the file and the line.
    """
    csv.field_size_limit(_MAX_FIELD)
    with open_input(path) as source:
        text = io.TextIOWrapper(cast("IO[bytes]", source.file), encoding="utf-8-sig", newline="")
        line = 1
        try:
            first = text.readline()
            reader = csv.reader(itertools.chain([first], text), delimiter="\t" if "\t" in first else ",", strict=True)
            columns = [name.strip().lower() for name in next(reader, [])]
            _check_columns(path, columns, needed, known)
            for values in reader:
                line = reader.line_num
                if len(values) != len(columns):
                    if not any(values):
                        continue
                    raise InputError(f"{len(values)} values, but {len(columns)} columns", path=path, line=line)
                row = {name: " ".join(value.split()) for name, value in zip(columns, values, strict=True)}
                missing = [name for name in needed if not row[name]]
                if missing:
                    raise InputError(f"the column {missing[0]} is empty", path=path, line=line)
                yield line, row
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"this is no CSV or TSV file: {error}", path=path, line=line + 1) from None
        except (OSError, EOFError, ValueError) as error:
            raise InputError(f"the data cannot be read on: {error}", path=path, line=line + 1) from None


def _check_columns(path: str, columns: Sequence[str], needed: Sequence[str], known: Sequence[str]) -> None:
    hint = f"known columns: {', '.join([*needed, *known])}"
    for name in columns:
        if name not in needed and name not in known:
            raise InputError(f"unknown column {name!r}", path=path, line=1, hint=hint)
        if columns.count(name) > 1:
            raise InputError(f"the column {name!r} is there twice", path=path, line=1)
    for name in needed:
        if name not in columns:
            raise InputError(f"the column {name!r} is missing", path=path, line=1, hint=hint)
    if len(columns) < 2:
        raise InputError("the table has one column only", path=path, line=1, hint=hint)


def _first_bytes(path: str) -> bytes:
    with open_input(path) as source:
        try:
            start = next(source.blocks(), b"").removeprefix(b"\xef\xbb\xbf").lstrip()
        except DamagedError as error:
            raise InputError(str(error), path=path, hint="fetch or make the file again") from None
    if not start:
        raise InputError("the file is empty", path=path)
    return start


def _read_fasta(path: str) -> Iterator[SourceRecord]:
    number = 0
    for shard in read_shards(InputSettings(paths=(path,))):
        for name, header, bases in zip(shard.ids, shard.headers, shard.bases, strict=True):
            number += 1
            fields = header_fields(header)
            own: dict[str, Any] = {key: fields[key] for key in FIELDS if key in fields}
            yield SourceRecord(name, np.asarray(bases, np.uint8), path, number, **own)


def _read_csv(path: str) -> Iterator[SourceRecord]:
    for number, (line, row) in enumerate(read_table(path, needed=("id", "sequence"), known=FIELDS), 1):
        name, text = row.pop("id"), row.pop("sequence")
        if " " in name:
            raise InputError(f"the id {name!r} has white space in it", path=path, line=line)
        bases, (complaint, hint) = to_bases(text)
        if complaint:
            raise InputError(complaint, path=path, record=number, record_id=name, line=line, hint=hint)
        yield SourceRecord(name, bases, path, number, **cast("dict[str, Any]", row))


def to_bases(text: str) -> tuple[ByteArray, tuple[str, str]]:
    """Letters in the program's form; and a complaint about one that is no nucleotide, with a hint ("" for none)."""
    raw = text.encode("utf-8").translate(None, b" \t\r\n")
    translated = raw.translate(NUCLEOTIDES.table)
    position = translated.find(ILLEGAL)
    if position >= 0:
        return np.zeros(0, np.uint8), NUCLEOTIDES.complaint(raw, position)
    return np.frombuffer(translated, np.uint8), ("", "")
