"""SmallBench against lm-evaluation-harness: every item, and the time, with its own Hugging Face back end.

    python benchmarks/smallbench_harness.py --data ../shared/data [--work FOLDER] [--rounds 3] [--sweep-pieces 4]

A model of 10M parameters (BPE of 16,384 on WikiText-2, context 1,024) is trained for some steps, so that it is not
uniform, and exported for transformers. Both sides get the same 1,685 items (sentiment 500, nli 277, qa 500, paraphrase
408) as loaded rows and give log-probabilities: ours tokenises and scores as `lm evaluate --probes` does, the other is
`HFLM.loglikelihood`, float32, one request a continuation, as the harness sends them. Loading is timed on neither.

The items are sorted by length and cut into pieces of about equal work, so that the back end forms the batches that it
forms of all of them; pieces are timed in turn, both sides within a minute, wall and CPU time. Batch sizes 1 to 64 are
compared on some pieces of all lengths; the fastest of them then takes all pieces, ``--rounds`` times.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that wait don't spin on a shared machine
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import lm_eval
import numpy as np
import torch
import transformers
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from _timing import RESULTS
from seqassay.evaluate.continuations import batches_of_questions, score_questions
from seqassay.evaluate.smallbench import best, make_questions
from seqassay.measure.provenance import provenance, utc_now
from seqassay.models.attention import PackedLayout
from seqassay.models.lm_files import build_lm, export_lm, save_lm
from seqassay.models.lm_loss import cross_entropy
from seqassay.models.lm_plan import BudgetSettings, plan_lm
from seqassay.prove.lm.inputs import Checkpoint, open_model
from seqassay.prove.lm_harness.adapter import SeqassayLM
from seqassay.text.build import BuildSettings, build_token_files
from seqassay.text.probes import ProbeItem, ProbeTask, find_probes
from seqassay.text.token_files import open_token_files
from seqassay.text.windows import TrainingWindows

LIMITS = {"sentiment": 500, "nli": 277, "qa": 500, "paraphrase": 408}
VOCABULARY, PARAMETERS, CONTEXT, STEPS = 16_384, 10_000_000, 1024, 40
BATCH_SIZES = (1, 4, 8, 16, 32, 64)
BATCH_TOKENS = 16_384  # the default of `lm evaluate`
BAR_NATS, BAR_RATIO = 1e-4, 3.0
Item = tuple[ProbeTask, ProbeItem]


@dataclass
class Side:
    """One way to score a piece, with the times it took."""

    name: str
    score: Callable[[Sequence[Item]], list[float]]
    samples: list[dict[str, Any]] = field(default_factory=list)

    def timed(self, piece: int, items: Sequence[Item]) -> list[float]:
        """Log-probabilities of both continuations of every item, in order."""
        wall, cpu = time.perf_counter(), time.process_time()
        found = self.score(items)
        self.samples.append({"piece": piece, "wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu})
        return found

    def seconds(self, clock: str) -> float:
        """Sum over pieces of the median time."""
        pieces = {sample["piece"] for sample in self.samples}
        return float(sum(np.median([s[clock] for s in self.samples if s["piece"] == piece]) for piece in pieces))


def main() -> None:
    """Prepare, compare batch sizes, compare item by item, and keep the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SEQASSAY_DATA", "../shared/data")))
    parser.add_argument("--work", type=Path, help="keeps the model for a later call")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pieces", type=int, default=24)
    parser.add_argument("--sweep-pieces", type=int, default=4)
    parser.add_argument("--sweep-rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as temporary:
        work = args.work or Path(temporary)
        prepare(work, args.data)
        checkpoint = open_model(work / "model")
        items = read_items(args.data, checkpoint)
        pieces = cut(items, checkpoint, args.pieces)
        record = run(checkpoint, work / "exported", items, pieces, args)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "smallbench_harness.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps({key: record[key] for key in ("benchmark", "equality", "ratio_wall", "ratio_cpu", "holds")}))
    if not record["holds"]:
        sys.exit(1)


def prepare(work: Path, data: Path) -> None:
    """The model, trained for some steps, and its export; what is there is taken."""
    if (work / "exported").exists():
        return
    text = data / "text" / "wikitext-2" / "train.txt.gz"
    build_token_files(
        BuildSettings(
            inputs=(f"train={text}",), output_dir=work / "tokens", documents="wikitext", vocab_size=VOCABULARY
        )
    )
    plan = plan_lm(BudgetSettings(vocab_size=VOCABULARY, total_params=PARAMETERS, context=CONTEXT))
    model = build_lm(plan.config, 0)
    windows = TrainingWindows(open_token_files(work / "tokens").split("train").tokens, 128, 8, 0)
    layout = PackedLayout.from_lengths([128] * 8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = 2e-3 * min(1.0, (step + 1) / 20)
        inputs, targets = (torch.from_numpy(part).flatten() for part in windows.batch(step))
        loss = cross_entropy(model, model(inputs, layout), targets)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    print(f"trained: {STEPS} steps, loss {loss.item():.3f}", flush=True)
    save_lm(model.eval(), work / "model", plan=plan, tokenizer=work / "tokens" / "tokenizer.json")
    export_lm(work / "model", work / "exported")


def read_items(data: Path, checkpoint: Checkpoint) -> list[Item]:
    """The first rows of each task, the short ones first."""
    items = [(one.task, item) for one in find_probes([data / "probes"]) for item in one.items[: LIMITS[one.task.name]]]
    lengths = [len(ids) for ids in checkpoint.tokenizer.encode_batch([task.prompt(row.texts) for task, row in items])]
    return [items[i] for i in np.argsort(lengths, kind="stable")]


def cut(items: Sequence[Item], checkpoint: Checkpoint, n_pieces: int) -> list[range]:
    """Runs of items of about equally many tokens."""
    lengths = [len(ids) for ids in checkpoint.tokenizer.encode_batch([task.prompt(row.texts) for task, row in items])]
    done = np.cumsum(lengths)
    edges = [0, *np.searchsorted(done, np.arange(1, n_pieces) * done[-1] / n_pieces).tolist(), len(items)]
    return [range(a, b) for a, b in pairwise(edges)]


def run(
    checkpoint: Checkpoint, exported: Path, items: Sequence[Item], pieces: Sequence[range], args: argparse.Namespace
) -> dict[str, Any]:
    """All timings and comparisons, as the record has them."""
    ours = Side("seqassay", lambda part: score_ours(checkpoint, part))
    sides = {size: Side(f"HFLM, batch size {size}", hf_side(exported, size)) for size in BATCH_SIZES}
    swept = [round(i) for i in np.linspace(0, len(pieces) - 1, args.sweep_pieces)]
    for piece in [swept[0]] * 2:  # warm
        for side in (ours, sides[8]):
            side.score([items[i] for i in pieces[piece]])
    for _ in range(args.sweep_rounds):
        for piece in swept:
            part = [items[i] for i in pieces[piece]]
            for side in (ours, *sides.values()):
                side.timed(piece, part)
    sweep = {side.name: {c: side.seconds(c) for c in ("wall_s", "cpu_s")} | {"samples": side.samples}
             for side in (ours, *sides.values())}  # fmt: skip
    by_clock = {clock: min(sides, key=lambda size: sides[size].seconds(clock)) for clock in ("wall_s", "cpu_s")}
    for name, found in sweep.items():
        print(f"{name:22s} {found['wall_s']:8.2f} s wall {found['cpu_s']:8.2f} s CPU", flush=True)
    chosen = by_clock["cpu_s"]
    for side in (ours, sides[chosen]):
        side.samples = []
    scores: dict[str, list[float]] = {"ours": [], "hf": []}
    for number in range(args.rounds):
        for piece, run_of in enumerate(pieces):
            part = [items[i] for i in run_of]
            found = [side.timed(piece, part) for side in ((ours, sides[chosen])[:: 1 - 2 * (piece % 2)])]
            if number == 0:
                mine, theirs = found[:: 1 - 2 * (piece % 2)]
                scores["ours"] += mine
                scores["hf"] += theirs
        print(f"round {number + 1}: {ratio(ours, sides[chosen], 'wall_s')} wall", flush=True)
    adapter = SeqassayLM(checkpoint, batch_tokens=BATCH_TOKENS)
    scores["adapter"] = [log_prob for log_prob, _ in adapter.loglikelihood(requests_of(items))]
    equality = compare(items, scores, checkpoint)
    wall, cpu = (ratio(ours, sides[chosen], clock) for clock in ("wall_s", "cpu_s"))
    return {
        "benchmark": "smallbench_harness", "time": utc_now(), "bar": {"nats": BAR_NATS, "ratio": BAR_RATIO},
        "model": checkpoint.identity() | {"path": None}, "items": len(items), "limits": LIMITS,
        "context_tokens": CONTEXT, "threads": args.threads, "rounds": args.rounds, "pieces": len(pieces),
        "load_average": list(os.getloadavg()), "lm_eval": lm_eval.__version__,
        "transformers": transformers.__version__, "batch_size_sweep": sweep,
        "sweep_pieces": swept, "best_batch_size": chosen, "best_by_clock": by_clock,
        "truncated_requests": adapter.truncated, "equality": equality,
        "ratio_wall": wall, "ratio_cpu": cpu, "seconds": {
            side.name: {c: side.seconds(c) for c in ("wall_s", "cpu_s")} | {"samples": side.samples}
            for side in (ours, sides[chosen])
        },
        "holds": equality["holds"] and wall["low"] > BAR_RATIO and cpu["low"] > BAR_RATIO, "provenance": provenance(),
    }  # fmt: skip


def score_ours(checkpoint: Checkpoint, part: Sequence[Item]) -> list[float]:
    """As `lm evaluate --probes` scores rows."""
    asked = [(task.prompt(row.texts), task.continuations) for task, row in part]
    questions = make_questions(checkpoint.tokenizer, asked, CONTEXT)
    found: list[list[float]] = [[] for _ in part]
    for batch in batches_of_questions(questions, BATCH_TOKENS):
        for number, scores in zip(
            batch, score_questions(checkpoint.folder.model, [questions[i] for i in batch]), strict=True
        ):
            found[number] = [score.log_prob for score in scores]
    return [value for pair in found for value in pair]


def hf_side(exported: Path, batch_size: int) -> Callable[[Sequence[Item]], list[float]]:
    """The harness's back end."""
    backend = HFLM(pretrained=str(exported), device="cpu", dtype="float32", batch_size=batch_size, max_length=CONTEXT)
    return lambda part: [found for found, _ in backend.loglikelihood(requests_of(part), disable_tqdm=True)]


def requests_of(part: Sequence[Item]) -> list[Instance]:
    """A request for each continuation, as the harness makes them."""
    return [
        Instance("loglikelihood", doc={}, arguments=(task.prompt(row.texts), continuation), idx=which)
        for task, row in part
        for which, continuation in enumerate(task.continuations)
    ]


def compare(items: Sequence[Item], scores: dict[str, list[float]], checkpoint: Checkpoint) -> dict[str, Any]:
    """Log-probabilities and choices by both rules, item by item."""
    ours, theirs, adapter = (np.array(scores[name]).reshape(-1, 2) for name in ("ours", "hf", "adapter"))
    asked = [(task.prompt(row.texts), task.continuations) for task, row in items]
    questions = make_questions(checkpoint.tokenizer, asked, CONTEXT)
    n_tokens = np.array([[len(ids) for ids in one.continuations] for one in questions])
    choices = {
        rule: [[best(row.tolist()) for row in table / divisor] for table in (ours, theirs)]
        for rule, divisor in (("sum", np.ones_like(n_tokens)), ("average", n_tokens))
    }
    correct = {
        rule: [sum(c == row.answer for c, (_, row) in zip(side, items, strict=True)) for side in both]
        for rule, both in choices.items()
    }
    differ = {rule: sum(a != b for a, b in zip(*both, strict=True)) for rule, both in choices.items()}
    largest = float(np.abs(ours - theirs).max())
    through_adapter = float(np.abs(adapter - theirs).max())
    return {
        "items": len(items), "largest_difference_nats": largest, "largest_difference_of_adapter_nats": through_adapter,
        "choices_that_differ": differ, "correct": {r: {"ours": a, "harness": b} for r, (a, b) in correct.items()},
        "holds": max(largest, through_adapter) <= BAR_NATS and not any(differ.values()),
    }  # fmt: skip


def ratio(ours: Side, theirs: Side, clock: str) -> dict[str, float]:
    """How many times as long the other side takes over all pieces, with a 95% bootstrap interval over pieces."""
    pieces = sorted({sample["piece"] for sample in ours.samples})
    times = np.array(
        [[np.median([s[clock] for s in side.samples if s["piece"] == piece]) for side in (ours, theirs)]
         for piece in pieces]
    )  # fmt: skip
    drawn = times[np.random.default_rng(0).integers(0, len(pieces), (5000, len(pieces)))].sum(1)
    low, high = np.percentile(drawn[:, 1] / drawn[:, 0], [2.5, 97.5])
    total = times.sum(0)
    return {"value": float(total[1] / total[0]), "low": float(low), "high": float(high), "pieces": len(pieces)}


if __name__ == "__main__":
    main()
