"""The sandbox: minting its tokens, its scenarios, and the seed of its answers (contract 10)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.clock import ManualClock
from engine.emulator.scenarios import SCENARIO_IDS, Question, sandbox_now_ns, sandbox_scenario, sandbox_seed
from engine.trust.bearer import parse_jwks, verify

pytestmark = pytest.mark.anyio

MINT = "/v1/platform/apps/app_local/sandbox-token"


async def test_a_sandbox_token_has_the_documented_shape(start):
    """Audience, the four scopes, the sandbox's own address, the pinned scenarios, and an hour of life."""
    emulator, api = await start(clock=ManualClock(now_ns=1_778_241_600_000_000_000))
    pinned = ["wallet.high-risk", "entity.sanctioned"]

    answer = await api.send("POST", MINT, token=await api.token(), json={"scenarios": pinned})

    token = answer.json.pop("token")
    assert answer.status == 200
    assert {name: value for name, value in answer.json.items() if name != "token"} == {
        "expires_at": "2026-05-08T13:00:00Z",
        "audience": "sandbox",
        "scopes": ["argus:profiles:read", "argus:profiles:write", "argus:jobs:read", "argus:jobs:write"],
        "sandbox_host": emulator.sandbox_url,
        "scenarios": pinned,
    }
    keys = parse_jwks((await api.send("GET", "/.well-known/jwks.json")).body)
    claims = verify(token, keys, issuer=emulator.base_url, audience="sandbox", now_s=emulator.state.now_s())
    assert claims.sandbox
    assert claims.scenarios == tuple(pinned)
    assert (claims.tenant_id, claims.organization_id) == ("tnt_local", "org_local")


@pytest.mark.parametrize(("wish", "ends"), [(1, "12:01:00"), (600, "12:10:00"), (10**9, "12:00:00")])
async def test_a_wished_life_is_clamped(start, wish, ends):
    """From a minute to a day, never refused."""
    _, api = await start(clock=ManualClock(now_ns=1_778_241_600_000_000_000))

    answer = await api.send("POST", MINT, token=await api.token(), json={"ttl_seconds": wish})

    assert answer.json["expires_at"].endswith(f"T{ends}Z")


async def test_an_unknown_scenario_is_refused_with_the_known_ones(api):
    """422 lists what there is."""
    answer = await api.send("POST", MINT, token=await api.token(), json={"scenarios": ["wallet.empty"]})

    assert answer.status == 422
    assert all(scenario in answer.json["detail"] for scenario in SCENARIO_IDS)


async def test_a_sandbox_token_never_mints_another(api):
    """It is refused at the gate."""
    assert (await api.send("POST", MINT, token=await api.sandbox_token())).status == 403


async def test_minting_is_audited(emulator, api):
    """Who minted for which app is kept."""
    await api.sandbox_token()

    row = emulator.state.db.execute("SELECT event, actor, client_id FROM audit").fetchone()

    assert tuple(row) == ("sandbox.token.issue", "app_local", "app_local")


async def test_the_five_scenarios_live_on_the_sandbox_only(api):
    """The sandbox lists exactly five; the live origin does not know the path."""
    token = await api.sandbox_token()

    answer = await api.send("GET", "/v1/sandbox/scenarios", sandbox=True, token=token)
    live = await api.send("GET", "/v1/sandbox/scenarios", token=await api.token())

    assert [scenario["id"] for scenario in answer.json["scenarios"]] == list(SCENARIO_IDS)
    assert all(scenario["label"] and scenario["description"] for scenario in answer.json["scenarios"])
    assert live.status == 404


async def test_a_replayed_question_has_the_same_bytes_for_an_answer(api):
    """Equal questions, equal bodies."""
    token = await api.sandbox_token()

    first = await api.send("GET", "/v1/sandbox/scenarios", sandbox=True, token=token)
    second = await api.send("GET", "/v1/sandbox/scenarios", sandbox=True, token=token)

    assert first.body == second.body
    assert first.headers["X-Argus-Span-ID"] != second.headers["X-Argus-Span-ID"]


def _question(**members):
    return Question(
        **{
            "tenant": "tnt_local", "client_id": "app_local", "scenarios": (), "method": "POST",
            "path": "/v1/jobs", "body": {"kind": "export.bulk", "payload": {}}, **members,
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    "members",
    [
        {"tenant": "tnt_other"}, {"client_id": "app_other"}, {"scenarios": ("wallet.clean",)}, {"method": "GET"},
        {"path": "/v1/other"}, {"query": {"limit": "1"}}, {"body": None},
    ],
    ids=lambda members: next(iter(members)),
)  # fmt: skip
def test_every_part_of_a_question_is_in_its_seed(members):
    """Whatever an answer may depend on changes the seed."""
    assert sandbox_seed(_question(**members)) != sandbox_seed(_question())


def test_order_is_not_in_the_seed():
    """Neither the order of scenarios nor of members counts."""
    one = _question(scenarios=("a", "b"), body={"x": 1, "y": 2})
    two = _question(scenarios=("b", "a"), body={"y": 2, "x": 1})

    assert sandbox_seed(one) == sandbox_seed(two)


@given(st.binary(min_size=32, max_size=32), st.sets(st.sampled_from(SCENARIO_IDS)))
def test_a_scenario_is_one_of_the_pinned_or_of_all(seed, pinned):
    """The same seed and pins always play the same scenario, and a pin is respected."""
    played = sandbox_scenario(seed, pinned)

    assert played in (pinned or SCENARIO_IDS)
    assert played == sandbox_scenario(seed, sorted(pinned, reverse=True))


def test_the_sandbox_clock_stands_at_the_documented_moment():
    """2026-05-08T12:00:00Z."""
    assert sandbox_now_ns() == 1_778_241_600_000_000_000
