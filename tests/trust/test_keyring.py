"""The keyring: how seldom it asks, what it keeps, and what it does while nobody answers."""

import anyio
import pytest

from engine.clock import ManualClock
from engine.errors import (
    AlgorithmRefused,
    BadSignature,
    ConfigError,
    EngineError,
    MalformedToken,
    TrustError,
    UnknownKey,
)
from engine.transport.incoming import Outgoing
from engine.trust.keyring import Keyring, ttl_s

pytestmark = pytest.mark.anyio

ISSUER = "https://auth.example"
AUDIENCE = "https://api.example"
DAY_S = 86_400


class Recorder:
    def __init__(self) -> None:
        self.events = []

    def notice(self, event) -> None:
        self.events.append(event)


@pytest.fixture
def clock():
    return ManualClock(now_ns=1_778_241_600_000_000_000)


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def keyring(server, transport, clock, recorder):
    return Keyring(server.url + "/.well-known/jwks.json", transport, clock, observer=recorder)


def serving(document, **headers):
    return lambda _: Outgoing(headers={"Content-Type": "application/json"} | headers, body=document)


def failing(status=503):
    return lambda _: Outgoing(status=status)


async def check(keyring, token):
    return await keyring.verify(token, issuer=ISSUER, audience=AUDIENCE)


async def test_one_fetch_serves_many(server, keyring, issuer) -> None:
    """A hundred callers at a cold keyring cost one request."""
    server.answer = serving(issuer.jwks("k1"))
    token = issuer.token()

    async with anyio.create_task_group() as tasks:
        for _ in range(100):
            tasks.start_soon(check, keyring, token)

    assert len(server.seen) == 1
    assert (await keyring.key("k1")).kid == "k1"


@pytest.mark.parametrize(
    ("control", "expected"),
    [
        (None, 600), ("max-age=300", 300), ("public, max-age=300", 300), ("MAX-AGE = 300", 300), ("max-age=5", 60),
        ("max-age=0", 60), ("max-age=99999999999", DAY_S), ("no-store", 60), ("no-cache, max-age=900", 60),
        ("s-maxage=900", 600), ("max-age=-1", 600), ("max-age=soon", 600), ('max-age="120"', 120), ("", 600),
    ],
)  # fmt: skip
def test_a_set_is_fresh_for_as_long_as_it_says_within_reason(control, expected) -> None:
    """The TTL comes from Cache-Control, within a minute and a day, and is ten minutes where it says nothing."""
    assert ttl_s({} if control is None else {"cache-control": control}) == expected


async def test_it_asks_again_at_four_fifths_of_the_ttl(server, keyring, issuer, clock) -> None:
    """Before 80 % nobody asks, from then on one caller does, and a 304 makes the set fresh again."""
    document = issuer.jwks("k1")

    def answer(incoming):
        is_known = incoming.headers.get("if-none-match") == '"a"'
        return Outgoing(
            status=304 if is_known else 200,
            headers={"ETag": '"a"', "Cache-Control": "max-age=100"},
            body=None if is_known else document,
        )

    server.answer = answer
    await keyring.keys()
    clock.advance(79)
    await keyring.keys()
    assert len(server.seen) == 1
    for _ in range(2):
        clock.advance(80)
        assert (await check(keyring, issuer.token())).sub == "app_1"
    assert [seen.headers.get("if-none-match") for seen in server.seen] == [None, '"a"', '"a"']


async def test_t06_a_burst_of_unknown_names_costs_one_fetch(server, keyring, issuer, clock) -> None:
    """T06: however many unknown kids come, one fetch in 30 s is forced."""
    server.answer = serving(issuer.jwks("k1"))
    await keyring.keys()
    strangers = [issuer.token(header={"alg": "RS256", "kid": f"x{n}"}) for n in range(500)]

    for token in strangers:
        with pytest.raises(UnknownKey):
            await check(keyring, token)
    assert len(server.seen) == 2

    clock.advance(30)
    for token in strangers:
        with pytest.raises(UnknownKey):
            await check(keyring, token)
    assert len(server.seen) == 3


async def test_t06_an_unknown_name_is_remembered(server, keyring, issuer, clock) -> None:
    """T06: a name that was asked for in vain is not asked for again for five minutes."""
    server.answer = serving(issuer.jwks("k1"), **{"Cache-Control": "max-age=86400"})
    await keyring.keys()
    for _ in range(9):
        with pytest.raises(UnknownKey, match="no key named 'k9'"):
            await keyring.key("k9")
        clock.advance(31)
    assert len(server.seen) == 2
    clock.advance(31)
    with pytest.raises(UnknownKey):
        await keyring.key("k9")
    assert len(server.seen) == 3


async def test_the_memory_of_unknown_names_is_bounded(server, keyring, issuer, clock) -> None:
    """128 names are remembered, not more."""
    server.answer = serving(issuer.jwks("k1"), **{"Cache-Control": "max-age=86400"})
    await keyring.keys()
    for number in range(200):
        clock.advance(31)
        with pytest.raises(UnknownKey):
            await keyring.key(f"x{number}")

    assert len(keyring._unknown) == 128


async def test_a_new_key_is_found_at_once(server, keyring, issuer) -> None:
    """A token by a key that was published after our last look is good, without waiting for the TTL."""
    server.answer = serving(issuer.jwks("k1"))
    await keyring.keys()
    server.answer = serving(issuer.jwks("k1", "k2"))

    assert (await check(keyring, issuer.token(kid="k2"))).sub == "app_1"
    assert len(server.seen) == 2


