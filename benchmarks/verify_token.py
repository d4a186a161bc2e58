"""P4: RS256 verification of access tokens with the key set at hand, at first sight and again.

    python -m benchmarks.verify_token [--quick]

Ours is `Verifier.verify`: header, signature, issuer, audience, times. The limit is the bare signature check of OpenSSL
by `cryptography`, with the bytes laid out beforehand. The same token again must still be refused once it is expired or
its key is gone; the program fails if it is not. The first tenth of the tokens warms up and is not counted, for anybody.
"""

from __future__ import annotations

import base64
import time
from typing import Any

from benchmarks.command import alone
from benchmarks.rounds import Contestant, Failed, Meter, Size, cpu_us, interleave, perform
from benchmarks.row import OURS, Goal, Reading, Readings, Row

TOKENS = 4_000
WARM_SHARE = 10
AGAIN = 200_000
BARE = "bare OpenSSL"
SEEN = "engine, same token again"

ROW = Row(
    id="P4",
    title="RS256 verification with a cached key set",
    unit="CPU µs per token",
    goals=(
        Goal("first sight at most 1.4 × bare OpenSSL", 1.4, against=BARE),
        Goal("the same token again at most 2 µs", 2.0, ours=SEEN),
    ),
    peer="joserfc",
    limit=BARE,
    note="microseconds are this machine's; the token again is checked for expiry and for the presence of its key",
)
_ISSUER, _AUDIENCE = "https://auth.example", "https://api.example"


def _tokens(count: int) -> tuple[Any, list[str]]:
    from engine.trust.minting import SigningKey

    key, now = SigningKey.generate("k1"), int(time.time())
    # What a platform's token holds (contract 1.3).
    claims = {
        "iss": _ISSUER, "aud": _AUDIENCE, "sub": "app_1", "client_id": "app_1", "tenant_id": "tnt_1", "iat": now,
        "organization_id": "org_1", "exp": now + 900, "scope": "jobs.read jobs.write",
    }  # fmt: skip
    return key, [key.sign(claims | {"jti": f"t{number}"}, typ="at+jwt") for number in range(count)]


def verify(*, way: str, tokens: int, again: int) -> dict[str, Any]:
    """A contestant."""
    key, minted = _tokens(tokens)
    return {OURS: _ours, SEEN: _seen, BARE: _bare, "joserfc": _joserfc}[way](key, minted, again)


def _keys(key: Any) -> Any:
    from engine.codec.payload import encode
    from engine.trust.bearer import parse_jwks

    return parse_jwks(encode({"keys": [key.public_jwk()]}))


def _ours(key: Any, minted: list[str], _: int) -> dict[str, Any]:
    from engine.trust.bearer import Verifier

    keys, now_s = _keys(key), time.time()
    verifier = Verifier(issuer=_ISSUER, audience=_AUDIENCE)
    warm = len(minted) // WARM_SHARE
    for token in minted[:warm]:
        verifier.verify(token, keys, now_s=now_s)
    with Meter() as meter:
        for token in minted[warm:]:
            verifier.verify(token, keys, now_s=now_s)
    return meter.answer(len(minted) - warm)


def _seen(key: Any, minted: list[str], again: int) -> dict[str, Any]:
    from engine.errors import ExpiredToken, UnknownKey
    from engine.trust.bearer import Verifier

    keys, now_s, token = _keys(key), time.time(), minted[0]
    verifier = Verifier(issuer=_ISSUER, audience=_AUDIENCE)
    verifier.verify(token, keys, now_s=now_s)
    with Meter() as meter:
        for _ in range(again):
            verifier.verify(token, keys, now_s=now_s)
    for refused, set_, at_s in ((ExpiredToken, keys, now_s + 86_400), (UnknownKey, {}, now_s)):
        try:
            verifier.verify(token, set_, now_s=at_s)
        except refused:
            continue
        raise Failed(f"a token that was seen before was not refused as {refused.__name__}")
    return meter.answer(again)


def _bare(key: Any, minted: list[str], _: int) -> dict[str, Any]:
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
    from cryptography.hazmat.primitives.hashes import SHA256

    jwk = key.public_jwk()
    e, n = (int.from_bytes(base64.urlsafe_b64decode(part + "==")) for part in (jwk.e, jwk.n))
    public, padding, digest = RSAPublicNumbers(e, n).public_key(), PKCS1v15(), SHA256()
    laid_out = []
    for token in minted:
        message, _, signature = token.rpartition(".")
        laid_out.append((base64.urlsafe_b64decode(signature + "=="), message.encode()))
    warm = len(minted) // WARM_SHARE
    for signature, message in laid_out[:warm]:
        public.verify(signature, message, padding, digest)
    with Meter() as meter:
        for signature, message in laid_out[warm:]:
            public.verify(signature, message, padding, digest)
    return meter.answer(len(minted) - warm)


def _joserfc(key: Any, minted: list[str], _: int) -> dict[str, Any]:
    from joserfc import jwt
    from joserfc.jwk import RSAKey

    jwk = key.public_jwk()
    public = RSAKey.import_key({"kty": "RSA", "kid": jwk.kid, "n": jwk.n, "e": jwk.e})
    registry = jwt.JWTClaimsRegistry(iss={"essential": True, "value": _ISSUER}, aud={"essential": True})
    warm = len(minted) // WARM_SHARE
    for token in minted[:warm]:
        registry.validate(jwt.decode(token, public, algorithms=["RS256"]).claims)
    with Meter() as meter:
        for token in minted[warm:]:
            registry.validate(jwt.decode(token, public, algorithms=["RS256"]).claims)
    return meter.answer(len(minted) - warm)


def measure(size: Size) -> dict[str, Readings]:
    """Everybody, interleaved."""
    counts = {"tokens": size.of(TOKENS, quick=400, tiny=5), "again": size.of(AGAIN, quick=20_000, tiny=50)}
    contestants = [
        Contestant(name, "benchmarks.verify_token:verify", {"way": name, **counts})
        for name in (OURS, SEEN, BARE, "joserfc")
    ]

    def play(one: Contestant, _: int) -> Reading:
        return cpu_us(perform(one))

    return interleave(contestants, size.rounds, play)


if __name__ == "__main__":
    alone(ROW, measure)
