"""`seqassay lm evaluate`: the steps from a checkpoint and text to a record."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from seqassay.config import settings_as_json
from seqassay.engine.precision import resolve_device
from seqassay.errors import StoppedError, UsageError
from seqassay.measure.progress import RunProgress
from seqassay.measure.provenance import device_name, provenance, utc_now
from seqassay.predict.stop import StopRequested
from seqassay.prove.lm.guards import run_guards
from seqassay.prove.lm.inputs import Checkpoint, chosen_splits, open_model, open_tokens
from seqassay.prove.lm.record import FORMAT, KIND, VERSION, check_record
from seqassay.prove.lm.settings import LmEvaluateSettings
from seqassay.prove.lm.smallbench import ITEMS, read_sets, run_smallbench
from seqassay.prove.lm.splits import Method, evaluate_split
from seqassay.prove.outputs import METRICS, check_place, write_report_and_record
from seqassay.report.lm_evaluation import lm_evaluation_report
from seqassay.text.probes import ProbeSet
from seqassay.text.token_files import TokenFiles

REPORT = "lm_evaluation.md"


@dataclass(frozen=True, slots=True)
class LmEvaluation:
    """A finished evaluation: its record (``metrics.json``), and the folder it is in."""

    record: dict[str, Any]
    folder: Path


def evaluate_lm(settings: LmEvaluateSettings, *, progress: RunProgress | None = None) -> LmEvaluation:
    """Check the model, score every split, work out the figures, and write the outputs.

    Raises:
        UsageError: settings that cannot work, or something in the output folder's way.
        InputError: bad text, or tokens that are not the model's.
        ModelError: a checkpoint that cannot be used.
        LmGuardError: a figure would be wrong; names the likely bug.
    """
    progress = progress or RunProgress(unit="tokens")
    began = time.monotonic()
    _check_place(settings)
    device = resolve_device(settings.device)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    checkpoint = open_model(settings.checkpoint)
    method = _method(settings, checkpoint)
    model = checkpoint.folder.model.to(device)
    sets = read_sets(settings) if settings.probes else []
    with open_tokens(settings, checkpoint, progress) if settings.inputs else nullcontext() as files:
        names = () if files is None else chosen_splits(files, settings.splits)
        progress.begin_work()
        progress.begin_stage("guards")
        guards = run_guards(
            model, device, context_tokens=method.context_tokens, stride_tokens=method.stride_tokens,
            is_untrained=checkpoint.is_untrained,
        )  # fmt: skip
        record = _opening(settings, checkpoint, files, method, device)
        record["smallbench"] = _smallbench(settings, checkpoint, sets, method, device, progress) if sets else None
        splits: dict[str, Any] = {}
        if files is not None:
            splits, found = _splits(names, checkpoint, files, method, device, progress)
            guards += found
    record |= {"guards": guards, "splits": splits}
    record["notes"] = _notes(record, checkpoint, files)
    record["wall_s"] = round(time.monotonic() - began, 3)
    check_record(record)
    write_report_and_record(settings.output_dir, REPORT, lm_evaluation_report(record), record)
    return LmEvaluation(record, settings.output_dir)


def _check_place(settings: LmEvaluateSettings) -> None:
    """Find what is in the way of the outputs; items of a stopped run are named as such."""
    folder = settings.output_dir
    is_stopped = (folder / ITEMS).exists() and not (folder / METRICS).exists()
    if is_stopped and not (settings.force or settings.resume):
        raise UsageError(
            f"{folder}: holds an interrupted evaluation",
            hint="go on with it (--resume), begin again (--force), or choose another --output-dir",
        )
    check_place(folder, force=settings.force, what="evaluation", resume=settings.resume)


def _splits(
    names: tuple[str, ...],
    checkpoint: Checkpoint,
    files: TokenFiles,
    method: Method,
    device: torch.device,
    progress: RunProgress,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Every split's figures, and what the guards found in them."""
    splits: dict[str, Any] = {}
    guards: list[dict[str, Any]] = []
    for name in names:
        progress.begin_stage(f"scoring {name}")
        splits[name], found = evaluate_split(
            checkpoint.folder.model, checkpoint.tokenizer, files.split(name), method, device,
            comes_back=bool(files.manifest["splits"][name]["comes_back_exactly"]), progress=progress,
        )  # fmt: skip
        guards += found
    return splits, guards


def _smallbench(
    settings: LmEvaluateSettings,
    checkpoint: Checkpoint,
    sets: list[ProbeSet],
    method: Method,
    device: torch.device,
    progress: RunProgress,
) -> dict[str, Any]:
    """The probe tasks, before the text: what a stop leaves of them is kept.

    Raises:
        StoppedError: SIGTERM or Ctrl-C; what was scored is kept.
    """
    said = {name: value for name, value in checkpoint.identity().items() if name != "path"}
    try:
        return run_smallbench(
            checkpoint.folder.model, checkpoint.tokenizer, sets, settings, said, device, progress,
            context_tokens=method.context_tokens,
        )  # fmt: skip
    except StopRequested as stop:
        raise StoppedError(
            f"stopped by {stop}; the items scored so far are in {settings.output_dir / ITEMS}",
            hint="go on with the same command and --resume (in place of --force)",
        ) from None


