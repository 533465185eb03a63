"""Read inputs in order, as shards: the unit of work, of durability and of distribution.

What a shard holds depends on the records and the limits alone, not on how the input was compressed or delivered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from seqassay.errors import InputError, UsageError
from seqassay.sequences.alphabets import AMINO_ACIDS, NUCLEOTIDES, Alphabet
from seqassay.sequences.opening import STDIN, OpenInput, can_be_read_twice, open_input
from seqassay.sequences.pairs import interleaved_pairs, two_file_pairs
from seqassay.sequences.parsing import RecordBlock, format_of_input, parse_records
from seqassay.sequences.ragged import Ragged
from seqassay.sequences.records import Records, cut_records

Pairing = Literal["none", "two-files", "interleaved"]
Watch = Callable[[OpenInput, RecordBlock], None]

_MAX_RESIDUES = 4_000_000  # of a block of proteins


@dataclass(frozen=True, slots=True)
class InputSettings:
    """What to read.

    Attributes:
        paths: files, ``-`` for standard input; read one after the other.
        pairing: ``two-files``: paths are first mates, second mates, first mates, …; ``interleaved``: mates follow
            each other in every file.
    """

    paths: tuple[str, ...]
    pairing: Pairing = "none"


@dataclass(frozen=True, slots=True)
class Shard:
    """Consecutive records of the inputs.

    Attributes:
        index: 0, 1, 2, …
        first_record: 0-based number of its first record over all inputs.
        ids: headers up to the first white space, with ``/1`` or ``/2`` for mates; duplicates are kept apart.
        headers: whole header lines without ``>`` or ``@``.
        bases: ``uint8``, upper-case ASCII, T for U; IUPAC codes kept.
        qualities: FASTQ only.
    """

    index: int
    first_record: int
    ids: list[str]
    headers: list[str]
    bases: Ragged
    qualities: list[str] | None

    def digest(self) -> str:
        """SHA-256 (hex) over all that outputs are made from: ids, headers, lengths, bases and qualities."""
        sha256 = hashlib.sha256()
        for texts in (self.ids, self.headers, self.qualities or []):
            sha256.update(b"%d\n" % len(texts))
            sha256.update("\n".join(texts).encode("utf-8"))
        sha256.update(self.bases.lengths.astype("<i8").tobytes())
        sha256.update(self.bases.values.tobytes())
        return sha256.hexdigest()


class RecordsDigest:
    """SHA-256 over records in order, however they are cut into shards.

    It covers what `Shard.digest` does. Each kind of content is one stream of its own, so that a shard adds a few long
    pieces: 0.5 µs a read of 150 bases.
    """

    def __init__(self) -> None:
        self._texts = {name: hashlib.sha256() for name in ("ids", "headers", "qualities")}
        self._arrays = {name: hashlib.sha256() for name in ("lengths", "bases")}

    def watch(self, shards: Iterable[Shard]) -> Iterator[Shard]:
        """The shards as they come, each counted in before it is handed on."""
        for shard in shards:
            self.add(shard)
            yield shard

    def add(self, shard: Shard) -> None:
        """Count in the next shard's records."""
        texts = {"ids": shard.ids, "headers": shard.headers, "qualities": shard.qualities or []}
        for name, lines in texts.items():  # no line holds a line end, so that one after each keeps them apart
            self._texts[name].update("".join(f"{line}\n" for line in lines).encode("utf-8"))
        self._arrays["lengths"].update(shard.bases.lengths.astype("<i8").tobytes())
        self._arrays["bases"].update(shard.bases.values.tobytes())

    def hexdigest(self) -> str:
        """Over the records so far."""
        streams = {**self._texts, **self._arrays}
        said = "".join(f"{name} {sha256.hexdigest()}\n" for name, sha256 in streams.items())
        return hashlib.sha256(said.encode()).hexdigest()


