"""Bearer tokens: what a compact RS256 JWS must look like, and what it then claims.

Pure: bytes, keys and a time go in, claims or one named refusal come out. Fetching and keeping keys is
`keyring`'s work. The algorithm is ours to say (RFC 8725 section 3.1): a token that names another one is
refused before any key is looked for. No message ever holds the token.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256

from engine.contract.profile import PROFILE
from engine.errors import (
    AlgorithmRefused,
    BadSignature,
    ClaimMissing,
    ExpiredToken,
    MalformedToken,
    NotYetValid,
    TrustError,
    UnknownKey,
    WrongAudience,
    WrongIssuer,
)
from engine.trust.strict import base64url, json_object

ALGORITHM = "RS256"
LEEWAY_MAX_S = float(PROFILE.leeway_s)
_TOKEN_BYTES_MAX = 16 * 1024
_HEADER_BYTES_MAX = 4 * 1024
_KID_CHARS_MAX = 256
_SHOWN_CHARS_MAX = 80
_TIME_MAX = 2**53
# A token may not bring or point to its own key (RFC 8725 section 3.10), nor change how its bytes are
# read (`b64`, RFC 7797; `zip`).
_REFUSED_HEADERS = ("jku", "jwk", "x5u", "x5c", "b64", "zip")
_TYPES = (None, PROFILE.token_type, "at+jwt", "application/at+jwt", "JWT")

_SET_BYTES_MAX = 64 * 1024
_SET_KEYS_MAX = 100
_RSA_BITS_MIN = 2048
_RSA_BITS_MAX = 8192
_EXPONENT_BITS_MAX = 33

_SCENARIOS = PROFILE.scenarios_claim
_TEXTS = ("iss", "sub", "jti", "client_id", "tenant_id", "organization_id")
_ABSENT = ("",) * len(_TEXTS)

_padding = PKCS1v15()
_hashed = Prehashed(SHA256())


class Claims(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a verified token says (contract 1.3; RFC 9068). Times are Unix seconds.

    Text claims the token does not carry are empty; `iat` and `nbf` are then None. `raw` has every claim.
    """

    iss: str
    aud: list[str]
    exp: float
    sub: str = ""
    iat: float | None = None
    nbf: float | None = None
    jti: str = ""
    client_id: str = ""
    tenant_id: str = ""
    organization_id: str = ""
    scope: tuple[str, ...] = ()
    sandbox: bool = False
    scenarios: tuple[str, ...] = ()
    raw: dict[str, Any] = {}


class PublicKey:
    """An RSA key of a key set, usable for RS256 and nothing else.

    Two keys are equal when name and numbers are, so a cached proof survives a refresh that brings the same key.
    """

    __slots__ = ("_identity", "_key", "kid")

    def __init__(self, kid: str, key: RSAPublicKey) -> None:
        numbers = key.public_numbers()
        self.kid = kid
        self._key = key
        self._identity = (kid, numbers.n, numbers.e)

    def check(self, signature: bytes, digest: bytes) -> None:
        """Prove that `signature` is this key's over the message with this SHA-256.

        Raises:
            BadSignature: it is not.
        """
        try:
            self._key.verify(signature, digest, _padding, _hashed)
        except InvalidSignature as exc:
            raise BadSignature(f"the signature is not that of key {_shown(self.kid)}", kid=self.kid) from exc

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and other._identity == self._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    def __repr__(self) -> str:
        return f"PublicKey({self.kid!r})"


def verify(
    token: str,
    keys: Mapping[str, PublicKey],
    *,
    issuer: str,
    audience: str | Sequence[str],
    now_s: float,
    leeway_s: float = LEEWAY_MAX_S,
) -> Claims:
    """Prove a token and read its claims. `audience`: any one of these will do; leeway counts up to 60 s.

    Raises:
        MalformedToken, AlgorithmRefused, UnknownKey, BadSignature: it is no token of ours.
        ClaimMissing, WrongIssuer, WrongAudience, ExpiredToken, NotYetValid: it is, but says the wrong thing.
    """
    claims = _read_claims(_prove(*_halves(token), keys)[1])
    _check_parties(claims, issuer, (audience,) if isinstance(audience, str) else audience)
    _check_times(claims, now_s, min(leeway_s, LEEWAY_MAX_S))
    return claims


class Verifier:
    """Verifies tokens for one issuer and audience, and remembers proofs by what was signed (its SHA-256) and signature.

    A remembered proof still has its times and the presence of its key checked, so it ends with either.
    """

    def __init__(self, *, issuer: str, audience: str | Sequence[str], remembered_max: int = 1024) -> None:
        self._issuer = issuer
        self._audience = (audience,) if isinstance(audience, str) else tuple(audience)
        self._remembered_max = remembered_max
        # A plain dict finds its oldest entry the slower the more were dropped before it.
        self._proofs: OrderedDict[tuple[bytes, bytes], tuple[PublicKey, Claims]] = OrderedDict()

    def verify(self, token: str, keys: Mapping[str, PublicKey], *, now_s: float) -> Claims:
        """As `bearer.verify`, with the leeway of 60 s."""
        signed, digest, signature = _halves(token)
        proof = self._proofs.get((digest, signature))
        if proof is not None and keys.get(proof[0].kid) == proof[0]:
            _check_times(proof[1], now_s, LEEWAY_MAX_S)
            return proof[1]
        key, members = _prove(signed, digest, signature, keys)
        claims = _read_claims(members)
        _check_parties(claims, self._issuer, self._audience)
        _check_times(claims, now_s, LEEWAY_MAX_S)
        if len(self._proofs) >= self._remembered_max:
            self._proofs.popitem(last=False)
        self._proofs[digest, signature] = (key, claims)
        return claims