async def test_t07_the_last_good_set_serves_for_a_day_of_outage(server, keyring, issuer, clock, recorder) -> None:
    """T07: with the issuer down, tokens stay good for 24 h past the TTL, loudly, and then are refused."""
    server.answer = serving(issuer.jwks("k1"))
    await keyring.keys()
    server.answer = failing()

    clock.advance(600)
    assert (await keyring.key("k1")).kid == "k1"
    assert [event.code for event in recorder.events] == ["trust.stale_keys"]
    asked = len(server.seen)
    await keyring.key("k1")
    assert len(server.seen) == asked
    clock.advance(DAY_S)
    with pytest.raises(TrustError, match="cannot be fetched again"):
        await keyring.key("k1")

    server.answer = serving(issuer.jwks("k1"))
    clock.advance(30)
    assert (await keyring.key("k1")).kid == "k1"


@pytest.mark.parametrize(
    "document", [b"<html>", b"{}", b'{"keys":[{"kty":"oct","k":"AA"}]}', b"[" * 9000, b" " * 70_000]
)
async def test_t07_a_broken_set_does_not_replace_a_good_one(server, keyring, issuer, clock, document) -> None:
    """T07: what is no key set, or too large for one, leaves the last good one in place."""
    server.answer = serving(issuer.jwks("k1"))
    await keyring.keys()
    server.answer = serving(document)
    clock.advance(500)

    assert (await keyring.key("k1")).kid == "k1"
    assert len(server.seen) == 2


async def test_t08_a_withdrawn_key_is_gone_with_the_next_set(server, keyring, issuer, clock) -> None:
    """T08: a refresh replaces the whole set, also for tokens that were proved before."""
    server.answer = serving(issuer.jwks("k1", "k2"))
    token = issuer.token(kid="k2")
    await check(keyring, token)
    server.answer = serving(issuer.jwks("k1"))
    clock.advance(500)
    await keyring.keys()

    with pytest.raises(UnknownKey):
        await check(keyring, token)


async def test_t09_redirects_are_not_followed(server, elsewhere, keyring, issuer) -> None:
    """T09: a key set that points elsewhere is no key set, and elsewhere hears nothing."""
    elsewhere.answer = serving(issuer.jwks("k1"))
    server.answer = lambda _: Outgoing(status=302, headers={"Location": elsewhere.url + "/jwks.json"})

    with pytest.raises(EngineError, match="expected status 200, found 302"):
        await keyring.keys()
    assert elsewhere.seen == []


@pytest.mark.parametrize(
    "url", ["http://auth.example/jwks", "file:///etc/passwd", "data:,x", "ftp://127.0.0.1/", "https:///x", "x"]
)
async def test_t09_keys_come_by_https_or_from_loopback(transport, clock, url) -> None:
    """T09: plain http from another machine, files and data are refused when the keyring is made."""
    with pytest.raises(ConfigError, match="keys are fetched by https"):
        Keyring(url, transport, clock)


async def test_t03_a_token_with_its_own_key_causes_no_fetch(server, elsewhere, keyring, issuer) -> None:
    """T03: jku, x5u and jwk are refused, and neither issuer nor the named host is asked."""
    server.answer = serving(issuer.jwks("k1"))
    await keyring.keys()
    for name in ("jku", "x5u", "jwk", "x5c"):
        token = issuer.token(header={"alg": "RS256", "kid": "other", name: elsewhere.url + "/jwks.json"})
        with pytest.raises(MalformedToken):
            await check(keyring, token)

    assert (len(server.seen), elsewhere.seen) == (1, [])


async def test_forged_tokens_cause_no_fetch(server, keyring, issuer) -> None:
    """What is refused for its form or signature never makes us ask the issuer."""
    server.answer = serving(issuer.jwks("k1"))
    await keyring.keys()
    with pytest.raises(AlgorithmRefused):
        await check(keyring, issuer.hmac_token(b"x"))
    with pytest.raises(BadSignature):
        await check(keyring, issuer.token().rpartition(".")[0] + ".AAAA")

    assert len(server.seen) == 1


async def test_a_cold_keyring_shares_its_failure_and_recovers(server, keyring, issuer) -> None:
    """Callers that waited for one failed fetch all get its error; the next call asks again."""
    server.answer = failing()
    outcomes = []

    async def look() -> None:
        try:
            await keyring.keys()
        except EngineError as exc:
            outcomes.append(exc)

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(look)
    assert (len(outcomes), len(server.seen)) == (20, 1)

    server.answer = serving(issuer.jwks("k1"))
    assert list(await keyring.keys()) == ["k1"]


async def test_a_cancelled_fetch_is_taken_over(server, keyring, issuer) -> None:
    """When the caller that fetches gives up, the next in line fetches instead of waiting for ever."""
    server.answer = serving(issuer.jwks("k1"))
    found = []

    async def look() -> None:
        found.append(await keyring.keys())

    async with anyio.create_task_group() as tasks:
        leader = anyio.CancelScope()

        async def lead() -> None:
            with leader:
                await keyring.keys()

        tasks.start_soon(lead)
        tasks.start_soon(look)
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        leader.cancel()

    assert [list(keys) for keys in found] == [["k1"]]
