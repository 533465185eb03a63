"""The checkpoint and the tokens of an evaluation, and that they belong together."""

from __future__ import annotations

import dataclasses
import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from seqassay.digests import file_sha256
from seqassay.engine.precision import resolve_device
from seqassay.errors import InputError, ModelError, UsageError
from seqassay.measure.progress import RunProgress
from seqassay.models.causal_lm import CausalLm
from seqassay.models.lm_files import TOKENIZER_FILE, LmFolder, build_lm, load_lm
from seqassay.models.lm_plan import LmPlan
from seqassay.prove.lm.settings import LmEvaluateSettings
from seqassay.text.build import BuildSettings, build_token_files
from seqassay.text.token_files import MANIFEST, TokenFiles, open_token_files
from seqassay.text.tokenizer import TextTokenizer, load_tokenizer


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A language model that can be evaluated.

    Attributes:
        is_untrained: its weights are the first ones of its shape and seed; None where the seed is not known.
    """

    folder: LmFolder
    tokenizer: TextTokenizer
    tokenizer_path: Path
    is_untrained: bool | None

    def identity(self) -> dict[str, Any]:
        """What the figures are of."""
        weights = sorted(self.folder.path.glob("*.safetensors"))
        return {
            "path": str(self.folder.path),
            "weights": {path.name: file_sha256(path) for path in weights},
            "tokenizer": self.tokenizer.digest,
            "parameters": sum(parameter.numel() for parameter in self.folder.model.parameters()),
            "vocab_size": self.folder.model.config.vocab_size,
            "context_tokens": self.folder.model.config.context,
            "untrained": self.is_untrained,
        }


def model_section(model: CausalLm, weights: Mapping[str, str], seed: int | None) -> dict[str, Any]:
    """Shape and sizes of a model, as the record has them.

    Args:
        weights: SHA-256 of its files, by their names.
        seed: of its first weights, where it is known.
    """
    plan = LmPlan(model.config)
    blocks = plan.blocks
    embedding = blocks["token_embedding"] + blocks["position_embedding"] + blocks["head"]
    digests = [digest for _, digest in sorted(weights.items())]
    config = dataclasses.asdict(model.config)
    return {
        **config,
        "context_tokens": config["context"],
        "parameters": plan.n_params,
        "blocks": blocks,
        "embedding_parameters": embedding,
        "embedding_ratio": plan.embedding_ratio,
        "glu_expansion": plan.glu_expansion,
        "weights_sha256": digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest(),
        "weight_bytes": sum(p.numel() * p.element_size() for p in model.parameters()),
        "seed": seed,
    }


def open_model(path: Path) -> Checkpoint:
    """Load a model with its tokenizer.

    Raises:
        ModelError: it cannot be read, or has no tokenizer.
    """
    folder = load_lm(path)
    if folder.tokenizer_path is None:
        raise ModelError(
            f"{path}: has no {TOKENIZER_FILE}: without it nothing shows which tokens the model means",
            hint="put the tokenizer into the folder, or build the model with --tokenizer",
        )
    return Checkpoint(folder, load_tokenizer(folder.tokenizer_path), folder.tokenizer_path, _is_untrained(folder))


def open_on_device(path: Path, device_name: str, threads: int | None) -> tuple[Checkpoint, torch.device]:
    """Load a model with its tokenizer and put it on a device.

    Args:
        threads: CPU threads of all that follows; None: as they are.

    Raises:
        UsageError: no such device.
        ModelError: the model cannot be read, or has no tokenizer.
    """
    device = resolve_device(device_name)
    if threads is not None:
        torch.set_num_threads(threads)
    checkpoint = open_model(path)
    checkpoint.folder.model.to(device)
    return checkpoint, device


def chosen_context(asked_tokens: int | None, most: int) -> int:
    """How many tokens a model sees at a time: what was asked for, or all that it can.

    Raises:
        UsageError: more than it was made for.
    """
    if asked_tokens is not None and asked_tokens > most:
        raise UsageError(
            f"--context is {asked_tokens}; the model was made for {most} tokens", hint="leave it out, or shorten it"
        )
    return asked_tokens or most


def _is_untrained(folder: LmFolder) -> bool | None:
    seed = folder.said.get("seed")
    if type(seed) is not int:
        return None
    first = build_lm(folder.model.config, seed).state_dict()
    return all(torch.equal(first[name], tensor) for name, tensor in folder.model.state_dict().items())


@contextmanager
def open_tokens(settings: LmEvaluateSettings, checkpoint: Checkpoint, progress: RunProgress) -> Iterator[TokenFiles]:
    """The token files that were given, or those of a text, in a temporary folder.

    Raises:
        InputError: tokens of another tokenizer (names both), or text that cannot be read.
    """
    folders = [place for place in settings.inputs if (Path(place) / MANIFEST).is_file()]
    if folders:
        if len(settings.inputs) > 1:
            raise UsageError(f"{folders[0]}: holds token files, and is to be evaluated on its own")
        if settings.documents != "file":
            raise UsageError("--documents is about texts; token files have their documents already")
        files = open_token_files(Path(folders[0]))
        files.require_tokenizer(checkpoint.tokenizer.digest, tokenizer_of_checkpoint=checkpoint.tokenizer_path)
        yield files
        return
    with tempfile.TemporaryDirectory(prefix="seqassay-") as temporary:
        places = tuple(f"test={place}" if _is_bare_file(place) else place for place in settings.inputs)
        folder = Path(temporary) / "tokens"
        build_token_files(
            BuildSettings(
                inputs=places, output_dir=folder, documents=settings.documents, tokenizer=checkpoint.tokenizer_path
            ),
            progress,
        )
        yield open_token_files(folder)


def _is_bare_file(place: str) -> bool:
    if Path(place).is_file():
        return True
    if "=" not in place and not Path(place).is_dir():
        raise InputError("no such file or folder", path=place)
    return False


def chosen_splits(files: TokenFiles, asked: tuple[str, ...]) -> tuple[str, ...]:
    """The splits to evaluate.

    Raises:
        UsageError: there is none of this name, or one is named twice.
    """
    if len(set(asked)) != len(asked):
        raise UsageError(f"--splits names one twice: {', '.join(asked)}")
    for name in asked:
        files.split(name)
    return asked or tuple(name for name in files.splits if name != "train") or tuple(files.splits)