def _halves(token: str) -> tuple[bytes, bytes, bytes]:
    """What is signed, its SHA-256, and the signature's text; of text that is no token, something to refuse."""
    signed, _, signature = token.encode("utf-8", "surrogatepass").rpartition(b".")
    return signed, hashlib.sha256(signed).digest(), signature


def _prove(
    signed: bytes, digest: bytes, signature: bytes, keys: Mapping[str, PublicKey]
) -> tuple[PublicKey, dict[str, Any]]:
    size = len(signed) + len(signature) + bool(signed)
    if size > _TOKEN_BYTES_MAX:
        raise MalformedToken(f"a token has at most {_TOKEN_BYTES_MAX} bytes, this one {size}")
    header, dot, payload = signed.partition(b".")
    if not dot or b"." in payload:
        raise MalformedToken(f"a compact JWS has 3 parts, this has {signed.count(b'.') + bool(signed) + 1}")
    kid = _check_header(header)
    key = keys.get(kid)
    if key is None:
        raise UnknownKey(f"no key named {_shown(kid)} in the issuer's key set", kid=kid)
    key.check(base64url(signature, what="signature"), digest)
    return key, json_object(base64url(payload, what="payload"), what="payload")


# All tokens of a key begin with the same bytes, so most headers were judged before; a refusal is not remembered.
@lru_cache(maxsize=64)
def _check_header(part: bytes) -> str:
    """The `kid` of an acceptable header."""
    if len(part) > _HEADER_BYTES_MAX:
        raise MalformedToken(f"a token's header has at most {_HEADER_BYTES_MAX} bytes, this one {len(part)}")
    header = json_object(base64url(part, what="header"), what="header")
    if (alg := header.get("alg")) != ALGORITHM:
        raise AlgorithmRefused(f"expected alg {ALGORITHM}, found {_shown(alg)}")
    if refused := [name for name in _REFUSED_HEADERS if name in header]:
        raise MalformedToken(f"the header may not hold {', '.join(refused)}: keys come from the issuer only")
    if "crit" in header:
        raise MalformedToken(f"the header asks for extensions we do not know: crit {_shown(header['crit'])}")
    if (typ := header.get("typ")) not in _TYPES:
        raise MalformedToken(f"expected typ at+jwt or JWT, found {_shown(typ)}")
    kid = header.get("kid")
    if not isinstance(kid, str):
        raise MalformedToken(f"expected a kid as text, found {_shown(kid)}")
    if len(kid) > _KID_CHARS_MAX:
        raise MalformedToken(f"a kid has at most {_KID_CHARS_MAX} characters, this one {len(kid)}")
    return kid


def _read_claims(raw: dict[str, Any]) -> Claims:
    exp = _time(raw, "exp")
    if exp is None:
        raise ClaimMissing("expected exp, found no such claim", claim="exp")
    if "iss" not in raw:
        raise ClaimMissing("expected iss, found no such claim", claim="iss")
    scope = raw.get("scope", "")
    sandbox = raw.get("sandbox", False)
    if sandbox is not False and sandbox is not True:
        raise _wrong("sandbox", "true or false", sandbox)
    iss, sub, jti, client_id, tenant_id, organization_id = _plain_texts(raw)
    return Claims(
        iss=iss,
        aud=_audiences(raw),
        exp=exp,
        sub=sub,
        iat=_time(raw, "iat"),
        nbf=_time(raw, "nbf"),
        jti=jti,
        client_id=client_id,
        tenant_id=tenant_id,
        organization_id=organization_id,
        scope=tuple(scope.split()) if isinstance(scope, str) else _texts("scope", scope),
        sandbox=sandbox,
        scenarios=_texts(_SCENARIOS, raw[_SCENARIOS]) if _SCENARIOS in raw else (),
        raw=raw,
    )


def _check_parties(claims: Claims, issuer: str, audience: Sequence[str]) -> None:
    if claims.iss != issuer:
        raise WrongIssuer(f"expected iss {_shown(issuer)}, found {_shown(claims.iss)}")
    for name in audience:
        if name in claims.aud:
            return
    wanted = " or ".join(_shown(name) for name in audience)
    raise WrongAudience(f"expected aud {wanted}, found {_shown(claims.aud)}")


