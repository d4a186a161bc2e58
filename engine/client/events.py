"""Events: what a subscription brings to its URL, proven over the raw bytes before anybody parses them (contract 6.6).

No socket: whoever serves the URL hands in body and headers. Deliveries come at least once, so each says whether it was
kept before; what is kept is up to the receiver, after it has done its part and before it answers 2xx.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import msgspec

from engine.clock import SystemClock
from engine.codec.payload import decode
from engine.contract.webhooks import Event
from engine.errors import ConfigError
from engine.ports import Clock
from engine.settings import Secret
from engine.trust.webhook import TOLERANCE_S, as_standard, standard_key, verify_event

BODY_MAX = 1024 * 1024
REMEMBERED_MAX = 100_000


class EventReader:
    """Reads signed events; `secrets` are those of the webhook, two while one replaces the other.

    A secret is given as it was given to the platform, or by it (`whsec_…`). Ids are remembered in memory, the newest
    100,000 of them: a receiver that must know them after a restart keeps `Event.id` in its own transaction.
    """

    def __init__(
        self, secrets: Sequence[Secret], *, clock: Clock | None = None, tolerance_s: float = TOLERANCE_S
    ) -> None:
        """Checks the secrets.

        Raises:
            ConfigError: none, or an empty or malformed one.
        """
        if not secrets or not all(secrets):
            raise ConfigError("events cannot be verified without a secret, or with an empty one")
        for secret in secrets:
            standard_key(as_standard(secret))
        self._secrets = tuple(secrets)
        self._clock = clock or SystemClock()
        self._tolerance_s = tolerance_s
        self._kept: OrderedDict[str, None] = OrderedDict()

    def read(self, body: bytes, headers: Mapping[str, str]) -> Event:
        """The event that `body` proves to be; header names in any case. Its id is the one that was signed.

        Answer 401 to a TrustError and 400 to a RecordError; keep nothing of either.

        Raises:
            TrustError: not signed under an active secret, or more than the tolerance ago or ahead.
            RecordError: well signed, and no event.
        """
        lowered = {name.lower(): value for name, value in headers.items()}
        now_s = self._clock.now_ns() / 1e9
        delivery_id = verify_event(body, lowered, self._secrets, now_s=now_s, tolerance_s=self._tolerance_s)
        said = decode(body, Event, max_bytes=BODY_MAX)
        return msgspec.structs.replace(said, id=delivery_id)

    def is_repeat(self, event: Event) -> bool:
        """Whether this delivery was kept before: answer 2xx and do nothing."""
        return event.id in self._kept

    def keep(self, event: Event) -> None:
        """Remember a delivery, once it is dealt with. Kept any sooner, a failure in between would lose the event."""
        self._kept[event.id] = None
        self._kept.move_to_end(event.id)
        if len(self._kept) > REMEMBERED_MAX:
            self._kept.popitem(last=False)
