"""The server as a whole: routing, bodies, refusals, state that outlives it, and its own books."""

import io

import pytest

from engine.contract.catalog import EXAMPLES, ROUTES
from engine.contract.route import Auth, Host, lay_out
from engine.emulator import tracing
from engine.emulator.server import Bind, Emulator
from engine.emulator.state import Options
from engine.errors import ConfigError, LedgerBroken, LedgerBusy

pytestmark = pytest.mark.anyio

SPAN = tracing.Span(
    tenant_id="t", trace_id="1" * 32, span_id="1" * 16, parent_span_id=None, name="n", start_ns=0, duration_ns=0
)


@pytest.mark.parametrize("name", ROUTES)
async def test_every_route_of_the_contract_is_served(api, name):
    """The example question of each route finds a handler on its host, and the answer is traced."""
    route = ROUTES[name]
    wire = lay_out(route, EXAMPLES[name])
    is_sandbox = Host.API not in route.hosts and Host.SANDBOX in route.hosts
    token = None
    if route.auth in (Auth.BEARER, Auth.SANDBOX):
        token = await (api.sandbox_token() if is_sandbox else api.token())

    answer = await api.send(
        route.method, wire.target, token=token, sandbox=is_sandbox, headers=wire.headers, data=wire.body
    )

    assert answer.status not in (405, 415, 422, 500), answer.body
    assert answer.status != 404 or answer.json["detail"] != "Nothing lives at this path."
    assert len(answer.headers["X-Argus-Trace-ID"]) == 32


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/platform/apps/", "/v1/platform/apps/a/b/c", "//v1/platform/apps", "/V1/platform/scopes"]
)
async def test_an_unknown_path_is_a_problem(api, path):
    """404 as problem+json with the trace id inside."""
    answer = await api.send("GET", path)

    assert answer.status == 404
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["trace_id"] == answer.headers["X-Argus-Trace-ID"]
    assert (answer.json["status"], answer.json["title"], answer.json["instance"]) == (404, "Not Found", path)


async def test_an_unknown_method_is_told_the_known_ones(api):
    """405 with Allow (Q4)."""
    answer = await api.send("DELETE", "/v1/platform/apps", token=await api.token())

    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, HEAD, POST"


async def test_head_answers_like_get_without_a_body(api):
    """HEAD is GET without its body (RFC 9110 section 9.3.2)."""
    got = await api.send("GET", "/.well-known/jwks.json")
    head = await api.send("HEAD", "/.well-known/jwks.json")

    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == str(len(got.body))


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[" * 1000 + b"]" * 1000, 400),
        (b"[]", 422),
        (b"3", 422),
        (b"", 422),
        (b'{"name":"x"}', 422),
        (b'{"name":1,"grant_types":[]}', 422),
        (b'{"name":"x","grant_types":["client_credentials",3]}', 422),
    ],
    ids=repr,
)
async def test_a_bad_body_is_told_what_is_wrong(api, body, status):
    """Unparsable is 400; well-formed but wrong is 422 with the places (Q1)."""
    answer = await api.send(
        "POST",
        "/v1/platform/apps",
        token=await api.token(),
        data=body,
        headers={"Content-Type": "application/json"},
    )

    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert bool(answer.json.get("errors")) == (status == 422)


async def test_every_missing_member_is_named(api):
    """One answer names them all."""
    answer = await api.send("POST", "/v1/platform/apps", token=await api.token(), json={})

    assert [(fault["loc"], fault["type"]) for fault in answer.json["errors"]] == [
        (["body", "name"], "missing"),
        (["body", "grant_types"], "missing"),
    ]


async def test_the_place_of_a_wrong_value_is_exact(api):
    """Inside an array the index is part of the place."""
    wish = {"name": "x", "grant_types": ["client_credentials"], "scopes": ["webhooks:write", 3]}

    answer = await api.send("POST", "/v1/platform/apps", token=await api.token(), json=wish)

    assert answer.json["errors"][0]["loc"][:2] == ["body", "scopes"]


@pytest.mark.parametrize(
    "headers",
    [{"Content-Type": "text/plain"}, {"Content-Type": "application/json", "Content-Encoding": "gzip"}],
    ids=["type", "encoding"],
)
async def test_a_body_of_another_kind_is_refused(api, headers):
    """Only JSON, and never compressed (Q5)."""
    answer = await api.send("POST", "/v1/platform/apps", token=await api.token(), data=b"{}", headers=headers)

    assert answer.status == 415


async def test_a_body_over_the_limit_is_refused(api):
    """413 beyond one MiB, as a traced problem."""
    answer = await api.send(
        "POST",
        "/v1/platform/apps",
        data=io.BytesIO(b" " * (1024 * 1024 + 1)),
        headers={"Content-Type": "application/json", "Authorization": "Bearer x"},
    )

    assert answer.status == 413
    assert answer.json["trace_id"] == answer.headers["X-Argus-Trace-ID"]


