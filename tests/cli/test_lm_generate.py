"""`seqassay lm generate` and `seqassay lm score-text` as typed."""

from __future__ import annotations

import copy
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import sharp_lm

from seqassay.errors import ResourceError, SeqassayError, StoppedError
from seqassay.evaluate.lm_guards import LmGuardError
from seqassay.models.causal_lm import CausalLmConfig, KeyValueCache
from seqassay.models.lm_files import save_lm
from seqassay.predict.stop import StopRequested
from seqassay.prove.lm_generate.command import generate_text, parts_of
from seqassay.prove.lm_generate.record import check_record
from seqassay.prove.lm_generate.settings import LmGenerateSettings
from seqassay.text.build import BuildSettings, build_token_files
from seqassay.text.tokenizer import load_tokenizer

Run = Callable[..., int]
TEXT = "The cat sat on the mat.\nIt saw the hat, naïve as it was, and the bat.\n" * 20


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models with weights that make a difference: of bytes (context 24), and of characters."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "train.txt").write_text(TEXT)
    for name, how in (("bytes", {"vocab_size": 280}), ("characters", {"characters": True})):
        settings: dict[str, Any] = {"inputs": (f"train={folder / 'train.txt'}",), "output_dir": folder / f"t{name}"}
        build_token_files(BuildSettings(**settings, **how))  # type: ignore[arg-type]
        tokenizer = folder / f"t{name}" / "tokenizer.json"
        size = load_tokenizer(tokenizer).vocab_size
        config = CausalLmConfig(
            vocab_size=size, d_model=16, n_layers=2, n_heads=2, d_ff=24, context=24, tied=False
        )  # fmt: skip
        save_lm(sharp_lm(config), folder / name, tokenizer=tokenizer, seed=1)
    return folder


@pytest.fixture
def lm(run: Run, models: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*words: object) -> tuple[int, str, str]:
        known = {name: models / name for name in ("bytes", "characters")}
        code = run("lm", *(known.get(str(word), word) for word in words))
        return code, *capsys.readouterr()

    return call


def test_texts_are_printed_and_written(lm: Any, models: Path) -> None:
    code, shown, said = lm("generate", "bytes", "The cat", "--max-new-tokens", 12, "--no-progress")
    assert code == 0 and shown.startswith("The cat")
    assert "the most likely one each time, up to 12" in said and "tokens/s" in said
    Path("prompts.jsonl").write_text('{"prompt": "The cat"}\n"It\\nsaw"\n{"prompt": ""}\n')
    words = ["--prompts", "prompts.jsonl", "-o", "out", "--max-new-tokens", 12]
    code, told, _ = lm("generate", "bytes", *words)
    assert code == 0 and told.rstrip().endswith("record  out/metrics.json")
    record = json.loads(Path("out/metrics.json").read_text())
    rows = [json.loads(line) for line in Path("out/continuations.jsonl").read_text().splitlines()]
    assert shown == f"{rows[0]['prompt']}{rows[0]['continuation']}\n"
    assert [row["prompt"] for row in rows] == ["The cat", "It\nsaw", ""]
    tokenizer = load_tokenizer(models / "bytes")
    for row in rows:
        assert row["prompt_tokens"] == 1 + len(tokenizer.encode(row["prompt"]))  # the prefix
        kept = row["tokens"][:-1] if row["ended"] == "stop token" else row["tokens"]
        assert row["continuation"] == tokenizer.decode(kept)
        assert row["log_prob"] == pytest.approx(sum(row["token_log_probs"]), abs=1e-4) and row["log_prob"] < 0
    found, speed = record["continuations"], record["speed"]
    assert found["n"] == sum(found["ended"].values()) == 3
    assert found["tokens"] == speed["decode"]["tokens"] + found["n"] == sum(len(row["tokens"]) for row in rows)
    assert speed["prefill"]["tokens"] == record["prompts"]["tokens"] == sum(row["prompt_tokens"] for row in rows)
    assert record["method"]["stop_ids"] == [tokenizer.separator.id] and record["guards"][0]["value"] < 1e-3
    assert "=== prompt 2 ===\nIt\nsaw" in Path("out/continuations.txt").read_text()
    assert "Prompt 2, sample 1" in Path("out/reports/lm_generation.md").read_text()
    assert lm("generate", "bytes", *words)[0] == 2
    assert lm("generate", "bytes", *words, "--force")[0] == 0


