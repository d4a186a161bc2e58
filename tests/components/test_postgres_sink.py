"""PostgreSQL sink: a part is in the table once, whatever happens around its transaction, and bad rows end alone."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from engine.codec.fields import struct_of
from engine.codec.payload import decode, encode
from engine.components.sinks.postgres import PostgresSink
from engine.errors import ConfigError, OutputError, PartialFailure
from engine.pipeline.spec import SinkSpec
from engine.settings import Secret
from engine.store.room import is_away
from tests.runtime.database import PASSWORD, Server

FIELDS = {
    "id": "str",
    "first name": "str | None",
    "n": "int | None",
    "f": "float | None",
    "ok": "bool | None",
    "at": "datetime | None",
    "on": "date | None",
    "any": "json | None",
}
COLUMNS = (
    'id text PRIMARY KEY, "first name" varchar(10), n integer CHECK (n <> 13), f real, ok boolean, at timestamptz, '
    '"on" date, "any" jsonb, engine_part bigint, made timestamptz DEFAULT now()'
)


@pytest.fixture(scope="module")
def database(postgres: Server) -> str:
    """A database of this file's own."""
    return postgres.create()


Opening = Callable[..., PostgresSink]


@pytest.fixture
def sink(postgres: Server, database: str) -> Opening:
    """Open a sink into the table `rows`, which is made first."""
    postgres.ask(
        f"DROP TABLE IF EXISTS rows, names, engine_parts CASCADE; CREATE TABLE rows ({COLUMNS});", database=database
    )

    def opening(
        fields: dict[str, str] = FIELDS, *, owner: str = "me", named: str = "id", **options: Any
    ) -> PostgresSink:
        members = {"url": Secret(postgres.url(database)), "table": "rows", "key": ("id",), **options}
        if members.get("mode") == "append":
            members["key"] = ()
        spec = SinkSpec(type="postgres", **members)
        return PostgresSink(spec, fields, pipeline="cities", key=named, owner=owner)

    return opening


def made(values: list[dict[str, Any]], fields: dict[str, str] = FIELDS) -> list[Any]:
    """Rows as results are decoded."""
    return list(decode(encode(values), list[struct_of("Row", fields)]))  # type: ignore[misc]


def write(sink: PostgresSink, values: list[dict[str, Any]], *, number: int = 1, epoch: int = 1) -> Any:
    """One part."""
    part = sink.begin(epoch=epoch, number=number)
    try:
        part.append(sink.encode(made(values)), len(values))
        return part.finish()
    finally:
        part.discard()


def plain(count: int, **more: Any) -> list[dict[str, Any]]:
    """Rows with a key."""
    return [{"id": f"r{number}", **more} for number in range(count)]


def test_values_arrive_as_they_are(postgres, database, sink) -> None:
    """Each declared type, null, quotes, tabs, line ends, backslashes and Unicode are in the table as they were."""
    text = "a\t\\N\"\r\n'ü"
    values = {
        "id": text,
        "first name": "\\N",
        "n": -(2**31),
        "f": 1.5,
        "ok": False,
        "at": "2026-01-01T10:00:00+02:00",
        "on": "2026-02-03",
        "any": {"k": [1, "\\t\t", None], "u": "\U0001f600"},
    }
    opened = sink()
    opened.sweep(set())
    done = write(opened, [values, {"id": "empty", "first name": ""}])

    assert (done.name, done.rows, done.refused) == ("part-0001-000001", 2, ())
    rows = postgres.ask(
        'SELECT id, "first name", n, f, ok, at, "on", "any" FROM rows ORDER BY id <> $1', text, database=database
    )
    assert [str(cell) for cell in rows[0]] == [
        text, "\\N", "-2147483648", "1.5", "False", "2026-01-01 08:00:00+00:00", "2026-02-03",
        '{"k": [1, "\\\\t\\t", null], "u": "😀"}',
    ]  # fmt: skip
    assert rows[1] == ("empty", "", None, None, None, None, None, None)


def test_upsert_replaces_the_row_of_the_same_key(postgres, database, sink) -> None:
    """A later part wins, and so does the later of two rows of one part; other columns keep what they hold."""
    opened = sink()
    opened.sweep(set())
    write(opened, [{"id": "a", "n": 1}, {"id": "b", "n": 1}])
    done = write(opened, [{"id": "a", "n": 2}, {"id": "c", "n": 3}, {"id": "a", "n": 4}], number=2)

    assert (done.rows, done.refused) == (3, ())
    assert postgres.ask("SELECT id, n FROM rows ORDER BY id", database=database) == [("a", 4), ("b", 1), ("c", 3)]


