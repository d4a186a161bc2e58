"""Discovery and documents, as the client reads them; and how it tells of deprecated routes (contract 12, 2.1)."""

import pytest

from engine.client.client import Access, Client
from engine.contract.deprecation import Deprecated
from engine.contract.profile import Profile
from engine.contract.route import Text
from engine.emulator.server import Emulator
from engine.errors import ConfigError, Missing, PlatformError
from engine.events import Warned
from engine.transport.ageing import AgeingTransport
from engine.transport.incoming import Outgoing
from engine.trust.keyring import Keyring

pytestmark = pytest.mark.anyio


class Recorder:
    """Keeps what it is told."""

    def __init__(self):
        self.warnings = []

    def notice(self, event):
        if isinstance(event, Warned):
            self.warnings.append(event)


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def listening(platform, transport, clock, recorder):
    """A client of the scripted platform, over the transport that tells of deprecated routes."""
    access = Access(auth_url=platform.url, api_url=platform.url, docs_url=platform.url)
    keyring = Keyring(platform.url + "/.well-known/jwks.json", transport, clock)
    return Client(AgeingTransport(transport, recorder, clock), access, clock=clock, keyring=keyring)


async def test_documents_are_typed(emulator, client_of):
    """Descriptor, catalogue, schemas and pages come as values; YAML and llms.txt as text."""
    client = client_of(emulator)

    assert "/v1/jobs" in (await client.discovery.openapi()).answer.paths
    assert (await client.discovery.openapi_yaml()).answer.text.startswith("openapi:")
    context = (await client.discovery.catalog()).answer.linkset[0]
    assert (context.anchor, context.service_desc[0].type) == (f"{emulator.base_url}/", "application/json")
    assert (await client.discovery.schemas()).answer.total_count
    assert (await client.reference.index()).answer.topics[0].id == "api-reference"
    assert (await client.reference.topic("async-jobs")).answer.related_topics
    assert (await client.reference.module("data-import-export")).answer.tags == ["import.bulk", "export.bulk"]
    assert (await client.reference.brief()).answer.media_type == "text/plain"
    assert "# Async jobs" in (await client.reference.full()).answer.text
    with pytest.raises(Missing):
        await client.reference.topic("teleportation")


async def test_markdown_by_name_is_text(emulator, client_of):
    """Whoever asks a page for Markdown gets text, and not a broken answer."""
    answered = await client_of(emulator).answered("reference.topic", {"topic": "async-jobs", "format": "markdown"})

    assert isinstance(answered.answer, Text)
    assert answered.answer.text.startswith("# Async jobs")


async def test_an_unchanged_document_is_no_answer(emulator, client_of):
    """With the ETag of before the client reads 304, and None in place of the document."""
    client = client_of(emulator)
    first = await client.discovery.openapi()

    again = await client.discovery.openapi(etag=first.headers["etag"])

    assert (again.status, again.answer) == (304, None)


async def test_a_304_that_nobody_asked_for_is_refused(platform, listening):
    """A route without a condition has no answer to keep."""
    platform.script["GET /llms.txt"] = Outgoing(status=304)

    with pytest.raises(PlatformError, match="304"):
        await listening.reference.brief()


async def test_a_relation_may_be_text_or_an_array(platform, listening, answer_json):
    """Link sets write extension attributes as arrays, and not everybody knows."""
    for rel in ("provenance-verify-keys", ["provenance-verify-keys"]):
        context = {"anchor": "https://x.example/", "service-meta": [{"href": "https://x.example/k", "rel": rel}]}
        platform.script["GET /.well-known/api-catalog"] = answer_json({"linkset": [context], "more": 1})
        assert (await listening.discovery.catalog()).answer.linkset[0].service_meta[0].rel == rel


async def test_documents_need_a_host(emulator, client_of):
    """Without the documents' host the client says so, and sends nothing."""
    with pytest.raises(ConfigError, match="docs host"):
        await client_of(emulator, docs_url=None).reference.index()


async def test_a_row_of_the_matrix_changes_both_sides(transport, client_of, recorder):
    """The emulator marks the route, the client works on and warns once for it, and for no other."""
    row = Deprecated(
        method="GET", path_template="/v1/jobs", deprecated_at="2026-05-01T00:00:00Z",
        sunset_at="2126-06-01T00:00:00Z", successor="/v2/jobs", doc="https://knogin.com/docs/jobs",
    )  # fmt: skip
    for rows, told in (((), []), ((row,), ["platform.deprecated"])):
        async with Emulator(profile=Profile(deprecations=rows)) as emulator:
            client = client_of(emulator, observer=recorder)
            for _ in range(3):
                assert (await client.jobs.list()).answer.jobs == []
            await client.discovery.openapi()
        assert [warning.code for warning in recorder.warnings] == told
    assert recorder.warnings[0].message == (
        "jobs.list (GET /v1/jobs) is deprecated since 2026-05-01 and is to be withdrawn from 2126-06-01;"
        " its successor is /v2/jobs;"
        " see https://knogin.com/docs/jobs"
    )


async def test_a_refusal_tells_as_well(platform, listening, recorder, answer_json):
    """A route that has ended answers 410, and the warning still comes before the error."""
    platform.script["GET /llms.txt"] = answer_json({"detail": "gone"}, 410, Deprecation="@1777593600")

    with pytest.raises(Missing):
        await listening.reference.brief()

    assert [warning.code for warning in recorder.warnings] == ["platform.deprecated"]