def test_drawn_texts_are_those_of_their_seed(lm: Any) -> None:
    words = [
        "The cat",
        "It",
        "--temperature",
        1.2,
        "--top-k",
        40,
        "--top-p",
        0.95,
        "--samples",
        2,
        "--json",
        "--max-new-tokens",
        15,
    ]
    code, first, said = lm("generate", "bytes", *words, "--seed", 3)
    assert code == 0 and "drawn at temperature 1.2, top-k 40, top-p 0.95, seed 3" in said
    rows = [json.loads(line) for line in first.splitlines()]
    assert [(row["prompt_number"], row["sample"]) for row in rows] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert len({row["continuation"] for row in rows}) == 4
    apart = [json.loads(line) for line in lm("generate", "bytes", *words, "--seed", 3, "--batch", 1)[1].splitlines()]
    assert [row["tokens"] for row in apart] == [row["tokens"] for row in rows]
    other = [json.loads(line) for line in lm("generate", "bytes", *words, "--seed", 4)[1].splitlines()]
    assert all(row["tokens"] != before["tokens"] for row, before in zip(other, rows, strict=True))


def test_what_does_not_fit_is_said(lm: Any) -> None:
    """A context of 24: prompts are cut, continuations slide or end there."""
    long = "The cat sat on the mat. " * 5
    code, shown, said = lm("generate", "characters", long, "--max-new-tokens", 40)
    assert code == 0 and shown.startswith(long)
    assert "prompts longer than the context of 24 tokens: 1; 96 tokens were left out at their beginnings" in said
    assert "goes on with the newest 12 tokens alone (3 times in all)" in said
    code, shown, said = lm("generate", "characters", "The cat", "--max-new-tokens", 40, "--full-context", "stop")
    assert len(shown.rstrip("\n")) <= 25 and "ended by the context of 24 tokens: 1 of 1" in said


def test_a_speed_of_no_step_is_undefined(lm: Any) -> None:
    code, _, said = lm("generate", "bytes", "The cat", "--max-new-tokens", 1, "-o", "one")
    assert code == 0, said
    speed = json.loads(Path("one/metrics.json").read_text())["speed"]
    assert speed["decode"] is None and speed["prefill"]["tokens_per_s"] > 0
    assert "undefined" in Path("one/reports/lm_generation.md").read_text()


def test_what_ends_a_continuation(lm: Any, models: Path) -> None:
    words = ["generate", "characters", "The cat", "--max-new-tokens", 17, "--json", "--temperature", 1, "--seed", 2]
    whole = json.loads(lm(*words)[1])
    text = whole["continuation"][4:6]
    at = whole["continuation"].index(text)
    row = json.loads(lm(*words, "--stop", text, "--stop", "never")[1])
    assert (row["ended"], row["continuation"]) == ("stop text", whole["continuation"][:at])
    stop = whole["tokens"][8]
    row = json.loads(lm(*words, "--stop-token", stop)[1])
    n = whole["tokens"].index(stop)
    assert (row["ended"], row["continuation"]) == ("stop token", whole["continuation"][:n])
    assert row["tokens"] == whole["tokens"][: n + 1]