def test_an_index_that_carries_more_columns_makes_a_key_unique(postgres, database, sink) -> None:
    """Of a covering index the key columns count; one over more columns makes none of them unique alone."""
    postgres.ask(
        "ALTER TABLE rows DROP CONSTRAINT rows_pkey; CREATE UNIQUE INDEX covering ON rows (id) INCLUDE (n);",
        database=database,
    )
    opened = sink()
    opened.sweep(set())
    write(opened, [{"id": "a", "n": 1}])
    assert write(opened, [{"id": "a", "n": 2}], number=2).rows == 1

    postgres.ask("DROP INDEX covering; CREATE UNIQUE INDEX wide ON rows (id, n);", database=database)
    with pytest.raises(ConfigError, match="unique"):
        sink().sweep(set())


def test_a_key_alone_may_be_the_row(postgres, database, sink) -> None:
    """Where every column is the key there is nothing to replace, and twice is once."""
    opened = sink({"id": "str"})
    opened.sweep(set())
    part = opened.begin(epoch=1, number=1)
    part.append(opened.encode(made([{"id": "a"}, {"id": "a"}], {"id": "str"})), 2)

    assert part.finish().rows == 2
    assert postgres.ask("SELECT id FROM rows", database=database) == [("a",)]


def test_rows_that_the_table_refuses_end_alone(postgres, database, sink) -> None:
    """A value too long, out of range or against a constraint: these are named with their reason, the others land."""
    opened = sink()
    opened.sweep(set())
    values = plain(500)
    values[3]["first name"], values[77]["n"], values[400]["n"], values[499]["at"] = (
        "x" * 11,
        2**40,
        13,
        "0001-01-01T00:00:00Z",
    )
    done = write(opened, values)

    assert [(row.index, row.key) for row in done.refused] == [(3, "r3"), (77, "r77"), (400, "r400")]
    assert "too long for type character varying(10)" in done.refused[0].reason
    assert "out of range" in done.refused[1].reason
    assert "rows_n_check" in done.refused[2].reason
    assert str(2**40) not in done.refused[1].reason
    assert done.rows == 497
    assert postgres.ask("SELECT count(*) FROM rows", database=database) == [(497,)]
    assert postgres.ask("SELECT rows FROM engine_parts", database=database) == [(497,)]


def test_a_constraint_that_may_wait_does_not(postgres, database, sink) -> None:
    """A deferred foreign key refuses its row, and not the part at its commit."""
    postgres.ask(
        "CREATE TABLE names (name text PRIMARY KEY); INSERT INTO names VALUES ('known'); "
        'ALTER TABLE rows ADD FOREIGN KEY ("first name") REFERENCES names DEFERRABLE INITIALLY DEFERRED;',
        database=database,
    )
    opened = sink()
    opened.sweep(set())
    done = write(opened, [{"id": "a", "first name": "known"}, {"id": "b", "first name": "unknown"}])

    assert [row.key for row in done.refused] == ["b"]


def test_a_table_that_refuses_everything_is_no_matter_of_rows(sink) -> None:
    """More than a thousand refused rows in a part are the table's fault: the part fails, and nothing is left of it."""
    opened = sink()
    opened.sweep(set())
    with pytest.raises(OutputError, match="refuses more than 1000 rows"):
        write(opened, plain(1_500, n=13))
    assert opened.sweep(set()) == 0


def test_a_refused_row_without_a_name_fails_the_part(sink) -> None:
    """Without the key of the rows among the columns a refused row could not be told of, so the part fails."""
    opened = sink(named="something else")
    opened.sweep(set())
    with pytest.raises(OutputError, match="refuses a row") as caught:
        write(opened, [{"id": "a", "n": 13}])
    assert "declare the key" in caught.value.hint


def test_what_no_table_can_hold_is_found_while_encoding(sink) -> None:
    """A text with a NUL, and a row without its key, are named by their index before anything is sent."""
    opened = sink({**FIELDS, "id": "str | None"})
    rows = [{"id": "a\0"}, {"id": "b"}, {"id": None}]

    with pytest.raises(PartialFailure) as caught:
        opened.encode(rows)
    assert sorted(caught.value.failures) == [0, 2]
    assert opened.encode([]) == b""


def test_a_part_is_applied_once(postgres, database, sink) -> None:
    """Finishing again after the commit whose answer was lost changes nothing, and tells the same."""
    opened = sink(mode="append")
    opened.sweep(set())
    part = opened.begin(epoch=1, number=1)
    part.append(opened.encode([*plain(3), {"id": "bad", "n": 13}]), 4)
    part.pour()
    opened.server.do(part._apply)

    done = part.finish()

    assert (done.rows, [row.key for row in done.refused]) == (3, ["bad"])
    assert postgres.ask("SELECT count(*) FROM rows", database=database) == [(3,)]


def test_somebody_elses_part_of_the_same_name_is_not_taken_for_ours(postgres, database, sink) -> None:
    """A part that is named already, and not by this process, fails: what is in it is not known."""
    first, second = sink(mode="append"), sink(mode="append")
    first.sweep(set())
    write(first, plain(1))
    with pytest.raises(OutputError, match="somebody else"):
        write(second, [{"id": "other"}])
    assert postgres.ask("SELECT id FROM rows", database=database) == [("r0",)]


