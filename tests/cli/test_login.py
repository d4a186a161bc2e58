"""`engine login` against an emulator that runs; the test plays the browser."""

import re
import stat
import sys
import urllib.error
import urllib.request
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from engine.codec.payload import decode, encode
from engine.errors import Exit

FILE = ".engine/login.json"


@pytest.fixture
def platform(spawn, folder):
    """An emulator as a process, named in config.toml; its URL."""
    serving = spawn("emulator")
    url = decode(serving.stdout.readline().encode(), dict)["url"]
    (folder / "config.toml").write_text(f'[platform.emulator]\nurl = "{url}"\n')
    return url


@pytest.fixture
def begin(spawn, platform):
    """Begin a login; answers the process and the members of the URL that it printed, with the URL."""

    def start(*words: str):
        process = spawn("login", "--no-browser", *words)
        url = process.stdout.readline().strip()
        members = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        return process, url, members

    return start


def _visit(url: str) -> int:
    """Open a URL as a browser does, redirects followed; the last status."""
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.status
    except urllib.error.HTTPError as refused:
        return refused.code


def _return(members, **answer) -> int:
    return _visit(f"{members['redirect_uri']}?{urlencode(answer)}")


def test_a_person_logs_in_and_calls(engine, begin, folder) -> None:
    """Following the URL gives a token that only its owner can read, that no stream shows, and that call uses."""
    process, url, members = begin()

    assert members["code_challenge_method"] == "S256"
    assert _visit(url) == 200
    out, err = process.communicate(timeout=15)
    kept = decode((folder / FILE).read_bytes(), dict)

    assert process.returncode == Exit.DONE, err
    assert stat.S_IMODE((folder / FILE).stat().st_mode) == 0o600
    assert kept["token"] not in out + err
    assert engine("call", "jobs.list").exit_code == Exit.DONE
    (folder / FILE).write_bytes(encode({**kept, "token": kept["token"][:-8] + "AAAAAAAA"}))
    assert engine("call", "jobs.list").exit_code == Exit.CREDENTIALS


def test_a_login_that_is_over_is_said_and_forgotten(engine, platform, folder) -> None:
    """An expired login ends call with exit 4 and the next step; --forget removes it."""
    (folder / ".engine").mkdir()
    (folder / FILE).write_bytes(encode({"auth_url": platform, "client_id": "app_local", "token": "x", "ends_s": 1.0}))

    answer = engine("call", "jobs.list")

    assert answer.exit_code == Exit.CREDENTIALS
    assert "engine login again" in answer.stderr
    assert engine("login", "--forget").exit_code == Exit.DONE
    assert not (folder / FILE).exists()


def test_another_state_is_refused(begin, folder) -> None:
    """An answer with a wrong state gets 400 and changes nothing; the right one still logs in."""
    process, url, members = begin()

    assert _return(members, state="guessed", code="stolen") == 400
    assert _return(members, code="stolen") == 400
    assert not (folder / FILE).exists()
    assert _visit(url) == 200
    process.communicate(timeout=15)
    assert process.returncode == Exit.DONE


@pytest.mark.parametrize(
    ("error", "code"), [("access_denied", Exit.CREDENTIALS), ("temporarily_unavailable", Exit.REMOTE)]
)
def test_a_refusal_is_said_plainly(begin, folder, error, code) -> None:
    """What the platform answered is named, with the exit code of who must act, and nothing is kept."""
    process, _, members = begin()

    assert _return(members, state=members["state"], error=error) == 200
    _, err = process.communicate(timeout=15)

    assert (process.returncode, error in err) == (code, True)
    assert not (folder / FILE).exists()


def test_another_issuer_is_refused(begin, folder) -> None:
    """A code that another server hands out is not redeemed."""
    process, _, members = begin()

    _return(members, state=members["state"], code="any", iss="https://other.example")
    process.communicate(timeout=15)

    assert process.returncode == Exit.CREDENTIALS
    assert not (folder / FILE).exists()


def test_nobody_answers(begin, folder) -> None:
    """The wait is bounded, and says so."""
    process, _, _ = begin("--wait", "0.3")

    _, err = process.communicate(timeout=15)

    assert process.returncode == Exit.REMOTE
    assert re.search(r"nobody answered the login within 0\.3 s", err)
    assert not (folder / FILE).exists()


def test_the_browser_is_opened(spawn, platform, folder, monkeypatch) -> None:
    """Without --no-browser the user's browser gets the URL, stdout stays empty, and the login is kept."""
    (folder / "browser.py").write_text("import sys, urllib.request\nurllib.request.urlopen(sys.argv[1]).read()\n")
    monkeypatch.setenv("BROWSER", f"{sys.executable} {folder / 'browser.py'} %s")

    process = spawn("login")
    out, err = process.communicate(timeout=15)

    assert (process.returncode, out) == (Exit.DONE, ""), err
    assert (folder / FILE).exists()
