"""GenBank records with their annotated proteins, and the rule that asks whether a frame is part of one of them."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

from seqassay.errors import InputError, MissingExtraError, SeqassayError
from seqassay.sequences.genetic_codes import AMINO_ACIDS
from seqassay.sequences.opening import open_input
from seqassay.sequences.ragged import Ragged
from seqassay.train.dataset_sources import SourceRecord, to_bases

# First match wins: a lineage holds the wider taxa as well.
_GROUPS = (
    ("Bacteria", "bacteria"),
    ("Archaea", "archaea"),
    ("Fungi", "fungi"),
    ("Viridiplantae", "plant"),
    ("Vertebrata", "vertebrate"),
    ("Metazoa", "invertebrate"),
    ("Eukaryota", "protozoa"),
)
_FAMILY_ENDINGS = ("viridae", "aceae", "idae")
_WORD_LENGTH = 8  # residues that are looked up at once; eight bytes are one uint64
_SEPARATOR = b"*"  # between proteins: no frame holds one


def read_genbank(path: str) -> Iterator[SourceRecord]:
    """Records of a GenBank flat file, with label, group, taxon and family by their taxonomy.

    ``proteins`` are those of its coding sequences: the ``translation`` they state, or else their bases translated by
    their own table. Pseudogenes have none.

    Raises:
        InputError: names the file and the record: a file cut short, a record without a sequence or of bad letters.
        MissingExtraError: Biopython is not installed.
    """
    try:
        from Bio import BiopythonParserWarning, SeqIO
    except ImportError:
        raise MissingExtraError("biopython", extra="train", purpose="reading GenBank records") from None

    number = 0
    with open_input(path) as source:
        lines = _RecordEnds(cast("IO[bytes]", source.file))
        text = io.TextIOWrapper(io.BufferedReader(lines), encoding="utf-8", errors="replace")
        parsed = SeqIO.parse(text, "genbank")  # type: ignore[no-untyped-call]
        while True:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", BiopythonParserWarning)
                    # these two are all that Biopython says of a file cut short or of a damaged record
                    warnings.filterwarnings("error", message="Premature end of file|Expected sequence length")
                    record = next(parsed, None)
                    if record is None:
                        break
                    found = _source_record(record, path, number + 1)
            except SeqassayError:
                raise
            except (ValueError, OSError, EOFError, KeyError, IndexError, AssertionError, Warning) as error:
                raise InputError(
                    f"this record cannot be read: {error}",
                    path=path,
                    record=number + 1,
                    hint="is the file cut short? fetch it again",
                ) from None
            number += 1
            yield found
    # Biopython passes over what has no LOCUS line; nothing is to be lost without a word
    if lines.n_ends != number or lines.goes_on:
        raise InputError(
            f"{number:,} records could be read, but {lines.n_ends:,} end in this file"
            + (", and there is text after the last end" if lines.goes_on else ""),
            path=path,
            hint="is a LOCUS line damaged, or the file cut short? fetch it again",
        )
    if not number:
        raise InputError("no GenBank record is in this file", path=path)


class _RecordEnds(io.RawIOBase):
    """Passes bytes on and counts the lines that end records (``//``).

    Attributes:
        n_ends: such lines so far.
        goes_on: whether there is text behind the last of them.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._rest = file, b""
        self.n_ends, self.goes_on = 0, False

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read on; the last line is looked at when the file has ended."""
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines if data else [self._rest]:
            if line.startswith(b"//"):
                self.n_ends, self.goes_on = self.n_ends + 1, False
            elif line.strip():
                self.goes_on = True
        return len(data)


def _source_record(record: Any, path: str, number: int) -> SourceRecord:
    from Bio.Seq import UndefinedSequenceError

    def fail(message: str, hint: str = "") -> InputError:
        return InputError(message, path=path, record=number, record_id=record.id, hint=hint)

    try:
        bases, (complaint, hint) = to_bases(str(record.seq))
    except UndefinedSequenceError:
        raise fail(
            "has no sequence", "fetch the records with their sequences (…genomic.gbff.gz, or gbwithparts)"
        ) from None
    if complaint or not len(bases):
        raise fail(complaint or "has no sequence", hint)
    lineage = list(record.annotations.get("taxonomy", []))
    label, group = label_of_lineage(lineage, division=record.annotations.get("data_file_division", ""))
    return SourceRecord(
        record.id,
        bases,
        path,
        number,
        label=label,
        group=group,
        taxon=" ".join(record.annotations.get("organism", "").split()),
        family=next((name for name in reversed(lineage) if name.endswith(_FAMILY_ENDINGS)), ""),
        proteins=tuple(_proteins(record)),
    )


def label_of_lineage(lineage: list[str], *, division: str = "") -> tuple[str, str]:
    """Label and group by taxonomy: a lineage that begins with Viruses is viral; ("", "") where it says nothing."""
    if lineage[:1] == ["Viruses"]:
        return "viral", "phage" if division == "PHG" else "virus"
    group = next((group for taxon, group in _GROUPS if taxon in lineage), "")
    return ("other", group) if group else ("", "")


def _proteins(record: Any) -> Iterator[bytes]:
    for feature in record.features:
        if feature.type != "CDS" or feature.qualifiers.keys() & {"pseudo", "pseudogene"}:
            continue
        protein = "".join(feature.qualifiers.get("translation", [""])[0].split())
        if not protein:
            table = _codes(feature.qualifiers.get("transl_table", ["1"])[0])
            first = int(feature.qualifiers.get("codon_start", ["1"])[0]) - 1
            bases = feature.extract(record.seq)[first:]
            protein = str(bases[: len(bases) // 3 * 3].translate(table=table)).rstrip("*")
        if protein:
            yield protein.upper().encode("ascii", "replace")


def _codes(text: str) -> int:
    """The number of a genetic code, known to be one."""
    if not text.isdecimal() or int(text) not in AMINO_ACIDS:
        raise ValueError(f"a coding sequence has the genetic code {text!r}, which is none of NCBI's")
    return int(text)


class AnnotatedProteins:
    """The proteins of one record, indexed so that many frames are looked up in them at once.

    A frame's first eight residues are searched in a sorted list of all words of eight residues, and the few places
    found are compared in full: a chromosome with megabytes of proteins has a million frames to look up.
    """

    def __init__(self, proteins: tuple[bytes, ...]) -> None:
        self._text = _SEPARATOR + _SEPARATOR.join(proteins) + _SEPARATOR * _WORD_LENGTH
        words = _words(np.frombuffer(self._text, np.uint8))
        self._order = np.argsort(words, kind="stable")
        self._words = words[self._order]

    def contain(self, frames: Ragged) -> npt.NDArray[np.bool_]:
        """Which of the frames' proteins (``uint8`` letters) are part of an annotated protein, ``bool[n]``."""
        found = np.zeros(len(frames), np.bool_)
        short = frames.lengths < _WORD_LENGTH
        for i in np.flatnonzero(short).tolist():
            found[i] = frames[i].tobytes() in self._text
        of_word = np.flatnonzero(~short)
        if not len(of_word):
            return found
        starts = frames.offsets[:-1][of_word, None] + np.arange(_WORD_LENGTH)
        words = np.ascontiguousarray(frames.values[starts].astype(np.uint8)).view(np.uint64).reshape(-1)
        first = np.searchsorted(self._words, words, side="left")
        last = np.searchsorted(self._words, words, side="right")
        for i in np.flatnonzero(last > first).tolist():
            protein = frames[of_word[i]].tobytes()
            places = self._order[first[i] : last[i]]
            found[of_word[i]] = any(self._text.startswith(protein, int(place)) for place in places)
        return found


def _words(letters: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """Every run of eight letters as one number, ``uint64[len - 7]``."""
    windows = np.lib.stride_tricks.sliding_window_view(letters, _WORD_LENGTH)
    return np.ascontiguousarray(windows).view(np.uint64).reshape(-1)
