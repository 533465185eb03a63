"""`lm evaluate` from a checkpoint and text to a record: counts, figures by hand, partial scoring, planted bugs."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seqassay.errors import InputError, ModelError, SeqassayError, UsageError
from seqassay.evaluate.lm_guards import LmGuardError
from seqassay.models.attention import PackedLayout
from seqassay.models.causal_lm import CausalLm, CausalLmConfig
from seqassay.models.lm_files import build_lm, load_lm, save_lm
from seqassay.prove.lm import guards as guards_module
from seqassay.prove.lm import splits as splits_module
from seqassay.prove.lm.command import evaluate_lm
from seqassay.prove.lm.record import check_record
from seqassay.prove.lm.settings import LmEvaluateSettings
from seqassay.text.build import BuildSettings, build_token_files
from seqassay.text.token_files import open_token_files
from seqassay.text.tokenizer import load_tokenizer
from seqassay.text.windows import evaluation_windows

LINES = "The cat sat on the mat.\nIt saw the hat, naïve as it was.\n---\nThe dog sat on the log.\n---\n"
TRAIN = LINES * 12
VALID = "The dog and the naïve cat sat.\n---\n" * 30 + "On the mat they met.\n"
TEST = "One log, one cat.\n"


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    folder = tmp_path / "text"
    folder.mkdir()
    for name, text in (("train", TRAIN), ("valid", VALID), ("test", TEST)):
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    build_token_files(
        BuildSettings(inputs=(str(folder),), output_dir=tmp_path / "tokens", documents="line:---", vocab_size=280)
    )
    return tmp_path / "tokens"


def make_model(folder: Path, tokens: Path, *, sharp: bool, seed: int | None = 1) -> Path:
    config = CausalLmConfig(vocab_size=280, d_model=16, n_layers=2, n_heads=2, d_ff=24, context=8)
    model = build_lm(config, 1)
    if sharp:
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(4 if weight.ndim == 2 else 1)
    save_lm(model, folder, seed=seed, tokenizer=tokens / "tokenizer.json")
    return folder


@pytest.fixture
def model(tmp_path: Path, tokens: Path) -> Path:
    return make_model(tmp_path / "model", tokens, sharp=True)


@pytest.fixture
def run(tmp_path: Path, tokens: Path, model: Path) -> Callable[..., dict[str, Any]]:
    def evaluate(**options: Any) -> dict[str, Any]:
        given = {"checkpoint": model, "inputs": (str(tokens),), "device": "cpu", "force": True, "skip_profiling": True}
        given |= options
        return evaluate_lm(LmEvaluateSettings(output_dir=tmp_path / "out", **given)).record

    return evaluate


def nats_by_hand(folder: Path, documents: list[str], *, prefix: bool = True, context: int = 8) -> float:
    """Sum of the losses, in float64, one window at a time."""
    loaded = load_lm(folder)
    tokenizer = load_tokenizer(folder)
    assert tokenizer.prefix is not None
    model = loaded.model.double()
    total = 0.0
    for document in documents:
        ids = [tokenizer.prefix.id] * prefix + tokenizer.encode(document).tolist()
        for first in range(0, len(ids) - 1, context):
            # the window that ends there, as long as the context allows
            last = min(first + context, len(ids) - 1)
            start = max(0, last - context)
            inputs = torch.tensor(ids[start:last])
            with torch.no_grad():
                hidden = model(inputs, PackedLayout.from_lengths([len(inputs)]), exact=True)
                log_probs = F.linear(hidden, model.head_weight_VD).log_softmax(-1)
            for i in range(first, last):
                total -= log_probs[i - start, ids[i + 1]].item()
    return total


def test_figures_are_those_of_a_plain_loop_and_share_one_sum(run: Callable[..., Any], model: Path) -> None:
    record = run()
    assert list(record["splits"]) == ["valid", "test"]
    documents = {"valid": VALID.replace("---\n", "\0").split("\0"), "test": [TEST]}
    for name, parts in documents.items():
        split, text = record["splits"][name], "".join(parts)
        n, values = split["n"], split["values"]
        nats = nats_by_hand(model, parts)
        assert split["scope"] == "whole" and split["scored_share"] == 1
        assert n["scored_tokens"] == sum(len(load_tokenizer(model).encode(part)) for part in parts)
        assert n["scored_tokens"] == n["tokens"] - n["separators"]
        assert (n["bytes"], n["words"], n["documents"]) == (len(text.encode()), len(text.split()), len(parts))
        assert values["loss"]["value"] == pytest.approx(nats / n["scored_tokens"], abs=1e-5)
        for figure, over in (("token", n["scored_tokens"]), ("word", len(text.split())), ("byte", len(text.encode()))):
            assert math.log(values[f"{figure}_perplexity"]["value"]) == pytest.approx(nats / over, rel=1e-5)
            assert values[f"{figure}_perplexity"]["n"] == over
        assert values["bits_per_byte"]["value"] == pytest.approx(nats / len(text.encode()) / math.log(2), rel=1e-5)
    assert record["splits"]["valid"]["unit"] == {"name": "documents", "n": 31}
    assert record["splits"]["test"]["values"]["loss"]["interval_95"] is None
    assert "too few" in record["splits"]["test"]["values"]["loss"]["why_no_interval"]
    assert [guard["name"] for guard in record["guards"]] == [
        "causality", "labels", "noise", "scored tokens of valid", "text of valid", "scored tokens of test",
        "text of test",
    ]  # fmt: skip
    assert record["identity"]["checkpoint"]["untrained"] is False
    assert record["method"]["prefix"]["text"] == "<|endoftext|>"


def test_windows_prefix_and_stride_are_in_the_record_and_move_the_figures(run: Callable[..., Any], model: Path) -> None:
    usual = run(splits=("valid",))
    bare = run(splits=("valid",), prefix=False, context=5)
    parts = VALID.replace("---\n", "\0").split("\0")
    n = bare["splits"]["valid"]["n"]
    assert n["scored_tokens"] == n["tokens"] - n["separators"] - 31 and n["unscored_first_tokens"] == 31
    nats = nats_by_hand(model, parts, prefix=False, context=5)
    assert bare["splits"]["valid"]["values"]["loss"]["value"] == pytest.approx(nats / n["scored_tokens"], abs=1e-5)
    assert bare["method"]["prefix"] is None and bare["method"]["context_tokens"] == 5
    assert n["bytes"] < usual["splits"]["valid"]["n"]["bytes"]  # of what was scored alone
    assert any("the first of every document is not scored (31 of" in note for note in bare["notes"])
    stream = run(splits=("valid",), windows="stream", stride=2)
    n = stream["splits"]["valid"]["n"]
    assert n["scored_tokens"] == n["tokens"] and n["scored_separators"] == n["separators"] == 31
    assert stream["method"]["stride_tokens"] == 2
    losses = [record["splits"]["valid"]["values"]["loss"]["value"] for record in (usual, bare, stream)]
    assert len(set(losses)) == 3


def test_some_batches_are_called_partial(run: Callable[..., Any]) -> None:
    record = run(splits=("valid",), batch=40, max_batches=2)
    split = record["splits"]["valid"]
    assert split["scope"] == "partial" and split["n"]["batches"] == 2
    n = split["n"]
    assert split["scored_share"] == n["scored_tokens"] / (n["tokens"] - n["separators"]) < 0.2
    assert n["bytes"] < 120 and n["words"] < 30  # of what was scored
    assert any(note.startswith("valid: partial, the first") for note in record["notes"])
    assert "scored tokens of valid" not in [guard["name"] for guard in record["guards"]]
    whole = run(splits=("valid",), batch=40, max_batches=10_000)["splits"]["valid"]
    assert whole["scope"] == "whole"


def test_text_is_tokenised_with_the_model_s_tokenizer(run: Callable[..., Any], tmp_path: Path) -> None:
    of_tokens = run(splits=("valid",))["splits"]["valid"]["values"]
    text = str(tmp_path / "text" / "valid.txt")
    of_text = run(inputs=(f"valid={text}",), documents="line:---")["splits"]["valid"]["values"]
    assert of_text == of_tokens
    alone = run(inputs=(text,), documents="line:---")
    assert list(alone["splits"]) == ["test"] and alone["splits"]["test"]["values"] == of_tokens


def test_an_untrained_model_is_known_by_its_weights(run: Callable[..., Any], tokens: Path, tmp_path: Path) -> None:
    first = make_model(tmp_path / "first", tokens, sharp=False)
    record = run(checkpoint=first)
    assert record["identity"]["checkpoint"]["untrained"] is True
    assert record["splits"]["valid"]["values"]["loss"]["value"] == pytest.approx(math.log(280), abs=0.1)
    guard = next(guard for guard in record["guards"] if guard["name"] == "untrained")
    assert guard["value"] == pytest.approx(math.log(280), abs=0.1)
    unknown = make_model(tmp_path / "unknown", tokens, sharp=False, seed=None)
    assert run(checkpoint=unknown)["identity"]["checkpoint"]["untrained"] is None


def test_planted_bugs_end_the_evaluation(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    windows = evaluation_windows
    forward = CausalLm.forward

    def without_the_last(*given: Any, **options: Any) -> Any:
        return list(windows(*given, **options))[:-1]

    def twice(*given: Any, **options: Any) -> Any:
        found = list(windows(*given, **options))
        return [*found, found[0]]

    def sees_the_next(self: CausalLm, tokens_T: torch.Tensor, *rest: Any, **options: Any) -> torch.Tensor:
        hidden_TD: torch.Tensor = forward(self, tokens_T, *rest, **options)
        next_TD: torch.Tensor = self.embed_tokens(tokens_T).roll(-1, 0)
        return hidden_TD + 50 * next_TD

    with monkeypatch.context() as planted:
        planted.setattr(splits_module, "evaluation_windows", twice)
        with pytest.raises(LmGuardError, match="is scored twice"):
            run()
    with monkeypatch.context() as planted:
        planted.setattr(CausalLm, "forward", sees_the_next)
        with pytest.raises(LmGuardError, match="the future leaks"):
            run()
    with monkeypatch.context() as planted:
        planted.setattr(guards_module, "check_causality", lambda *_, **__: None)
        planted.setattr(CausalLm, "forward", sees_the_next)
        with pytest.raises(
            LmGuardError, match=r"random tokens have a mean loss of .*; for a vocabulary of 280 nothing can"
        ):
            run()
    with monkeypatch.context() as planted:
        planted.setattr(splits_module, "evaluation_windows", without_the_last)
        with pytest.raises(LmGuardError, match=r"valid: \d+ tokens were scored, .* the text has \d+ to score"):
            run()


def test_tokens_that_are_not_the_text_s(run: Callable[..., Any], tokens: Path) -> None:
    """Ids of a file changed behind the manifest's back: as many, and other text."""
    path = tokens / "valid.bin"
    ids = np.fromfile(path, "<u2")
    ids[1] = (ids[1] + 40) % 250
    ids.tofile(path)
    with pytest.raises(LmGuardError, match=r"valid: the scored tokens spell .* bytes"):
        run(splits=("valid",))


