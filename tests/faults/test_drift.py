"""F42 and F43: the platform withdraws routes, and says more, less or other than the contract knows."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine.errors import RunFailed
from engine.transport.incoming import Incoming, Outgoing
from tests.faults.conftest import Ears
from tests.faults.rewriting import document, rewrite, with_document, with_headers
from tests.runtime.conftest import Rig

pytestmark = pytest.mark.anyio

_NOTICES = {
    "past": ({"Deprecation": "@1688169599", "Sunset": "Sun, 30 Jun 2024 23:59:59 GMT"}, "since 2023-06-30"),
    "to come": ({"Deprecation": "@4070908800", "Sunset": "Sun, 30 Jun 2199 23:59:59 GMT"}, "from 2099-01-01"),
    "older forms": ({"Deprecation": "true", "Sunset": "Sun, 30 Jun 2024 23:59:60 GMT"}, "is deprecated and"),
    "malformed": ({"Deprecation": "@soon", "Sunset": "\u00e9, 99 Foo 2026"}, "cannot be read"),
    "sunset only": ({"Sunset": "Sun, 30 Jun 2024 23:59:59 GMT"}, "is to be withdrawn since 2024-06-30"),
}


def _is_create(incoming: Incoming) -> bool:
    return incoming.method == "POST" and incoming.path == "/v1/jobs"


@pytest.mark.parametrize("notice", _NOTICES)
async def test_f42_a_withdrawn_route_is_told_once_and_never_fails(rig: Rig, ears: Ears, notice: str) -> None:
    """Headers on one route, on each of its answers: one warning that names the route, and a run like any other."""
    headers, said = _NOTICES[notice]
    emulator = await rig.emulate()
    changed = rewrite(emulator, lambda i, o: with_headers(o, **headers) if _is_create(i) else None)
    rig.write(50)
    report = await rig.run(observer=ears)
    assert len(changed) == 5
    assert (report.outcome, report.accepted) == ("done", 50)
    [message] = ears.said("platform.deprecated")
    assert message.startswith("jobs.create (POST /v1/jobs) is ")
    assert said in message


async def test_f42_each_route_is_told_of_on_its_own(rig: Rig, ears: Ears) -> None:
    """Headers everywhere: one warning for each route that was asked."""
    emulator = await rig.emulate()
    rewrite(emulator, lambda _, o: with_headers(o, Deprecation="@1688169599"))
    rig.write(20)
    assert (await rig.run(observer=ears)).accepted == 20
    routes = [message.split(" ", 1)[0] for message in ears.said("platform.deprecated")]
    assert len(routes) == len(set(routes))
    assert {"jobs.create", "jobs.result", "oauth.token"} <= set(routes)


# F43 -----------------------------------------------------------------------------------------


async def test_f43_added_fields_everywhere_are_ignored(rig: Rig) -> None:
    """Every JSON answer gains members nobody declared, at its top and in its rows: nothing changes."""
    emulator = await rig.emulate()

    def grow(value: Any) -> Any:
        if isinstance(value, list):
            return [grow(item) for item in value]
        if isinstance(value, dict):
            grown = {name: grow(member) for name, member in value.items()}
            # The summary of a result counts its rows, so a number there would be a claim.
            return {**grown, "x_added": {"deep": [1, None]}, "x_more": "text"}
        return value

    def change(incoming: Incoming, outgoing: Outgoing) -> Outgoing | None:
        value = document(outgoing)
        if not isinstance(value, dict) or "keys" in value:
            return None
        return with_document(outgoing, grow(value))

    changed = rewrite(emulator, change)
    rig.write(50)
    report = await rig.run()
    assert len(set(changed)) > 5
    assert (report.outcome, report.accepted) == ("done", 50)
    assert all("x_added" not in row for row in rig.rows())


def _on_jobs(**members: Any) -> Any:
    """Change members of each job that is still under way."""

    def change(incoming: Incoming, outgoing: Outgoing) -> Outgoing | None:
        value = document(outgoing)
        if incoming.method != "GET" or not incoming.path.startswith("/v1/jobs") or not isinstance(value, dict):
            return None
        jobs = [job for job in value.get("jobs", [value]) if job.get("status") in ("queued", "running")]
        if not jobs:
            return None
        for job in jobs:
            job.update(members)
        return with_document(outgoing, value)

    return change


@pytest.mark.parametrize(
    "members",
    [
        {"status": "hibernating"},
        {"progress_pct": None, "updated_at": None, "trace_id": None},
        {"created_at": None, "completed_at": None, "error": None},
    ],
    ids=["a new status", "nulls", "more nulls"],
)
async def test_f43_new_enum_values_and_nulls_are_lived_with(rig: Rig, members: dict[str, Any]) -> None:
    """A status nobody knows is not an end, so the job is asked for again; what may be null is not missed."""
    emulator = await rig.emulate(latency_s=0.3)
    changed = rewrite(emulator, _on_jobs(**members))
    rig.write(50)
    report = await rig.run()
    assert changed
    assert (report.outcome, report.accepted) == ("done", 50)
    assert rig.creates() == 5


def _on_rows(edit: Any) -> Any:
    """Change the first row of every result."""

    def change(_: Incoming, outgoing: Outgoing) -> Outgoing | None:
        value = document(outgoing)
        if not isinstance(value, dict) or not isinstance(value.get("rows"), list) or not value["rows"]:
            return None
        edit(value["rows"][0])
        return with_document(outgoing, value)

    return change


async def test_f43_a_number_for_a_text_is_a_dead_letter_with_its_path(rig: Rig) -> None:
    """One row of each result changes a member's type: that row alone is dead, and the letter says which member."""
    emulator = await rig.emulate()
    changed = rewrite(emulator, _on_rows(lambda row: row.update(id=17)))
    rig.write(50)
    report = await rig.run()
    assert len(changed) == 5
    assert (report.accepted, report.dead, report.open) == (45, 5, 0)
    letters = rig.ledger("SELECT DISTINCT code, reason FROM dead_letters")
    assert [code for code, _ in letters] == ["record.type"]
    assert all("id" in reason and "str" in reason for _, reason in letters)
    assert len(rig.keys()) == 45


