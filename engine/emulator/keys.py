"""Keys: what the emulator signs with, the key set it publishes (contract 5), and how keys are replaced.

Three lives: `next` is published but does not sign yet, `current` signs, `previous` is published until every token
it signed has run out (Q14). Tokens are minted in `tokens`, checked in `gate`.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from engine.codec.payload import encode
from engine.contract import keys as contract
from engine.emulator.call import Call, Handler, Reply
from engine.emulator.refusal import Dropped, Refusal
from engine.emulator.state import State
from engine.trust.bearer import PublicKey, parse_jwks
from engine.trust.minting import SigningKey

SCHEMA = """
CREATE TABLE IF NOT EXISTS signing_keys (
  kid TEXT PRIMARY KEY, pem BLOB NOT NULL, life TEXT NOT NULL, number INTEGER NOT NULL, retired_ns INTEGER
) WITHOUT ROWID;
"""
NEXT, CURRENT, PREVIOUS = "next", "current", "previous"


class Keys:
    """The emulator's keys, kept with its state.

    `generation` grows with every change, so that whoever remembers a verified token knows to forget it.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self.generation = 0
        self.public: dict[str, PublicKey] = {}
        self.document = b""
        self.etag = ""
        self._signer: SigningKey | None = None
        state.apply_schema(SCHEMA)
        self._fill()
        self._load()

    @property
    def signer(self) -> SigningKey:
        """The key that signs now."""
        if self._signer is None:
            raise RuntimeError("the key table holds no current key")
        return self._signer

    def rotate(self, *, with_overlap: bool = True) -> str:
        """Put the next key to work and publish one after it; the new signing key's `kid`.

        Without overlap the keys published so far vanish and the new one was never announced: tokens signed
        before are refused from now on, as after a leaked key.
        """
        state = self._state
        with state.transaction() as db:
            if with_overlap:
                now_ns = state.clock.now_ns()
                db.execute(
                    "UPDATE signing_keys SET life = ?, retired_ns = ? WHERE life = ?", (PREVIOUS, now_ns, CURRENT)
                )
                db.execute("UPDATE signing_keys SET life = ? WHERE life = ?", (CURRENT, NEXT))
                oldest = now_ns - state.profile.jwks_overlap_s * 1_000_000_000
                db.execute("DELETE FROM signing_keys WHERE life = ? AND retired_ns < ?", (PREVIOUS, oldest))
            else:
                db.execute("DELETE FROM signing_keys")
            self._fill()
        self._load()
        return self.signer.kid

    def _fill(self) -> None:
        """See that there is a current and a next key."""
        db = self._state.db
        for life in (CURRENT, NEXT):
            if db.execute("SELECT 1 FROM signing_keys WHERE life = ?", (life,)).fetchone():
                continue
            number = (
                1
                + db.execute(
                    "INSERT INTO meta (name, value) VALUES ('keys', 0)"
                    " ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value"
                ).fetchone()[0]
            )
            kid = f"{self._state.now_text()[:7]}-signing-key-{number}"
            key = SigningKey.generate(kid) if self._state.options.state_path else _passing_key(kid)
            db.execute("INSERT INTO signing_keys VALUES (?, ?, ?, ?, NULL)", (key.kid, key.pem(), life, number))

    def _load(self) -> None:
        rows = self._state.db.execute("SELECT kid, pem, life FROM signing_keys ORDER BY number").fetchall()
        found = [(SigningKey.from_pem(kid, bytes(pem)), life) for kid, pem, life in rows]
        self._signer = next(key for key, life in found if life == CURRENT)
        self.document = encode(contract.KeySet([key.public_jwk() for key, _ in found]))
        self.etag = f'"{hashlib.sha256(self.document).hexdigest()[:32]}"'
        self.public = parse_jwks(self.document)
        self.generation += 1


@lru_cache(maxsize=16)
def _passing_key(kid: str) -> SigningKey:
    """A key for a state in memory, which the emulators of one process share by its name.

    A key costs a tenth of a second, and a test run starts hundreds of emulators. Their tokens still differ: each
    emulator is an issuer of its own.
    """
    return SigningKey.generate(kid)


def handlers(state: State, keys: Keys) -> dict[str, Handler]:
    """Routes 10 and 11: one document at two paths."""

    async def key_set(call: Call) -> Reply:
        fault = state.faults.strike("jwks", route=call.route.name)
        if fault is not None:
            await state.clock.sleep(fault.delay_s(state.faults))
            if fault.flag("drop"):
                raise Dropped
            if status := fault.count("status"):
                code = fault.text("code", "jwks_unavailable")
                raise Refusal(status, code, "The key set cannot be read now.", fault.retry_headers())
            if fault.flag("garbage"):
                return Reply(body=b"<html>" + b"x" * 1000)
        headers = {"ETag": keys.etag, "Cache-Control": f"public, max-age={state.profile.jwks_max_age_s}"}
        if names(call.headers.get("if-none-match"), keys.etag):
            return Reply(status=304, headers=headers)
        return Reply(body=keys.document, headers=headers, content_type=state.profile.jwks_type)

    return {contract.WELL_KNOWN.name: key_set, contract.VERSIONED.name: key_set}


def names(if_none_match: str | None, etag: str) -> bool:
    """Whether an `If-None-Match` names this entity tag, compared weakly (RFC 9110 section 13.1.2)."""
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or "*" in tags