def test_what_generate_refuses(lm: Any) -> None:
    Path("bad.txt").write_text("The cat\nIt ~ sat\n")
    for words, message in (
        (["characters", "a ~ b"], "prompt 1: the character '~' (U+007E) is not in"),
        (["characters", "--prompts", "bad.txt"], "bad.txt, line 2: the character '~'"),
        (["characters", "--prompts", "none.txt"], "none.txt: no such file"),
        (["characters"], "no prompt, and no prefix token to begin with"),
        (["bytes", "--no-prefix"], "no prompt, and no prefix token to begin with"),
        (["bytes", "a", "--prompts", "bad.txt"], "one of both"),
        (["bytes", "a", "--top-k", 5], "--top-k is about drawing tokens"),
        (["bytes", "a", "--samples", 2], "--samples is 2, and the temperature is 0"),
        (["bytes", "a", "--temperature", -1], "temperature is -1"),
        (["bytes", "a", "--temperature", 1, "--top-k", 281], "--top-k is 281; the vocabulary has 280 tokens"),
        (["bytes", "a", "--stop-token", 280], "--stop-token is 280; the vocabulary has 280 tokens"),
        (["bytes", "a", "--full-context", "cut"], "--full-context is 'cut'; it has to be one of"),
        (["bytes", "a", "--max-new-tokens", 0], "--max-new-tokens is 0"),
        (["nothing", "a"], "nothing: no such folder"),
    ):
        code, shown, said = lm("generate", *words, "-o", "out")
        assert code == 2 and not shown and message in " ".join(said.split())
        assert not Path("out").exists()


