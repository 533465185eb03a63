"""`seqassay lm evaluate`: the steps from a checkpoint, text and probes to a record and its files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from seqassay.config import settings_as_json
from seqassay.durable import disk_errors
from seqassay.errors import ResourceError, SeqassayError, StoppedError, UsageError, is_out_of_memory
from seqassay.measure.progress import RunProgress
from seqassay.measure.provenance import commit_of, device_name, provenance, utc_now
from seqassay.models.causal_lm import CausalLmConfig
from seqassay.predict.stop import StopRequested
from seqassay.prove.lm.guards import run_guards
from seqassay.prove.lm.inputs import (
    Checkpoint,
    chosen_context,
    chosen_splits,
    model_section,
    open_on_device,
    open_tokens,
)
from seqassay.prove.lm.notes import notes_of
from seqassay.prove.lm.outputs import write_outputs
from seqassay.prove.lm.pieces import AGAIN, Pieces, has_pieces
from seqassay.prove.lm.profile import LmProfile, profile_lm
from seqassay.prove.lm.profiling import shapes_of
from seqassay.prove.lm.record import FORMAT, KIND, VERSION, check_record
from seqassay.prove.lm.settings import LmEvaluateSettings
from seqassay.prove.lm.smallbench import ITEMS, read_sets, run_smallbench
from seqassay.prove.lm.splits import Method, evaluate_split
from seqassay.prove.lm.standard import standard_metrics
from seqassay.prove.lm.trained import read_training
from seqassay.prove.outputs import METRICS, check_place
from seqassay.text.probes import ProbeSet
from seqassay.text.token_files import TokenFiles
from seqassay.train.output_folder import only_writer

# Settings that no finished part depends on: an evaluation goes on with others of these.
_FREE = (
    "output_dir",
    "resume",
    "force",
    "run_id",
    "probes",
    "shots",
    "shots_from",
    "shots_seed",
    "max_samples",
    "splits",
)


@dataclass(frozen=True, slots=True)
class LmEvaluation:
    """A finished evaluation: its record (``metrics.json``), and the folder it is in."""

    record: dict[str, Any]
    folder: Path


def evaluate_lm(settings: LmEvaluateSettings, *, progress: RunProgress | None = None) -> LmEvaluation:
    """Check the model, ask the probes, measure speed and memory, score every split, and write the outputs.

    Raises:
        UsageError: settings that cannot work, or something in the output folder's way.
        InputError: bad text, or tokens that are not the model's.
        ModelError: a checkpoint that cannot be used.
        LmGuardError: a figure would be wrong; names the likely bug.
        ResourceError: memory or disk ran out; finished parts are kept.
        StoppedError: SIGTERM or Ctrl-C; finished parts and probe items are kept.
    """
    progress = progress or RunProgress(unit="tokens")
    began = time.monotonic()
    _check_place(settings)
    checkpoint, device = open_on_device(settings.checkpoint, settings.device, settings.threads)
    method = _method(settings, checkpoint)
    shapes_of(settings, checkpoint.folder.model.config.context)
    sets = read_sets(settings) if settings.asks_probes else []
    with open_tokens(settings, checkpoint, progress) if settings.scores_text else nullcontext() as files:
        names = () if files is None else chosen_splits(files, settings.splits)
        progress.begin_part("guards", "guards", None)
        guards = run_guards(
            checkpoint.folder.model, device, context_tokens=method.context_tokens, stride_tokens=method.stride_tokens,
            is_untrained=checkpoint.is_untrained,
        )  # fmt: skip
        record = _opening(settings, checkpoint, files, method, device)
        with disk_errors(), only_writer(settings.output_dir):
            _check_place(settings)  # again: another command may have written there meanwhile
            pieces = Pieces(
                settings.output_dir, _identity(settings, record), record["run"]["id"], resume=settings.resume
            )
            record["run"]["id"] = pieces.run_id
            profile = _measure(settings, checkpoint, files, names, sets, method, device, progress, pieces, record)
            record["guards"] = guards + record["guards"]
            record["run"]["resumed_parts"] = pieces.resumed
            record["notes"] = notes_of(record, checkpoint, files)
            record["wall_s"] = round(time.monotonic() - began, 3)
            record["standard"] = standard_metrics(record).to_json()
            check_record(record)
            write_outputs(settings.output_dir, record, None if profile is None else profile.log)
            pieces.remove()
    return LmEvaluation(record, settings.output_dir)


def _check_place(settings: LmEvaluateSettings) -> None:
    """Find what is in the way of the outputs; what a stopped evaluation left is named as such."""
    folder = settings.output_dir
    is_stopped = has_pieces(folder) or ((folder / ITEMS).exists() and not (folder / METRICS).exists())
    check_place(folder, force=settings.force, what="evaluation", resume=settings.resume, is_interrupted=is_stopped)


def _measure(
    settings: LmEvaluateSettings,
    checkpoint: Checkpoint,
    files: TokenFiles | None,
    names: tuple[str, ...],
    sets: list[ProbeSet],
    method: Method,
    device: torch.device,
    progress: RunProgress,
    pieces: Pieces,
    record: dict[str, Any],
) -> LmProfile | None:
    """Probes, profiling and text, into the record; what a stop or an empty memory leaves of them is kept.

    Raises:
        StoppedError, ResourceError: finished parts are kept.
    """
    profile = None
    kept = f"what was finished is kept in {settings.output_dir}"
    try:
        record["smallbench"] = (
            _smallbench(settings, checkpoint, sets, method, device, progress, record) if sets else None
        )
        if settings.profiled_parts:
            profile = profile_lm(checkpoint, settings, device, progress=progress, pieces=pieces)
        record["profiling"] = None if profile is None else profile.record
        record["splits"], record["guards"] = _splits(names, checkpoint, files, method, device, progress, pieces)
    except StopRequested as stop:
        raise StoppedError(f"stopped by {stop}; {kept}", hint=f"go on with {AGAIN}") from None
    except ResourceError as error:
        hint = f"{error.hint}; {kept}: go on with --resume" if error.hint else f"{kept}: go on with --resume"
        raise ResourceError(error.message, hint=hint) from error
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ResourceError(
            f"out of memory on {device} ({progress.stage})", hint=f"give a smaller --batch; {kept}: go on with --resume"
        ) from error
    except SeqassayError:  # it would end so again
        pieces.remove()
        (settings.output_dir / ITEMS).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            settings.output_dir.rmdir()
        raise
    return profile


def _splits(
    names: tuple[str, ...],
    checkpoint: Checkpoint,
    files: TokenFiles | None,
    method: Method,
    device: torch.device,
    progress: RunProgress,
    pieces: Pieces,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Every split's figures, and what the guards found in them."""
    splits: dict[str, Any] = {}
    guards: list[dict[str, Any]] = []
    if files is None:
        return splits, guards
    for name in names:

        def score(name: str = name) -> dict[str, Any]:
            figures, found = evaluate_split(
                checkpoint.folder.model, checkpoint.tokenizer, files.split(name), method, device,
                comes_back=bool(files.manifest["splits"][name]["comes_back_exactly"]), progress=progress,
            )  # fmt: skip
            return {"figures": figures, "guards": found}

        made = pieces.get(f"split {name}", score)
        splits[name] = made["figures"]
        guards += made["guards"]
    return splits, guards


