"""Every route of the contract, at every host that serves it: what holds for all of them, asked over real HTTP.

Grows with `ROUTES` by itself. Runs against an emulator of its own, or against the platform that
`ENGINE_CONFORMANCE_AUTH_URL`, `…_API_URL`, `…_CLIENT_ID` and `…_CLIENT_SECRET` name (`bench.Target` has them all).
"""

import inspect

import msgspec
import pytest

from engine.contract.catalog import EXAMPLES, ROUTES
from engine.contract.exchange import Trace
from engine.contract.route import Auth, Host, Route, Wire
from engine.errors import Conflict
from tests.conformance.bench import PREFIX, Target, Unfit, target_of
from tests.conformance.setups import SETUPS

pytestmark = pytest.mark.anyio

WITH_TOKEN = (Auth.BEARER, Auth.SANDBOX)
PLACES = [
    pytest.param(route, host, id=f"{route.name}@{host.value}") for route in ROUTES.values() for host in route.hosts
]
# A token of a scope that nearly no route asks for, and of another one for those that do.
NARROW = ("argus:profiles:read", "argus:jobs:read")

# A job may be over before anybody can cancel it, and in the sandbox it always is (contract 10.4): also documented.
TOO_LATE = {"jobs.cancel": 409}


def _statuses(route):
    """Statuses that answer an example which is in order."""
    return (*route.status, *([TOO_LATE[route.name]] if route.name in TOO_LATE else []))


def _places(want):
    return [place for place in PLACES if want(*place.values)]


def _owned(route: Route, host: Host) -> bool:
    """Whether the path names something that belongs to a tenant: what is public belongs to nobody."""
    return route.auth in WITH_TOKEN and "{" in route.path


def _assert_traced(answer, trace):
    assert answer.headers["X-Argus-Trace-ID"] == trace.trace_id
    back = Trace.parse(answer.headers["traceparent"])
    assert back.trace_id == trace.trace_id
    assert back.span_id == answer.headers["X-Argus-Span-ID"] != trace.span_id


async def _credential(bench, route):
    return await bench.token() if route.auth in WITH_TOKEN else None


@pytest.mark.parametrize("route", [pytest.param(route, id=name) for name, route in ROUTES.items()])
async def test_one_typed_method_and_one_example(bench_at, route) -> None:
    """The route's name leads to a coroutine method of the client, and its example is a question of its type."""
    group = getattr(bench_at(Host.API).client, route.group, None)

    assert inspect.iscoroutinefunction(getattr(group, route.name.partition(".")[2], None))
    assert type(EXAMPLES[route.name]) is route.ask


@pytest.mark.parametrize(("route", "host"), PLACES)
async def test_the_example_round_trips(bench_at, route, host) -> None:
    """The client gets a documented status, and an answer of the promised type."""
    bench = bench_at(host)

    try:
        answered = await bench.client.answered(route.name, msgspec.to_builtins(await bench.ask_of(route)))
    except Conflict as refused:
        if refused.status != TOO_LATE.get(route.name):
            raise
        return

    assert answered.status in route.status
    if route.redirect or answered.status == 204:
        return
    assert answered.answer is not None


@pytest.mark.parametrize(("route", "host"), PLACES)
async def test_success_is_traced(bench_at, route, host) -> None:
    """Plain HTTP gets the same status, and the caller's trace with a span of the platform's."""
    bench = bench_at(host)
    trace = Trace.new()

    answer = await bench.plain(route, await bench.ask_of(route), token=await _credential(bench, route), trace=trace)

    assert answer.status in _statuses(route), answer.body
    _assert_traced(answer, trace)


@pytest.mark.parametrize(("route", "host"), PLACES)
async def test_refusals_are_traced(bench_at, route, host) -> None:
    """A method that no route has is refused, with the caller's trace."""
    bench = bench_at(host)
    trace = Trace.new()
    path = route.path.replace("{", "").replace("}", "")

    answer = await bench.send("PUT", host, Wire(path, {}, None), token=await _credential(bench, route), trace=trace)

    assert answer.status in (404, 405)
    _assert_traced(answer, trace)