async def test_a_path_member_wins_over_the_body(api):
    """A body cannot redirect a call to another app."""
    answer = await api.send(
        "POST",
        "/v1/platform/apps/app_local/service-token",
        token=await api.token(),
        json={"client_id": "app_other"},
    )

    assert answer.status == 200


async def test_a_broken_handler_is_an_answer_too(emulator, api, caplog):
    """What breaks inside answers 500 with a trace, and the server lives on."""
    emulator.state.db.execute("DROP TABLE apps")

    answer = await api.send("POST", "/v1/oauth/token", data={"grant_type": "client_credentials", "client_id": "a"})

    assert answer.status == 500
    assert answer.json["code"] == "internal_error"
    assert "no such table" in caplog.text
    assert (await api.send("GET", "/.well-known/jwks.json")).status == 200


async def test_the_books_count_requests(api):
    """Requests by route and answers by status are there for tests to read."""
    token = await api.token()
    await api.send("GET", "/v1/platform/scopes", token=token)
    await api.send("GET", "/v1/nowhere")

    books = (await api.send("GET", "/__emulator/books")).json

    assert books["requests"]["oauth.token"] == 1
    assert books["requests"]["identity.scopes"] == 1
    assert books["statuses"] == {"200": 2, "404": 1}


async def test_state_in_a_file_outlives_the_emulator(start, tmp_path):
    """Apps, secrets and keys are there again; the file is its owner's alone."""
    path = tmp_path / "state.db"
    options = Options(state_path=str(path))
    first, api = await start(options)
    wish = {"name": "x", "grant_types": ["client_credentials"], "scopes": ["webhooks:write"]}
    app = (await api.send("POST", "/v1/platform/apps", token=await api.token(), json=wish)).json
    key_set = first.keys.document
    await first.aclose()

    second, again = await start(options)

    assert await again.token(app["client_id"], app["client_secret"])
    assert second.keys.document == key_set
    assert path.stat().st_mode & 0o077 == 0


async def test_a_second_emulator_on_the_same_state_is_refused(tmp_path):
    """It says who holds it and since when."""
    options = Options(state_path=str(tmp_path / "state.db"))

    async with Emulator(options):
        with pytest.raises(LedgerBusy, match=r"process \d+ .*since \d{4}-"):
            await Emulator(options).start()


async def test_a_file_that_is_no_state_is_refused(tmp_path):
    """It is left as it is, and can be used by another program still."""
    path = tmp_path / "state.db"
    path.write_bytes(b"not a database" * 100)

    for _ in range(2):
        with pytest.raises(LedgerBroken, match="not a state file"):
            await Emulator(Options(state_path=str(path))).start()

    assert path.read_bytes() == b"not a database" * 100


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])
async def test_the_world_is_not_let_in_by_accident(host):
    """A host beyond loopback needs explicit consent (T44)."""
    with pytest.raises(ConfigError, match="not loopback"):
        await Emulator(bind=Bind(host=host)).start()


async def test_beyond_loopback_the_control_paths_are_gone(start):
    """With consent it listens everywhere, and what needs no token is no longer there."""
    _, api = await start(bind=Bind(host="0.0.0.0", allow_remote=True, advertise="127.0.0.1"))

    assert (await api.send("GET", "/__emulator/books")).status == 404
    assert (await api.send("GET", "/.well-known/jwks.json")).status == 200


async def test_a_taken_port_is_a_configuration_error(emulator):
    """It names the port."""
    port = int(emulator.base_url.rpartition(":")[2])

    with pytest.raises(ConfigError, match=str(port)):
        await Emulator(bind=Bind(port=port)).start()


async def test_work_that_broke_is_not_hidden():
    """Closing an emulator whose work broke raises what broke it."""
    emulator = Emulator()
    await emulator.start()
    emulator.state.db.execute("DROP TABLE spans")
    tracing.record(emulator.state, SPAN)

    with pytest.raises(ExceptionGroup, match="unhandled"):
        await emulator.failed()
    emulator.state.unwritten_spans.clear()
    with pytest.raises(ExceptionGroup, match="unhandled"):
        await emulator.aclose()


@pytest.mark.parametrize("word", ["null", "NULL"])
async def test_a_query_has_no_null(api, word):
    """The word is not read as an absent number; where text is wanted it is text."""
    token = await api.token()

    number = await api.send("GET", f"/v1/jobs?limit={word}", token=token)
    text = await api.send("GET", f"/v1/jobs?kind={word}", token=token)

    assert (number.status, number.json["errors"][0]["loc"]) == (422, ["query", "limit"])
    assert text.status == 422 or text.json["jobs"] == []
