"""The documentation surface: the index has the vendor's shape, and every page tells what the routes are."""

import hashlib
import json
from pathlib import Path

import pytest

from engine.contract.catalog import ROUTES
from engine.contract.handbook import Handbook
from engine.contract.modules import MODULES
from engine.contract.openapi import Places
from engine.contract.route import Auth, Host, Nothing, Route
from engine.contract.titles import TOPICS
from engine.emulator.reference import prefers_markdown

pytestmark = pytest.mark.anyio

VENDOR = Path(__file__).parents[3] / "shared" / "contract-index.json"
MARKDOWN = "text/markdown; charset=utf-8"


@pytest.fixture
def vendor():
    if not VENDOR.exists():
        pytest.skip(f"no {VENDOR.name}: the vendor's index is not here")
    return json.loads(VENDOR.read_text(encoding="utf-8"))


def _shape(value):
    if isinstance(value, dict):
        return {name: _shape(member) for name, member in value.items()}
    return [_shape(value[0])] if isinstance(value, list) and value else type(value).__name__


async def test_the_index_has_the_vendors_shape(api, vendor):
    """The same members of the same kinds, the same topics in the same order, the same partner portal."""
    ours = (await api.send("GET", "/api/docs")).json

    assert _shape(ours) == _shape(vendor)
    assert ours["version"] == vendor["version"]
    assert [(one["id"], one["title"]) for one in ours["topics"]] == [
        (one["id"], one["title"]) for one in vendor["topics"]
    ]
    assert ours["partnerPortal"]["sdkPackages"] == vendor["partnerPortal"]["sdkPackages"]


async def test_sections_are_the_vendors_where_we_have_the_route(api, vendor):
    """Every section of a topic is one of the vendor's; what is missing has no route here."""
    ours = (await api.send("GET", "/api/docs")).json
    paths = {route.path for route in ROUTES.values()}

    for mine, theirs in zip(ours["topics"][1:], vendor["topics"][1:], strict=True):
        missing = set(theirs["sections"]) - set(mine["sections"])
        assert set(mine["sections"]) <= set(theirs["sections"]), mine["id"]
        assert not [heading for heading in missing if heading.partition(" · ")[0].split()[-1] in paths]


async def test_every_route_is_told_of_once(api):
    """Each route stands in exactly one topic, with its scopes, its members and a command to copy."""
    pages = [(await api.send("GET", f"/api/docs/{topic.id}")).json for topic in TOPICS]
    whole = "\n".join(page["markdown"] for page in pages)

    for route in ROUTES.values():
        assert whole.count(f"**{route.method} {route.path}**\n") == 1, route.name
    for page in pages:
        for section in page["sections"]:
            assert section["title"] in page["markdown"]
            assert all(example["code"] in page["markdown"] for example in section["codeExamples"])


async def test_markdown_is_asked_for_in_two_ways(api):
    """By `format`, which counts, or by `Accept`; the whole text is the same at each of its places."""
    by_format = await api.send("GET", "/api/docs", params={"format": "markdown"})
    by_accept = await api.send("GET", "/api/docs", headers={"Accept": "text/markdown"})
    full = await api.send("GET", "/llms-full.txt")
    as_json = await api.send("GET", "/api/docs", params={"format": "json"}, headers={"Accept": "text/markdown"})
    topic = await api.send("GET", "/api/docs/async-jobs", params={"format": "markdown"})

    assert by_format.headers["Content-Type"] == by_accept.headers["Content-Type"] == MARKDOWN
    assert by_format.body == by_accept.body == full.body
    assert full.headers["Content-Type"].startswith("text/plain")
    assert as_json.headers["Content-Type"] == "application/json"
    assert topic.body.decode() in full.body.decode()
    assert (await api.send("GET", "/api/docs", params={"format": "html"})).status == 422


@pytest.mark.parametrize(
    ("accept", "is_markdown"),
    [
        ("", False), ("*/*", False), ("text/markdown", True), ("text/markdown, application/json;q=0.9", True),
        ("text/markdown;q=0.5, application/json", False), ("text/html,*/*;q=0.8", False),
        ("text/markdown;q=0", False), ("text/markdown;q=x", False), ("text/*, */*;q=0.1", True),
    ],
)  # fmt: skip
def test_accept_is_weighed(accept, is_markdown):
    """Markdown is given to those who want it more than JSON."""
    assert prefers_markdown(accept) is is_markdown


async def test_a_module_is_what_its_checksum_says(api):
    """Every capability has a page; its checksum is of its Markdown, and its headings are in it."""
    for module in MODULES:
        page = (await api.send("GET", f"/api/docs/modules/{module.slug}")).json
        text = await api.send("GET", page["markdownPath"])
        assert text.body.decode() == page["markdown"]
        assert page["checksum"] == hashlib.sha256(text.body).hexdigest()
        assert all(f"{'#' * one['level']} {one['text']}\n" in page["markdown"] for one in page["headings"])


async def test_pages_have_the_documented_members(api):
    """Topic and module have the members of contract 2.1, and no others."""
    topic = (await api.send("GET", "/api/docs/async-jobs")).json
    module = (await api.send("GET", "/api/docs/modules/data-import-export")).json

    assert set(topic) == set("id title description lastUpdated sections relatedTopics markdown".split())
    assert set(topic["sections"][0]) == {"id", "title", "content", "codeExamples"}
    assert set(topic["sections"][0]["codeExamples"][0]) == {"language", "code", "description"}
    assert set(module) == set(
        "id slug title description category tags lastModified source_ref url htmlPath jsonPath markdownPath checksum"
        " headings markdown".split()
    )
    assert set(module["headings"][0]) == {"id", "text", "level"}


async def test_what_is_not_there_is_missing(api):
    """An unknown topic or module is 404, in the shape of every refusal."""
    for path in ("/api/docs/teleportation", "/api/docs/modules/teleportation", "/api/docs/modules"):
        answer = await api.send("GET", path)
        assert (answer.status, answer.json["code"]) == (404, "not_found")


async def test_the_brief_index_leads_to_every_topic(emulator, api):
    """llms.txt links each topic and module, and every link is answered."""
    text = (await api.send("GET", "/llms.txt")).body.decode()
    links = [part.partition(")")[0] for part in text.split("](")[1:]]

    assert len(links) == len(TOPICS) + len(MODULES) + 1
    for link in links:
        assert (await api.send("GET", link.removeprefix(emulator.base_url))).status == 200


def test_a_route_that_nobody_named_is_told_of_all_the_same():
    """Adding a route is enough: it stands under its group's topic, or in the reference."""
    new = Route(
        number=99, name="jobs.retry", method="POST", path="/v1/jobs/retry", hosts=(Host.API,), auth=Auth.BEARER,
        ask=Nothing, answer=Nothing,
    )  # fmt: skip
    odd = Route(
        number=98, name="weather.get", method="GET", path="/v1/weather", hosts=(Host.API,), auth=Auth.PUBLIC,
        ask=Nothing, answer=Nothing,
    )  # fmt: skip
    book = Handbook([new, odd], {}, Places(auth="a", api="p", sandbox="s", docs="d"))

    assert "POST /v1/jobs/retry · Jobs: retry" in book.topic("async-jobs").markdown
    assert "GET /v1/weather · Weather: get" in book.topic("api-reference").markdown
