"""`seqassay lm export`: a language model as transformers loads it."""

from __future__ import annotations

from pathlib import Path

import typer


def export_command(
    checkpoint: Path = typer.Argument(..., metavar="CHECKPOINT", help="A folder of `lm build` or `lm train`."),
    output_dir: Path = typer.Argument(..., metavar="OUT", help="Folder for config.json, weights and tokenizer."),
    force: bool = typer.Option(False, "--force", help="Replace a model in OUT."),
) -> None:
    """Write a model for `transformers` (LlamaForCausalLM; StableLmForCausalLM with LayerNorm), logits unchanged."""
    from seqassay.models.lm_files import export_lm

    settings = export_lm(checkpoint, output_dir, replace=force)
    typer.echo(f"{settings['architectures'][0]} in {output_dir}")
    typer.echo(f'load it with: AutoModelForCausalLM.from_pretrained("{output_dir}")')
