"""The record of a generation, ``metrics.json``: its figures, and the check before anything is written."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np

from seqassay.engine.generate import Ended, Timing
from seqassay.errors import SeqassayError
from seqassay.measure.schema import check_schema

FORMAT, VERSION, KIND = "seqassay-lm-generation", "1.0", "lm_generation"


@dataclass(slots=True)
class Counts:
    """Prompts and continuations, counted as they come: how many, how long, why they ended."""

    n_prompts: int = 0
    prompt_tokens: int = 0
    cut: int = 0
    cut_tokens: int = 0
    n: int = 0
    tokens: int = 0
    tokens_min: int = 0
    tokens_max: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    restarted: int = 0
    restarts: int = 0
    odd: int = 0  # with bytes that are no character
    log_prob: float = 0.0
    _mean: float = 0.0  # of the continuations' log-probabilities per token
    _squares: float = 0.0  # of their differences from it, summed

    def add(self, row: Mapping[str, Any]) -> None:
        """A continuation, as in ``continuations.jsonl``."""
        n_tokens = len(row["tokens"])
        if row["sample"] == 1:
            self.n_prompts += 1
            self.prompt_tokens += row["prompt_tokens"]
            self.cut += row["cut_tokens"] > 0
            self.cut_tokens += row["cut_tokens"]
        self.n += 1
        self.tokens += n_tokens
        self.tokens_min = min(self.tokens_min or n_tokens, n_tokens)
        self.tokens_max = max(self.tokens_max, n_tokens)
        self.ended[row["ended"]] += 1
        self.restarted += row["restarts"] > 0
        self.restarts += row["restarts"]
        self.odd += "\ufffd" in row["continuation"]
        self.log_prob += row["log_prob"]
        difference = row["log_prob"] / n_tokens - self._mean  # Welford 1962
        self._mean += difference / self.n
        self._squares += difference * (row["log_prob"] / n_tokens - self._mean)

    def section(self) -> dict[str, Any]:
        """As the record has them."""
        return {
            "prompts": {
                "n": self.n_prompts,
                "tokens": self.prompt_tokens,
                "cut": self.cut,
                "cut_tokens": self.cut_tokens,
            },
            "continuations": {
                "n": self.n,
                "tokens": self.tokens,
                "tokens_min": self.tokens_min,
                "tokens_max": self.tokens_max,
                "ended": {why: self.ended[why] for why in get_args(Ended)},
                "restarted": self.restarted,
                "restarts": self.restarts,
                "log_prob_per_token": {
                    "value": self.log_prob / self.tokens,
                    "n": self.tokens,
                    "sd_of_continuations": math.sqrt(self._squares / (self.n - 1)) if self.n > 1 else None,
                },
            },
        }


def speed(timing: Timing) -> dict[str, Any]:
    """Tokens per second of reading prompts (and choosing first tokens) and of decoding, with their parts' spread.

    Decoding is None where every continuation ended with its first token.
    """
    return {
        "prefill": _rate(timing.prefill_tokens, timing.prefill_s, "batches"),
        "decode": _rate(timing.decode_tokens, timing.decode_s, "steps") if timing.decode_s else None,
    }


def _rate(tokens: Sequence[int], seconds: Sequence[float], of: str) -> dict[str, Any]:
    rates, times_ms = np.array(tokens) / np.array(seconds), np.array(seconds) * 1e3
    return {
        "tokens_per_s": sum(tokens) / sum(seconds),
        "tokens": sum(tokens),
        "wall_s": sum(seconds),
        "n": len(seconds),
        "of": of,
        "tokens_per_s_min": float(rates.min()),
        "tokens_per_s_max": float(rates.max()),
        "median_ms": float(np.median(times_ms)),
        "p95_ms": float(np.percentile(times_ms, 95)),
    }


def notes_of(record: Mapping[str, Any], n_odd: int) -> list[str]:
    """What to mind when the texts are read.

    Args:
        n_odd: continuations with bytes that are no character.
    """
    notes = []
    prompts, found, method = record["prompts"], record["continuations"], record["method"]
    context = method["context_tokens"]
    if record["identity"]["checkpoint"]["untrained"]:
        notes.append("the model is untrained: its weights are the first ones of its seed")
    if prompts["cut"]:
        notes.append(
            f"prompts longer than the context of {context:,} tokens: {prompts['cut']:,}; {prompts['cut_tokens']:,} "
            "tokens were left out at their beginnings"
        )
    if found["restarted"]:
        notes.append(
            f"longer than the context of {context:,} tokens: {found['restarted']:,} of {found['n']:,} continuations; "
            f"there the model goes on with the newest {max(1, context // 2):,} tokens alone "
            f"({found['restarts']:,} times in all)"
        )
    if found["ended"]["context"]:
        notes.append(f"ended by the context of {context:,} tokens: {found['ended']['context']:,} of {found['n']:,}")
    if n_odd:
        notes.append(f"with bytes that are no character, shown as \ufffd: {n_odd:,} of {found['n']:,}")
    return notes


def check_record(record: Mapping[str, Any]) -> None:
    """Everything is as the schema has it, counts add up, and rates are those of their tokens and seconds.

    Raises:
        SeqassayError: names the figure (a bug here, or a record that was changed).
    """
    check_schema(record, KIND)
    found, prompts, method = record["continuations"], record["prompts"], record["method"]
    if found["n"] != prompts["n"] * method["samples"] or sum(found["ended"].values()) != found["n"]:
        raise SeqassayError(f"{found['n']} continuations of {prompts['n']} prompts, ended: {found['ended']}")
    decoded, after_first = (record["speed"]["decode"] or {"tokens": 0})["tokens"], found["tokens"] - found["n"]
    if decoded != after_first:
        raise SeqassayError(f"{decoded} tokens were timed, and {after_first} chosen after the first ones")
    read_once = prompts["tokens"] - prompts["cut_tokens"]  # samples that do not share a batch read their prompt again
    if not read_once <= record["speed"]["prefill"]["tokens"] <= read_once * method["samples"]:
        raise SeqassayError(f"{record['speed']['prefill']['tokens']} tokens of prompts were timed: not those read")
    if found["tokens_max"] > method["max_new_tokens"]:
        raise SeqassayError(f"a continuation has {found['tokens_max']} tokens, above {method['max_new_tokens']}")
    for name, rate in record["speed"].items():
        if rate is None:
            continue
        if not math.isclose(rate["tokens_per_s"] * rate["wall_s"], rate["tokens"], rel_tol=1e-9):
            raise SeqassayError(
                f"{name}: {rate['tokens_per_s']} tokens/s is not {rate['tokens']} in {rate['wall_s']} s"
            )
        if not rate["tokens_per_s_min"] * (1 - 1e-9) <= rate["tokens_per_s"] <= rate["tokens_per_s_max"] * (1 + 1e-9):
            raise SeqassayError(f"{name}: {rate['tokens_per_s']} tokens/s lies outside those of its {rate['of']}")
