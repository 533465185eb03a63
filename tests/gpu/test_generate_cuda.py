"""Generation on CUDA: the tokens of the CPU, and the same draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import sharp_lm

from seqassay.engine.generate import Decoding, Timing, generate
from seqassay.models.causal_lm import CausalLmConfig

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("temperature", [0.0, 1.2])
def test_tokens_are_those_of_the_cpu(temperature: float) -> None:
    config = CausalLmConfig(
        vocab_size=48, d_model=32, n_layers=2, n_heads=2, d_ff=48, context=24, tied=False
    )  # fmt: skip
    rng = np.random.default_rng(1)
    prompts = [tuple(rng.integers(0, 48, n).tolist()) for n in (3, 9, 1, 30)]
    decoding = Decoding(max_new_tokens=40, temperature=temperature, top_p=0.95, seed=2, samples=2 if temperature else 1)
    on_cpu = generate(sharp_lm(config), prompts, decoding)
    timing = Timing()
    on_cuda = generate(sharp_lm(config).to("cuda"), prompts, decoding, timing=timing)
    for expected, found in zip(on_cpu, on_cuda, strict=True):
        for one, other in zip(expected, found, strict=True):
            # float32 products may differ in their last bits: a near tie may part the two, not at once
            n_same = next((i for i, (a, b) in enumerate(zip(one.tokens, other.tokens, strict=False)) if a != b), 40)
            assert n_same >= 20
            assert other.log_probs[:n_same] == pytest.approx(one.log_probs[:n_same], abs=1e-2)
    assert min(timing.decode_s) > 0
