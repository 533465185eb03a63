from __future__ import annotations

import os
import shlex
import signal
from pathlib import Path

import pytest

from seqassay.config import PredictSettings
from seqassay.predict.stop import StopRequested, resume_command, stop_on_signals


@pytest.mark.parametrize(("number", "name"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C")])
def test_a_signal_is_an_exception_and_the_handlers_come_back(number: signal.Signals, name: str) -> None:
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
    with pytest.raises(StopRequested, match=name), stop_on_signals():
        os.kill(os.getpid(), number)
        signal.pause()
    assert {n: signal.getsignal(n) for n in before} == before


def test_one_block_within_another_raises_once_and_a_second_signal_acts_as_before_both() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(StopRequested), stop_on_signals():
        try:
            with stop_on_signals():
                os.kill(os.getpid(), signal.SIGTERM)
                signal.pause()
        finally:
            assert signal.getsignal(signal.SIGTERM) == before
    with stop_on_signals():
        with stop_on_signals():
            pass
        assert signal.getsignal(signal.SIGTERM) != before, "the inner block's end is not the outer's"


def test_no_handler_of_errors_catches_a_stop() -> None:
    assert not issubclass(StopRequested, Exception)


def test_the_resume_command_repeats_what_was_set_and_nothing_else() -> None:
    settings = PredictSettings(
        inputs=("my reads.fq", "b.fq"),
        output_dir=Path("out dir"),
        pairing="two-files",
        force=True,
        shard_size=5,
        progress=False,
        keep_intermediate=True,
    )
    assert shlex.split(resume_command(settings)) == [
        "seqassay", "predict", "my reads.fq", "b.fq", "--output-dir", "out dir", "--pairing", "two-files",
        "--keep-intermediate", "--shard-size", "5", "--no-progress", "--resume",
    ]  # fmt: skip
