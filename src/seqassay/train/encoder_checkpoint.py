"""Checkpoints of an encoder's training: what it changes, on the CPU's terms, whole or absent."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seqassay.train.classifier import SideClassifier


def learnt_names(model: nn.Module) -> tuple[str, ...]:
    """Names of the state that training changes: all of it but frozen parameters."""
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    return tuple(name for name in model.state_dict() if name not in frozen)


def copy_of_learnt(model: SideClassifier) -> SideClassifier:
    """A copy of the model without gradients, which shares the parameters that are frozen."""
    shared = {id(parameter): parameter for parameter in model.parameters() if not parameter.requires_grad}
    return copy.deepcopy(model, shared).requires_grad_(False)


def save_state(state: dict[str, Any], path: Path) -> None:
    """Write whole or not at all; tensors as the CPU's, so that any device can go on from them."""
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:  # torch's own file writer loses the disk's errors
            torch.save(_on_cpu(state), file)
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, RuntimeError) and isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
    partial.replace(path)


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.cpu()
    if isinstance(value, Mapping):
        return {key: _on_cpu(inner) for key, inner in value.items()}
    return [_on_cpu(inner) for inner in value] if isinstance(value, list) else value


def load_state(path: Path) -> dict[str, Any]:
    """What `save_state` wrote, on the CPU; tensors and plain values only."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state
