"""Access: which platform the settings choose, where it is, and as whom we speak there.

Starts the emulator where the profile asks for one and none is named. What is then sent is the client's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from engine.client.client import Access
from engine.client.person import take_login
from engine.contract.catalog import route_of
from engine.contract.profile import PROFILE
from engine.emulator.child import Child
from engine.errors import ConfigError
from engine.settings import Secret, Settings
from engine.store.login import Login, find_login

EMULATOR_CLIENT = "app_local"
EMULATOR_SECRET = "emulator-secret"


def platform_name(settings: Settings) -> str:
    """Which platform this is, as the ledger remembers it. An emulator of our own is where its state is."""
    platform = settings.platform
    match platform.profile:
        case "emulator":
            return f"emulator {platform.emulator.url or 'started for each run'}"
        case "sandbox":
            return f"sandbox {platform.sandbox.api_url}"
        case "live":
            return f"live {platform.live.api_url}"


async def open_access(settings: Settings, stack: AsyncExitStack) -> tuple[Access, str]:
    """Where to ask and as whom, and what a human calls it; an emulator that is started ends with the stack.

    Raises:
        ConfigError: the profile lacks something. StateError: the emulator did not start.
    """
    platform = settings.platform
    match platform.profile:
        case "emulator":
            return await _emulator_access(settings, stack)
        case "sandbox":
            sandbox = platform.sandbox
            access = Access(
                auth_url=sandbox.auth_url,
                api_url=sandbox.api_url,
                docs_url=sandbox.docs_url,
                client_id=platform.client_id,
                client_secret=platform.client_secret,
                scopes=platform.scopes,
                sandbox_token=sandbox.token,
                is_sandbox=True,
                timeout_s=platform.timeout,
            )
            return access, f"sandbox, {sandbox.api_url}"
        case "live":
            live = platform.live
            if not platform.client_id or not platform.client_secret:
                raise ConfigError(
                    'profile "live" needs platform.client_id and platform.client_secret',
                    hint='client_secret = "${secret:env:ARGUS_CLIENT_SECRET}"; for `engine call` engine login will do',
                )
            access = Access(
                auth_url=live.auth_url,
                api_url=live.api_url,
                docs_url=live.docs_url,
                client_id=platform.client_id,
                client_secret=platform.client_secret,
                scopes=platform.scopes,
                issuer=live.issuer or PROFILE.issuer,
                audience=live.audience or PROFILE.audience,
                timeout_s=platform.timeout,
            )
            return access, f"live, {live.api_url}"


def login_access(settings: Settings) -> Access:
    """Where a person logs in, and by which app; an app without a secret is a public one.

    Raises:
        ConfigError: the profile has no place to log in at, or no app.
    """
    platform = settings.platform
    match platform.profile:
        case "emulator" if platform.emulator.url is not None:
            url = platform.emulator.url.rstrip("/")
            client_id = platform.client_id or EMULATOR_CLIENT
            secret = platform.client_secret or (Secret(EMULATOR_SECRET) if client_id == EMULATOR_CLIENT else None)
            return Access(
                auth_url=url, api_url=url, docs_url=url, sandbox_url=platform.emulator.sandbox_url, client_id=client_id,
                client_secret=secret, scopes=platform.scopes, issuer=url, timeout_s=platform.timeout,
            )  # fmt: skip
        case "live" if platform.client_id:
            live = platform.live
            return Access(
                auth_url=live.auth_url.rstrip("/"), api_url=live.api_url, docs_url=live.docs_url,
                client_id=platform.client_id, client_secret=platform.client_secret, scopes=platform.scopes,
                issuer=live.issuer or PROFILE.issuer, audience=live.audience or PROFILE.audience,
                timeout_s=platform.timeout,
            )  # fmt: skip
        case "emulator":
            raise ConfigError("a login needs an emulator that stays", hint="set platform.emulator.url")
        case "live":
            raise ConfigError("a login needs the id of the app", hint="set platform.client_id")
        case _:
            raise ConfigError("nobody logs in at the sandbox", hint='use profile "live" or "emulator"')


class Issuer(msgspec.Struct, frozen=True, kw_only=True):
    """Who issues the tokens of the platform that the settings choose: where its keys are, its `iss`, and for whom."""

    auth_url: str
    issuer: str
    audience: str


def issuer_of(settings: Settings) -> Issuer:
    """The issuer whose tokens are good at the platform that the settings choose.

    Raises:
        ConfigError: an emulator is chosen that is not there.
    """
    platform = settings.platform
    match platform.profile:
        case "emulator" if platform.emulator.url is None:
            raise ConfigError("the keys are those of an emulator that stays", hint="set platform.emulator.url")
        case "emulator":
            url = (platform.emulator.url or "").rstrip("/")
            return Issuer(auth_url=url, issuer=url, audience=PROFILE.audience)
        case "sandbox":
            auth_url = platform.sandbox.auth_url.rstrip("/")
            return Issuer(auth_url=auth_url, issuer=PROFILE.issuer, audience=PROFILE.sandbox_audience)
        case "live":
            live = platform.live
            return Issuer(
                auth_url=live.auth_url.rstrip("/"),
                issuer=live.issuer or PROFILE.issuer,
                audience=live.audience or PROFILE.audience,
            )


async def log_in_person(settings: Settings, *, show: Callable[[str], None], wait_s: float) -> Path:
    """Log a person in, prove the token and keep it; the file it is kept in. `show` gets the URL to open.

    Raises:
        ConfigError: there is no place to log in at. EngineError: as `log_in`; or the token proves nothing.
    """
    return await take_login(login_access(settings), Path(settings.state_dir), show=show, wait_s=wait_s)


def person_login(settings: Settings) -> tuple[Access, Login] | None:
    """Where a person is logged in, and the login as it is kept, which may be over.

    None where client credentials are configured, or nobody is logged in.

    Raises:
        StateError: its file cannot be read.
    """
    if settings.platform.client_secret:
        return None
    try:
        access = login_access(settings)
    except ConfigError:
        return None
    login = find_login(Path(settings.state_dir), access.auth_url)
    if login is None or login.client_id != access.client_id:
        return None
    return access, login


def as_person(access: Access, login: Login) -> Access:
    """The access of the person who is logged in there, and of no app."""
    return msgspec.structs.replace(access, client_id=None, client_secret=None, login_token=login.token)


def asking_also(settings: Settings, routes: Iterable[str | None]) -> Settings:
    """The settings, with tokens that are also for these routes, where none of a route's scopes is asked for yet."""
    asked = settings.platform.scopes
    for name in routes:
        needed = route_of(name).scopes if name is not None else ()
        if needed and not set(needed) & set(asked):
            asked += (needed[0],)
    return msgspec.structs.replace(settings, platform=msgspec.structs.replace(settings.platform, scopes=asked))


