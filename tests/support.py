"""Small made-up inputs, and a bundle of random weights to run them through."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer

from seqassay.cli.main import main
from seqassay.models.bundle import BUNDLE_FILE, digest_of, write_bundle
from seqassay.models.calibration import Calibration
from seqassay.models.causal_lm import CausalLm, CausalLmConfig
from seqassay.models.dnabert import Dnabert, DnabertConfig
from seqassay.models.esm2 import Esm2, Esm2Config
from seqassay.models.head import ClassifierHead
from seqassay.models.lm_files import build_lm
from seqassay.models.weights import save_dnabert, save_esm2

Run = Callable[..., tuple[int, str, str]]


def random_reads(n: int, *, length: int = 90, seed: int = 1) -> list[tuple[str, str]]:
    """Ids and random bases; most 90-bp reads have a stop-free frame, some have none."""
    rng = random.Random(seed)
    return [(f"read{i}", "".join(rng.choices("ACGT", k=length))) for i in range(1, n + 1)]


def fasta_text(records: list[tuple[str, str]]) -> str:
    """Two lines a record."""
    return "".join(f">{header}\n{bases}\n" for header, bases in records)


def write_fasta(path: Path, records: list[tuple[str, str]]) -> Path:
    """Write and return the path."""
    path.write_text(fasta_text(records))
    return path


def make_tiny_bundle(folder: Path, *, calibrated: bool = False) -> Path:
    """A whole bundle of random weights: 32 and 40 wide, 1 and 2 layers, 300-bp chunks, a tokenizer trained here.

    The head is set so that random sequences get both calls. With ``calibrated`` it has a nucleotide head, and a
    calibration that looks at both.
    """
    torch.manual_seed(1)
    tokenizer = train_bpe(96)
    nucleotide = DnabertConfig(vocab_size=tokenizer.get_vocab_size(), d_model=32, n_layers=1, n_heads=2, d_ff=64)
    save_dnabert(Dnabert(nucleotide), folder / "nucleotide")
    tokenizer.save(str(folder / "nucleotide" / "tokenizer.json"))
    save_esm2(Esm2(Esm2Config(n_layers=2, d_model=40, n_heads=2, d_ff=64)), folder / "protein")
    head = ClassifierHead(32 + 40).eval()
    with torch.no_grad():
        head.hidden_layer.weight.mul_(4)
        head.output_layer.weight.mul_(4)
        head.output_layer.bias.copy_(torch.tensor([-7.7, 0.0]))  # log-odds of random frames: 0 ± 1.5
    bundle = write_bundle(
        folder / "tiny",
        name="tiny",
        nucleotide=folder / "nucleotide",
        protein=folder / "protein",
        head=head,
        nucleotide_head=ClassifierHead(32).eval() if calibrated else None,
        calibration=TINY_CALIBRATION if calibrated else None,
        chunk_length=300,
    )
    return bundle.path


TINY_CALIBRATION = Calibration(
    prior=0.5,
    n_others=1000,
    lengths_K=np.array([100.0, 300.0]),
    framed_KC=np.array([[0.1, 0.8, 0.5], [0.2, 1.6, 1.0]]),
    unframed_K2=np.array([[0.0, 1.0], [0.3, 2.0]]),
    held_out_RK=np.array([[np.nan, 0.01], [0.02, 0.02], [0.06, 0.04], [0.1, 0.1], [0.2, 0.2]]),
)


def edit_bundle(folder: Path, change: Callable[[dict[str, Any]], object], *, sign: bool = True) -> None:
    """Change bundle.json as someone who knows how to compute the digest would."""
    path = folder / BUNDLE_FILE
    said = json.loads(path.read_text())
    change(said)
    if sign and all(isinstance(said.get(key), dict) for key in ("nucleotide", "protein")):
        said["digest"] = digest_of(said)
    path.write_text(json.dumps(said))


def train_bpe(vocabulary: int) -> Tokenizer:
    """A byte-pair tokenizer of the DNABERT-S kind, trained on random bases."""
    rng = random.Random(1)
    tokenizer = Tokenizer(BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    specials = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    trainer = BpeTrainer(
        vocab_size=vocabulary, special_tokens=specials, initial_alphabet=list("ACGTN"), show_progress=False
    )
    tokenizer.train_from_iterator(("".join(rng.choices("ACGT", k=200)) for _ in range(200)), trainer)
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return tokenizer


def exit_code(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Call ``seqassay`` with these words in this process; what it prints is left to the test."""
    monkeypatch.setattr(sys, "argv", ["seqassay", *map(str, words)])
    try:
        main()
    except SystemExit as exit_:
        return int(exit_.code or 0)
    return 0


def in_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that calls ``seqassay`` in this process; returns exit code, output, errors."""

    def run(*words: object) -> tuple[int, str, str]:
        code = exit_code(monkeypatch, *words)
        return code, *capsys.readouterr()

    return run


def sharp_lm(config: CausalLmConfig) -> CausalLm:
    """A language model as after training: what comes before a token matters."""
    model = build_lm(config, seed=1).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(8 if weight.ndim == 2 else 1)
    return model
