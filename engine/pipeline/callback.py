"""What the options of `[callback]` mean together, and what each profile asks of them. Pure.

A pipeline file is judged without knowing the profile it will run under; what depends on that is said by
`unmet`, before anything is started.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from engine.errors import Finding
from engine.loopback import is_loopback
from engine.pipeline.findings import Fault
from engine.pipeline.locate import KeyPath
from engine.pipeline.spec import CallbackSpec

SECRETS_MAX = 2  # One that is active, and one that replaces it.
URL_MAX = 2048  # So that the URL fits into what a request may hold beside its batch.


def check_callback(callback: CallbackSpec) -> Iterator[Fault]:
    """Everything about `[callback]` that its types cannot say."""
    try:
        host_and_port(callback.listen)
    except ValueError:
        yield _fault("listen", "range", f"`{callback.listen}` is no HOST:PORT", 'write "127.0.0.1:8443"')
    if len(callback.secrets) > SECRETS_MAX:
        hint = "the active secret, and the one that replaces it"
        yield _fault("secrets", "range", f"{len(callback.secrets)} secrets; at most two are active at once", hint)
    if any(not secret for secret in callback.secrets):
        yield _fault("secrets", "range", "an empty secret proves nothing")
    if callback.public_url is not None:
        yield from _public_url(callback.public_url)


def unmet(callback: CallbackSpec, *, profile: str, path: str) -> Finding | None:
    """What a profile needs and `[callback]` lacks; the emulator needs nothing, it calls the receiver on loopback."""
    if profile == "emulator":
        return None
    if callback.public_url is None or not callback.public_url.startswith("https:"):
        said = "needs `public_url`, an https URL that leads to `listen`"
        hint = 'public_url = "https://hooks.example.net/argus"; TLS ends in front of the receiver'
    elif not callback.secrets:
        said = "needs `secrets`: without one no callback can be trusted"
        hint = 'secrets = ["${secret:env:ARGUS_CALLBACK_SECRET}"]'
    else:
        return None
    return Finding(f'[callback] {said} (profile "{profile}")', code="config.missing", path=path, hint=hint)


def host_and_port(listen: str) -> tuple[str, int]:
    """The two halves of `HOST:PORT`; an IPv6 host stands in brackets.

    Raises:
        ValueError: it is none.
    """
    parts = urlsplit(f"//{listen}")
    if parts.netloc != listen or not parts.hostname or parts.port is None or "@" in listen:
        raise ValueError(listen)
    return parts.hostname, parts.port


def _public_url(url: str) -> Iterator[Fault]:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host, parts = "", urlsplit("")
    if parts.scheme not in ("http", "https") or not host or parts.fragment:
        yield _fault("public_url", "range", "`public_url` is no URL to call", 'write "https://hooks.example.net/argus"')
    elif parts.username or parts.password:
        yield _fault("public_url", "secret", "`public_url` holds credentials", "the signature proves who calls")
    elif parts.scheme == "http" and not is_loopback(host):
        yield _fault("public_url", "unsafe", "`public_url` must be https", "http is for an emulator on loopback only")
    elif len(url) > URL_MAX:
        yield _fault("public_url", "range", f"`public_url` is longer than {URL_MAX} characters")


def _fault(name: str, code: str, message: str, hint: str = "") -> Fault:
    at: KeyPath = ("callback", name)
    return Fault(at=at, code=f"config.{code}", message=message, hint=hint)
