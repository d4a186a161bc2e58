"""The documentation surface, as asked (contract 2.1): routes 42-47, at the host of the documents."""

from __future__ import annotations

from engine.client.call import Answered, Caller
from engine.contract import reference
from engine.contract.exchange import Trace
from engine.contract.reference import AskIndex, AskModule, AskTopic, DocsIndex, ModulePage, TopicPage
from engine.contract.route import Nothing, Text


class Reference:
    """The documents that people read. A page carries its own Markdown, so nothing asks for that form."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def index(self, *, trace: Trace | None = None) -> Answered[DocsIndex]:
        """What there is to read."""
        return await self._caller.call(reference.INDEX, AskIndex(), trace=trace)

    async def topic(self, topic: str, *, trace: Trace | None = None) -> Answered[TopicPage]:
        """One topic, by its id in the index."""
        return await self._caller.call(reference.TOPIC, AskTopic(topic=topic), trace=trace)

    async def module(self, slug: str, *, trace: Trace | None = None) -> Answered[ModulePage]:
        """The description of one capability."""
        return await self._caller.call(reference.MODULE, AskModule(slug=slug), trace=trace)

    async def brief(self, *, trace: Trace | None = None) -> Answered[Text]:
        """The short index, llms.txt."""
        return await self._caller.call(reference.BRIEF, Nothing(), trace=trace)

    async def full(self, *, trace: Trace | None = None) -> Answered[Text]:
        """All topics in one text, llms-full.txt."""
        return await self._caller.call(reference.FULL, Nothing(), trace=trace)

    async def sdl(self, *, trace: Trace | None = None) -> Answered[Text]:
        """The GraphQL bundle of approved partners, in the schema language; it takes the scope of GraphQL."""
        return await self._caller.call(reference.SDL, Nothing(), trace=trace)
