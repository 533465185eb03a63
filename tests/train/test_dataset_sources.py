"""Labelled FASTA, CSV and tables: what is read, what wins, and what every fault says."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from seqassay.errors import InputError, SeqassayError, UsageError
from seqassay.train.dataset_sources import (
    SourceRecord,
    complete,
    parse_sources,
    read_metadata,
    read_source,
    read_split_table,
    to_bases,
)


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def record(**fields: str) -> SourceRecord:
    return SourceRecord(fields.pop("id", "r1"), to_bases("ACGT")[0], "x.fa", 1, **fields)


HEADER = '>a label=viral group=phage taxon="T 4" family="Straboviridae" study=s1 split=test genome=g extra=1'
FASTA = f"{HEADER}\nacgu\nRY\n>b\nTT\n"


def test_fields_of_a_fasta_header(tmp_path: Path) -> None:
    first, second = read_source(parse_sources(write(tmp_path / "x.fa", FASTA))[0])
    assert (first.id, first.label, first.group, first.taxon, first.family) == (
        "a", "viral", "phage", "T 4", "Straboviridae"
    )  # fmt: skip
    assert (first.study, first.split, first.genome, first.number) == ("s1", "test", "g", 1)
    assert first.bases.tobytes() == b"ACGTRY"
    assert (second.id, second.label, second.group, second.number) == ("b", "", "", 2)
    assert first.proteins is None


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_sequences_in_a_table(tmp_path: Path, delimiter: str) -> None:
    text = "id,sequence,label,taxon\r\nx,acgN,viral,A virus\r\n\r\ny,TTTT,other,\r\n".replace(",", delimiter)
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + text.encode()))
    first, second = read_source(parse_sources(str(path))[0])
    assert (first.id, first.bases.tobytes(), first.label, first.taxon) == ("x", b"ACGN", "viral", "A virus")
    assert (second.id, second.number, second.taxon) == ("y", 2, "")


def test_a_sequence_longer_than_the_csv_module_allows_by_itself(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", f"id,sequence\nx,{'A' * 200_000}\n")
    (only,) = read_source(parse_sources(path)[0])
    assert len(only) == 200_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,sequence,colour\na,ACGT,red\n", "line 1: unknown column 'colour'"),
        ("id,label\na,viral\n", "the column 'sequence' is missing"),
        ("id,sequence,id\na,ACGT,b\n", "the column 'id' is there twice"),
        ("id,sequence\na,ACGT\nb\n", "line 3: 1 values, but 2 columns"),
        ("id,sequence\na,\n", "line 2: the column sequence is empty"),
        ("id,sequence\n,ACGT\n", "line 2: the column id is empty"),
        ("id,sequence\na b,ACGT\n", "the id 'a b' has white space in it"),
        (
            "id,sequence\na,MKLF\n",
            "record 1 (a), line 2: 'L' at position 3 of the sequence is not a nucleotide letter\n",
        ),
        ('id,sequence\n"a,ACGT\n', "this is no CSV or TSV file"),
        ("@r\nACGT\n+\nIIII\n", "this is FASTQ"),
        ("hello\n", "this is no FASTA, CSV or GenBank"),
        ("", "the file is empty"),
        (" \n\n", "the file is empty"),
        (">a\n", "header without a sequence"),
    ],
)
def test_faults_name_the_file(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "x.txt", text)
    with pytest.raises(InputError) as error:
        list(read_source(parse_sources(path)[0]))
    assert message in str(error.value)
    assert path in str(error.value)


def test_rubbish_and_truncation_are_input_errors(tmp_path: Path) -> None:
    whole = gzip.compress(b"id,sequence\n" + b"".join(b"r%d,ACGTACGT\n" % i for i in range(200)))
    for data in (b"\x00\xff\x00,\x01" * 50, whole[:-20], whole[:30], b"id,sequence\na,\xff\xfe\n"):
        path = tmp_path / "x.csv"
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"x\.csv"):
            list(read_source(parse_sources(str(path))[0]))


def test_fields_before_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "x.fa", FASTA)
    (source,) = parse_sources(f"label=viral,group=a b:{path}")
    assert (source.path, dict(source.fields)) == (path, {"label": "viral", "group": "a b"})
    odd = write(tmp_path / "label=viral:odd.fa", FASTA)
    assert parse_sources(odd)[0].path == odd
    facts = source.facts()
    assert facts["bytes"] == len(FASTA)
    assert len(str(facts["sha256"])) == 64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour=red:{path}", "unknown field 'colour'"),
        ("label=maybe:{path}", "label is 'maybe'"),
        ("split=dev:{path}", "split is 'dev'"),
        ("{path}.none", "no such file"),
        ("/dev/stdin", "read twice"),
        ("-", "read twice"),
        ("{folder}", "this is a directory"),
    ],
)
def test_inputs_that_cannot_be(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "x.fa", FASTA)
    if text == "/dev/stdin":
        fifo = tmp_path / "fifo"
        __import__("os").mkfifo(fifo)
        text = str(fifo)
    with pytest.raises(SeqassayError, match=message) as error:
        parse_sources(text.format(path=path, folder=tmp_path))
    assert error.value.exit_code == 2


def test_the_command_line_wins_over_the_table_and_that_over_the_header() -> None:
    found = complete(
        record(label="viral", group="virus", taxon="header", family="header"),
        {"taxon": "table", "family": "table", "study": "table", "group": ""},
        {"taxon": "given"},
    )
    assert (found.label, found.group, found.taxon, found.family, found.study) == (
        "viral", "virus", "given", "table", "table"
    )  # fmt: skip
    assert found.genome == "r1"


@pytest.mark.parametrize(
    ("name", "genome"),
    [
        ("NC_1.1:10-99", "NC_1.1"),
        ("NC_1.1:10-99:-", "NC_1.1"),
        ("NC_1.1", "NC_1.1"),
        ("a:b", "a:b"),
    ],
)
def test_a_piece_is_of_its_genome(name: str, genome: str) -> None:
    assert complete(record(id=name, label="viral"), {}, {}).genome == genome
    assert complete(record(id=name, label="viral", genome="own"), {}, {}).genome == "own"


def test_groups_by_default() -> None:
    assert complete(record(label="viral"), {}, {}).group == "virus"
    assert complete(record(), {"label": "other"}, {}).group == "other"


@pytest.mark.parametrize(
    ("own", "row", "given", "message"),
    [
        ({}, {}, {}, "has no label"),
        ({"label": "host"}, {}, {}, "label is 'host', not viral or other"),
        ({"label": "viral"}, {"label": "other"}, {}, "the metadata table says 'other'"),
        ({"label": "viral"}, {}, {"label": "other"}, "the command line says 'other'"),
        ({"label": "viral", "split": "train"}, {}, {"split": "test"}, "split is 'train', but"),
        ({"label": "viral", "split": "dev"}, {}, {}, "split is 'dev'"),
    ],
)
def test_contradictions_name_the_record(own: dict, row: dict, given: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        complete(record(**own), row, given)
    assert "x.fa, record 1 (r1)" in str(error.value)


def test_a_metadata_table(tmp_path: Path) -> None:
    rows = read_metadata(write(tmp_path / "t.tsv", "id\tlabel\tTaxon\na\tviral\tA  virus\nb\tother\t\n"))
    assert rows == {"a": {"label": "viral", "taxon": "A virus"}, "b": {"label": "other", "taxon": ""}}
    with pytest.raises(InputError, match="line 3: a second row for the id 'a'"):
        read_metadata(write(tmp_path / "t.tsv", "id\tlabel\na\tviral\na\tviral\n"))
    with pytest.raises(InputError, match="unknown column 'lable'"):
        read_metadata(write(tmp_path / "t.tsv", "id\tlable\na\tviral\n"))


def test_a_split_table(tmp_path: Path) -> None:
    path = write(tmp_path / "t.tsv", "taxon\tsplit\nA virus\ttrain\nB\tnone\nA virus\ttrain\n")
    assert read_split_table(path) == ("taxon", {"A virus": "train", "B": "none"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("taxon\tsplit\nA\tdev\n", "line 2: split is 'dev'"),
        ("taxon\tsplit\nA\ttrain\nA\ttest\n", "taxon 'A' is in train and in test"),
        ("taxon\tid\tsplit\nA\ta\ttrain\n", "needs one of the columns"),
        ("taxon\tsplit\n", "the table has no rows"),
        ("split\ntrain\n", "one column only"),
    ],
)
def test_bad_split_tables(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_split_table(write(tmp_path / "t.tsv", text))


def test_the_folder_of_a_fetch(tmp_path: Path) -> None:
    files = [
        {"name": "viral.1.1.genomic.fna.gz", "label": "viral", "group": "virus"},
        {"name": "plant.1.genomic.gbff.gz", "label": "other", "group": "plant"},
    ]
    for file in files:
        (tmp_path / file["name"]).write_text(">a\nACGT\n")
    (tmp_path / "fetch.json").write_text(json.dumps({"complete": True, "files": files}))
    first, second = parse_sources(f"split=train:{tmp_path}")
    assert dict(first.fields) == {"label": "viral", "group": "virus", "split": "train"}
    assert dict(second.fields) == {"split": "train"}
    for said, message in (
        ({"complete": False, "files": files}, "has not ended"),
        ({"complete": True, "files": [{"name": "gone", "label": "viral", "group": "x"}]}, "was fetched"),
        ({"files": 3}, "is not the manifest of a fetch"),
    ):
        (tmp_path / "fetch.json").write_text(json.dumps(said))
        with pytest.raises(InputError, match=message):
            parse_sources(str(tmp_path))


def test_unknown_field_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        parse_sources(f"labels=viral:{write(tmp_path / 'x.fa', FASTA)}")
