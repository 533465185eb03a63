"""Result files: ours and VirNucPro's, and everything that can be wrong with one."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from seqassay.errors import InputError
from seqassay.prove.compare.columns import decimals, split_rows, words
from seqassay.prove.compare.tables import Table, level_of, read_table

FRAMES = "Sequence_ID\tPrediction\tscore1\tscore2\n"
CHUNKS = "Modified_ID\tIs_Virus\tmax_score_0\tmax_score_1\n"
SEQUENCES = "sequence_id\tlength\tn_chunks\tn_frames\tstatus\tscore\tcall\tq_value\n"


def read(tmp_path: Path, text: str | bytes) -> Table:
    path = tmp_path / "results.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(path)


def ids(table: Table) -> list[str]:
    return [table.ids.text(row) for row in range(len(table))]


def test_frames(tmp_path: Path) -> None:
    table = read(
        tmp_path, FRAMES + "r1_chunk_1F1\tvirus\t0.08074564\t0.91925436\nr1_chunk_1R2\tothers\t0.999988\t1.2e-05\n"
    )
    assert (table.level, ids(table)) == ("frames", ["r1_chunk_1F1", "r1_chunk_1R2"])
    assert table.labels.tolist() == [1, 0]
    assert table.columns == ("score1", "score2")
    assert table.scores_NK.tolist() == [[0.08074564, 0.91925436], [0.999988, 1.2e-05]]
    assert table.virus_score.tolist() == [0.91925436, 1.2e-05]


def test_chunks_with_scores_stand_on_virnucpros_rule(tmp_path: Path) -> None:
    table = read(tmp_path, CHUNKS + "r1_chunk_1\tTrue\t0.9\t0.9\nr2_chunk_1\tFalse\t0.6\t0.2\n")
    assert (table.level, table.labels.tolist()) == ("chunks", [1, 0])
    assert table.columns == ("max_score_0", "max_score_1")
    assert table.virus_score.tolist() == pytest.approx([0.5, 0.25])


def test_virnucpros_own_chunks_have_no_scores(tmp_path: Path) -> None:
    table = read(tmp_path, "Modified_ID\tIs_Virus\nr1_chunk_1\tTrue\nr2_chunk_1\tFalse\n")
    assert (table.level, table.labels.tolist(), table.columns) == ("chunks", [1, 0], ())
    assert np.isnan(table.virus_score).all()


def test_sequences_without_a_score_have_no_label(tmp_path: Path) -> None:
    rows = "r1\t150\t1\t2\tclassified\t0.859186\tvirus\t0.056\nr2\t151\t1\t0\tno_frame\t\t\t\n"
    table = read(tmp_path, SEQUENCES + rows)
    assert (table.level, table.labels.tolist()) == ("sequences", [1, -1])
    assert table.virus_score[0] == 0.859186
    assert math.isnan(table.virus_score[1])
    assert {name: values.tolist() for name, values in table.facts.items()} == {
        "length": [150, 151], "n_chunks": [1, 1], "status": [0, 1],
    }  # fmt: skip


def test_windows_line_ends_and_ids_that_are_not_utf8(tmp_path: Path) -> None:
    text = (FRAMES + "r\udcff1F1\tvirus\t0.25\t0.75\n").replace("\n", "\r\n").encode("utf-8", "surrogateescape")
    table = read(tmp_path, text)
    assert ids(table) == ["r\udcff1F1"]
    assert table.scores_NK.tolist() == [[0.25, 0.75]]


def test_a_header_alone_is_a_table_without_rows(tmp_path: Path) -> None:
    assert len(read(tmp_path, FRAMES)) == 0


ROW = "r1F1\tvirus\t0.25\t0.75\n"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (b"", None, "the file is empty"),
        (bytes(range(256)) * 20, 1, "binary content"),
        (gzip.compress(FRAMES.encode()), 1, "binary content"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, 1, "binary content"),
        ("Sequence_ID,Prediction,score1,score2\n", 1, "no result file has this header: 'Sequence_ID,Pred"),
        (ROW, 1, "no result file has this header"),
        (FRAMES + ROW + "r2F1\tvirus\t0.25\n" + ROW, 3, "3 columns where the header has 4"),
        (FRAMES + ROW + "r2F1\tvirus\t0.25\t0.75\t1\n", 3, "5 columns where the header has 4"),
        (FRAMES + "\n" + ROW, 2, "1 columns where the header has 4"),
        (FRAMES + ROW + "r2F1\tvirus\t0.25\t0.7", 3, "the last line has no line end: the file was cut"),
        (FRAMES.rstrip("\n"), 1, "the last line has no line end"),
        (FRAMES + ROW + "\0\1\2\3\n", 3, "1 columns where the header has 4"),
        (FRAMES + ROW + "r2F1\tviral\t0.25\t0.75\n", 3, "Prediction is 'viral'; it has to be others or virus"),
        (FRAMES + ROW + "r2F1\t\t0.25\t0.75\n", 3, "Prediction is ''"),
        (FRAMES + ROW + "r2F1\tvirus\tnan\t0.75\n", 3, "score1 is 'nan'; it has to be a number from 0 to 1"),
        (FRAMES + ROW + "r2F1\tvirus\t0.25\tinf\n", 3, "score2 is 'inf'"),
        (FRAMES + ROW + "r2F1\tvirus\t\t0.75\n", 3, "score1 is ''"),
        (FRAMES + ROW + "r2F1\tvirus\t0.25\t-0.75\n", 3, "score2 is '-0.75'; it has to be a number from 0 to 1"),
        (FRAMES + ROW + "r2F1\tvirus\t0.25\t1.5\n" * 3, 3, "from 0 to 1 (and 2 more rows like it)"),
        (FRAMES + ROW + "r2F1\tvirus\t25.0\t75.0\n", 3, "divide them by 100"),
        (FRAMES + ROW + "r2F1\tvirus\t0.25\t0.25\n", 3, "do not add up to 1"),
        (FRAMES + ROW + "\tvirus\t0.25\t0.75\n", 3, "the id is empty"),
        (CHUNKS + "r1\tTrue\t0.2\t0.9\nr2\tyes\t0.2\t0.9\n", 3, "Is_Virus is 'yes'; it has to be False or True"),
        (CHUNKS + "r1\tTrue\t0\t0\n", 2, "both 0"),
        (SEQUENCES + "r1\t150\t1\t2\tlost\t0.8\tvirus\t\n", 2, "status is 'lost'"),
        (SEQUENCES + "r1\t150\t1\t2\tclassified\t0.8\t\t\n", 2, "a score without a call"),
        (SEQUENCES + "r1\t1.5\t1\t2\tclassified\t0.8\tvirus\t\n", 2, "length is '1.5'; it has to be a whole number"),
        (SEQUENCES + "r1\tx\t1\t2\tclassified\t0.8\tvirus\t\n", 2, "length is 'x'"),
        (SEQUENCES + "r1\t150\t1\t2\tclassified\tnan\tvirus\t\n", 2, "score is 'nan'"),
    ],
)  # fmt: skip
def test_bad_files_name_the_line(tmp_path: Path, text: str | bytes, line: int | None, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    assert message in str(caught.value)
    assert caught.value.line == line
    assert "results.txt" in caught.value.message


def test_a_compressed_file_is_to_be_decompressed(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, gzip.compress(FRAMES.encode()))
    assert caught.value.hint == "decompress it first"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.txt: cannot be read"):
        level_of(tmp_path / "none.txt")


def column(*texts: str) -> tuple[np.ndarray, np.ndarray]:
    data = np.frombuffer("".join(f"{text}\n" for text in texts).encode(), np.uint8)
    bounds, bad_row, _ = split_rows(data, 0, 1)
    assert bad_row == -1
    return data, bounds


@given(st.floats(0, 1))
@example(0.0)
@example(5e-324)
@example(1.1754944e-38)
@example(0.1 + 0.2)
def test_numbers_are_what_python_makes_of_them(value: float) -> None:
    exact = [repr(np.float32(value).item()), str(np.float32(value)), f"{value:.6f}", f"{value:.3e}", f"{value:.15g}"]
    values, wrong = decimals(*column(*exact, repr(value)), 0)
    assert len(wrong) == 0
    assert values[-1] == pytest.approx(value, rel=5e-16)
    for text, found in zip(exact, values.tolist(), strict=False):
        assert found == (float(text) if len(text) < 17 else pytest.approx(float(text), rel=5e-16))


@pytest.mark.parametrize("text", ["1", "1.", ".5", "0.50", "+0.25", "1e-3", "1E-03", "12e+2", "0" * 30 + "1", "1e-300"])
def test_ways_to_write_a_number(text: str) -> None:
    values, wrong = decimals(*column(text), 0)
    assert (values.tolist(), wrong.tolist()) == ([float(text)], [])


@pytest.mark.parametrize(
    "text", ["nan", "inf", "1_0", " 1", "1 ", "0x1", "1e", "1e+", "e5", ".", "-", "1.2.3", "1,5", "1e-0x", "--1", "٣"]
)
def test_what_is_no_number(text: str) -> None:
    values, wrong = decimals(*column("0.5", text), 0)
    assert wrong.tolist() == [1]
    assert values[0] == 0.5


def test_words() -> None:
    data, bounds = column("virus", "others", "", "viru", "viruses")
    assert words(data, bounds, 0, ("others", "virus")).tolist() == [1, 0, -1, -1, -1]
