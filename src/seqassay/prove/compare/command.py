"""`seqassay compare`: the steps from two paths to a record, a list of mismatches and a report."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqassay.config import settings_as_json
from seqassay.errors import InputError, UsageError
from seqassay.measure.provenance import provenance, utc_now
from seqassay.predict.consensus import VIRUS_THRESHOLD
from seqassay.prove.compare.embeddings import check_comparable, compare_embeddings, read_checked
from seqassay.prove.compare.figures import compare_tables
from seqassay.prove.compare.identity import Likeness, identity_of_embeddings
from seqassay.prove.compare.outputs import (
    Listed,
    check_output_folder,
    list_embeddings,
    list_table,
    write_outputs,
)
from seqassay.prove.compare.pairing import Pairing, pair
from seqassay.prove.compare.record import FORMAT, VERSION, check_record
from seqassay.prove.compare.settings import CompareSettings
from seqassay.prove.compare.sources import Source, common_levels, open_source
from seqassay.prove.compare.tables import Level, Table, read_table
from seqassay.prove.compare.verdict import agreement_gate

Say = Callable[[str], None]

_OF_RESULTS = ("bundle", "chunk-length", "inputs")
_WHAT_ROWS_ARE = ("chunk_rule", "genetic_code", "ambiguity")  # settings that decide what a frame or chunk holds
_OF_EMBEDDINGS = ("encoder",)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A finished comparison: its record (``metrics.json``), and the folder it is in."""

    record: dict[str, Any]
    folder: Path


def compare(settings: CompareSettings, *, say: Say = lambda _: None) -> Comparison:
    """Put two sides next to each other, row by row, and write what was found.

    Args:
        say: told what is being done, at the beginning of each step.

    Raises:
        UsageError: settings that cannot work, something in the output folder's way, or sides that differ in what
            ``allow_different`` does not name.
        InputError: a bad file; names it, and the line or row.
    """
    began = time.monotonic()
    check_output_folder(settings.output_dir, (settings.a, settings.b), force=settings.force)
    a, b = open_source("A", settings.a), open_source("B", settings.b)
    levels = common_levels(a, b)
    if levels:
        likeness = Likeness(a.identity, b.identity, _OF_RESULTS, settings.allow_different)
        parts = [_compare_level(level, a, b, likeness, settings, say) for level in levels]
    else:
        likeness, part = _compare_embeddings(a, b, settings, say)
        parts = [part]
    if not any(part.record["rows"]["in_both"] for part in parts):
        raise InputError(
            f"not one row of {settings.b} is in {settings.a}: there is nothing to compare",
            hint="compare results of one input; ids have to be the same",
        )

    record = _opening(settings, likeness)
    record["identity"] |= {side: {**record["identity"][side], **_place(of)} for side, of in (("a", a), ("b", b))}
    record["files"] = [file for part in parts for file in part.files]
    record["levels"] = [part.record for part in parts]
    record["mismatches"] = [count for part in parts for count in part.listed.counts]
    record["notes"] = _notes(likeness, parts, a, b)
    record["gate"] = agreement_gate(record["levels"], settings.min_agreement)
    record["verdict"] = record["gate"]["verdict"]

    say("writing")
    record["wall_s"] = round(time.monotonic() - began, 3)
    check_record(record)
    rows = (row for part in parts for row in part.listed.rows)
    write_outputs(settings.output_dir, record, rows, force=settings.force)
    return Comparison(record, settings.output_dir)


@dataclass(frozen=True, slots=True)
class _Part:
    """What became of one level."""

    record: dict[str, Any]
    listed: Listed
    files: list[dict[str, Any]]


def _compare_level(
    level: Level, a: Source, b: Source, likeness: Likeness, settings: CompareSettings, say: Say
) -> _Part:
    """Read one result file of each side, pair their rows, and work out every figure."""
    tables = []
    for source in (a, b):
        path = source.tables[level]
        say(f"reading {level} of {source.side}: {path}")
        table = read_table(path).with_boundary(source.run)
        source.check_unchanged(path, table.sha256)
        tables.append(table)
    ours, theirs = tables
    say(f"comparing {level}: {len(ours):,} rows and {len(theirs):,} rows")
    pairing = pair(ours.ids, theirs.ids)
    _check_same_sequences(ours, theirs, pairing, likeness)
    record, mismatches = compare_tables(ours, theirs, pairing, settings.tolerance)
    listed = list_table(ours, theirs, pairing, mismatches, settings.mismatch_limit)
    return _Part(record, listed, [_file("A", level, ours), _file("B", level, theirs)])


