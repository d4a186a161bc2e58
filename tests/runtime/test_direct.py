"""Pipelines without jobs: rows that pass, rows that are asked for one by one, and listings as sources."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from engine.contract.epcr import CREATE
from engine.errors import RunFailed, StaleCheckpoint
from engine.events import Event, RequestDone
from tests.runtime.conftest import Rig, plain

pytestmark = pytest.mark.anyio

_PASS = """
version = 1
name    = "rig"
[source]
type  = "{source}"
paths = ["{directory}/in*"]
key   = "id"
[sink]
type = "{sink}"
path = "{directory}/out"
"""
_SEND = """
version = 1
name    = "rig"
[source]
type  = "ndjson"
paths = ["{directory}/in*.ndjson"]
key   = "{key}"
[sink]
type  = "platform"
route = "{route}"
"""
_LIST = """
version = 1
name    = "rig"
[source]
type  = "platform"
route = "devices.list"
key   = "id"
[sink]
type = "ndjson"
path = "{directory}/out"
"""
_ASK = """
version = 1
name    = "rig"
[source]
type  = "ndjson"
paths = ["{directory}/in*.ndjson"]
key   = "{key}"
[request]
route = "{route}"
{more}
[sink]
type = "ndjson"
path = "{directory}/out"
"""


def write(directory: Path, rows: list[dict[str, Any]], name: str = "in.ndjson") -> None:
    """Append rows to an input."""
    with (directory / name).open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def device(number: int) -> dict[str, Any]:
    """A device to enrol."""
    return {"manufacturer": "Acme", "model": "Ox", "serial_number": f"SN-{number:05}", "type_code": "528388"}


def enrolled(rig: Rig, count: int) -> list[str]:
    """Devices that are there already, by id; oldest first."""
    state = rig.emulator.state
    first = state.db.execute("SELECT count(*) FROM devices").fetchone()[0]
    ids = [f"dev_{first + number:06}" for number in range(count)]
    state.db.executemany(
        "INSERT INTO devices VALUES (?, ?, 'Acme', 'Ox', ?, '528388', NULL, NULL, 0, 1, 1)",
        [(device_id, tenant(rig), f"S-{device_id}") for device_id in ids],
    )
    return ids


def tenant(rig: Rig) -> str:
    """The tenant that runs belong to."""
    return str(rig.emulator.state.db.execute("SELECT tenant_id FROM apps WHERE client_id = 'app_local'").fetchone()[0])


def observations(device_id: str, count: int) -> list[dict[str, Any]]:
    """Measurements of one device, each with a number of its own."""
    moment = "2026-05-08T12:{:02}:{:02}Z"
    return [
        {
            "deviceId": device_id,
            "code": "150456",
            "value": 90 + n / 1000,
            "unit": "%",
            "effective_at": moment.format(n // 60 % 60, n % 60),
        }
        for n in range(count)
    ]


def kept(rig: Rig) -> int:
    """How many measurements the platform has."""
    return int(rig.emulator.state.db.execute("SELECT count(*) FROM observations").fetchone()[0])


async def test_rows_pass_from_file_to_file_without_any_platform(rig) -> None:
    """Bytes in, the same bytes out; nobody is asked, and a second run finds nothing new."""
    rig.text = _PASS.format(directory=rig.directory, source="ndjson", sink="ndjson")
    rows = [{"id": f"r{number}", "big": 2**70, "text": "ä"} for number in range(25_000)]
    write(rig.directory, rows)
    report = await rig.run()
    assert plain(report) == {
        "outcome": "done", "read": 25_000, "accepted": 25_000, "rejected": 0, "dead": 0, "filtered": 0, "open": 0
    }  # fmt: skip
    assert rig.rows() == rows
    assert rig.asked() == 0
    assert (await rig.run()).outcome == "nothing_new"


async def test_a_row_that_does_not_fit_the_columns_is_a_dead_letter(rig) -> None:
    """A table gets typed columns; what is not of their type is kept as it was read, the others land."""
    rig.text = _PASS.format(directory=rig.directory, source="ndjson", sink="csv")
    rig.text += '[results.fields]\nid = "str"\ncount = "int"\n'
    write(rig.directory, [{"id": "a", "count": 1}, {"id": "b", "count": "many"}, {"id": "c", "count": 3}])
    report = await rig.run()
    assert (report.accepted, report.dead, report.open) == (2, 1, 0)
    assert rig.ledger("SELECT key, stage, code, raw FROM dead_letters") == [
        ("b", "sink", "record.type", b'{"id": "b", "count": "many"}')
    ]


async def test_transforms_and_filters_count_without_jobs_too(rig) -> None:
    """What a filter drops is filtered, what a transform sets lands."""
    rig.text = _PASS.format(directory=rig.directory, source="ndjson", sink="ndjson")
    rig.text += '[[transform]]\ntype = "filter"\nfield = "n"\nop = "<"\nvalue = 5\n'
    rig.text += '[[transform]]\ntype = "set"\nvalues = { x = 1 }\n'
    write(rig.directory, [{"id": f"r{n}", "n": n} for n in range(10)])
    report = await rig.run()
    assert (report.read, report.accepted, report.filtered) == (10, 5, 5)
    assert {row["x"] for row in rig.rows()} == {1}


async def test_expressions_compute_and_choose_in_a_run(rig) -> None:
    """What an expression has no value for is a dead letter of its row; a secret is in no file of the run."""
    rig.text = _PASS.format(directory=rig.directory, source="ndjson", sink="ndjson")
    secret = rig.directory / "key"
    secret.write_text("the-masking-key")
    secret.chmod(0o600)
    rig.text += (
        '[[transform]]\ntype = "filter"\nwhere = "n >= 0"\n'
        '[[transform]]\ntype = "map"\nvalues = { half = "10 / n" }\n'
        f'[[transform]]\ntype = "mask"\nfields = ["name"]\nhow = "hash"\nsecret = "${{secret:file:{secret}}}"\n'
    )
    write(rig.directory, [{"id": f"r{n}", "n": n, "name": "Ada"} for n in range(-2, 6)])
    report = await rig.run()
    assert (report.read, report.filtered, report.dead, report.accepted) == (8, 2, 1, 5)
    assert {row["id"]: row["half"] for row in rig.rows()} == {"r1": 10, "r2": 5, "r3": 3, "r4": 2, "r5": 2}
    assert len({row["name"] for row in rig.rows()} - {"Ada"}) == 1
    [(stage, reason)] = rig.ledger("SELECT stage, reason FROM dead_letters")
    assert stage == "transform"
    assert "map `half`: a division by zero" in reason
    state = (rig.directory / "state" / "rig" / "ledger.sqlite").read_bytes()
    assert b"the-masking-key" not in state


async def test_every_row_is_sent_to_the_route_once(rig) -> None:
    """Each row is one request with a key of its own, and is accounted for."""
    await rig.emulate()
    (device_id,) = enrolled(rig, 1)
    rig.text = _SEND.format(directory=rig.directory, key="effective_at", route="devices.observe")
    write(rig.directory, observations(device_id, 250))
    report = await rig.run()
    assert plain(report) == {
        "outcome": "done", "read": 250, "accepted": 250, "rejected": 0, "dead": 0, "filtered": 0, "open": 0
    }  # fmt: skip
    keys = rig.emulator.state.db.execute("SELECT count(DISTINCT key) FROM observations").fetchone()[0]
    assert (kept(rig), keys) == (250, 250)
    assert (await rig.run()).outcome == "nothing_new"
    assert kept(rig) == 250


async def test_a_lost_answer_is_asked_for_again_and_doubles_nothing(rig) -> None:
    """T: the platform took the row and its answer was lost; the same key is the same measurement."""
    await rig.emulate({"at": "response", "route": "devices.observe", "drop": True, "probability": 0.3})
    (device_id,) = enrolled(rig, 1)
    rig.text = _SEND.format(directory=rig.directory, key="effective_at", route="devices.observe")
    write(rig.directory, observations(device_id, 120))
    report = await rig.run()
    assert (report.outcome, report.accepted) == ("done", 120)
    assert rig.struck()[0] > 0
    assert kept(rig) == 120


async def test_a_refused_row_ends_alone_and_can_be_replayed(rig) -> None:
    """A row for a device that is not there is a letter with the platform's status; once it is, a replay lands it."""
    await rig.emulate()
    (device_id,) = enrolled(rig, 1)
    rig.text = _SEND.format(directory=rig.directory, key="effective_at", route="devices.observe")
    write(rig.directory, observations(device_id, 3) + observations("dev_none", 1))
    report = await rig.run()
    assert (report.accepted, report.rejected) == (3, 1)
    assert rig.ledger("SELECT stage, code, bucket FROM dead_letters") == [("request", "platform.404", "rejected")]
    rig.emulator.state.db.execute(
        "INSERT INTO devices VALUES ('dev_none', ?, 'A', 'O', 'S', '528388', NULL, NULL, 0, 1, 1)", (tenant(rig),)
    )
    replayed = await rig.replay()
    assert (replayed.outcome, replayed.accepted) == ("done", 1)
    assert kept(rig) == 4


