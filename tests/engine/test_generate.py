"""Generation: against transformers, against no cache, against the distribution that is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import sharp_lm

from seqassay.engine.generate import Continuation, Decoding, Timing, batches_of_parts, candidates, choose, generate
from seqassay.errors import ModelError, UsageError
from seqassay.models.attention import PackedLayout
from seqassay.models.causal_lm import CausalLm, CausalLmConfig
from seqassay.models.lm_files import export_lm, save_lm

V = 48
# untied: a tied one with weights this large says its last token again and again
SHAPE: dict[str, Any] = {"vocab_size": V, "d_model": 32, "n_layers": 2, "n_heads": 2, "d_ff": 48, "tied": False}
RNG = np.random.default_rng(1)
PROMPTS = [tuple(RNG.integers(0, V, n).tolist()) for n in (3, 9, 1, 9, 20, 14)]


@pytest.fixture(scope="module")
def model() -> CausalLm:
    return sharp_lm(CausalLmConfig(**SHAPE, context=64))


def greedy_without_cache(model: CausalLm, prompt: tuple[int, ...], n: int) -> tuple[list[int], list[float]]:
    """The window's rule written out: each token from all that the model may see, read anew."""
    context = model.config.context
    window, tokens, log_probs = list(prompt[-context:]), [], []
    for _ in range(n):
        with torch.no_grad():
            hidden_TD = model(torch.tensor(window), PackedLayout.from_lengths([len(window)]))
            scores_V = model.logits(hidden_TD[-1:])[0].log_softmax(-1)
        tokens.append(int(scores_V.argmax()))
        log_probs.append(float(scores_V.max()))
        window = [*window, tokens[-1]] if len(window) < context else [*window, tokens[-1]][-max(1, context // 2) :]
    return tokens, log_probs


def tokens_of(found: list[list[Continuation]]) -> list[list[tuple[int, ...]]]:
    return [[one.tokens for one in samples] for samples in found]


@pytest.mark.parametrize("norm", ["rmsnorm", "layernorm"])
def test_greedy_is_that_of_transformers(norm: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = sharp_lm(CausalLmConfig(**SHAPE, context=64, norm=norm))  # type: ignore[arg-type]
    save_lm(model, tmp_path / "ours")
    export_lm(tmp_path / "ours", tmp_path / "theirs")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "theirs", dtype=torch.float32)
    found = generate(model, PROMPTS, Decoding(max_new_tokens=40))
    for prompt, [one] in zip(PROMPTS, found, strict=True):
        expected = theirs.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=40, do_sample=False,
            eos_token_id=None, pad_token_id=0, output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
        assert list(one.tokens) == expected.sequences[0, len(prompt) :].tolist()
        log_probs = torch.stack(expected.logits)[:, 0].log_softmax(-1)[range(40), list(one.tokens)]
        assert one.log_probs == pytest.approx(log_probs.tolist(), abs=1e-4)
        assert (one.ended, one.cut_tokens, one.restarts) == ("length", 0, 0)
    assert min(len(set(one.tokens)) for [one] in found) > 8  # no loop of few tokens


@pytest.mark.parametrize("positions", ["rotary", "learned"])
@pytest.mark.parametrize("context", [12, 5, 1])
def test_cached_equals_uncached_beyond_the_context_too(positions: str, context: int) -> None:
    model = sharp_lm(CausalLmConfig(**SHAPE, context=context, positions=positions))  # type: ignore[arg-type]
    found = generate(model, PROMPTS, Decoding(max_new_tokens=30))
    for prompt, [one] in zip(PROMPTS, found, strict=True):
        tokens, log_probs = greedy_without_cache(model, prompt, 30)
        assert list(one.tokens) == tokens
        assert one.log_probs == pytest.approx(log_probs, abs=1e-4)
        assert one.cut_tokens == max(0, len(prompt) - context)
        n_seen, restarts = min(len(prompt), context), 0
        for _ in range(29):
            n_seen, restarts = (n_seen + 1, restarts) if n_seen < context else (max(1, context // 2), restarts + 1)
        assert one.restarts == restarts > 0


def test_a_full_context_can_end_a_continuation() -> None:
    model = sharp_lm(CausalLmConfig(**SHAPE, context=12))
    found = generate(model, PROMPTS, Decoding(max_new_tokens=10, full_context="stop"))
    slid = generate(model, PROMPTS, Decoding(max_new_tokens=10))
    for prompt, [one], [other] in zip(PROMPTS, found, slid, strict=True):
        n = min(10, 13 - min(12, len(prompt)))  # the last token is chosen from a full window
        assert one.tokens == other.tokens[:n]
        assert one.ended == ("length" if n == 10 else "context") and one.restarts == 0


@pytest.mark.parametrize("temperature", [0.0, 1.3])
def test_batches_and_company_change_nothing(model: CausalLm, temperature: float) -> None:
    decoding = Decoding(max_new_tokens=20, temperature=temperature, seed=5, samples=3, stop_ids=frozenset({7, 8}))
    timing = Timing()
    together = generate(model, PROMPTS, decoding, timing=timing)
    assert timing.prefill_tokens == [sum(map(len, PROMPTS))]
    assert sum(timing.decode_tokens) == sum(len(one.tokens) - 1 for samples in together for one in samples)
    assert len(timing.decode_s) == len(timing.decode_tokens) and min(timing.decode_s) > 0
    apart = generate(model, PROMPTS, decoding, batch_tokens=1)
    some = generate(model, PROMPTS, decoding, batch_tokens=200)
    assert tokens_of(together) == tokens_of(apart) == tokens_of(some)
    # a prompt's numbers are those of its place
    assert tokens_of(generate(model, PROMPTS[:2], decoding)) == tokens_of(together)[:2]
    distinct = {one.tokens for one in together[1] + together[3]}
    assert len(distinct) == (6 if temperature else len({PROMPTS[1], PROMPTS[3]}))
    other = generate(model, PROMPTS, Decoding(max_new_tokens=20, temperature=temperature, seed=6, samples=3))
    assert (tokens_of(other) == tokens_of(together)) is False


def test_log_probabilities_are_the_model_s_whatever_is_drawn(model: CausalLm) -> None:
    [[one]] = generate(model, PROMPTS[:1], Decoding(max_new_tokens=12, temperature=2.0, top_k=5, seed=1))
    ids = [*PROMPTS[0], *one.tokens]
    with torch.no_grad():
        scores_TV = model.logits(model(torch.tensor(ids[:-1]), PackedLayout.from_lengths([len(ids) - 1])))
    expected = scores_TV.log_softmax(-1)[range(2, 14), ids[3:]]
    assert one.log_probs == pytest.approx(expected.tolist(), abs=1e-4)


def test_what_ends_a_continuation(model: CausalLm) -> None:
    [[free]] = generate(model, PROMPTS[1:2], Decoding(max_new_tokens=20))
    stop = free.tokens[6]
    first = free.tokens.index(stop)
    [[one]] = generate(model, PROMPTS[1:2], Decoding(max_new_tokens=20, stop_ids=frozenset({stop})))
    assert (one.tokens, one.ended) == (free.tokens[: first + 1], "stop token")
    [[one]] = generate(
        model, PROMPTS[1:2], Decoding(max_new_tokens=20), is_stop=lambda tokens: tuple(tokens[-2:]) == free.tokens[3:5]
    )
    assert one.ended == "stop text" and one.tokens[-2:] == free.tokens[3:5]


def test_draws_follow_the_distribution_that_is_asked_for(model: CausalLm) -> None:
    n = 3_000
    for kind in (
        {},
        {"temperature": 0.6},
        {"top_k": 6},
        {"top_p": 0.7},
        {"temperature": 1.5, "top_k": 12, "top_p": 0.8},
    ):
        decoding = Decoding(max_new_tokens=1, samples=n, seed=3, **{"temperature": 1.0, **kind})  # type: ignore[arg-type]
        drawn = [one.tokens[0] for [*samples] in generate(model, PROMPTS[:1], decoding) for one in samples]
        expected_V = by_transformers(model, decoding)
        counts_V = np.bincount(drawn, minlength=V)
        assert counts_V[expected_V == 0].sum() == 0
        seen = expected_V > 0
        # chi-squared over what is expected 5 times or more; the rest as one class
        common = seen & (expected_V * n >= 5)
        rare = seen & ~common
        pairs = [(counts_V[i], expected_V[i] * n) for i in np.flatnonzero(common)]
        if rare.any() and expected_V[rare].sum() * n >= 1:
            pairs.append((counts_V[rare].sum(), expected_V[rare].sum() * n))
        chi2 = sum((seen_n - n_expected) ** 2 / n_expected for seen_n, n_expected in pairs)
        degrees = len(pairs) - 1
        assert degrees > 2 and abs(chi2 - degrees) < 4 * (2 * degrees) ** 0.5  # mean and sd of chi-squared


def by_transformers(model: CausalLm, decoding: Decoding) -> np.ndarray[Any, np.dtype[np.float64]]:
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    prompt = torch.tensor(PROMPTS[0])
    with torch.no_grad():
        scores_1V = model.logits(model(prompt, PackedLayout.from_lengths([len(prompt)]))[-1:]).double()
    warpers = [TemperatureLogitsWarper(decoding.temperature)]
    if decoding.top_k is not None:
        warpers.append(TopKLogitsWarper(decoding.top_k))
    if decoding.top_p < 1:
        warpers.append(TopPLogitsWarper(decoding.top_p))
    for warper in warpers:
        scores_1V = warper(prompt[None], scores_1V)
    probabilities: np.ndarray[Any, np.dtype[np.float64]] = scores_1V.softmax(-1)[0].numpy()
    return probabilities


def test_top_p_keeps_the_fewest_and_one_at_least() -> None:
    logits = torch.tensor([[0.1, 0.5, 0.25, 0.15]]).log()
    for top_p, kept in ((0.4, {1}), (0.5, {1}), (0.51, {1, 2}), (0.76, {1, 2, 3}), (1e-9, {1})):
        probabilities, ids = candidates(logits, Decoding(max_new_tokens=1, temperature=1.0, top_p=top_p))
        assert ids is not None
        assert {int(ids[0, rank]) for rank in probabilities[0].nonzero()} == kept
    tokens, _ = choose(logits, Decoding(max_new_tokens=1, temperature=1.0, top_k=2), np.array([1 - 2**-53]))
    assert tokens == [2]  # the last of what is left, never one behind it
    assert choose(logits, Decoding(max_new_tokens=1, temperature=1e-3), np.array([0.999]))[0] == [1]


def test_batches_keep_the_budget() -> None:
    lengths, decoding = [5, 100, 7, 6, 90, 3], Decoding(max_new_tokens=11)
    parts = [(number, range(2)) for number in range(6)]
    both = range(2)
    batches = list(batches_of_parts(parts, lengths, decoding, 64, 256))
    assert batches == [[(1, both), (4, both)], [(2, both), (3, both), (0, both), (5, both)]]
    alone = [[(number, range(i, i + 1))] for number in (1, 4, 2, 3, 0, 5) for i in both]
    assert list(batches_of_parts(parts, lengths, decoding, 64, 1)) == alone
    many = list(batches_of_parts([(0, range(7, 20))], lengths, decoding, 64, 15 * 5))  # 15 tokens each
    assert many == [[(0, range(7, 12))], [(0, range(12, 17))], [(0, range(17, 20))]]


def test_samples_are_those_of_their_numbers_in_whatever_part(model: CausalLm) -> None:
    decoding = Decoding(max_new_tokens=9, temperature=1.2, seed=2, samples=5)
    whole = tokens_of(generate(model, PROMPTS[:3], decoding, batch_tokens=60))
    n_done: list[int] = []
    parts = [(2, range(1, 4)), (0, range(4, 5))]
    some = tokens_of(generate(model, PROMPTS[:3], decoding, parts=parts, on_batch=n_done.append))
    assert some == [whole[2][1:4], whole[0][4:]] and n_done == [4]


def test_what_is_refused(model: CausalLm) -> None:
    for given, message in (
        ({"temperature": -1.0}, "temperature is -1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": 1e-9}, "temperature is 1e-09"),
        ({"top_p": 0.0}, "top-p is 0"),
        ({"top_k": 0}, "top-k: 0"),
        ({"max_new_tokens": 0}, "new tokens: 0"),
    ):
        with pytest.raises(UsageError, match=message):
            Decoding(**{"max_new_tokens": 1, **given})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="prompt 2 has no token"):
        generate(model, [(1,), ()], Decoding(max_new_tokens=1))
    broken = sharp_lm(model.config)
    with torch.no_grad():
        broken.head_weight_VD.fill_(1e38)
    with pytest.raises(ModelError, match="log-probability of a token is"):
        generate(broken, [(1,)], Decoding(max_new_tokens=1))
