"""Build a dataset: labelled records in, a folder of splits and its manifest out.

The main path, in order: read, join with the metadata table, choose groups, assign splits, look for genomes in two
splits, look for near-duplicates across splits, cut into chunks, balance, write. Records and chunks that don't make it
are counted by reason in the manifest, and its counts add up. The sequences of all inputs are held in memory, at one
byte a base, and their sampled k-mers at about another half.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import seqassay
from seqassay.digests import file_sha256
from seqassay.errors import InputError, UsageError
from seqassay.measure.progress import RunProgress
from seqassay.sequences.genetic_codes import codon_table
from seqassay.train.dataset_chunks import ChunkRule, Items, balanced, cut_items
from seqassay.train.dataset_folder import MANIFEST, check_place, staged_folder, write_gzip
from seqassay.train.dataset_near import control_near_duplicates
from seqassay.train.dataset_output import counts_of, fasta_of
from seqassay.train.dataset_sketch import DEFAULT_SCALE, check_scale
from seqassay.train.dataset_sources import (
    LEFT_OUT,
    SPLITS,
    Source,
    SourceRecord,
    complete,
    parse_sources,
    read_metadata,
    read_source,
    read_split_table,
)
from seqassay.train.dataset_split import (
    SplitBy,
    assign_by_table,
    check_fractions,
    check_genomes,
    check_labels,
    draw_splits,
    drop_shared_genomes,
    sequence_digest,
    shared_names,
)

FORMAT, VERSION = "seqassay-dataset", 1
DEFAULT_FRACTIONS = {"train": 0.8, "valid": 0.1, "test": 0.1}


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """What to build.

    Attributes:
        inputs: ``FILE``, ``FIELD=VALUE,…:FILE``, or the folder of a `dataset fetch`.
        output_dir: the folder to make.
        table: metadata by record id, see `read_metadata`.
        groups: keep these groups only.
        split_table: see `read_split_table`.
        split_by: draw the splits by this unit.
        fractions: of the bases, by split, where splits are drawn.
        rule: how records become chunks.
        skips_unannotated: leave out GenBank records without a protein where the annotation decides.
        drops_shared_genomes: leave genomes that are in two splits to the later one, instead of refusing.
        balance: the splits to balance.
        max_shared: largest share of a record's sampled 31-mers that another split may hold.
        drops_near_duplicates: drop the records that share, instead of refusing.
        sketch_scale: of this many k-mers one is sampled.
        seed: of all draws.
        force: replace the dataset that is there.
    """

    inputs: tuple[str, ...]
    output_dir: Path
    table: str | None = None
    groups: tuple[str, ...] = ()
    split_table: str | None = None
    split_by: SplitBy | None = None
    fractions: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_FRACTIONS))
    rule: ChunkRule = field(default_factory=lambda: ChunkRule(None))
    skips_unannotated: bool = False
    drops_shared_genomes: bool = False
    balance: tuple[str, ...] = ()
    max_shared: float = 0.1
    drops_near_duplicates: bool = False
    sketch_scale: int = DEFAULT_SCALE
    seed: int = 42
    force: bool = False

    def check(self) -> None:
        """Raise a UsageError for what cannot work, before anything is read."""
        if not self.inputs:
            raise UsageError("no input given", hint="name FASTA, CSV or GenBank files")
        if self.split_table and self.split_by:
            raise UsageError("splits can be drawn (--split-by) or given (--split-table), not both")
        if self.split_by:
            check_fractions(self.fractions)
        for split in self.balance:
            if split not in SPLITS:
                raise UsageError(f"no split is called {split!r}", hint=f"--balance takes {', '.join(SPLITS)} or all")
        if not 0 <= self.max_shared <= 1:
            raise UsageError(f"--max-shared is {self.max_shared}", hint="it is a share, from 0 to 1")
        check_scale(self.sketch_scale)
        if self.seed < 0:
            raise UsageError(f"the seed is {self.seed}", hint="it must be 0 or more")
        self.rule.check()
        codon_table(self.rule.genetic_code)
        check_place(self.output_dir, force=self.force)


def build_dataset(settings: BuildSettings, progress: RunProgress | None = None) -> dict[str, Any]:
    """Build the dataset; return its manifest.

    Raises:
        UsageError: settings that cannot work, or something in the output folder's way.
        InputError: a bad input, named with its record; a genome in two splits; near-duplicates above the limit; a
            split that is empty or holds one label only.
        ResourceError: the disk is full.
    """
    settings.check()
    # the folder comes first: a place where nobody can write is found before the work, not after it
    with staged_folder(settings.output_dir, force=settings.force) as folder:
        return _build_into(folder, settings, progress or RunProgress())


def _build_into(folder: Path, settings: BuildSettings, progress: RunProgress) -> dict[str, Any]:
    progress.begin_work()
    left_out: dict[str, dict[str, int]] = {}
    sources = [source for text in settings.inputs for source in parse_sources(text)]

    progress.stage = "reading records"
    rows = read_metadata(settings.table) if settings.table else {}
    records = _read_all(sources, rows, progress)
    manifest: dict[str, Any] = {"input": _sizes(records), **_repeats(records), **_unused_rows(rows, records)}
    records = _choose_groups(records, settings.groups, left_out)
    records = _choose_annotated(records, settings, left_out)

    progress.stage = "assigning splits"
    records = _assign_splits(records, settings)
    _leave_out(left_out, "split_none", [record for record in records if record.split == LEFT_OUT])
    records = [record for record in records if record.split != LEFT_OUT]
    # of the splits that there are now, none may be lost on the way to the files
    wanted = {record.split for record in records} | set(
        check_fractions(settings.fractions) if settings.split_by else ()
    )
    if settings.drops_shared_genomes:
        records, dropped = drop_shared_genomes(records)
        _leave_out(left_out, "genome_in_a_later_split", dropped)
    check_genomes(records)
    check_labels(records, wanted, left_out)

    progress.stage = "comparing splits"
    near = control_near_duplicates(
        records,
        max_shared=settings.max_shared,
        drops=settings.drops_near_duplicates,
        scale=settings.sketch_scale,
    )
    _leave_out(left_out, "near_duplicate", near.dropped)
    records = near.kept
    check_labels(records, wanted, left_out)

    progress.stage = "cutting chunks"
    items, cut, left_out_chunks = cut_items(records, settings.rule)
    before = counts_of(items, records)
    chosen = items.take(_balance(items, records, settings))
    left_out_chunks.add("balance", items.length[_not_in(items, chosen)])
    _leave_out(left_out, "no_chunk_left", _without_items(records, chosen))
    check_labels(_with_items(records, chosen), wanted, left_out_chunks.counts)

    manifest |= {
        "cut": cut.counts.get("all", {}) if settings.rule.chunk_length else None,
        "left_out_records": left_out,
        "left_out_chunks": left_out_chunks.counts if settings.rule.chunk_length else {},
        "balance": {"splits": list(settings.balance), "before": before} if settings.balance else None,
        "counts": counts_of(chosen, records),
        "in_two_splits": shared_names(_with_items(records, chosen)),
        "near_duplicates": near.facts,
    }
    progress.stage = "writing"
    return _write(folder, settings, sources, records, chosen, manifest)


def _read_all(
    sources: Sequence[Source], rows: Mapping[str, Mapping[str, str]], progress: RunProgress
) -> list[SourceRecord]:
    records = []
    for source in sources:
        for record in read_source(source):
            records.append(complete(record, rows.get(record.id, {}), source.fields))
            progress.done_sequences += 1
    if not records:
        raise InputError("the inputs hold no record")
    return records


def _choose_groups(
    records: list[SourceRecord], groups: Sequence[str], left_out: dict[str, dict[str, int]]
) -> list[SourceRecord]:
    known = sorted({record.group for record in records})
    for group in groups:
        if group not in known:
            raise UsageError(f"no record is of the group {group!r}", hint=f"the groups are {', '.join(known)}")
    if not groups:
        return records
    _leave_out(left_out, "group_not_chosen", [record for record in records if record.group not in groups])
    return [record for record in records if record.group in groups]


def _choose_annotated(
    records: list[SourceRecord], settings: BuildSettings, left_out: dict[str, dict[str, int]]
) -> list[SourceRecord]:
    bare = [record for record in records if settings.rule.rule_for(record) == "annotated" and not record.proteins]
    if bare and not settings.skips_unannotated:
        what = "is not from GenBank" if bare[0].proteins is None else "has no annotated protein (no CDS)"
        raise bare[0].error(
            f"{what}, and the frame rule 'annotated' needs them ({len(bare):,} such records)",
            "leave such records out with --skip-unannotated, or choose --frames stop-free",
        )
    _leave_out(left_out, "unannotated", bare)
    without = set(map(id, bare))
    return [record for record in records if id(record) not in without]


def _assign_splits(records: list[SourceRecord], settings: BuildSettings) -> list[SourceRecord]:
    if settings.split_table:
        return assign_by_table(records, *read_split_table(settings.split_table))
    if settings.split_by:
        given = next((record for record in records if record.split not in ("", LEFT_OUT)), None)
        if given is not None:
            raise given.error(
                f"is in the split {given.split!r} already", "leave --split-by out, or take the splits out of the input"
            )
        drawn = [record for record in records if record.split != LEFT_OUT]
        labels = {record.label for record in drawn}
        if len(labels) == 1:
            raise InputError(
                f"all {len(drawn):,} records have the label {labels.pop()}",
                hint="a classifier needs viral records and others: label=viral:FILE label=other:FILE",
            )
        if not drawn:
            return records  # all of them left out; the check of labels says so
        return [
            *draw_splits(drawn, settings.split_by, settings.fractions, settings.seed),
            *(record for record in records if record.split == LEFT_OUT),
        ]
    undecided = next((record for record in records if not record.split), None)
    if undecided is not None:
        raise undecided.error(
            "is in no split",
            "draw splits (--split-by genome|taxon|family|study), give them in a table (--split-table), or for a file: "
            "split=train:FILE",
        )
    return records


def _balance(items: Items, records: Sequence[SourceRecord], settings: BuildSettings) -> np.ndarray[Any, Any]:
    """Which items stay: all of the splits that are not balanced."""
    split = _split_of(items, records)
    keep = np.ones(len(items), np.bool_)
    for number, name in enumerate(SPLITS):
        of_split = np.flatnonzero(split == name)
        if name in settings.balance and len(of_split):
            seed = settings.seed * len(SPLITS) + number  # of its own for every split
            part = items.take(split == name)
            keep[of_split] = balanced(part, records, by_bases=settings.rule.chunk_length is None, seed=seed)
    return keep


def _write(
    folder: Path,
    settings: BuildSettings,
    sources: Sequence[Source],
    records: Sequence[SourceRecord],
    items: Items,
    manifest: Mapping[str, Any],
) -> dict[str, Any]:
    rule = settings.rule
    said: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "seqassay": seqassay.__version__,
        "unit": "records" if rule.chunk_length is None else "chunks",
        "chunk_length": rule.chunk_length,
        "chunk_rule": None if rule.chunk_length is None else "even",
        "frames": "any" if rule.chunk_length is None else rule.frames or "annotated for GenBank, else stop-free",
        "rejects_ambiguous": rule.chunk_length is not None and rule.rejects_ambiguous,
        "genetic_code": rule.genetic_code,
        "seed": settings.seed,
        "split": _split_facts(settings),
        "groups": list(settings.groups) or None,
        "sources": [source.facts() for source in sources],
        "table": _file_facts(settings.table),
        **manifest,
        "files": {},
    }
    split = _split_of(items, records)
    for name in SPLITS:
        of_split = items.take(split == name)
        if len(of_split):
            path = folder / f"{name}.fa.gz"
            digest = write_gzip(path, fasta_of(of_split, records, whole=rule.chunk_length is None))
            said["files"][path.name] = {"bytes": path.stat().st_size, "sha256": digest}
    text = json.dumps(said, indent=1, ensure_ascii=False) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    return said


def _split_of(items: Items, records: Sequence[SourceRecord]) -> np.ndarray[Any, Any]:
    return np.array([records[i].split for i in items.record.tolist()], dtype="<U5")


def _not_in(items: Items, chosen: Items) -> np.ndarray[Any, Any]:
    """Which items were not chosen; record and number identify them."""
    width = int(items.number.max(initial=0)) + 1
    return ~np.isin(items.record * width + items.number, chosen.record * width + chosen.number)


def _with_items(records: Sequence[SourceRecord], items: Items) -> list[SourceRecord]:
    return [records[i] for i in np.unique(items.record).tolist()]


def _without_items(records: Sequence[SourceRecord], items: Items) -> list[SourceRecord]:
    has_item = np.zeros(len(records), np.bool_)
    has_item[items.record] = True
    return [records[i] for i in np.flatnonzero(~has_item).tolist()]


def _sizes(records: Iterable[SourceRecord]) -> dict[str, int]:
    lengths = [len(record) for record in records]
    return {"records": len(lengths), "bases": sum(lengths)}


def _leave_out(left_out: dict[str, dict[str, int]], reason: str, records: Sequence[SourceRecord]) -> None:
    if records:
        left_out[reason] = _sizes(records)


def _repeats(records: Sequence[SourceRecord]) -> dict[str, int]:
    """Records that repeat the id, or the sequence, of one before them. They are kept: only splits are at stake."""
    return {
        "repeated_ids": len(records) - len({record.id for record in records}),
        "repeated_sequences": len(records) - len({sequence_digest(record) for record in records}),
    }


def _unused_rows(rows: Mapping[str, object], records: Sequence[SourceRecord]) -> dict[str, int]:
    return {"table_rows_without_record": len(set(rows) - {record.id for record in records})} if rows else {}


def _split_facts(settings: BuildSettings) -> dict[str, Any]:
    if settings.split_table:
        return {"rule": "table", "table": _file_facts(settings.split_table)}
    if settings.split_by:
        return {"rule": "drawn", "by": settings.split_by, "fractions": dict(settings.fractions)}
    return {"rule": "given"}


def _file_facts(path: str | None) -> dict[str, str] | None:
    return None if path is None else {"path": path, "sha256": file_sha256(Path(path))}