async def test_a_row_that_is_no_question_names_the_member(rig) -> None:
    """A member the route does not have is told by name, with those that it has, and nothing is sent for the row."""
    await rig.emulate()
    rig.text = _SEND.format(directory=rig.directory, key="serial_number", route="devices.enrol")
    write(rig.directory, [device(1), {**device(2), "colour": "red"}])
    report = await rig.run()
    assert (report.accepted, report.dead) == (1, 1)
    [(code, reason)] = rig.ledger("SELECT code, reason FROM dead_letters")
    assert code == "record.invalid"
    assert "colour" in reason
    assert "manufacturer" in reason


async def test_a_write_without_a_key_is_never_sent_twice_unasked(rig) -> None:
    """Where the route takes no key, a lost answer makes a letter that says the row may have been taken."""
    await rig.emulate({"at": "response", "route": "devices.enrol", "drop": True, "every": 7, "count": 3})
    rig.text = _SEND.format(directory=rig.directory, key="serial_number", route="devices.enrol")
    write(rig.directory, [device(number) for number in range(40)])
    report = await rig.run()
    lost = rig.struck()[0]
    assert lost == 3
    assert (report.accepted, report.dead, report.open) == (37, 3, 0)
    assert {code for (code,) in rig.ledger("SELECT code FROM dead_letters")} == {"request.unknown"}
    assert rig.asked("devices.enrol") == 40


