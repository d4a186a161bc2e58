"""`engine doctor`: what is well and what is not around a run, each with the next step and an exit code."""

import json
import socket

import msgspec
import pytest

from engine.cli.doctor import examine
from engine.cli.probes import _clock as clock_of
from engine.cli.probes import probe_callback, probe_directory, probe_keys, probe_rights, probe_token
from engine.cli.rates import quota_of, said
from engine.client.client import Access, Client
from engine.clock import SystemClock
from engine.contract.sandbox import MINT
from engine.emulator.faults import Faults
from engine.emulator.server import Emulator
from engine.errors import Exit
from engine.pipeline.spec import CallbackSpec
from engine.settings import EmulatorSettings, Platform, Secret, Settings
from engine.transport.incoming import Incoming, Outgoing
from engine.transport.listener import Listener
from engine.transport.pooled import PooledTransport
from engine.trust.bearer import Claims

ALL = [
    "state", "state room", "sink people", "sink people room", "auth dns", "auth tls", "jwks", "clock", "token",
    "rights", "rates",
]  # fmt: skip


_SET = 'platform.limits.requests = "40/m"'


def _checks(answer) -> dict[str, dict]:
    return {check["name"]: check for check in json.loads(answer.stdout)["checks"]}


def test_all_is_well_on_an_emulator(engine) -> None:
    """Each thing a run needs is looked at and found well: exit 0, and the words say what was found."""
    answer = engine("doctor", "people.toml", "--json")

    checks = _checks(answer)
    assert (answer.exit_code, list(checks)) == (0, ALL)
    assert {check["verdict"] for check in checks.values()} == {"ok"}
    assert checks["token"]["found"].startswith("of app_local, proven")
    assert "argus:jobs:write" in checks["rights"]["found"]


def test_a_user_reads_what_to_do_next(engine) -> None:
    """A failure is a line with FAIL and a line with the next step; what stands on it is skipped, not failed."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        answer = engine("--set", f"platform.emulator.url={url}", "doctor")

    lines = answer.stdout.splitlines()
    assert answer.exit_code == Exit.REMOTE
    assert [line[:4] for line in lines if line[:4].strip()] == ["OK  "] * 3 + ["FAIL"] * 2 + ["skip"] * 4
    assert sum("next: " in line for line in lines) == 2


@pytest.mark.parametrize(
    ("fault", "bad", "skipped", "code"),
    [
        ({"at": "token", "status": 401}, "token", ["rights", "rates"], Exit.CREDENTIALS),
        ({"at": "token", "skew": 7200}, "token", ["rights", "rates"], Exit.CREDENTIALS),
        ({"at": "jwks", "garbage": True}, "jwks", ["clock", "token", "rights", "rates"], Exit.CREDENTIALS),
        ({"at": "jwks", "status": 503}, "jwks", ["clock", "token", "rights", "rates"], Exit.REMOTE),
        ({"at": "request", "route": "jobs.list", "status": 429, "retry_after": 7}, "rates", [], Exit.REMOTE),
    ],
)
@pytest.mark.anyio
async def test_each_illness_has_its_name(fault, bad, skipped, code) -> None:
    """A token that is refused or proves nothing, a key set that is none: that check fails, what needs it is skipped."""
    async with Emulator(faults=Faults([fault])) as emulator:
        place = Platform(emulator=EmulatorSettings(url=emulator.base_url))
        checks = await examine(Settings(platform=place), [])

    assert [check.name for check in checks if check.verdict == "fail"] == [bad]
    assert [check.name for check in checks if check.verdict == "skip"] == skipped
    assert next(check.exit for check in checks if check.verdict == "fail") == code
    assert all(check.hint for check in checks if check.verdict == "fail")


def test_rights_are_those_that_the_pipelines_need() -> None:
    """Any one scope of a route is enough; a route without one is named with what it needs."""
    claims = Claims(iss="i", aud=["a"], exp=0, scope=("argus:jobs:read",))
    needs = {"jobs.get": ("argus:jobs:read", "x"), "jobs.create": ("argus:jobs:write",), "open": ()}

    bad = probe_rights(claims, needs.items())

    assert (bad.verdict, bad.found, bad.exit) == ("fail", "jobs.create needs argus:jobs:write", Exit.CREDENTIALS)
    assert probe_rights(claims, [("jobs.get", ("argus:jobs:read",))]).verdict == "ok"
    assert probe_rights(None, needs.items()).verdict == "skip"


@pytest.mark.parametrize(
    ("ours_s", "verdict", "found"),
    [
        (1_767_225_600.4, "ok", "within a second"),
        (1_767_225_620.5, "ok", "ours is 20 s ahead"),
        (1_767_225_300.5, "fail", "ours is 300 s behind"),
    ],
)
def test_a_clock_that_is_off_is_found(ours_s, verdict, found) -> None:
    """Our clock against the date of an answer; beyond the leeway of tokens it is a failure."""
    check = clock_of("Thu, 01 Jan 2026 00:00:00 GMT", ours_s)

    assert (check.verdict, check.found) == (verdict, found)
    assert clock_of("yesterday", ours_s).verdict == "skip"


def test_directories_that_take_nothing_are_found(tmp_path) -> None:
    """A file where a directory should be fails, and its room is skipped; a place that is not there yet is well."""
    (tmp_path / "file").write_text("")

    bad, room = probe_directory("sink", tmp_path / "file" / "out")
    well, free = probe_directory("sink", tmp_path / "new" / "out")

    assert (bad.verdict, bad.exit, room.verdict) == ("fail", Exit.OUTPUT, "skip")
    assert (well.verdict, free.verdict) == ("ok", "ok")
    assert "made by the first run" in well.found
    assert not (tmp_path / "new").exists()


@pytest.mark.anyio
async def test_the_callback_url_must_lead_here() -> None:
    """A request to the public URL has to arrive at `listen`: it does, another answers in its place, nobody does."""
    pool = PooledTransport(concurrency=2)

    async def elsewhere(_: Incoming) -> Outgoing:
        return Outgoing(status=404)

    other = Listener(elsewhere)
    await other.start()
    # After the other one has its port, or it could be given this one.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        here = f"127.0.0.1:{free.getsockname()[1]}"
    try:
        leads = await probe_callback(CallbackSpec(listen=here, public_url=f"http://{here}/x"), "p", "emulator", pool)
        strays = await probe_callback(CallbackSpec(listen=here, public_url=other.origin), "p", "emulator", pool)
        alone = await probe_callback(CallbackSpec(), "p", "emulator", pool)
    finally:
        await other.aclose()
    nobody = await probe_callback(CallbackSpec(public_url=other.origin), "p", "emulator", pool)
    lacks = await probe_callback(CallbackSpec(secrets=(Secret("s"),)), "p", "live", pool)
    await pool.aclose()

    assert [leads.verdict, strays.verdict, alone.verdict, nobody.verdict, lacks.verdict] == [
        "ok", "fail", "ok", "fail", "fail"
    ]  # fmt: skip
    assert "answers 404, but the request did not come" in strays.found
    assert (nobody.exit, lacks.exit) == (Exit.REMOTE, Exit.CONFIGURATION)


def test_a_pipeline_without_a_platform_needs_none(engine, folder) -> None:
    """Where rows only pass, no emulator is started and no host looked at."""
    text = (folder / "people.toml").read_text()
    (folder / "people.toml").write_text(text.replace('[job]\nkind = "import.bulk"\nbatch = { rows = 10 }\n', ""))

    answer = engine("doctor", "people.toml", "--json")

    assert (answer.exit_code, list(_checks(answer))[-1]) == (0, "platform")
    assert not (folder / ".engine").exists()


@pytest.mark.anyio
@pytest.mark.parametrize("is_given", [True, False], ids=["given", "minted"])
async def test_a_sandbox_token_is_proven_too(is_given) -> None:
    """One that an administrator gave, or one that the app's own credentials mint: for the sandbox, and proven."""
    pool = PooledTransport(concurrency=2)
    async with Emulator() as emulator:
        access = Access(
            auth_url=emulator.base_url,
            api_url=emulator.sandbox_url,
            issuer=emulator.base_url,
            client_id=emulator.client_id,
            client_secret=Secret(emulator.client_secret),
            is_sandbox=True,
        )
        checks, keyring = await probe_keys(access, pool)
        if is_given:
            live = msgspec.structs.replace(access, api_url=emulator.base_url, is_sandbox=False, scopes=MINT.scopes)
            client = Client(pool, live, clock=SystemClock(), keyring=keyring)
            minted = await client.answered(MINT.name, {"client_id": emulator.client_id})
            access = msgspec.structs.replace(access, sandbox_token=Secret(minted.answer.token), client_id=None)
        check, claims = await probe_token(access, pool, keyring)
    await pool.aclose()

    assert {one.verdict for one in checks} == {"ok"}
    assert (check.verdict, claims.aud) == ("ok", ["sandbox"])