def test_another_tokenizer_is_refused_with_both_digests(run: Callable[..., Any], tokens: Path, tmp_path: Path) -> None:
    source = tmp_path / "text" / "valid.txt"
    other = tmp_path / "other"
    build_token_files(
        BuildSettings(inputs=(f"train={source}", f"valid={tmp_path / 'text' / 'test.txt'}"), output_dir=other,
                      vocab_size=262)
    )  # fmt: skip
    digests = [open_token_files(folder).tokenizer_digest[:12] for folder in (other, tokens)]
    with pytest.raises(InputError, match=f"those of tokenizer {digests[0]}, the model's is {digests[1]}"):
        run(inputs=(str(other),))


def test_what_cannot_be_evaluated(run: Callable[..., Any], tokens: Path, model: Path, tmp_path: Path) -> None:
    config = CausalLmConfig(vocab_size=280, d_model=16, n_layers=1, n_heads=2, d_ff=24, context=8)
    save_lm(build_lm(config, 1), tmp_path / "bare", seed=1)
    (tmp_path / "one.txt").write_text("a")
    cases: tuple[tuple[dict[str, Any], type[SeqassayError], str], ...] = (
        ({"checkpoint": tmp_path / "bare"}, ModelError, "has no tokenizer.json"),
        ({"checkpoint": tmp_path / "none"}, ModelError, "no such folder"),
        ({"context": 9}, UsageError, "--context is 9; the model was made for 8"),
        ({"context": 4, "stride": 5}, UsageError, "--stride is 5; it lies between 1 and the context, 4"),
        ({"top_k": (1, 281)}, UsageError, "--top-k is 281; the vocabulary has 280"),
        ({"splits": ("dev",)}, UsageError, "has no split 'dev'"),
        ({"splits": ("test", "test")}, UsageError, "names one twice"),
        ({"inputs": (str(tokens), "x")}, UsageError, "is to be evaluated on its own"),
        ({"documents": "wikitext"}, UsageError, "token files have their documents already"),
        ({"inputs": (str(tmp_path / "nothing.txt"),)}, InputError, "no such file or folder"),
        ({"inputs": (str(tmp_path / "one.txt"),)}, InputError, "a language model needs 2 or more"),
    )
    for options, error, words in cases:
        with pytest.raises(error, match=words):
            run(**options)
    assert not (tmp_path / "out").exists()
    wrong: tuple[dict[str, Any], ...] = ({"batch": 0}, {"top_k": (0,)}, {"top_k": (2, 2)}, {"max_batches": 0})
    for options in (*wrong, {"inputs": (), "skip_profiling": True}):
        given: dict[str, Any] = {"checkpoint": model, "inputs": ("x",), "output_dir": tmp_path, **options}
        with pytest.raises(UsageError):
            LmEvaluateSettings(**given)


