"""Which transport carries what: straight ways are our own, proxies the library's."""

import pytest

from engine.contract.exchange import Request
from engine.errors import ConnectFailed
from engine.transport.choosing import ChoosingTransport, open_transport
from engine.transport.direct import DirectTransport
from engine.transport.pooled import PooledTransport

pytestmark = pytest.mark.anyio


def get(url):
    return Request("GET", url, {}, route="test.get", template="/")


@pytest.fixture
def environment(monkeypatch):
    """Sets the proxies of the environment, and no others."""

    def setting(**proxies) -> None:
        for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.upper(), raising=False)
        for name, value in proxies.items():
            monkeypatch.setenv(name, value)

    return setting


def pooled_alone():
    return PooledTransport()


def chosen():
    return open_transport("direct", concurrency=4)


@pytest.mark.parametrize("opening", [pooled_alone, chosen])
async def test_loopback_is_never_asked_by_way_of_a_proxy(server, elsewhere, environment, opening) -> None:
    """With HTTP_PROXY set, other hosts go through the proxy and this machine does not; bodies too."""
    environment(http_proxy=elsewhere.url)
    transport = opening()
    try:
        await transport.send(get(server.url))
        for _ in range(2):
            await transport.send(get("http://results.example/x"))
        async with transport.stream(get("http://results.example/y")) as body:
            assert [chunk async for chunk in body.chunks()] == [b"ok"]
    finally:
        await transport.aclose()

    assert (len(server.seen), len(elsewhere.seen)) == (1, 3)
    assert {seen.headers["host"] for seen in elsewhere.seen} == {"results.example"}


async def test_hosts_that_need_no_proxy_go_direct(server, elsewhere, environment) -> None:
    """NO_PROXY is heeded, and a proxy for https says nothing of http."""
    port = server.url.rpartition(":")[2]
    environment(http_proxy=elsewhere.url, no_proxy="ours.example")
    transport = chosen()
    assert isinstance(transport._way_of(f"http://ours.example:{port}/"), DirectTransport)
    assert isinstance(transport._way_of(f"http://theirs.example:{port}/x"), PooledTransport)
    assert isinstance(transport._way_of("https://theirs.example/x"), DirectTransport)
    await transport.aclose()


async def test_without_proxies_there_is_nothing_to_choose(environment) -> None:
    """The setting decides alone, and `aiohttp` is always aiohttp."""
    environment()
    assert isinstance(open_transport("direct", concurrency=1), DirectTransport)
    assert isinstance(open_transport("aiohttp", concurrency=1), PooledTransport)
    environment(http_proxy="http://127.0.0.1:1")
    assert isinstance(open_transport("direct", concurrency=1), ChoosingTransport)
    assert isinstance(open_transport("aiohttp", concurrency=1), PooledTransport)


async def test_what_is_no_url_is_refused_all_the_same(environment) -> None:
    """Whoever it falls to, the failure is ours."""
    environment(http_proxy="http://127.0.0.1:1")
    transport = chosen()
    try:
        for url in ("http://[::1/", "nonsense", "http://"):
            with pytest.raises(ConnectFailed):
                await transport.send(get(url))
    finally:
        await transport.aclose()


def test_more_hosts_than_can_be_remembered(environment) -> None:
    """Thousands of hosts are each sent the right way, in bounded memory."""
    environment(http_proxy="http://127.0.0.1:1", no_proxy="ours.example")
    transport = chosen()
    for number in range(3000):
        assert isinstance(transport._way_of(f"http://{number}.ours.example/x"), DirectTransport)
        assert isinstance(transport._way_of(f"http://{number}.example/x"), PooledTransport)
    assert len(transport._ways) <= 1024
