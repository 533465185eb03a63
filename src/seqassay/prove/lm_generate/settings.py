"""What `seqassay lm generate` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from seqassay.config import check_at_least, option_name
from seqassay.engine.generate import FullContext
from seqassay.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class LmGenerateSettings:
    """Everything ``seqassay lm generate`` can be told; the names are those of the command's options.

    Raises:
        UsageError: a value out of its range, or options that exclude each other.
    """

    checkpoint: Path
    inputs: tuple[str, ...] = ()  # prompts
    prompts: Path | None = None  # a file of them: a line each, or .jsonl
    output_dir: Path | None = None  # None: nothing is written
    max_new_tokens: int = 100
    temperature: float = 0.0  # 0: greedy
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    samples: int = 1  # continuations of every prompt
    stop: tuple[str, ...] = ()  # texts that end a continuation, and are left out of it
    stop_token: tuple[int, ...] = ()  # ids that do, beside the tokenizer's own end of a document
    prefix: bool = True  # the tokenizer's token for it goes before every prompt
    full_context: FullContext = "slide"
    batch: int = 16_384  # room for keys and values of a batch, in tokens
    device: str = "auto"
    threads: int | None = None
    force: bool = False

    def __post_init__(self) -> None:
        if self.inputs and self.prompts is not None:
            raise UsageError("prompts are given on the command line and by --prompts: one of both")
        check_at_least(self, max_new_tokens=1, top_k=1, seed=0, samples=1, batch=1, threads=1)
        if any(not text for text in self.stop):
            raise UsageError("--stop is an empty text")
        if not self.temperature:
            for name in ("top_k", "top_p", "seed"):
                if getattr(self, name) is not None:
                    raise UsageError(
                        f"{option_name(name)} is about drawing tokens; the temperature is 0, so none is drawn",
                        hint="add --temperature 1, or leave it out",
                    )
            if self.samples > 1:
                raise UsageError(
                    f"--samples is {self.samples}, and the temperature is 0: they would be the same",
                    hint="add --temperature 1",
                )
