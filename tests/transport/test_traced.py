"""What an observer hears of an exchange: one fact, one span, and no secret."""

import pytest

from engine.contract.exchange import Request, Trace
from engine.errors import BrokenAnswer
from engine.events import RequestDone, SpanEnded
from engine.transport.incoming import Outgoing
from engine.transport.pooled import PooledTransport
from engine.transport.traced import TracedTransport

pytestmark = pytest.mark.anyio


@pytest.fixture
async def traced(recorder, clock):
    traced = TracedTransport(PooledTransport(), recorder, clock)
    yield traced
    await traced.aclose()


def request_to(server, trace, **more):
    headers = {"traceparent": trace.traceparent, "Authorization": "Bearer s3cr3t"}
    return Request(
        "GET", server.url + "/v1/jobs/1?sig=s3cr3t", headers,
        route="jobs.get", template="/v1/jobs/{id}", **more,
    )  # fmt: skip


async def test_an_exchange_is_told_as_a_fact_and_a_span(server, traced, recorder) -> None:
    """The span is the one the request's own header names, under the parent it was given."""
    trace = Trace.new()
    await traced.send(request_to(server, trace, parent_span_id="b" * 16, resend=2, attributes={"job.kind": "x"}))

    done, span = recorder.events
    assert isinstance(done, RequestDone)
    assert isinstance(span, SpanEnded)
    host, port = server.url.removeprefix("http://").split(":")
    assert (done.route, done.method, done.template, done.host, done.status, done.resend) == (
        "jobs.get", "GET", "/v1/jobs/{id}", host, 200, 2,
    )  # fmt: skip
    assert (span.trace_id, span.span_id, span.parent_span_id) == (trace.trace_id, trace.span_id, "b" * 16)
    assert (span.name, span.kind, span.error) == ("GET /v1/jobs/{id}", "client", None)
    assert span.attributes == {
        "job.kind": "x", "http.request.method": "GET", "url.template": "/v1/jobs/{id}", "server.address": host,
        "server.port": int(port), "http.response.status_code": 200, "http.request.resend_count": 2,
    }  # fmt: skip


async def test_nothing_of_the_span_is_sent(server, traced) -> None:
    """Parent and attributes are ours; the wire carries the traceparent."""
    trace = Trace.new()
    await traced.send(request_to(server, trace, parent_span_id="b" * 16, attributes={"job.kind": "x"}))

    assert set(server.seen[0].headers) == {"host", "traceparent", "authorization"}


async def test_t36_no_secret_reaches_the_observer(server, traced, recorder) -> None:
    """T36: neither the query of a URL nor a credential is in any event."""
    server.answer = [Outgoing(body=b"s3cr3t"), Outgoing(status=500), Outgoing(abort=True)]
    await traced.send(request_to(server, Trace.new()))
    await traced.send(request_to(server, Trace.new()))
    with pytest.raises(BrokenAnswer):
        await traced.send(request_to(server, Trace.new()))

    assert len(recorder.events) == 6
    assert "s3cr3t" not in repr(recorder.events)


async def test_failures_are_named(server, traced, recorder) -> None:
    """A refusal is an error by its status, a broken exchange by our own code, with status 0."""
    server.answer = [Outgoing(status=404), Outgoing(abort=True)]
    await traced.send(request_to(server, Trace.new()))
    with pytest.raises(BrokenAnswer):
        await traced.send(request_to(server, Trace.new()))

    spans = [event for event in recorder.events if isinstance(event, SpanEnded)]
    facts = [event for event in recorder.events if isinstance(event, RequestDone)]
    assert [(span.error, span.attributes["error.type"]) for span in spans] == [
        ("404", "404"), ("transport.broken", "transport.broken"),
    ]  # fmt: skip
    assert [fact.status for fact in facts] == [404, 0]


async def test_a_stream_is_told_when_it_is_left(server, traced, recorder) -> None:
    """The exchange of a stream ends with its block, and a cut body is an error of its span."""
    server.answer = [Outgoing(body=b"x" * 100), Outgoing(body=b"x" * 100, cut_after=10)]
    async with traced.stream(request_to(server, Trace.new())) as body:
        assert recorder.events == []
        assert b"".join([chunk async for chunk in body.chunks()]) == b"x" * 100
    with pytest.raises(BrokenAnswer):
        async with traced.stream(request_to(server, Trace.new())) as body:
            _ = [chunk async for chunk in body.chunks()]

    spans = [event for event in recorder.events if isinstance(event, SpanEnded)]
    assert [span.error for span in spans] == [None, "transport.broken"]


async def test_a_trace_that_is_not_sampled_has_no_span(server, traced, recorder) -> None:
    """The sampled flag decides about spans; facts are told in any case."""
    trace = Trace.new()
    await traced.send(request_to(server, Trace(trace.trace_id, trace.span_id, sampled=False)))

    assert [type(event) for event in recorder.events] == [RequestDone]
