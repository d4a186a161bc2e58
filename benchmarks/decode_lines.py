"""P2: typed decode of NDJSON results, rows of 1 KB, in pieces of 64 KiB.

    python -m benchmarks.decode_lines [--quick]

Ours is what the fetch lane does with a result that comes as lines: `RowLines` finds whole rows, checks what foreign
text must be checked for, and the interpreter matches, counts and types them (`decode.py` beside this file has more of
it). The peers are the best ways of msgspec alone, which check and match nothing. All read the same bytes and drop
what they decoded.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from benchmarks.command import alone
from benchmarks.remote import ROW_BYTES, filler
from benchmarks.rounds import Contestant, Failed, Meter, Size, interleave, peak_mib, perform, reading
from benchmarks.row import OURS, Goal, Reading, Readings, Row

BYTES = 100_000_000
PIECE = 64 * 1024
STRUCTS = "msgspec structs, gc=False"
LIMIT = "newlines found"

ROW = Row(
    id="P2",
    title="typed decode of 1 KB NDJSON results",
    unit="MB per CPU second",
    goals=(
        Goal("at least 1.0 × the best msgspec variant", 1.0, against=STRUCTS, is_ceiling=False),
        Goal("memory grows by at most 8 MiB over the whole", 8.0, ours="engine, growth in MiB"),
    ),
    peer=STRUCTS,
    limit=LIMIT,
    is_rate=True,
    note="ours also checks UTF-8 and depth, matches keys and counts statuses; its attributes stay JSON text",
)


class Attribute(msgspec.Struct, gc=False):
    """One derived attribute."""

    name: str
    value: str
    confidence: float
    source: str
    retrieved_at: str


class Result(msgspec.Struct, gc=False):
    """One row of a result, in full."""

    profile_id: str
    status: str
    enrichment_score: int | None
    attributes: list[Attribute]


def rows(count: int) -> list[bytes]:
    """Rows as the remote gives them."""
    tail = filler(b"profile_id", b"succeeded", ROW_BYTES)
    return [b'{"profile_id":"r%08d"%b' % (number, tail) for number in range(count)]


def pieces(size: int, *, is_array: bool = False) -> Iterator[bytes]:
    """A body of about `size` bytes in pieces, as a socket would give them; made of one part, repeated."""
    texts = rows(1000)
    part = b"".join(text + (b"," if is_array else b"\n") for text in texts)
    for _ in range(max(1, size // len(part))):
        for at in range(0, len(part), PIECE):
            yield part[at : at + PIECE]


def ours(size: int) -> int:
    """Rows of the body, by the engine's own way."""
    from benchmarks.decode import TYPED, Jobs
    from engine.jobs.result_lines import RowLines

    jobs = Jobs(TYPED)
    lines = RowLines(64 * 1024 * 1024, jobs.lines)
    for piece in pieces(size):
        jobs.keep(lines.feed(piece))
    jobs.keep(lines.finish())
    return jobs.rows


def by_same(size: int) -> int:
    """As `by_lines`, with the very struct that ours fills."""
    from benchmarks.decode import TYPED
    from engine.codec.fields import struct_of

    decode = msgspec.json.Decoder(struct_of("Same", TYPED)).decode_lines
    return sum(map(len, map(decode, _windows(size))))


def by_lines(size: int) -> int:
    """`decode_lines` of msgspec on windows that end with a line."""
    return sum(map(len, map(msgspec.json.Decoder(Result).decode_lines, _windows(size))))


def _windows(size: int) -> Iterator[bytes]:
    held = b""
    for piece in pieces(size):
        cut = piece.rfind(b"\n") + 1
        yield held + piece[:cut]
        held = piece[cut:]


def by_raw(size: int) -> int:
    """As `by_lines`, leaving every row as it is."""
    return sum(map(len, map(msgspec.json.Decoder(msgspec.Raw).decode_lines, _windows(size))))


def by_orjson(size: int) -> int:
    """`orjson.loads` of each line, without types."""
    import orjson

    return sum(len([orjson.loads(line) for line in window.splitlines()]) for window in _windows(size))


def newlines(size: int) -> int:
    """Nothing but counting lines."""
    return sum(piece.count(b"\n") for piece in pieces(size))


WAYS: dict[str, Callable[[int], int]] = {
    OURS: ours,
    STRUCTS: by_lines,
    "msgspec, the struct of ours": by_same,
    "msgspec, rows as Raw": by_raw,
    "orjson, untyped": by_orjson,
    LIMIT: newlines,
}


def decode(*, way: str, size: int) -> dict[str, Any]:
    """A contestant; what making the pieces takes is taken off."""
    return timed(WAYS[way], pieces, size)


def timed(work: Callable[[int], int], source: Callable[[int], Iterator[bytes]], size: int) -> dict[str, Any]:
    """Decode a tenth to warm up, then all; how much memory the second took on top of the first is told."""
    work(size // 10)
    gc.collect()
    before_mib = peak_mib()
    with Meter() as making:
        total = sum(map(len, source(size)))
    with Meter() as meter:
        count = work(size)
    if not count:
        raise Failed("nothing was decoded")
    meter.cpu_s = max(meter.cpu_s - making.cpu_s, 1e-9)
    return meter.answer(count, body_bytes=total, growth_mib=peak_mib() - before_mib)


def measure(size: Size) -> dict[str, Readings]:
    """Everybody, interleaved."""
    return compare("benchmarks.decode_lines:decode", list(WAYS), size)


def compare(target: str, ways: list[str], size: Size) -> dict[str, Readings]:
    """Everybody's rate, and how much memory ours gained."""
    total, growth = size.of(BYTES, quick=10_000_000, tiny=100_000), list[Reading]()

    def play(one: Contestant, _: int) -> Reading:
        answer = perform(one)
        if one.name == OURS:
            growth.append(Reading(answer["growth_mib"]))
        return reading(answer, answer["body_bytes"] / 1e6 / answer["cpu_s"])

    contestants = [Contestant(name, target, {"way": name, "size": total}) for name in ways]
    return interleave(contestants, size.rounds, play) | {"engine, growth in MiB": growth}


if __name__ == "__main__":
    alone(ROW, measure)
