"""The record of a generation, ``metrics.json``: its figures, and the check before anything is written."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np

from seqassay.engine.generate import Ended, Timing
from seqassay.errors import SeqassayError
from seqassay.measure.schema import check_schema

FORMAT, VERSION, KIND = "seqassay-lm-generation", "1.0", "lm_generation"


def counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Prompts and continuations: how many, how long, why they ended."""
    prompts = [row for row in rows if row["sample"] == 1]
    lengths = np.array([len(row["tokens"]) for row in rows])
    per_token = np.array([row["log_prob"] for row in rows]) / lengths
    ended = Counter(row["ended"] for row in rows)
    return {
        "prompts": {
            "n": len(prompts),
            "tokens": sum(row["prompt_tokens"] for row in prompts),
            "cut": sum(row["cut_tokens"] > 0 for row in prompts),
            "cut_tokens": sum(row["cut_tokens"] for row in prompts),
        },
        "continuations": {
            "n": len(rows),
            "tokens": int(lengths.sum()),
            "tokens_min": int(lengths.min()),
            "tokens_max": int(lengths.max()),
            "ended": {why: ended[why] for why in get_args(Ended)},
            "restarted": sum(row["restarts"] > 0 for row in rows),
            "restarts": sum(row["restarts"] for row in rows),
            "log_prob_per_token": {
                "value": float(sum(row["log_prob"] for row in rows) / lengths.sum()),
                "n": int(lengths.sum()),
                "sd_of_continuations": float(per_token.std(ddof=1)) if len(rows) > 1 else None,
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


def notes_of(record: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What to mind when the texts are read."""
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
    odd = sum("\ufffd" in row["continuation"] for row in rows)
    if odd:
        notes.append(f"with bytes that are no character, shown as \ufffd: {odd:,} of {found['n']:,}")
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
    if record["speed"]["prefill"]["tokens"] != prompts["tokens"] - prompts["cut_tokens"]:
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
