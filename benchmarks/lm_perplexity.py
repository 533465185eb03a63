"""Perplexity of `seqassay lm evaluate` against a plain float64 computation and transformers' own loss.

    python benchmarks/lm_perplexity.py

A small model is trained for some seconds on half of this documentation and evaluated on the other half, page by
page, with several windows. The float64 side is a Llama written out here from the exported tensors, one window at a
time, with a window rule of its own; transformers' side is the loss of LlamaForCausalLM on the exported folder, float32,
with labels of what is not scored masked. The bar: losses differ by at most 1e-5 nats per token.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import rms_norm, silu
from transformers import AutoModelForCausalLM

from _timing import RESULTS
from seqassay.measure.provenance import provenance, utc_now
from seqassay.models.attention import PackedLayout
from seqassay.models.causal_lm import CausalLm, CausalLmConfig
from seqassay.models.lm_files import build_lm, export_lm, save_lm
from seqassay.models.lm_loss import cross_entropy
from seqassay.prove.lm.command import evaluate_lm
from seqassay.prove.lm.settings import LmEvaluateSettings
from seqassay.text.build import BuildSettings, build_token_files
from seqassay.text.token_files import open_token_files
from seqassay.text.windows import TrainingWindows

DOCS = Path(__file__).parents[1] / "docs"
BAR_NATS = 1e-5
VOCABULARY, STEPS = 512, 150
CONFIG = CausalLmConfig(vocab_size=VOCABULARY, d_model=64, n_layers=2, n_heads=4, d_ff=168, context=96)
CASES: tuple[dict[str, Any], ...] = (
    {"context": 96, "stride": 96, "prefix": True},
    {"context": 96, "stride": 40, "prefix": True},
    {"context": 33, "stride": 33, "prefix": False},
)


def main() -> None:
    """Train, evaluate three times three ways, print the differences, and keep the record."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        pages = sorted(DOCS.glob("*.md"))
        for name, some in (("train", pages[::2]), ("valid", pages[1::2])):
            (place / name).mkdir()
            for page in some:
                (place / name / f"{page.stem}.txt").write_bytes(page.read_bytes()[:3_000])
        inputs = (f"train={place / 'train'}", f"valid={place / 'valid'}")
        build_token_files(BuildSettings(inputs=inputs, output_dir=place / "tokens", vocab_size=VOCABULARY))
        tokens = open_token_files(place / "tokens")
        model = trained(TrainingWindows(tokens.split("train").tokens, CONFIG.context, 8, 0))
        save_lm(model, place / "model", tokenizer=place / "tokens" / "tokenizer.json")
        export_lm(place / "model", place / "exported")
        documents = [tokens.split("valid").tokens[b:e].tolist() for b, e in tokens.split("valid").documents()]
        prefix = tokens.tokenizer().prefix
        rows = [row(case, place, documents, -1 if prefix is None else prefix.id) for case in CASES]
    holds = all(row["off_float64_nats"] <= BAR_NATS and row["off_transformers_nats"] <= BAR_NATS for row in rows)
    for one in rows:
        print(
            f"context {one['context']:>3} stride {one['stride']:>3} prefix {one['prefix']!s:<5}  "
            f"{one['tokens']:,} tokens  loss {one['loss_nats']:.6f}  off float64 {one['off_float64_nats']:.1e}  "
            f"off transformers {one['off_transformers_nats']:.1e}"
        )
    record = {
        "benchmark": "lm_perplexity", "time": utc_now(), "bar_nats": BAR_NATS, "holds": holds, "rows": rows,
        "provenance": provenance(),
    }  # fmt: skip
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "lm_perplexity.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps({"benchmark": "lm_perplexity", "holds": holds, "bar_nats": BAR_NATS}))
    if not holds:
        sys.exit(1)


