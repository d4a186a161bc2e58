"""One call: what is sent to whom, and what is made of every shape of answer."""

import pytest

from engine.client.call import trace_id_of
from engine.client.client import Access, Client
from engine.contract.exchange import Trace
from engine.contract.oauth import AskToken
from engine.errors import (
    BrokenAnswer,
    ConfigError,
    EngineError,
    Missing,
    PlatformError,
    RecordError,
    Refused,
    Throttled,
    TrustError,
    Unavailable,
)
from engine.settings import Secret
from engine.transport.incoming import Outgoing
from engine.trust.keyring import Keyring

pytestmark = pytest.mark.anyio

JOB = {"id": "j1", "kind": "export.bulk", "status": "running"}


async def test_a_request_names_its_span_and_its_credential(platform, scripted, answer_json) -> None:
    """Traceparent is a child of the caller's span; the token goes to our host; nothing inflatable is asked for."""
    platform.script["GET /v1/jobs/j1"] = answer_json(JOB)
    trace = Trace.new()

    await scripted.jobs.get("j1", trace=trace)

    headers = platform.seen[-1].headers
    sent = Trace.parse(headers["traceparent"])
    assert (sent.trace_id, sent.span_id != trace.span_id) == (trace.trace_id, True)
    assert headers["authorization"].startswith("Bearer ey")
    assert (headers["accept-encoding"], headers["accept"]) == ("identity", "application/json")


async def test_every_request_has_a_trace(platform, scripted, answer_json) -> None:
    """Where the caller names none, each call is a trace of its own; token requests too."""
    platform.script["GET /v1/jobs/j1"] = answer_json(JOB)
    await scripted.jobs.get("j1")
    await scripted.jobs.get("j1")

    asked = platform.asked("GET /v1/jobs/j1") + platform.asked("POST /v1/oauth/token")
    assert len({Trace.parse(seen.headers["traceparent"]).trace_id for seen in asked}) == 3


async def test_unknown_members_are_ignored_and_optional_ones_may_lack(platform, scripted, answer_json) -> None:
    """Contract 1.2: a client takes what it knows."""
    platform.script["GET /v1/jobs/j1"] = answer_json(JOB | {"new": [1], "progress_pct": None})

    answered = await scripted.jobs.get("j1")

    assert (answered.answer.status, answered.answer.progress_pct, answered.trace_id) == ("running", None, None)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b"<html>busy</html>", b'{"id":1}', b'{"id":"j1","kind":"k"}', b"[" * 5000,
        b"\xff\xfe",        b'{"id":"j1","kind":"k","status":"s","progress_pct":"many"}',
    ],
)  # fmt: skip
async def test_an_answer_of_another_form_is_broken(platform, scripted, answer_json, body) -> None:
    """What the contract did not promise is a BrokenAnswer, never the decoder's error."""
    platform.script["GET /v1/jobs/j1"] = answer_json(body)

    with pytest.raises(BrokenAnswer, match=r"jobs\.get: the answer is not what the contract says"):
        await scripted.jobs.get("j1")


async def test_an_encoded_answer_is_not_read(platform, scripted, answer_json) -> None:
    """We asked for no compression, so what comes compressed is not what was asked for."""
    platform.script["GET /v1/jobs/j1"] = answer_json(JOB, **{"Content-Encoding": "gzip"})

    with pytest.raises(BrokenAnswer, match="encoded as 'gzip'"):
        await scripted.jobs.get("j1")


@pytest.mark.parametrize(
    ("status", "error"),
    [(403, Refused), (404, Missing), (410, Missing), (429, Throttled), (500, Unavailable), (503, Unavailable),
     (302, PlatformError), (304, PlatformError)],
)  # fmt: skip
async def test_a_refusal_is_ours_with_its_trace(platform, scripted, answer_json, status, error) -> None:
    """Every non-success is the error its status stands for, with the platform's words and trace id."""
    problem = {"title": "No", "status": status, "detail": "because", "code": "why"}
    platform.script["GET /v1/jobs/j1"] = answer_json(
        b"" if status == 304 else problem,
        status,
        **{"X-Argus-Trace-ID": "0" * 31 + "a", "Location": "https://x.example"},
    )

    with pytest.raises(error) as caught:
        await scripted.jobs.get("j1")
    assert caught.value.status == status
    assert caught.value.facts["trace_id"] == "0" * 31 + "a"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("0AF7651916CD43DD8448EB211C80319C", "0af7651916cd43dd8448eb211c80319c"),
        ("", None),
        ("x" * 32, None),
        ("ab", None),
    ],
)
def test_a_trace_id_is_optional(said, expected) -> None:
    """Contract 1.7: the platform's trace id may be absent, and never raises."""
    assert trace_id_of({"x-argus-trace-id": said} if said else {}) == expected


@pytest.mark.parametrize("id", ["", ".", ".."])
async def test_an_id_that_changes_the_path_is_not_sent(platform, scripted, id) -> None:
    """An empty id would ask for the list; dots for a path that is not ours to ask."""
    with pytest.raises(RecordError, match="empty or made of dots"):
        await scripted.jobs.get(id)
    assert platform.asked("GET /v1/jobs/") == []


async def test_an_id_stays_one_segment(platform, scripted) -> None:
    """Slashes, queries and spaces of an id are part of it."""
    with pytest.raises(Missing):
        await scripted.jobs.get("../a b?c=d#e")
    assert platform.seen[-1].path == "/v1/jobs/..%2Fa%20b%3Fc%3Dd%23e"


