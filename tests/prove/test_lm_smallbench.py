"""SmallBench from files to a record: counts by hand, shots, stops, what cannot be asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from seqassay.errors import InputError, StoppedError, UsageError
from seqassay.evaluate.continuations import score_questions
from seqassay.evaluate.smallbench import make_questions
from seqassay.models.causal_lm import CausalLmConfig
from seqassay.models.lm_files import build_lm, export_lm, save_lm
from seqassay.predict.stop import StopRequested
from seqassay.prove.lm import smallbench as module
from seqassay.prove.lm.command import evaluate_lm
from seqassay.prove.lm.settings import LmEvaluateSettings
from seqassay.text.probes import find_probes
from seqassay.text.tokenizer_training import train_bytes_bpe

WORDS = ("good", "bad", "long", "short", "new", "old", "red", "blue")


@pytest.fixture
def probes(tmp_path: Path) -> Path:
    folder = tmp_path / "probes"
    (folder / "train").mkdir(parents=True)
    rows = [{"sentence": f"a {a} and {b} film", "label": int(i % 3 > 0)} for i, a in enumerate(WORDS) for b in WORDS]
    answers = [{"passage": "A cat sat " * (i + 1), "question": "is it so?", "answer": i % 2 == 0} for i in range(9)]
    for name, some in (("sentiment", rows[:30]), ("qa", answers), ("train/sentiment", rows[30:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    return folder


@pytest.fixture
def run(tmp_path: Path, probes: Path) -> Callable[..., dict[str, Any]]:
    text = [path.read_text() for path in probes.glob("*.jsonl")]
    train_bytes_bpe(text * 5, 300).save(tmp_path / "tokenizer.json")
    config = CausalLmConfig(vocab_size=300, d_model=16, n_layers=1, n_heads=2, d_ff=24, context=40)
    save_lm(build_lm(config, 1), tmp_path / "model", seed=1, tokenizer=tmp_path / "tokenizer.json")

    def evaluate(**options: Any) -> dict[str, Any]:
        given: dict[str, Any] = {
            "checkpoint": tmp_path / "model", "output_dir": tmp_path / "out", "probes": (str(probes),), "batch": 200,
            "device": "cpu", "force": not options.get("resume"), "skip_profiling": True, **options,
        }  # fmt: skip
        return evaluate_lm(LmEvaluateSettings(**given)).record

    return evaluate


def items(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "out" / module.ITEMS).read_text().splitlines()[1:]]


def test_accuracies_are_counted_from_the_items(run: Callable[..., Any], tmp_path: Path) -> None:
    record = run()
    found = items(tmp_path)
    assert record["splits"] == {}
    assert len({item["id"] for item in found}) == len(found) == 39
    for name, n, larger in (("sentiment", 30, 16), ("qa", 9, 5)):
        of_task = [item for item in found if item["id"].startswith(f"{name}:")]
        task = record["smallbench"]["tasks"][name]
        for item in of_task:
            averages = [value / length for value, length in zip(item["log_probs"], item["tokens"], strict=True)]
            assert item["by_average"] == averages.index(max(averages))
            assert item["by_sum"] == item["log_probs"].index(max(item["log_probs"]))
        for rule in ("by_average", "by_sum"):
            assert task[rule]["correct"] == sum(item[rule] == item["answer"] for item in of_task)
        assert (task["n"], task["chance"], task["scope"]) == (n, 0.5, "whole")
        assert (task["majority"]["correct"], task["majority"]["value"]) == (larger, larger / n)
    qa = record["smallbench"]["tasks"]["qa"]
    cut = [item["cut_tokens"] for item in found if item["cut_tokens"]]
    assert qa["truncated_prompts"] == len(cut) > 0 and qa["cut_tokens"] == sum(cut)
    assert any(
        f"qa: prompts longer than the context: {len(cut)}; {sum(cut)} tokens" in note for note in record["notes"]
    )
    values = [task["by_sum"]["value"] for task in record["smallbench"]["tasks"].values()]
    assert record["smallbench"]["average"]["by_sum"]["value"] == pytest.approx(sum(values) / 2)
    assert record["smallbench"]["average"]["majority"]["value"] == pytest.approx((16 / 30 + 5 / 9) / 2)
    report = (tmp_path / "out/summary.md").read_text()
    assert "## SmallBench" in report and "| sentiment (SST-2) |" in report


def test_items_are_those_of_transformers_by_the_rules_of_the_harness(run: Callable[..., Any], tmp_path: Path) -> None:
    """Each continuation on its own, prompt and all, cut on the left to the context and one token more."""
    run()
    export_lm(tmp_path / "model", tmp_path / "published")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "published", dtype=torch.float32).eval()  # type: ignore[no-untyped-call]
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    rows = {f"{one.task.name}:{i}": (one.task, item) for one in find_probes([tmp_path / "probes"])
            for i, item in enumerate(one.items, 1)}  # fmt: skip
    for item in items(tmp_path):
        task, row = rows[item["id"]]
        prompt = task.prompt(row.texts)
        n_prompt = len(tokenizer.encode(prompt).ids)
        for continuation, found, n in zip(task.continuations, item["log_probs"], item["tokens"], strict=True):
            ids = tokenizer.encode(prompt + continuation).ids
            assert n == len(ids) - n_prompt
            inputs = ids[-41:][:-1]
            with torch.no_grad():
                log_probs = model(torch.tensor([inputs])).logits[0].log_softmax(-1)[-n:]
            expected = log_probs.gather(1, torch.tensor(ids[-n:])[:, None]).sum().item()
            assert found == pytest.approx(expected, abs=1e-4)


def test_batches_and_samples(run: Callable[..., Any], tmp_path: Path) -> None:
    run()
    whole = {item["id"]: item for item in items(tmp_path)}
    record = run(batch=1, max_samples=4)
    some = items(tmp_path)
    assert [task["n"] for task in record["smallbench"]["tasks"].values()] == [4, 4]
    assert any(note == "sentiment: partial, the first 4 of 30 rows were asked" for note in record["notes"])
    for item in some:
        assert item["log_probs"] == pytest.approx(whole[item["id"]]["log_probs"], abs=1e-4)


def test_shots_are_answered_rows_of_the_training_set(
    run: Callable[..., Any], probes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def noted(tokenizer: Any, questions: Any, *rest: Any) -> Any:
        asked.extend(prompt for prompt, _ in questions)
        return make_questions(tokenizer, questions, *rest)

    monkeypatch.setattr(module, "make_questions", noted)
    sentiment = (str(probes / "sentiment.jsonl"),)
    run(probes=sentiment, shots=2)
    rows = [json.loads(line) for line in (probes / "train/sentiment.jsonl").read_text().splitlines()]
    known = {f"Sentence: {row['sentence']}\nSentiment: {('negative', 'positive')[row['label']]}" for row in rows}
    for prompt in asked:
        first, second, last = prompt.split("\n\n")
        assert {first, second} <= known and first != second
        assert last.startswith("Sentence: a ") and last.endswith("\nSentiment:")
    assert len({prompt.rpartition("\n\n")[0] for prompt in asked}) == 1  # the same for every item
    with pytest.raises(InputError, match=r"train: no file qa.jsonl or qa_….jsonl: shots are"):
        run(shots=1)
    record = run(probes=sentiment, shots=1, shots_from=probes / "train/sentiment.jsonl")
    assert record["smallbench"]["method"]["shots_files"]["sentiment"]["rows"] == 34
    with pytest.raises(UsageError, match=r"sentiment.jsonl: is one file, and 2 tasks are asked"):
        run(shots=1, shots_from=probes / "train/sentiment.jsonl")
    with pytest.raises(InputError, match="has 34 rows that are not asked about, and 99 shots are wanted"):
        run(probes=sentiment, shots=99)


def test_a_stopped_run_goes_on_and_finds_the_same(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run()["smallbench"]
    score, calls = score_questions, []

    def stopping(*given: Any, **options: Any) -> Any:
        calls.append(len(given[1]))
        if len(calls) == 3:
            raise StopRequested("Ctrl-C")
        return score(*given, **options)

    with monkeypatch.context() as planted:
        planted.setattr(module, "score_questions", stopping)
        with pytest.raises(StoppedError, match="stopped by Ctrl-C; what was finished is kept in"):
            run()
    kept = len(items(tmp_path))
    assert kept == calls[0] + calls[1]
    path = tmp_path / "out" / module.ITEMS
    path.write_text(path.read_text()[:-20])  # and the last line was cut off
    with pytest.raises(UsageError, match=r"holds an interrupted evaluation\ngo on with it \(--resume\)"):
        run(force=False)
    found = run(resume=True)["smallbench"]
    assert found["resumed_items"] == kept - 1
    assert len(items(tmp_path)) == 39
    for name, task in whole["tasks"].items():
        assert {key: found["tasks"][name][key] for key in ("by_average", "by_sum")} == {
            key: task[key] for key in ("by_average", "by_sum")
        }
    with pytest.raises(UsageError, match="its items are of another model, other probes, shots or context"):
        run(resume=True, context=39)


def test_what_cannot_be_asked(run: Callable[..., Any], probes: Path, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/qa.jsonl").write_text('{"passage": "a", "question": "b", "answer": "maybe"}\n')
    with pytest.raises(InputError, match=r"qa.jsonl, line 1: answer is .maybe."):
        run(probes=(str(tmp_path / "bad"),))
    model = tmp_path / "model"
    wrong: tuple[dict[str, Any], ...] = (
        {"shots": -1}, {"max_samples": 0}, {"probes": (), "skip_profiling": True},
        {"probes": (), "inputs": ("x",), "shots": 1},
        {"force": True, "resume": True},
    )  # fmt: skip
    for options in wrong:
        given: dict[str, Any] = {"checkpoint": model, "probes": (str(probes),), "output_dir": tmp_path, **options}
        with pytest.raises(UsageError):
            LmEvaluateSettings(**given)
