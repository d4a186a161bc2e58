"""Session: one token, fetched before it is needed, proved before it is used, shared by every caller.

Where tokens come from is a plain function (`Mint`): client credentials, the sandbox's mint, or one we were
given. Tokens and secrets leave this file only inside `Secret`.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import msgspec

from engine.client.call import Line, TokenSource
from engine.contract import oauth, sandbox
from engine.contract.oauth import AskToken
from engine.contract.profile import PROFILE
from engine.contract.route import lay_out
from engine.contract.sandbox import MintSandboxToken
from engine.errors import (
    BrokenAnswer,
    ConfigError,
    EngineError,
    ExpiredToken,
    NotYetValid,
    PlatformError,
    Retry,
    TransportError,
    UnknownKey,
)
from engine.ports import Clock
from engine.retry import Again, Policy, ToDeadLetters, decide
from engine.settings import Secret
from engine.transport.patience import Patience, out_of_patience
from engine.trust.bearer import Claims
from engine.trust.flight import Flight
from engine.trust.keyring import Keyring

REFRESH_AHEAD = 0.8
LIFE_MAX_S = float(PROFILE.token_ttl_max_s)
_LIFE_MIN_S = 1.0
_MARGIN_S = 5.0
_AGAIN_S = 10.0
_SHUT_S = 30.0


class Minted(msgspec.Struct, frozen=True):
    """A token as it was handed out; `life_s` is what the answer said of its life, if it did."""

    token: Secret
    life_s: float | None = None


Mint = Callable[[], Awaitable[Minted]]


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What a token must prove before we show it to anybody: by whom it is, and for whom."""

    keyring: Keyring
    issuer: str
    audience: str


