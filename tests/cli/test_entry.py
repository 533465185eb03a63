"""The installed command from its first moment on."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest

import seqassay.__main__ as entry

LINE = "seqassay: stopped by Ctrl-C; run it again\n"


def test_a_stop_that_no_command_handles_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("seqassay.cli.main.main", interrupted)
    with pytest.raises(SystemExit) as caught:
        entry.main()
    assert caught.value.code == 3
    assert capsys.readouterr().err == LINE


def test_a_stop_within_a_command_that_does_not_handle_it_is_that_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("seqassay.cli.report.run", interrupted)
    monkeypatch.setattr(sys, "argv", ["seqassay", "report", "record"])
    with pytest.raises(SystemExit) as caught:
        entry.main()
    assert caught.value.code == 3
    assert capsys.readouterr().err == LINE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("work", "words"),
    [
        ("seqassay.cli.gate.run", ["gate", "record", "--gates", "file"]),
        ("seqassay.cli.report.run", ["report", "record"]),
        ("seqassay.prove.compare.command.compare", ["compare", "a", "b", "-o", "out"]),
        ("seqassay.cli.lm_build.plan_of_options", ["lm", "build", "--vocab-size", "100", "--total-params", "1000000"]),
    ],
)
def test_a_stop_of_any_command_ends_with_3_and_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    work: str,
    words: list[str],
) -> None:
    def stopped(*_: object, **__: object) -> None:
        os.kill(os.getpid(), number)
        time.sleep(5)

    monkeypatch.setattr(work, stopped)
    monkeypatch.setattr(sys, "argv", ["seqassay", *words])
    with pytest.raises(SystemExit) as caught:
        entry.main()
    assert caught.value.code == 3
    name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    assert f"stopped by {name}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("could not create a primitive"),
        RuntimeError("can't start new thread"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    ],
)
def test_memory_that_runs_out_anywhere_ends_with_4_and_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def exhausted(*_: object) -> None:
        raise error

    monkeypatch.setattr("seqassay.cli.report.run", exhausted)
    monkeypatch.setattr(sys, "argv", ["seqassay", "report", "record"])
    with pytest.raises(SystemExit) as caught:
        entry.main()
    assert caught.value.code == 4
    said = capsys.readouterr().err
    assert said.startswith("seqassay: error: out of memory") and "smaller" in said


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited on Linux alone")
def test_memory_that_runs_out_while_a_library_loads_ends_with_4_whatever_it_says() -> None:
    code = (
        "import resource, sys\n"
        "class Small:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'seqassay.cli.main':\n"
        "            used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "            resource.setrlimit(resource.RLIMIT_AS, (used + (8 << 20), resource.RLIM_INFINITY))\n"
        "            raise SystemError('error return without exception set')\n"
        "sys.meta_path.insert(0, Small())\n"
        "from seqassay.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith("seqassay: error: out of memory (error return without exception set)\n")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), OSError(errno.ENOENT, "none")])
def test_what_is_no_shortage_of_memory_is_not_taken_for_one(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def failed(*_: object) -> None:
        raise error

    monkeypatch.setattr("seqassay.cli.report.run", failed)
    monkeypatch.setattr(sys, "argv", ["seqassay", "report", "record"])
    with pytest.raises(type(error), match=str(error.args[-1])):
        entry.main()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_the_libraries_load_shows_no_traceback(number: signal.Signals) -> None:
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
    process.send_signal(number)
    _, errors = process.communicate(timeout=50)
    assert process.returncode == 3
    assert errors == (LINE if number == signal.SIGINT else LINE.replace("Ctrl-C", "SIGTERM"))
