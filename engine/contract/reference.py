"""The documentation surface (contract 2): routes 42-46, the contract as documents that people read.

And the GraphQL bundle, which approved partners get at the path that the index tells them; table A has no row for it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from engine.contract.profile import PROFILE
from engine.contract.route import Auth, Host, Nothing, Route, Text

MARKDOWN = "text/markdown"
SDL_TYPE = "application/graphql"
BUNDLES = "/partners/contract/v2026.4/"
_BOTH = ("application/json", MARKDOWN)


class AskIndex(msgspec.Struct, frozen=True, kw_only=True):
    """The index; with `format` "markdown" the whole documentation as one text."""

    format: str | None = None


class AskTopic(msgspec.Struct, frozen=True, kw_only=True):
    """A topic by its id; `format` is "json" or "markdown"."""

    topic: str
    format: str | None = None


class AskModule(msgspec.Struct, frozen=True, kw_only=True):
    """The description of a capability by its slug; `format` is "json" or "markdown"."""

    slug: str
    format: str | None = None


class TopicEntry(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A topic in the index; `sections` are headings."""

    id: str
    title: str
    description: str
    url: str
    sections: list[str]
    last_updated: str


class DocsIndex(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What there is to read, and where. The inside of `partner_portal` is by request only."""

    version: str
    last_updated: str
    description: str
    base_url: str
    endpoints: dict[str, str]
    topics: list[TopicEntry]
    quick_start: dict[str, Any]
    partner_portal: dict[str, Any]


class CodeExample(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of code to copy."""

    language: str
    code: str
    description: str = ""


class TopicSection(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One section of a topic; `content` is Markdown."""

    id: str
    title: str
    content: str
    code_examples: list[CodeExample] = []


class TopicPage(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A topic, in parts and as one Markdown text."""

    id: str
    title: str
    description: str
    last_updated: str
    sections: list[TopicSection]
    related_topics: list[str]
    markdown: str


class Heading(msgspec.Struct, frozen=True, kw_only=True):
    """A heading of a module's text; `level` counts from 1."""

    id: str
    text: str
    level: int


class ModulePage(msgspec.Struct, frozen=True, kw_only=True):
    """The description of a capability. `checksum` is the SHA-256 of `markdown`, in hex."""

    id: str
    slug: str
    title: str
    description: str
    category: str
    tags: list[str]
    last_modified: str = msgspec.field(name="lastModified")
    source_ref: str
    url: str
    html_path: str = msgspec.field(name="htmlPath")
    json_path: str = msgspec.field(name="jsonPath")
    markdown_path: str = msgspec.field(name="markdownPath")
    checksum: str
    headings: list[Heading]
    markdown: str


INDEX = Route(
    number=42, name="reference.index", method="GET", path="/api/docs", hosts=(Host.DOCS,), auth=Auth.PUBLIC,
    ask=AskIndex, answer=DocsIndex, media=_BOTH, status=(200, 304),
)  # fmt: skip
TOPIC = Route(
    number=43, name="reference.topic", method="GET", path="/api/docs/{topic}", hosts=(Host.DOCS,), auth=Auth.PUBLIC,
    ask=AskTopic, answer=TopicPage, media=_BOTH, status=(200, 304),
)  # fmt: skip
MODULE = Route(
    number=44, name="reference.module", method="GET", path="/api/docs/modules/{slug}", hosts=(Host.DOCS,),
    auth=Auth.PUBLIC, ask=AskModule, answer=ModulePage, media=_BOTH, status=(200, 304),
)  # fmt: skip
BRIEF = Route(
    number=45, name="reference.brief", method="GET", path="/llms.txt", hosts=(Host.DOCS,), auth=Auth.PUBLIC,
    ask=Nothing, answer=Text, media=("text/plain",), status=(200, 304),
)  # fmt: skip
FULL = Route(
    number=46, name="reference.full", method="GET", path="/llms-full.txt", hosts=(Host.DOCS,), auth=Auth.PUBLIC,
    ask=Nothing, answer=Text, media=("text/plain",), status=(200, 304),
)  # fmt: skip

SDL = Route(
    number=47, name="reference.sdl", method="GET", path=BUNDLES + "external.graphql", hosts=(Host.DOCS,),
    auth=Auth.BEARER, scopes=PROFILE.partner_scopes, ask=Nothing, answer=Text, media=(SDL_TYPE,), status=(200, 304),
)  # fmt: skip

ROUTES = (INDEX, TOPIC, MODULE, BRIEF, FULL, SDL)
EXAMPLES = {
    INDEX.name: AskIndex(),
    TOPIC.name: AskTopic(topic="async-jobs"),
    MODULE.name: AskModule(slug="data-import-export"),
    BRIEF.name: Nothing(),
    FULL.name: Nothing(),
    SDL.name: Nothing(),
}