def _check_times(claims: Claims, now_s: float, leeway_s: float) -> None:
    if now_s >= claims.exp + leeway_s:
        raise ExpiredToken(f"expected exp in the future, found it {now_s - claims.exp:.0f} s ago", claim="exp")
    latest = now_s + leeway_s
    if (claims.nbf or 0) <= latest and (claims.iat or 0) <= latest:
        return
    for name, at_s in (("nbf", claims.nbf), ("iat", claims.iat)):
        if at_s is not None and at_s > latest:
            raise NotYetValid(f"expected {name} in the past, found it {at_s - now_s:.0f} s ahead", claim=name)


def _plain_texts(raw: dict[str, Any]) -> Sequence[str]:
    """The claims of `_TEXTS`, judged one by one only where they are not all plain text."""
    values = list(map(raw.get, _TEXTS, _ABSENT))
    try:
        if "".join(values).isascii():
            return values
    except TypeError:
        pass
    return [_text(raw, name) for name in _TEXTS]


def _text(raw: dict[str, Any], name: str) -> str:
    value = raw.get(name, "")
    # A lone surrogate decodes as JSON and then breaks whoever writes it out.
    if not isinstance(value, str) or not (value.isascii() or _is_writable(value)):
        raise _wrong(name, "text", value)
    return value


def _is_writable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) and _is_writable(item) for item in value):
        raise _wrong(name, "a list of texts", value)
    return tuple(value)


def _audiences(raw: dict[str, Any]) -> list[str]:
    if "aud" not in raw:
        raise ClaimMissing("expected aud, found no such claim", claim="aud")
    aud = raw["aud"]
    return [aud] if isinstance(aud, str) else list(_texts("aud", aud))


def _time(raw: dict[str, Any], name: str) -> float | None:
    value = raw.get(name)
    if type(value) is int and 0 <= value < _TIME_MAX:
        return float(value)
    if value is None and name not in raw:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(name, "a number of seconds", value)
    # False for infinity (1e400 reads as that) and for NaN too.
    if not 0 <= value < _TIME_MAX:
        raise _wrong(name, f"seconds in [0, {_TIME_MAX})", value)
    return float(value)


def _wrong(name: str, expected: str, found: Any) -> ClaimMissing:
    return ClaimMissing(f"expected {name} as {expected}, found {_shown(found)}", claim=name)


def _shown(value: Any) -> str:
    """A foreign value for a message: escaped, and cut."""
    text = ascii(value)
    return text if len(text) <= _SHOWN_CHARS_MAX else text[:_SHOWN_CHARS_MAX] + "…"


def parse_jwks(document: bytes) -> dict[str, PublicKey]:
    """The usable keys of a JSON Web Key Set (RFC 7517), by name; unusable ones are passed over.

    Usable is an RSA key of 2048 to 8192 bits with a `kid`, meant for signing by `alg` and `use` where it
    says. Of two keys with one name the first counts.

    Raises:
        TrustError: not a key set, over 64 KiB or 100 keys, or it holds a symmetric (`oct`) key: whoever
            publishes a secret has a set nobody should trust.
    """
    if len(document) > _SET_BYTES_MAX:
        raise TrustError(f"a key set has at most {_SET_BYTES_MAX} bytes, this one {len(document)}")
    members = json_object(document, what="key set").get("keys")
    if not isinstance(members, list):
        raise TrustError("a key set has a list of `keys`, this one has none")
    if len(members) > _SET_KEYS_MAX:
        raise TrustError(f"a key set has at most {_SET_KEYS_MAX} keys, this one {len(members)}")
    if any(isinstance(jwk, dict) and jwk.get("kty") == "oct" for jwk in members):
        raise TrustError("the key set holds a symmetric key (kty oct), which must never be published")
    found: dict[str, PublicKey] = {}
    for jwk in members:
        key = _read_key(jwk)
        if key is not None:
            found.setdefault(key.kid, key)
    return found


def _read_key(jwk: Any) -> PublicKey | None:
    if not isinstance(jwk, dict) or jwk.get("kty") != "RSA" or "d" in jwk:
        return None
    kid, key_ops = jwk.get("kid"), jwk.get("key_ops", ["verify"])
    if not isinstance(kid, str) or len(kid) > _KID_CHARS_MAX:
        return None
    # The algorithm belongs to the key (RFC 8725 section 3.1): an RSA key for PS256 is no key for RS256.
    if jwk.get("alg", ALGORITHM) != ALGORITHM or jwk.get("use", "sig") != "sig":
        return None
    if not isinstance(key_ops, list) or "verify" not in key_ops:
        return None
    try:
        n, e = _number(jwk, "n"), _number(jwk, "e")
        if not _RSA_BITS_MIN <= n.bit_length() <= _RSA_BITS_MAX or e.bit_length() > _EXPONENT_BITS_MAX:
            return None
        return PublicKey(kid, RSAPublicNumbers(e, n).public_key())
    except (MalformedToken, ValueError, TypeError):
        return None


def _number(jwk: dict[str, Any], name: str) -> int:
    value = jwk.get(name)
    if not isinstance(value, str):
        raise MalformedToken(f"a key's {name} is text")
    return int.from_bytes(base64url(value.encode("ascii"), what=name))
