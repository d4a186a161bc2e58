"""Documents: how the emulator answers with a document that changes rarely: strong ETag, 304, time to live.

Used by discovery and reference, which say what is in them.
"""

from __future__ import annotations

import hashlib

from engine.emulator.call import Call, Reply
from engine.emulator.keys import names


def document(call: Call, body: bytes, media_type: str, cache: str) -> Reply:
    """The document, or 304 if the caller has it already. The ETag is of these bytes, so each form has its own."""
    headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()[:32]}"', "Cache-Control": cache}
    if names(call.headers.get("if-none-match"), headers["ETag"]):
        return Reply(status=304, headers=headers)
    return Reply(body=body, headers=headers, content_type=media_type)
