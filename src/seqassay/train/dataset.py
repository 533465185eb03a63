"""Labelled records, and chunks drawn from them: for training at random, for evaluation evenly and once.

A header reads ``>ID label=viral group=phage taxon="…" family="…"``; ``label`` and ``group`` must be there. Split
files are made by genome, taxon or study beforehand: nothing here ever divides the chunks of a record over two sets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from seqassay.errors import InputError, UsageError
from seqassay.sequences.ragged import Ragged
from seqassay.sequences.reading import InputSettings, read_shards

LABELS = {"other": 0, "viral": 1}
BASES_PER_CHUNK = 2000  # of a long record, in an evaluation
# Only from the beginning of a word: else a header of a million letters takes a million looks at each of them.
_FIELD = re.compile(r'(?<!\w)(\w+)=("[^"]*"|\S+)')
# What is not a plain base is N, in every strand and frame the same; U is read as T.
_BASE = np.full(256, ord("N"), np.uint8)
for _letter in "ACGT":
    _BASE[ord(_letter)] = _BASE[ord(_letter.lower())] = ord(_letter)
_BASE[ord("U")] = _BASE[ord("u")] = ord("T")
_COMPLEMENT = np.full(256, ord("N"), np.uint8)
for _a, _b in ("AT", "TA", "CG", "GC"):
    _COMPLEMENT[ord(_a)] = ord(_b)


@dataclass(frozen=True, slots=True)
class LabelledRecords:
    """Records of one split, in file order.

    Attributes:
        ids: names up to the first white space.
        labels: ``int64[n]``, 1 for viral and 0 for others.
        groups: ``str[n]``, host or virus group.
        taxa: ``str[n]``, taxon as the header gives it ("" where it gives none).
        families: ``str[n]``, likewise.
        genomes: what each is a piece of: ``genome=`` of the header, the record's own id where there is none.
        bases: upper-case ACGTN of every record, ``uint8``.
    """

    ids: list[str]
    labels: npt.NDArray[np.int64]
    groups: npt.NDArray[np.str_]
    taxa: npt.NDArray[np.str_]
    families: npt.NDArray[np.str_]
    genomes: list[str]
    bases: Ragged

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, indices: npt.NDArray[np.integer]) -> LabelledRecords:
        """The records at ``indices``, in that order."""
        return LabelledRecords(
            [self.ids[i] for i in indices.tolist()],
            self.labels[indices],
            self.groups[indices],
            self.taxa[indices],
            self.families[indices],
            [self.genomes[i] for i in indices.tolist()],
            self.bases.take(indices),
        )


@dataclass(frozen=True, slots=True)
class LabelledChunks:
    """Chunks cut from records: chunk ``i`` is ``bases[i]``, of record number ``record[i]``, labelled ``labels[i]``."""

    record: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    bases: Ragged

    def __len__(self) -> int:
        return len(self.record)

    def take(self, indices: npt.NDArray[np.integer]) -> LabelledChunks:
        """The chunks at ``indices``, in that order."""
        return LabelledChunks(self.record[indices], self.labels[indices], self.bases.take(indices))


def taxon_numbers(records: LabelledRecords) -> npt.NDArray[np.int64]:
    """A number for each record's taxon, within its group; metagenome contigs and records without one have their own."""
    own = np.arange(len(records)).astype(str)
    has_none = np.char.startswith(records.groups, "metagenome") | (records.taxa == "")
    names = np.where(has_none, own, np.char.add(records.groups, records.taxa))
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def header_fields(header: str) -> dict[str, str]:
    """The ``name=value`` and ``name="some words"`` of a FASTA header; the last of a name counts."""
    return {name: value.strip('"').strip() for name, value in _FIELD.findall(header)}


def read_labelled(path: Path | str) -> LabelledRecords:
    """Read a labelled FASTA file (plain or compressed).

    Raises:
        InputError: when the file cannot be read, has no record, or a header lacks ``label`` or ``group``.
    """
    ids: list[str] = []
    labels: list[int] = []
    groups: list[str] = []
    taxa: list[str] = []
    families: list[str] = []
    genomes: list[str] = []
    parts: list[npt.NDArray[np.uint8]] = []
    for shard in read_shards(InputSettings(paths=(str(path),))):
        for name, header in zip(shard.ids, shard.headers, strict=True):
            fields = header_fields(header)
            if fields.get("label") not in LABELS or "group" not in fields:
                raise InputError(
                    f"needs label=viral or label=other, and group=…; the header reads {header[:80]!r}",
                    path=path,
                    record=len(ids) + 1,
                    record_id=name,
                )
            ids.append(name)
            labels.append(LABELS[fields["label"]])
            groups.append(fields["group"])
            taxa.append(fields.get("taxon", ""))
            families.append(fields.get("family", ""))
            genomes.append(fields.get("genome") or name)
        parts.extend(_BASE[bases] for bases in shard.bases)
    lengths = np.fromiter(map(len, parts), np.int64, len(parts))
    return LabelledRecords(
        ids,
        np.array(labels, np.int64),
        np.array(groups),
        np.array(taxa),
        np.array(families),
        genomes,
        Ragged.from_lengths(np.concatenate(parts), lengths),
    )


