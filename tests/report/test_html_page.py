"""The page: everything in it is text, it needs nothing beside it, and it says what the record says."""

from __future__ import annotations

import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from report_html import write_rows, write_run
from seqassay.errors import InputError, UsageError
from seqassay.report.html.command import report
from seqassay.report.html.page import record_page
from seqassay.report.html.records import read_record, read_records
from seqassay.report.html.settings import ReportSettings

VOID = {"meta", "link", "br", "hr", "img", "input"}
HOSTILE = "<script>alert(1)</script>&amp;\"'"


class Outline(HTMLParser):
    """Elements with their attributes, the text, and whether every element is closed where it should be."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(*folders: Path) -> str:
    return record_page(read_records(folders))


def changed(folder: Path, **changes: Any) -> Path:
    path = folder / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def test_the_page_stands_alone_and_is_built_as_a_screen_reader_needs_it(tmp_path: Path) -> None:
    write_run(tmp_path / "run", 500)
    html = page_of(tmp_path / "run")
    outline = Outline(html)
    assert not outline.open
    assert outline.all("html")[0]["lang"] == "en"
    assert {tag for tag, _ in outline.elements} >= {"main", "nav", "header", "footer", "caption", "figcaption"}
    # nothing is fetched and nothing runs
    assert not {tag for tag, _ in outline.elements} & {"script", "link", "img", "iframe", "object"}
    assert not any(name.startswith("on") for _, attributes in outline.elements for name in attributes)
    assert all(str(a["href"]).startswith("#") for a in outline.all("a"))
    style = re.search("<style>(.*)</style>", html, re.S)
    assert style and "url(" not in style[1] and "@import" not in style[1]
    # links lead somewhere, ids are there once, headings step down one at a time
    ids = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(ids) == len(set(ids)) and {str(a["href"])[1:] for a in outline.all("a")} <= set(ids)
    levels = [int(tag[1]) for tag, _ in outline.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and all(b <= a + 1 for a, b in itertools.pairwise(levels))
    # every picture has a name and a description, every header cell a scope
    pictures = [svg for svg in outline.all("svg") if svg.get("role") == "img"]
    assert pictures and all(set(str(svg["aria-labelledby"]).split()) <= set(ids) for svg in pictures)
    assert all(cell.get("scope") in ("col", "row") for cell in outline.all("th"))
    assert html.count("<details>") == len(pictures)  # its figures as a table


def test_the_page_says_what_the_rows_hold(tmp_path: Path) -> None:
    rows = [
        "a\t100\t1\t2\tclassified\t0.900000\tvirus\t0.010000\n",
        "b\t200\t1\t2\tclassified\t0.950000\tvirus\t0.005000\n",
        "c\t300\t1\t2\tclassified\t0.100000\tothers\t0.400000\n",
        "d\t2\t1\t0\tno_frame\t\t\t\n",
    ]
    (tmp_path / "run").mkdir()
    write_rows(tmp_path / "run", rows, n_scored=3, n_virus=2)
    html = page_of(tmp_path / "run")
    assert "2 of 4 sequences (50.0%) were called virus" in html
    assert html.index("<th scope=row>b</th>") < html.index("<th scope=row>a</th>")  # best first
    assert "<th scope=row>c</th>" not in html
    assert "4 sequences of 2 to 300 bases" in html


def test_everything_from_the_record_is_text(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    rows = [f"{HOSTILE}\t100\t1\t2\tclassified\t0.900000\tvirus\t\n", "\udcff\x01\t5\t1\t1\tclassified\t0.8\tvirus\t\n"]
    record = write_rows(tmp_path / "run", rows, n_scored=2, n_virus=2)
    provenance = record["provenance"] | {"command": HOSTILE, "libraries": {HOSTILE: HOSTILE}}
    changed(
        tmp_path / "run", provenance=provenance, settings={HOSTILE: [HOSTILE]}, device=HOSTILE,
        inputs=[{"name": HOSTILE, "bytes": 1}], stages=[{"stage": HOSTILE, "seconds": 1, "share": 1}],
    )  # fmt: skip
    html = page_of(tmp_path / "run")
    outline = Outline(html)
    assert "<script" not in html and not outline.all("script")
    assert HOSTILE in "".join(outline.text)
    assert "\\udcff\\x01" in html
    html.encode()  # no half surrogate is left


def test_a_run_that_is_not_done_says_so_first(tmp_path: Path) -> None:
    write_run(tmp_path / "run", 50)
    changed(tmp_path / "run", status="stopped", error="stopped by SIGTERM", calls=None, outputs=[])
    text = "".join(Outline(page_of(tmp_path / "run")).text)
    body = text[text.index("Skip to the report") :]
    first = next(line for line in body.splitlines()[1:] if line.strip())
    assert first == "This run was stopped before its end, and can be resumed. stopped by SIGTERM"


def test_a_changed_table_is_refused_and_a_missing_one_is_said(tmp_path: Path) -> None:
    write_run(tmp_path / "run", 50)
    table = tmp_path / "run" / "sequences.tsv"
    whole = table.read_bytes()
    for content, place in (
        (whole.replace(b"read7/1", b"read8/1"), "SHA-256"),
        (whole[:-1] + b"\tmore\n", "line 51: is not the table that the run wrote: 9 columns"),
        (whole.replace(b"sequence_id", b"id"), "line 1"),
        (b"", "SHA-256"),
    ):
        table.write_bytes(content)
        with pytest.raises(InputError, match=re.escape(place)):
            page_of(tmp_path / "run")
    table.unlink()
    assert "sequences.tsv is not beside the record" in page_of(tmp_path / "run")


def test_one_kind_side_by_side_with_differences(tmp_path: Path) -> None:
    write_run(tmp_path / "one", 400)
    write_run(tmp_path / "two", 300, seed=2)
    changed(tmp_path / "two", wall_s=75.5)
    html = page_of(tmp_path / "one", tmp_path / "two")
    outline = Outline(html)
    assert "A · one; B · two." in "".join(outline.text)
    assert re.search(
        r"wall time \(s\)</th><td class=\"n\">60</td><td class=\"n\">75.5</td><td class=\"n\">\+15.5<", html
    )
    assert [attributes["id"] for attributes in outline.all("article")] == ["v1", "v2", "v3"]


def test_bad_records_are_refused_with_the_place(tmp_path: Path) -> None:
    record = write_run(tmp_path / "run", 20)
    path = tmp_path / "run" / "run.json"
    whole = path.read_text()
    counts = record["counts"] | {"virus": -1}
    for content, said in (
        (whole[: len(whole) // 2], "is no whole record"),
        ("[" * 100_000, "is no whole record"),
        (whole.replace("60.0", "NaN", 1), "NaN is no number of JSON"),
        (whole.replace("60.0", "1e999", 1), "1e999 is too large a number"),
        (whole.replace("60.0", "6" * 400, 1), "is too large a number"),
        (json.dumps(record | {"format": "seqassay-tea"}), "its format is 'seqassay-tea'"),
        (json.dumps(record | {"format": ["seqassay-run"]}), "is no record of a known kind"),
        ("[]", "is no record of a known kind"),
        (json.dumps(record | {"version": "9.9"}), "is of version '9.9'; read here: 1.2"),
        (json.dumps(record | {"counts": counts}), "counts.virus is -1, below 0"),
        (json.dumps({name: value for name, value in record.items() if name != "calls"}), "lacks calls"),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=re.escape(said)) as caught:
            read_record(tmp_path / "run")
        assert str(path) in caught.value.message and caught.value.exit_code == 2
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="is no whole record"):
        read_record(path)
    with pytest.raises(InputError, match="holds none of"):
        read_record(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        read_record(tmp_path / "nothing.json")


def test_places_in_the_way(tmp_path: Path) -> None:
    write_run(tmp_path / "run", 20)
    page = tmp_path / "page.html"
    settings = ReportSettings(records=(str(tmp_path / "run"),), output=page)
    assert report(settings) == page.stat().st_size
    with pytest.raises(UsageError, match="is there already"):
        report(settings)
    assert report(ReportSettings(records=settings.records, output=page, force=True)) == page.stat().st_size
    with pytest.raises(UsageError, match="a folder is in the way"):
        (tmp_path / "folder.html").mkdir()
        report(ReportSettings(records=settings.records, output=tmp_path / "folder.html", force=True))
    with pytest.raises(UsageError, match=r"ends in \.html"):
        ReportSettings(records=settings.records, output=tmp_path / "run" / "run.json", force=True)
    with pytest.raises(UsageError, match="is the same record"):
        read_records([tmp_path / "run", tmp_path / "run" / "run.json"])
    with pytest.raises(UsageError, match="no record"):
        ReportSettings(records=())


def test_a_page_is_bounded_whatever_the_record_holds(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    rows = [f"{'x' * 20_000}{i}\t100\t1\t2\tclassified\t0.900000\tvirus\t\n" for i in range(300)]
    write_rows(tmp_path / "run", rows, n_scored=300, n_virus=300)
    inputs = [{"name": f"{'y' * 200}{i}", "bytes": 1} for i in range(20_000)]
    changed(tmp_path / "run", inputs=inputs, settings={"inputs": [entry["name"] for entry in inputs]})
    html = page_of(tmp_path / "run")
    assert len(html.encode()) < 2_000_000
    assert "The 200 best-scoring of 300" in html and "19,500 more rows are left out here" in html