def trained(windows: TrainingWindows) -> CausalLm:
    """A model that has learnt something, so that attention and positions count."""
    model = build_lm(CONFIG, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    layout = PackedLayout.from_lengths([CONFIG.context] * windows.batch_windows)
    for step in range(STEPS):
        inputs, targets = (torch.from_numpy(part).flatten() for part in windows.batch(step))
        loss = cross_entropy(model, model(inputs, layout), targets)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model.eval()


def row(case: dict[str, Any], place: Path, documents: list[list[int]], prefix_id: int) -> dict[str, Any]:
    """One setting, three ways."""
    settings = LmEvaluateSettings(
        checkpoint=place / "model", inputs=(str(place / "tokens"),), output_dir=place / "out", splits=("valid",),
        device="cpu", force=True, skip_profiling=True, **case,
    )  # fmt: skip
    ours = evaluate_lm(settings).record["splits"]["valid"]["values"]["loss"]
    tensors = {name: tensor.double() for name, tensor in load_file(place / "exported" / "model.safetensors").items()}
    theirs = load_published(place / "exported")
    plain = published = 0.0
    n = 0
    for document in documents:
        text = [prefix_id, *document] if case["prefix"] else document
        for window, n_scored in windows_of(text, case["context"], case["stride"]):
            ids = torch.tensor(window)
            log_probs = llama_float64(tensors, ids[:-1]).log_softmax(-1)
            scored = log_probs.gather(1, ids[1:, None])[-n_scored:]
            plain -= float(scored.sum())
            labels = ids.clone()
            labels[:-n_scored] = -100
            with torch.no_grad():
                published += float(theirs(ids[None], labels=labels[None]).loss) * n_scored
            n += n_scored
    if n != ours["n"]:
        raise SystemExit(f"{ours['n']} tokens scored; the plain loop scores {n}")
    return {
        **case, "tokens": n, "documents": len(documents), "loss_nats": ours["value"],
        "float64_nats": plain / n, "transformers_nats": published / n,
        "off_float64_nats": abs(ours["value"] - plain / n), "off_transformers_nats": abs(ours["value"] - published / n),
    }  # fmt: skip


def load_published(folder: Path) -> Any:
    """The exported folder in transformers, float32."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()  # type: ignore[no-untyped-call]


def windows_of(text: list[int], context: int, stride: int) -> Iterator[tuple[list[int], int]]:
    """Tokens of every window, one more than its inputs, and how many of the last are scored."""
    done = 1
    while done < len(text):
        stop = min(len(text), done + (context if done == 1 else stride))
        yield text[max(0, stop - 1 - context) : stop], stop - done
        done = stop


def llama_float64(tensors: dict[str, Tensor], ids: Tensor) -> Tensor:
    """Logits of one sequence, as the paper has it."""
    n, width, heads = len(ids), CONFIG.d_model, CONFIG.n_heads
    angles = torch.arange(n).double()[:, None] / CONFIG.rotary_base ** (
        torch.arange(0, CONFIG.head_width, 2).double() / CONFIG.head_width
    )
    cos, sin = (torch.cat((part, part), 1) for part in (angles.cos(), angles.sin()))

    def turned(x: Tensor) -> Tensor:
        first, second = x.chunk(2, -1)
        return x * cos + torch.cat((-second, first), -1) * sin

    future = torch.ones(n, n).triu(1).bool()
    x = tensors["model.embed_tokens.weight"][ids]
    for number in range(CONFIG.n_layers):
        part = {
            name.removeprefix(f"model.layers.{number}.").removesuffix(".weight"): tensor
            for name, tensor in tensors.items()
            if name.startswith(f"model.layers.{number}.")
        }
        h = rms_norm(x, (width,), part["input_layernorm"], CONFIG.eps)
        q, k, v = ((h @ part[f"self_attn.{name}_proj"].T).view(n, heads, -1).transpose(0, 1) for name in "qkv")
        scores = turned(q) @ turned(k).transpose(1, 2) / math.sqrt(CONFIG.head_width)
        mixed = scores.masked_fill(future, -math.inf).softmax(-1) @ v
        x = x + mixed.transpose(0, 1).reshape(n, width) @ part["self_attn.o_proj"].T
        h = rms_norm(x, (width,), part["post_attention_layernorm"], CONFIG.eps)
        inner = silu(h @ part["mlp.gate_proj"].T) * (h @ part["mlp.up_proj"].T)
        x = x + inner @ part["mlp.down_proj"].T
    return rms_norm(x, (width,), tensors["model.norm.weight"], CONFIG.eps) @ tensors["model.embed_tokens.weight"].T


if __name__ == "__main__":
    main()
