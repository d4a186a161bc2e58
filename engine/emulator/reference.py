"""Reference: the documentation surface (contract 2.1, routes 42-47), written from the contract's own data.

As JSON, or as Markdown by `?format=markdown` or where the caller's `Accept` prefers it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.codec.payload import encode
from engine.contract import reference as contract
from engine.contract.handbook import Handbook
from engine.contract.modules import module_page
from engine.contract.reference import MARKDOWN
from engine.contract.route import Route
from engine.contract.sdl import external_graphql
from engine.emulator.call import Call, Handler, Reply
from engine.emulator.discovery import places_of
from engine.emulator.documents import document
from engine.emulator.refusal import Refusal, invalid
from engine.emulator.state import State

_JSON = "application/json"
_UTF8 = "; charset=utf-8"


def handlers(state: State, routes: Mapping[str, Route[Any, Any]], examples: Mapping[str, Any]) -> dict[str, Handler]:
    """Routes 42 to 47, over these routes."""
    public = f"public, max-age={state.profile.documents_max_age_s}"

    def handbook() -> Handbook:
        return Handbook(list(routes.values()), examples, places_of(state))

    def answer(call: Call, page: Any, markdown: str) -> Reply:
        wanted = call.ask.format
        if wanted not in (None, "json", "markdown"):
            raise invalid("query", "format", "is json or markdown")
        is_markdown = wanted == "markdown" or (wanted is None and prefers_markdown(call.headers.get("accept", "")))
        if is_markdown:
            reply = document(call, markdown.encode(), MARKDOWN + _UTF8, public)
        else:
            reply = document(call, encode(page), _JSON, public)
        reply.headers["Vary"] = "Accept"
        return reply

    def index(call: Call) -> Reply:
        book = handbook()
        return answer(call, book.index(), book.full())

    def topic(call: Call) -> Reply:
        page = handbook().topic(call.ask.topic)
        if page is None:
            raise Refusal(404, "not_found", "There is no such topic; /api/docs lists them.")
        return answer(call, page, page.markdown)

    def module(call: Call) -> Reply:
        page = module_page(call.ask.slug, state.base_url)
        if page is None:
            raise Refusal(404, "not_found", "There is no such module; /llms.txt lists them.")
        return answer(call, page, page.markdown)

    def brief(call: Call) -> Reply:
        return document(call, handbook().brief().encode(), "text/plain" + _UTF8, public)

    def full(call: Call) -> Reply:
        return document(call, handbook().full().encode(), "text/plain" + _UTF8, public)

    return {
        contract.INDEX.name: index,
        contract.TOPIC.name: topic,
        contract.MODULE.name: module,
        contract.BRIEF.name: brief,
        contract.FULL.name: full,
        contract.SDL.name: _sdl,
    }


def _sdl(call: Call) -> Reply:
    """The bundle of approved partners, which no shared cache may keep."""
    reply = document(call, external_graphql().encode(), contract.SDL_TYPE + _UTF8, "private, no-cache")
    reply.headers["Vary"] = "Authorization"
    return reply


def prefers_markdown(accept: str) -> bool:
    """Whether an `Accept` names Markdown with a higher weight than JSON (RFC 9110 section 12.5.1)."""
    weights: dict[str, float] = {}
    for choice in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in choice.split(";"))
        weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        try:
            weights[kind] = min(1.0, max(0.0, float(weight)))
        except ValueError:
            weights[kind] = 0.0
    ranges = (_JSON, "application/*", "*/*")
    json_weight = next((weights[name] for name in ranges if name in weights), 0.0)
    return weights.get(MARKDOWN, weights.get("text/*", 0.0)) > json_weight
