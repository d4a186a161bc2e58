"""Failures: the words in which every transport says what went wrong on the wire, so that one reads like the other.

Never a URL and never a foreign text that may quote one: a signed URL is a secret.
"""

from __future__ import annotations

import errno
import os

from engine.contract.exchange import Request
from engine.errors import BrokenAnswer, CapExceeded, CertificateRefused, ConnectFailed, TimedOut


def name_of(request: Request) -> str:
    """What a request is called in messages: never its URL."""
    return request.route or f"{request.method} {request.template}"


def no_url(request: Request) -> ConnectFailed:
    """There is no host, or no scheme we speak, in the URL."""
    return ConnectFailed(f"{name_of(request)}: not a URL that can be connected to", reason="url")


def not_writable(request: Request) -> ConnectFailed:
    """It would not stay one request on the wire; nothing was sent."""
    return ConnectFailed(f"{name_of(request)}: a header or the URL cannot be written as HTTP", reason="request")


def no_address(request: Request) -> ConnectFailed:
    """The host's name leads nowhere."""
    return ConnectFailed(f"{name_of(request)}: the host's name could not be resolved", reason="dns")


def no_connection_in_time(request: Request) -> ConnectFailed:
    """Nobody took the connection in time."""
    return ConnectFailed(f"{name_of(request)}: no connection in time", reason="timeout")


def not_connected(request: Request, exc: OSError) -> ConnectFailed:
    """The system could not connect."""
    name = name_of(request)
    if exc.errno in (errno.EMFILE, errno.ENFILE):
        hint = "raise `ulimit -n`, or lower platform.limits.concurrency"
        return ConnectFailed(f"{name}: no connection: too many open files", hint=hint, reason="files")
    # By its number: the text of the exception may carry addresses.
    said = os.strerror(exc.errno) if exc.errno else type(exc).__name__
    return ConnectFailed(f"{name}: no connection: {said}", reason="connect")


def pool_closed(request: Request) -> ConnectFailed:
    """The transport was closed before the request had a connection."""
    return ConnectFailed(f"{name_of(request)}: no connection: the transport is closed", reason="closed")


def closed_unasked(request: Request) -> ConnectFailed:
    """The peer took the connection and closed it before anything was sent."""
    return ConnectFailed(f"{name_of(request)}: no connection: closed by the host", reason="connect")


def certificate_refused(request: Request) -> CertificateRefused:
    """The host did not prove its name."""
    return CertificateRefused(f"{name_of(request)}: the host's certificate or TLS was not accepted")


def timed_out(request: Request) -> TimedOut:
    """The deadline passed."""
    return TimedOut(f"{name_of(request)}: no complete answer within {request.timeout_s:g} s")


def closed_early(request: Request) -> BrokenAnswer:
    """The peer went away and had said nothing, or not even a whole head."""
    return BrokenAnswer(f"{name_of(request)}: the connection was closed before an answer came")


def cut(request: Request) -> BrokenAnswer:
    """The body did not come to its end."""
    return BrokenAnswer(f"{name_of(request)}: the answer was cut or damaged on its way")


def not_http(request: Request) -> BrokenAnswer:
    """What came is no answer of HTTP/1.1, or one that could be read in two ways."""
    return BrokenAnswer(f"{name_of(request)}: the answer is not HTTP as it should be")


def failed_under(request: Request, exc: BaseException) -> BrokenAnswer:
    """The connection broke while the request was on it."""
    return BrokenAnswer(f"{name_of(request)}: the connection failed under the request ({type(exc).__name__})")


def too_large(request: Request, body_max: int, declared: int | None) -> CapExceeded:
    """The body is over the cap: as `declared`, or (None) as it came."""
    if declared is not None:
        return CapExceeded(f"{name_of(request)}: the answer has {declared} bytes, over {body_max}")
    return CapExceeded(f"{name_of(request)}: the answer is longer than {body_max} bytes")
