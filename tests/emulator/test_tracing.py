"""Trace headers on every answer, and the spans behind them (contract 1.7 and 8)."""

import re

import pytest

from engine.emulator import tracing
from engine.emulator.faults import Faults

pytestmark = pytest.mark.anyio

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/platform/scopes", 200), ("GET", "/v1/nowhere", 404), ("DELETE", "/v1/platform/scopes", 405)],
)
async def test_every_answer_continues_the_callers_trace(api, method, path, status):
    """Same trace id, a span id of its own, and a traceparent that names it."""
    answer = await api.send(method, path, token=await api.token(), headers={"traceparent": PARENT})

    span_id = answer.headers["X-Argus-Span-ID"]
    assert answer.status == status
    assert answer.headers["X-Argus-Trace-ID"] == TRACE_ID
    assert re.fullmatch("[0-9a-f]{16}", span_id)
    assert span_id != "b7ad6b7169203331"
    assert answer.headers["traceparent"] == f"00-{TRACE_ID}-{span_id}-01"


@pytest.mark.parametrize(
    "header",
    [
        None, "", "nonsense", PARENT.upper(), f"ff{PARENT[2:]}", f"{PARENT}-more", f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-{TRACE_ID}-{'0' * 16}-01", f"{PARENT},{PARENT}",
    ],
)  # fmt: skip
async def test_a_malformed_traceparent_starts_a_new_trace(api, header):
    """It never fails the request."""
    answer = await api.send(
        "GET", "/.well-known/jwks.json", headers={"traceparent": header} if header is not None else {}
    )

    assert answer.status == 200
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Argus-Trace-ID"])
    assert answer.headers["X-Argus-Trace-ID"] != TRACE_ID


async def test_a_trace_shows_the_spans_that_were_received(api):
    """Each request is a span under its caller's, in order of start, refused ones included."""
    token = await api.token()
    first = await api.send("GET", "/v1/platform/scopes", token=token, headers={"traceparent": PARENT})
    second = await api.send("GET", "/v1/platform/apps/none", token=token, headers={"traceparent": PARENT})

    pending = await api.send("GET", f"/v1/observability/traces/{TRACE_ID}", token=token)
    stored = await api.send("GET", f"/v1/observability/traces/{TRACE_ID}", token=token)

    tree = stored.json
    assert (tree["trace_id"], tree["tenant_id"]) == (TRACE_ID, "tnt_local")
    assert [span["span_id"] for span in tree["spans"]] == [
        first.headers["X-Argus-Span-ID"],
        second.headers["X-Argus-Span-ID"],
    ]
    assert {span["parent_span_id"] for span in tree["spans"]} == {"b7ad6b7169203331"}
    assert tree["spans"][0]["name"] == "GET /v1/platform/scopes"
    assert [span["status_code"] for span in tree["spans"]] == ["OK", "UNSET"]
    assert tree["spans"][0]["attributes"] == {"http.status_code": 200, "tenant.id": "tnt_local"}
    assert tree["spans"][0]["start_unix_nano"] > 2**53
    assert (pending.json["ingestion"], tree["ingestion"]) == ("pending", "stored")


async def test_a_trace_belongs_to_its_tenant(api):
    """Another tenant finds nothing, and sees only its own spans of a shared trace."""
    await api.send("GET", "/v1/platform/scopes", token=await api.token(), headers={"traceparent": PARENT})
    other = await api.token("app_other")

    none = await api.send("GET", f"/v1/observability/traces/{TRACE_ID}", token=other)
    await api.send("GET", "/v1/platform/apps", token=other, headers={"traceparent": PARENT})
    own = await api.send("GET", f"/v1/observability/traces/{TRACE_ID}", token=other)

    assert none.status == 404
    assert [span["name"] for span in own.json["spans"]] == ["GET /v1/platform/apps"]


@pytest.mark.parametrize("trace_id", ["xyz", TRACE_ID.upper(), TRACE_ID[:-1], TRACE_ID + "0"])
async def test_what_is_no_trace_id_is_refused(api, trace_id):
    """422 for anything but 32 lower-case hexadecimal digits."""
    answer = await api.send("GET", f"/v1/observability/traces/{trace_id}", token=await api.token())

    assert answer.status == 422
    assert answer.json["errors"][0]["loc"] == ["path", "trace_id"]


async def test_an_unreachable_back_end_gives_the_documented_hint(start):
    """503 carries `query_hint`, so that a client knows to look in its own back end."""
    _, api = await start(faults=Faults([{"at": "request", "route": "tracing.get", "status": 503}]))

    answer = await api.send("GET", f"/v1/observability/traces/{TRACE_ID}", token=await api.token())

    assert answer.status == 503
    assert answer.json["query_hint"] == "use_your_backend"


async def test_the_oldest_spans_go_first(emulator, monkeypatch):
    """The table is bounded: what was recorded first is forgotten first."""
    monkeypatch.setattr(tracing, "SPANS_MAX", 3)

    for number in range(5):
        tracing.record(
            emulator.state,
            tracing.Span(
                tenant_id="t", trace_id=TRACE_ID, span_id=f"{number:016x}", parent_span_id=None, name="n",
                start_ns=number, duration_ns=1,
            ),
        )  # fmt: skip
    tracing.flush(emulator.state)

    rows = emulator.state.db.execute("SELECT start_ns FROM spans ORDER BY start_ns").fetchall()
    assert [row[0] for row in rows] == [2, 3, 4]
