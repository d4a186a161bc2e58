"""Probes: what a run needs of the world around it, asked for one thing at a time.

Each answers a `Check` and none raises. What stands on a failed one is skipped, and says so: a doctor who names ten
illnesses where there is one is no help.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from engine.client.client import Access, Client
from engine.clock import SystemClock
from engine.contract.catalog import route_of
from engine.contract.exchange import Request
from engine.contract.keys import WELL_KNOWN
from engine.contract.oauth import AskToken
from engine.contract.profile import PROFILE
from engine.contract.sandbox import MINT
from engine.errors import EngineError, Exit
from engine.pipeline.callback import host_and_port, unmet
from engine.pipeline.spec import CallbackSpec, PipelineSpec
from engine.ports import Transport
from engine.settings import Secret
from engine.transport.incoming import Incoming, Outgoing
from engine.transport.listener import Listener
from engine.transport.probing import addresses_of, certificate_ends_s, connect, is_proxied
from engine.trust.bearer import Claims
from engine.trust.keyring import Keyring

_TIMEOUT_S = 10.0
_CERTIFICATE_DAYS_MIN = 7
# A ledger, its log and a part or two: with less than this a run soon stands still.
_ROOM_MIN = 256 * 1024 * 1024
_MARK = "X-Engine-Doctor"


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at, what was found, and what to do if it is bad; `exit` is what a failure ends with."""

    name: str
    verdict: Literal["ok", "fail", "skip"]
    found: str
    hint: str = ""
    exit: int = Exit.FAILED


def good(name: str, found: str) -> Check:
    """All is well."""
    return Check(name=name, verdict="ok", found=found)


def skipped(name: str, because: str) -> Check:
    """Not looked at, because it stands on something that failed or is not there."""
    return Check(name=name, verdict="skip", found=because)


def failed(name: str, error: EngineError, *, hint: str = "") -> Check:
    """It failed, and the error says how."""
    step = hint or error.hint or f"engine explain {error.code}"
    return Check(name=name, verdict="fail", found=error.message, hint=step, exit=error.exit_code)


# The way there -------------------------------------------------------------------------------


