"""Testing: what a source, a sink or a transform must hold, as checks for the tests of whoever writes one.

    from engine.testing import check_source

    def test_my_source():
        check_source(rows, options={"queue": "q"}, key="id")

Each check raises AssertionError with a sentence that says what the engine relies on. Nothing here is needed to run.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from engine.codec.payload import encode, loads
from engine.components.plugins import Pull, Row, RowSource
from engine.errors import EngineError
from engine.ports import Sink

# Rows of a sink's test: what to write, and how to see what is there.
Rows = Sequence[dict[str, Any]]
Look = Callable[[], Rows]


def check_source(
    rows: RowSource, *, options: Mapping[str, Any], key: str, most: int = 10_000, stops_within_s: float = 10.0
) -> None:
    """Hold the function of a plug-in source to what the engine relies on; looks at the first `most` rows.

    Each row is a JSON object with a key, and has a place; reading after any place brings exactly what came after it;
    a stop ends the reading within `stops_within_s`.
    """
    whole = _pulled(rows, options, None, most)
    _must(whole, "a source under test yields some row, or nothing of it can be checked")
    for row, place in whole:
        _check_row(row, place, key)
    for cut in sorted({0, len(whole) // 2, len(whole) - 1}):
        rest = _pulled(rows, options, whole[cut][1], most - cut - 1)
        _must(
            _texts(rest) == _texts(whole[cut + 1 :]),
            f"after the place of row {cut}, {whole[cut][1]!r}, come the rows behind it: each once, in the same order",
        )
    _check_stop(rows, options, stops_within_s)


def check_sink(opening: Callable[[], Sink], rows: Rows, look: Look) -> None:
    """Hold a sink to what the engine relies on. `opening` opens it anew each time, as another process would.

    `rows` are some that it can hold, at least two; `look` answers what is there. Rows are compared as JSON, unordered.
    """
    _must(len(rows) >= 2, "a sink is checked with two rows or more")
    _must(not look(), "a sink under test is empty at first")
    first = opening()
    _must(first.sweep(set()) == 0, "where nothing is, nothing is swept")
    part = first.begin(epoch=1, number=1)
    part.append(first.encode(rows[:1]), 1)
    part.append(first.encode(rows[1:]), len(rows) - 1)
    _must(part.rows == len(rows), "a part counts the rows that were appended")
    _must(not look(), "nothing of a part is seen before it is finished")
    done = part.finish()
    _must((done.rows, tuple(done.refused)) == (len(rows), ()), "a finished part holds every row, and refuses none")
    _must(_same(look(), rows), "what is there is what was written")
    _must(bool(done.name), "a part has a name")
    _check_discard(first, rows, look)
    _check_orphan(opening, rows, look, keep={done.name})


def check_transform(function: Callable[[list[dict[str, Any]]], Any], values: Rows) -> None:
    """Hold the function of a transform to what the engine relies on: one result per record, in order, None filters."""
    given = [dict(value) for value in values]
    together = function([dict(value) for value in values])
    _must(isinstance(together, list), "a transform answers a list")
    _must(len(together) == len(values), "a transform answers one result for each record; None filters one")
    _must(all(result is None or isinstance(result, dict) for result in together), "each result is a dict or None")
    alone = list(itertools.chain.from_iterable(function([value]) for value in given))
    _must(
        alone == together, "a record is changed the same way alone and among others: after a failure each comes alone"
    )


def _check_row(row: dict[str, Any] | bytes, place: str, key: str) -> None:
    _must(isinstance(place, str), f"a place is text, not {type(place).__name__}")
    try:
        value = loads(row) if isinstance(row, bytes) else loads(encode(row))
    except (EngineError, TypeError, ValueError) as exc:
        raise AssertionError(f"a row is a JSON object: {exc}") from exc
    _must(isinstance(value, dict), "a row is a JSON object")
    name = value.get(key)
    _must(isinstance(name, str | int) and not isinstance(name, bool) and name != "", f"a row has a key in `{key}`")


def _check_stop(rows: RowSource, options: Mapping[str, Any], within_s: float) -> None:
    stop = threading.Event()
    stop.set()
    pull = Pull(options=options, after=None, stop=stop)

    def read() -> None:
        next(iter(rows(pull)), None)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(within_s)
    _must(not thread.is_alive(), "once `stop` is set, a source yields or ends soon")


def _check_discard(sink: Sink, rows: Rows, look: Look) -> None:
    before = look()
    part = sink.begin(epoch=1, number=2)
    part.append(sink.encode(rows), len(rows))
    part.discard()
    part.discard()
    _must(_same(look(), before), "a discarded part leaves nothing, and may be discarded twice")


def _check_orphan(opening: Callable[[], Sink], rows: Rows, look: Look, *, keep: set[str]) -> None:
    """A process died after a part was finished and before the ledger knew: its rows come again, and are there once."""
    dying = opening()
    orphan = dying.begin(epoch=1, number=2)
    orphan.append(dying.encode(rows), len(rows))
    lost = orphan.finish()
    _must(lost.name not in keep, "parts of two numbers have two names")
    heir = opening()
    heir.sweep(keep)
    part = heir.begin(epoch=1, number=2)
    part.append(heir.encode(rows[:1]), 1)
    done = part.finish()
    _must(done.name == lost.name, "a part's name depends on its epoch and number alone")
    _must(_same(look(), [*rows, rows[0]]), "a part that was not committed is swept, or replaced when it comes again")
    heir.sweep(keep)
    _must(_same(look(), rows), "what is swept is every part that is not to be kept, and no other")


def _pulled(rows: RowSource, options: Mapping[str, Any], after: str | None, most: int) -> list[Row]:
    pull = Pull(options=options, after=after, stop=threading.Event())
    found: Iterator[Row] = iter(rows(pull))
    return list(itertools.islice(found, max(most, 0)))


def _texts(rows: Sequence[Row]) -> list[bytes]:
    return [row if isinstance(row, bytes) else encode(row) for row, _ in rows]


def _same(found: Rows, wanted: Rows) -> bool:
    return sorted(encode(dict(row)) for row in found) == sorted(encode(dict(row)) for row in wanted)


def _must(truth: object, sentence: str) -> None:
    if not truth:
        raise AssertionError(sentence)
