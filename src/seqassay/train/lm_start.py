"""What a language model's training begins with: tokens, windows, a model that fits them, and where it is computed."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import torch

from seqassay.digests import file_sha256
from seqassay.engine.precision import resolve_device
from seqassay.errors import InputError, UsageError
from seqassay.models.causal_lm import CausalLm
from seqassay.models.lm_files import WEIGHTS_FILE, build_lm, load_lm
from seqassay.models.lm_plan import LmPlan
from seqassay.text.token_files import TOKENIZER, TokenFiles, open_token_files
from seqassay.text.tokenizer import load_tokenizer
from seqassay.text.windows import TrainingWindows
from seqassay.train.lm_dev import DevSet
from seqassay.train.lm_kill import read_baseline
from seqassay.train.lm_settings import LmTrainSettings

# What changes no figure of a training but its times: may differ when it goes on.
_FREE = frozenset(
    {
        "tokens", "output_dir", "checkpoint", "device", "threads", "checkpoint_steps", "checkpoint_minutes", "loggers",
        "tracking", "experiment", "run_name", "tags", "force", "precision",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Start:
    """A training that is about to begin.

    Attributes:
        model: in ``train`` mode, on the CPU.
        plan: what it was built from, where that is known.
        untrained: it has its first weights.
        precision: what ``auto`` came to.
        weights: what the first weights are: a digest, or the seed.
    """

    files: TokenFiles
    windows: TrainingWindows
    dev: DevSet
    model: CausalLm
    plan: LmPlan
    untrained: bool
    weights: str
    device: torch.device
    precision: Literal["float32", "bf16"]

    @property
    def tokenizer(self) -> Path:
        """The tokenizer's file beside the tokens."""
        return self.files.folder / TOKENIZER

    def context(self) -> contextlib.AbstractContextManager[Any]:
        """The number format of products, for what runs outside Lightning."""
        if self.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def identity(self, settings: LmTrainSettings) -> dict[str, Any]:
        """What a training's figures depend on, as JSON types: it goes on only where all of it is the same."""
        splits = self.files.manifest["splits"]
        return {
            **identity_of_settings(settings),
            "model": asdict(self.model.config),
            "first_weights": self.weights,
            "tokenizer": self.files.tokenizer_digest,
            "train_tokens": splits["train"]["files"]["tokens"]["sha256"],
            "valid_tokens": splits["valid"]["files"]["tokens"]["sha256"],
            "device_kind": self.device.type,
            "precision": self.precision,
        }


def identity_of_settings(settings: LmTrainSettings) -> dict[str, Any]:
    """Settings that a training's figures depend on; a baseline's curve by its content, wherever it lies."""
    found = {field.name: getattr(settings, field.name) for field in fields(settings) if field.name not in _FREE}
    if settings.baseline is not None:
        found["baseline"] = {"curve_sha256": read_baseline(settings.baseline).sha256}
    return found


def prepare(settings: LmTrainSettings, plan: LmPlan | None) -> Start:
    """Open the tokens, and load or build a model that fits them.

    Args:
        plan: of a new model; None with ``settings.checkpoint``.

    Raises:
        UsageError: no model, or two; a split is missing; no such device.
        InputError: tokens of another tokenizer than the one beside them or the model's, too few of them, or too large
            for its vocabulary.
        ModelError: the checkpoint cannot be read.
    """
    if (plan is None) == (settings.checkpoint is None):
        raise UsageError(
            "what to train: give --checkpoint DIR, or a budget or a shape, one of them",
            hint="for example --total-params 1000000, or --d-model 128 --n-layers 4 --n-heads 4",
        )
    device = resolve_device(settings.device)
    _check_devices(settings, device)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    files = open_token_files(settings.tokens)
    files.tokenizer()  # the one that made the tokens: it goes into the model's folder
    train, valid = files.split("train"), files.split("valid")
    if plan is not None:
        model, untrained, weights = build_lm(plan.config, settings.seed), True, f"seed {settings.seed}"
    else:
        assert settings.checkpoint is not None
        loaded = load_lm(settings.checkpoint)
        model, untrained = loaded.model, bool(loaded.said) and "training" not in loaded.said
        weights, plan = file_sha256(loaded.path / WEIGHTS_FILE), LmPlan(loaded.model.config)
        if loaded.tokenizer_path is not None:
            digest = load_tokenizer(loaded.tokenizer_path).digest
            files.require_tokenizer(digest, tokenizer_of_checkpoint=loaded.tokenizer_path)
    config = model.config
    if files.vocab_size > config.vocab_size:
        raise InputError(
            f"the tokenizer has {files.vocab_size:,} tokens; the model has a vocabulary of {config.vocab_size:,}",
            path=settings.tokens,
            hint=f"build the model with --vocab-size {files.vocab_size}",
        )
    if len(valid.tokens) < 2:
        raise InputError("the split valid has fewer than two tokens: nothing to evaluate on", path=settings.tokens)
    windows = TrainingWindows(train.tokens, config.context, settings.batch, settings.seed, settings.order)
    dev = DevSet.of(valid.tokens, config.context, settings.eval_windows)
    precision = settings.precision
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" else "float32"
    model.requires_grad_(True).train()
    return Start(files, windows, dev, model, plan, untrained, weights, device, precision)


def _check_devices(settings: LmTrainSettings, device: torch.device) -> None:
    if settings.devices == 1 or device.type == "cpu":
        return
    n_here = torch.cuda.device_count()
    if settings.devices > n_here or settings.device not in ("auto", "cuda"):
        raise UsageError(
            f"--devices is {settings.devices} with --device {settings.device}; this machine shows {n_here} CUDA "
            "device(s)",
            hint="several devices are the first ones of --device cuda",
        )
