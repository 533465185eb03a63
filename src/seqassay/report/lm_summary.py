"""A language model's evaluation (``metrics.json``) as the summary in markdown: a view only, nothing computed here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from seqassay.report.layout import escaped, provenance_rows, sentence, table
from seqassay.report.lm_evaluation import (
    SPLIT_HEADER,
    TASK_HEADER,
    asked,
    brief,
    number,
    performance_tables,
    scope,
    split_rows,
    task_rows,
    windows,
)

_TITLES = {"train": "Training text", "valid": "Validation", "test": "Test"}
_UNKNOWN = "not known"


def lm_evaluation_markdown(record: Mapping[str, Any]) -> str:
    """``summary.md``: configuration, training, text, SmallBench, performance, reproducibility, all settings."""
    parts = [f"# Language model evaluation {escaped(record['run']['id'])}"]
    if record["notes"]:
        parts += ["## Mind", "\n".join(f"- {escaped(note)}" for note in record["notes"])]
    parts += ["## Configuration", _configuration(record), "## Training", _training(record)]
    for name, title in _TITLES.items():
        split = record["splits"].get(name)
        if split is not None:
            parts += [f"## {title}", f"{sentence(scope(split))}.", table(SPLIT_HEADER, split_rows(split))]
        elif name != "train":
            parts += [f"## {title}", "Not scored."]
    parts.append("## SmallBench")
    if record["smallbench"] is not None:
        parts += [f"{sentence(asked(record['smallbench']))}.", table(TASK_HEADER, task_rows(record["smallbench"]))]
    else:
        parts.append("Not asked.")
    parts.append("## Performance")
    for title, header, rows in performance_tables(record["profiling"]) if record["profiling"] else ():
        parts += [f"### {title}", table(header, rows)]
    if record["profiling"] is None:
        parts.append("Not measured.")
    guards = [(guard["name"], escaped(guard["says"]), number(guard["value"])) for guard in record["guards"]]
    parts += [
        "## Guards",
        table(("guard", "what it shows", "value"), guards),
        "## Reproducibility",
        table(("", ""), _reproducibility(record)),
        "## Full configuration",
        f"```json\n{json.dumps(_all_settings(record), indent=1, ensure_ascii=False)}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _configuration(record: Mapping[str, Any]) -> str:
    model, c = record["identity"]["checkpoint"], record["model"]
    rows = [
        ("model", f"`{escaped(model['path'])}`"),
        ("parameters", f"{c['parameters']:,}, {c['embedding_ratio']:.2%} of them embeddings"),
        ("shape", f"{c['n_layers']} layers, {c['d_model']} wide, {c['n_heads']} heads, d_ff {c['d_ff']} "
                  f"(expansion {c['glu_expansion']:.3g}), context {c['context_tokens']:,}"),
        ("vocabulary", f"{c['vocab_size']:,}, {'tied' if c['tied'] else 'untied'} head"),
        ("norm and positions", f"{c['norm']}, {c['positions']}"),
        ("text", ", ".join(f"`{escaped(place)}`" for place in record["identity"]["text"]["inputs"]) or "none"),
        ("windows", escaped(windows(record))),
        ("device", escaped(record["device"])),
    ]  # fmt: skip
    return table(("", ""), rows)


def _training(record: Mapping[str, Any]) -> str:
    said = record["training"]
    if said is None:
        return "Not known: the checkpoint has no record of it."
    whole = said["whole_training"] or {}
    rows = [
        ("steps", _counted(said["steps"])),
        ("tokens", _counted(said["tokens_seen"])),
        ("epochs", _UNKNOWN if said["epochs"] is None else f"{said['epochs']:.4g}"),
        ("FLOP (3 forward passes of every token)", _UNKNOWN if said["flop"] is None else f"{said['flop']:.3e}"),
        ("dev loss in training (nats per token)", _UNKNOWN if said["dev_loss"] is None else number(said["dev_loss"])),
        ("the whole training", f"{_counted(whole.get('steps'))} steps, {whole.get('status') or _UNKNOWN}"),
        ("wall time of the whole", _UNKNOWN if whole.get("wall_s") is None else f"{brief(whole['wall_s'])} s"),
        ("tokens/s of the whole", _UNKNOWN if whole.get("tokens_per_s") is None else brief(whole["tokens_per_s"])),
    ]
    return table(("", ""), rows)


def _counted(value: int | None) -> str:
    return _UNKNOWN if value is None else f"{value:,}"


def _reproducibility(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    model, run = record["identity"]["checkpoint"], record["run"]
    tokens = ", ".join(f"{name} {digest[:12]}" for name, digest in record["identity"]["text"]["tokens"].items())
    seed = record["standard"]["seed"]
    resumed = ", ".join(run["resumed_parts"]) or "none"
    return [
        ("run", escaped(run["id"])),
        ("commit of the folder it was started in", run["git_commit"] or "no checkout"),
        ("commit of the checkpoint's folder", run["checkpoint_git_commit"] or "no checkout"),
        ("seed of the training", _UNKNOWN if seed is None else str(seed)),
        ("weights (SHA-256)", record["model"]["weights_sha256"]),
        ("tokenizer (SHA-256)", model["tokenizer"]),
        ("tokens (SHA-256)", tokens or "none"),
        ("parts taken over from a stopped evaluation", resumed),
        *provenance_rows(record),
    ]


def _all_settings(record: Mapping[str, Any]) -> dict[str, Any]:
    training = record["training"] or {}
    return {
        "model": {key: value for key, value in record["model"].items() if key != "blocks"},
        "training": training.get("settings"),
        "evaluation": record["settings"],
    }
