"""`seqassay lm data`: text into token files, and what its splits and probe tasks share."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import typer

from seqassay.cli.console import repeatable, watched
from seqassay.errors import InputError
from seqassay.report.layout import aligned

_INPUTS = (
    "train=FILE, valid=FILE, test=FILE (a folder or glob in place of a file, several of each); or a folder with "
    "train.txt, valid.txt, …"
)
_DOCUMENTS = "Where a document ends: with the file, by WikiText's headings, two blank lines, or such a line."


def register(lm: typer.Typer) -> None:
    """Add the command group to `seqassay lm`."""
    data = typer.Typer(help="Text into token files; overlap of splits and probe tasks.", no_args_is_help=True)
    data.command("fetch", no_args_is_help=True)(fetch_command)
    data.command("build", no_args_is_help=True)(build_command)
    data.command("check", no_args_is_help=True)(check_command)
    data.command("show", no_args_is_help=True)(show_command)
    lm.add_typer(data, name="data")


def fetch_command(
    config: str = typer.Argument(..., metavar="CONFIG", help="wikitext-2-raw-v1 or wikitext-103-raw-v1."),
    output_dir: Path = typer.Option(..., "-o", "--output-dir", metavar="DIR", help="Folder for the text files."),
    revision: str = typer.Option(None, "--revision", metavar="COMMIT", help="Another than the pinned one."),
    progress: bool = typer.Option(True, "--progress/--no-progress", help="Show progress."),
) -> None:
    """Download WikiText from the Hugging Face Hub and write it as train.txt, valid.txt and test.txt.

    Goes on where it was cut when given again. HF_ENDPOINT names a mirror.
    """
    from seqassay.measure.progress import RunProgress
    from seqassay.report.terminal import ProgressReporter, error_console
    from seqassay.text.wikitext import fetch_wikitext

    state = RunProgress(unit="files")
    reporter = ProgressReporter(state, error_console()) if progress else contextlib.nullcontext()
    with repeatable(), reporter:
        files = fetch_wikitext(config, output_dir, revision=revision, progress=state)
    typer.echo(table([("file", "lines", "bytes"), *((f.name, f"{f.lines:,}", f"{f.bytes:,}") for f in files)]))
    typer.echo(f"in {output_dir}")


def build_command(
    inputs: list[str] = typer.Argument(..., metavar="[SPLIT=]TEXT...", help=_INPUTS),
    output_dir: Path = typer.Option(..., "-o", "--output-dir", metavar="DIR", help="Folder to make."),
    documents: str = typer.Option(
        "file", "--documents", metavar="file|wikitext|blank-lines|line:TEXT", help=_DOCUMENTS
    ),
    vocab_size: int = typer.Option(
        None, "--vocab-size", metavar="N", help="Train byte-level BPE of exactly this size on the training split."
    ),
    characters: bool = typer.Option(False, "--characters", help="One token a character of the training split."),
    tokenizer: Path = typer.Option(None, "--tokenizer", metavar="FILE", help="Take this tokenizer.json."),
    force: bool = typer.Option(False, "--force", help="Replace the token files in DIR."),
    progress: bool = typer.Option(True, "--progress/--no-progress", help="Show progress."),
) -> None:
    """Tokenise text to disk: memory-mapped token files, the tokenizer, and a manifest of both.

    The same text and settings give the same tokens. Exit codes: 2 bad text (named with file and line), 4 disk full.
    """
    from seqassay.measure.progress import RunProgress
    from seqassay.text.build import BuildSettings, build_token_files

    settings = BuildSettings(
        inputs=tuple(inputs),
        output_dir=output_dir,
        documents=documents,
        vocab_size=vocab_size,
        characters=characters,
        tokenizer=tokenizer,
        force=force,
    )
    state = RunProgress(unit="characters")
    with watched(state, show_progress=progress, unfinished=f"{output_dir} was not written"):
        manifest = build_token_files(settings, state)
    typer.echo("\n".join([*manifest_lines(manifest), f"in {output_dir}"]))


def check_command(
    inputs: list[str] = typer.Argument(..., metavar="[SPLIT=]TEXT...|DIR", help=f"{_INPUTS}; or token files."),
    documents: str = typer.Option(
        "file", "--documents", metavar="file|wikitext|blank-lines|line:TEXT", help=_DOCUMENTS
    ),
    probes: list[Path] = typer.Option(
        None,
        "--probes",
        metavar="FILE|DIR",
        help="sentiment.jsonl, nli.jsonl, qa.jsonl, paraphrase.jsonl; or a folder.",
    ),
    max_overlap: float = typer.Option(
        None, "--max-overlap", metavar="SHARE", help="Refuse when splits, or a task and the training text, share more."
    ),
    output: Path = typer.Option(None, "-o", "--output", metavar="FILE", help="Write the findings as JSON."),
    progress: bool = typer.Option(True, "--progress/--no-progress", help="Show progress."),
) -> None:
    """Look for text of one split in another, and for probe items in the training text, by 13 words in a row.

    Exit code 2 when a share is above --max-overlap, as `dataset build` has it for near-duplicates.
    """
    from seqassay.measure.progress import RunProgress
    from seqassay.text.check import CheckSettings, check_text

    settings = CheckSettings(
        inputs=tuple(inputs),
        documents=documents,
        probes=tuple(probes or ()),
        max_overlap=max_overlap,
        output=output,
    )
    state = RunProgress(unit="characters")
    with watched(state, show_progress=progress, unfinished="nothing was written"):
        record = check_text(settings, state)
    typer.echo("\n".join(check_lines(record)))
    if output is not None:
        typer.echo(f"findings  {output}")
    if record["refusals"]:
        raise InputError(
            "\n".join([f"above --max-overlap {settings.max_overlap:g}:", *record["refusals"]]),
            hint="leave those documents out of the training text, or allow more",
        )


def show_command(
    folder: Path = typer.Argument(..., metavar="DIR", help="A folder of token files."),
    verify: bool = typer.Option(False, "--verify", help="Check the digest of every file, too."),
) -> None:
    """Say what a folder of token files holds; a missing, cut or changed file is an error (exit code 2)."""
    from seqassay.text.token_files import open_token_files

    files = open_token_files(folder)
    if verify:
        files.verify()
    else:
        files.tokenizer()
    typer.echo("\n".join(manifest_lines(files.manifest)))
    typer.echo("all digests are right" if verify else "all sizes are right (--verify checks the digests)")


def manifest_lines(manifest: Any) -> list[str]:
    """A manifest as a person reads it."""
    names = ("documents", "words", "characters", "bytes", "tokens")
    rows: list[tuple[str, ...]] = [("split", *names, "bytes/token")]
    for split, said in manifest["splits"].items():
        per_token = said["bytes"] / (said["tokens"] - said["separators"])
        rows.append((split, *(f"{said[name]:,}" for name in names), f"{per_token:.2f}"))
    tokenizer = manifest["tokenizer"]
    separator = tokenizer["separator"]
    lines = [
        table(rows),
        f"tokenizer  {tokenizer['kind']}, {tokenizer['vocab_size']:,} tokens, digest {tokenizer['digest'][:12]}, "
        + (f"{separator['text']} after every document" if separator else "nothing between documents"),
    ]
    for name, words in (
        ("had_bom", "files began with a byte order mark, left out"),
        ("crlf_line_ends", "CRLF line ends became LF"),
        ("separator_lines", "separator lines left out"),
        ("empty_documents", "empty documents left out"),
    ):
        n = sum(source[name] for source in manifest["sources"])
        if n:
            lines.append(f"changed    {n:,} {words}")
    for split, said in manifest["splits"].items():
        if not said["comes_back_exactly"]:
            lines.append(f"warning    decoding the tokens of {split} does not give its text: the tokenizer changes it")
    return lines


def check_lines(record: Any) -> list[str]:
    """The findings of a check as a person reads them."""
    lines = []
    if record["shared"]:
        rows: list[tuple[str, ...]] = [("of", "in", "13-grams", "documents", "same documents", "same long lines")]
        for row in record["shared"]:
            split = record["splits"][row["of"]]
            share = "undefined" if row["ngram_share"] is None else f"{row['ngram_share']:.3%}"
            documents = f"{row['documents_with_shared']:,} of {split['documents']:,}"
            same = f"{row['same_documents']:,}", f"{row['same_long_lines']:,} of {split['long_lines']:,}"
            rows.append((row["of"], row["within"], f"{row['ngrams_found']:,} ({share})", documents, *same))
        lines.append(table(rows))
    lines += [
        f"most of {row['of']} in train: {worst['ngram_share']:.1%} of {worst['place']}"
        for row in record["shared"]
        for worst in row["worst_documents"][:1]
        if row["within"] == "train"
    ]
    for name, split in record["splits"].items():
        if split["repeated_documents"] or split["repeated_long_lines"]:
            lines.append(
                f"within {name}: {split['repeated_documents']:,} documents and {split['repeated_long_lines']:,} long "
                "lines repeat one before them"
            )
    for task in record["probes"]:
        lines.append(
            f"{task['task']}: {task['found']:,} of {task['items']:,} items share 13 words with the training text "
            f"({task['too_short']:,} are too short to tell)"
        )
        lines += [
            f"  {item['id']} {item['field']}, {item['training_text']}: {shortened(item['passage'])}"
            for item in task["found_items"]
        ]
    return lines


def shortened(text: str, limit: int = 90) -> str:
    """The beginning of a text."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def table(rows: list[tuple[str, ...]]) -> str:
    """Columns under their names, numbers to the right."""
    return "\n".join(aligned(rows, to_the_right=[i for i in range(len(rows[0])) if has_numbers(rows, i)]))


def has_numbers(rows: list[tuple[str, ...]], column: int) -> bool:
    """Whether a column holds numbers under its name."""
    return all(row[column][:1].isdigit() or row[column] == "undefined" for row in rows[1:])
