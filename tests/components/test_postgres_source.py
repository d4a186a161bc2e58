"""PostgreSQL source: every row once, in the order of the cursor, from any place; what could skip one is refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from engine.components.catalog import open_source
from engine.errors import ConfigError, InputError, StaleCheckpoint
from engine.pipeline.spec import SourceSpec
from engine.ports import Source
from engine.record import Batch, Mark
from engine.settings import Secret
from tests.runtime.database import Server


@pytest.fixture(scope="module")
def database(postgres: Server) -> str:
    """A database with the table `rows`: 25,000 rows whose moments are shared by ten each. No test changes it."""
    name = postgres.create()
    postgres.ask(
        "CREATE TABLE rows (id bigint PRIMARY KEY, at timestamptz NOT NULL, name text, more json);"
        "INSERT INTO rows SELECT n, timestamptz '2026-01-01' + (n / 10) * interval '1.000001 s', 'ü' || n, "
        "'{\"k\":\n [1]}' FROM generate_series(1, 25000) AS n ORDER BY -n;",
        database=name,
    )
    return name


Opening = Callable[..., Source]


@pytest.fixture
def source(postgres: Server, database: str) -> Opening:
    """Open a source over the table."""

    def opening(*, want_values: bool = False, **options: Any) -> Source:
        members = {
            "table": "rows",
            "cursor": ("at", "id"),
            "key": "id",
            "url": Secret(postgres.url(database)),
            **options,
        }
        return open_source(SourceSpec(type="postgres", **members), want_values=want_values)

    return opening


def keys(batches: Any) -> list[int]:
    """The keys of batches, as numbers, in order."""
    return [int(key) for batch in batches for key in batch.keys]


def test_every_row_comes_once_in_the_order_of_the_cursor(source) -> None:
    """Over several pages: each row once, as JSON on one line, with its key and its place."""
    batches = list(source().read({}))

    assert len(batches) > 2
    assert keys(batches) == list(range(1, 25_001))
    raws = [raw for batch in batches for raw in batch.raws]
    assert json.loads(raws[41]) == {
        "id": 42, "at": "2026-01-01T00:00:04.000004+00:00", "name": "ü42", "more": {"k": [1]},
    }  # fmt: skip
    assert not any(b"\n" in raw for raw in raws)
    assert [batch.start for batch in batches[1:]] == [batch.end for batch in batches[:-1]]
    assert sum(len(raw) + 1 for raw in raws) == batches[-1].end


def test_reading_goes_on_after_any_row(source) -> None:
    """A mark within a page, at its end, or in the midst of equal moments leads to the very next row."""
    reading = source()
    batches = list(reading.read({}))
    places = [(batches[0], 0), (batches[0], 4), (batches[0], len(batches[0].keys) - 1), (batches[1], 7)]
    for batch, index in places:
        again = source()
        mark = reading.mark("rows", batch.ends[index], batch.line_after(index)) if batch is batches[1] else None
        mark = mark or _mark_of(source(), batch, index)
        rest = list(again.read({"rows": mark}))
        assert keys(rest)[0] == int(batch.keys[index]) + 1
        assert keys(rest)[-1] == 25_000
        assert rest[0].start == batch.ends[index]
        assert rest[0].lines[0] == batch.lines[index] + 1


def _mark_of(reading: Source, batch: Batch, index: int) -> Mark:
    """The mark after a row of the first page, from a source that has read no further."""
    next(iter(reading.read({})))
    return reading.mark("rows", batch.ends[index], batch.line_after(index))


def test_new_rows_come_after_the_mark(postgres, database, source) -> None:
    """What was added behind the mark is read, and nothing else; without news there is nothing."""
    postgres.ask("CREATE TABLE news AS SELECT * FROM rows WHERE id <= 20;", database=database)
    query = "SELECT * FROM news WHERE at IS NOT NULL"
    reading = source(table=None, query=query)
    last = list(reading.read({}))[-1]
    mark = reading.mark(last.input, last.end, last.next_line)
    assert list(source(table=None, query=query).read({last.input: mark})) == []
    postgres.ask("INSERT INTO news VALUES (0, '2030-01-01', 'new'), (-1, '2030-01-01', 'first');", database=database)

    assert keys(source(table=None, query=query).read({last.input: mark})) == [-1, 0]


def test_a_query_is_read_like_a_table(source) -> None:
    """Joins, computed columns and a comment at the end: what the query answers is what is read."""
    query = "SELECT id * 2 AS twice, 'N' || id AS name FROM rows WHERE id <= 3 -- the first"
    values = [
        value
        for batch in source(table=None, query=query, cursor=("twice",), key="twice", want_values=True).read({})
        for value in batch.values or []
    ]
    assert values == [{"twice": 2, "name": "N1"}, {"twice": 4, "name": "N2"}, {"twice": 6, "name": "N3"}]


def test_rows_that_are_not_fit_end_alone(postgres, database, source) -> None:
    """A row too long, without a key or of the wrong type is bad, with its place; the others go on."""
    postgres.ask(
        "CREATE TABLE bad (n int PRIMARY KEY, id text, v text);"
        "INSERT INTO bad VALUES (1, 'a', '1'), (2, NULL, '1'), (3, 'c', repeat('x', 5000)), (4, 'd', '1');",
        database=database,
    )
    [batch] = source(table="bad", cursor=("n",), line_max=2000).read({})

    assert batch.keys == ["a", "d"]
    assert [(bad.code, bad.line) for bad in batch.bad] == [("record.key_missing", 2), ("record.too_long", 3)]
    assert "`line_max` allows 2000" in batch.bad[1].reason


@pytest.mark.parametrize("kind", ["int", "text", "timestamptz", "numeric(30, 10)", "float8", "uuid", "date", "bytea"])
def test_a_cursor_may_be_of_any_ordered_type(postgres, database, source, kind) -> None:
    """A place in a column of this type leads to the next row, exactly."""
    made = {
        "int": "n - 3", "text": "chr(65 + n) || E'\\'\\n'",
        "timestamptz": "timestamptz '2026-01-01' + n * interval '1 us'",
        "numeric(30, 10)": "n / 3.0", "float8": "n / 3.0::float8", "uuid": "md5(n::text)::uuid",
        "date": "date '0001-01-01 BC' + n", "bytea": "decode(lpad(to_hex(n), 4, '0'), 'hex')",
    }[kind]  # fmt: skip
    postgres.ask(
        f"DROP TABLE IF EXISTS kinds; CREATE TABLE kinds (c {kind} PRIMARY KEY, id int);"
        f"INSERT INTO kinds SELECT {made}, n FROM generate_series(1, 9) n;",
        database=database,
    )
    reading = source(table="kinds", cursor=("c",))
    [batch] = reading.read({})
    for index in range(9):
        mark = reading.mark("kinds", batch.ends[index], batch.line_after(index))
        assert keys(source(table="kinds", cursor=("c",)).read({"kinds": mark})) == keys([batch])[index + 1 :]


def test_a_cursor_that_does_not_tell_rows_apart_is_refused(source) -> None:
    """Two rows with one cursor: the source says so instead of passing one over, also between two pages."""
    with pytest.raises(InputError, match="the same cursor") as caught:
        list(source(cursor=("at",)).read({}))
    assert "tells every two rows apart" in caught.value.hint


def test_equal_cursors_on_both_sides_of_a_page_are_seen(postgres, database, source) -> None:
    """The last row of a page is compared with the first of the next."""
    postgres.ask(
        "CREATE TABLE ties AS SELECT n - (n = 10001)::int AS n, n AS id FROM generate_series(1, 10500) n;",
        database=database,
    )
    with pytest.raises(InputError, match="the same cursor"):
        list(source(table="ties", cursor=("n",)).read({}))


def test_a_null_in_the_cursor_is_refused(postgres, database, source) -> None:
    """A row that could never be reached is said before anything is read."""
    postgres.ask("CREATE TABLE nulls (n int, id int); INSERT INTO nulls VALUES (1, 1), (NULL, 2);", database=database)
    with pytest.raises(InputError, match="is null"):
        list(source(table="nulls", cursor=("n",)).read({}))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"table": "nowhere"}, "does not exist"),
        ({"cursor": ("when",)}, "has no column `when`"),
        ({"key": "name of it"}, "has no column `name of it`"),
        ({"table": None, "query": "DELETE FROM rows RETURNING id"}, "syntax error"),
        ({"table": None, "query": "SELECT 1) AS q; DROP TABLE rows; --"}, ""),
    ],
)
def test_what_is_not_there_is_configuration(postgres, database, source, options, said) -> None:
    """Tables, columns and queries that cannot be are named; nothing is changed by reading."""
    with pytest.raises(ConfigError) as caught:
        list(source(**options).read({}))
    assert said in caught.value.message
    assert postgres.ask("SELECT count(*) FROM rows", database=database) == [(25_000,)]


def test_reading_changes_nothing(postgres, database, source) -> None:
    """A query that would write is refused: the connection is for reading."""
    postgres.ask(
        "CREATE FUNCTION harm() RETURNS bigint LANGUAGE sql AS 'DELETE FROM rows RETURNING id';", database=database
    )
    with pytest.raises(InputError, match="read-only"):
        list(source(table=None, query="SELECT harm() AS id", cursor=("id",)).read({}))


def test_a_page_that_takes_too_long_is_given_up(source) -> None:
    """A statement over `timeout` ends with the index that would help."""
    with pytest.raises(InputError, match="took longer than `timeout`") as caught:
        list(source(table=None, query="SELECT id, pg_sleep(60) FROM rows", cursor=("id",), timeout=0.2).read({}))
    assert "an index on (id)" in caught.value.hint


def test_closing_ends_a_read_that_waits(postgres, source) -> None:
    """A blocked read ends soon after `close`, and the server is not left working for us."""
    reading = source(table=None, query="SELECT id, pg_sleep(600) FROM rows", cursor=("id",))
    seen: list[Batch] = []
    thread = threading.Thread(target=lambda: seen.extend(reading.read({})))
    thread.start()
    busy = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'engine' AND wait_event = 'PgSleep'"
    while postgres.ask(busy) == [(0,)]:
        pass
    reading.close()
    thread.join(timeout=20)

    assert not thread.is_alive()
    assert seen == []
    while postgres.ask(busy) != [(0,)]:
        pass


def test_another_cursor_does_not_fit_an_old_place(source) -> None:
    """A mark of two columns cannot be gone on from by one."""
    reading = source()
    batch = next(iter(reading.read({})))
    mark = reading.mark("rows", batch.ends[0], batch.line_after(0))
    with pytest.raises(StaleCheckpoint):
        list(source(cursor=("id",)).read({"rows": mark}))
    with pytest.raises(StaleCheckpoint):
        reading.reread([])