async def probe_way(name: str, url: str) -> list[Check]:
    """The name of a host, and its certificate."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    if is_proxied(parts.scheme, host):
        said = f"{host} is reached by a proxy of the environment"
        return [skipped(f"{name} dns", said), skipped(f"{name} tls", said)]
    try:
        found = await addresses_of(host, port, timeout_s=_TIMEOUT_S)
    except EngineError as exc:
        hint = "check the host in config.toml, and this machine's resolver"
        return [failed(f"{name} dns", exc, hint=hint), skipped(f"{name} tls", "the name is not resolved")]
    checks = [good(f"{name} dns", f"{host} is {', '.join(found[:3])}{'…' if len(found) > 3 else ''}")]
    try:
        if parts.scheme != "https":
            await connect(host, port, timeout_s=_TIMEOUT_S)
            checks.append(good(f"{name} tls", "http on loopback: nothing leaves this machine"))
        else:
            checks.append(_certificate(f"{name} tls", await certificate_ends_s(host, port, timeout_s=_TIMEOUT_S)))
    except EngineError as exc:
        checks.append(failed(f"{name} tls", exc))
    return checks


def _certificate(name: str, ends_s: float) -> Check:
    days = (ends_s - SystemClock().now_ns() / 1e9) / 86_400
    found = f"the certificate holds for {days:.0f} days"
    if days < _CERTIFICATE_DAYS_MIN:
        return Check(name=name, verdict="fail", found=found, hint="the owner of the host renews it", exit=Exit.REMOTE)
    return good(name, found)


async def probe_keys(access: Access, transport: Transport) -> tuple[list[Check], Keyring | None]:
    """The key set that tokens are proven with, and what its answer says of our clock."""
    clock, url = SystemClock(), access.auth_url.rstrip("/") + WELL_KNOWN.path
    try:
        started_ns = clock.now_ns()
        answer = await transport.send(
            Request("GET", url, {}, route=WELL_KNOWN.name, template=WELL_KNOWN.path, timeout_s=_TIMEOUT_S)
        )
        middle_s = (started_ns + clock.now_ns()) / 2e9
        keyring = Keyring(url, transport, clock)
        keys = await keyring.keys()
    except EngineError as exc:
        return [failed("jwks", exc), skipped("clock", "no answer to compare it with")], None
    found = f"{len(keys)} keys at {urlsplit(url).hostname}: {', '.join(sorted(keys)[:3])}"
    return [good("jwks", found), _clock(answer.headers.get("date", ""), middle_s)], keyring


def _clock(date: str, now_s: float) -> Check:
    try:
        theirs_s = parsedate_to_datetime(date).timestamp()
    except ValueError:
        return skipped("clock", "the answer has no date")
    # Their date has whole seconds, so half a second more or less says nothing.
    skew_s = now_s - theirs_s - 0.5
    found = f"ours is {abs(skew_s):.0f} s {'ahead' if skew_s > 0 else 'behind'}"
    if abs(skew_s) > PROFILE.leeway_s:
        hint = f"set the clock (NTP): tokens are refused beyond {PROFILE.leeway_s} s"
        return Check(name="clock", verdict="fail", found=found, hint=hint, exit=Exit.CREDENTIALS)
    return good("clock", "within a second" if abs(skew_s) < 1.5 else found)


# As whom -------------------------------------------------------------------------------------


async def probe_token(access: Access, transport: Transport, keyring: Keyring | None) -> tuple[Check, Claims | None]:
    """A token as a run would get it, proven."""
    if keyring is None:
        return skipped("token", "there are no keys to prove one with"), None
    try:
        token = await _token(access, transport, keyring)
        audience = PROFILE.sandbox_audience if access.is_sandbox else access.audience
        claims = await keyring.verify(token.reveal(), issuer=access.issuer, audience=audience)
    except EngineError as exc:
        return failed("token", exc), None
    ends = datetime.fromtimestamp(claims.exp, UTC).strftime("%H:%M:%SZ")
    whose = claims.client_id or claims.sub
    return good("token", f"of {whose}, proven, good until {ends}"), claims


async def _token(access: Access, transport: Transport, keyring: Keyring) -> Secret:
    if access.is_sandbox and access.sandbox_token is not None:
        return access.sandbox_token
    if access.is_sandbox:
        admin = msgspec.structs.replace(access, scopes=MINT.scopes)
        client = Client(transport, admin, clock=SystemClock(), keyring=keyring)
        return Secret((await client.answered(MINT.name, {"client_id": access.client_id})).answer.token)
    client = Client(transport, access, clock=SystemClock(), keyring=keyring)
    ask = AskToken(
        grant_type="client_credentials",
        client_id=access.client_id or "",
        client_secret=access.client_secret.reveal() if access.client_secret else "",
        scope=" ".join(access.scopes),
    )
    return Secret((await client.oauth.token(ask)).answer.access_token)


def probe_rights(claims: Claims | None, needs: Iterable[tuple[str, tuple[str, ...]]]) -> Check:
    """Whether the token's scopes are enough for the routes that the pipelines ask; any one of a route's is."""
    if claims is None:
        return skipped("rights", "there is no token to look at")
    lacks = {route: scopes for route, scopes in needs if scopes and not set(scopes) & set(claims.scope)}
    if not lacks:
        return good("rights", f"{' '.join(claims.scope) or 'none needed'}")
    found = "; ".join(f"{route} needs {' or '.join(scopes)}" for route, scopes in sorted(lacks.items()))
    hint = "have the scope granted to the app, and name it in platform.scopes"
    return Check(name="rights", verdict="fail", found=found, hint=hint, exit=Exit.CREDENTIALS)


def needs_of(specs: Iterable[PipelineSpec]) -> dict[str, tuple[str, ...]]:
    """The routes that pipelines ask, with the scopes of each."""
    names: set[str] = set()
    for spec in specs:
        if spec.job is not None:
            names |= {"jobs.create", "jobs.get", "jobs.list", "jobs.result"}
        names |= {name for name in (spec.source.route, spec.row_route) if name is not None}
    return {name: route_of(name).scopes for name in sorted(names)}


# This machine --------------------------------------------------------------------------------


def probe_directory(name: str, path: Path) -> list[Check]:
    """Whether a directory, or the nearest one above it, takes files, and how much room is left there."""
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        if not place.is_dir():
            raise NotADirectoryError(20, "not a directory")
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"engine")
            os.fsync(file.fileno())
        free = shutil.disk_usage(place).free
    except OSError as exc:
        said = f"{place}: {(exc.strerror or 'refused').lower()}"
        hint = "fix its rights, or name another directory"
        return [
            Check(name=name, verdict="fail", found=said, hint=hint, exit=Exit.OUTPUT),
            skipped(f"{name} room", "nothing can be written there"),
        ]
    room = f"{free / 1024**3:.1f} GiB free"
    written = good(name, f"{path}: can be written" + ("" if place == path else ", and is made by the first run"))
    if free < _ROOM_MIN:
        hint = "free some: a run waits while a disk is full"
        return [written, Check(name=f"{name} room", verdict="fail", found=room, hint=hint, exit=Exit.OUTPUT)]
    return [written, good(f"{name} room", room)]


async def probe_callback(callback: CallbackSpec, path: str, profile: str, transport: Transport) -> Check:
    """Whether a request to `public_url` arrives at `listen` on this machine."""
    if lack := unmet(callback, profile=profile, path=path):
        return Check(name="callback", verdict="fail", found=lack.message, hint=lack.hint, exit=Exit.CONFIGURATION)
    seen: list[str] = []

    async def answer(incoming: Incoming) -> Outgoing:
        seen.append(incoming.headers.get(_MARK.lower(), ""))
        return Outgoing(status=204)

    host, port = host_and_port(callback.listen)
    listener = Listener(answer, host=host, port=port)
    try:
        await listener.start()
    except EngineError as exc:
        return failed("callback", exc, hint="stop what listens there, a running pipeline for one, or change `listen`")
    try:
        if callback.public_url is None:
            return good("callback", f"{callback.listen} can be listened on; the emulator calls it there")
        mark = secrets.token_hex(8)
        request = Request("GET", callback.public_url, {_MARK: mark}, template="{public_url}", timeout_s=_TIMEOUT_S)
        status = (await transport.send(request)).status
    except EngineError as exc:
        return failed("callback", exc, hint="check the URL, its DNS entry and the proxy in front of `listen`")
    finally:
        await listener.aclose()
    if mark in seen:
        return good("callback", f"{callback.public_url} leads to {callback.listen}")
    found = f"{callback.public_url} answers {status}, but the request did not come to {callback.listen}"
    hint = "point the proxy behind public_url to this machine and port"
    return Check(name="callback", verdict="fail", found=found, hint=hint, exit=Exit.CONFIGURATION)
