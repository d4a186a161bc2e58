"""The fault script: read strictly, played by seed, counted."""

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.clock import ManualClock
from engine.emulator.faults import POINTS, Faults
from engine.errors import ConfigError

FORM = {"grant_type": "client_credentials", "client_id": "app_local", "client_secret": "emulator-secret"}


def _strikes(rule, times, **found):
    faults = Faults([rule], seed=7)
    return [number for number in range(1, times + 1) if faults.strike(rule["at"], **found)]


@pytest.mark.parametrize(
    ("choice", "struck"),
    [
        ({}, [1, 2, 3, 4, 5, 6]),
        ({"first": 2}, [1, 2]),
        ({"every": 3}, [3, 6]),
        ({"after": 4}, [5, 6]),
        ({"after": 1, "first": 2}, [2, 3]),
        ({"count": 1}, [1]),
        ({"every": 2, "count": 2}, [2, 4]),
        ({"probability": 0}, []),
        ({"probability": 1}, [1, 2, 3, 4, 5, 6]),
    ],
    ids=str,
)
def test_a_rule_strikes_as_often_as_it_says(choice, struck):
    """First, every, after, count and probability mean what they say."""
    assert _strikes({"at": "request", "status": 503, **choice}, 6) == struck


@pytest.mark.parametrize(
    ("choice", "strikes"),
    [
        ({"route": "jobs.create"}, True),
        ({"route": "jobs.*"}, True),
        ({"route": "jobs.get"}, False),
        ({"kind": "import.bulk"}, True),
        ({"kind": "export.bulk"}, False),
        ({"subject": "01H*"}, True),
        ({"route": "jobs.create", "kind": "export.bulk"}, False),
    ],
    ids=str,
)
def test_a_rule_strikes_whom_it_means(choice, strikes):
    """Route, kind and subject all have to match; a star matches anything."""
    found = {"route": "jobs.create", "kind": "import.bulk", "subject": "01HFXY"}

    assert bool(_strikes({"at": "request", "status": 503, **choice}, 1, **found)) is strikes


@given(st.integers(), st.integers(min_value=0, max_value=200))
def test_the_same_seed_plays_the_same(seed, times):
    """Chance depends on the seed alone."""
    rule = {"at": "callback", "lose": True, "probability": 0.3}
    one, two = Faults([rule], seed=seed), Faults([rule], seed=seed)

    assert [bool(one.strike("callback")) for _ in range(times)] == [bool(two.strike("callback")) for _ in range(times)]


def test_chance_is_about_as_often_as_it_says():
    """A probability of 0.3 strikes about 300 times in 1000."""
    assert 240 <= len(_strikes({"at": "callback", "lose": True, "probability": 0.3}, 1000)) <= 360


def test_the_first_rule_that_is_due_strikes():
    """Rules are tried in the order of the script, and one request meets one fault."""
    faults = Faults([{"at": "request", "status": 500, "first": 1}, {"at": "request", "status": 503}])

    assert [faults.strike("request").count("status") for _ in range(3)] == [500, 503, 503]


def test_a_delay_has_units_and_spread():
    """Delays are seconds or durations; the spread stays within its bounds and repeats."""
    faults = Faults([{"at": "request", "delay": "200ms", "spread": 0.5}, {"at": "response", "delay": 3}], seed=1)

    delays = [faults.strike("request").delay_s(faults) for _ in range(50)]

    assert faults.strike("response").delay_s(faults) == 3
    assert all(0.1 <= delay <= 0.3 for delay in delays)
    assert len(set(delays)) > 40


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("[[fault]]\nat = 'nowhere'", "fault[1].at"),
        ("[[fault]]\nstatus = 503", "fault[1].at"),
        ("[[fault]]\nat = 'request'\nstatsu = 503", "fault[1].statsu"),
        ("[[fault]]\nat = 'request'\nttl = 3", "fault[1].ttl"),
        ("[[fault]]\nat = 'request'\n[[fault]]\nat = 'request'\nstatus = '503'", "fault[2].status"),
        ("[[fault]]\nat = 'request'\nstatus = true", "fault[1].status"),
        ("[[fault]]\nat = 'request'\nstatus = 99", "fault[1].status"),
        ("[[fault]]\nat = 'request'\ndelay = '5 parsecs'", "fault[1].delay"),
        ("[[fault]]\nat = 'request'\ndelay = -1", "fault[1].delay"),
        ("[[fault]]\nat = 'request'\nprobability = 2", "fault[1].probability"),
        ("[[fault]]\nat = 'request'\nevery = 0", "fault[1].every"),
        ("[[fault]]\nat = 'request'\nevery = 2\nfirst = 3", "fault[1].first"),
        ("[[faults]]\nat = 'request'", "faults"),
        ("fault = 3", "fault"),
        ("seed = 'x'", "seed"),
        ("not toml", "not TOML"),
    ],
)
def test_a_wrong_script_is_refused_with_file_and_key(tmp_path, script, said):
    """Every mistake names the file and the place."""
    path = tmp_path / "flaky.toml"
    path.write_text(script)

    with pytest.raises(ConfigError) as caught:
        Faults.load(str(path))

    assert str(path) in caught.value.message
    assert said in caught.value.message


