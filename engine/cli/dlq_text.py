"""A dead letter in words, and as plain data. Text only: no ledger, no flags."""

from __future__ import annotations

import base64
from typing import Any

from engine.cli.ledgers import time_text
from engine.cli.output import Paint, grouped
from engine.store.letters import COLUMNS, Letter
from engine.telemetry.redact import Redactor

_REASON_MAX = 60
_BYTES = ("raw", "edited", "sent")


def row_of(pipeline: str, letter: Letter, redact: Redactor) -> tuple[Any, ...]:
    """A letter as a line of a table."""
    reason = redact(letter.reason)
    if len(reason) > _REASON_MAX:
        reason = reason[: _REASON_MAX - 1] + "…"
    return (
        pipeline, letter.id, letter.state, letter.bucket, letter.code, letter.key or "-", letter.input, letter.line,
        reason,
    )  # fmt: skip


def document_of(pipeline: str, letter: Letter, redact: Redactor, *, with_bytes: bool) -> dict[str, Any]:
    """A letter as plain data. Bytes are text where they are UTF-8, else `{"base64": …}`."""
    document: dict[str, Any] = {"pipeline": pipeline}
    document |= {name: getattr(letter, name) for name in COLUMNS if name not in _BYTES}
    document["reason"] = redact(letter.reason)
    if with_bytes:
        document |= {name: _plain(getattr(letter, name)) for name in _BYTES}
    return document


def letter_lines(document: dict[str, Any], paint: Paint) -> list[str]:
    """A letter for a human: what happened, where at both ends, what was done, and what to type next."""
    name = document["key"] or str(document["id"])
    what = "platform rejected 1 row" if document["bucket"] == "rejected" else f"1 row is dead since {document['stage']}"
    job = f" of job {document['remote_id'] or document['seq']}" if document["seq"] is not None else ""
    lines = [f"{paint.bad('error[' + document['code'] + ']')}: {paint.strong(what + job)}"]
    key = f', key "{document["key"]}"' if document["key"] else ""
    facts = [
        (
            "letter",
            f"{document['id']} of {document['pipeline']}, {document['state']}, {time_text(document['created_ns'])}",
        ),
        ("input", f"{document['input']} line {grouped(document['line'])}, bytes {_extent(document)}{key}"),
        ("reason", document["reason"]),
        ("platform", f"trace {document['trace_id']}" if document["trace_id"] else None),
        ("effect", _effect(document)),
        ("was", f"letter {document['replay_of']}, sent again" if document["replay_of"] else None),
        ("became", _became(document)),
        ("raw", _one_line(document["raw"])),
        ("edited", _one_line(document["edited"])),
        ("sent", _one_line(document["sent"])),
    ]
    lines += [f"  {paint.dim(f'{label:<9}')} {text}" for label, text in facts if text]
    for attempt in document["attempts"]:
        lines += _attempt(attempt, paint)
    if document["state"] in ("open", "edited"):
        lines.append(
            f"  {paint.dim('replay   ')} engine dlq edit {name}   then   "
            f"engine dlq replay {document['pipeline']} --id {document['id']}"
        )
    return lines


def _extent(document: dict[str, Any]) -> str:
    return f"{grouped(document['start'])}-{grouped(document['end'])}"


def _effect(document: dict[str, Any]) -> str:
    run = document["run"]
    counts = f"; {grouped(run['failed'])} of {grouped(run['read'])} rows of its run are" if run else ""
    return f"kept as {document['bucket']}{counts and counts + ' rejected or dead'}"


def _became(document: dict[str, Any]) -> str | None:
    if document["state"] not in ("replaying", "replayed"):
        return None
    ids = ", ".join(str(found) for found in document["became"])
    end = f"letter {ids}" if ids else ("not ended yet" if document["state"] == "replaying" else "accepted or filtered")
    return f"{end}, by replay {document['replay_run']}"


def _attempt(attempt: dict[str, Any], paint: Paint) -> list[str]:
    request = attempt["request"]
    status = f"HTTP {attempt['http_status']} " if attempt["http_status"] else ""
    code = f" [{attempt['code']}]" if attempt["code"] else ""
    return [
        f"  {paint.dim('attempt  ')} {attempt['attempt']}: {status}{attempt['outcome']}{code}",
        *([f"            {attempt['error']}"] if attempt["error"] else []),
        f"            {request['route']}   Idempotency-Key: {request['idempotency_key'] or '-'}",
        f"            traceparent: {request['traceparent']}   Authorization: {request['authorization']}",
        f"            remote job {attempt['remote_id'] or '-'}   ended {time_text(attempt['ended_ns'])}",
    ]


def _plain(data: bytes | None) -> Any:
    if data is None:
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode("ascii")}


def _one_line(value: Any) -> str | None:
    if value is None:
        return None
    # What a record holds must not move the cursor or colour the terminal.
    text = value if isinstance(value, str) else f"(base64) {value['base64']}"
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
