"""Training totals of a checkpoint, from what `lm train` wrote: ``lm.json`` of the weights, ``training.json`` beside."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqassay.errors import InputError
from seqassay.models.lm_files import LmFolder
from seqassay.train.lm import FORMAT, TRAINING_FILE
from seqassay.train.output_folder import read_json

NO_RECORD = "the checkpoint has no record of its training: how it was trained is not known"


def read_training(folder: LmFolder) -> tuple[dict[str, Any] | None, list[str]]:
    """What the weights were trained on, and what to mind; None where nothing says so.

    Figures of ``lm.json`` are those of these very weights; what only ``training.json`` has is of the whole training.
    """
    weights = folder.said.get("training")
    if not isinstance(weights, Mapping):
        return None, [NO_RECORD]
    steps, tokens = _count(weights.get("step")), _count(weights.get("tokens_seen"))
    whole, notes = _whole_training(folder.path.parent, steps)
    settings = weights.get("settings")
    settings = dict(settings) if isinstance(settings, Mapping) else {}
    of_whole = whole.get("training", {})
    is_of_these = bool(whole) and of_whole.get("steps") == steps
    train_tokens = _count(whole.get("data", {}).get("train_tokens"))
    return {
        "steps": steps,
        "tokens_seen": tokens,
        "epochs": tokens / train_tokens if tokens is not None and train_tokens else None,
        "flop": None if tokens is None else _training_flop(folder, tokens),
        "dev_loss": _number(weights.get("dev_loss")),
        "seed": settings.get("seed") if type(settings.get("seed")) is int else None,
        "settings": settings,
        "whole_training": {
            "status": whole.get("status"),
            "steps": _count(of_whole.get("steps")),
            "tokens_seen": _count(of_whole.get("tokens_seen")),
            "wall_s": _number(of_whole.get("wall_s")),
            "tokens_per_s": _number(of_whole.get("tokens_per_s")),
            "device": whole.get("device"),
            "precision": whole.get("precision"),
        }
        if whole
        else None,
        "is_last_step": is_of_these if whole else None,
    }, notes


def _whole_training(folder: Path, steps: int | None) -> tuple[dict[str, Any], list[str]]:
    """``training.json`` of the folder that the weights' folder is in, where it is the one of these weights."""
    path = folder / TRAINING_FILE
    if not path.is_file():
        return {}, []
    try:
        said = read_json(path)
    except InputError as error:
        return {}, [f"the training's record is left out: {error.message}"]
    training = said.get("training")
    if said.get("format") != FORMAT or not isinstance(training, Mapping):
        return {}, [f"{path} is no record of a language model's training: it is left out"]
    if said.get("status") not in ("done", "killed"):
        return {}, [f"the training has not ended ({said.get('status')}): its totals are left out"]
    held = [training.get(name, {}).get("step") for name in ("best", "last")]
    if steps not in held:
        return {}, [
            f"{path} is of another training (its weights are of steps {held}, these of {steps}): it is left out"
        ]
    return said, []


def _training_flop(folder: LmFolder, tokens: int) -> int:
    """Forward and backward of all tokens, in windows of the context: three times the forward (Kaplan et al. 2020)."""
    context = folder.model.config.context
    return round(3 * folder.model.flops([context]) * (tokens / context))


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _number(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) and math.isfinite(value) and value >= 0 else None