@pytest.mark.parametrize(
    ("headers", "ours", "words"),
    [
        ({}, None, "the platform names no limit; our ceiling is none"),
        (
            {"ratelimit": '"default";r=50;t=30', "ratelimit-policy": '"default";q=100;w=60'}, 1.5,
            "the platform allows 100 requests in 60 s, 50 left for the next 30 s; our ceiling is 1.5/s",
        ),
        (
            {"ratelimit-policy": '"burst";q=6;w=9'}, 1.0,
            "the platform allows 6 requests in 9 s; our ceiling is 1/s, which is more: set " + _SET,
        ),
        (
            {"ratelimit-limit": "100, 100;w=10", "ratelimit-remaining": "7", "ratelimit-reset": "3"}, 10.0,
            "the platform allows 100 requests in 10 s, 7 left for the next 3 s; our ceiling is 10/s",
        ),
        ({"ratelimit": "limit=10, remaining=1, reset=2"}, 5.0,
         "the platform allows 10 requests, 1 left for the next 2 s; our ceiling is 5/s"),
        ({"x-ratelimit-limit": "9", "x-ratelimit-reset": "4"}, 5.0,
         "the platform allows 9 requests, counted anew in 4 s; our ceiling is 5/s"),
        ({"ratelimit": "r=x", "ratelimit-limit": "many"}, None, "the platform names no limit; our ceiling is none"),
    ],
)  # fmt: skip
def test_the_platforms_limits_stand_beside_ours(headers, ours, words) -> None:
    """In each form in which servers say them, with the value to set where ours is more."""
    assert said(quota_of(headers), ours) == words


def test_a_token_that_may_not_ask_is_no_failure(engine) -> None:
    """Without the right to list jobs the rates are not looked at, and it says why."""
    answer = engine("--set", 'platform.scopes=["argus:devices:read"]', "doctor", "--json")

    rates = _checks(answer)["rates"]
    assert (rates["verdict"], rates["found"]) == ("skip", "the token may not ask jobs.list, which costs nothing")
