"""F33: a PostgreSQL that dies, restarts, cuts connections or rolls back is waited for, and each row is there once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from engine.components.catalog import open_source
from engine.errors import DiskFull, Exit, RunFailed
from engine.events import Event, PartCommitted
from engine.pipeline.spec import SourceSpec
from engine.runtime.drain import StopFlag
from engine.settings import Secret
from tests.faults.conftest import Ears
from tests.runtime.conftest import Rig
from tests.runtime.database import Server, serving

pytestmark = pytest.mark.anyio

ROWS = 30_000
_TEXT = """
version = 1
name    = "rig"
[source]
type  = "ndjson"
paths = ["{directory}/in*.ndjson"]
key   = "id"
[results.fields]
id   = "str"
name = "str"
[sink]
type   = "postgres"
url    = "${{secret:file:{directory}/url}}"
table  = "rows"
mode   = "append"
rotate = {{ rows = 10_000 }}
"""
# Sequences are not rolled back, so the first time is the only time.
_ONCE = """
CREATE SEQUENCE times;
CREATE FUNCTION harm() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN IF nextval('times') = 1 THEN {harm} END IF; RETURN NEW; END $$;
CREATE TRIGGER harm BEFORE INSERT ON rows FOR EACH STATEMENT EXECUTE FUNCTION harm();
"""


class _Trouble(Ears):
    """Breaks something after the first part, and mends it when the run says that it waits."""

    def __init__(self, harm: Callable[[], object], mend: Callable[[], object]) -> None:
        super().__init__()
        self._harm: Callable[[], object] | None = harm
        self._mend = mend

    def notice(self, event: Event) -> None:
        super().notice(event)
        if isinstance(event, PartCommitted) and self._harm is not None:
            harm, self._harm = self._harm, None
            harm()
        if getattr(event, "code", "") == "output.away":
            self._mend()


@pytest.fixture(scope="module")
def fragile() -> Iterator[Server]:
    """A server that tests may break."""
    with serving() as server:
        yield server


@pytest.fixture
def database(rig: Rig, fragile: Server) -> str:
    """A database with the table, an input of three parts, and a user without privileges that runs into it."""
    database = fragile.create()
    fragile.ask(
        "CREATE TABLE rows (id text, name text, engine_part bigint);"
        f"CREATE ROLE {database}_worker LOGIN PASSWORD 'of a worker';"
        f"GRANT ALL ON TABLE rows TO {database}_worker; GRANT CREATE, USAGE ON SCHEMA public TO {database}_worker;",
        database=database,
    )
    secret = rig.directory / "url"
    secret.touch(mode=0o600)
    secret.write_text(f"postgresql://{database}_worker:of%20a%20worker@127.0.0.1:{fragile.port}/{database}")
    rig.text = _TEXT.format(directory=rig.directory)
    rig.write(ROWS)
    return database


def _whole(server: Server, database: str) -> bool:
    """Whether each row is in the table once."""
    return server.ask("SELECT count(*), count(DISTINCT id) FROM rows", database=database) == [(ROWS, ROWS)]


@pytest.mark.parametrize("how", [signal.SIGQUIT, signal.SIGINT])
async def test_f33_a_server_that_dies_is_waited_for(rig, fragile, database, how) -> None:
    """Killed or restarted in the middle: the run says so, waits, and ends with every row there once."""
    trouble = _Trouble(lambda: fragile.stop(how), fragile.start)
    report = await rig.run(observer=trouble)

    assert (report.outcome, report.accepted) == ("done", ROWS)
    assert [code for code in trouble.codes() if code.startswith("output.")] == ["output.away", "output.back"]
    assert _whole(fragile, database)


@pytest.mark.parametrize(
    "harm",
    [
        "PERFORM pg_terminate_backend(pg_backend_pid());",
        "RAISE EXCEPTION 'one of two had to go' USING ERRCODE = 'deadlock_detected';",
        "RAISE EXCEPTION 'could not serialize' USING ERRCODE = 'serialization_failure';",
        "RAISE EXCEPTION 'no room for a temporary file' USING ERRCODE = 'disk_full';",
        "PERFORM pg_cancel_backend(pg_backend_pid());",
    ],
)
async def test_f33_a_transaction_that_is_undone_is_made_again(rig, fragile, database, harm) -> None:
    """A connection that is terminated, a deadlock, a serialization failure: the whole transaction is made once more."""
    fragile.ask(_ONCE.format(harm=harm) + f"GRANT ALL ON SEQUENCE times TO {database}_worker;", database=database)
    fragile.ask(f"GRANT pg_signal_backend TO {database}_worker;")
    ears = Ears()
    report = await rig.run(observer=ears)

    assert (report.outcome, report.accepted, report.dead) == ("done", ROWS, 0)
    assert "output.back" in ears.codes()
    assert _whole(fragile, database)


async def test_f33_connections_that_are_used_up_are_waited_for(rig, fragile, database) -> None:
    """A user who may not connect once more waits until he may."""
    limit = f"ALTER ROLE {database}_worker CONNECTION LIMIT "
    trouble = _Trouble(lambda: fragile.ask(limit + "0"), lambda: fragile.ask(limit + "-1"))
    report = await rig.run(observer=trouble)

    assert (report.outcome, report.accepted) == ("done", ROWS)
    assert "too many connections" in trouble.said("output.away")[0]
    assert _whole(fragile, database)


async def test_f33_a_stop_ends_the_waiting(rig, fragile, database) -> None:
    """Stopped while the server is away, a run ends resumable; the next one has every row there once."""
    stop = StopFlag()
    trouble = _Trouble(fragile.stop, stop.request)
    with pytest.raises(RunFailed) as caught:
        await rig.run(stop=stop, observer=trouble)
    assert isinstance(caught.value.causes[0], DiskFull)
    assert caught.value.exit == Exit.INTERRUPTED
    fragile.start()

    assert (await rig.run()).accepted == ROWS
    assert _whole(fragile, database)


async def test_f33_a_server_that_is_not_there_at_the_start_is_said_at_once(rig, fragile, database) -> None:
    """Nobody waits before a run has begun: the place is named, and nothing was planned."""
    fragile.stop()
    try:
        with pytest.raises(Exception, match="takes no connections") as caught:
            await rig.run()
        assert f"127.0.0.1:{fragile.port}" in str(caught.value)
        assert "of%20a" not in str(caught.value)
        assert rig.ledger("SELECT count(*) FROM jobs") == [(0,)]
    finally:
        fragile.start()


def test_f33_reading_goes_on_when_the_server_is_back(fragile: Server) -> None:
    """A server that dies between two pages of a source, and comes back: the rows go on behind the last one."""
    database = fragile.create()
    fragile.ask("CREATE TABLE t AS SELECT n AS id FROM generate_series(1, 15000) AS n;", database=database)
    spec = SourceSpec(type="postgres", url=Secret(fragile.url(database)), table="t", cursor=("id",), key="id")
    batches = open_source(spec, want_values=False).read({})
    keys = list(next(iter(batches)).keys)
    fragile.stop()
    back = threading.Thread(target=fragile.start)
    back.start()
    keys += [key for batch in batches for key in batch.keys]
    back.join()

    assert keys == [str(number) for number in range(1, 15_001)]
