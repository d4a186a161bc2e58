"""Devices: medical devices of a tenant and what they measure (contract 7.5-7.7, routes 23-25).

An observation is kept as the FHIR R4 resource it came as or stands for; reading the two forms is `observations`' work.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from msgspec import UNSET

from engine.codec.payload import encode
from engine.contract import devices as contract
from engine.contract.devices import Device, DeviceList, Observed
from engine.contract.paging import Cursor, write_cursor
from engine.emulator import observations
from engine.emulator.asks import key_of
from engine.emulator.call import Call, Handler, Reply
from engine.emulator.paging import limit_of, place_of
from engine.emulator.refusal import Refusal, invalid
from engine.emulator.state import State

SCHEMA = """
CREATE TABLE IF NOT EXISTS devices (
  id TEXT PRIMARY KEY, tenant_id TEXT NOT NULL, manufacturer TEXT NOT NULL, model TEXT NOT NULL,
  serial_number TEXT NOT NULL, type_code TEXT NOT NULL, udi TEXT, encounter_id TEXT, is_retired INTEGER NOT NULL,
  enrolled_ns INTEGER NOT NULL, seen_ns INTEGER NOT NULL, UNIQUE (tenant_id, manufacturer, serial_number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS observations (
  id TEXT PRIMARY KEY, device_id TEXT NOT NULL, key TEXT, encounter_id TEXT, resource BLOB NOT NULL,
  taken_ns INTEGER NOT NULL, UNIQUE (device_id, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS observations_by_encounter ON observations (encounter_id) WHERE encounter_id IS NOT NULL;
"""
_STATUSES = (contract.ONLINE, contract.OFFLINE, contract.RETIRED)
_TEXT_MAX = 200
_CODE = re.compile(r"[0-9]{1,10}")


class _Row(NamedTuple):
    id: str
    manufacturer: str
    model: str
    serial_number: str
    type_code: str
    udi: str | None
    encounter_id: str | None
    is_retired: int
    enrolled_ns: int
    seen_ns: int


_COLUMNS = ", ".join(_Row._fields)


def handlers(state: State) -> dict[str, Handler]:
    """Routes 23-25."""
    state.apply_schema(SCHEMA)
    routes = _Routes(state)
    return {
        contract.LIST.name: routes.page,
        contract.ENROL.name: routes.enrol,
        contract.OBSERVE.name: routes.observe,
    }


class _Routes:
    def __init__(self, state: State) -> None:
        self._state = state

    def page(self, call: Call) -> Reply:
        """A page of the tenant's devices, newest first."""
        ask: contract.ListDevices = call.ask
        if ask.status is not None and ask.status not in _STATUSES:
            raise invalid("query", "status", f"must be one of: {', '.join(_STATUSES)}")
        limit, place = limit_of(ask.limit, self._state.profile), place_of(ask.cursor)
        where, values = self._kept(call.known.tenant_id, ask.status)
        total = self._state.db.execute(f"SELECT count(*) FROM devices WHERE {where}", values).fetchone()[0]  # noqa: S608
        rows = self._state.db.execute(
            f"SELECT {_COLUMNS} FROM devices WHERE {where} AND id < ? ORDER BY id DESC LIMIT ?",  # noqa: S608
            (*values, place.id if place else "~", limit + 1),
        ).fetchall()
        shown = [self._view(_Row(*row)) for row in rows[:limit]]
        following = write_cursor(Cursor(shown[-1].enrolled_at or "", shown[-1].id)) if len(rows) > limit else None
        return Reply(body=DeviceList(devices=shown, next_cursor=following, total_count=total))

    def enrol(self, call: Call) -> Reply:
        """Enrol a device; one that is there already is a conflict."""
        ask: contract.EnrolDevice = call.ask
        names = self._state.profile.device_names
        for name in ("manufacturer", "model", "serial_number", "udi", "encounter_id"):
            text = getattr(ask, name)
            if text is not UNSET and not (0 < len(text) <= _TEXT_MAX and text.isprintable()):
                raise invalid("body", names[name], f"must have 1 to {_TEXT_MAX} printable characters")
        if not _CODE.fullmatch(ask.type_code):
            raise invalid("body", names["type_code"], "must be an MDC code: 1 to 10 digits (ISO/IEEE 11073-10101)")
        now_ns, device_id = self._state.clock.now_ns(), self._state.new_id("dev_")
        made = self._state.db.execute(
            "INSERT INTO devices (id, tenant_id, manufacturer, model, serial_number, type_code, udi, encounter_id,"
            " is_retired, enrolled_ns, seen_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?) ON CONFLICT DO NOTHING",
            (
                device_id, call.known.tenant_id, ask.manufacturer, ask.model, ask.serial_number, ask.type_code,
                ask.udi or None, ask.encounter_id or None, now_ns, now_ns,
            ),
        )  # fmt: skip
        if not made.rowcount:
            raise Refusal(409, "device_exists", "A device of this manufacturer and serial number is enrolled already.")
        row = self._row(device_id, call.known.tenant_id)
        return Reply(status=201, body=self._view(row), headers={"Location": f"/api/v1/devices/{device_id}"})

    def observe(self, call: Call) -> Reply:
        """Keep one measurement; a key that this device has used in a day answers with what it made then, and 200."""
        ask: contract.Observe = call.ask
        state = self._state
        device = self._view(self._row(ask.device_id, call.known.tenant_id))
        key = key_of(ask.idempotency_key, state.profile)
        read = observations.read(ask, device, system=state.profile.device_code_system, now=state.now_text())
        observation_id = state.new_id("obs_")
        now_ns = state.clock.now_ns()
        window_ns = state.profile.idempotency_window_s * 1_000_000_000
        with state.transaction():
            # A key past its window is free again (contract 9.2); what it made stays.
            state.db.execute(
                "UPDATE observations SET key = NULL WHERE device_id = ? AND key = ? AND taken_ns <= ?",
                (device.id, key, now_ns - window_ns),
            )
            made = state.db.execute(
                "INSERT INTO observations (id, device_id, key, encounter_id, resource, taken_ns)"
                " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (device_id, key) DO NOTHING",
                (observation_id, device.id, key, read.encounter_id, encode(read.resource), now_ns),
            ).rowcount
            state.db.execute("UPDATE devices SET seen_ns = ? WHERE id = ?", (now_ns, device.id))
        if not made:
            row = state.db.execute("SELECT id FROM observations WHERE device_id = ? AND key = ?", (device.id, key))
            observation_id = row.fetchone()[0]
        body = Observed(id=observation_id, device_id=device.id, status=contract.ACCEPTED)
        return Reply(status=201 if made else 200, body=body)

    def _kept(self, tenant_id: str, status: str | None) -> tuple[str, tuple[str | int, ...]]:
        if status is None:
            return "tenant_id = ?", (tenant_id,)
        if status == contract.RETIRED:
            return "tenant_id = ? AND is_retired", (tenant_id,)
        than = ">" if status == contract.ONLINE else "<="
        return f"tenant_id = ? AND NOT is_retired AND seen_ns {than} ?", (tenant_id, self._offline_ns())

    def _offline_ns(self) -> int:
        """Whoever was last heard of then, or before, is offline."""
        return self._state.clock.now_ns() - self._state.profile.device_offline_after_s * 1_000_000_000

    def _row(self, device_id: str, tenant_id: str) -> _Row:
        """The device asked for; another tenant's is as unknown as one that never was (contract 1.5)."""
        found = self._state.db.execute(
            f"SELECT {_COLUMNS} FROM devices WHERE id = ? AND tenant_id = ?",  # noqa: S608 - constants
            (device_id, tenant_id),
        ).fetchone()
        if found is None:
            raise Refusal(404, "not_found", "No device of this id.")
        return _Row(*found)

    def _view(self, row: _Row) -> Device:
        is_online = row.seen_ns > self._offline_ns()
        status = contract.RETIRED if row.is_retired else contract.ONLINE if is_online else contract.OFFLINE
        return Device(
            id=row.id, manufacturer=row.manufacturer, model=row.model, serial_number=row.serial_number,
            type_code=row.type_code, status=status, enrolled_at=self._state.now_text(row.enrolled_ns),
            last_seen_at=self._state.now_text(row.seen_ns), udi=row.udi, encounter_id=row.encounter_id,
        )  # fmt: skip
