"""What a pipeline says of sinks that are no directory and no table: standard output, a function, and a URL.

Pure, like `check`: whether a function can be imported shows at run time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from engine.loopback import is_loopback
from engine.pipeline.findings import Fault
from engine.pipeline.locate import KeyPath
from engine.pipeline.spec import PostSpec, SinkSpec

# A token (RFC 9110 section 5.6.2).
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")

_WITHOUT_FILES = ("stdout", "python", "http")
# What only a URL has, and what it is where nobody set it.
_OF_URLS: dict[str, Any] = {
    "endpoint": None, "method": "POST", "headers": {}, "format": "ndjson", "batch": PostSpec(), "timeout": 30.0,
}  # fmt: skip
_OURS = frozenset(("content-type", "content-length", "idempotency-key", "host", "transfer-encoding", "connection"))


def check_outputs(sink: SinkSpec) -> Iterator[Fault]:
    """A function that is missing, and options that do not go with a sink without files."""
    if sink.type in _WITHOUT_FILES:
        for option, usual in (("path", ""), ("compression", "none")):
            if getattr(sink, option) != usual:
                yield _fault(("sink", option), "conflict", f"a {sink.type} sink has no `{option}`")
    if sink.type == "python":
        module, _, name = (sink.call or "").partition(":")
        if sink.call is None:
            yield _fault(("sink", "call"), "missing", "`call` is missing in [sink]", 'call = "module:function"')
        elif not module or not name:
            yield _fault(("sink", "call"), "range", f"`{sink.call}` names no function", 'write "module:function"')
    elif sink.call is not None:
        yield _fault(("sink", "call"), "conflict", f"a {sink.type} sink has no `call`")
    if sink.type == "http":
        yield from _url(sink)
        return
    for option, usual in _OF_URLS.items():
        if getattr(sink, option) != usual:
            yield _fault(("sink", option), "conflict", f"a {sink.type} sink has no `{option}`")


def _url(sink: SinkSpec) -> Iterator[Fault]:
    at: KeyPath = ("sink", "endpoint")
    if sink.endpoint is None:
        hint = 'endpoint = "https://HOST/PATH"'
        yield _fault(at, "missing", "`endpoint` is missing in [sink]: the URL that takes batches", hint)
        return
    try:
        parts = urlsplit(sink.endpoint)
        host = parts.hostname or ""
    except ValueError:
        parts, host = urlsplit(""), ""
    if parts.scheme not in ("http", "https") or not host:
        yield _fault(at, "range", f"`{sink.endpoint}` is no URL of a web server", "write https://HOST/PATH")
    elif parts.username or parts.password:
        yield _fault(at, "unsafe", "a URL with a password in it is shown in messages", "use `headers`")
    elif parts.scheme == "http" and not is_loopback(host):
        yield _fault(at, "unsafe", "rows would travel unencrypted", "use https; plain http is for this machine only")
    for name in sink.headers:
        if name.lower() in _OURS:
            yield _fault(("sink", "headers", name), "conflict", f"`{name}` is set by the sink itself")
        elif not _HEADER.fullmatch(name):
            yield _fault(("sink", "headers", name), "range", f"`{name}` cannot name a header")


def _fault(at: KeyPath, code: str, message: str, hint: str = "") -> Fault:
    return Fault(at=at, code=f"config.{code}", message=message, hint=hint)
