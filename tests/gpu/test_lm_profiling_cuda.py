"""Profiling on CUDA: figures of every part, memory as the device counts it, a batch that does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from seqassay.models.causal_lm import CausalLmConfig
from seqassay.models.lm_files import build_lm, save_lm
from seqassay.prove.lm.command import evaluate_lm
from seqassay.prove.lm.settings import LmEvaluateSettings
from seqassay.text.tokenizer_training import train_bytes_bpe

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def test_speed_and_memory_of_a_model_on_cuda(tmp_path: Path) -> None:
    train_bytes_bpe(["The cat sat on the mat. The dog sat on the log.\n" * 20], 270).save(tmp_path / "tokenizer.json")
    config = CausalLmConfig(vocab_size=270, d_model=128, n_layers=2, n_heads=4, d_ff=256, context=64)
    save_lm(build_lm(config, 1), tmp_path / "model", seed=1, tokenizer=tmp_path / "tokenizer.json")
    too_many = torch.cuda.get_device_properties(0).total_memory // (4 * 128 * 64)  # hidden states alone fill the device
    record = evaluate_lm(
        LmEvaluateSettings(
            checkpoint=tmp_path / "model", output_dir=tmp_path / "out", device="cuda", latency_runs=30,
            throughput_s=0.5, scaling_batches=(1, 8, too_many), memory_runs=2,
        )
    ).record  # fmt: skip
    found = record["profiling"]
    assert found["latency"][0]["latency_ms"]["n"] == 30 and found["throughput"]["tokens_per_s"]["n"] >= 3
    assert 0 < found["throughput"]["model_flop_utilisation"]["value"] < 1
    assert found["scaling"][1]["tokens_per_s"]["value"] and found["scaling"][2]["tokens_per_s"]["value"] is None
    memory = found["memory"]
    weight_bytes = record["model"]["weight_bytes"]
    assert memory["cuda_peak_reserved_bytes"]["min"] >= memory["cuda_peak_allocated_bytes"]["max"] > weight_bytes
    assert memory["cuda_allocated_bytes"]["min"] >= weight_bytes
    assert record["standard"]["peak_memory_bytes"] == round(memory["cuda_peak_allocated_bytes"]["value"])
    assert record["device"].startswith("cuda")
