"""`seqassay embed`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from seqassay.cli.console import watched

if TYPE_CHECKING:
    from seqassay.engine.embed_command import EmbedSettings


def register(app: typer.Typer) -> None:
    """Add the command to the app."""

    @app.command(name="embed", no_args_is_help=True)
    def embed_command(
        inputs: list[str] = typer.Argument(
            ..., metavar="INPUT...", help="FASTA or FASTQ of proteins or nucleotides, plain or compressed; - is stdin."
        ),
        encoder: str = typer.Option(
            ...,
            "-e",
            "--encoder",
            metavar="DIR_OR_NAME",
            help="Folder, weight file, fetched encoder, or part of a bundle: mini:protein, mini:nucleotide.",
        ),
        output: Path = typer.Option(
            ..., "-o", "--output", metavar="OUT", help="File to write: .safetensors, .npz or .h5."
        ),
        force: bool = typer.Option(False, "--force", help="Replace OUT if it exists."),
        device: str = typer.Option("auto", metavar="auto|cpu|cuda|cuda:N", help="Where to compute."),
        precision: str = typer.Option("float32", metavar="float32|bf16|fp16|exact", help="Number format."),
        threads: int = typer.Option(None, metavar="N", help="CPU threads (default: what the machine gives)."),
        batch: int = typer.Option(None, metavar="TOKENS", help="Token budget of a batch (default: by device)."),
        progress: bool = typer.Option(True, "--progress/--no-progress", help="Show progress."),
    ) -> None:
        """Embed every sequence with a language model: one vector each, in input order.

        Proteins go to an ESM-2 class encoder (mean over residues), nucleotides to a DNABERT-S class one (mean over all
        tokens). OUT holds ids and embeddings; read_embeddings of seqassay.engine.embedding_files reads it.
        """
        # PyTorch takes seconds to import: `--help` and wrong options don't wait for it
        from seqassay.engine.embed_command import EmbedSettings

        settings = EmbedSettings(
            inputs=tuple(inputs),
            encoder=encoder,
            output=output,
            device=device,
            precision=precision,
            batch=batch,
            threads=threads,
            force=force,
        )
        run(settings, show_progress=progress)


def run(settings: EmbedSettings, *, show_progress: bool) -> None:
    """Run one embedding with its progress line, and print what came out."""
    from seqassay.engine.embed_command import run_embed
    from seqassay.measure.progress import RunProgress

    progress = RunProgress()
    with watched(progress, show_progress=show_progress, unfinished=f"{settings.output} was not written"):
        result = run_embed(settings, progress=progress)
    typer.echo(
        f"{result.output}: {result.n_sequences:,} embeddings of {result.d_model} values "
        f"({result.encoder}, {result.device})\n"
        f"{result.wall_s:.1f} s, {result.n_sequences / result.wall_s:,.0f} sequences/s, "
        f"{result.n_tokens / result.wall_s:,.0f} tokens/s, packing efficiency {result.packing_efficiency:.1%}"
    )