async def test_f43_a_text_for_a_number_is_a_dead_letter_too(rig: Rig) -> None:
    """A declared number arrives as text, and a null where none was allowed: those rows are dead, the others land."""
    rig.replace('id          = "str"', 'id          = "str"\nscore       = "int"')
    emulator = await rig.emulate()

    def edit(value: dict[str, Any]) -> None:
        for number, row in enumerate(value["rows"]):
            row["score"] = "7" if number == 0 else None if number == 1 else 7

    def change(_: Incoming, outgoing: Outgoing) -> Outgoing | None:
        value = document(outgoing)
        if not isinstance(value, dict) or not isinstance(value.get("rows"), list):
            return None
        edit(value)
        return with_document(outgoing, value)

    changed = rewrite(emulator, change)
    rig.write(20)
    report = await rig.run()
    assert len(changed) == 2
    assert (report.accepted, report.dead, report.open) == (16, 4, 0)
    assert all("score" in reason for (reason,) in rig.ledger("SELECT reason FROM dead_letters"))


async def test_f43_a_new_status_of_a_row_is_never_guessed(rig: Rig) -> None:
    """A row with a status in no bucket leaves its job open and the run unbalanced, until a bucket is named."""
    emulator = await rig.emulate()
    changed = rewrite(emulator, _on_rows(lambda row: row.update(status="quarantined")))
    rig.write(20)
    report = await rig.run()
    assert changed
    assert (report.outcome, report.accepted, report.open) == ("unbalanced", 0, 20)
    assert any("quarantined" in line for line in report.lines)


@pytest.mark.parametrize("broken", [b'{"id": 5}', b"[]", b"null", b'"text"', b"{"], ids=str)
async def test_f43_an_answer_of_another_type_is_named_and_never_taken(rig: Rig, broken: bytes) -> None:
    """A create answered with something else is no created job: the run stops, and the next asks by the same key."""
    emulator = await rig.emulate()
    is_broken = True

    def change(incoming: Incoming, outgoing: Outgoing) -> Outgoing | None:
        return msgspec.structs.replace(outgoing, body=broken) if is_broken and _is_create(incoming) else None

    changed = rewrite(emulator, change)
    rig.write(10)
    with pytest.raises(RunFailed, match=r"jobs\.create"):
        await rig.run()
    assert changed
    is_broken = False
    report = await rig.run()
    assert (report.outcome, report.accepted) == ("done", 10)
    assert rig.creates() == 1