def test_sweeping_removes_what_the_ledger_does_not_know(postgres, database, sink) -> None:
    """With mode append the rows of unknown parts go, with upsert only their names; others' rows are not touched."""
    postgres.ask("INSERT INTO rows (id) VALUES ('mine by hand');", database=database)
    opened = sink(mode="append")
    opened.sweep(set())
    kept, lost = write(opened, plain(2)), write(opened, [{"id": "lost"}], number=2)

    assert opened.sweep({kept.name}) == 1
    assert opened.sweep({kept.name}) == 0
    assert [row[0] for row in postgres.ask("SELECT id FROM rows ORDER BY id", database=database)] == [
        "mine by hand",
        "r0",
        "r1",
    ]
    assert write(opened, [{"id": "lost"}], number=2).name == lost.name


def test_rows_of_an_upsert_stay_until_they_come_again(postgres, database, sink) -> None:
    """Sweeping forgets an upserted part and leaves its rows: they are replaced when they come again."""
    opened = sink()
    opened.sweep(set())
    write(opened, plain(2))

    assert opened.sweep(set()) == 1
    assert postgres.ask("SELECT count(*) FROM rows", database=database) == [(2,)]


def test_two_ledgers_do_not_share_a_pipelines_parts(postgres, database, sink) -> None:
    """Another state directory of the same pipeline is refused before it could remove rows it does not know."""
    opened = sink(mode="append")
    opened.sweep(set())
    write(opened, plain(1))
    with pytest.raises(OutputError, match="another ledger") as caught:
        sink(mode="append", owner="somebody else").sweep(set())
    assert "DELETE FROM" in caught.value.hint
    assert postgres.ask("SELECT count(*) FROM rows", database=database) == [(1,)]


@pytest.mark.parametrize(
    ("options", "said", "hint"),
    [
        ({"table": "nowhere"}, "there is no table `nowhere`", "create it"),
        ({"table": 'x"; DROP TABLE rows; --'}, "there is no table", ""),
        ({"fields": {**FIELDS, "extra": "str"}}, "has no column `extra`", "its columns are"),
        ({"key": ("n",)}, "nothing makes the key (n) of `rows` unique", "CREATE UNIQUE INDEX"),
        ({"mode": "append", "part_column": "ok"}, "needs a column `ok` of type bigint", "ADD COLUMN"),
        ({"fields": {"n": "int"}, "key": ("n",)}, "`id` of `rows` must not be null", "declare it"),
    ],
)
def test_a_table_that_does_not_fit_is_said_at_once(sink, options, said, hint) -> None:
    """Missing tables, columns and uniqueness are configuration, told with the statement that mends them."""
    opened = sink(options.get("fields", FIELDS), **{name: value for name, value in options.items() if name != "fields"})
    with pytest.raises(ConfigError) as caught:
        opened.sweep(set())
    assert said in caught.value.message
    assert hint in caught.value.hint


def test_a_server_that_cannot_be_used_is_named_without_the_password(postgres) -> None:
    """Wrong password, no such database, nobody there, no URL: each in words, none with a secret."""
    urls = {
        "refused the user or the password": postgres.url(password="wrong-canary"),
        "does not exist": postgres.url("absent"),
        "takes no connections": f"postgresql://engine:canary@127.0.0.1:{_closed_port()}/postgres",
        "is not the URL": "postgresql://engine:canary@127.0.0.1:port/x",
        "`url` is not": "mysql://engine:canary@127.0.0.1/x",
    }
    for said, url in urls.items():
        opened = PostgresSink(
            SinkSpec(type="postgres", url=Secret(url), table="rows", key=("id",)),
            FIELDS,
            pipeline="p",
            key="id",
            owner="me",
        )
        with pytest.raises((ConfigError, OutputError)) as caught:
            opened.sweep(set())
        seen = caught.value.message + caught.value.hint + repr(caught.value.facts)
        assert said in seen
        assert "canary" not in seen
        assert PASSWORD not in seen
        assert is_away(caught.value) == (said == "takes no connections")


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_nothing_temporary_stays(postgres, database, sink) -> None:
    """After parts that were finished, refused and discarded there are the user's table, ours, and no connection."""
    opened = sink()
    opened.sweep(set())
    write(opened, [*plain(5), {"id": "bad", "n": 13}])
    part = opened.begin(epoch=1, number=2)
    part.append(opened.encode(plain(1)), 1)
    part.discard()
    part.discard()

    tables = postgres.ask(
        "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relname !~ '^(pg|sql)_'", database=database
    )
    others = postgres.ask("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'engine cities'")
    assert sorted(tables) == [("engine_parts",), ("rows",)]
    assert others == [(0,)]
