"""Provenance, as asked (contract 11): routes 35 to 37, and transcripts proved here, without asking anybody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import UNSET, UnsetType

from engine.client.call import Answered, Caller
from engine.contract import provenance
from engine.contract.exchange import Trace
from engine.contract.provenance import GetTranscript, GetVerifyKeys, Verification, VerifyKeys, VerifyTranscript
from engine.settings import Secret

if TYPE_CHECKING:
    from engine.trust.transcript import Verdict


class Provenance:
    """Transcripts of evidence, and what they are proved with."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def get(
        self,
        evidence_id: str,
        *,
        algorithm: str | None = None,
        format: str | None = None,
        trace: Trace | None = None,
    ) -> Answered[dict[str, Any]]:
        """The transcript of a piece of evidence as a plain document: its signatures cover every member of a record.

        `format` is "json" or "jsonld"; only the first can be verified.
        """
        ask = GetTranscript(evidence_id=evidence_id, algorithm=algorithm, format=format)
        return await self._caller.call(provenance.GET, ask, trace=trace)

    async def verify(
        self,
        evidence_id: str,
        *,
        transcript: dict[str, Any] | UnsetType = UNSET,
        trace: Trace | None = None,
    ) -> Answered[Verification]:
        """The platform's verdict on a transcript, or on the one it stored. `prove` asks nobody."""
        ask = VerifyTranscript(evidence_id=evidence_id, transcript=transcript)
        return await self._caller.call(provenance.VERIFY, ask, trace=trace)

    async def keys(self, algorithm: str = provenance.ML_DSA, *, trace: Trace | None = None) -> Answered[VerifyKeys]:
        """The public keys of an algorithm; HMAC has none, and answers 404."""
        return await self._caller.call(provenance.KEYS, GetVerifyKeys(algorithm), trace=trace)

    @staticmethod
    def prove(
        transcript: dict[str, Any],
        *,
        keys: VerifyKeys | None = None,
        tenant_key: Secret | None = None,
        evidence_id: str | None = None,
        tenant_id: str | None = None,
    ) -> Verdict:
        """Verify a transcript here: order, parent hashes, Merkle root, and signatures where a key is given.

        `keys` are the published ones of ML-DSA-65, `tenant_key` the derived HMAC key in 64 hex digits (Q86).
        Without the one that the transcript needs, signatures stay unchecked, and `is_proven` is False.

        Raises:
            RecordError: not a transcript. UnknownKey, ConfigError: not a key.
        """
        # Imported here: every run makes a client, and few of them prove anything.
        from engine.trust.signers import HmacSigner, MlDsaVerifier, Verifier, read_key
        from engine.trust.transcript import verify

        verifiers: list[Verifier] = []
        if keys is not None:
            verifiers.append(MlDsaVerifier.from_keys(keys))
        if tenant_key is not None:
            verifiers.append(HmacSigner(read_key(tenant_key)))
        return verify(transcript, verifiers, evidence_id=evidence_id, tenant_id=tenant_id)
