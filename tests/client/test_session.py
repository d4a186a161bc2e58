"""The session: one token for everybody, before it is needed, and only one that proves what it should."""

import anyio
import pytest

from engine.client.client import Access, Client
from engine.errors import (
    AlgorithmRefused,
    BadSignature,
    BrokenAnswer,
    ConfigError,
    Exit,
    ExpiredToken,
    NotYetValid,
    Refused,
    TrustError,
    Unavailable,
    UnknownKey,
    WrongAudience,
    WrongIssuer,
)
from engine.settings import Secret
from engine.transport.incoming import Outgoing
from engine.trust.keyring import Keyring
from engine.trust.minting import SigningKey

pytestmark = pytest.mark.anyio

TOKEN = "POST /v1/oauth/token"
JOB = "GET /v1/jobs/j1"


@pytest.fixture(autouse=True)
def job(platform, answer_json, clock):
    platform.now_s = lambda: clock.now_ns() // 10**9
    platform.script[JOB] = answer_json({"id": "j1", "kind": "k", "status": "running"})


async def settled(check) -> None:
    with anyio.fail_after(5):
        while not check():
            await anyio.lowlevel.checkpoint()


async def ticking(clock, task) -> None:
    """Let time pass for whoever waits for it, until the task is done."""
    async with anyio.create_task_group() as tasks:
        done = anyio.Event()

        async def run() -> None:
            try:
                await task
            finally:
                done.set()

        tasks.start_soon(run)
        with anyio.fail_after(10):
            while not done.is_set():
                clock.advance(1)
                await anyio.lowlevel.checkpoint()


async def test_many_callers_cost_one_token(platform, scripted) -> None:
    """However many calls wait for a token, one request fetches it."""
    async with anyio.create_task_group() as tasks:
        for _ in range(30):
            tasks.start_soon(scripted.jobs.get, "j1")

    assert (len(platform.asked(TOKEN)), len(platform.asked(JOB))) == (1, 30)
    assert b"scope=argus%3Ajobs%3Aread" in platform.asked(TOKEN)[0].body


async def test_a_token_is_renewed_at_four_fifths_of_its_life(platform, scripted, clock) -> None:
    """An hour's token is used for 48 minutes; the next one comes before the old one ends."""
    await scripted.jobs.get("j1")
    clock.advance(2879)
    await scripted.jobs.get("j1")
    assert len(platform.asked(TOKEN)) == 1
    clock.advance(2)
    await scripted.jobs.get("j1")
    assert len(platform.asked(TOKEN)) == 2


async def test_a_mint_that_fails_is_not_noticed_while_the_old_token_lives(platform, scripted, clock) -> None:
    """Between 80 % and the end the old token serves on, and the mint is asked again every ten seconds."""
    await scripted.jobs.get("j1")
    platform.script[TOKEN] = Outgoing(status=401)
    clock.advance(2900)
    for _ in range(3):
        await scripted.jobs.get("j1")
    assert len(platform.asked(TOKEN)) == 2
    clock.advance(10)
    await scripted.jobs.get("j1")
    assert len(platform.asked(TOKEN)) == 3
    clock.advance(700)
    with pytest.raises(Refused):
        await scripted.jobs.get("j1")


async def test_a_refused_token_is_replaced_once(platform, scripted, answer_json) -> None:
    """After a 401 the call is sent again with a fresh token; a second 401 is the answer."""
    good = platform.script[JOB]
    platform.script[JOB] = [Outgoing(status=401), good]
    assert (await scripted.jobs.get("j1")).status == 200
    first, second = (seen.headers["authorization"] for seen in platform.asked(JOB))
    assert first != second

    platform.script[JOB] = Outgoing(status=401)
    with pytest.raises(Refused) as caught:
        await scripted.jobs.get("j1")
    assert (caught.value.status, caught.value.exit_code) == (401, Exit.CREDENTIALS)
    assert len(platform.asked(JOB)) == 4


async def test_many_refused_callers_cost_one_fresh_token(platform, scripted) -> None:
    """A token that is revoked under thirty calls is replaced once, not thirty times."""
    good = platform.script[JOB]
    await scripted.jobs.get("j1")
    revoked = platform.asked(JOB)[0].headers["authorization"]
    platform.script[JOB] = lambda seen: Outgoing(status=401) if seen.headers["authorization"] == revoked else good

    async with anyio.create_task_group() as tasks:
        for _ in range(30):
            tasks.start_soon(scripted.jobs.get, "j1")

    assert len(platform.asked(TOKEN)) == 2


@pytest.mark.parametrize(
    ("claims", "error"),
    [
        ({"iss": "https://evil.example"}, WrongIssuer), ({"aud": "sandbox"}, WrongAudience), ({"exp": 1}, ExpiredToken),
        ({"nbf": 9_000_000_000}, NotYetValid), ({"exp": "soon"}, TrustError),
    ],
)  # fmt: skip
async def test_t44_a_token_that_proves_something_else_is_never_shown(platform, scripted, claims, error) -> None:
    """T44: a token of another issuer or audience, or out of its time, ends the run before a request is made."""
    platform.script[TOKEN] = platform.token_answer(**claims)

    with pytest.raises(error) as caught:
        await scripted.jobs.get("j1")
    assert caught.value.exit_code == Exit.CREDENTIALS
    assert platform.asked(JOB) == []
    if error in (ExpiredToken, NotYetValid):
        assert "clock" in caught.value.hint


