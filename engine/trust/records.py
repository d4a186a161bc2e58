"""Records: what of a transcript is hashed and signed, taken out for all of its records at once (contract 11.4).

Columns instead of objects: ten thousand records cost little more than their hashes, because nothing is done for one
record that can be done for all. Takes what is well-formed; what holds is `transcript`'s to judge.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

import msgspec
from msgspec import UNSET, UnsetType

from engine.codec.canonical import canonical_texts, canonical_without
from engine.codec.payload import check_caps, check_single, decode_level, encode, from_plain, loads
from engine.contract.profile import PROFILE
from engine.contract.provenance import ALGORITHMS, JSON, Transcript
from engine.errors import CapExceeded, RecordError

# Ten thousand records signed with ML-DSA-65 are about 75 MB of text.
TEXT_MAX = 256 * 1024 * 1024
_AT_ONCE = 256
_WHITE = b" \t\r\n"


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """A transcript without its records."""

    evidence_id: str
    tenant_id: str
    merkle_root: str
    root_signature: str
    root_signature_alg: str
    format: str
    version: str


class Columns(msgspec.Struct, frozen=True, kw_only=True):
    """The records of a transcript, a list for each thing that is judged. A parent's id is UNSET where none is named.

    `forms` has the bytes, to be taken once: in each turn some `messages`, which are signed, and as many `leaves`,
    which are hashed. Some at a time, so that they are still in the processor's cache when they are.
    """

    ids: list[str]
    parent_ids: list[str | UnsetType | None]
    parent_hashes: list[str | None]
    signed_at: list[str]
    algorithms: list[str]
    signatures: list[str]
    forms: Iterable[tuple[list[bytes], list[bytes]]]


class _Record(msgspec.Struct, gc=False, kw_only=True, forbid_unknown_fields=True):
    """A record without any member that has no name here; its members stand in the order of canonical forms.

    What is left out stays left out. Not frozen: the signature is taken out before the rest is written.
    """

    actor_id: str
    actor_kind: str
    content_hash: str
    id: str
    job_id: str | UnsetType | None = UNSET
    operation: str
    parent_hash: str | UnsetType | None = UNSET
    parent_id: str | UnsetType | None = UNSET
    signature: str | UnsetType
    signature_alg: str
    signed_at: str
    trace_id: str | UnsetType | None = UNSET


class _Known(Head, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A transcript without any member that has no name here."""

    records: list[_Record]


def read_transcript(text: bytes) -> dict[str, Any]:
    """A transcript from its JSON text, as a plain document.

    Raises:
        RecordError: not a JSON object, over the caps, or with a member twice: readers differ in which one they see.
    """
    check_caps(text, max_bytes=TEXT_MAX)
    document = loads(text)
    if not isinstance(document, dict):
        raise RecordError("a transcript is a JSON object")
    check_single(text, document)
    return document


def from_text(text: bytes) -> tuple[Head, Columns]:
    """What a JSON text says; about twice as quick as by way of a plain document.

    Raises:
        RecordError: as `read_transcript` and `from_document`.
    """
    try:
        known = decode_level(text, _Known, max_bytes=TEXT_MAX)
    except CapExceeded:
        raise
    except RecordError:
        # Something has no name here, or is wrong: the longer way knows which.
        return from_document(read_transcript(text))
    if not _says_no_more(text, known):
        return from_document(read_transcript(text))
    return _checked(known), _columns(known.records)


def from_document(document: dict[str, Any]) -> tuple[Head, Columns]:
    """What a plain document says.

    Raises:
        RecordError: not a transcript; the message names the place.
    """
    try:
        known = from_plain(document, _Known)
    except RecordError:
        return _with_more_members(document)
    return _checked(known), _columns(known.records)


def _says_no_more(text: bytes, known: _Known) -> bool:
    """Whether nothing stands in the text but what was decoded: no member twice, which decoders do not tell.

    Everything decoded stands there, in a form that is nowhere shorter than ours. So nothing else does where the
    lengths are the same, or, for a text that is laid out, where they are without any white space in both.
    """
    return _length(known, b"") == len(text.strip(_WHITE)) or _length(known, _WHITE) == len(text.translate(None, _WHITE))


def _length(known: _Known, without: bytes) -> int:
    """How long the shortest JSON text of a transcript is, these bytes in it not counted."""
    length = len(encode(msgspec.structs.replace(known, records=[])).translate(None, without))
    for some in _in_parts(known.records):
        # A comma goes between two parts, and the brackets are there once.
        length += len(encode(some).translate(None, without)) - 1
    return length - 1 if known.records else length


def _in_parts(records: list[_Record]) -> Iterator[list[_Record]]:
    return (records[start : start + _AT_ONCE] for start in range(0, len(records), _AT_ONCE))


def _with_more_members(document: dict[str, Any]) -> tuple[Head, Columns]:
    """As `from_document`, for members that have no name here: they are signed too."""
    try:
        said = from_plain(document, Transcript)
        head = from_plain(document, Head)
    except RecordError as exc:
        raise RecordError(f"not a transcript: {exc.message}") from exc
    messages, leaves = canonical_without(document["records"], "signature", "signature_alg")
    records = said.records
    return _checked(head), Columns(
        ids=[one.id for one in records],
        parent_ids=[one.parent_id for one in records],
        parent_hashes=[one.parent_hash for one in records],
        signed_at=[one.signed_at for one in records],
        algorithms=[one.signature_alg for one in records],
        signatures=[one.signature for one in records],
        forms=[(messages, leaves)],
    )


def _columns(records: list[_Record]) -> Columns:
    signatures = [cast("str", one.signature) for one in records]
    for one in records:
        one.signature = UNSET
    return Columns(
        ids=[one.id for one in records],
        parent_ids=[one.parent_id for one in records],
        parent_hashes=[None if one.parent_hash is UNSET else one.parent_hash for one in records],
        signed_at=[one.signed_at for one in records],
        algorithms=[one.signature_alg for one in records],
        signatures=signatures,
        forms=_forms(records),
    )


def _forms(records: list[_Record]) -> Iterator[tuple[list[bytes], list[bytes]]]:
    for some in _in_parts(records):
        messages = canonical_texts(some)
        leaves = []
        for record, message in zip(some, messages, strict=True):
            # Inside a text its quotes would be escaped, so the member stands where it is found and nowhere else.
            member = _ALGORITHM_MEMBERS.get(record.signature_alg) or _member(record.signature_alg)
            place = message.rfind(member)
            leaves.append(message[:place] + message[place + len(member) :])
        yield messages, leaves


def _member(algorithm: str) -> bytes:
    return b',"signature_alg":' + encode(algorithm)


_ALGORITHM_MEMBERS = {algorithm: _member(algorithm) for algorithm in ALGORITHMS}


def _checked(head: Head) -> Head:
    if head.format != JSON:
        raise RecordError(f"not a transcript: expected the format {JSON}, found {head.format[:80]!a}")
    if head.version != PROFILE.provenance_version:
        raise RecordError(f"not a transcript of version {PROFILE.provenance_version}, but of {head.version[:80]!a}")
    return head