def test_a_script_that_is_not_there_is_an_error(tmp_path):
    """A missing file is told, not ignored."""
    with pytest.raises(ConfigError, match="cannot be read"):
        Faults.load(str(tmp_path / "none.toml"))


def test_a_script_may_bring_its_own_seed(tmp_path):
    """`seed` in the script wins, so that a script plays the same wherever it is started."""
    path = tmp_path / "flaky.toml"
    path.write_text("seed = 5\n[[fault]]\nat = 'callback'\nlose = true\nprobability = 0.5\n")

    played = [
        [bool(faults.strike("callback")) for _ in range(64)]
        for faults in (Faults.load(str(path), 1), Faults.load(str(path), 2))
    ]

    assert played[0] == played[1]


def test_no_script_is_peace():
    """Without a script nothing strikes anywhere."""
    assert not any(Faults.load(None).strike(point) for point in POINTS)


@pytest.mark.anyio
async def test_a_refused_request_had_no_effect(start):
    """A fault before the effect answers with its status and wait, and nothing was done."""
    faults = Faults([{"at": "request", "route": "identity.create_app", "status": 429, "retry_after": 7}])
    _, api = await start(faults=faults)
    token = await api.token()

    answer = await api.send(
        "POST", "/v1/platform/apps", token=token, json={"name": "x", "grant_types": ["client_credentials"]}
    )
    listed = await api.send("GET", "/v1/platform/apps", token=token)

    assert answer.status == 429
    assert answer.headers["Retry-After"] == "7"
    assert listed.json["total_count"] == 1


@pytest.mark.anyio
@pytest.mark.parametrize(("point", "apps"), [("request", 1), ("response", 2)])
async def test_a_dropped_connection_before_and_after_the_effect(start, point, apps):
    """Dropped before, nothing was done; dropped after, it was, and nobody was told."""
    _, api = await start(faults=Faults([{"at": point, "route": "identity.create_app", "drop": True}]))
    token = await api.token()

    with pytest.raises(aiohttp.ClientError):
        await api.send(
            "POST", "/v1/platform/apps", token=token, json={"name": "x", "grant_types": ["client_credentials"]}
        )

    assert (await api.send("GET", "/v1/platform/apps", token=token)).json["total_count"] == apps


@pytest.mark.anyio
async def test_tokens_can_be_short_or_refused(start):
    """The token point shortens a token's life, then refuses to give one."""
    clock = ManualClock()
    faults = Faults([{"at": "token", "ttl": 5, "first": 1}, {"at": "token", "status": 503, "retry_after": 2}])
    _, api = await start(faults=faults, clock=clock)

    short = await api.send("POST", "/v1/oauth/token", data=FORM)
    refused = await api.send("POST", "/v1/oauth/token", data=FORM)
    clock.advance(5)
    late = await api.send("GET", "/v1/platform/scopes", token=short.json["access_token"])

    assert short.json["expires_in"] == 5
    assert (refused.status, refused.headers["Retry-After"]) == (503, "2")
    assert late.status == 401


@pytest.mark.anyio
async def test_a_skewed_clock_gives_tokens_of_another_time(start):
    """A token issued by a clock that is ahead is not valid yet."""
    _, api = await start(faults=Faults([{"at": "token", "skew": 300}]))

    answer = await api.send("GET", "/v1/platform/scopes", token=await api.token())

    assert answer.json["reason"] == "trust.not_yet_valid"


@pytest.mark.anyio
async def test_the_tally_says_what_struck(start):
    """Each rule is listed with how often it matched and struck."""
    rule = {"at": "request", "route": "identity.scopes", "status": 503, "every": 2}
    _, api = await start(faults=Faults([rule]))
    token = await api.token()
    statuses = [(await api.send("GET", "/v1/platform/scopes", token=token)).status for _ in range(4)]

    tally = (await api.send("GET", "/__emulator/faults")).json

    assert statuses == [200, 503, 200, 503]
    assert tally == {"faults": [{"rule": 1, **rule, "matched": 4, "struck": 2}]}
