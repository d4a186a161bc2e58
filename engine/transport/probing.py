"""Probing: the steps of a connection one by one, for whoever asks which of them fails. Sends no request.

A run never needs this; it connects and is told. Foreign exceptions end here.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from urllib.request import getproxies, proxy_bypass

from engine.errors import CertificateRefused, ConnectFailed


def is_proxied(scheme: str, host: str) -> bool:
    """Whether requests there go by a proxy of the environment: then name and certificate are not ours to judge."""
    return scheme in getproxies() and not proxy_bypass(host)


async def addresses_of(host: str, port: int, *, timeout_s: float) -> list[str]:
    """The addresses a name stands for.

    Raises:
        ConnectFailed: it stands for none, or nobody said so in time.
    """
    try:
        async with asyncio.timeout(timeout_s):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        raise ConnectFailed(f"{host} could not be resolved", reason="dns") from exc
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def connect(host: str, port: int, *, timeout_s: float) -> None:
    """Open a connection and close it.

    Raises:
        ConnectFailed: nobody listens there, or not in time.
    """
    await _open(host, port, None, timeout_s)


async def certificate_ends_s(host: str, port: int, *, timeout_s: float) -> float:
    """Shake hands as every request does, and say when the certificate ends, in Unix seconds.

    Raises:
        CertificateRefused: TLS or the certificate is not to be trusted. ConnectFailed: no connection.
    """
    ended = await _open(host, port, ssl.create_default_context(), timeout_s)
    return 0.0 if ended is None else ended


async def _open(host: str, port: int, context: ssl.SSLContext | None, timeout_s: float) -> float | None:
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except ssl.SSLError as exc:
        why = exc.verify_message if isinstance(exc, ssl.SSLCertVerificationError) else exc.reason or "TLS failed"
        raise CertificateRefused(f"{host}: {str(why).lower()}") from exc
    except TimeoutError as exc:
        raise ConnectFailed(f"{host}:{port}: no connection within {timeout_s:g} s", reason="timeout") from exc
    except OSError as exc:
        raise ConnectFailed(f"{host}:{port}: {exc.strerror or 'no connection'}", reason="connect") from exc
    certificate = writer.get_extra_info("peercert") or {}
    writer.close()
    with contextlib.suppress(OSError, asyncio.CancelledError):
        await writer.wait_closed()
    return ssl.cert_time_to_seconds(certificate["notAfter"]) if "notAfter" in certificate else None