class ChunkSampler:
    """Draws training chunks: first a group by its weight, then a record by a power of its length, then an offset.

    Without the group weights the longest and best-sequenced hosts would fill the training set; with a power below 1
    a 1.2-Mb virus does not outweigh a hundred small ones. Strands need no flip: all six frames are used.
    """

    def __init__(
        self, records: LabelledRecords, group_weights: Mapping[str, float], *, length_power: float = 0.5
    ) -> None:
        """Prepare to draw from ``records``.

        Raises:
            UsageError: when a group of the records has no weight, or records of one label alone have any.
        """
        unknown = sorted(set(records.groups.tolist()) - set(group_weights))
        if unknown:
            raise UsageError(
                f"no weight for group {', '.join(unknown)}", hint=f"known: {', '.join(sorted(group_weights))}"
            )
        weight = np.array([group_weights[group] for group in records.groups.tolist()])
        if len(set(records.labels[weight > 0].tolist())) < 2:
            raise UsageError("training needs viral records and others; the groups with a weight hold one label only")
        self.records, self._group_weights, self._power = records, dict(group_weights), length_power
        self._cumulative: dict[int, npt.NDArray[np.float64]] = {}

    def draw(self, n: int, length: int, rng: np.random.Generator) -> LabelledChunks:
        """``n`` random chunks of exactly ``length`` bases, from records that are at least as long."""
        record = np.searchsorted(self._cumulative_weights(length), rng.random(n), side="right")
        offsets, lengths = self.records.bases.offsets, self.records.bases.lengths
        start = offsets[record] + np.floor(rng.random(n) * (lengths[record] - length + 1)).astype(np.int64)
        bases = self.records.bases.slices(start, np.full(n, length, np.int64))
        return LabelledChunks(record.astype(np.int64), self.records.labels[record], bases)

    def _cumulative_weights(self, length: int) -> npt.NDArray[np.float64]:
        if length not in self._cumulative:
            lengths = self.records.bases.lengths
            weights = np.zeros(len(self.records))
            for group, group_weight in self._group_weights.items():
                of_group = np.flatnonzero((self.records.groups == group) & (lengths >= length))
                if len(of_group):
                    share = lengths[of_group].astype(np.float64) ** self._power
                    weights[of_group] = group_weight * share / share.sum()
            if not weights.sum():
                raise UsageError(f"no record with a weight is {length} bases long")
            total = np.cumsum(weights)
            self._cumulative[length] = total / total[-1]
        return self._cumulative[length]


def evaluation_chunks(
    records: LabelledRecords, length: int, *, seed: int, bases_per_chunk: int = BASES_PER_CHUNK, max_per_record: int = 6
) -> LabelledChunks:
    """Fixed chunks to evaluate on: from every record that is long enough, more from long ones but few from any.

    A record of L bases gives min(``max_per_record``, 1 + L // ``bases_per_chunk``) chunks at random offsets, each
    on a random strand (k-mer baselines see a strand; six frames do not care).
    """
    rng = np.random.default_rng([seed, length])
    lengths = records.bases.lengths
    long_enough = np.flatnonzero(lengths >= length)
    if not len(long_enough):
        raise UsageError(f"no record is {length} bases long")
    counts = np.minimum(max_per_record, 1 + lengths[long_enough] // bases_per_chunk)
    record = np.repeat(long_enough, counts)
    start = np.floor(rng.random(len(record)) * (lengths[record] - length + 1)).astype(np.int64)
    bases = records.bases.slices(records.bases.offsets[record] + start, np.full(len(record), length, np.int64))
    table = bases.values.reshape(len(record), length)
    flip = rng.random(len(record)) < 0.5
    table[flip] = reverse_complement(table[flip])
    return LabelledChunks(record, records.labels[record], Ragged(table.reshape(-1), bases.offsets))


def reverse_complement(table_NL: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """The other strand of sequences of one length, ``uint8[n, length]``; what is not ACGT is N."""
    complement: npt.NDArray[np.uint8] = _COMPLEMENT[table_NL[:, ::-1]]
    return complement
