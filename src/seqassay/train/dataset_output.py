"""What a dataset's files hold: FASTA records with their labels in the headers, and their counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from seqassay.train.dataset_chunks import Items, frame_names
from seqassay.train.dataset_sources import SPLITS, SourceRecord


def fasta_of(items: Items, records: Sequence[SourceRecord], *, whole: bool) -> Iterator[bytes]:
    """Records of a FASTA file: chunks (``RECORD_chunk_3``), or whole records under their own names."""
    columns = (items.record, items.number, items.start, items.length, items.frames)
    for index, number, start, length, frames in zip(*(column.tolist() for column in columns), strict=True):
        record = records[index]
        name = record.id if whole else f"{record.id}_chunk_{number}"
        fields = [f"label={record.label}", f"group={_word(record.group)}"]
        fields += [f'taxon="{_quotable(record.taxon)}"', f'family="{_quotable(record.family)}"']
        if record.study:
            fields.append(f"study={_word(record.study)}")
        if record.genome != name:
            fields.append(f"genome={_word(record.genome)}")
        fields += [f"record={_word(record.id)}", f"start={start}"]
        if frames:
            fields.append(f"frames={frame_names(frames)}")
        yield f">{name} {' '.join(fields)}\n".encode()
        yield record.bases[start : start + length].tobytes() + b"\n"


def _word(text: str) -> str:
    """A value as a header holds it: in quotes where there is white space in it."""
    clean = _quotable(text)
    return f'"{clean}"' if " " in clean or not clean else clean


def _quotable(text: str) -> str:
    return " ".join(text.replace('"', "'").split())


def counts_of(items: Items, records: Sequence[SourceRecord]) -> dict[str, dict[str, dict[str, dict[str, int]]]]:
    """Records, chunks (or whole records) and bases by split, label and group."""
    counts: dict[str, dict[str, dict[str, dict[str, int]]]] = {}
    last = -1
    for index, length in zip(items.record.tolist(), items.length.tolist(), strict=True):
        record = records[index]
        entry = (
            counts.setdefault(record.split, {})
            .setdefault(record.label, {})
            .setdefault(record.group, {"records": 0, "chunks": 0, "bases": 0})
        )
        entry["records"] += index != last  # items are ordered by record
        entry["chunks"] += 1
        entry["bases"] += length
        last = index
    return {
        split: {label: dict(sorted(groups.items())) for label, groups in sorted(counts[split].items())}
        for split in SPLITS
        if split in counts
    }
