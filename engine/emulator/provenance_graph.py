"""A transcript as JSON-LD in the words of PROV-O (contract 11.1): another view of the same data.

Pure. As the vendor writes it: an actor hangs on an activity by `wasGeneratedBy`, which is not PROV-O's own use of the
word. Nobody verifies this form, and nobody dereferences its contexts.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

CONTEXT = ("https://www.w3.org/ns/prov", {"argus": "https://schema.knogin.com/argus/v1#"})
_SAME = ("operation", "content_hash", "signature", "signature_alg", "trace_id")


def as_json_ld(transcript: dict[str, Any]) -> dict[str, Any]:
    """The bundle of a transcript: each record an activity, its actor an agent, its parent what it was derived from."""
    return {
        "@context": list(CONTEXT),
        "@type": "prov:Bundle",
        "@id": f"argus:evidence/{_step(transcript['evidence_id'])}/provenance",
        **{f"argus:{name}": transcript[name] for name in ("tenant_id", "merkle_root", "root_signature")},
        "argus:root_signature_alg": transcript["root_signature_alg"],
        "@graph": [_activity(record) for record in transcript["records"]],
    }


def _activity(record: dict[str, Any]) -> dict[str, Any]:
    parent = record["parent_id"]
    return {
        "@id": f"argus:provenance/{_step(record['id'])}",
        "@type": "prov:Activity",
        "prov:startedAtTime": record["signed_at"],
        **{f"argus:{name}": record[name] for name in _SAME},
        "prov:wasGeneratedBy": {"@id": f"argus:agent/{_step(record['actor_id'])}", "@type": "prov:Agent"},
        "prov:wasDerivedFrom": None if parent is None else {"@id": f"argus:provenance/{_step(parent)}"},
    }


def _step(name: str) -> str:
    """A name as one step of an IRI, whatever is in it."""
    return quote(name, safe="")
