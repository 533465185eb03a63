"""The installed command from its first moment on."""

import signal
import subprocess
import sys
import time

import pytest

import seqassay.__main__ as entry


def test_a_stop_that_no_command_handles_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("seqassay.cli.main.main", interrupted)
    with pytest.raises(SystemExit) as caught:
        entry.main()
    assert caught.value.code == "seqassay: stopped by Ctrl-C"  # a text: printed on standard error, exit code 1


def test_a_stop_within_a_command_that_does_not_handle_it_is_that_line_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("seqassay.cli.report.run", interrupted)
    monkeypatch.setattr(sys, "argv", ["seqassay", "report", "record"])
    with pytest.raises(SystemExit) as caught:
        entry.main()
    assert caught.value.code == "seqassay: stopped by Ctrl-C"


def test_ctrl_c_while_the_libraries_load_shows_no_traceback() -> None:
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a job in the background begins without it
        "class Slow:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'seqassay.cli.main':\n"
        "            print('loading', flush=True)\n"
        "            time.sleep(60)\n"
        "sys.meta_path.insert(0, Slow())\n"
        "from seqassay.__main__ import main\n"
        "main()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "loading\n"
    time.sleep(0.1)  # into the sleep
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=50)
    assert process.returncode == 1
    assert errors == "seqassay: stopped by Ctrl-C\n"