async def _emulator_access(settings: Settings, stack: AsyncExitStack) -> tuple[Access, str]:
    platform, emulator = settings.platform, settings.platform.emulator
    client_id, secret = platform.client_id or EMULATOR_CLIENT, platform.client_secret or Secret(EMULATOR_SECRET)
    if emulator.url is not None:
        url, sandbox_url = emulator.url.rstrip("/"), emulator.sandbox_url
        description = f"emulator, {url} (its own process; nothing leaves this machine)"
    else:
        child = await Child.start(Path(settings.state_dir) / "emulator", arguments=_child_arguments(settings))
        stack.push_async_callback(child.aclose)
        url, sandbox_url = child.ready.url, child.ready.sandbox_url
        client_id, secret = child.ready.client_id, Secret(child.ready.client_secret)
        description = f"emulator, {url} (started for this run; no account, nothing leaves this machine)"
    access = Access(
        auth_url=url,
        api_url=url,
        docs_url=url,
        sandbox_url=sandbox_url,
        client_id=client_id,
        client_secret=secret,
        scopes=platform.scopes,
        # An emulator's tokens carry its own address as issuer, so that no real client ever takes one for the vendor's.
        issuer=url,
        timeout_s=platform.timeout,
    )
    return access, description


def _child_arguments(settings: Settings) -> list[str]:
    emulator = settings.platform.emulator
    arguments: list[str] = []
    if emulator.faults:
        arguments += ["--faults", emulator.faults]
    if emulator.seed is not None:
        arguments += ["--seed", str(emulator.seed)]
    if emulator.latency is not None:
        arguments += ["--latency", f"{emulator.latency}s"]
    return arguments