class _Axe:
    """An observer that cancels a run once so many requests of a route were answered."""

    def __init__(self, route: str, after: int) -> None:
        self._route, self._left = route, after
        self.task: asyncio.Future[Any] | None = None

    def notice(self, event: Event) -> None:
        """Count."""
        if isinstance(event, RequestDone) and event.route == self._route:
            self._left -= 1
            if not self._left and self.task is not None:
                self.task.cancel()


async def _cut_short(rig: Rig, route: str, after: int) -> None:
    """A run whose process goes away in the midst of its requests."""
    axe = _Axe(route, after)
    axe.task = asyncio.ensure_future(rig.run(observer=axe))
    await asyncio.wait((axe.task,))
    assert axe.task.cancelled()


async def test_a_run_that_was_cut_short_sends_the_open_batch_again_with_its_keys(rig) -> None:
    """What the platform had taken before is not taken twice, what it had not is."""
    await rig.emulate()
    (device_id,) = enrolled(rig, 1)
    rig.text = _SEND.format(directory=rig.directory, key="effective_at", route="devices.observe")
    write(rig.directory, observations(device_id, 1200))
    await _cut_short(rig, "devices.observe", 330)
    assert 0 < kept(rig) < 1200
    report = await rig.run()
    assert (report.outcome, report.read, report.accepted) == ("done", 1200, 1200)
    assert kept(rig) == 1200
    assert rig.asked("devices.observe") > 1200


async def test_a_run_that_was_cut_short_names_the_keyless_rows_it_cannot_know_about(rig) -> None:
    """Those on the wire become letters; nothing is enrolled twice, and every row is either there or named."""
    await rig.emulate()
    rig.text = _SEND.format(directory=rig.directory, key="serial_number", route="devices.enrol")
    write(rig.directory, [device(number) for number in range(400)])
    await _cut_short(rig, "devices.enrol", 100)
    report = await rig.run()
    assert report.open == 0
    assert report.accepted + report.dead == 400
    assert rig.asked("devices.enrol") <= 400
    there = {row[0] for row in rig.emulator.state.db.execute("SELECT serial_number FROM devices")}
    named = {key for (key,) in rig.ledger("SELECT key FROM dead_letters WHERE code = 'request.unknown'")}
    assert {device(number)["serial_number"] for number in range(400)} == there | named


async def test_a_listing_is_read_page_after_page_exactly_once(rig) -> None:
    """Every device lands once, as the platform wrote it; the list is done, and --fresh reads it again."""
    await rig.emulate()
    ids = enrolled(rig, 450)
    rig.text = _LIST.format(directory=rig.directory)
    report = await rig.run()
    assert (report.outcome, report.read, report.accepted) == ("done", 450, 450)
    assert sorted(row["id"] for row in rig.rows()) == ids
    assert rig.asked("devices.list") == 3
    assert (await rig.run()).outcome == "nothing_new"
    assert rig.asked("devices.list") == 3
    again = await rig.run(fresh=True)
    assert again.accepted == 450
    assert sorted(row["id"] for row in rig.rows()) == ids


