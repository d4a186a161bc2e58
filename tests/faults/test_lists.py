"""F30: lists whose cursors are invalid, expired or repeated, whose pages are empty or shrink, while a run polls."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from engine.errors import BrokenAnswer, RunFailed
from engine.transport.incoming import Incoming, Outgoing
from tests.faults.rewriting import document, rewrite, with_document
from tests.runtime.conftest import Rig

pytestmark = pytest.mark.anyio


def _is_list(incoming: Incoming) -> bool:
    return incoming.method == "GET" and incoming.path == "/v1/jobs"


def _invalid(page: dict[str, Any]) -> None:
    page["next_cursor"] = "no-cursor-of-this-list"


def _repeated(page: dict[str, Any]) -> None:
    page["next_cursor"] = "again"


def _shrunken(page: dict[str, Any]) -> None:
    page["jobs"] = page["jobs"][::2]


def _from_the_top(incoming: Incoming) -> Incoming:
    """A cursor that leads back to the first page."""
    if incoming.query.get("cursor") != "again":
        return incoming
    query = {name: text for name, text in incoming.query.items() if name != "cursor"}
    return msgspec.structs.replace(incoming, query=query)


class _Sometimes:
    """Every second page is empty, though more pages follow."""

    def __init__(self) -> None:
        self._pages = 0

    def __call__(self, page: dict[str, Any]) -> None:
        self._pages += 1
        if self._pages % 2:
            page["jobs"] = []


@pytest.mark.parametrize(
    "spoil", [_invalid, _repeated, _shrunken, _Sometimes()], ids=["invalid", "repeated", "shrunken", "empty"]
)
async def test_f30_a_list_that_cannot_be_walked_costs_polls_only(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[dict[str, Any]], None]
) -> None:
    """Jobs are found one by one where the list does not lead to them: no loop, no failure, no row lost."""
    monkeypatch.setattr("engine.jobs.watch._PAGE_LIMIT", 5)
    emulator = await rig.emulate(latency_s=0.6, latency_spread=0.0)

    def change(incoming: Incoming, outgoing: Outgoing) -> Outgoing | None:
        page = document(outgoing)
        if not _is_list(incoming) or outgoing.status != 200 or not page["next_cursor"]:
            return None
        spoil(page)
        return with_document(outgoing, page)

    changed = rewrite(emulator, change, ask=_from_the_top)
    rig.write(600)
    report = await rig.run()
    assert changed
    assert (report.outcome, report.accepted, report.open) == ("done", 600, 0)
    assert rig.creates() == 60
    assert report.requests < 800


@pytest.mark.parametrize("status", [400, 410])
async def test_f30_a_cursor_that_expired_ends_the_pages(rig: Rig, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """Any page but the first is refused: polling goes on without them."""
    monkeypatch.setattr("engine.jobs.watch._PAGE_LIMIT", 5)
    emulator = await rig.emulate(latency_s=0.6, latency_spread=0.0)

    def change(incoming: Incoming, outgoing: Outgoing) -> Outgoing | None:
        if not _is_list(incoming) or "cursor" not in incoming.query:
            return None
        return msgspec.structs.replace(with_document(outgoing, {"title": "Expired", "status": status}), status=status)

    changed = rewrite(emulator, change)
    rig.write(600)
    report = await rig.run()
    assert changed
    assert (report.outcome, report.accepted) == ("done", 600)
    assert rig.creates() == 60


async def test_f30_looking_for_a_lost_create_in_a_looping_list_stops(rig: Rig) -> None:
    """A create lost past the window cannot be looked for in a list that loops: the run says so, and stays as it is."""
    emulator = await rig.emulate({"at": "response", "route": "jobs.create", "drop": True})
    rig.write(10)
    rig.settings["patience"] = 0.3
    with pytest.raises(RunFailed, match=r"jobs\.create"):
        await rig.run()
    rig.calm()
    assert rig.creates() == 1
    db = sqlite3.connect(rig.directory / "state" / "rig" / "ledger.sqlite")
    db.execute("UPDATE jobs SET sent_ns=sent_ns-?", (2 * 86_400 * 10**9,))
    db.commit()
    db.close()

    def change(incoming: Incoming, outgoing: Outgoing) -> Outgoing | None:
        return with_document(outgoing, {"jobs": [], "next_cursor": "again"}) if _is_list(incoming) else None

    changed = rewrite(emulator, change, ask=_from_the_top)
    with pytest.raises(RunFailed, match="repeats a cursor") as caught:
        await rig.run()
    assert len(changed) == 2
    assert any(isinstance(cause, BrokenAnswer) for cause in caught.value.causes)
    assert rig.ledger("SELECT state FROM jobs") == [("submitting",)]
    assert rig.creates() == 1