def _smallbench(
    settings: LmEvaluateSettings,
    checkpoint: Checkpoint,
    sets: list[ProbeSet],
    method: Method,
    device: torch.device,
    progress: RunProgress,
    record: Mapping[str, Any],
) -> dict[str, Any]:
    """The probe tasks, before the text: what a stop leaves of them is kept."""
    said = {name: value for name, value in record["identity"]["checkpoint"].items() if name != "path"}
    progress.begin_part("smallbench", "items", None)
    return run_smallbench(
        checkpoint.folder.model, checkpoint.tokenizer, sets, settings, said, device, progress,
        context_tokens=method.context_tokens,
    )  # fmt: skip


def _identity(settings: LmEvaluateSettings, record: Mapping[str, Any]) -> dict[str, Any]:
    """What finished parts depend on."""
    own = settings_as_json(settings)
    free = {name for name in own if name in _FREE or name.startswith("skip_")}
    checkpoint = {name: value for name, value in record["identity"]["checkpoint"].items() if name != "path"}
    return {
        **{name: value for name, value in own.items() if name not in free},
        "checkpoint": checkpoint,
        "text_tokens": record["identity"]["text"]["tokens"],
        "device": record["device"],
        "threads": record["provenance"]["hardware"]["torch_threads"],
        "seqassay": record["provenance"]["seqassay"],
    }


def check_method(settings: LmEvaluateSettings, config: CausalLmConfig) -> tuple[int, int]:
    """Tokens of context and stride, within what a model can take.

    Raises:
        UsageError: a context longer than the model's, a stride longer than the context, a k above the vocabulary.
    """
    context = chosen_context(settings.context, config.context)
    stride = settings.stride or context
    if stride > context:
        raise UsageError(f"--stride is {stride}; it lies between 1 and the context, {context}")
    if max(settings.top_k, default=1) > config.vocab_size:
        raise UsageError(f"--top-k is {max(settings.top_k)}; the vocabulary has {config.vocab_size} tokens")
    return context, stride


def _method(settings: LmEvaluateSettings, checkpoint: Checkpoint) -> Method:
    """The windows, within what the model can take.

    Raises:
        UsageError: as `check_method`.
    """
    context, stride = check_method(settings, checkpoint.folder.model.config)
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
    identity = checkpoint.identity()
    said: Mapping[str, Any] = {"splits": {}, "sources": []} if files is None else files.manifest
    return {
        "format": FORMAT,
        "version": VERSION,
        "kind": KIND,
        "written_at": utc_now(),
        "run": {
            "id": settings.run_id or _run_id(checkpoint),
            "git_commit": commit_of(Path()),
            "checkpoint_git_commit": commit_of(checkpoint.folder.path),
        },
        "identity": {
            "checkpoint": identity,
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
        "model": model_section(checkpoint.folder.model, identity["weights"], checkpoint.folder.said.get("seed")),
        "training": read_training(checkpoint.folder)[0],
        "device": device_name(device),
        "provenance": provenance(),
    }


def _run_id(checkpoint: Checkpoint) -> str:
    """A name of its own: the time (UTC), and digits of what else makes it one."""
    now = datetime.now(timezone.utc)
    of = json.dumps([str(checkpoint.folder.path), time.time_ns(), os.getpid()])
    return f"{now:%Y%m%d-%H%M%S}-{hashlib.sha256(of.encode()).hexdigest()[:6]}"