def _method(settings: LmEvaluateSettings, checkpoint: Checkpoint) -> Method:
    """The windows, within what the model can take.

    Raises:
        UsageError: a context longer than the model's, a stride longer than the context, a k above the vocabulary.
    """
    config = checkpoint.folder.model.config
    context = settings.context or config.context
    stride = settings.stride or context
    if context > config.context:
        raise UsageError(
            f"--context is {context}; the model was made for {config.context} tokens",
            hint="leave it out, or shorten it",
        )
    if stride > context:
        raise UsageError(f"--stride is {stride}; it lies between 1 and the context, {context}")
    if max(settings.top_k, default=1) > config.vocab_size:
        raise UsageError(f"--top-k is {max(settings.top_k)}; the vocabulary has {config.vocab_size} tokens")
    prefix = checkpoint.tokenizer.prefix if settings.prefix else None
    return Method(
        windows=settings.windows,
        context_tokens=context,
        stride_tokens=stride,
        prefix_id=None if prefix is None else prefix.id,
        top_k=tuple(sorted(settings.top_k)),
        batch_tokens=settings.batch,
        max_batches=settings.max_batches,
    )


def _opening(
    settings: LmEvaluateSettings, checkpoint: Checkpoint, files: TokenFiles | None, method: Method, device: torch.device
) -> dict[str, Any]:
    """What was evaluated, on what, and how."""
    prefix = checkpoint.tokenizer.prefix
    said: Mapping[str, Any] = {"splits": {}, "sources": []} if files is None else files.manifest
    return {
        "format": FORMAT,
        "version": VERSION,
        "kind": KIND,
        "written_at": utc_now(),
        "identity": {
            "checkpoint": checkpoint.identity(),
            "text": {
                "inputs": list(settings.inputs),
                "tokens": {name: split["files"]["tokens"]["sha256"] for name, split in said["splits"].items()},
                "sources": [{key: source[key] for key in ("split", "path", "sha256")} for source in said["sources"]],
            },
        },
        "settings": settings_as_json(settings),
        "method": {
            "windows": method.windows,
            "context_tokens": method.context_tokens,
            "stride_tokens": method.stride_tokens,
            "prefix": None if method.prefix_id is None or prefix is None else {"text": prefix.text, "id": prefix.id},
            "loss": "natural logarithm, float32 log-softmax over the whole vocabulary, sums in float64",
            "words": "what stands between white space, as `wc -w` counts",
            "interval": "ratio of sums over units drawn whole, linearised, Student's t on effective units (Kish 1965)",
            "ties": "of equally likely tokens the one with the smaller id comes first",
        },
        "device": device_name(device),
        "provenance": provenance(),
    }


def _notes(record: Mapping[str, Any], checkpoint: Checkpoint, files: TokenFiles | None) -> list[str]:
    """What to mind when the figures are read."""
    notes = []
    log_v = math.log(checkpoint.folder.model.config.vocab_size)
    if checkpoint.is_untrained:
        notes.append("the model is untrained: its weights are the first ones of its seed")
    for name, split in record["splits"].items():
        n = split["n"]
        if split["scope"] == "partial":
            notes.append(f"{name}: partial, the first {split['scored_share']:.2%} of the tokens were scored")
        if n["unscored_first_tokens"]:
            notes.append(
                f"{name}: without a prefix token the first of every document is not scored "
                f"({n['unscored_first_tokens']:,} of {n['tokens']:,} tokens)"
                if record["method"]["windows"] == "documents"
                else f"{name}: without a prefix token the first token is not scored"
            )
        if n["scored_separators"]:
            notes.append(f"{name}: {n['scored_separators']:,} separators are scored as well; they stand for no text")
        if split["unit"]["name"] != "documents":
            notes.append(
                f"{name}: intervals are over {split['unit']['name']}; they say how much parts of this text differ, not "
                "how other texts would do"
            )
        if split["values"]["loss"]["value"] > log_v and not checkpoint.is_untrained:
            notes.append(f"{name}: the loss is above ln V = {log_v:.4f}: guessing evenly would do better")
        if files is not None and not files.manifest["splits"][name]["comes_back_exactly"]:
            notes.append(f"{name}: the tokenizer changes text; words and bytes are those of what its tokens spell")
    for name, task in (record["smallbench"] or {"tasks": {}})["tasks"].items():
        if task["scope"] == "partial":
            notes.append(f"{name}: partial, the first {task['n']:,} of {task['rows']:,} rows were asked")
        if task["truncated_prompts"]:
            notes.append(
                f"{name}: prompts longer than the context: {task['truncated_prompts']:,}; {task['cut_tokens']:,} "
                "tokens were left out at their beginnings"
            )
        low, high = task["by_average"]["interval_95"]
        if low <= task["majority"]["value"]:
            beside = "below" if high < task["majority"]["value"] else "not told from"
            notes.append(f"{name}: {beside} the larger class, {task['majority']['value']:.2%}: no skill is shown")
    return notes
