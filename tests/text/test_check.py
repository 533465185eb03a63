"""Overlap of splits and contamination by probe items: found where it is, and nowhere else."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqassay.errors import InputError, UsageError
from seqassay.text import reading
from seqassay.text.build import BuildSettings, build_token_files
from seqassay.text.check import CheckSettings, check_text
from seqassay.text.ngrams import N_WORDS, HashSet, NgramStream, words_of


def sentence(seed: int, n_words: int) -> str:
    words = random.Random(seed)
    return " ".join(f"w{words.randrange(10**6)}" for _ in range(n_words))


SHARED_20 = sentence(0, 20)
TRAIN = [f"{sentence(1, 50)}\n{SHARED_20}\n{sentence(2, 50)}\n", f"{sentence(3, 40)}\n"]
VALID = [f"{sentence(4, 30)}\n{SHARED_20}\n", f"{sentence(5, 60)}\n"]


def write(folder: Path, **splits: list[str]) -> Path:
    for name, documents in splits.items():
        (folder / f"{name}.txt").write_text("---\n".join(documents))
    return folder


def check(folder: Path, **options: Any) -> dict[str, Any]:
    return check_text(CheckSettings(inputs=(str(folder),), documents="line:---", **options))


def row(record: dict[str, Any], of: str, within: str) -> dict[str, Any]:
    return next(row for row in record["shared"] if (row["of"], row["within"]) == (of, within))


def test_a_shared_sentence_is_counted_both_ways(tmp_path: Path) -> None:
    record = check(write(tmp_path, train=TRAIN, valid=VALID))
    n_shared = 20 - N_WORDS + 1
    of_valid = row(record, "valid", "train")
    assert of_valid["ngrams_found"] == n_shared
    assert of_valid["ngram_share"] == n_shared / (38 + 48)
    assert of_valid["documents_with_shared"] == 1
    assert of_valid["same_long_lines"] == 1
    assert of_valid["worst_documents"] == [
        {"place": f"{tmp_path}/valid.txt:1", "ngram_share": n_shared / 38, "ngrams_found": n_shared}
    ]
    of_train = row(record, "train", "valid")
    assert (of_train["ngrams_found"], of_train["documents_with_shared"]) == (n_shared, 1)
    assert record["splits"]["train"] == {
        "documents": 2,
        "ngrams": 108 + 28,
        "long_lines": 4,
        "repeated_documents": 0,
        "repeated_long_lines": 0,
    }


def test_duplicates_within_and_between(tmp_path: Path) -> None:
    write(tmp_path, train=[*TRAIN, TRAIN[1]], valid=[TRAIN[1]], test=VALID)
    record = check(tmp_path)
    assert record["splits"]["train"]["repeated_documents"] == 1
    assert record["splits"]["train"]["repeated_long_lines"] == 1
    assert row(record, "valid", "train")["same_documents"] == 1
    assert row(record, "valid", "train")["ngram_share"] == 1
    assert row(record, "test", "train")["same_documents"] == 0
    assert row(record, "test", "valid")["ngrams_found"] == 0


def test_pieces_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, train=TRAIN, valid=VALID)
    whole = check(tmp_path)
    original = reading.read_pieces
    monkeypatch.setattr("seqassay.text.check.read_pieces", lambda path, rule: original(path, rule, piece_characters=17))
    assert check(tmp_path)["shared"] == whole["shared"]


def test_token_files_are_checked_by_the_text_they_stand_for(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.mkdir()
    write(text, train=TRAIN, valid=VALID)
    build_token_files(
        BuildSettings(inputs=(str(text),), output_dir=tmp_path / "t", documents="line:---", vocab_size=260)
    )
    of_text, of_tokens = check(text), check_text(CheckSettings(inputs=(str(tmp_path / "t"),)))
    assert of_tokens["splits"] == of_text["splits"]
    assert of_tokens["shared"][1]["worst_documents"][0]["place"] == f"{tmp_path}/t, document 1 of valid:1"


def test_thirteen_words_do_not_span_documents_or_unknown_words() -> None:
    stream = NgramStream()
    assert len(stream.feed(sentence(1, 12)).hashes) == 0
    assert len(stream.feed(" more").hashes) == 1
    stream.end_document()
    assert len(stream.feed(sentence(1, 12)).hashes) == 0
    stream.end_document()
    assert len(stream.feed(f"{sentence(1, 13)} <unk> {sentence(2, 14)}").hashes) == 1 + 2


def test_tokenisation_marks_fall_away() -> None:
    wikitext = "a role @-@ playing game 's 1 @,@ 000 players ; it cost £ 3 @.@ 50 ( net )"
    assert words_of(wikitext) == words_of("A role-playing game's 1,000 players; it cost £3.50 (net)")


@settings(deadline=None)
@given(
    known=st.lists(st.integers(0, 2**64 - 1), max_size=30),
    asked=st.lists(st.integers(0, 2**64 - 1), max_size=30),
)
def test_a_hash_set_finds_its_members_and_no_others(known: list[int], asked: list[int]) -> None:
    asked = asked + known[::2]
    hashes = HashSet(np.array(known, np.uint64))
    found, places = hashes.find(np.array(asked, np.uint64))
    assert found.tolist() == [i for i, value in enumerate(asked) if value in set(known)]
    assert hashes.sorted[places].tolist() == [asked[i] for i in found]


def write_probes(folder: Path, *passages: str) -> Path:
    path = folder / "qa.jsonl"
    rows = [{"passage": passage, "question": "is it so", "answer": True} for passage in passages]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_probe_items_are_found_with_their_passage_and_place(tmp_path: Path) -> None:
    write(tmp_path, train=TRAIN)
    contaminated = f"{sentence(9, 9)} {SHARED_20.upper()}! {sentence(8, 5)}"
    probes = write_probes(tmp_path, sentence(7, 40), contaminated, "too short to tell")
    (task,) = check(tmp_path, probes=(probes,))["probes"]
    assert (task["items"], task["found"], task["too_short"], task["found_share"]) == (3, 1, 1, 1 / 3)
    (item,) = task["found_items"]
    assert item == {
        "id": "qa:2",
        "field": "passage",
        "ngrams_found": 8,
        "ngrams": 22,
        "passage": SHARED_20,
        "training_text": f"{tmp_path}/train.txt:2",
    }


def test_a_limit_refuses(tmp_path: Path) -> None:
    write(tmp_path, train=TRAIN, valid=VALID)
    probes = write_probes(tmp_path, SHARED_20, sentence(6, 20))
    assert check(tmp_path, probes=(probes,))["refusals"] == []
    assert check(tmp_path, probes=(probes,), max_overlap=0.5)["refusals"] == []
    refusals = check(tmp_path, probes=(probes,), max_overlap=0.05)["refusals"]
    assert refusals == [
        "9.30% of the 13-grams of valid are in train",
        "1 of 2 items of qa (50.00%) share a 13-gram with the training text",
    ]


def test_a_folder_in_the_way_of_the_findings_is_found_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a folder is in the way of the findings"):
        check_text(CheckSettings(inputs=("train=absent", "valid=absent"), output=tmp_path))


def test_shares_of_nothing_are_undefined(tmp_path: Path) -> None:
    record = check(write(tmp_path, train=TRAIN, valid=["Two words.\n"]), output=tmp_path / "findings.json")
    assert row(record, "valid", "train")["ngram_share"] is None
    assert json.loads((tmp_path / "findings.json").read_text())["shared"] == record["shared"]


def test_nothing_to_compare(tmp_path: Path) -> None:
    write(tmp_path, train=TRAIN)
    with pytest.raises(UsageError, match="one split alone"):
        check(tmp_path)
    probes = write_probes(tmp_path, SHARED_20)
    with pytest.raises(UsageError, match="and none is given"):
        check_text(CheckSettings(inputs=(f"valid={tmp_path}/train.txt",), probes=(probes,)))
    with pytest.raises(UsageError, match="--max-overlap is 2"):
        check(tmp_path, max_overlap=2)
    with pytest.raises(InputError, match="no such folder"):
        check(tmp_path / "absent")


def test_the_eight_rows_of_boolq_in_wikitext_2(shared_data: Path) -> None:
    train = f"train={shared_data / 'text' / 'wikitext-2' / 'train.txt.gz'}"
    probes = (shared_data / "probes",)
    record = check_text(CheckSettings(inputs=(train,), documents="wikitext", probes=probes))
    found = {task["task"]: [item["id"] for item in task["found_items"]] for task in record["probes"]}
    lines = (609, 872, 924, 1269, 1322, 1700, 1725, 2902)
    assert found == {"sentiment": [], "nli": [], "qa": [f"qa:{line}" for line in lines], "paraphrase": []}
