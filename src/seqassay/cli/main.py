"""The `seqassay` command: parse, call one function, print; every failure ends in its documented exit code."""

from __future__ import annotations

import sys
from typing import NoReturn

import typer
from rich.console import Console

from seqassay import __version__
from seqassay.cli import (
    benchmark,
    compare,
    dataset,
    doctor,
    embed,
    evaluate,
    gate,
    lm,
    models,
    predict,
    report,
    scan,
    train,
    validate,
)
from seqassay.errors import SeqassayError

EXIT_CODES = """Exit codes: 0 done, 1 failure, 2 bad usage or input, 3 stopped,
4 out of memory or disk, 5 a gate failed."""

_CTRL_C_OF_TYPER = 130


def build_app() -> typer.Typer:
    """The command tree; one thin module a command group."""
    app = typer.Typer(
        name="seqassay",
        help="Find viral reads with sequence language models, and prove that a model is right and fast.",
        epilog=EXIT_CODES,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback(invoke_without_command=True)
    def root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
        if version:
            typer.echo(f"seqassay {__version__}")
            raise typer.Exit

    for module in (
        predict, scan, embed, validate, dataset, train, evaluate, compare, benchmark, gate, report, lm, models, doctor,
    ):  # fmt: skip
        module.register(app)
    return app


def main() -> None:
    """Entry point: run the app and turn a SeqassayError into its message and exit code.

    Raises:
        KeyboardInterrupt: Ctrl-C that no command handles; typer ends without a word then.
    """
    try:
        build_app()()
    except SeqassayError as error:
        _end(error)
    except SystemExit as stop:
        if stop.code == _CTRL_C_OF_TYPER:
            raise KeyboardInterrupt from None
        raise


def _end(error: SeqassayError) -> NoReturn:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"seqassay: error: {error.message}", style="bold red", markup=False)
    if error.hint:
        console.print(error.hint, markup=False)
    sys.exit(error.exit_code)