async def test_a_listing_goes_on_where_it_was_left_though_the_list_has_grown(rig) -> None:
    """New devices at the front push the page on; none is read twice or left out, the new ones are of the next epoch."""
    await rig.emulate()
    ids = enrolled(rig, 450)
    rig.text = _LIST.format(directory=rig.directory)
    assert (await rig.run(limit=130)).read == 130
    enrolled(rig, 300)
    report = await rig.run()
    assert (report.outcome, report.open) == ("done", 0)
    assert sorted(row["id"] for row in rig.rows()) == ids


async def test_a_listing_whose_last_record_is_gone_says_so(rig) -> None:
    """Going on from a record that is gone would leave out others: the run refuses, and says what to do."""
    await rig.emulate()
    enrolled(rig, 30)
    rig.text = _LIST.format(directory=rig.directory)
    await rig.run(limit=10)
    rig.emulator.state.db.execute("DELETE FROM devices WHERE id = 'dev_000020'")
    with pytest.raises(RunFailed) as caught:
        await rig.run()
    assert isinstance(caught.value.causes[0], StaleCheckpoint)
    assert "--fresh" in caught.value.causes[0].hint


async def test_a_listing_can_feed_jobs(rig) -> None:
    """What a route lists becomes rows of jobs like any other input."""
    await rig.emulate()
    ids = enrolled(rig, 45)
    rig.replace(
        f'type  = "ndjson"\npaths = ["{rig.directory}/in*.ndjson"]', 'type = "platform"\nroute = "devices.list"'
    )
    rig.replace(
        'mapping     = { id = "external_id", name = "label" }', 'mapping = { id = "external_id", model = "label" }'
    )
    report = await rig.run()
    assert (report.outcome, report.accepted) == ("done", 45)
    assert rig.keys() == ids


async def test_answers_land_as_rows_or_as_members_of_rows(rig) -> None:
    """A bundle for each encounter, beside what the row said; an encounter that is not there is a letter."""
    await rig.emulate()
    state = rig.emulator.state
    rig.text = _SEND.format(directory=rig.directory, key="incident_id", route=CREATE.name)
    write(rig.directory, [{"incident_id": f"inc_{n}", "started_at": "2026-05-08T12:00:00Z"} for n in range(5)])
    assert (await rig.run()).accepted == 5
    ids = [row[0] for row in state.db.execute("SELECT id FROM encounters ORDER BY id")]
    (rig.directory / "in.ndjson").unlink()
    write(rig.directory, [{"encounterId": name} for name in [*ids, "enc_none"]])
    rig.text = _ASK.format(directory=rig.directory, key="encounterId", route="epcr.bundle", more='into = "bundle"')
    rig.replace('name    = "rig"', 'name    = "asked"')
    report = await rig.run()
    assert (report.accepted, report.rejected) == (5, 1)
    rows = rig.rows()
    assert sorted(row["encounterId"] for row in rows) == ids
    assert {row["bundle"]["resourceType"] for row in rows} == {"Bundle"}


async def test_a_transcript_lands_only_when_it_is_proven(rig) -> None:
    """One flipped bit in a stored record costs that transcript, named; the others land."""
    await rig.emulate()
    rig.replace('entity_type = "location"', 'entity_type = "evidence"')
    rig.write(6)
    assert (await rig.run()).accepted == 6
    (rig.directory / "in.ndjson").unlink()
    state = rig.emulator.state
    ids = [row[0] for row in state.db.execute("SELECT DISTINCT evidence_id FROM provenance ORDER BY evidence_id")]
    assert len(ids) == 6
    write(rig.directory, [{"evidence_id": name, "algorithm": "ml-dsa-65"} for name in ids])
    rig.text = _ASK.format(directory=rig.directory, key="evidence_id", route="provenance.get", more="verify = true")
    rig.replace('name    = "rig"', 'name    = "proven"')
    rig.replace("/out", "/proven")
    assert (await rig.run()).accepted == 6  # Now they are signed, and a change comes after the signature.
    [(leaf,)] = state.db.execute("SELECT leaf FROM provenance WHERE evidence_id = ?", (ids[3],)).fetchall()
    changed = bytes(leaf).replace(b'"service"', b'"servicf"')
    assert changed != leaf
    state.db.execute("UPDATE provenance SET leaf = ? WHERE evidence_id = ?", (changed, ids[3]))
    report = await rig.run(fresh=True)
    assert (report.accepted, report.dead) == (5, 1)
    [(key, code, reason)] = rig.ledger_of("proven", "SELECT key, code, reason FROM dead_letters")
    assert (key, code) == (ids[3], "trust.proof")
    assert "record 0" in reason
    rig.out = rig.directory / "proven"
    assert sorted(row["evidence_id"] for row in rig.rows()) == [name for name in ids if name != ids[3]]
