"""Foreign: what others wrote, read from files under a cap and shown so that it can do no harm to a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from engine.settings import Secret

_TOKEN_MAX = 64 * 1024
_TIMES = ("iat", "nbf", "exp", "auth_time")
# The end of the year 9999, which is as far as dates go.
_TIME_MAX = 253_402_300_799


def read_file(name: str, cap: int) -> bytes:
    """A file, or stdin for -; one byte over the cap is enough for whoever judges it.

    Raises:
        click.BadParameter: it cannot be read.
    """
    try:
        if name == "-":
            return sys.stdin.buffer.read(cap + 1)
        with Path(name).open("rb") as file:
            return file.read(cap + 1)
    except OSError as exc:
        raise click.BadParameter(f"cannot read {name}: {(exc.strerror or 'refused').lower()}") from exc


def shown(text: str) -> str:
    """A foreign name as one harmless word: nothing in it may move the cursor or colour the line."""
    return text if text.isascii() and text.isprintable() and text else ascii(text)


def read_token(name: str) -> Secret:
    """The token in a file, or on stdin for -, without the white space around it; with or without its scheme.

    Raises:
        click.BadParameter: it cannot be read, or there is none.
    """
    text = read_file(name, _TOKEN_MAX).decode("utf-8", "replace").strip()
    scheme, blank, rest = text.partition(" ")
    found = rest.strip() if blank and scheme.lower() == "bearer" else text
    if not found:
        raise click.BadParameter(f"{name} holds no token")
    return Secret(found)


def token_lines(claims: Mapping[str, Any], *, now_s: float) -> list[str]:
    """What a token says, a line for each claim; times as dates, with how long it is until then, or since."""
    return [f"{shown(name):<18} {_claim(name, value, now_s)}" for name, value in claims.items()]


def _claim(name: str, value: Any, now_s: float) -> str:
    if name in _TIMES and isinstance(value, int | float) and 0 <= value <= _TIME_MAX:
        at = datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        away_s = round(value - now_s)
        return f"{at}  {f'in {away_s} s' if away_s >= 0 else f'{-away_s} s ago'}"
    return shown(value) if isinstance(value, str) else shown(json.dumps(value))
