"""The platform under test, and benches at it."""

from contextlib import AsyncExitStack

import aiohttp
import msgspec
import pytest

from engine.contract.route import Host
from engine.transport.pooled import PooledTransport
from tests.conformance.bench import Bench, opened_target


@pytest.fixture(scope="module")
async def target(anyio_backend):
    """One platform for the module: the questions are independent of each other."""
    async with opened_target() as target:
        yield target


@pytest.fixture
async def bench_at(target):
    """A bench at a host, as the app under test or (`other=True`) as the app of another tenant."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
        transport = PooledTransport()
        stack.push_async_callback(transport.aclose)

        def make(host, *, other=False):
            if host is Host.SANDBOX and target.sandbox_url is None:
                pytest.skip("the target has no sandbox")
            if host is Host.DOCS and target.docs_url is None:
                pytest.skip("the target has no documents")
            whose = target
            if other:
                if target.other_client_id is None or target.other_client_secret is None:
                    pytest.skip("the target has no second tenant")
                whose = msgspec.structs.replace(
                    target, client_id=target.other_client_id, client_secret=target.other_client_secret
                )
            return Bench(whose, transport, session, host)

        yield make