class Session:
    """Holds one token; fetches the next at 80 % of its life, or when told that it was refused.

    However many callers wait, the mint is asked once. While the old token still lives, a mint that fails is
    asked again every 10 s and nobody notices. With `patience`, an outage of the mint is waited out.
    """

    def __init__(
        self,
        mint: Mint,
        proof: Proof,
        clock: Clock,
        *,
        policy: Policy | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._mint = mint
        self._proof = proof
        self._clock = clock
        self._policy = policy or Policy()
        self._patience = patience or Patience(clock)
        self._refused: PlatformError | None = None
        self._shut_until = 0.0
        self._flight = Flight(self._renew)
        self._token: Secret | None = None
        self._refresh_at = 0.0
        self._ends_at = 0.0

    async def token(self) -> Secret:
        """A token that is good now.

        Raises:
            PlatformError, TransportError: none could be had. TrustError: what we were given proves nothing.
            Refused: a fresh token was refused a moment ago (`shut`).
        """
        now = self._clock.monotonic()
        if self._refused is not None and now < self._shut_until:
            raise self._refused
        if self._token is None or now >= self._ends_at:
            return await self._flight.join()
        if now < self._refresh_at or self._flight.is_under_way:
            return self._token
        self._refresh_at = now + _AGAIN_S
        current = self._token
        try:
            return await self._flight.join()
        except EngineError:
            return current

    def reject(self, token: Secret) -> None:
        """Forget this token, if it is still the current one: of many callers refused with it, one renews."""
        if self._token == token:
            self._token = None

    def shut(self, error: PlatformError) -> None:
        """A token fresh from the mint was refused, so the next would be too: for half a minute nobody gets one.

        Of many callers the first to find out spares the platform, and the log, the storm of all others.
        """
        self._refused = error
        self._shut_until = self._clock.monotonic() + _SHUT_S
        self._token = None

    async def _renew(self) -> Secret:
        minted = await self._mint_patiently()
        claims = await self._prove(minted.token)
        now = self._clock.monotonic()
        life_s = _life_s(claims, minted.life_s, now_s=self._clock.now_ns() / 1e9)
        self._refresh_at = now + REFRESH_AHEAD * life_s
        self._ends_at = now + max(REFRESH_AHEAD * life_s, life_s - _MARGIN_S)
        self._token = minted.token
        return minted.token

    async def _mint_patiently(self) -> Minted:
        attempt, began = 1, self._clock.monotonic()
        while True:
            try:
                return await self._mint()
            except EngineError as exc:
                # Minting twice does no harm, so a token request may be repeated though it is a POST.
                may_wait = self._clock.monotonic() - began < self._patience.seconds
                counted = min(attempt, self._policy.attempts - 1) if may_wait else attempt
                match decide(exc, counted, self._policy, jitter=random.random()):
                    case Again(after_s):
                        await self._patience.pause(after_s)
                    case ToDeadLetters() if exc.retry is not Retry.NEVER and self._patience.seconds:
                        raise out_of_patience(exc, self._patience) from exc
                    case _:
                        raise
            attempt += 1

    async def _prove(self, token: Secret) -> Claims:
        try:
            try:
                return await self._verify(token)
            except UnknownKey as exc:
                # The issuer just signed with a key that it publishes, so it is worth waiting to look once more.
                self._proof.keyring.forget_unknown(str(exc.facts["kid"]))
            await self._clock.sleep(self._proof.keyring.next_look_s())
            return await self._verify(token)
        except (ExpiredToken, NotYetValid) as exc:
            exc.hint = "the token is brand-new, so the clocks disagree: check this machine's time"
            raise

    async def _verify(self, token: Secret) -> Claims:
        """Verify, waiting out a short outage of the keys: only the first set is missed, later the last one serves."""
        proof, attempt = self._proof, 1
        while True:
            try:
                return await proof.keyring.verify(token.reveal(), issuer=proof.issuer, audience=proof.audience)
            except TransportError as exc:
                match decide(exc, attempt, self._policy, jitter=random.random()):
                    case Again(after_s):
                        await self._clock.sleep(after_s)
                    case _:
                        raise
            attempt += 1


def by_client_credentials(line: Line, client_id: str, secret: Secret, scopes: tuple[str, ...]) -> Mint:
    """Tokens of an app's own (RFC 6749 section 4.4), the secret in the body as documented (contract 4.2)."""

    async def mint() -> Minted:
        ask = AskToken(
            grant_type="client_credentials", client_id=client_id, client_secret=secret.reveal(),
            **({"scope": " ".join(scopes)} if scopes else {}),
        )  # fmt: skip
        answer = (await line.exchange(oauth.TOKEN, lay_out(oauth.TOKEN, ask))).answer
        if answer.token_type.lower() != "bearer":
            raise BrokenAnswer(f"oauth.token: expected a Bearer token, found {answer.token_type[:20]!a}")
        return Minted(Secret(answer.access_token), answer.expires_in)

    return mint


def by_sandbox_mint(line: Line, client_id: str, admin: TokenSource) -> Mint:
    """Sandbox tokens that an administrator's token mints (contract 10.1)."""

    async def mint() -> Minted:
        wire = lay_out(sandbox.MINT, MintSandboxToken(client_id=client_id))
        answer = (await line.exchange(sandbox.MINT, wire, token=await admin.token())).answer
        return Minted(Secret(answer.token))

    return mint


def by_hand(token: Secret) -> Mint:
    """The one token we were given; when it ends, so do we."""

    async def mint() -> Minted:
        if not token:
            raise ConfigError("the sandbox token in config.toml is empty", hint="mint one, or leave it out")
        return Minted(token)

    return mint


def _life_s(claims: Claims, said_s: float | None, *, now_s: float) -> float:
    """Seconds a token just handed out will live: by its own times, or less if the answer says so.

    Measured between two of the issuer's own times where there are two, so that a skewed clock of ours counts
    for nothing; clamped, for `expires_in` may be any number.
    """
    life_s = claims.exp - (claims.iat if claims.iat is not None else now_s)
    # A token that was not minted just now has less left than its whole life.
    life_s = min(life_s, claims.exp - now_s) if claims.exp > now_s else life_s
    if said_s is not None and said_s > 0:
        life_s = min(life_s, said_s)
    return min(max(life_s, _LIFE_MIN_S), LIFE_MAX_S)
