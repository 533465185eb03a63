"""`seqassay lm build` and `lm export` as typed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from support import train_bpe

Run = Callable[..., int]


def test_the_plan_is_printed_written_and_exported(run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    train_bpe(96).save("tokenizer.json")
    words = "--tokenizer tokenizer.json --total-params 60000 --embedding-ratio 0.104 --glu-expansion 2.66"
    assert run("lm", "build", *words.split(), "-o", "lm", "--seed", 7) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "vocabulary 96" in lines[0]
    assert lines[-1] == "untrained model, seed 7, in lm"
    said = json.loads(Path("lm/lm.json").read_text())
    total = next(line for line in lines if line.startswith("total "))
    assert total.split() == ["total", f"{said['plan']['params']:,}", "100.00%"]
    assert run("lm", "build", *words.split(), "--json") == 0
    assert json.loads(capsys.readouterr().out) == said["plan"]
    assert run("lm", "export", "lm", "out") == 0
    assert capsys.readouterr().out.startswith("LlamaForCausalLM in out\n")
    assert json.loads(Path("out/config.json").read_text())["vocab_size"] == 96
    assert run("lm", "export", "lm", "out") == 2
    assert "is there already" in capsys.readouterr().err
    assert run("lm", "export", "lm", "out", "--force") == 0


def test_a_refusal_can_be_pasted(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*shlex.split("lm build --vocab-size 32768 --total-params 1000000 --n-heads 4")) == 2
    lines = capsys.readouterr().err.splitlines()
    offered = [line.strip() for line in lines if line.startswith("  seqassay lm build")]
    assert len(offered) >= 3
    for line in offered:
        assert run(*shlex.split(line)[1:]) == 0
        assert "off" in capsys.readouterr().out


def test_a_given_shape(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    words = "lm build --vocab-size 65 --d-model 128 --n-layers 4 --n-heads 4 --context 64"
    assert run(*words.split()) == 0
    assert "d_model 128   layers 4   heads 4 × 32   d_ff 344" in capsys.readouterr().out
    assert run(*words.split(), "--total-params", 1000) == 2
    assert "--d-model, --n-layers and --total-params exclude each other" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--total-params 1000000", "not given: --vocab-size"),
        ("--vocab-size 1000", "not given: --total-params"),
        ("--vocab-size 1000 --total-params 1000000 --embedding-ratio 35", "between 0 and 1"),
        ("--vocab-size 1000 --total-params 1000000 --norm batchnorm", "it has to be one of: rmsnorm, layernorm"),
        ("--vocab-size 65 --d-model 128 --n-layers 4 --n-heads 3", "does not divide into 3 heads"),
        ("--vocab-size 65 --d-model 128 --n-layers 0", "n_layers is 0"),
        ("--tokenizer nothing.json --total-params 1000000", "nothing.json"),
    ],
)
def test_what_cannot_be(run: Run, capsys: pytest.CaptureFixture[str], words: str, message: str) -> None:
    assert run("lm", "build", *words.split(), "-o", "lm") == 2
    assert message in capsys.readouterr().err
    assert not Path("lm").exists()
