"""Keyring: the issuer's public keys, fetched over a transport and kept for as long as they may be.

Decides when to ask again, and what to do while nobody answers; what a token must look like is `bearer`'s
matter. Every refresh replaces the whole set, so a withdrawn key is gone with it.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from urllib.parse import urlsplit

from engine.contract.exchange import Request
from engine.contract.profile import PROFILE
from engine.errors import BrokenAnswer, ConfigError, EngineError, TrustError, UnknownKey
from engine.events import Warned
from engine.loopback import is_loopback
from engine.ports import Clock, Observer, Transport
from engine.trust.bearer import Claims, PublicKey, Verifier, parse_jwks
from engine.trust.flight import Flight

TTL_DEFAULT_S = 600.0
TTL_MIN_S = 60.0
TTL_MAX_S = 86_400.0
REFRESH_AHEAD = 0.8
FORCED_EVERY_S = 30.0
RETRY_EVERY_S = 30.0
STALE_MAX_S = 86_400.0
UNKNOWN_MAX = 128
UNKNOWN_FOR_S = 300.0
TIMEOUT_S = 10.0
# The type of the profile in front (Q14); issuers elsewhere use the other one.
_ACCEPT = ", ".join(dict.fromkeys((PROFILE.jwks_type, "application/jwk-set+json", "application/json")))
_SET_BYTES_MAX = 64 * 1024
_MAX_AGE = re.compile(r"(?:^|[,\s])max-age\s*=\s*\"?(\d{1,15})\"?", re.IGNORECASE)


def ttl_s(headers: Mapping[str, str]) -> float:
    """How long a key set stays fresh, by its Cache-Control (RFC 9111 section 5.2), within [1 min, 24 h]."""
    control = headers.get("cache-control", "")
    if "no-store" in control.lower() or "no-cache" in control.lower():
        return TTL_MIN_S
    match = _MAX_AGE.search(control)
    return min(max(float(match.group(1)), TTL_MIN_S), TTL_MAX_S) if match else TTL_DEFAULT_S


class Keyring:
    """The key set at `url`: https, or http on loopback. Redirects are never followed.

    A set is fresh for its TTL and asked for again at 80 % of it, by whichever caller comes then. While the
    issuer fails, the last good set serves for 24 h more, and `observer` is warned. A name that no key has
    forces at most one fetch in 30 s, however many such names come; each is remembered for 5 min.
    """

    def __init__(self, url: str, transport: Transport, clock: Clock, *, observer: Observer | None = None) -> None:
        _check_url(url)
        self._url = url
        self._transport = transport
        self._clock = clock
        self._observer = observer
        self._flight = Flight(self._fetch)
        self._keys: Mapping[str, PublicKey] | None = None
        self._etag: str | None = None
        self._ttl_s = TTL_DEFAULT_S
        self._fetched_at = 0.0
        self._ask_again_at = 0.0
        self._forced_at = -FORCED_EVERY_S
        self._unknown: dict[str, float] = {}
        self._verifiers: dict[tuple[str, tuple[str, ...]], Verifier] = {}

    async def keys(self) -> Mapping[str, PublicKey]:
        """The current set, by name; fetched if there is none, or it is old.

        Raises:
            TransportError, TrustError: there is no set, or none younger than its TTL and a day.
        """
        now = self._clock.monotonic()
        if self._keys is None:
            return await self._flight.join()
        age_s = now - self._fetched_at
        is_due = age_s >= REFRESH_AHEAD * self._ttl_s and now >= self._ask_again_at
        if is_due or (age_s >= self._ttl_s and self._flight.is_under_way):
            # The set is still fresh, so only this caller waits; others find `_ask_again_at` in the future.
            self._ask_again_at = now + RETRY_EVERY_S
            try:
                return await self._flight.join()
            except EngineError as exc:
                self._warn(exc)
        if age_s >= self._ttl_s + STALE_MAX_S:
            raise TrustError(
                f"the key set of {self._host} is {age_s:.0f} s old and cannot be fetched again",
                hint="check that the auth host answers; tokens cannot be verified until it does",
            )
        return self._keys

    async def key(self, kid: str) -> PublicKey:
        """The key of this name.

        Raises:
            UnknownKey: the issuer has none, as far as we may ask. Else as `keys`.
        """
        key = (await self.keys()).get(kid) or (await self._look_again(kid)).get(kid)
        if key is None:
            raise UnknownKey(f"no key named {kid[:80]!a} in the key set of {self._host}", kid=kid)
        return key

    async def verify(self, token: str, *, issuer: str, audience: str | Sequence[str]) -> Claims:
        """Prove a token with the issuer's keys; a key we have not seen yet is looked for once.

        Raises:
            TrustError: each refusal by its own class, as `bearer.verify`; else as `keys`.
        """
        verifier = self._verifier(issuer, audience)
        now_s = self._clock.now_ns() / 1e9
        try:
            return verifier.verify(token, await self.keys(), now_s=now_s)
        except UnknownKey as exc:
            kid = str(exc.facts["kid"])
        return verifier.verify(token, await self._look_again(kid), now_s=now_s)

    def next_look_s(self) -> float:
        """Seconds until an unknown name may force a fetch again; 0 when it may now."""
        return max(0.0, self._forced_at + FORCED_EVERY_S - self._clock.monotonic())

    def forget_unknown(self, kid: str) -> None:
        """Look for this name again at the next chance: a token that the issuer just gave us bears it."""
        self._unknown.pop(kid, None)

    def _verifier(self, issuer: str, audience: str | Sequence[str]) -> Verifier:
        wanted = (audience,) if isinstance(audience, str) else tuple(audience)
        verifier = self._verifiers.get((issuer, wanted))
        if verifier is None:
            verifier = self._verifiers[issuer, wanted] = Verifier(issuer=issuer, audience=wanted)
        return verifier

    async def _look_again(self, kid: str) -> Mapping[str, PublicKey]:
        """The set after asking for an unknown name, if asking is due; else the set as it is."""
        now = self._clock.monotonic()
        known = self._keys or {}
        if self._unknown.get(kid, 0.0) > now or (now < self._forced_at + FORCED_EVERY_S):
            return known
        self._forced_at = now
        try:
            known = await self._flight.join()
        except EngineError as exc:
            self._warn(exc)
            return known
        if kid not in known:
            self._remember_unknown(kid, now)
        return known

    def _remember_unknown(self, kid: str, now: float) -> None:
        self._unknown.pop(kid, None)
        if len(self._unknown) >= UNKNOWN_MAX:
            del self._unknown[next(iter(self._unknown))]
        self._unknown[kid] = now + UNKNOWN_FOR_S

    async def _fetch(self) -> Mapping[str, PublicKey]:
        headers = {"Accept": _ACCEPT, "Accept-Encoding": "identity"}
        if self._etag and self._keys is not None:
            headers["If-None-Match"] = self._etag
        request = Request(
            "GET", self._url, headers, route="keys.well_known", template=urlsplit(self._url).path, timeout_s=TIMEOUT_S
        )
        async with self._transport.stream(request) as answer:
            if answer.status == 304 and self._keys is not None:
                keys = self._keys
            elif answer.status == 200:
                keys = parse_jwks(await _read_capped(answer.chunks()))
            else:
                raise BrokenAnswer(
                    f"the key set of {self._host}: expected status 200, found {answer.status}", status=answer.status
                )
            self._etag = answer.headers.get("etag") or (self._etag if answer.status == 304 else None)
            self._ttl_s = ttl_s(answer.headers)
        self._keys = keys
        self._fetched_at = self._ask_again_at = self._clock.monotonic()
        return keys

    @property
    def _host(self) -> str:
        return urlsplit(self._url).netloc

    def _warn(self, error: EngineError) -> None:
        if self._observer is not None:
            said = f"the key set of {self._host} could not be refreshed; the last good one serves on: {error}"
            self._observer.notice(Warned(code="trust.stale_keys", message=said))


async def _read_capped(chunks: AsyncIterator[bytes]) -> bytes:
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > _SET_BYTES_MAX:
            raise TrustError(f"a key set has at most {_SET_BYTES_MAX} bytes, this one more")
    return bytes(body)


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "http" and is_loopback(parts.hostname or ""):
        return
    raise ConfigError(
        f"keys are fetched by https, or by http from loopback, not from {parts.scheme}://{parts.hostname or ''}",
        hint="check auth_url in config.toml",
    )
