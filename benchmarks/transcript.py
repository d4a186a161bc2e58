"""What it costs to prove a long chain of custody: our verification against the bare hashes and signatures in it.

    python benchmarks/transcript.py [--records N] [--pq-records N] [--rounds N]

Both do the same cryptography in the same run: for each record one signature, the digest its follower names and its
leaf, and the nodes of the Merkle tree. The bare side gets all bytes ready to be hashed; ours starts from the parsed
document, or from its JSON text, and makes them. The bare HMACs are the standard library's one-shot calls; ours hashes
the key's pads once, so `padded_us` is the bare side with that too. Prints one JSON line: the best of the rounds in
microseconds per record, and ours over bare (1 would be free).
"""

from __future__ import annotations

import argparse
import hmac
import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from time import perf_counter

from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from engine.codec.canonical import canonical
from engine.codec.payload import encode
from engine.contract.provenance import HMAC, ML_DSA
from engine.trust.signers import HmacSigner, MlDsaSigner, Signer
from engine.trust.transcript import digest_text, record_message, seal, verify, verify_text

KEY = bytes(range(32))


def chain_of(count: int) -> list[bytes]:
    """The leaves of a chain."""
    leaves: list[bytes] = []
    parent_id: str | None = None
    parent_hash: str | None = None
    for number in range(count):
        record = {
            "id": f"01HFXY{number:020}",
            "operation": "evidence.view",
            "actor_id": f"user_{number % 100}",
            "actor_kind": "user",
            "content_hash": "sha256:" + sha256(b"%d" % number).hexdigest(),
            "parent_id": parent_id,
            "parent_hash": parent_hash,
            "signed_at": f"2026-05-08T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}Z",
            "trace_id": f"{number:032x}",
            "job_id": None,
        }
        leaves.append(canonical(record))
        parent_id, parent_hash = f"01HFXY{number:020}", digest_text(leaves[-1])
    return leaves


def hash_all(leaves: list[bytes]) -> None:
    """Every hash of a verification and nothing else: digests, leaves, nodes."""
    for leaf in leaves:
        sha256(leaf).digest()
    level = [sha256(leaf).digest() for leaf in leaves]
    node = b"\x01" + bytes(64)
    for _ in range(len(level) - 1):
        sha256(node).digest()


def best_us(works: Sequence[Callable[[], object]], rounds: int, count: int) -> list[float]:
    """The quickest of some rounds of each, in microseconds per record; by turns, so that noise falls on all alike."""
    best = [float("inf")] * len(works)
    for _ in range(rounds):
        for place, work in enumerate(works):
            began = perf_counter()
            work()
            best[place] = min(best[place], perf_counter() - began)
    return [seconds * 1e6 / count for seconds in best]


def compare(signer: Signer, bare_signatures: Callable[[list[bytes], list[str]], None], count: int, rounds: int) -> dict:
    """One algorithm: bare, from the document, from its text."""
    leaves = chain_of(count)
    messages = [record_message(leaf, signer.algorithm) for leaf in leaves]
    signatures = [signer.sign(message) for message in messages]
    document = seal("ev_1", "tnt_1", leaves, signer, signatures)
    text = encode(document)
    if not verify(document, [signer]).is_proven:
        raise SystemExit("the transcript does not hold")

    def bare() -> None:
        hash_all(leaves)
        bare_signatures(messages, signatures)

    def padded() -> None:
        hash_all(leaves)
        (padded_hmac_all if signer.algorithm == HMAC else bare_signatures)(messages, signatures)

    works = (bare, padded, lambda: verify(document, [signer]), lambda: verify_text(text, [signer]))
    us, padded_us, parsed, whole = best_us(works, rounds, count)
    return {
        "records": count,
        "bytes": len(text),
        "bare_us": round(us, 2),
        "padded_us": round(padded_us, 2),
        "document_us": round(parsed, 2),
        "text_us": round(whole, 2),
        "document / bare": round(parsed / us, 2),
        "text / bare": round(whole / us, 2),
        "document / padded": round(parsed / padded_us, 2),
        "text / padded": round(whole / padded_us, 2),
    }


def hmac_all(messages: list[bytes], signatures: list[str]) -> None:
    """Every HMAC again, compared."""
    for message, signature in zip(messages, signatures, strict=True):
        hmac.compare_digest(hmac.digest(KEY, message, "sha256").hex(), signature)


def padded_hmac_all(messages: list[bytes], signatures: list[str]) -> None:
    """As `hmac_all`, with both pads of the key (RFC 2104) hashed once for all."""
    inner, outer = (sha256(bytes(byte ^ pad for byte in KEY.ljust(64, b"\0"))) for pad in (0x36, 0x5C))
    for message, signature in zip(messages, signatures, strict=True):
        inside, outside = inner.copy(), outer.copy()
        inside.update(message)
        outside.update(inside.digest())
        hmac.compare_digest(outside.digest().hex(), signature)


def ml_dsa_all(messages: list[bytes], signatures: list[str]) -> None:
    """Every ML-DSA signature verified."""
    key = MLDSA65PrivateKey.from_seed_bytes(KEY).public_key()
    for message, signature in zip(messages, signatures, strict=True):
        key.verify(bytes.fromhex(signature), message)


def main() -> None:
    """Read the flags, measure, print."""
    parser = argparse.ArgumentParser(description="verification of transcripts, against bare hashes and signatures")
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--pq-records", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=9)
    flags = parser.parse_args()
    told = {
        HMAC: compare(HmacSigner(KEY), hmac_all, flags.records, flags.rounds),
        ML_DSA: compare(MlDsaSigner(KEY), ml_dsa_all, flags.pq_records, flags.rounds),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
