"""Login: a person's token, by authorization code with PKCE over a loopback redirect (contract 4.1, RFC 8252).

The browser brings the code to a listener of ours. `state` ties it to this login, the verifier to this process;
neither they nor the code are ever shown. The token is handed on unproved.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Callable, Mapping
from urllib.parse import urlencode

import msgspec
from msgspec import UNSET

from engine.client.client import Access
from engine.client.oauth import OAuth
from engine.contract import oauth
from engine.contract.oauth import AskToken
from engine.errors import BrokenAnswer, PlatformError, Refused, TimedOut, Unavailable, WrongIssuer
from engine.settings import Secret
from engine.transport.incoming import Incoming, Outgoing
from engine.transport.listener import Listener
from engine.trust.minting import challenge_of

CALLBACK = "/callback"
_SHOWN_CHARS_MAX = 200
_PASSING = ("server_error", "temporarily_unavailable")


class _Return:
    """Waits for the one answer that carries our `state`; everything else is refused and changes nothing."""

    def __init__(self, state: str) -> None:
        self._state = state.encode("ascii")
        self.answer: asyncio.Future[Mapping[str, str]] = asyncio.get_running_loop().create_future()

    async def handle(self, incoming: Incoming) -> Outgoing:
        if incoming.path != CALLBACK or incoming.method != "GET":
            return _page(404, "There is nothing here.")
        if not hmac.compare_digest(incoming.query.get("state", "").encode("utf-8", "replace"), self._state):
            return _page(400, "This answer belongs to no login that is under way.")
        if self.answer.done():
            return _page(409, "This login was answered before.")
        self.answer.set_result(incoming.query)
        return _page(200, "Thank you. The engine goes on; you may close this window.")


class Given(msgspec.Struct, frozen=True):
    """What a login brings: a token, and where the app may renew it, what that takes."""

    token: Secret
    refresh: Secret | None


async def log_in(client: OAuth, access: Access, *, show: Callable[[str], None], wait_s: float) -> Given:
    """Ask a person for a token: `show` gets the URL to open; the answer is waited for `wait_s` seconds.

    Raises:
        Refused: the person or the platform said no. TimedOut: nobody answered. WrongIssuer: another server did.
        Else as `OAuth.token`.
    """
    state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
    awaited = _Return(state)
    listener = Listener(awaited.handle, connections_max=16)
    await listener.start()
    try:
        redirect_uri = listener.origin + CALLBACK
        show(_url(access, redirect_uri, state, challenge_of(verifier)))
        async with asyncio.timeout(wait_s):
            said = await awaited.answer
    except TimeoutError:
        raise TimedOut(
            f"nobody answered the login within {wait_s:g} s", hint="run it again, and agree in the browser"
        ) from None
    finally:
        await listener.aclose()
    code = _code(said, access.issuer)
    ask = AskToken(
        grant_type="authorization_code", code=code, redirect_uri=redirect_uri, client_id=access.client_id or "",
        client_secret=access.client_secret.reveal() if access.client_secret else UNSET, code_verifier=verifier,
    )  # fmt: skip
    answer = (await client.token(ask)).answer
    if answer.token_type.lower() != "bearer":
        raise BrokenAnswer(f"oauth.token: expected a Bearer token, found {answer.token_type[:20]!a}")
    return Given(Secret(answer.access_token), Secret(answer.refresh_token) if answer.refresh_token else None)


def _url(access: Access, redirect_uri: str, state: str, challenge: str) -> str:
    question = {
        "response_type": "code", "client_id": access.client_id or "", "redirect_uri": redirect_uri,
        "scope": " ".join(access.scopes), "state": state, "code_challenge": challenge,
        "code_challenge_method": "S256",
    }  # fmt: skip
    asked = {name: value for name, value in question.items() if value}
    return f"{access.auth_url.rstrip('/')}{oauth.AUTHORIZE.path}?{urlencode(asked)}"


def _code(said: Mapping[str, str], issuer: str) -> str:
    """The code of an answer whose `state` was right; `iss`, where it is given, must be ours (RFC 9207)."""
    if said.get("iss", issuer) != issuer:
        raise WrongIssuer("the login was answered by another issuer than the one it was asked of")
    if error := said.get("error"):
        raise _refusal(error, said.get("error_description", ""))
    if not said.get("code"):
        raise BrokenAnswer("the login was answered with neither a code nor an error")
    return said["code"]


def _refusal(error: str, description: str) -> PlatformError:
    told = f"{error[:_SHOWN_CHARS_MAX]!a}" + (f", {description[:_SHOWN_CHARS_MAX]!a}" if description else "")
    if error == "access_denied":
        return Refused(f"the login was denied: {told}", status=302, hint="run it again, and agree in the browser")
    if error in _PASSING:
        return Unavailable(f"the platform cannot log anybody in now: {told}", status=302, hint="try again later")
    return Refused(
        f"the platform refused the login: {told}", status=302,
        hint="check platform.client_id and platform.scopes, and what the app is approved for",
    )  # fmt: skip


def _page(status: int, text: str) -> Outgoing:
    headers = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store", "Connection": "close"}
    return Outgoing(status=status, headers=headers, body=(text + "\n").encode())