@pytest.mark.parametrize(("route", "host"), _places(lambda route, host: route.auth in (*WITH_TOKEN, Auth.CLIENT)))
async def test_nobody_is_refused(bench_at, route, host) -> None:
    """Without a token, or without credentials, the answer is 401 and a challenge."""
    bench = bench_at(host)
    trace = Trace.new()
    ask = EXAMPLES[route.name]
    if route.auth is Auth.CLIENT:
        ask = msgspec.structs.replace(ask, client_secret="wrong")

    answer = await bench.plain(route, ask, trace=trace)

    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic" if route.auth is Auth.CLIENT else "Bearer")
    _assert_traced(answer, trace)


@pytest.mark.parametrize(("route", "host"), _places(lambda route, host: route.scopes and host is not Host.SANDBOX))
async def test_the_scope_is_asked_for(bench_at, route, host) -> None:
    """A token without the scope gets 403 `insufficient_scope`, with the scope that is missing (RFC 6750)."""
    bench = bench_at(host)
    narrow = next(scope for scope in NARROW if scope not in route.scopes)

    answer = await bench.plain(route, EXAMPLES[route.name], token=await bench.token(narrow))

    assert answer.status == 403
    challenge = answer.headers["WWW-Authenticate"]
    assert challenge.startswith("Bearer ")
    assert 'error="insufficient_scope"' in challenge
    assert any(scope in challenge for scope in route.scopes)
    assert msgspec.json.decode(answer.body)["code"] == "insufficient_scope"


@pytest.mark.parametrize(("route", "host"), _places(_owned))
async def test_another_tenants_things_are_not_there(bench_at, route, host) -> None:
    """What one tenant made is 404 to another, and there for the first."""
    mine, theirs = bench_at(host), bench_at(host, other=True)
    ask = await mine.ask_of(route)

    stranger = await theirs.plain(route, ask, token=await theirs.token())
    owner = await mine.plain(route, ask, token=await mine.token())

    assert stranger.status == 404, stranger.body
    assert owner.status in _statuses(route), owner.body


def test_each_set_up_is_for_a_route() -> None:
    """No row of the table outlives its route."""
    assert set(SETUPS) <= set(ROUTES)


async def test_a_route_without_its_set_up_says_what_to_add(bench_at) -> None:
    """A new route with members in its path fails with the name of the table and of the row."""
    new = Route(
        number=0, name="things.get", method="GET", path="/v1/things/{id}", hosts=(Host.API,), auth=Auth.BEARER,
        ask=ROUTES["jobs.get"].ask, answer=ROUTES["jobs.get"].answer,
    )  # fmt: skip

    with pytest.raises(Unfit, match=r'tests/conformance/setups\.py, in SETUPS, "things\.get"'):
        await bench_at(Host.API).ask_of(new)


def test_the_environment_names_a_platform() -> None:
    """All that is needed, or a message with what is missing; nothing at all is the emulator."""
    needed = {"AUTH_URL": "https://auth", "API_URL": "https://api", "CLIENT_ID": "a", "CLIENT_SECRET": "s"}
    named = {PREFIX + name: text for name, text in needed.items()}

    assert target_of({"PATH": "/bin"}) is None
    assert target_of(named) == Target(auth_url="https://auth", api_url="https://api", client_id="a", client_secret="s")
    with pytest.raises(Unfit, match="set ENGINE_CONFORMANCE_AUTH_URL, ENGINE_CONFORMANCE_CLIENT_SECRET too"):
        target_of({name: text for name, text in named.items() if name[-3:] not in {"URL", "RET"} or "API" in name})
    with pytest.raises(Unfit, match="no such variable: ENGINE_CONFORMANCE_URL"):
        target_of({PREFIX + "URL": "x"})
