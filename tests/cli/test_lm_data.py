"""`seqassay lm data` as a command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., int]
QUIET = "--no-progress"
SHARED = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
TRAIN = f"The cat sat on the mat. The dog sat on the log.\n\n\nThe cat saw the dog.\n{SHARED}\n"


@pytest.fixture
def text(run: Run) -> Path:
    folder = Path("text")
    folder.mkdir()
    (folder / "train.txt").write_text(TRAIN)
    (folder / "valid.txt").write_text(f"The mat and the log.\n{SHARED}\n")
    return folder


def test_build_then_show(run: Run, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run("lm", "data", "build", "text", "--documents", "blank-lines", "--vocab-size", "262", "-o", "t", QUIET) == 0
    )
    built = capsys.readouterr().out
    assert built.splitlines()[1].split()[:5] == [
        "train",
        "2",
        str(len(TRAIN.split())),
        str(len(TRAIN)),
        str(len(TRAIN.encode())),
    ]
    assert "262 tokens" in built
    assert run("lm", "data", "show", "t", "--verify") == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[:-1] == built.splitlines()[:-1]
    assert shown.splitlines()[-1] == "all digests are right"


def test_changed_token_files_are_shown_to_be(run: Run, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("lm", "data", "build", "text", "--characters", "-o", "t", QUIET) == 0
    Path("t/train.bin").write_bytes(b"\0" * Path("t/train.bin").stat().st_size)
    assert run("lm", "data", "show", "t") == 0
    assert run("lm", "data", "show", "t", "--verify") == 2
    assert "t/train.bin: was changed" in capsys.readouterr().err
    Path("t/tokenizer.json").unlink()
    assert run("lm", "data", "show", "t") == 2
    assert "t/tokenizer.json: the tokenizer cannot be read" in capsys.readouterr().err


def test_what_was_changed_in_the_text_is_said(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    Path("w.txt").write_bytes(b"\xef\xbb\xbfHello.\r\nHello.\r\n")
    assert run("lm", "data", "build", "train=w.txt", "--characters", "-o", "t", QUIET) == 0
    said = capsys.readouterr().out
    assert "1 files began with a byte order mark" in said
    assert "2 CRLF line ends became LF" in said


def test_check_with_a_limit(run: Run, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"passage": SHARED.title(), "question": "is it so", "answer": False}
    Path("qa.jsonl").write_text(json.dumps(row) + "\n")
    arguments = ("lm", "data", "check", "text", "--probes", "qa.jsonl", "-o", "findings.json", QUIET)
    assert run(*arguments) == 0
    said = capsys.readouterr().out
    assert "qa: 1 of 1 items share 13 words with the training text (0 are too short to tell)" in said
    assert "qa:1 passage, text/train.txt:5: one two three" in said
    assert json.loads(Path("findings.json").read_text())["probes"][0]["found"] == 1
    assert run(*arguments, "--max-overlap", "0.01") == 2
    assert "1 of 1 items of qa (100.00%)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("build", "train=absent.txt", "--characters", "-o", "t"), "absent.txt: no such file"),
        (("build", "train=", "--characters", "-o", "t"), "train=: no file is named"),
        (("build", "text/train.txt", "--characters", "-o", "t"), "say so: train=text/train.txt"),
        (("build", "text", "-o", "t"), "no tokenizer given"),
        (("build", "text", "--vocab-size", "9999", "-o", "t"), "too large for this text"),
        (("build", "text", "--tokenizer", "text/train.txt", "-o", "t"), "is no tokenizer"),
        (("build", "text", "--characters", "-o", "text"), "text: exists and holds train.txt"),
        (("check", "train=text/train.txt"), "one split alone"),
        (("check", "text", "--documents", "chapters"), "--documents is 'chapters'"),
        (("fetch", "wikitext-9", "-o", "w"), "no configuration is called 'wikitext-9'"),
    ],
)
def test_bad_input_ends_with_2(
    run: Run, text: Path, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("lm", "data", *arguments, QUIET) == 2
    assert message in capsys.readouterr().err.replace("\n", " ")
    assert not Path("t").exists()
