"""Handbook: the documentation surface as pages, written from routes, topics and examples (contract 2.1).

Pure. What a page says of a route is read from the route itself, so that no page can be behind the code; its words
about topics are `titles`. Capabilities beyond single routes are `modules`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from engine.contract.modules import MODULES
from engine.contract.openapi import Places
from engine.contract.profile import PROFILE
from engine.contract.reference import BUNDLES, SDL, CodeExample, DocsIndex, TopicEntry, TopicPage, TopicSection
from engine.contract.route import Auth, Host, Nothing, Route, lay_out
from engine.contract.titles import LAST_UPDATED, REFERENCE, TOPICS, Section, Topic, title_of, topic_of

_AUTH_WORDS = {
    Auth.PUBLIC: "Public endpoint",
    Auth.CLIENT: "OAuth 2.0 client credentials or authorization code",
    Auth.BEARER: "Bearer token",
    Auth.SANDBOX: "Bearer token of the sandbox",
}
_STEPS = (
    "Register an app with the auth service.",
    "Ask only for scopes that your tenant may use.",
    "Get OAuth or service tokens.",
    "Verify tokens against the published key set.",
    "Subscribe to webhooks, or ask for access to more.",
)
_DESCRIPTION = "The external integration contract: apps, tokens, keys, jobs, events and documents."
_NOT_A_NAME = re.compile(r"[^a-z0-9]+")


class Handbook:
    """The pages for one set of routes at one set of places. `examples` are example questions by route name."""

    def __init__(self, routes: Sequence[Route[Any, Any]], examples: Mapping[str, Any], places: Places) -> None:
        self._routes = routes
        self._examples = examples
        self._places = places

    def index(self) -> DocsIndex:
        """What there is to read; the shape of the vendor's own index."""
        docs = self._places.docs
        return DocsIndex(
            version=PROFILE.version,
            last_updated=LAST_UPDATED,
            description=_DESCRIPTION,
            base_url=docs,
            endpoints={
                "index": f"{docs}/api/docs",
                "fullMarkdown": f"{docs}/api/docs?format=markdown",
                "topic": f"{docs}/api/docs/{{topic}}",
                "llmsTxt": f"{docs}/llms.txt",
            },
            topics=[self._entry(topic) for topic in TOPICS],
            quick_start={"steps": list(_STEPS), "cliInstall": ""},
            partner_portal=_partner_portal(docs),
        )

    def topic(self, topic_id: str) -> TopicPage | None:
        """One topic's page; None when there is no such topic."""
        topic = next((topic for topic in TOPICS if topic.id == topic_id), None)
        if topic is None:
            return None
        sections = self._sections(topic)
        parts = [f"# {topic.title}", topic.description]
        for section in sections:
            parts += [f"## {section.title}", section.content]
            parts += [f"```{example.language}\n{example.code}\n```" for example in section.code_examples]
        place = TOPICS.index(topic)
        return TopicPage(
            id=topic.id,
            title=topic.title,
            description=topic.description,
            last_updated=LAST_UPDATED,
            sections=sections,
            related_topics=[near.id for near in TOPICS[max(0, place - 1) : place + 2] if near is not topic],
            markdown="\n\n".join(parts) + "\n",
        )

    def full(self) -> str:
        """Every topic, as one Markdown text."""
        pages = (self.topic(topic.id) for topic in TOPICS)
        return "\n".join(page.markdown for page in pages if page is not None)

    def brief(self) -> str:
        """The short index for machines that read text (llms.txt)."""
        docs = self._places.docs
        lines = ["# Knogin", "", f"> {_DESCRIPTION}", "", "## Topics", ""]
        lines += [
            f"- [{topic.title}]({docs}/api/docs/{topic.id}?format=markdown): {topic.description}" for topic in TOPICS
        ]
        lines += ["", "## Capabilities", ""]
        lines += [f"- [{one.title}]({docs}/api/docs/modules/{one.slug}): {one.description}" for one in MODULES]
        lines += ["", "## Optional", "", f"- [Everything]({docs}/llms-full.txt): all topics in one text"]
        return "\n".join(lines) + "\n"

    def _entry(self, topic: Topic) -> TopicEntry:
        return TopicEntry(
            id=topic.id,
            title=topic.title,
            description=topic.description,
            url=f"{self._places.docs}/api/docs/{topic.id}",
            sections=[section.title for section in self._sections(topic)],
            last_updated=LAST_UPDATED,
        )

    def _sections(self, topic: Topic) -> list[TopicSection]:
        """Prose first, then one section for each heading that has routes, then the routes that have no heading."""
        found = self._prose() if topic is REFERENCE else []
        told: set[str] = set()
        for section in topic.sections:
            routes = [route for route in self._routes if section.is_about(route)]
            if routes:
                told |= {route.name for route in routes}
                found.append(self._section(section, routes))
        for route in self._routes:
            if topic_of(route) is topic and route.name not in told:
                found.append(self._section(Section((route.method,), route.path, title_of(route)), [route]))
        return found

    def _section(self, section: Section, routes: Sequence[Route[Any, Any]]) -> TopicSection:
        return TopicSection(
            id=_slug(section.heading),
            title=section.heading,
            content="\n\n".join(self._about(route) for route in routes),
            code_examples=[self._example(route) for route in routes if route.name in self._examples],
        )

    def _about(self, route: Route[Any, Any]) -> str:
        """What a route is, as a list, and the members of its question as a table."""
        scopes = " or ".join(f"`{scope}`" for scope in route.scopes) or "none"
        lines = [
            f"**{route.method} {route.path}**",
            "",
            f"- Host: {', '.join(self._places.of(host) for host in route.hosts)}",
            f"- Auth: {_AUTH_WORDS[route.auth]}",
            f"- Scope: {scopes}",
            f"- Answers: {', '.join(map(str, route.status))}, as {', '.join(route.media)}",
            "- Stability: Stable",
        ]
        if route.ask is not Nothing and (fields := msgspec.structs.fields(route.ask)):
            lines += ["", "| Member | Where | Required |", "|---|---|---|"]
            for field in fields:
                name, need = field.encode_name, "yes" if field.required else "no"
                lines.append(f"| `{name}` | {_where(route, name)} | {need} |")
        return "\n".join(lines)

    def _example(self, route: Route[Any, Any]) -> CodeExample:
        """The example question as a command, laid out as the client lays it out."""
        wire = lay_out(route, self._examples[route.name])
        words = [f"curl -X {route.method} '{self._places.of(route.hosts[0])}{wire.target}'"]
        if route.auth in (Auth.BEARER, Auth.SANDBOX):
            words.append("-H 'Authorization: Bearer '\"$ACCESS_TOKEN\"")
        words += [f"-H '{name}: {value}'" for name, value in wire.headers.items()]
        if wire.body is not None:
            words.append("--data '" + wire.body.decode().replace("'", "'\\''") + "'")
        return CodeExample(language="bash", code=" \\\n  ".join(words), description=title_of(route))

    def _prose(self) -> list[TopicSection]:
        hosts = "\n".join(f"- {host.value}: {self._places.of(host)}" for host in Host)
        steps = "\n".join(f"{number}. {step}" for number, step in enumerate(_STEPS, start=1))
        boundary = "Only the topics listed here are supported. Internal and administrative routes are not public."
        by_request = "GraphQL operations, bundles and connectors beyond this surface are given to approved partners."
        return [
            TopicSection(id=_slug(title), title=title, content=content)
            for title, content in (
                ("Contract Boundary", boundary),
                ("Base URLs", hosts),
                ("Quick Start", steps),
                ("Capabilities Available By Request", by_request),
            )
        ]


def _where(route: Route[Any, Any], member: str) -> str:
    if "{" + member + "}" in route.path:
        return "path"
    if member in route.headers:
        return f"header `{route.headers[member]}`"
    return "query" if route.method in ("GET", "DELETE") else "form" if route.form else "body"


def _slug(text: str) -> str:
    return _NOT_A_NAME.sub("-", text.lower()).strip("-")


def _partner_portal(docs: str) -> dict[str, Any]:
    """What approved partners get; paths and names are the vendor's. Of them the GraphQL bundle is a route."""
    by_request = "approved_partner"
    kits = (
        ("@argus/connector-sdk", "typescript"), ("argus-connector-sdk", "python"),
        ("@argus/client", "typescript"), ("argus-client", "python"),
    )  # fmt: skip
    return {
        "contractVersion": PROFILE.version,
        "requestAccessUrl": f"{docs}/en/docs/integration-guide#vendor-contact",
        "graphqlBundle": {"path": SDL.path, "availability": by_request},
        "openapiBundle": {"path": f"{BUNDLES}external-openapi.json", "availability": by_request},
        "sdkPackages": [
            {"name": name, "language": language, "version": PROFILE.version, "availability": by_request}
            for name, language in kits
        ],
    }
