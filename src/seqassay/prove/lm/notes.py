"""What to mind when the figures of an evaluation are read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from seqassay.prove.lm.inputs import Checkpoint
from seqassay.prove.lm.standard import TASKS
from seqassay.prove.lm.trained import NO_RECORD, read_training
from seqassay.text.token_files import TokenFiles


def notes_of(record: Mapping[str, Any], checkpoint: Checkpoint, files: TokenFiles | None) -> list[str]:
    """What to mind when the figures are read."""
    notes = []
    log_v = math.log(checkpoint.folder.model.config.vocab_size)
    if checkpoint.is_untrained:
        notes.append("the model is untrained: its weights are the first ones of its seed")
    elif record["training"] is None:
        notes.append(NO_RECORD)
    notes += read_training(checkpoint.folder)[1] if record["training"] is not None else []
    for name, split in record["splits"].items():
        n = split["n"]
        if split["scope"] == "partial":
            notes.append(f"{name}: partial, the first {split['scored_share']:.2%} of the tokens were scored")
        if n["unscored_first_tokens"]:
            notes.append(
                f"{name}: without a prefix token the first of every document is not scored "
                f"({n['unscored_first_tokens']:,} of {n['tokens']:,} tokens)"
                if record["method"]["windows"] == "documents"
                else f"{name}: without a prefix token the first token is not scored"
            )
        if n["scored_separators"]:
            notes.append(f"{name}: {n['scored_separators']:,} separators are scored as well; they stand for no text")
        if split["unit"]["name"] != "documents":
            notes.append(
                f"{name}: intervals are over {split['unit']['name']}; they say how much parts of this text differ, not "
                "how other texts would do"
            )
        if split["values"]["loss"]["value"] > log_v and not checkpoint.is_untrained:
            notes.append(f"{name}: the loss is above ln V = {log_v:.4f}: guessing evenly would do better")
        if files is not None and not files.manifest["splits"][name]["comes_back_exactly"]:
            notes.append(f"{name}: the tokenizer changes text; words and bytes are those of what its tokens spell")
    for name, task in (record["smallbench"] or {"tasks": {}})["tasks"].items():
        if task["scope"] == "partial":
            notes.append(f"{name}: partial, the first {task['n']:,} of {task['rows']:,} rows were asked")
        if task["truncated_prompts"]:
            notes.append(
                f"{name}: prompts longer than the context: {task['truncated_prompts']:,}; {task['cut_tokens']:,} "
                "tokens were left out at their beginnings"
            )
        low, high = task["by_average"]["interval_95"]
        if low <= task["majority"]["value"]:
            beside = "below" if high < task["majority"]["value"] else "not told from"
            notes.append(f"{name}: {beside} the larger class, {task['majority']['value']:.2%}: no skill is shown")
    if record["smallbench"] is not None and len(record["smallbench"]["tasks"]) < len(TASKS):
        asked = ", ".join(record["smallbench"]["tasks"])
        notes.append(f"SmallBench: the average is over {asked} alone")
    if record["profiling"] is not None:
        notes += record["profiling"]["notes"]
    return notes