def test_words_and_bytes_of_blocks_are_those_of_the_text(tokens: Path) -> None:
    files = open_token_files(tokens)
    split, tokenizer = files.split("valid"), files.tokenizer()
    assert tokenizer.separator is not None
    seen = np.ones(len(split.tokens), np.bool_)
    for size in (3, 7, 1000):
        edges = np.append(np.arange(0, len(seen), size), len(seen)).astype(np.int64)
        bytes_U, words_U = splits_module._spelled(split, edges, seen, tokenizer.separator.id, tokenizer)
        assert len(bytes_U) == len(edges) - 1
        assert int(words_U.sum()) == split.n_words
        assert split.n_bytes <= int(bytes_U.sum()) <= split.n_bytes + 31 * 4  # ï cut in two is two times U+FFFD


def test_a_hopeless_model_has_no_infinite_perplexity(run: Callable[..., Any], tokens: Path, tmp_path: Path) -> None:
    loaded = load_lm(make_model(tmp_path / "wild", tokens, sharp=True)).model
    with torch.no_grad():
        loaded.embed_tokens.weight.mul_(5000)
    save_lm(loaded, tmp_path / "wild", seed=1, tokenizer=tokens / "tokenizer.json", replace=True)
    record = run(checkpoint=tmp_path / "wild")
    values = record["splits"]["valid"]["values"]
    assert values["loss"]["value"] > 700
    assert values["token_perplexity"]["value"] is None and values["token_perplexity"]["reason"] == "over 1e+300"
    assert values["token_perplexity"]["interval_95"] is None
    assert any("guessing evenly would do better" in note for note in record["notes"])
    text = (tmp_path / "out/metrics.json").read_text()
    assert "Infinity" not in text and "NaN" not in text
    assert "over 1e+300" in (tmp_path / "out/summary.md").read_text()


def test_a_record_that_lies_is_not_written(run: Callable[..., Any], tmp_path: Path) -> None:
    record = run(splits=("valid",))
    assert json.loads((tmp_path / "out/metrics.json").read_text()) == json.loads(json.dumps(record))
    values: dict[str, dict[str, Any]] = record["splits"]["valid"]["values"]
    for figure, value, words in (
        ("loss", values["loss"]["interval_95"][1] + 1, "outside its interval"),
        ("token_perplexity", 0.5, "below 1"),
        ("top_1_accuracy", 1.2, "above 1"),
        ("bits_per_byte", values["bits_per_byte"]["value"] * 1.000001, "are not of one sum"),
        ("top_1_accuracy", values["top_5_accuracy"]["interval_95"][1], "accuracy"),
    ):
        changed = copy.deepcopy(record)
        changed["splits"]["valid"]["values"][figure]["value"] = value
        with pytest.raises(SeqassayError, match=words):
            check_record(changed)
    changed = copy.deepcopy(record)
    changed["splits"]["valid"]["scope"] = "partial"
    with pytest.raises(SeqassayError, match="called partial"):
        check_record(changed)
