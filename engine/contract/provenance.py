"""Provenance (contract 11): routes 35 to 37, the names of what is signed, and the typed view of a transcript.

A transcript travels as a plain document: its signatures cover every member of a record, those without a name here
included, so what is verified must be what came. How it is signed and proved is `trust.transcript`'s.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from engine.contract.profile import PROFILE
from engine.contract.route import Auth, Host, Route

HMAC: Final = "hmac-sha256"
ML_DSA: Final = "ml-dsa-65"
ALGORITHMS: Final = (HMAC, ML_DSA)
JSON: Final = "json"
JSON_LD: Final = "jsonld"
FORMATS: Final = (JSON, JSON_LD)
JSON_LD_TYPE: Final = "application/ld+json"

# Operations of a record (Q84); the vendor names the first.
CREATE: Final = PROFILE.deed_names["create"]
UPDATE: Final = PROFILE.deed_names["update"]
VIEW: Final = PROFILE.deed_names["view"]
EXPORT: Final = PROFILE.deed_names["export"]

# What can be wrong (contract 11.2).
SIGNATURE: Final = "signature_mismatch"
PARENT: Final = "parent_hash_mismatch"
ORDER: Final = "order_violation"
ROOT: Final = "merkle_root_mismatch"
ROOT_SIGNATURE: Final = "root_signature_mismatch"
ALGORITHM: Final = "unknown_algorithm"


class GetTranscript(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of evidence; `format` one of `FORMATS`, `algorithm` one of `ALGORITHMS`. Absent ones are the first."""

    evidence_id: str
    format: str | None = None
    algorithm: str | None = None


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One operation on a piece of evidence. Hashes are `sha256:` and hex, signatures bare hex, times RFC 3339 UTC.

    `parent_id` and `parent_hash` name the record before; both null on the first. The first may be left out.
    """

    id: str
    operation: str
    actor_id: str
    actor_kind: str
    content_hash: str
    signature: str
    signature_alg: str
    signed_at: str
    parent_id: str | UnsetType | None = UNSET
    parent_hash: str | None = None
    trace_id: str | None = None
    job_id: str | None = None


class Transcript(msgspec.Struct, frozen=True, kw_only=True):
    """The whole chain of a piece of evidence, in order (Q87: never paged)."""

    evidence_id: str
    tenant_id: str
    records: list[Record]
    merkle_root: str
    root_signature: str
    root_signature_alg: str
    format: str
    version: str


class VerifyTranscript(msgspec.Struct, frozen=True, kw_only=True):
    """A transcript to be verified by the platform; without one it verifies what it stored (Q80)."""

    evidence_id: str
    transcript: dict[str, Any] | UnsetType = UNSET


class Failure(msgspec.Struct, frozen=True, gc=False):
    """One thing that does not hold. `index` and `record_id` are null where no single record is at fault: the root."""

    index: int | None
    record_id: str | None
    reason: str


class Verification(msgspec.Struct, frozen=True, kw_only=True, rename=PROFILE.verdict_names):
    """The platform's verdict on a transcript; `merkle_root` is the one it computed (Q80)."""

    evidence_id: str
    valid: bool
    algorithm: str
    record_count: int
    merkle_root: str
    root_signature_valid: bool
    failures: list[Failure]
    verified_at: str
    trace_id: str


class GetVerifyKeys(msgspec.Struct, frozen=True):
    """The public keys of one algorithm."""

    algorithm: str


class VerifyKey(msgspec.Struct, frozen=True, kw_only=True):
    """A public key as a JSON Web Key of type AKP (Q82); `pub` is Base64url, for ML-DSA-65 of 1952 bytes."""

    kty: str
    alg: str
    pub: str
    kid: str | None = None
    use: str | None = None


class VerifyKeys(msgspec.Struct, frozen=True):
    """The keys that signatures of one algorithm may have been made with."""

    algorithm: str
    keys: list[VerifyKey]


GET: Route[GetTranscript, dict[str, Any]] = Route(
    number=35, name="provenance.get", method="GET", path="/v1/evidence/{evidence_id}/provenance", hosts=(Host.API,),
    auth=Auth.BEARER, scopes=PROFILE.provenance_read_scopes, ask=GetTranscript, answer=dict[str, Any],
)  # fmt: skip
VERIFY = Route(
    number=36, name="provenance.verify", method="POST", path="/v1/evidence/{evidence_id}/provenance/verify",
    hosts=(Host.API,), auth=Auth.BEARER, scopes=PROFILE.provenance_read_scopes, ask=VerifyTranscript,
    answer=Verification,
)  # fmt: skip
KEYS = Route(
    number=37, name="provenance.keys", method="GET", path="/.well-known/provenance-keys/{algorithm}",
    hosts=(Host.API,), auth=Auth.PUBLIC, ask=GetVerifyKeys, answer=VerifyKeys,
)  # fmt: skip

ROUTES = (GET, VERIFY, KEYS)
EXAMPLES = {
    GET.name: GetTranscript(evidence_id="ev_abc123"),
    VERIFY.name: VerifyTranscript(evidence_id="ev_abc123"),
    KEYS.name: GetVerifyKeys(ML_DSA),
}
