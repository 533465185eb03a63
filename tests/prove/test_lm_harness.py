"""Our models in lm-evaluation-harness: answers against its own Hugging Face back end, runs, stops, bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lm_eval", reason="the extra seqassay[harness] is not installed")

from lm_eval.api.instance import Instance

from seqassay.errors import InputError, SeqassayError, StoppedError, UsageError
from seqassay.evaluate.continuations import score_questions
from seqassay.models.causal_lm import CausalLmConfig
from seqassay.models.lm_files import build_lm, export_lm, save_lm
from seqassay.predict.stop import StopRequested
from seqassay.prove.lm.command import evaluate_lm
from seqassay.prove.lm.inputs import open_model
from seqassay.prove.lm.settings import LmEvaluateSettings
from seqassay.prove.lm_harness import adapter as module
from seqassay.prove.lm_harness import command
from seqassay.prove.lm_harness.adapter import SeqassayLM
from seqassay.prove.lm_harness.command import ITEMS, run_harness
from seqassay.prove.lm_harness.record import check_record, task_figures
from seqassay.prove.lm_harness.responses import FILE
from seqassay.prove.lm_harness.settings import LmHarnessSettings
from seqassay.text.tokenizer_training import train_bytes_bpe
from seqassay.train.output_folder import only_writer

CONTEXT = 40
WORDS = ("good", "bad", "long", "short", "new", "old")
ROWS = [{"sentence": f"a {a} and {b} film", "label": int(i % 3 > 0)} for i, a in enumerate(WORDS) for b in WORDS]
ANSWERS = [{"passage": "A cat sat " * (2 * i + 1), "question": "is it so?", "answer": i % 2 == 0} for i in range(8)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Probes, and a model whose words follow from what comes before, with its export."""
    folder = tmp_path_factory.mktemp("harness")
    (folder / "probes/train").mkdir(parents=True)
    for name, some in (("sentiment", ROWS[:20]), ("qa", ANSWERS), ("train/sentiment", ROWS[20:])):
        (folder / f"probes/{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    train_bytes_bpe([json.dumps(row) for row in ROWS + ANSWERS] * 5, 300).save(folder / "tokenizer.json")
    model = build_lm(CausalLmConfig(vocab_size=300, d_model=16, n_layers=2, n_heads=2, d_ff=24, context=CONTEXT), 1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(6 if weight.ndim == 2 else 1)
    save_lm(model, folder / "model", tokenizer=folder / "tokenizer.json")
    export_lm(folder / "model", folder / "exported")
    return folder


@pytest.fixture(scope="module")
def backend(place: Path) -> Any:
    pytest.importorskip("accelerate", reason="the harness's Hugging Face back end needs accelerate")
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(place / "exported"), device="cpu", dtype="float32", batch_size=1, max_length=CONTEXT)


@pytest.fixture
def ours(place: Path) -> SeqassayLM:
    return SeqassayLM(open_model(place / "model"), batch_tokens=60)


def asked(kind: str, *arguments: Any) -> list[Instance]:
    return [Instance(kind, doc={}, arguments=one, idx=0) for one in arguments]


PAIRS = (
    ("a good film", " good"), ("a good film", " bad"), ("a good film", " goodness me"), ("a good film ", "bad"),
    ("", "a new cat"), ("A cat sat " * 16, " so"), ("A cat sat " * 16, " so it is"), ("is it", " so?\nSentiment: yes"),
)  # fmt: skip


def test_answers_are_those_of_the_hugging_face_back_end(ours: SeqassayLM, backend: Any) -> None:
    requests = asked("loglikelihood", *PAIRS)
    found, expected = ours.loglikelihood(requests), backend.loglikelihood(requests, disable_tqdm=True)
    assert [one[0] for one in found] == pytest.approx([one[0] for one in expected], abs=1e-4)
    assert [one[1] for one in found] == [one[1] for one in expected]
    n_prompt = len(ours.tok_encode(("A cat sat " * 16).rstrip()))
    longer = [len(ours.tok_encode("A cat sat " * 16 + rest)) - 1 - CONTEXT for rest in (" so", " so it is")]
    assert n_prompt > CONTEXT and (ours.truncated, ours.cut_tokens) == (2, sum(longer))


def test_greedy_continuations_are_named_so(ours: SeqassayLM, backend: Any) -> None:
    prompt = "a good film is"
    (said,) = ours.generate_until(asked("generate_until", (prompt, {"until": ["\n\n"], "max_gen_toks": 3})))
    whole = ours.loglikelihood(asked("loglikelihood", (prompt, said), (prompt, " red cat")))
    assert whole == [
        (pytest.approx(one[0], abs=1e-4), one[1])
        for one in backend.loglikelihood(
            asked("loglikelihood", (prompt, said), (prompt, " red cat")), disable_tqdm=True
        )
    ]


def test_whole_texts_and_generated_ones(ours: SeqassayLM, backend: Any) -> None:
    texts = asked("loglikelihood_rolling", ("A cat sat " * 20,), ("short",))
    expected = backend.loglikelihood_rolling(texts, disable_tqdm=True)
    assert ours.loglikelihood_rolling(texts) == pytest.approx(expected, abs=1e-3)
    ways: tuple[dict[str, Any], ...] = ({"until": ["a"], "max_gen_toks": 10}, {"until": [], "max_gen_toks": 6})
    prompts = asked("generate_until", *((text, way) for way in ways for text in ("a good", "A cat sat " * 16, "is it")))
    assert ours.generate_until(prompts) == backend.generate_until(prompts, disable_tqdm=True)
    assert ours.truncated == 2
    with pytest.raises(UsageError, match="a task asks for up to 40 new tokens; the context is 40"):
        ours.generate_until(asked("generate_until", ("a", {"until": [], "max_gen_toks": 40})))
    with pytest.raises(UsageError, match="decoding with num_beams, which is not known here"):
        ours.generate_until(asked("generate_until", ("a", {"until": [], "max_gen_toks": 4, "num_beams": 3})))


def test_a_continuation_without_a_token_is_refused(ours: SeqassayLM) -> None:
    with pytest.raises(InputError, match="the continuation '' has no token of its own"):
        ours.loglikelihood(asked("loglikelihood", ("a good film", "")))
    with pytest.raises(InputError, match="the prompt ' ' has no token of its own"):
        ours.loglikelihood(asked("loglikelihood", (" ", "x")))


@pytest.fixture
def run(place: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def harness(**options: Any) -> dict[str, Any]:
        given: dict[str, Any] = {
            "checkpoint": place / "model", "tasks": ("smallbench",), "probes": (str(place / "probes"),),
            "output_dir": tmp_path / "out", "batch": 100, "device": "cpu", "force": not options.get("resume"),
        }  # fmt: skip
        return run_harness(LmHarnessSettings(**given | options)).record

    return harness


def test_smallbench_through_the_harness_counts_as_lm_evaluate_does(
    run: Callable[..., Any], place: Path, tmp_path: Path
) -> None:
    record = run()
    own = evaluate_lm(
        LmEvaluateSettings(
            checkpoint=place / "model",
            probes=(str(place / "probes"),),
            output_dir=tmp_path / "own",
            device="cpu",
            skip_profiling=True,
        )
    ).record["smallbench"]["tasks"]
    for name in ("sentiment", "qa"):
        task = record["tasks"][f"smallbench_{name}"]
        by_name = {metric["name"]: metric["value"] for metric in task["metrics"]}
        assert by_name["acc"] == pytest.approx(own[name]["by_sum"]["value"])
        assert (task["n"], task["scope"], task["shots"]) == (own[name]["n"], "whole", 0)
    items = [json.loads(line) for line in (tmp_path / "out" / ITEMS).read_text().splitlines()]
    assert len(items) == 28 and record["requests"]["n"] == 56
    assert items[0]["asked"][0][0].startswith("Passage: ") or items[0]["asked"][0][0].startswith("Sentence: ")
    n_cut = own["qa"]["truncated_prompts"] + own["sentiment"]["truncated_prompts"]
    assert 0 < n_cut <= record["requests"]["truncated"] <= 2 * n_cut < record["requests"]["n"]
    assert any(note.startswith("prompts longer than the context: ") for note in record["notes"])
    report = (tmp_path / "out/reports/lm_harness.md").read_text()
    assert "| smallbench_qa | 0 | acc |" in report


def test_shots_and_limits(run: Callable[..., Any], place: Path, tmp_path: Path) -> None:
    record = run(tasks=("smallbench_sentiment",), shots=2, limit=3, context=20)
    task = record["tasks"]["smallbench_sentiment"]
    assert (task["shots"], task["n"], task["rows"], task["scope"]) == (2, 3, 20, "partial")
    assert "smallbench_sentiment: partial, the first 3 of 20 rows were asked" in record["notes"]
    (prompt, _), *_ = json.loads((tmp_path / "out" / ITEMS).read_text().splitlines()[0])["asked"]
    assert prompt.count("Sentiment:") == 3
    assert any(path.endswith("train/sentiment.jsonl") for path in record["identity"]["probes"])


def test_a_stopped_run_goes_on_without_asking_again(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run()
    calls: list[int] = []

    def stopping(*given: Any, **options: Any) -> Any:
        calls.append(sum(len(one.continuations) for one in given[1]))
        if len(calls) == 3:
            raise StopRequested("SIGTERM")
        return score_questions(*given, **options)

    with monkeypatch.context() as planted:
        planted.setattr(module, "score_questions", stopping)
        with pytest.raises(StoppedError, match="stopped by SIGTERM; the answers so far are in"):
            run()
    assert not (tmp_path / "out/metrics.json").exists()
    path = tmp_path / "out" / FILE
    path.write_text(path.read_text()[:-10])  # and the last line was cut off
    with pytest.raises(UsageError, match="holds an interrupted run of the harness"):
        run(force=False)
    with pytest.raises(UsageError, match="its answers are of another model or context"):
        run(resume=True, context=39)
    record = run(resume=True)
    assert record["requests"] == {**whole["requests"], "resumed": calls[0] + calls[1] - 1}
    assert record["tasks"] == whole["tasks"]


def test_one_run_at_a_time_and_no_damaged_answer(run: Callable[..., Any], tmp_path: Path) -> None:
    with only_writer(tmp_path / "out"), pytest.raises(UsageError, match="another run is working there"):
        run(tasks=("smallbench_qa",))
    run(tasks=("smallbench_qa",))
    path = tmp_path / "out" / FILE
    lines = path.read_text().splitlines(keepends=True)
    asked = json.loads(lines[2])["asked"]
    for answer in ([-1.5, True], [float("nan"), True, 0], ["a", 0]):
        damaged = json.dumps({"asked": asked, "answer": answer}) + "\n"
        path.write_text("".join([*lines[:2], damaged, *lines[3:]]))
        with pytest.raises(InputError, match="line 3: the line is damaged"):
            run(tasks=("smallbench_qa",), resume=True)


def test_an_error_of_the_harness_is_a_sentence(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(**_: Any) -> Any:
        raise KeyError("doc_to_text")

    monkeypatch.setattr(command, "evaluate", failing)
    with pytest.raises(SeqassayError, match="the harness ended with KeyError: 'doc_to_text'\na task's own code"):
        run(tasks=("smallbench_qa",))


def test_what_cannot_be_run(run: Callable[..., Any], place: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--tasks smallbench needs the rows of its tasks"):
        run(probes=())
    with pytest.raises(UsageError, match="--tasks: smallbench_nli has no rows in --probes"):
        run(tasks=("smallbench_nli",))
    with pytest.raises(UsageError, match="--context is 41; the model was made for 40 tokens"):
        run(context=41)
    with pytest.raises(InputError, match="no such folder"):
        run(include=(tmp_path / "absent",))
    wrong: tuple[dict[str, Any], ...] = (
        {"tasks": ()}, {"tasks": ("a", "a")}, {"limit": 0}, {"force": True, "resume": True},
        {"probes": (), "shots_from": tmp_path},
    )  # fmt: skip
    for options in wrong:
        given: dict[str, Any] = {"checkpoint": place, "tasks": ("a",), "probes": ("x",), "output_dir": tmp_path}
        with pytest.raises(UsageError):
            LmHarnessSettings(**given | options)


def test_an_unknown_task_is_named_with_those_that_are_near(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from seqassay.prove.lm_harness import tasks

    class Known:
        all_tasks = ("boolq", "arc_easy")

        def __init__(self, **_: Any) -> None:
            """As the harness's, without its 14,000 files."""

        def load(self, specs: list[Any]) -> Any:
            raise ConnectionError("cannot reach the Hub")

    monkeypatch.setattr(tasks, "TaskManager", Known)
    with pytest.raises(UsageError, match=r"bolq is no task that the harness knows\ndid you mean boolq"):
        run(tasks=("bolq",))
    with pytest.raises(InputError, match="the task boolq cannot be loaded: ConnectionError: cannot reach the Hub"):
        run(tasks=("boolq",))


def test_figures_that_are_none_are_undefined_and_impossible_ones_refused(run: Callable[..., Any]) -> None:
    results = {
        "n-samples": {"t": {"original": 4, "effective": 4}}, "versions": {"t": 1.0}, "n-shot": {"t": 0},
        "higher_is_better": {"t": {"acc": True}},
        "results": {"t": {"alias": "t", "sample_len": 4, "acc,none": 0.5, "acc_stderr,none": "N/A",
                          "mcc,none": float("nan"), "mcc_stderr,none": float("nan")}},
    }  # fmt: skip
    acc, mcc = task_figures(results)["t"]["metrics"]
    assert (acc["value"], acc["standard_error"], acc["reason"]) == (0.5, None, None)
    assert (mcc["value"], mcc["standard_error"]) == (None, None)
    assert mcc["reason"] == "undefined: the harness gives nan"
    record = run(tasks=("smallbench_qa",))
    record["tasks"]["smallbench_qa"]["metrics"][0]["value"] = 1.5
    with pytest.raises(SeqassayError, match=r"smallbench_qa: acc came out as 1.5, outside 0 to 1"):
        check_record(record)