def _check_same_sequences(a: Table, b: Table, pairing: Pairing, likeness: Likeness) -> None:
    """Lengths and numbers of chunks tell other inputs and other chunk lengths apart, also where no run says so."""
    if a.level != "sequences":
        return
    same_length = a.facts["length"][pairing.in_a] == b.facts["length"][pairing.in_b]
    likeness.seen("inputs", int((~same_length).sum()), "sequences have another length under the same id")
    same_cuts = a.facts["n_chunks"][pairing.in_a] == b.facts["n_chunks"][pairing.in_b]
    n_cut = int(np.count_nonzero(same_length & ~same_cuts))
    likeness.seen("chunk-length", n_cut, "sequences of the same length were cut into another number of chunks")


def _compare_embeddings(a: Source, b: Source, settings: CompareSettings, say: Say) -> tuple[Likeness, _Part]:
    if settings.min_agreement is not None:
        raise UsageError("--min-agreement is about labels; embeddings have none", hint="leave it out")
    sides = []
    for source in (a, b):
        say(f"reading embeddings of {source.side}: {source.path}")
        sides.append(read_checked(source.path))
    ours, theirs = sides
    check_comparable(ours, theirs)
    identities = [identity_of_embeddings(side.metadata) for side in sides]
    likeness = Likeness(identities[0], identities[1], _OF_EMBEDDINGS, settings.allow_different)
    say(f"comparing embeddings: {len(ours.ids):,} rows and {len(theirs.ids):,} rows")
    pairing = pair(ours.ids, theirs.ids)
    record = compare_embeddings(ours, theirs, pairing, settings.tolerance)
    listed = list_embeddings(ours, theirs, pairing, settings.mismatch_limit)
    return likeness, _Part(record, listed, [_file("A", "embeddings", ours), _file("B", "embeddings", theirs)])


def _opening(settings: CompareSettings, likeness: Likeness) -> dict[str, Any]:
    """What was compared, and how."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "kind": "comparison",
        "written_at": utc_now(),
        "identity": likeness.as_record(),
        "settings": settings_as_json(settings),
        "method": {
            "pairs": "rows with the same id; where an id repeats, its k-th row in A with its k-th row in B",
            "difference": "B minus A",
            "boundary": f"virus score {VIRUS_THRESHOLD:g}, of sequences the threshold that their run called by",
            "boundary_distance": "of the side of a flip that lies farther from the boundary",
            "interval": "95%; rows are taken as independent, though frames of one sequence are not",
        },
        "provenance": provenance(),
    }


def _place(source: Source) -> dict[str, Any]:
    """Where a side's results come from, and what their run recorded of its making."""
    said: dict[str, Any] = {"path": str(source.path), "kind": source.kind}
    if source.run is not None:
        said["run"] = {
            name: source.run.get(name) for name in ("inputs", "device", "precision", "written_at", "settings")
        }
        said["run"]["provenance"] = source.run.get("provenance")
    return said


def _file(side: str, level: str, read: Any) -> dict[str, Any]:
    return {
        "side": side,
        "level": level,
        "path": str(read.path),
        "rows": len(read.ids),
        "bytes": read.n_bytes,
        "sha256": read.sha256,
    }


def _notes(likeness: Likeness, parts: list[_Part], a: Source, b: Source) -> list[str]:
    """What a reader has to keep in mind."""
    notes = [
        f"identity unknown: nothing says which model {side} is of"
        for side, identity in (("A", likeness.a), ("B", likeness.b))
        if not identity.is_known
    ]
    unknown = [thing for thing, found in likeness.found.items() if found == "unknown"]
    if unknown and not notes:
        notes.append(f"not known to be the same: {', '.join(unknown)}")
    notes += [f"{thing} differs, as allowed: {reason}" for thing, reason in likeness.reasons.items()]
    cut = [name for name in _WHAT_ROWS_ARE if name in likeness.other_settings]
    if cut:
        notes.append(f"other {', '.join(cut)}: rows with one id need not be of the same bases")
    for part in parts:
        level, rows = part.record["level"], part.record["rows"]
        missing = rows["only_a"] + rows["only_b"]
        if missing:
            notes.append(f"{level}: {rows['only_a']:,} rows are in A alone and {rows['only_b']:,} in B alone")
        if not rows["same_order"]:
            notes.append(f"{level}: the rows stand in another order; they were compared by id")
        against = {side: n for side, n in rows.get("labels_against_scores", {}).items() if n}
        for side, n in against.items():
            notes.append(f"{level}: {n:,} labels of {side.upper()} are not what their scores call for")
    by_rate = [side for side, source in (("A", a), ("B", b)) if source.run and source.run["identity"].get("fdr")]
    if by_rate:
        notes.append(
            f"sequences of {' and '.join(by_rate)} were called by their false discovery rate (--fdr): their boundary "
            f"is not a score of {VIRUS_THRESHOLD:g}"
        )
    return notes
