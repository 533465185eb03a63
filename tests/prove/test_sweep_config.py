"""A sweep's file: what it expands to, and what is refused, with the line, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from seqassay.errors import InputError, UsageError
from seqassay.prove.sweep.command import plan_only
from seqassay.prove.sweep.config import SweepConfig, read_config
from seqassay.prove.sweep.settings import SweepSettings
from seqassay.text.build import BuildSettings, build_token_files

Read = Callable[[str], SweepConfig]
HEAD = "final_tokens: 2e3\ndefaults: {total_params: 60_000, context: 16, learning_rate: 1e-3}\n"
GRID = HEAD + "axes:\n  embedding_ratio: [0.08, 0.16]\n  glu_expansion: [2.0, 4.0]\n"


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read_text(text: str) -> SweepConfig:
        path = tmp_path / "sweep.yaml"
        path.write_text(text, encoding="utf-8")
        return read_config(path)

    return read_text


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    for split in ("train", "valid"):
        (folder / f"{split}.txt").write_text("A cat sat on a mat. " * 20, encoding="utf-8")
    build_token_files(
        BuildSettings(inputs=(str(folder),), output_dir=folder / "tokens", documents="file", vocab_size=262)
    )
    return folder / "tokens"


def test_a_grid_is_every_combination_and_numbers_are_numbers(read: Read) -> None:
    config = read(GRID + "baseline: {embedding_ratio: 0.16, glu_expansion: 2.0}\nranking_tokens: 1_000\n")
    assert [e.name for e in config.experiments] == [
        "embedding_ratio=0.08,glu_expansion=2.0",
        "embedding_ratio=0.08,glu_expansion=4.0",
        "embedding_ratio=0.16,glu_expansion=2.0",
        "embedding_ratio=0.16,glu_expansion=4.0",
    ]
    assert config.axes == {"embedding_ratio": (0.08, 0.16), "glu_expansion": (2.0, 4.0)}
    assert config.baseline == "embedding_ratio=0.16,glu_expansion=2.0"
    assert (config.protocol.ranking_tokens, config.protocol.final_tokens) == (1000, 2000)
    assert config.experiments[1].settings["learning_rate"] == 1e-3  # YAML 1.1 reads 1e-3 as text
    assert config.experiments[1].axes == {"embedding_ratio": 0.08, "glu_expansion": 4.0}


def test_experiments_inherit_from_defaults_and_from_those_above_them(read: Read) -> None:
    config = read(
        HEAD + "experiments:\n"
        "- name: plain\n"
        "- {name: untied, overrides: {tied: false, dropout: 0.1}}\n"
        "- {name: untied-fast, inherit: untied, overrides: {learning_rate: 2e-3}}\n"
    )
    plain, untied, fast = config.experiments
    assert plain.settings == {"total_params": 60_000, "context": 16, "learning_rate": 1e-3}
    assert untied.settings == {**plain.settings, "tied": False, "dropout": 0.1}
    assert fast.overrides == {"tied": False, "dropout": 0.1, "learning_rate": 2e-3}
    assert (config.baseline, [e.line for e in config.experiments]) == ("plain", [4, 5, 6])
    assert config.axes == {"tied": (False,), "dropout": (0.1,), "learning_rate": (1e-3, 2e-3)}
    assert plain.axes == {"learning_rate": 1e-3}


def test_a_grid_and_experiments_of_their_own(read: Read) -> None:
    config = read(GRID + "experiments: [{name: deep, overrides: {embedding_ratio: 0.04}}]\nbaseline: deep\n")
    assert len(config.experiments) == 5
    assert config.axes["embedding_ratio"] == (0.08, 0.16, 0.04)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", None, "is empty"),
        ("final_tokens: [1", 1, "not YAML"),
        ("- 1\n", 1, "not a list of 'name"),
        (GRID + "ranking_token: 5\n", 6, "'ranking_token' is not known"),
        (GRID + "final_tokens: 5\n", 6, "'final_tokens' stands there twice"),
        (GRID.replace("final_tokens: 2e3\n", ""), 1, "not given: final_tokens"),
        (GRID.replace("2e3", "lots"), 1, "final_tokens is 'lots'"),
        (GRID.replace("2e3", "0"), 1, "final_tokens is 0; it has to be at least 1"),
        (GRID + "final_seeds: [1, 1]\n", 1, "final_seeds is [1, 1]"),
        (GRID + "margin: 5\n", 1, "margin is 5"),
        (GRID.replace("context", "contxt"), 2, "defaults: 'contxt' is not known"),
        (GRID.replace("context", "seed"), 2, "defaults: 'seed' is not known"),  # the sweep sets it
        (GRID.replace("glu_expansion", "glu_expansio"), 5, "axes: 'glu_expansio' is not known"),
        (GRID.replace("[2.0, 4.0]", "[2.0]"), 5, "does not vary"),
        (GRID.replace("[2.0, 4.0]", "[2.0, 2.0]"), 5, "does not vary"),
        (GRID.replace("[2.0, 4.0]", "[2.0, 2.0, 4.0]"), 5, "names a value twice"),
        (GRID.replace("[2.0, 4.0]", "2.0"), 5, "is not a list"),
        (GRID + "baseline: {glu_expansion: 2.0}\n", 6, "is that of 2 experiments"),
        (GRID + "baseline: none\n", 6, "no experiment is called 'none'"),
        (GRID + "evaluate: {checkpoint: x}\n", 6, "evaluate: 'checkpoint' is not known"),
        (HEAD, 1, "has 0 experiments"),
        (HEAD + "experiments:\n- {name: a}\n", 1, "has 1 experiment;"),
        (HEAD + "experiments:\n- {name: a}\n- {name: a, overrides: {batch: 8}}\n", 5, "'a' stands there twice"),
        (HEAD + "experiments:\n- {name: a}\n- {name: b}\n", 5, "'b' has the settings of 'a'"),
        (HEAD + "experiments:\n- {name: a}\n- {name: b, inherit: c}\n", 5, "'c', which is none of those above"),
        (HEAD + "experiments:\n- {name: a}\n- {nam: b}\n", 5, "experiments[1]: 'nam' is not known"),
        (HEAD + "experiments:\n- {name: a}\n- {overrides: {batch: 8}}\n", 5, "experiments[1]: has no name"),
        (HEAD + "experiments:\n- {name: a}\n- {name: ../b, overrides: {batch: 8}}\n", 5, "cannot be an experiment's"),
        (HEAD + "experiments:\n- {name: a}\n- {name: b, overrides: {batches: 8}}\n", 5, "'batches' is not known"),
    ],
)  # fmt: skip
def test_refused_with_the_line(read: Read, text: str, line: int | None, words: str) -> None:
    with pytest.raises(InputError) as caught:
        read(text)
    assert words in caught.value.message
    assert caught.value.line == line


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml: cannot read"):
        read_config(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("change", "words", "hint"),
    [
        (("60_000", "500"), "the vocabulary is too large for the budget", "total_params: "),
        (("60_000", "60_000, n_heads: 7"), "no plan", "n_heads: left out"),
        (("60_000", "60_000, d_model: 16"), "exclude each other", "d_model"),
        (("1e-3", "fast"), "learning_rate is 'fast'", ""),
        (("1e-3", "-1"), "learning_rate is -1; it has to be above 0", ""),
        (("16,", "4096,"), "a context of 4,096 needs 4,097", "shorter context"),
        (("[2.0, 4.0]", "[2.0, 2.01]"), "comes to the same model and training as", "further apart"),
    ],
)  # fmt: skip
def test_what_has_no_plan_is_named_before_anything_is_trained(
    tmp_path: Path, tokens: Path, change: tuple[str, str], words: str, hint: str
) -> None:
    text = GRID.replace("learning_rate", "ratio_tolerance: 0.1, expansion_tolerance: 0.1, learning_rate")
    path, out = tmp_path / "sweep.yaml", tmp_path / "out"
    path.write_text(text.replace(*change), encoding="utf-8")
    with pytest.raises(InputError, match=r"experiment 'embedding_ratio=0\.08") as caught:
        plan_only(SweepSettings(config=path, output_dir=out, tokens=tokens))
    assert words in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.line == 4
    assert not out.exists()


@pytest.mark.parametrize(
    ("evaluate", "words"),
    [
        ("latency_shapes: [1by8]", "evaluate.latency_shapes: '1by8' is not sequences x tokens"),
        ("latency_shapes: [1, 8]", "evaluate.latency_shapes: 1 is not sequences x tokens"),
        ("latency_shapes: [[1, 8, 2]]", "evaluate.latency_shapes: [1, 8, 2] is not"),
        ("latency_shapes: &a [*a]", "lists are nested too deeply"),
        ("latency_shapes: []", "evaluate: nothing is named to measure"),
        ("throughput_shape: 8", "evaluate.throughput_shape: 8 is not"),
        ("context: 17", "evaluate: context is 17; the model was made for 16 tokens"),
        ("stride: 17", "evaluate: stride is 17"),
        ("top_k: [1, 500]", "evaluate: top_k is 500; the vocabulary has"),
        ("latency_shapes: 1x17", "evaluate: 1x17 has sequences of 17 tokens; the model was made for 16"),
        ("throughput_shape: [2, 17]", "evaluate: 2x17 has sequences of 17 tokens"),
        ("splits: [exam]", "exam"),
        ("probes: [nowhere]", "nowhere"),
        ("top_k: [0]", "evaluate: top_k is 0"),
    ],
)
def test_what_the_finalists_cannot_be_evaluated_on_is_named_before_anything_is_trained(
    tmp_path: Path, tokens: Path, evaluate: str, words: str
) -> None:
    text = GRID.replace("learning_rate", "ratio_tolerance: 0.1, expansion_tolerance: 0.1, learning_rate")
    path = tmp_path / "sweep.yaml"
    path.write_text(f"{text}evaluate: {{{evaluate}}}\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        plan_only(SweepSettings(config=path, output_dir=tmp_path / "out", tokens=tokens))
    assert words in caught.value.message
    assert caught.value.line == 6


def test_shapes_are_written_as_on_the_command_line(read: Read) -> None:
    wanted = {"latency_shapes": [[1, 8], [2, 16]], "memory_shape": [4, 16]}
    assert read(GRID + "evaluate: {latency_shapes: [1x8, 2x16], memory_shape: 4x16}\n").evaluate == wanted
    assert read(GRID + "evaluate: {latency_shapes: [[1, 8], [2, 16]], memory_shape: [4, 16]}\n").evaluate == wanted
    assert read(GRID + "evaluate: {latency_shapes: 1x8}\n").evaluate == {"latency_shapes": [[1, 8]]}


def test_no_tokens(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(GRID, encoding="utf-8")
    with pytest.raises(UsageError, match="names no tokens"):
        plan_only(SweepSettings(config=path, output_dir=tmp_path / "out"))
