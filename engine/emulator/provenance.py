"""Provenance: transcripts of the chains of custody, signed and verified, and the public keys (contract 11, 35 to 37).

The chains grow in `provenance_chain`; what is signed and proved is `trust.transcript`'s. Evidence of another tenant,
and evidence above the callers' clearance, is not there (Q85).
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Sequence
from typing import Any

from msgspec import UNSET

from engine.codec.payload import check_single, encode, loads
from engine.contract import provenance as contract
from engine.contract.provenance import ALGORITHMS, FORMATS, HMAC, JSON, JSON_LD, JSON_LD_TYPE, ML_DSA, Verification
from engine.emulator import provenance_chain
from engine.emulator.call import Call, Caller, Handler, Reply
from engine.emulator.jobs import realm_of
from engine.emulator.keys import names
from engine.emulator.provenance_chain import Chain
from engine.emulator.provenance_graph import as_json_ld
from engine.emulator.refusal import Refusal, invalid
from engine.emulator.state import State
from engine.errors import RecordError
from engine.trust.signers import HmacSigner, MlDsaSigner, Signer, derive_key
from engine.trust.transcript import record_message, seal, verify

_WEIGHT = re.compile(r"(?:^|;)\s*q=([01](?:\.\d{0,3})?)\s*(?:;|$)", re.IGNORECASE)
# Of a transcript's members, these tell one that was sent as the whole body from a body without one.
_TRANSCRIPT_MEMBERS = ("records", "merkle_root", "root_signature")


def handlers(state: State) -> dict[str, Handler]:
    """Routes 35 to 37."""
    state.apply_schema(provenance_chain.SCHEMA)
    routes = _Routes(state)
    return {
        contract.GET.name: routes.get,
        contract.VERIFY.name: routes.verify,
        contract.KEYS.name: routes.keys,
    }


def tenant_key(state: State, tenant_id: str) -> bytes:
    """The HMAC key of a tenant, derived from the platform's master secret (contract 11.4)."""
    return derive_key(state.secret("provenance.hmac"), tenant_id)