def test_a_cache_of_other_tokens_ends_the_generation(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = LmGenerateSettings(
        checkpoint=models / "bytes", inputs=("The cat", "It"), max_new_tokens=15, temperature=1.0, samples=2
    )
    take = KeyValueCache.take

    def mixed_up(self: KeyValueCache, rows_S: list[int], **options: Any) -> KeyValueCache:
        taken = take(self, rows_S, **options)
        taken.keys[0] = torch.roll(taken.keys[0], 1, 0)
        return taken

    monkeypatch.setattr(KeyValueCache, "take", mixed_up)
    with pytest.raises(LmGuardError, match=r"differs by .* from that of the same tokens"):
        generate_text(settings)


def test_an_impossible_record_is_not_written(models: Path) -> None:
    settings = LmGenerateSettings(checkpoint=models / "bytes", inputs=("The cat", "It"), max_new_tokens=5)
    record = generate_text(settings).record

    def change(*path: str, to: Any) -> dict[str, Any]:
        changed = copy.deepcopy(record)
        place = changed
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = to
        return changed

    check_record(record)
    for changed, message in (
        (change("speed", "decode", "tokens_per_s", to=1e9), "decode: .* tokens/s is not"),
        (change("speed", "prefill", "tokens", to=1), "tokens of prompts were timed"),
        (change("continuations", "n", to=3), "3 continuations of 2 prompts"),
        (change("continuations", "log_prob_per_token", "value", to=0.5), "log_prob_per_token.value is 0.5, above 0"),
        (change("continuations", "tokens_max", to=6), "a continuation has 6 tokens, above 5"),
    ):
        with pytest.raises(SeqassayError, match=message):
            check_record(changed)


def test_texts_are_scored(lm: Any) -> None:
    Path("texts.jsonl").write_text("".join(f'{{"continuation": "the cat sat on mat {i}"}}\n' for i in range(6)))
    Path("known.txt").write_text("".join(f"the cat sat on the mat {i}\n" for i in range(6)))
    Path("more.jsonl").write_text(
        "".join(f'{{"references": ["a mat {i}", "a cat sat on mat {i}"]}}\n' for i in range(6))
    )
    code, shown, _ = lm("score-text", "texts.jsonl", "known.txt", "more.jsonl", "-o", "scores")
    record = json.loads(Path("scores/metrics.json").read_text())
    assert code == 0 and record["n"]["references_max"] == 3
    assert f"{record['figures']['bleu']['value']:.2f}" in shown and record["method"]["bleu_signature"] in shown
    pairs = [json.loads(line) for line in Path("scores/pairs.jsonl").read_text().splitlines()]
    mean = sum(pair["rougeL"] for pair in pairs) / 6
    assert record["figures"]["rougeL"]["value"] == pytest.approx(mean)
    assert "ROUGE-L" in Path("scores/reports/lm_text_scores.md").read_text()
    code, shown, _ = lm("score-text", "known.txt", "known.txt", "--json")
    same = json.loads(shown)["figures"]
    assert same["bleu"]["value"] == pytest.approx(100) and same["rouge2"]["value"] == 1


def test_what_score_text_refuses(lm: Any) -> None:
    Path("two.txt").write_text("a b\nc d\n")
    Path("one.txt").write_text("a b\n")
    Path("gap.txt").write_text("a b\n \n")
    Path("empty.txt").write_text("")
    for words, message in (
        (["two.txt", "one.txt"], "one.txt: has 1 lines, and two.txt has 2"),
        (["two.txt", "two.txt", "one.txt"], "one.txt: has 1 lines"),
        (["two.txt", "gap.txt"], "gap.txt, line 2: the reference has no text"),
        (["empty.txt", "two.txt"], "empty.txt: the file holds no text"),
        (["two.txt", "empty.txt"], "empty.txt: the file holds no text"),
        (["two.txt", "none.txt"], "none.txt: no such file"),
        (["two.txt", "two.txt", "--bleu-tokenizer", "moses"], "--bleu-tokenizer is 'moses'; it has to be one of"),
    ):
        code, shown, said = lm("score-text", *words, "-o", "out")
        assert code == 2 and not shown and message in " ".join(said.split())
        assert not Path("out").exists()


def test_a_stop_or_a_full_disk_leaves_the_continuations_so_far(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {
        "checkpoint": models / "bytes", "inputs": ("The cat", "It"), "max_new_tokens": 4, "temperature": 1.0,
        "samples": 10, "batch": 40, "output_dir": tmp_path / "out",
    }  # fmt: skip
    shown: list[dict[str, Any]] = []
    whole = generate_text(LmGenerateSettings(**given), show=shown.append).record
    path = tmp_path / "out/continuations.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows == shown and [(row["prompt_number"], row["sample"]) for row in rows] == [
        (prompt, sample) for prompt in (1, 2) for sample in range(1, 11)
    ]
    assert (tmp_path / "out/continuations.txt").read_text().count("=== prompt ") == whole["continuations"]["n"] == 20
    of_row = [row["log_prob"] / len(row["tokens"]) for row in rows]
    assert whole["continuations"]["log_prob_per_token"]["sd_of_continuations"] == pytest.approx(np.std(of_row, ddof=1))
    for error, expected, message in (
        (StopRequested("SIGTERM"), StoppedError, "stopped by SIGTERM; [0-9]+ continuations are in"),
        (OSError(errno.ENOSPC, "No space left on device"), ResourceError, "the disk is full"),
    ):
        add, calls = os.fsync, []

        def failing(descriptor: int, add: Any = add, calls: list[int] = calls, error: Any = error) -> None:
            calls.append(descriptor)
            if len(calls) == 3:  # the folder's, and of two additions
                raise error
            add(descriptor)

        with monkeypatch.context() as planted, pytest.raises(expected, match=message):
            planted.setattr(os, "fsync", failing)
            generate_text(LmGenerateSettings(**given | {"output_dir": tmp_path / "stopped", "force": True}))
        kept = (tmp_path / "stopped/continuations.jsonl.partial").read_text()
        assert kept == "".join(path.read_text().splitlines(keepends=True)[: kept.count("\n")])
        assert 0 < kept.count("\n") < 20 and not (tmp_path / "stopped/metrics.json").exists()


@pytest.mark.parametrize("fill", [[7, 7, 7], [3, 1, 100], [1]])
def test_all_samples_come_a_few_batches_at_a_time(fill: list[int]) -> None:
    n_samples = 29
    some = list(parts_of(fill, n_samples))
    assert [(number, i) for parts in some for number, samples in parts for i in samples] == [
        (number, i) for number in range(len(fill)) for i in range(n_samples)
    ]
    for parts in some[:-1]:
        assert 1 < sum(len(samples) / fill[number] for number, samples in parts) < 2 + 1e-5
    n_of_many, many = next(parts for parts in parts_of([5], 10**30))[0]
    assert (n_of_many, many) == (0, range(10))