def read_shards(inputs: InputSettings, *, max_sequences: int = 8192, max_bases: int = 4_000_000) -> Iterator[Shard]:
    """All records of the inputs, checked, in order.

    A shard ends when it holds ``max_sequences`` records, or when the next one would take it above ``max_bases``
    (a longer contig is a shard of its own). Mates are never parted.

    Raises:
        InputError: names the file, the record and the line.
        UsageError: no input, standard input twice, or an odd number of files for pairs.
    """
    unit = 1 if inputs.pairing == "none" else 2
    first_record = 0
    groups = cut_records(read_records(inputs), max_records=max_sequences, max_letters=max_bases, unit=unit)
    for index, group in enumerate(groups):
        yield Shard(index, first_record, group.ids, group.headers, group.letters(), group.qualities)
        first_record += len(group)


def read_proteins(paths: Iterable[str], *, max_sequences: int = 8192) -> Iterator[tuple[list[str], Ragged]]:
    """Ids and residues (``uint8``, upper case) of protein sequences, in blocks; a ``*`` at the end is taken off.

    Raises:
        InputError: names the file, the record and the line.
        UsageError: no input, or standard input twice.
    """
    inputs = InputSettings(tuple(paths))
    check_inputs(inputs)
    formats = _FormatCheck()
    blocks = (block for path in inputs.paths for block in _blocks(path, formats, AMINO_ACIDS))
    records = (block.records for block in blocks)
    for group in cut_records(records, max_records=max_sequences, max_letters=_MAX_RESIDUES):
        yield group.ids, group.letters()


def check_inputs(inputs: InputSettings) -> None:
    """Find what can be found at the inputs' beginnings: wrong numbers, files that don't open, formats that differ.

    Raises:
        InputError, UsageError: as `read_shards`.
    """
    paths = inputs.paths
    if not paths:
        raise UsageError("no input given", hint="name FASTA or FASTQ files, or - for standard input")
    if paths.count(STDIN) > 1:
        raise UsageError("standard input (-) can be read only once")
    if inputs.pairing not in get_args(Pairing):
        raise UsageError(f"unknown pairing {inputs.pairing!r}", hint=f"known are: {', '.join(get_args(Pairing))}")
    if inputs.pairing == "two-files" and len(paths) % 2:
        raise UsageError(
            f"pairs in two files need an even number of files, not {len(paths)}",
            hint="name them in turn: first mates, second mates, …",
        )
    formats = _FormatCheck()
    for path in paths:
        if can_be_read_twice(path):
            with open_input(path) as source:
                formats.add(source.name, format_of_input(source))


class _FormatCheck:
    """Refuses inputs of two formats."""

    def __init__(self) -> None:
        self._first: tuple[str, str] | None = None

    def add(self, name: str, format_: str) -> None:
        self._first = self._first or (name, format_)
        if self._first[1] != format_:
            raise InputError(
                f"this is {format_}, but {self._first[0]} is {self._first[1]}",
                path=name,
                hint="give inputs of one format to a run",
            )


def read_records(inputs: InputSettings, watch: Watch | None = None) -> Iterator[Records]:
    """Records of all inputs as they come from their blocks, mates side by side and named ``/1`` and ``/2``.

    Args:
        inputs: what to read.
        watch: called with every block, before mates are brought together.

    Raises:
        InputError, UsageError: as `read_shards`.
    """
    check_inputs(inputs)
    formats = _FormatCheck()
    if inputs.pairing == "two-files":
        for first, second in zip(inputs.paths[::2], inputs.paths[1::2], strict=True):
            yield from two_file_pairs(_blocks(first, formats, watch=watch), _blocks(second, formats, watch=watch))
        return
    for path in inputs.paths:
        blocks = _blocks(path, formats, watch=watch)
        if inputs.pairing == "interleaved":
            yield from interleaved_pairs(blocks)
        else:
            yield from (block.records for block in blocks)


def _blocks(
    path: str, formats: _FormatCheck, alphabet: Alphabet = NUCLEOTIDES, watch: Watch | None = None
) -> Iterator[RecordBlock]:
    with open_input(path) as source:
        for block in parse_records(source, alphabet):
            if not block.first_record:
                formats.add(source.name, block.format)
            if watch:
                watch(source, block)
            yield block
