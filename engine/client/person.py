"""Person: a login as it is kept: given by a person in the browser once, renewed by its refresh token when it ends.

A refresh token is good once (RFC 9700 section 4.14.2), and using it twice revokes everything: so the next one is kept
before anything else is done, and two processes never use the same one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from msgspec import UNSET

from engine.client.client import Access, Client
from engine.client.login import log_in
from engine.clock import SystemClock
from engine.contract.keys import WELL_KNOWN
from engine.contract.oauth import AskToken
from engine.errors import EngineError, ExpiredToken, LedgerBusy, PlatformError
from engine.ports import Clock
from engine.settings import Secret
from engine.store.lock import StateLock
from engine.store.login import Login, find_login, keep_login
from engine.transport.pooled import PooledTransport
from engine.trust.keyring import Keyring

_LOCK_FILE = "login.lock"
_LOCK_TRIES, _LOCK_NAP_S = 300, 0.1
# A token that ends while its question is on the way is no token.
_MARGIN_S = 5.0


async def take_login(access: Access, state_dir: Path, *, show: Callable[[str], None], wait_s: float) -> Path:
    """Log a person in, prove the token and keep it; the file it is kept in. `show` gets the URL to open.

    Raises:
        EngineError: as `log_in`; or the token proves nothing, or cannot be kept.
    """
    async with _speaking(access, SystemClock()) as (client, keyring):
        given = await log_in(client.oauth, access, show=show, wait_s=wait_s)
        ends_s = await _proved(given.token, access, keyring)
    login = Login(
        auth_url=access.auth_url, client_id=access.client_id or "", token=given.token, ends_s=ends_s,
        refresh=given.refresh,
    )  # fmt: skip
    return keep_login(state_dir, login)


async def current_login(access: Access, login: Login, state_dir: Path, clock: Clock) -> Login:
    """The login while it lasts, else a renewed one, which is kept.

    Raises:
        ExpiredToken: it is over, and there is nothing to renew it with, or the platform took that back.
        EngineError: the platform did not answer, or the new token proves nothing, or cannot be kept.
    """
    if _lasts(login, clock):
        return login
    lock = StateLock(state_dir / _LOCK_FILE)
    await _acquire(lock, clock)
    try:
        # Another process may have renewed it meanwhile.
        found = find_login(state_dir, access.auth_url) or login
        return found if _lasts(found, clock) else await _renewed(access, found, state_dir, clock)
    finally:
        lock.release()


async def _renewed(access: Access, login: Login, state_dir: Path, clock: Clock) -> Login:
    if login.refresh is None:
        raise _over()
    ask = AskToken(
        grant_type="refresh_token", refresh_token=login.refresh.reveal(), client_id=login.client_id,
        client_secret=access.client_secret.reveal() if access.client_secret else UNSET,
    )  # fmt: skip
    async with _speaking(access, clock) as (client, keyring):
        try:
            answer = (await client.oauth.token(ask)).answer
        except PlatformError as exc:
            if exc.status in (400, 401):
                raise _over() from exc
            raise
        refresh = Secret(answer.refresh_token) if answer.refresh_token else login.refresh
        # Before the token is proved: whatever happens now, the used one is worth nothing any more.
        login = msgspec.structs.replace(login, refresh=refresh, ends_s=0.0)
        keep_login(state_dir, login)
        token = Secret(answer.access_token)
        login = msgspec.structs.replace(login, token=token, ends_s=await _proved(token, access, keyring))
    keep_login(state_dir, login)
    return login


@asynccontextmanager
async def _speaking(access: Access, clock: Clock) -> AsyncIterator[tuple[Client, Keyring]]:
    pool = PooledTransport(concurrency=4)
    try:
        keyring = Keyring(access.auth_url + WELL_KNOWN.path, pool, clock)
        yield Client(pool, access, clock=clock, keyring=keyring), keyring
    finally:
        await pool.aclose()


async def _proved(token: Secret, access: Access, keyring: Keyring) -> float:
    """When a token that proves itself ends, in Unix seconds."""
    return (await keyring.verify(token.reveal(), issuer=access.issuer, audience=access.audience)).exp


def _lasts(login: Login, clock: Clock) -> bool:
    return login.ends_s - _MARGIN_S > clock.now_ns() / 1e9


async def _acquire(lock: StateLock, clock: Clock) -> None:
    for _ in range(_LOCK_TRIES - 1):
        try:
            lock.acquire()
        except LedgerBusy:
            await clock.sleep(_LOCK_NAP_S)
        else:
            return
    lock.acquire()


def _over() -> EngineError:
    return ExpiredToken("the login is over", hint="run engine login again, or engine login --forget")
