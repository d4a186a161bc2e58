"""JSON source: the elements of one array as rows, plain or compressed; the document may be larger than memory.

The document is the array itself, or an object in which `rows` names it.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from engine.codec import payload
from engine.codec.array import ArraySplitter
from engine.codec.lines import BOM
from engine.components.sources.counted import CountedSource
from engine.components.sources.streams import READ_BYTES, Body, InputStream, encoding_of
from engine.errors import EngineError, InputError

# The name of an array that has none.
_ROWS = "rows"


class JsonSource(CountedSource):
    """Reads the elements of an array, each as one row."""

    def _texts_of(self, name: str, body: Body) -> Iterator[list[bytes]]:
        stream = InputStream(name, encoding_of(name, self.spec.compression), self._stop, body)
        member = self.spec.rows
        splitter: ArraySplitter[bytes] = ArraySplitter(member or _ROWS, max_element=self.spec.line_max)
        try:
            if member is None:
                # An array alone is read as the one member of an object.
                yield from self._texts(splitter.feed(b'{"rows":'))
                stream.skip_to(len(BOM) if stream.peek(len(BOM)) == BOM else 0)
            while chunk := stream.read(READ_BYTES):
                yield from self._texts(splitter.feed(chunk))
            if self._stop.is_set():
                return
            if member is None:
                yield from self._texts(splitter.feed(b"}"))
            splitter.finish()
        except InputError:
            raise
        except EngineError as exc:
            what = "is not one JSON array" if member is None else f"holds no array `{member}`"
            raise InputError(
                f"`{name}` {what}: {exc.message}",
                hint="rows before that place are kept; `rows` in [source] names the member that holds the rows",
                input=name,
            ) from exc

    def _texts(self, windows: list[bytes]) -> Iterator[list[bytes]]:
        for window in windows:
            elements = payload.decoder(list[msgspec.Raw]).decode(window)
            # A line end inside JSON text is a blank.
            yield [bytes(element).replace(b"\n", b" ").replace(b"\r", b" ") for element in elements]
