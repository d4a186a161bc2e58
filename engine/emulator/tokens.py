"""Tokens: minting access tokens, authorization codes and refresh tokens, and taking them back.

Says what a token holds and how long it lives. Whether somebody may have one is decided in `oauth` and `sandbox`;
whether one is good is proved in `gate`. Codes and refresh tokens are stored as digests only.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

import msgspec

from engine.contract.identity import App
from engine.emulator.gate import Gate
from engine.emulator.keys import Keys
from engine.emulator.refusal import Dropped, Refusal
from engine.emulator.state import State

SCHEMA = """
CREATE TABLE IF NOT EXISTS grants (
  digest BLOB PRIMARY KEY, grant BLOB NOT NULL, expires_ns INTEGER NOT NULL, used INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS revoked_families (family TEXT PRIMARY KEY) WITHOUT ROWID;
"""
# Nobody logs in at the emulator: whoever asks is this user (contract 4.1).
TEST_USER = "user_local"


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What a code or a refresh token stands for. Everything minted from one code is one `family`."""

    kind: str
    client_id: str
    scopes: tuple[str, ...]
    family: str
    user: str
    redirect_uri: str = ""
    challenge: str = ""


class Minted(msgspec.Struct, frozen=True, kw_only=True):
    """An access token and what to say about it."""

    token: str
    expires_in: int
    expires_at: str
    scopes: tuple[str, ...]


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What kind of access token is wanted. `family` groups tokens that are taken back together."""

    scopes: tuple[str, ...]
    ttl_s: int
    audience: str
    subject: str
    family: str = ""
    extra: dict[str, Any] = {}


class Tokens:
    """Mints, and remembers what was given out."""

    def __init__(self, state: State, keys: Keys, gate: Gate) -> None:
        self._state = state
        self._keys = keys
        self._gate = gate
        state.apply_schema(SCHEMA)
        gate.revoked.update(row[0] for row in state.db.execute("SELECT family FROM revoked_families"))

    @property
    def ttl_s(self) -> int:
        """How long an access token lives unless somebody says otherwise."""
        return self._state.options.token_ttl_s or self._state.profile.token_ttl_s

    def clamp_ttl(self, ttl_s: int | None) -> int:
        """A wished life inside the bounds of the contract (10.1, Q23): clamped, never refused."""
        profile = self._state.profile
        return max(profile.token_ttl_min_s, min(self.ttl_s if ttl_s is None else ttl_s, profile.token_ttl_max_s))

    async def mint(self, app: App, wish: Wish) -> Minted:
        """Sign an access token (RFC 9068 with the claims of contract 1.3).

        Raises:
            Refusal: the fault script wants it so.
        """
        state = self._state
        ttl_s, skew_s = wish.ttl_s, 0.0
        fault = state.faults.strike("token", subject=app.client_id)
        if fault is not None:
            await state.clock.sleep(fault.delay_s(state.faults))
            if fault.flag("drop"):
                raise Dropped
            if status := fault.count("status"):
                code = fault.text("code", "temporarily_unavailable")
                raise Refusal(status, code, "No token can be issued now.", fault.retry_headers())
            ttl_s, skew_s = fault.count("ttl", ttl_s), fault.number_of("skew", 0.0)
        issued = int(state.now_s() + skew_s)
        identifier = state.new_id()
        claims: dict[str, Any] = {
            "iss": state.base_url,
            "sub": wish.subject,
            "aud": wish.audience,
            "client_id": app.client_id,
            "tenant_id": app.tenant_id,
            "organization_id": app.organization_id,
            "scope": " ".join(wish.scopes),
            "iat": issued,
            "exp": issued + ttl_s,
            # The family comes first, so that the gate can tell from the token alone whether it was taken back.
            "jti": f"{wish.family}.{identifier}" if wish.family else identifier,
            **wish.extra,
        }
        token = self._keys.signer.sign(claims, typ=state.profile.token_type)
        return Minted(
            token=token,
            expires_in=ttl_s,
            expires_at=state.now_text((issued + ttl_s) * 1_000_000_000),
            scopes=wish.scopes,
        )

    def hand_out(self, grant: Grant) -> str:
        """A code or refresh token for this grant: 256 random bits, good once."""
        state = self._state
        text = secrets.token_urlsafe(32)
        refresh_ttl_s = state.profile.refresh_ttl_s
        ttl_s = state.profile.code_ttl_s if grant.kind == "code" else refresh_ttl_s
        now_ns = state.clock.now_ns()
        with state.transaction() as db:
            db.execute("DELETE FROM grants WHERE expires_ns < ?", (now_ns - refresh_ttl_s * 1_000_000_000,))
            db.execute(
                "INSERT INTO grants (digest, grant, expires_ns) VALUES (?, ?, ?)",
                (_digest(text), msgspec.msgpack.encode(grant), now_ns + ttl_s * 1_000_000_000),
            )
        return text

    def take_back(self, text: str, kind: str, client_id: str) -> Grant | None:
        """Use up a code or refresh token; None when it is no good.

        One that is shown a second time was stolen, or lost: everything minted from it is revoked (RFC 6749
        section 4.1.2, RFC 9700 section 4.14.2).
        """
        state = self._state
        row = state.db.execute(
            "SELECT grant, expires_ns, used FROM grants WHERE digest = ?", (_digest(text),)
        ).fetchone()
        if row is None:
            return None
        grant = msgspec.msgpack.decode(row[0], type=Grant)
        if grant.kind != kind or grant.client_id != client_id:
            return None
        if row[2]:
            self.revoke(grant.family)
            return None
        state.db.execute("UPDATE grants SET used = 1 WHERE digest = ?", (_digest(text),))
        is_good = row[1] > state.clock.now_ns() and grant.family not in self._gate.revoked
        return grant if is_good else None

    def revoke(self, family: str) -> None:
        """Take back every token of a family, the access tokens included."""
        self._state.db.execute("INSERT OR IGNORE INTO revoked_families VALUES (?)", (family,))
        self._gate.revoked.add(family)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
