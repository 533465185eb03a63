"""A generation's record and texts on the terminal, as plain text, and as the report in markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from seqassay.report.layout import aligned, escaped, labelled, provenance_rows, table

SHOWN = 10  # texts in the report


def plain_text(row: Mapping[str, Any], *, is_only: bool, samples: int) -> str:
    """Prompt and continuation of a row, with a line before it where there are several rows.

    Args:
        samples: of every prompt.
    """
    if is_only:
        return f"{_whole(row)}\n"
    is_first = row["prompt_number"] == row["sample"] == 1
    sample = f", sample {row['sample']}" if samples > 1 else ""
    return f"{'' if is_first else chr(10)}=== prompt {row['prompt_number']}{sample} ===\n{_whole(row)}\n"


def lm_generation_summary(record: Mapping[str, Any], folder: str | None) -> str:
    """How it was chosen, how much, how fast, and what to mind."""
    model = record["identity"]["checkpoint"]
    rows = [
        ("model", f"{model['path']}, {model['parameters']:,} parameters, vocabulary {model['vocab_size']:,}"),
        ("tokens", _choice(record["method"])),
        ("written", _written(record["continuations"])),
        ("guard", record["guards"][0]["says"]),
    ]
    lines = [*labelled(rows), "", *aligned([_HEADER, *_speed(record["speed"])], to_the_right=(1, 2, 3, 4, 5))]
    lines += [f"note: {note}" for note in record["notes"]]
    return "\n".join([*lines, *([f"record  {folder}/metrics.json"] if folder else [])])


def lm_generation_report(record: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """The report in markdown.

    Args:
        rows: the first ``SHOWN``.
    """
    model, prompts, found = record["identity"]["checkpoint"], record["prompts"], record["continuations"]
    per_token = found["log_prob_per_token"]
    spread = per_token["sd_of_continuations"]
    sd = "" if spread is None else f", standard deviation of continuations {spread:.4g}"
    parts = [
        "# Generated text",
        table(
            ("", ""),
            [
                ("model", f"`{escaped(model['path'])}`"),
                ("parameters", f"{model['parameters']:,}"),
                ("tokens", escaped(_choice(record["method"]))),
                ("prompts", f"{prompts['n']:,}, {prompts['tokens']:,} tokens"),
                ("written", _written(found)),
                ("log-probability", f"{per_token['value']:.4g} nats per token, of {per_token['n']:,} tokens{sd}"),
                ("guard", escaped(record["guards"][0]["says"])),
                ("device", escaped(record["device"])),
            ],
        ),
        "## Speed",
        table(_HEADER, _speed(record["speed"])),
    ]
    if record["notes"]:
        parts += ["## Mind", "\n".join(f"- {escaped(note)}" for note in record["notes"])]
    parts += [f"## Texts (the first {SHOWN} of {found['n']:,})" if found["n"] > SHOWN else "## Texts"]
    for row in rows:
        parts += [f"Prompt {row['prompt_number']}, sample {row['sample']}, ended by {row['ended']}:", _block(row)]
    parts += ["## Provenance", table(("", ""), provenance_rows(record))]
    return "\n\n".join(parts) + "\n"


_HEADER = ("", "tokens/s", "tokens", "seconds", "median", "p95")


def _speed(speed: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (name, "undefined", "0", "–", "–", "–")
        if rate is None
        else (
            f"{name} ({rate['of']}: {rate['n']:,})",
            f"{rate['tokens_per_s']:,.0f}",
            f"{rate['tokens']:,}",
            f"{rate['wall_s']:,.3f}",
            f"{rate['median_ms']:,.2f} ms",
            f"{rate['p95_ms']:,.2f} ms",
        )
        for name, rate in speed.items()
    ]


def _choice(method: Mapping[str, Any]) -> str:
    if method["choice"] == "greedy":
        return f"the most likely one each time, up to {method['max_new_tokens']:,}"
    said = [f"drawn at temperature {method['temperature']:g}"]
    if method["top_k"] is not None:
        said.append(f"top-k {method['top_k']:,}")
    if method["top_p"] < 1:
        said.append(f"top-p {method['top_p']:g}")
    return f"{', '.join(said)}, seed {method['seed']}, up to {method['max_new_tokens']:,}"


def _written(found: Mapping[str, Any]) -> str:
    ended = ", ".join(f"{n:,} by {why}" for why, n in found["ended"].items() if n)
    return f"{found['n']:,} continuations, {found['tokens']:,} tokens; ended: {ended}"


def _whole(row: Mapping[str, Any]) -> str:
    return f"{row['prompt']}{row['continuation']}"


def _block(row: Mapping[str, Any]) -> str:
    """A code block that no text ends."""
    text = _whole(row)
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"
