"""`seqassay lm generate`: the steps from a checkpoint and prompts to continuations and their record."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seqassay.config import settings_as_json
from seqassay.engine.generate import Continuation, Decoding, Timing, generate
from seqassay.engine.precision import resolve_device
from seqassay.errors import ResourceError, UsageError, is_out_of_memory
from seqassay.evaluate.lm_guards import LmGuardError
from seqassay.measure.progress import RunProgress
from seqassay.measure.provenance import device_name, provenance, utc_now
from seqassay.models.attention import PackedLayout
from seqassay.models.causal_lm import CausalLm
from seqassay.models.lm_loss import target_log_probs
from seqassay.prove.lm.inputs import Checkpoint, open_model
from seqassay.prove.lm_generate.prompts import Prompts, read_prompts, stops_at, text_of
from seqassay.prove.lm_generate.record import (
    FORMAT,
    KIND,
    VERSION,
    check_record,
    counts,
    notes_of,
    speed,
)
from seqassay.prove.lm_generate.settings import LmGenerateSettings
from seqassay.prove.outputs import check_place, only_outputs, write_report_and_record
from seqassay.report.lm_generation import lm_generation_report, plain_text

CONTINUATIONS, TEXT, REPORT = "continuations.jsonl", "continuations.txt", "lm_generation.md"
_CHECKED_TOKENS = 4096
_CACHE_LIMIT_NATS = 1e-3  # rounding of float32 moves a log-probability by 1e-5


@dataclass(frozen=True, slots=True)
class LmGeneration:
    """What was written: a row for each continuation, as in ``continuations.jsonl``, and the record."""

    rows: list[dict[str, Any]]
    record: dict[str, Any]
    folder: Path | None


def generate_text(settings: LmGenerateSettings, *, progress: RunProgress | None = None) -> LmGeneration:
    """Read the prompts, continue them, check the cache, and write the outputs where a folder is named.

    Raises:
        UsageError: settings that cannot work, or something in the output folder's way.
        InputError: bad prompts.
        ModelError: a checkpoint that cannot be used, or log-probabilities that are no numbers.
        LmGuardError: kept keys and values are not those of the tokens.
        ResourceError: out of memory, or the disk is full.
    """
    progress = progress or RunProgress(unit="prompts")
    began = time.monotonic()
    if settings.output_dir is not None:
        check_place(settings.output_dir, force=settings.force, what="generation")
    device = resolve_device(settings.device)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    checkpoint = open_model(settings.checkpoint)
    tokenizer, model = checkpoint.tokenizer, checkpoint.folder.model.to(device)
    decoding = _decoding(settings, checkpoint)
    prompts = read_prompts(settings, tokenizer)
    progress.total_sequences = len(prompts.ids)
    progress.begin_work()
    progress.begin_stage("generating")
    timing = Timing()
    try:
        found = generate(
            model, prompts.ids, decoding, batch_tokens=settings.batch, is_stop=stops_at(tokenizer, settings.stop),
            timing=timing, on_batch=progress.end_shard,
        )  # fmt: skip
        guard = check_cache(model, prompts.ids, found)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ResourceError(
            f"out of memory with a batch of {settings.batch:,} tokens", hint="give a smaller one: --batch"
        ) from error
    rows = [
        _row(number, sample, prompts, one, text_of(tokenizer, prompts.ids[number], one, settings.stop))
        for number, samples in enumerate(found)
        for sample, one in enumerate(samples)
    ]
    record = _record(settings, checkpoint, decoding, prompts, rows, timing, guard, device)
    record["wall_s"] = round(time.monotonic() - began, 3)
    check_record(record)
    if settings.output_dir is not None:
        _write(settings, settings.output_dir, rows, record)
    return LmGeneration(rows, record, settings.output_dir)


def _decoding(settings: LmGenerateSettings, checkpoint: Checkpoint) -> Decoding:
    """How tokens are chosen; the tokenizer's end of a document ends a continuation.

    Raises:
        UsageError: a token or a k that the vocabulary does not have.
    """
    vocab_size = checkpoint.folder.model.config.vocab_size
    for option, value in (("--top-k", settings.top_k or 1), *(("--stop-token", i + 1) for i in settings.stop_token)):
        if not 1 <= value <= vocab_size:
            shown = value if option == "--top-k" else value - 1
            raise UsageError(f"{option} is {shown}; the vocabulary has {vocab_size:,} tokens")
    end = checkpoint.tokenizer.separator
    return Decoding(
        max_new_tokens=settings.max_new_tokens,
        temperature=settings.temperature,
        top_k=settings.top_k,
        top_p=1.0 if settings.top_p is None else settings.top_p,
        seed=settings.seed or 0,
        stop_ids=frozenset(settings.stop_token) | (frozenset() if end is None else {end.id}),
        full_context=settings.full_context,
        samples=settings.samples,
    )


def check_cache(
    model: CausalLm, prompts: Sequence[Sequence[int]], found: Sequence[Sequence[Continuation]]
) -> dict[str, Any]:
    """Read continuations again, all their tokens at once and without a cache: log-probabilities have to be the same.

    Those that are longest within their first windows, up to a few thousand tokens.

    Raises:
        LmGuardError: they are not.
    """
    began = time.monotonic()
    context, device = model.config.context, model.embed_tokens.weight.device
    first_windows = [
        (number, kept, one, min(len(one.tokens), context + 1 - len(kept)))
        for number, kept in enumerate([list(ids[-context:]) for ids in prompts])
        for one in found[number]
    ]
    first_windows.sort(key=lambda window: -window[3])
    n_before = np.cumsum([0, *(len(kept) + n - 1 for _, kept, _, n in first_windows[:-1])])
    checked = [window for window, before in zip(first_windows, n_before, strict=True) if before < _CHECKED_TOKENS]
    checked.sort(key=lambda window: len(window[1]) + window[3])
    layout = PackedLayout.from_lengths([len(kept) + n - 1 for _, kept, _, n in checked], device)
    tokens_T = torch.tensor([t for _, kept, one, n in checked for t in (*kept, *one.tokens[: n - 1])], device=device)
    ends = layout.offsets[1:].tolist()
    places_N = torch.tensor([i for (*_, n), end in zip(checked, ends, strict=True) for i in range(end - n, end)])
    targets_N = torch.tensor([t for _, _, one, n in checked for t in one.tokens[:n]], device=device)
    with torch.no_grad():
        hidden_ND = model(tokens_T, layout)[places_N.to(device)]
        again_N = target_log_probs(model, hidden_ND, targets_N).double().cpu().numpy()
    kept_N = np.array([value for _, _, one, n in checked for value in one.log_probs[:n]])
    difference_N = np.abs(again_N - kept_N)
    worst = int(difference_N.argmax())
    if not difference_N[worst] <= _CACHE_LIMIT_NATS * max(1.0, float(np.abs(again_N).max())):
        of = np.repeat([number for number, *_ in checked], [n for *_, n in checked])[worst]
        raise LmGuardError(
            f"a log-probability of prompt {of + 1}'s continuation differs by {difference_N[worst]:.2g} nats from that "
            "of the same tokens read at once",
            hint="likely bug: kept keys and values are of other tokens, or at other positions",
        )
    return {
        "name": "cache",
        "says": f"the log-probabilities of {len(kept_N):,} tokens are those of the same read at once, without a cache",
        "value": float(difference_N[worst]),
        "passed": True,
        "wall_s": round(time.monotonic() - began, 3),
    }


def _row(number: int, sample: int, prompts: Prompts, one: Continuation, text: str) -> dict[str, Any]:
    return {
        "prompt_number": number + 1,
        "sample": sample + 1,
        "prompt": prompts.texts[number],
        "continuation": text,
        "ended": one.ended,
        "prompt_tokens": len(prompts.ids[number]),
        "cut_tokens": one.cut_tokens,
        "restarts": one.restarts,
        "log_prob": sum(one.log_probs),
        "tokens": list(one.tokens),
        "token_log_probs": [round(value, 6) for value in one.log_probs],
    }


def _record(
    settings: LmGenerateSettings,
    checkpoint: Checkpoint,
    decoding: Decoding,
    prompts: Prompts,
    rows: list[dict[str, Any]],
    timing: Timing,
    guard: dict[str, Any],
    device: torch.device,
) -> dict[str, Any]:
    """Everything but the time that it took."""
    prefix = checkpoint.tokenizer.prefix if settings.prefix else None
    is_drawn = decoding.temperature > 0
    record = {
        "format": FORMAT,
        "version": VERSION,
        "kind": KIND,
        "written_at": utc_now(),
        "identity": {"checkpoint": checkpoint.identity(), "prompts": {**prompts.source, "n": len(prompts.ids)}},
        "settings": settings_as_json(settings),
        "method": {
            "choice": "drawn" if is_drawn else "greedy",
            "temperature": decoding.temperature,
            "top_k": decoding.top_k,
            "top_p": decoding.top_p,
            "seed": decoding.seed if is_drawn else None,
            "samples": decoding.samples,
            "max_new_tokens": decoding.max_new_tokens,
            "stop_ids": sorted(decoding.stop_ids),
            "stop_texts": list(settings.stop),
            "prefix": None if prefix is None else {"text": prefix.text, "id": prefix.id},
            "context_tokens": checkpoint.folder.model.config.context,
            "full_context": decoding.full_context,
            "log_probs": "natural logarithm, of the model's own distribution: whole vocabulary, temperature 1",
        },
        **counts(rows),
        "speed": speed(timing),
        "guards": [guard],
        "device": device_name(device),
        "provenance": provenance(),
    }
    return {**record, "notes": notes_of(record, rows)}


def _write(settings: LmGenerateSettings, folder: Path, rows: list[dict[str, Any]], record: dict[str, Any]) -> None:
    """Continuations, report and record, or nothing."""
    lines = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    texts = {CONTINUATIONS: lines, TEXT: plain_text(rows)}
    more = {name: [text.encode("utf-8", "backslashreplace")] for name, text in texts.items()}
    with only_outputs(folder, force=settings.force, what="generation"):
        write_report_and_record(folder, REPORT, lm_generation_report(record, rows), record, more)
