"""`engine login` against an emulator that runs; the test plays the browser."""

import json
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


@pytest.fixture
def app(engine, platform, folder):
    """A public app that may renew its logins, named in config.toml: no secret is configured anywhere."""
    wish = {
        "name": "desk", "client_type": "public", "grant_types": ["authorization_code", "refresh_token"],
        "redirect_uris": ["http://127.0.0.1/callback"], "scopes": ["argus:jobs:read"],
    }  # fmt: skip
    answer = engine("call", "identity.create_app", json.dumps(wish))
    assert answer.exit_code == Exit.DONE, answer.stderr
    client_id = json.loads(answer.stdout)["client_id"]
    text = f'[platform]\nclient_id = "{client_id}"\nscopes = ["argus:jobs:read"]\n'
    (folder / "config.toml").write_text(text + f'[platform.emulator]\nurl = "{platform}"\n')
    return client_id


@pytest.fixture
def logged_in(app, begin, folder):
    """A login of that app, as it is kept."""
    process, url, _ = begin()
    assert _visit(url) == 200
    _, err = process.communicate(timeout=15)
    assert process.returncode == Exit.DONE, err
    return decode((folder / FILE).read_bytes(), dict)


def _keep(folder, kept) -> None:
    (folder / FILE).write_bytes(encode(kept))


def test_a_login_that_ended_is_renewed_in_silence(engine, logged_in, folder) -> None:
    """Its refresh token brings another token and the next refresh token, both kept as the first were."""
    _keep(folder, {**logged_in, "ends_s": 1.0})

    answer = engine("call", "jobs.list")
    kept = decode((folder / FILE).read_bytes(), dict)

    assert (answer.exit_code, answer.stderr) == (Exit.DONE, "")
    assert kept["token"] != logged_in["token"]
    assert kept["refresh"] not in (None, logged_in["refresh"])
    assert kept["ends_s"] > logged_in["ends_s"] - 60
    assert stat.S_IMODE((folder / FILE).stat().st_mode) == 0o600
    assert engine("call", "jobs.list").exit_code == Exit.DONE
    assert decode((folder / FILE).read_bytes(), dict) == kept


def test_a_login_that_lasts_is_not_renewed(engine, logged_in, folder) -> None:
    """The refresh token is good once, so it is not spent before its time."""
    assert engine("call", "jobs.list").exit_code == Exit.DONE
    assert decode((folder / FILE).read_bytes(), dict) == logged_in


def test_a_refresh_token_that_was_used_before_ends_the_login(engine, logged_in, folder) -> None:
    """The platform takes it for stolen: exit 4, and the next step is to log in again."""
    _keep(folder, {**logged_in, "ends_s": 1.0})
    assert engine("call", "jobs.list").exit_code == Exit.DONE
    _keep(folder, {**logged_in, "ends_s": 1.0})

    answer = engine("call", "jobs.list")

    assert answer.exit_code == Exit.CREDENTIALS
    assert "engine login again" in answer.stderr
    assert logged_in["refresh"] not in answer.stderr + answer.stdout


def test_two_processes_renew_a_login_once(spawn, engine, logged_in, folder) -> None:
    """One of them uses the refresh token, the other finds what that brought: neither is refused."""
    _keep(folder, {**logged_in, "ends_s": 1.0})

    processes = [spawn("call", "jobs.list") for _ in range(3)]
    told = [process.communicate(timeout=30) for process in processes]

    assert [process.returncode for process in processes] == [Exit.DONE] * 3, told
    assert engine("call", "jobs.list").exit_code == Exit.DONE


def test_the_live_profile_logs_in_where_the_settings_say(engine, platform, app, spawn, folder) -> None:
    """An emulator plays the live hosts: the login is made, used and renewed there, and a run's secret is not needed."""
    (folder / "config.toml").write_text(
        f'[platform]\nprofile = "live"\nclient_id = "{app}"\nscopes = ["argus:jobs:read"]\n'
        f'[platform.live]\nauth_url = "{platform}"\napi_url = "{platform}"\ndocs_url = "{platform}"\n'
        f'issuer = "{platform}"\n'
    )
    process = spawn("login", "--no-browser")
    assert _visit(process.stdout.readline().strip()) == 200
    _, err = process.communicate(timeout=15)
    assert process.returncode == Exit.DONE, err
    kept = decode((folder / FILE).read_bytes(), dict)

    first = engine("call", "jobs.list")
    _keep(folder, {**kept, "ends_s": 1.0})
    second = engine("call", "jobs.list")

    assert (first.exit_code, second.exit_code) == (Exit.DONE, Exit.DONE), first.stderr + second.stderr
    assert kept["auth_url"] == platform
    assert decode((folder / FILE).read_bytes(), dict)["refresh"] != kept["refresh"]
    assert engine("run", "people.toml").exit_code == Exit.CONFIGURATION


def test_nobody_at_the_live_profile_is_told_how(engine, platform, folder) -> None:
    """Neither a secret nor a login: exit 3, and both ways are named."""
    (folder / "config.toml").write_text('[platform]\nprofile = "live"\nclient_id = "app_x"\n')

    answer = engine("call", "jobs.list")

    assert answer.exit_code == Exit.CONFIGURATION
    assert "engine login" in answer.stderr
    assert "client_secret" in answer.stderr


def test_a_program_is_told_in_json(engine) -> None:
    """`--json`: whether there was a login to forget."""
    answer = engine("login", "--forget", "--json")

    assert (answer.exit_code, json.loads(answer.stdout)) == (0, {"is_forgotten": False})