async def test_a_token_of_a_stranger_is_never_shown(platform, scripted, answer_json, clock) -> None:
    """A forged signature is refused at once; an unsigned token by its algorithm."""
    stranger = SigningKey.generate("k1").sign({"iss": platform.url}, typ="JWT")
    for token, error in ((stranger, BadSignature), ("eyJhbGciOiJub25lIn0.e30.", AlgorithmRefused), ("x", TrustError)):
        platform.script[TOKEN] = answer_json({"access_token": token, "token_type": "Bearer"})
        with pytest.raises(error):
            await scripted.jobs.get("j1")
    assert platform.asked(JOB) == []


async def test_a_rotated_key_is_waited_for(platform, scripted, clock) -> None:
    """Two rotations in a row: the key of our own fresh token is looked for again once it may be."""
    good = platform.script[JOB]
    await scripted.jobs.get("j1")
    for number in (2, 3):
        platform.key = SigningKey.generate(f"k{number}")
        platform.keys = [platform.key]
        platform.script[JOB] = [Outgoing(status=401), good]
        await ticking(clock, scripted.jobs.get("j1"))

    assert len(platform.asked(JOB)) == 5


async def test_a_key_that_is_never_published_ends_the_wait(platform, scripted, clock) -> None:
    """A token by a key that the issuer does not publish is refused after the one further look."""
    platform.key = SigningKey.generate("k9")
    with pytest.raises(ExceptionGroup) as caught:
        await ticking(clock, scripted.jobs.get("j1"))
    assert caught.group_contains(UnknownKey)


@pytest.mark.parametrize("said", [-1, 0, 10**18, None, 5])
async def test_t17_a_senseless_life_is_clamped(platform, scripted, clock, said) -> None:
    """T17: `expires_in` may shorten a token's life within reason, and never ends it at once or never."""
    platform.said_ttl = said
    await scripted.jobs.get("j1")
    await scripted.jobs.get("j1")
    assert len(platform.asked(TOKEN)) == 1
    clock.advance(3601 if said != 5 else 5)
    await scripted.jobs.get("j1")
    assert len(platform.asked(TOKEN)) == 2


async def test_a_failing_token_endpoint_is_asked_with_patience(platform, scripted, clock) -> None:
    """A 503 or a lost answer of the token endpoint is tried again; a 400 is not."""
    platform.script[TOKEN] = [Outgoing(status=503), Outgoing(abort=True), lambda _: platform.token_answer()]
    await ticking(clock, scripted.jobs.get("j1"))
    assert len(platform.asked(TOKEN)) == 3


async def test_a_token_endpoint_that_stays_down_is_an_error(platform, scripted, clock) -> None:
    """After all attempts its refusal is the caller's."""
    platform.script[TOKEN] = Outgoing(status=503)
    with pytest.raises(ExceptionGroup) as caught:
        await ticking(clock, scripted.jobs.get("j1"))
    assert caught.group_contains(Unavailable)


async def test_a_token_of_another_type_is_refused(platform, scripted, answer_json, clock) -> None:
    """What is no Bearer token is not sent as one."""
    platform.script[TOKEN] = answer_json({"access_token": platform.token(), "token_type": "mac"})
    with pytest.raises(ExceptionGroup) as caught:
        await ticking(clock, scripted.jobs.get("j1"))
    assert caught.group_contains(BrokenAnswer)


async def test_a_token_given_by_hand_serves_until_it_is_refused(platform, transport, clock) -> None:
    """A sandbox token from an administrator is proved like any other, and a 401 ends it."""
    keyring = Keyring(platform.url + "/.well-known/jwks.json", transport, clock)

    def client(token):
        access = Access(
            auth_url=platform.url, api_url=platform.url, issuer=platform.url, is_sandbox=True,
            sandbox_token=Secret(token),
        )  # fmt: skip
        return Client(transport, access, clock=clock, keyring=keyring)

    good = client(platform.token(aud="sandbox", sandbox=True))
    assert (await good.jobs.get("j1")).status == 200
    with pytest.raises(WrongAudience):
        await client(platform.token()).jobs.get("j1")
    with pytest.raises(ConfigError):
        await client("").jobs.get("j1")
    platform.script[JOB] = Outgoing(status=401)
    asked = len(platform.asked(JOB))
    with pytest.raises(Refused):
        await good.jobs.get("j1")
    assert len(platform.asked(JOB)) == asked + 1


async def test_f15_a_fresh_token_that_is_refused_shuts_the_account_for_a_while(
    platform, scripted, clock, answer_json
) -> None:
    """Two tokens in a row refused: other callers are told without asking, and half a minute later it is tried."""
    platform.script[JOB] = Outgoing(status=401, headers={"WWW-Authenticate": 'Bearer error_description="no tenant_id"'})
    with pytest.raises(Refused) as caught:
        await scripted.jobs.get("j1")
    assert "no tenant_id" in caught.value.hint
    for _ in range(10):
        with pytest.raises(Refused):
            await scripted.jobs.get("j1")
    assert (len(platform.asked(TOKEN)), len(platform.asked(JOB))) == (2, 2)
    clock.advance(31)
    platform.script[JOB] = answer_json({"id": "j1", "kind": "k", "status": "running"})
    assert (await scripted.jobs.get("j1")).answer.id == "j1"
    assert len(platform.asked(TOKEN)) == 3
