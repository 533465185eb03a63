"""Probe tasks: prompts word for word, and rows that are not as they should be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from seqassay.errors import InputError, UsageError
from seqassay.text.probes import TASKS, find_probes, find_shots, read_probes

ROWS: dict[str, dict[str, Any]] = {
    "sentiment": {"sentence": "a fine film .", "label": 1},
    "nli": {"sentence1": "It rained.", "sentence2": "It was dry.", "label": "not_entailment", "idx": 7},
    "qa": {"passage": "Cats purr.", "question": "do cats purr", "answer": True},
    "paraphrase": {"sentence1": "It rained.", "sentence2": "Rain fell.", "label": 1, "id1": "4", "id2": "5"},
}
PROMPTS = {
    "sentiment": ("Sentence: a fine film .\nSentiment:", " positive", " negative"),
    "nli": ("Premise: It rained.\nHypothesis: It was dry.\nRelation:", " entailment", " not entailment"),
    "qa": ("Passage: Cats purr.\nQuestion: do cats purr\nAnswer:", " yes", " no"),
    "paraphrase": ("Sentence 1: It rained.\nSentence 2: Rain fell.\nParaphrase:", " yes", " no"),
}
ANSWERS = {"sentiment": " positive", "nli": " not entailment", "qa": " yes", "paraphrase": " yes"}


def write(folder: Path, name: str, *rows: object) -> Path:
    path = folder / f"{name}.jsonl"
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("name", ROWS)
def test_prompts_and_continuations_word_for_word(name: str, tmp_path: Path) -> None:
    task = TASKS[name]
    (item,) = read_probes(write(tmp_path, name, ROWS[name]), task).items
    assert (task.prompt(item.texts), *task.continuations) == PROMPTS[name]
    assert task.continuations[item.answer] == ANSWERS[name]
    assert item.id == f"{name}:1"


def test_braces_in_a_text_stay_what_they_are(tmp_path: Path) -> None:
    path = write(tmp_path, "sentiment", {"sentence": "{label} {0}", "label": 0})
    (item,) = read_probes(path, TASKS["sentiment"]).items
    assert TASKS["sentiment"].prompt(item.texts) == "Sentence: {label} {0}\nSentiment:"


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("sentiment", {"label": 1}, "lacks sentence"),
        ("nli", {"sentence1": "a"}, "lacks sentence2 and label"),
        ("nli", {**ROWS["nli"], "label": "neutral"}, 'label is "neutral"'),
        ("nli", {**ROWS["nli"], "label": 0}, "label is 0"),
        ("qa", {**ROWS["qa"], "answer": 1}, "answer is 1"),
        ("qa", {**ROWS["qa"], "answer": "true"}, 'answer is "true"'),
        ("sentiment", {**ROWS["sentiment"], "label": True}, "label is true"),
        ("sentiment", {**ROWS["sentiment"], "label": -1}, "label is -1"),
        ("sentiment", {**ROWS["sentiment"], "label": None}, "label is null"),
        ("paraphrase", {**ROWS["paraphrase"], "sentence2": 5}, "sentence2 is a JSON int, not text"),
        ("paraphrase", {**ROWS["paraphrase"], "sentence2": " "}, "sentence2 is empty"),
        ("qa", "[1, 2]\n", "holds a JSON list"),
        ("qa", "{'a': 1}\n", "is not JSON"),
        ("qa", "[" * 100_000 + "\n", "is not JSON"),
        ("qa", "\n", "the line is empty"),
    ],
)
def test_a_bad_row_has_its_line(name: str, row: object, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, name, ROWS[name], row, ROWS[name])
    with pytest.raises(InputError) as caught:
        read_probes(path, TASKS[name])
    assert message in caught.value.message
    assert (caught.value.path, caught.value.line) == (path, 2)


def test_files_without_rows_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no row"):
        read_probes(write(tmp_path, "qa"), TASKS["qa"])
    with pytest.raises(InputError, match="cannot be read"):
        read_probes(tmp_path / "absent.jsonl", TASKS["qa"])
    (tmp_path / "qa.jsonl").write_bytes(b'{"passage": "\xff"}\n')
    with pytest.raises(InputError, match="line 1: not UTF-8: byte 0xff at byte 14"):
        read_probes(tmp_path / "qa.jsonl", TASKS["qa"])


def test_files_are_found_by_their_names(tmp_path: Path) -> None:
    qa, nli = write(tmp_path, "qa", ROWS["qa"]), write(tmp_path, "nli", ROWS["nli"])
    assert [probes.path for probes in find_probes([tmp_path])] == [nli, qa]
    assert [probes.task.name for probes in find_probes([qa, nli])] == ["qa", "nli"]
    with pytest.raises(UsageError, match="the task qa is given twice"):
        find_probes([tmp_path, qa])
    with pytest.raises(UsageError, match="of which task"):
        find_probes([write(tmp_path, "boolq", ROWS["qa"])])
    with pytest.raises(InputError, match="no such file"):
        find_probes([tmp_path / "absent"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="has no file of a task"):
        find_probes([tmp_path / "empty"])


def test_training_rows_are_found_by_name_where_it_is_unambiguous(tmp_path: Path) -> None:
    one = read_probes(write(tmp_path, "qa", ROWS["qa"]), TASKS["qa"])
    train = tmp_path / "train"
    with pytest.raises(InputError, match=r"train: no file qa.jsonl or qa_….jsonl"):
        find_shots(one)
    train.mkdir()
    write(train, "qanda", ROWS["qa"])  # not a name of this task
    with pytest.raises(InputError, match=r"--shots-from PLACE"):
        find_shots(one)
    few = write(train, "qa_fewglue32", ROWS["qa"])
    assert find_shots(one).path == few
    assert find_shots(one, train).path == find_shots(one, few).path == few
    more = write(train, "qa-more", ROWS["qa"])
    with pytest.raises(
        InputError, match=r"2 files could hold the training rows of qa: qa-more.jsonl, qa_fewglue32.jsonl"
    ):
        find_shots(one)
    assert find_shots(one, more).path == more
    exact = write(train, "qa", ROWS["qa"])
    assert find_shots(one).path == exact
    assert find_shots(one, train / "qanda.jsonl").path.name == "qanda.jsonl"


def test_the_real_files_have_their_class_balances(shared_data: Path) -> None:
    found = {probes.task.name: probes.class_counts for probes in find_probes([shared_data / "probes"])}
    assert found == {
        "sentiment": {" positive": 444, " negative": 428},
        "nli": {" entailment": 146, " not entailment": 131},
        "qa": {" yes": 2033, " no": 1237},
        "paraphrase": {" yes": 279, " no": 129},
    }


def test_the_real_training_rows_are_found(shared_data: Path) -> None:
    found = {one.task.name: find_shots(one) for one in find_probes([shared_data / "probes"])}
    assert {name: shots.path.name for name, shots in found.items()}["qa"] == "qa_fewglue32.jsonl"
    assert len(found["qa"].items) == 32
