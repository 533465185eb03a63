"""The options are a promise: a name that goes or changes breaks users' scripts."""

from __future__ import annotations

import dataclasses

import typer
from typer.main import get_command

from seqassay.cli.main import build_app
from seqassay.config import PredictSettings

OPTIONS = [
    "--ambiguity",
    "--batch",
    "--chunk-rule",
    "--config",
    "--device",
    "--fdr",
    "--force",
    "--genetic-code",
    "--help",
    "--keep-intermediate",
    "--log-file",
    "--model",
    "--no-progress",
    "--output-dir",
    "--pairing",
    "--precision",
    "--prefetch",
    "--progress",
    "--quiet",
    "--resume",
    "--shard-size",
    "--threads",
    "--threshold",
    "--verbose",
    "-h",
    "-m",
    "-o",
    "-q",
    "-v",
]


def test_the_options_are_those_promised() -> None:
    group = get_command(build_app())
    command = group.commands["predict"]  # type: ignore[attr-defined]
    context = typer.Context(command, info_name="predict", help_option_names=["-h", "--help"])
    names = [
        name
        for parameter in command.get_params(context)
        if parameter.param_type_name == "option"
        for name in (*parameter.opts, *parameter.secondary_opts)
    ]
    assert sorted(names) == sorted(OPTIONS)


def test_every_option_is_a_setting_and_every_setting_an_option() -> None:
    fields = {field.name for field in dataclasses.fields(PredictSettings)}
    command = get_command(build_app()).commands["predict"]  # type: ignore[attr-defined]
    assert {parameter.name for parameter in command.params} - {"config"} == fields
