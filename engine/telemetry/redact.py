"""Redaction: the second net under `Secret`, for text that leaves the engine.

Pure text work. The first net is that secrets are typed and payloads never reach an event; this one
catches what slips into a foreign exception's words, a header dump or a URL. It prefers to take too much.
Every pattern runs in linear time, because the text may be an attacker's.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

MASK = "***"
# Shorter ones would also be found inside ordinary words and turn every line into asterisks.
SHORTEST_SECRET = 4

_NAMES = r"(?:secret|password|passwd|pwd|token|api_?key|signature)"
_SCHEMES = r"(?:bearer|basic|dpop|digest|negotiate)"
# Each begins where the text before it cannot be part of it, or at a character it never takes a second
# time: that is what keeps a megabyte of "eyJeyJeyJ" from being scanned a quarter of a million times.
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    # A compact JWS or JWE: its header is base64url of `{"`, hence `eyJ`.
    (re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*){1,4}"), MASK),
    # A header written out: the scheme may stay, the credentials go.
    (
        re.compile(rf"(?i)(authorization[\"']?[ \t]*[:=][ \t]*[\"']?(?:{_SCHEMES}[ \t]+)?)[^\s\"',;]+"),
        rf"\1{MASK}",
    ),
    (re.compile(r"(?i)\b(bearer)[ \t]+(?!\*)[A-Za-z0-9._~+/=-]{8,}"), rf"\1 {MASK}"),
    # Every query string: a signed URL is a credential, and which parameter signs is the signer's choice.
    (re.compile(r"\?(?=[^\s\"'<>?=]{1,64}=)[^\s\"'<>]*"), f"?{MASK}"),
    # The user part of a URL (RFC 3986 §3.2.1).
    (re.compile(r"://[^\s/@\"'<>]+@"), f"://{MASK}@"),
    # A form body or a JSON document.
    (re.compile(rf"(?i)({_NAMES}(?:=|[\"']\s{{0,8}}:\s{{0,8}}[\"']))[^\s\"'&,;*]+"), rf"\1{MASK}"),
)
# One look decides that nearly every text is clean; a rule above must not match where this does not.
_SUSPECT = re.compile(r"eyJ|[?@]|(?i:authorization|bearer|secret|passw|pwd|token|api_?key|signature)")


class Redactor:
    """Replaces known secrets, and what looks like one, by `***`.

    Built once from every secret of the configuration. A secret is also found percent-encoded, escaped as
    in JSON, and as Base64; one of several lines (a PEM key) line by line. Secrets under four characters
    are not searched for.
    """

    __slots__ = ("_known",)

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # Longest first: of two secrets that begin alike, the shorter must not leave the other's tail.
        forms = sorted({form for secret in secrets for form in _forms(secret)}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, forms))) if forms else None

    def __call__(self, text: str) -> str:
        """The text without secrets; the same object when there was nothing to hide."""
        if self._known is not None:
            text = self._known.sub(MASK, text)
        if _SUSPECT.search(text) is None:
            return text
        for pattern, replacement in _RULES:
            text = pattern.sub(replacement, text)
        return text

    def __repr__(self) -> str:
        return "Redactor(***)"


def _forms(secret: str) -> Iterator[str]:
    parts = {secret, *(line for line in secret.splitlines() if len(line) >= 16)}
    for part in parts:
        text = part.strip()
        if len(text) < SHORTEST_SECRET:
            continue
        yield from (text, quote(text, "", errors="replace"), quote_plus(text, errors="replace"), json.dumps(text)[1:-1])
        yield base64.b64encode(text.encode("utf-8", "replace")).decode("ascii").rstrip("=")
