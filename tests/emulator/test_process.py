"""The emulator as a process: one line to say it is ready, and four ways to end."""

import json
import os
import signal
import subprocess
import sys
import urllib.request

import pytest

PROGRAM = """
import json, sys
from engine.emulator.process import ServeOptions, serve
from engine.emulator.server import Bind
from engine.emulator.state import Options
from engine.errors import EngineError
path, tied = json.loads(sys.argv[1])
try:
    sys.exit(serve(ServeOptions(options=Options(state_path=path), stop_on_stdin_eof=tied)))
except EngineError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def launch():
    """Start an emulator process; whatever still runs afterwards is killed by its id."""
    running = []

    def begin(path=None, *, tied=False):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps([path, tied])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process, process.stdout.readline()

    yield begin
    for process in running:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()


def _status(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.status


def test_one_line_says_it_is_ready(launch):
    """The line is JSON with addresses, credentials and process id, and both addresses answer."""
    process, line = launch()

    said = json.loads(line)

    assert said.keys() == {"url", "sandbox_url", "client_id", "client_secret", "pid"}
    assert said["pid"] == process.pid
    assert _status(said["url"] + "/.well-known/jwks.json") == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_good_order(launch, number):
    """SIGTERM and SIGINT end it with code 0 and not a word on stderr."""
    process, _ = launch()

    os.kill(process.pid, number)
    _, complaints = process.communicate(timeout=20)

    assert (process.returncode, complaints) == (0, "")


def test_it_dies_with_whoever_holds_its_stdin(launch):
    """When the parent is gone, however it went, stdin ends and so does the emulator."""
    process, _ = launch(tied=True)

    process.stdin.close()

    assert process.wait(timeout=20) == 0


def test_a_killed_emulator_leaves_a_state_to_go_on_with(launch, tmp_path):
    """After kill -9 the next one starts on the same file with the same keys (F14)."""
    path = str(tmp_path / "state.db")
    first, line = launch(path)
    with urllib.request.urlopen(json.loads(line)["url"] + "/.well-known/jwks.json", timeout=10) as answer:
        keys = answer.read()
    first.kill()
    first.wait(timeout=20)

    _, line = launch(path)

    with urllib.request.urlopen(json.loads(line)["url"] + "/.well-known/jwks.json", timeout=10) as answer:
        assert answer.read() == keys


def test_the_second_one_on_a_state_is_refused(launch, tmp_path):
    """It ends with an error that names the first one's process."""
    path = str(tmp_path / "state.db")
    first, _ = launch(path)

    second, line = launch(path)
    _, complaints = second.communicate(timeout=20)

    assert line == ""
    assert second.returncode != 0
    assert f"process {first.pid}" in complaints
    assert "state.busy" in complaints
