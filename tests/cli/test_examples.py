"""Examples of help texts that need something of their own: a server to be stopped, a delivery, a token, a dead job."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from engine.codec.payload import encode
from engine.contract.keys import KeySet
from engine.settings import Secret
from engine.trust.minting import SigningKey
from engine.trust.webhook import sign
from tests.cli.test_help import COMMANDS, UNPLAYABLE, _example

# Played by a function of this file, by the words of the example.
PLAYED = (
    "docs build", "docs serve", "emulator", "verify webhook", "verify token", "token verify", "jobs reattach",
    "contract diff",
)  # fmt: skip


def test_each_example_is_played_somewhere() -> None:
    """What tests/cli/test_help.py leaves out is played here, by a test that it names, or waits for a person."""
    left = {name for name, command in COMMANDS.items() if _example(command) in UNPLAYABLE}

    assert left - set(PLAYED) == {"login", "run", "tap"}
    assert set(PLAYED) <= left


def _words(name: str) -> list[str]:
    return shlex.split(_example(COMMANDS[name]))[1:]


@pytest.mark.parametrize("name", ["emulator", "docs serve"])
def test_a_server_serves_until_it_is_stopped(spawn, name) -> None:
    """It says where on its first line, answers there, and Ctrl-C ends it; the port is any free one."""
    words = ["0" if word == "4380" else word for word in _words(name)]
    process = spawn(*words)

    first = process.stdout.readline()
    url = json.loads(first)["url"] + "/.well-known/jwks.json" if name == "emulator" else first.strip()
    with urllib.request.urlopen(url, timeout=20) as answer:
        assert answer.status == 200
    process.send_signal(2)
    process.communicate(timeout=60)
    assert process.returncode in (0, 130)


def test_the_site_is_built(engine, folder) -> None:
    """As typed, and as JSON."""
    assert engine(*_words("docs build")).exit_code == 0
    told = json.loads(engine("docs", "build", "again", "--json").stdout)
    pages = {path.name for path in (folder / "site").glob("*.html")} - {"index.html"}
    assert told == {"directory": "again", "pages": len(pages)}


def test_a_delivery_is_proven(engine) -> None:
    """A callback as it was saved."""
    body, secret = b'{"id":"j","status":"succeeded"}', Secret("test-partner-secret")
    Path("body.json").write_bytes(body)
    Path("secret.txt").write_text(secret.reveal())
    Path("headers.txt").write_text(f"X-Argus-Signature: {sign(body, secret)}\nX-Argus-Job-ID: j\n")

    assert engine(*_words("verify webhook")).exit_code == 0


def test_a_token_is_proven_with_a_saved_key_set(engine) -> None:
    """One of the issuer that is trusted without a word, for the audience of the example."""
    key, now_s = SigningKey.generate("key-1"), int(time.time())
    claims = {
        "iss": "https://auth.knogin.com", "aud": "sandbox", "sub": "a", "client_id": "a", "tenant_id": "t",
        "organization_id": "o", "scope": "argus:jobs:read", "iat": now_s, "exp": now_s + 600, "jti": "j",
    }  # fmt: skip
    Path("jwks.json").write_bytes(encode(KeySet([key.public_jwk()])))
    Path("token.txt").write_text(key.sign(claims, typ="at+jwt"))

    answer = engine(*_words("verify token"))

    assert answer.exit_code == 0, answer.output


def test_with_an_emulator_that_stays(engine, spawn, monkeypatch) -> None:
    """A sandbox token that it minted is proven with its keys, and its OpenAPI document is what the engine speaks."""
    process = spawn("emulator", "--port", "0")
    monkeypatch.setenv("ENGINE__PLATFORM__EMULATOR__URL", json.loads(process.stdout.readline())["url"])
    minted = json.loads(engine("call", "sandbox.token", '{"client_id": "app_local"}').stdout)
    Path("token.txt").write_text(minted["token"])

    assert engine(*_words("token verify")).exit_code == 0

    command = _example(COMMANDS["contract diff"]).replace("engine ", f"{shlex.quote(sys.executable)} -m engine ")
    piped = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, timeout=100)
    assert piped.returncode == 0, piped.stdout + piped.stderr


def test_a_dead_job_is_taken_back(engine, spawn, folder) -> None:
    """Its rows are dead letters no more, and the next run brings them; the answer is JSON where it is asked for."""
    (folder / "faults.toml").write_text(
        '[[fault]]\nat = "job.outcome"\nstatus = "failed"\nretryable = false\ncount = 2\n'
    )
    spawn("--set", "platform.emulator.faults=faults.toml", "run", "people.toml", "-q").communicate(timeout=100)
    dead = [
        json.loads(line) for line in engine("jobs", "ls", "people", "--state", "dead", "--json").stdout.splitlines()
    ]
    assert len(dead) == 2

    for job, more in zip(sorted(job["seq"] for job in dead), ((), ("--json",)), strict=True):
        words = [str(job) if word == "1" else word for word in _words("jobs reattach")]
        answer = engine(*words, *more)
        assert answer.exit_code == 0, answer.output
        assert not more or json.loads(answer.stdout)
