"""What `seqassay lm score-text` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seqassay.config import check_at_least
from seqassay.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class LmScoreTextSettings:
    """Everything ``seqassay lm score-text`` can be told; the names are those of the command's options.

    Raises:
        UsageError: a value out of its range.
    """

    predictions: Path
    references: tuple[str, ...]  # files with as many lines as the predictions
    output_dir: Path | None = None  # None: nothing is written
    bleu_tokenizer: Literal["13a", "intl", "char", "zh", "none"] = "13a"
    lowercase: bool = False  # BLEU without regard to case
    stemmer: bool = False  # ROUGE over Porter's stems
    resamples: int = 1000
    seed: int = 0
    force: bool = False

    def __post_init__(self) -> None:
        if not self.references:
            raise UsageError("no references", hint="seqassay lm score-text PREDICTIONS REFERENCES")
        check_at_least(self, resamples=100, seed=0)