async def test_t20_the_token_endpoint_cannot_make_us_say_a_secret(platform, scripted, answer_json) -> None:
    """T20: of its errors only the code is kept, and only one that RFC 6749 knows."""
    for body in (
        {"error": "invalid_client", "error_description": "secret s3cr3t is wrong"},
        {"error": "s3cr3t", "detail": "s3cr3t"},
        b"s3cr3t",
    ):
        platform.script["POST /v1/oauth/token"] = answer_json(body, 401)
        with pytest.raises(Refused) as caught:
            await scripted.jobs.get("j1")
        shown = f"{caught.value} {caught.value.hint} {caught.value.facts}"
        assert "s3cr3t" not in shown
        assert ("invalid_client" in shown) is ("invalid_client" in str(body))


async def test_t36_a_client_shows_no_secret(platform, scripted) -> None:
    """T36: what prints an Access prints stars."""
    access = Access(client_id="a", client_secret=Secret("s3cr3t"), sandbox_token=Secret("s3cr3t"))

    assert "s3cr3t" not in repr(access)


@pytest.mark.parametrize(
    "url",
    ["http://api.example", "ftp://x", "api.example", "https://u:p@api.example", "https://api.example/v1", "https://"],
)
async def test_tokens_are_sent_by_https_or_to_loopback_only(transport, clock, url) -> None:
    """A base URL that would show the token on the network is refused before there is one."""
    keyring = Keyring("https://auth.example/jwks", transport, clock)
    with pytest.raises(ConfigError, match="a base URL is https"):
        Client(transport, Access(api_url=url), clock=clock, keyring=keyring)


async def test_t11_a_signed_url_sees_no_credential(platform, elsewhere, scripted, answer_json) -> None:
    """T11: the store behind a signed URL gets a trace and a range, and neither token nor cookie."""
    platform.script["GET /v1/jobs/j1"] = answer_json(JOB)
    await scripted.jobs.get("j1")
    elsewhere.script["GET /r"] = Outgoing(status=206, body=b"rest")

    async with scripted.fetch(elsewhere.url + "/r?sig=x", range_from=5, if_range='"e"') as body:
        assert b"".join([chunk async for chunk in body.chunks()]) == b"rest"

    headers = elsewhere.seen[0].headers
    assert set(headers) == {"host", "accept", "accept-encoding", "user-agent", "traceparent", "range", "if-range"}
    assert (headers["range"], headers["if-range"]) == ("bytes=5-", '"e"')


async def test_t11_a_signed_url_that_redirects_is_not_followed(platform, elsewhere, scripted) -> None:
    """T11: a redirect of the store is a refusal, and where it points to hears nothing."""
    platform.script["GET /r"] = Outgoing(status=307, headers={"Location": elsewhere.url})

    with pytest.raises(PlatformError, match="answered 307"):
        async with scripted.fetch(platform.url + "/r"):
            pass
    assert elsewhere.seen == []


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, Missing),
        (403, Missing),
        (404, Missing),
        (410, Missing),
        (429, Throttled),
        (503, Unavailable),
        (416, PlatformError),
    ],
)
async def test_a_lease_that_is_over_is_missing_and_not_our_credentials(platform, scripted, status, error) -> None:
    """A store's 403 means that the signature expired; it must not stop the run as a 403 of the API does."""
    platform.script["GET /r"] = Outgoing(status=status, headers={"Retry-After": "3"})

    with pytest.raises(error) as caught:
        async with scripted.fetch(platform.url + "/r?sig=s3cr3t"):
            pass
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://store.example/r", "file:///etc/passwd", "", "//x", "http://[::1", "data:,x"])
async def test_t10_what_is_no_signed_url_is_not_opened(scripted, url) -> None:
    """T10: only https, or http on loopback, is opened at all."""
    with pytest.raises(TrustError, match="a signed URL is https"):
        async with scripted.fetch(url):
            pass


async def test_cancel_accepts_every_answer_of_the_contract(platform, scripted, answer_json) -> None:
    """200 and 202 carry the job; after 204 and 409 it is asked for."""
    platform.script["GET /v1/jobs/j1"] = answer_json(JOB | {"status": "succeeded"})
    for answer, expected in (
        (answer_json(JOB | {"status": "cancelled"}), (200, "cancelled")),
        (answer_json(JOB, 202), (202, "running")),
        (Outgoing(status=204), (204, "succeeded")),
        (answer_json({"title": "Conflict", "status": 409}, 409), (200, "succeeded")),
    ):
        platform.script["DELETE /v1/jobs/j1"] = answer
        answered = await scripted.jobs.cancel("j1")
        assert (answered.status, answered.answer.status) == expected


async def test_the_secret_of_a_token_request_is_in_its_body_only(platform, scripted) -> None:
    """Contract 4.2: credentials travel as a form, never in the URL or a header."""
    await scripted.oauth.token(AskToken(grant_type="client_credentials", client_id="a", client_secret="s3cr3t"))

    seen = platform.asked("POST /v1/oauth/token")[-1]
    assert b"client_secret=s3cr3t" in seen.body
    assert "s3cr3t" not in repr(seen.headers) + repr(seen.query)
    assert "authorization" not in seen.headers


async def test_whatever_comes_nothing_foreign_is_raised(platform, scripted) -> None:
    """A connection that breaks at any point is an error of ours."""
    body = b'{"id":"j1","kind":"export.bulk","status":"running"}'
    for cut in range(0, len(body), 9):
        platform.script["GET /v1/jobs/j1"] = Outgoing(body=body, cut_after=cut)
        with pytest.raises(EngineError):
            await scripted.jobs.get("j1")
