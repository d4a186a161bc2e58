"""The routes of webhooks: subscribe, look, change, end, and what is refused (contract 6.1-6.3)."""

import base64

import pytest

from engine.emulator.state import Options

pytestmark = pytest.mark.anyio

HOOKS = "/v1/webhooks"
URL = "https://integrator.example/webhooks/argus"
WISH = {"url": URL, "events": ["incident.updated"]}


async def made(api, token, **members):
    """A new subscription, as answered."""
    answer = await api.send("POST", HOOKS, token=token, json=WISH | members)
    assert answer.status == 201, answer.body
    return answer


async def test_a_chosen_secret_is_never_shown(api):
    """The documented members come back, and the secret in no answer."""
    token = await api.token()

    answer = await made(api, token, secret="integrator-secret")
    seen = await api.send("GET", f"{HOOKS}/{answer.json['id']}", token=token)
    listed = await api.send("GET", HOOKS, token=token)

    assert answer.json["id"].startswith("wh_")
    assert (answer.json["url"], answer.json["events"], answer.json["status"]) == (URL, ["incident.updated"], "active")
    assert answer.headers["Location"] == f"{HOOKS}/{answer.json['id']}"
    assert seen.json == answer.json == listed.json["webhooks"][0]
    assert not any(b"secret" in one.body for one in (answer, seen, listed))


async def test_a_secret_of_the_platform_is_shown_once(api):
    """Without one, `whsec_` and 32 bytes in Base64 come back with the 201, and never again (Q30)."""
    token = await api.token()

    answer = await made(api, token)
    again = await api.send("GET", f"{HOOKS}/{answer.json['id']}", token=token)

    assert answer.json["secret"].startswith("whsec_")
    assert len(base64.b64decode(answer.json["secret"][6:], validate=True)) == 32
    assert answer.headers["Cache-Control"] == "no-store"
    assert "secret" not in again.json
    assert (await made(api, token)).json["secret"] != answer.json["secret"]


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("url", "http://integrator.example/hook"), ("url", "https://u:p@integrator.example/"), ("url", "nonsense"),
        ("url", "https://10.0.0.1/"), ("url", "https://169.254.169.254/latest"), ("url", "https://[fd00::1]/"),
        ("url", "https://[fe80::1]/"), ("url", "https://192.168.1.1/"), ("url", "https://127.1/"),
        ("url", "https://2130706433/"), ("url", "http://127.0.0.2/"), ("events", []), ("events", [""]),
        ("secret", "short"), ("secret", "whsec_!!!!!!!!!"), ("secret", "whsec_"),
    ],
)  # fmt: skip
async def test_what_cannot_be_is_refused_on_create_and_on_change(api, member, value):
    """422 names the member, whether a webhook is made or changed, and nothing changes."""
    token = await api.token()
    kept = (await made(api, token)).json

    fresh = await api.send("POST", HOOKS, token=token, json=WISH | {member: value})
    changed = await api.send("PUT", f"{HOOKS}/{kept['id']}", token=token, json={member: value})

    for answer in (fresh, changed):
        assert answer.status == 422
        assert [fault["loc"] for fault in answer.json["errors"]] == [["body", member]]
    listed = (await api.send("GET", HOOKS, token=token)).json
    assert (listed["total_count"], listed["webhooks"][0]["url"]) == (1, URL)


@pytest.mark.parametrize("host", ["127.0.0.1:9", "localhost:9", "[::1]:9"])
async def test_loopback_needs_a_configuration_that_allows_it(start, host):
    """This machine is a target only where the emulator's options say so."""
    _, allowing = await start(Options())
    _, refusing = await start(Options(allow_loopback_callbacks=False))
    wish = WISH | {"url": f"http://{host}/hook"}

    assert (await allowing.send("POST", HOOKS, token=await allowing.token(), json=wish)).status == 201
    assert (await refusing.send("POST", HOOKS, token=await refusing.token(), json=wish)).status == 422


