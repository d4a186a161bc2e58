"""Medical devices, as asked (contract 7.5-7.7): routes 23-25."""

from __future__ import annotations

from collections.abc import AsyncIterator

from engine.client.call import Answered, Caller
from engine.client.pages import items
from engine.contract import devices
from engine.contract.devices import Device, DeviceList, EnrolDevice, ListDevices, Observe, Observed
from engine.contract.exchange import Trace
from engine.contract.profile import PROFILE


class Devices:
    """Devices of the tenant, and the observations they make."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def list(
        self,
        *,
        status: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        trace: Trace | None = None,
    ) -> Answered[DeviceList]:
        """One page of devices, newest first."""
        ask = ListDevices(cursor=cursor, limit=limit, status=status)
        return await self._caller.call(devices.LIST, ask, trace=trace)

    def every(self, *, status: str | None = None, limit: int | None = PROFILE.page_limit_max) -> AsyncIterator[Device]:
        """Every device, newest first, page after page."""
        return items(lambda cursor: self.list(status=status, limit=limit, cursor=cursor), lambda page: page.devices)

    async def enrol(self, device: EnrolDevice, *, trace: Trace | None = None) -> Answered[Device]:
        """Enrol a device.

        Raises:
            Conflict: there is one of this manufacturer and serial number.
        """
        return await self._caller.call(devices.ENROL, device, trace=trace)

    async def observe(self, observation: Observe, *, trace: Trace | None = None) -> Answered[Observed]:
        """Submit one measurement. With a key, sending it again makes no second one.

        Raises:
            Missing: no such device. Rejected: the measurement is not one.
        """
        return await self._caller.call(devices.OBSERVE, observation, trace=trace)