class _Routes:
    def __init__(self, state: State) -> None:
        self._state = state
        self._ml_dsa = MlDsaSigner(state.secret("provenance.ml-dsa-65"))
        self._keys = encode(contract.VerifyKeys(ML_DSA, [self._ml_dsa.public_jwk()]))
        self._etag = f'"{hashlib.sha256(self._keys).hexdigest()[:32]}"'

    async def get(self, call: Call) -> Reply:
        """The transcript, as JSON or, by `format` or else by Accept, as JSON-LD."""
        ask: contract.GetTranscript = call.ask
        algorithm = HMAC if ask.algorithm is None else ask.algorithm
        shape = ask.format
        if shape is None:
            shape = JSON_LD if _prefers_json_ld(call.headers.get("accept", "")) else JSON
        for name, value, known in (("format", shape, FORMATS), ("algorithm", algorithm, ALGORITHMS)):
            if value not in known:
                raise invalid("query", name, f"must be one of: {', '.join(known)}", "enum")
        chain = self._chain(call)
        transcript = await self._seal(call.known, ask.evidence_id, chain, algorithm)
        if shape == JSON_LD:
            return Reply(body=as_json_ld(transcript), headers={"Vary": "Accept"}, content_type=JSON_LD_TYPE)
        return Reply(body=transcript, headers={"Vary": "Accept"})

    async def verify(self, call: Call) -> Reply:
        """A verdict on the transcript in the body, or on the stored one; 200 whatever it is (Q80)."""
        caller, evidence_id = call.known, call.ask.evidence_id
        chain = self._chain(call)
        document = _transcript_in(call)
        if document is None:
            document = await self._seal(caller, evidence_id, chain, HMAC)
        if document.get("evidence_id", evidence_id) != evidence_id:
            raise invalid("body", "evidence_id", "is not the evidence of the path")
        try:
            verdict = await asyncio.to_thread(
                verify, document, self._signers(caller), evidence_id=evidence_id, tenant_id=caller.tenant_id
            )
        except RecordError as exc:
            raise invalid("body", "transcript", exc.message) from exc
        return Reply(
            body=Verification(
                evidence_id=evidence_id,
                valid=verdict.is_proven,
                algorithm=verdict.algorithm,
                record_count=len(verdict.records),
                merkle_root=verdict.merkle_root,
                root_signature_valid=verdict.root_signature_valid is True,
                failures=verdict.failures,
                verified_at=self._state.now_text(),
                trace_id=call.trace.trace_id,
            )
        )

    def keys(self, call: Call) -> Reply:
        """The public keys of ML-DSA-65. HMAC has none, and its secrets are never published."""
        if call.ask.algorithm != ML_DSA:
            raise Refusal(404, "not_found", "No public keys of this algorithm.")
        age_s = self._state.profile.provenance_keys_max_age_s
        headers = {"ETag": self._etag, "Cache-Control": f"public, max-age={age_s}"}
        if names(call.headers.get("if-none-match"), self._etag):
            return Reply(status=304, headers=headers)
        return Reply(body=self._keys, headers=headers)

    def _chain(self, call: Call) -> Chain:
        """The chain that is asked for.

        Raises:
            Refusal: 404, whether there is none, it is another tenant's, or it is too secret (contract 1.5, Q85).
        """
        chain = provenance_chain.load(self._state, realm_of(call.known), call.ask.evidence_id)
        is_hidden = chain is not None and not self._is_cleared(chain.secrecy_levels)
        if chain is None or is_hidden:
            status = self._state.profile.too_secret_status if is_hidden else 404
            raise Refusal(status, "not_found", "No evidence of this id.")
        return chain

    def _is_cleared(self, levels: frozenset[str]) -> bool:
        profile = self._state.profile
        # A level that is not in the order is above every clearance.
        allowed = profile.secrecy_levels[: profile.secrecy_levels.index(profile.clearance) + 1]
        return levels <= {*allowed}

    def _signers(self, caller: Caller) -> tuple[Signer, ...]:
        return HmacSigner(tenant_key(self._state, caller.tenant_id)), self._ml_dsa

    async def _seal(self, caller: Caller, evidence_id: str, chain: Chain, algorithm: str) -> dict[str, Any]:
        signer = next(one for one in self._signers(caller) if one.algorithm == algorithm)
        whose = (realm_of(caller), evidence_id, algorithm)
        # A signature of ML-DSA takes a thousand times as long as an HMAC, so it is made once and kept.
        kept = [] if algorithm == HMAC else provenance_chain.signatures(self._state, *whose)
        made = await asyncio.to_thread(_sign_all, signer, chain.leaves[len(kept) :])
        if made and algorithm != HMAC:
            provenance_chain.keep_signatures(self._state, *whose, enumerate(made, start=len(kept)))
        return await asyncio.to_thread(seal, evidence_id, caller.tenant_id, chain.leaves, signer, [*kept, *made])


def _sign_all(signer: Signer, leaves: Sequence[bytes]) -> list[str]:
    return [signer.sign(record_message(leaf, signer.algorithm)) for leaf in leaves]


def _prefers_json_ld(accept: str) -> bool:
    """Whether an Accept header names JSON-LD, and not JSON as gladly (RFC 9110 section 12.5.1)."""
    wishes: dict[str, float] = {}
    for one in accept.split(","):
        kind, _, parameters = one.partition(";")
        weight = _WEIGHT.search(parameters)
        wishes[kind.strip().lower()] = float(weight[1]) if weight else 1.0
    return wishes.get(JSON_LD_TYPE, 0.0) > wishes.get("application/json", 0.0)


def _transcript_in(call: Call) -> dict[str, Any] | None:
    """The transcript a body holds: in its member `transcript`, or as the whole of it; None where there is none."""
    if not call.body:
        return None
    body = loads(call.body)
    try:
        check_single(call.body, body)
    except RecordError as exc:
        raise invalid("body", "transcript", exc.message) from exc
    if call.ask.transcript is not UNSET:
        found: dict[str, Any] = body["transcript"]
        return found
    if body and not any(name in body for name in _TRANSCRIPT_MEMBERS):
        raise invalid("body", "transcript", "expected a transcript, or nothing")
    return body or None
