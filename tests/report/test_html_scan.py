"""The page of a scan, from its tables."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from seqassay.errors import InputError
from seqassay.report.html.tracks import MOST_CONTIGS, read_scan

CONTIGS = "contig\tlength\tn_windows\tn_scored\tn_regions\tregion_bases\tstatus\tplot\n"
TRACK = "contig\tstart\tend\tscore\tstatus\n"


def write_tables(folder: Path, tables: dict[str, str]) -> dict[str, dict[str, str]]:
    """The tables, and what a record says of them."""
    for name, text in tables.items():
        (folder / name).write_text(text)
    return {name: {"sha256": hashlib.sha256(text.encode()).hexdigest()} for name, text in tables.items()}


def tables(n_more: int = 0) -> dict[str, str]:
    """Two contigs of one name, the second with a region, one without a score, and more short ones."""
    more = [f"more{i}" for i in range(n_more)]
    return {
        "contigs.tsv": CONTIGS
        + "same\t9000\t2\t1\t0\t0\tscanned\t\nsame\t9000\t2\t2\t1\t4000\tscanned\tplots/same.png\n"
        + "n\t3000\t1\t0\t0\t0\tno_score\t\n"
        + "".join(f"{name}\t100\t1\t1\t0\t0\tshort\t\n" for name in more),
        "track.tsv": TRACK
        + "same\t0\t3000\t0.100000\tclassified\nsame\t3000\t6000\t\tno_frame\n"
        + "same\t0\t3000\t0.700000\tclassified\nsame\t3000\t6000\t0.900000\tclassified\nn\t0\t3000\t\tno_bases\n"
        + "".join(f"{name}\t0\t100\t0.500000\tclassified\n" for name in more),
        "regions.gff3": "##gff-version 3\n"
        "same\tseqassay\tprophage\t1001\t5000\t0.800000\t.\t.\tID=region_1;contig_number=2;windows=2\n",
    }  # fmt: skip


def test_contigs_of_one_name_keep_their_own_scores_and_regions(tmp_path: Path) -> None:
    found = read_scan(tmp_path, write_tables(tmp_path, tables()))
    assert [track.contig.number for track in found.tracks] == [1, 0]  # most viral bases first; none without a score
    assert found.tracks[0].points == [(1500.0, 0.7), (4500.0, 0.9)] and found.tracks[0].regions == [(1000, 5000)]
    assert found.tracks[1].points == [(1500.0, 0.1), (4500.0, None)] and found.tracks[1].regions == []
    assert (found.n_contigs, found.n_regions, found.names) == (3, 1, {1: "same"})


def test_contigs_beyond_the_limit_are_left_out_and_counted(tmp_path: Path) -> None:
    found = read_scan(tmp_path, write_tables(tmp_path, tables(n_more=50)))
    assert len(found.tracks) == MOST_CONTIGS and found.n_contigs == 53


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("track.tsv", "0.900000", "0.990000", "track.tsv: is not the table that the scan wrote: its SHA-256"),
        ("track.tsv", "0.900000", "much", "track.tsv, line 5"),
        ("track.tsv", "n\t0", "m\t0", "line 6: is not the table that the scan wrote: a window of 'n' was expected"),
        ("track.tsv", "n\t0\t3000\t\tno_bases\n", "", "its SHA-256"),
        (
            "track.tsv",
            "same\t0\t3000\t0.7",
            "n\t0\t3000\t0.7",
            "line 4: is not the table that the scan wrote: a window of",
        ),
        ("contigs.tsv", "n\t3000\t1", "n\t3000\tx", "contigs.tsv, line 4"),
        ("regions.gff3", "contig_number=2;", "", "regions.gff3, line 2"),
    ],
)
def test_a_changed_table_is_refused(tmp_path: Path, name: str, old: str, new: str, said: str) -> None:
    outputs = write_tables(tmp_path, tables())
    (tmp_path / name).write_text(tables()[name].replace(old, new))
    with pytest.raises(InputError) as caught:
        read_scan(tmp_path, outputs)
    assert said in caught.value.message
