"""Guards of language models: silent for ours, an error that names the bug for planted ones."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import sharp_lm
from torch import Tensor

from seqassay.evaluate.lm_guards import LmGuardError, Score, Tokens, check_causality, check_labels, check_untrained_loss
from seqassay.models import causal_lm
from seqassay.models.attention import PackedLayout, attention
from seqassay.models.causal_lm import CausalLmConfig
from seqassay.models.lm_files import build_lm
from seqassay.models.lm_loss import cross_entropy, target_log_probs

V = 61
MODEL = build_lm(CausalLmConfig(vocab_size=V, d_model=16, n_layers=2, n_heads=2, d_ff=24, context=16), seed=1).eval()
UNTIED = build_lm(
    CausalLmConfig(vocab_size=V, d_model=16, n_layers=2, n_heads=2, d_ff=24, context=16, tied=False), seed=1
).eval()
SHARP = sharp_lm(MODEL.config)


def encode(tokens_SL: Tokens) -> Tensor:
    n, length = tokens_SL.shape
    layout = PackedLayout.from_lengths([length] * n)
    return MODEL(torch.from_numpy(tokens_SL).flatten(), layout).view(n, length, -1)


def scorer(shift: int, *, model: causal_lm.CausalLm = MODEL, scale: float = 1.0) -> Score:
    """Scores token ``i + shift`` by the output at ``i``; the first ``shift - 1`` losses are made up to fill the row."""

    def score(tokens_SL: Tokens) -> np.ndarray:
        n, length = tokens_SL.shape
        tokens = torch.from_numpy(tokens_SL)
        with torch.no_grad():
            hidden = model(tokens.flatten(), PackedLayout.from_lengths([length] * n)).view(n, length, -1)
            logits = F.linear(hidden, model.head_weight_VD) * scale
            log_probs = logits.log_softmax(-1)[:, : length - shift].gather(2, tokens[:, shift:, None]).squeeze(2)
        losses = -log_probs.double().numpy()
        return np.pad(losses, ((0, 0), (max(0, shift - 1), 0)), constant_values=1.0)[:, -(length - 1) :]

    return score


def test_our_model_and_scores_pass() -> None:
    check_causality(encode, V)
    for model in (MODEL, UNTIED, SHARP):
        check_labels(scorer(1, model=model), V)
    tokens = torch.arange(V)
    hidden = MODEL(tokens, PackedLayout.from_lengths([V]))
    check_untrained_loss(cross_entropy(MODEL, hidden[:-1], tokens[1:]).item(), V)


def no_mask(*args: Tensor, **kwargs: object) -> Tensor:
    return attention(*args, **{**kwargs, "causal": False})  # type: ignore[arg-type]


def mask_off_by_one(q: Tensor, k: Tensor, v: Tensor, layout: PackedLayout, **_: object) -> Tensor:
    mixed = []
    for first, n, length in layout.groups:
        rows = slice(first, first + n * length)
        heads = (x[rows].view(n, length, *x.shape[1:]).transpose(1, 2) for x in (q, k, v))
        seen = torch.ones(length, length, dtype=torch.bool).tril(1)
        mixed.append(F.scaled_dot_product_attention(*heads, attn_mask=seen).transpose(1, 2).flatten(0, 1))
    return torch.cat(mixed)


@pytest.mark.parametrize("bug", [no_mask, mask_off_by_one])
def test_a_leak_of_the_future_is_found(bug: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causal_lm, "attention", bug)
    with pytest.raises(LmGuardError, match="the future leaks") as caught:
        check_causality(encode, V)
    assert "causal mask" in caught.value.hint
    with pytest.raises(LmGuardError, match="sum to"):
        check_labels(scorer(1, model=SHARP), V)


def test_inputs_that_are_shifted_are_found() -> None:
    with pytest.raises(LmGuardError, match="does not move when that token changes"):
        check_causality(lambda tokens: encode(np.roll(tokens, 1, axis=1) * (np.arange(tokens.shape[1]) > 0)), V)


@pytest.mark.parametrize("model", [MODEL, UNTIED])
def test_labels_that_are_not_shifted_are_found(model: causal_lm.CausalLm) -> None:
    with pytest.raises(LmGuardError, match=r"sum to .*, not to 1") as caught:
        check_labels(scorer(0, model=model), V)
    assert "labels are not shifted" in caught.value.hint


def test_labels_that_are_shifted_by_two_are_found() -> None:
    with pytest.raises(LmGuardError, match="does not depend on the token before it"):
        check_labels(scorer(2), V)


def test_a_wrong_number_of_losses_is_found() -> None:
    with pytest.raises(LmGuardError, match="4 tokens of a sequence give 2 losses; they have to be 3"):
        check_labels(lambda tokens: scorer(1)(tokens)[:, 1:], V)


@pytest.mark.parametrize("loss", [math.log(V) - 0.6, 0.05, math.nan])
def test_a_loss_before_training_that_is_too_good_or_undefined(loss: float) -> None:
    with pytest.raises(LmGuardError, match=r"for a vocabulary of 61 it is about 4\.111"):
        check_untrained_loss(loss, V)


def test_a_loss_before_training_that_is_too_bad() -> None:
    with pytest.raises(LmGuardError) as caught:
        check_untrained_loss(math.log(V) + 1, V)
    assert "first weights are too large" in caught.value.hint


def test_target_log_probs_are_those_the_guard_scored() -> None:
    tokens = torch.arange(6)
    hidden = MODEL(tokens, PackedLayout.from_lengths([6])).detach()
    ours = target_log_probs(MODEL, hidden[:-1], tokens[1:])
    np.testing.assert_allclose(-ours.numpy(), scorer(1)(tokens[None].numpy())[0], atol=1e-6)
