"""Which transport carries what: straight ways are our own, proxies the library's."""

import pytest

from engine.contract.exchange import Request
from engine.transport.pooled import PooledTransport

pytestmark = pytest.mark.anyio


def get(url):
    return Request("GET", url, {}, route="test.get", template="/")


async def test_loopback_is_never_asked_by_way_of_a_proxy(server, elsewhere, monkeypatch) -> None:
    """With HTTP_PROXY set, other hosts go through the proxy and this machine does not."""
    monkeypatch.setenv("http_proxy", elsewhere.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    transport = PooledTransport()
    try:
        await transport.send(get(server.url))
        await transport.send(get("http://results.example/x"))
    finally:
        await transport.aclose()

    assert (len(server.seen), len(elsewhere.seen)) == (1, 1)
    assert elsewhere.seen[0].headers["host"] == "results.example"