async def test_a_change_keeps_what_it_does_not_name(api):
    """PUT is a partial update: one member changes, the others stay (Q31)."""
    token = await api.token()
    path = f"{HOOKS}/{(await made(api, token)).json['id']}"

    events = await api.send("PUT", path, token=token, json={"events": ["job.failed", "job.failed", "job.succeeded"]})
    moved = await api.send("PUT", path, token=token, json={"url": URL + "/2", "secret": "another-secret"})
    off = await api.send("PUT", path, token=token, json={"status": "disabled"})
    wrong = await api.send("PUT", path, token=token, json={"status": "asleep"})

    assert (events.status, events.json["events"], events.json["url"]) == (200, ["job.failed", "job.succeeded"], URL)
    assert (moved.json["events"], moved.json["url"]) == (["job.failed", "job.succeeded"], URL + "/2")
    assert (off.json["status"], wrong.status) == ("disabled", 422)
    assert (await api.send("POST", path + "/test", token=token)).status == 409


async def test_an_ended_subscription_is_gone(api):
    """DELETE answers 204 once, and 404 from then on."""
    token = await api.token()
    path = f"{HOOKS}/{(await made(api, token)).json['id']}"

    first = await api.send("DELETE", path, token=token)
    second = await api.send("DELETE", path, token=token)

    assert (first.status, first.body, second.status) == (204, b"", 404)
    assert (await api.send("GET", path, token=token)).status == 404
    assert (await api.send("GET", HOOKS, token=token)).json["total_count"] == 0


async def test_a_tenant_does_not_see_another(api):
    """Every route answers 404 to another tenant, and its list is empty."""
    own, other = await api.token(), await api.token("app_other")
    path = f"{HOOKS}/{(await made(api, own)).json['id']}"

    answers = [
        await api.send("GET", path, token=other),
        await api.send("PUT", path, token=other, json={"events": ["x"]}),
        await api.send("DELETE", path, token=other),
        await api.send("GET", path + "/deliveries", token=other),
        await api.send("POST", path + "/test", token=other),
    ]

    assert {answer.status for answer in answers} == {404}
    assert (await api.send("GET", HOOKS, token=other)).json["webhooks"] == []
    assert (await api.send("GET", path, token=own)).json["events"] == ["incident.updated"]


async def test_each_route_has_its_scope(api):
    """Reading takes `webhooks:read` or `webhooks:write`, everything else `webhooks:write`; 403 otherwise."""
    token = await api.token()
    path = f"{HOOKS}/{(await made(api, token)).json['id']}"
    reads = [("GET", HOOKS), ("GET", path), ("GET", path + "/deliveries")]
    writes = [("POST", HOOKS), ("PUT", path), ("POST", path + "/test"), ("DELETE", path)]

    async def statuses(scope, asks):
        held = await api.token(scope=scope)
        answers = [
            await api.send(method, where, token=held, json=WISH if method in ("POST", "PUT") else None)
            for method, where in asks
        ]
        for answer in answers:
            assert answer.status != 403 or answer.json["code"] == "insufficient_scope"
        return [answer.status for answer in answers]

    assert await statuses("argus:jobs:read", reads + writes) == [403] * 7
    assert await statuses("webhooks:read", reads + writes) == [200] * 3 + [403] * 4
    assert await statuses("webhooks:write", reads + writes) == [200, 200, 200, 201, 200, 202, 204]


async def test_a_sandbox_token_opens_nothing_here(api):
    """Subscriptions are of the live world; the gate refuses the other one."""
    assert (await api.send("GET", HOOKS, token=await api.sandbox_token())).status == 403


async def test_the_list_is_walked_by_cursor(api):
    """Newest first, each once, in pages of two; a strange cursor is 422."""
    token = await api.token()
    ids = [(await made(api, token)).json["id"] for _ in range(5)]
    seen, cursor = [], {}

    while True:
        page = (await api.send("GET", HOOKS, token=token, params={"limit": "2", **cursor})).json
        assert (len(page["webhooks"]) <= 2, page["total_count"]) == (True, 5)
        seen += [webhook["id"] for webhook in page["webhooks"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}

    assert seen == ids[::-1]
    for path in (HOOKS, f"{HOOKS}/{ids[0]}/deliveries"):
        assert (await api.send("GET", path, token=token, params={"cursor": "bm9uZQ=="})).status == 422


async def test_subscriptions_outlive_a_restart(start, tmp_path):
    """What was answered 201 is there when the state is opened again."""
    options = Options(state_path=str(tmp_path / "state.db"))
    first, api = await start(options)
    webhook = (await made(api, await api.token(), secret="integrator-secret")).json
    await first.aclose()

    _, api = await start(options)

    assert (await api.send("GET", f"{HOOKS}/{webhook['id']}", token=await api.token())).json == webhook
