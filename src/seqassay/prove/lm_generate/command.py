"""`seqassay lm generate`: the steps from a checkpoint and prompts to continuations and their record."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from seqassay.config import settings_as_json
from seqassay.engine.generate import Continuation, Decoding, Part, Timing, generate, room_tokens
from seqassay.errors import ResourceError, UsageError, is_out_of_memory
from seqassay.measure.progress import RunProgress
from seqassay.measure.provenance import device_name, provenance, utc_now
from seqassay.prove.lm.inputs import Checkpoint, open_on_device
from seqassay.prove.lm_generate.guard import CacheGuard
from seqassay.prove.lm_generate.outputs import outputs_of
from seqassay.prove.lm_generate.prompts import Prompts, read_prompts, stops_at, text_of
from seqassay.prove.lm_generate.record import FORMAT, KIND, VERSION, Counts, check_record, notes_of, speed
from seqassay.prove.lm_generate.settings import LmGenerateSettings
from seqassay.prove.outputs import check_place
from seqassay.report.lm_generation import SHOWN

Row = dict[str, Any]  # a line of ``continuations.jsonl``
_BATCHES_AT_ONCE = 2  # whose prompts are sorted by length; a stop loses no more than these


@dataclass(frozen=True, slots=True)
class LmGeneration:
    """What was written: the record, and the folder where one was named."""

    record: dict[str, Any]
    folder: Path | None


def generate_text(
    settings: LmGenerateSettings,
    *,
    progress: RunProgress | None = None,
    show: Callable[[Row], None] = lambda row: None,
) -> LmGeneration:
    """Read the prompts, continue them, check the cache, and write the outputs where a folder is named.

    Continuations are checked, written and shown every few batches; no more of them are held in memory.

    Args:
        show: is given every continuation, in the order of prompts and samples.

    Raises:
        UsageError: settings that cannot work, or something in the output folder's way.
        InputError: bad prompts.
        ModelError: a checkpoint that cannot be used, or log-probabilities that are no numbers.
        LmGuardError: kept keys and values are not those of the tokens.
        ResourceError: out of memory, or the disk is full; continuations so far are kept.
        StoppedError: SIGTERM or Ctrl-C; continuations so far are kept.
    """
    progress = progress or RunProgress(unit="continuations")
    began = time.monotonic()
    folder = settings.output_dir
    if folder is not None:
        check_place(folder, force=settings.force, what="generation")
    checkpoint, device = open_on_device(settings.checkpoint, settings.device, settings.threads)
    decoding = _decoding(settings, checkpoint)
    prompts = read_prompts(settings, checkpoint.tokenizer)
    progress.total_sequences = len(prompts.ids) * settings.samples
    counts, timing, guard = Counts(), Timing(), CacheGuard(checkpoint.folder.model)
    first_rows: list[Row] = []
    with contextlib.nullcontext() if folder is None else outputs_of(settings, folder) as outputs:
        progress.begin_work()
        progress.begin_stage("generating")
        for rows in _rows(settings, checkpoint, decoding, prompts, timing, guard, progress):
            for row in rows:
                counts.add(row)
            first_rows += rows[: SHOWN - len(first_rows)]
            if outputs is not None:
                outputs.add(rows)
            for row in rows:
                show(row)
        record = _record(settings, checkpoint, decoding, prompts, counts, timing, guard, device)
        record["wall_s"] = round(time.monotonic() - began, 3)
        check_record(record)
        if outputs is not None:
            outputs.finish(record, first_rows)
    return LmGeneration(record, folder)


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


def _rows(
    settings: LmGenerateSettings,
    checkpoint: Checkpoint,
    decoding: Decoding,
    prompts: Prompts,
    timing: Timing,
    guard: CacheGuard,
    progress: RunProgress,
) -> Iterator[list[Row]]:
    """Continuations of a few batches at a time, checked.

    Raises:
        LmGuardError, ModelError: see ``generate_text``.
        ResourceError: out of memory.
    """
    tokenizer, model = checkpoint.tokenizer, checkpoint.folder.model
    rooms = [room_tokens(len(ids), decoding, model.config.context) for ids in prompts.ids]
    for parts in parts_of([max(1, settings.batch // room) for room in rooms], settings.samples):
        numbers = [number for number, _ in parts]
        try:
            found = generate(
                model, prompts.ids, decoding, batch_tokens=settings.batch, is_stop=stops_at(tokenizer, settings.stop),
                timing=timing, on_batch=progress.end_shard, parts=parts,
            )  # fmt: skip
            guard.check(numbers, [prompts.ids[number] for number in numbers], found)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise ResourceError(
                f"out of memory with a batch of {settings.batch:,} tokens", hint="give a smaller one: --batch"
            ) from error
        yield [
            _row(number, sample, prompts, one, text_of(tokenizer, prompts.ids[number], one, settings.stop))
            for (number, samples), continuations in zip(parts, found, strict=True)
            for sample, one in zip(samples, continuations, strict=True)
        ]


def parts_of(fill: Sequence[int], n_samples: int) -> Iterator[list[Part]]:
    """All samples of all prompts in order, a few batches of them at a time.

    Args:
        fill: how many continuations of each prompt fill a batch.
    """
    parts: list[Part] = []
    batches_left = float(_BATCHES_AT_ONCE)
    for number, n_fill in enumerate(fill):
        first = 0
        while first < n_samples:
            n = min(n_samples - first, int(batches_left * n_fill + 1e-6))
            if not n:
                yield parts
                parts, batches_left = [], float(_BATCHES_AT_ONCE)
                continue
            parts.append((number, range(first, first + n)))
            first += n
            batches_left -= n / n_fill
    if parts:
        yield parts


def _row(number: int, sample: int, prompts: Prompts, one: Continuation, text: str) -> Row:
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
    counts: Counts,
    timing: Timing,
    guard: CacheGuard,
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
        **counts.section(),
        "speed": speed(timing),
        "guards": [guard.section()],
        "device": device_name(device),
        "provenance": provenance(),
    }
    return {**record, "notes": notes_of(record, counts.odd)}
