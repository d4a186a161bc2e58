"""P3: typed decode of one JSON document that holds a large array, in pieces of 64 KiB and bounded memory.

    python -m benchmarks.decode_array [--quick]

Ours is what the fetch lane does with such a result: `ArraySplitter` cuts windows of whole elements, which the
interpreter matches, counts and types. It is held to P2's own figure for lines. The full size is 1 GB in each round.
The peers are ijson, which keeps memory flat too, and msgspec on the whole document, which cannot (a tenth of the size
for both).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from benchmarks.command import alone
from benchmarks.decode_lines import BYTES, Result, pieces, timed
from benchmarks.decode_lines import ours as lines_decoded
from benchmarks.rounds import Contestant, Size, interleave, perform, reading
from benchmarks.row import OURS, Goal, Reading, Readings, Row

_HEAD, _TAIL = b'{"results":[', b'],"summary":{"requested":1}}'
LINES = "engine, as lines (P2)"
PEAK = "engine, peak in MiB"
_SCALE = 10

ROW = Row(
    id="P3",
    title="typed decode of a JSON document with a 1 GB array",
    unit="MB per CPU second",
    goals=(
        Goal("at least 0.9 × P2", 0.9, against=LINES, is_ceiling=False),
        Goal("at most 64 MiB", 64.0, ours=PEAK),
    ),
    peer="msgspec, whole document",
    limit=LINES,
    is_rate=True,
    note="the peak is of the whole process, imports included",
)


def document(size: int) -> Iterator[bytes]:
    """The document in pieces."""
    yield _HEAD
    held = b""
    for piece in pieces(size, is_array=True):
        if held:
            yield held
        held = piece
    # The last element has no comma after it.
    yield held[:-1] + _TAIL


def ours(size: int) -> int:
    """Elements of the array, by the engine's own way."""
    from benchmarks.decode import TYPED, Jobs
    from engine.codec.array import ArraySplitter

    jobs = Jobs(TYPED)
    splitter = ArraySplitter("results", take=jobs.elements)
    for piece in document(size):
        for window in splitter.feed(piece):
            jobs.keep(window)
    splitter.finish()
    return jobs.rows


class _Document(msgspec.Struct, gc=False):
    results: list[Result]


def whole(size: int) -> int:
    """The document as one text."""
    return len(msgspec.json.decode(b"".join(document(size)), type=_Document).results)


class _Body:
    """The document as a file of bytes."""

    def __init__(self, size: int) -> None:
        self._pieces, self._held = document(size), b""

    def read(self, size: int = -1) -> bytes:
        while len(self._held) < size and (piece := next(self._pieces, b"")):
            self._held += piece
        taken, self._held = self._held[:size], self._held[size:]
        return taken


def streamed(size: int) -> int:
    """Element by element, by ijson."""
    import ijson

    return sum(1 for _ in ijson.items(_Body(size), "results.item", use_float=True))


_WAYS = {OURS: ours, LINES: lines_decoded, "msgspec, whole document": whole, "ijson": streamed}


def decode(*, way: str, size: int) -> dict[str, Any]:
    """A contestant."""
    return timed(_WAYS[way], pieces if way == LINES else document, size)


def measure(size: Size) -> dict[str, Readings]:
    """Everybody, interleaved; the peers get less, because one keeps it all and the other is slow."""
    full = size.of(_SCALE * BYTES, quick=20_000_000, tiny=200_000)
    sizes = {OURS: full, LINES: full // 2}
    peaks: list[Reading] = []

    def play(one: Contestant, _: int) -> Reading:
        answer = perform(one)
        if one.name == OURS:
            peaks.append(Reading(answer["peak_mib"]))
        return reading(answer, answer["body_bytes"] / 1e6 / answer["cpu_s"])

    contestants = [
        Contestant(
            name,
            "benchmarks.decode_array:decode",
            {"way": name, "size": sizes.get(name, max(full // _SCALE, 100_000))},
            ("ijson",) if name == "ijson" else (),
        )
        for name in _WAYS
    ]
    return interleave(contestants, size.rounds, play) | {PEAK: peaks}


if __name__ == "__main__":
    alone(ROW, measure)
