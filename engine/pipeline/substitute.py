"""Substitute: `${env:X}`, `${env:X?}`, `${secret:env:X}` and `${secret:file:PATH}` inside parsed values.

Runs after TOML has been parsed, so a value can never add a key; what was substituted is not looked at
again. `$${` stands for `${`. What it reads never enters a message.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from pathlib import Path

import msgspec

_REFERENCE = re.compile(r"\$?\$\{([^}]*)\}?")
_FORM = re.compile(r"(secret:)?(?:env:([A-Za-z_][A-Za-z0-9_]*)|file:([^?]+))(\?)?", re.ASCII)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_SECRET_FILE_MAX = 64 * 1024
# Mounted by a container runtime or by systemd with a mode that its reader cannot choose.
_MOUNTED = ("/run/secrets/", "/run/credentials/")

FORMS = "${env:NAME}, ${env:NAME?}, ${secret:env:NAME}, ${secret:file:PATH}"


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """Where references are looked up: the process environment, then `./.env`."""

    environment: Mapping[str, str]
    dotenv: Mapping[str, str] = {}
    has_dotenv: bool = False

    def get(self, name: str) -> str | None:
        """The value of a name; one that is set to nothing counts as not set."""
        return self.environment.get(name) or self.dotenv.get(name) or None

    @property
    def places(self) -> str:
        """The places looked in, in order, for messages."""
        return f"process environment, ./.env{'' if self.has_dotenv else ' (no such file)'}"


class Trouble(Exception):
    """A reference that cannot be followed; `code` of the finding, a message and a hint."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint


def has_reference(text: str) -> bool:
    """Whether a text holds anything to substitute."""
    return "${" in text


def substitute(text: str, around: Surroundings, *, into_secret: bool) -> str | None:
    """The text with its references followed; None when it is one optional reference that is unset.

    Raises:
        Trouble: a malformed reference, an unset one, or a secret where it could be printed.
    """
    whole = _REFERENCE.fullmatch(text)
    if whole and not text.startswith("$$"):
        return _follow(whole, around, into_secret=into_secret)

    def replace(found: re.Match[str]) -> str:
        if found[0].startswith("$$"):
            return found[0][1:]
        return _follow(found, around, into_secret=into_secret) or ""

    return _REFERENCE.sub(replace, text)


def _follow(found: re.Match[str], around: Surroundings, *, into_secret: bool) -> str | None:
    form = _FORM.fullmatch(found[1])
    if not form or not found[0].endswith("}") or (form[3] and not form[1]):
        raise Trouble("config.reference", f"`{found[0]}` is not a reference", f"references are {FORMS}")
    is_secret, name, path, optional = form.groups()
    if is_secret and not into_secret:
        raise Trouble(
            "config.secret",
            f"`{found[0]}` stands where it could be printed",
            "secrets belong in client_secret or token of config.toml; what is none is ${env:NAME}",
        )
    text = around.get(name) if name else _secret_file(path, found[0])
    if text is None and not optional:
        if not name:
            raise Trouble("config.unset", f"`{found[0]}` names no file", f"looked in: {path}")
        raise Trouble("config.unset", f"`{found[0]}` is not set", f"looked in: {around.places}")
    return text


def _secret_file(path: str, shown: str) -> str | None:
    """The text of a secret's file without its last line end; None when there is no such file."""
    file = Path(path).expanduser()
    try:
        mode = file.stat().st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO) and not str(file).startswith(_MOUNTED):
            raise Trouble(
                "config.secret",
                f"`{shown}` names a file that others may read (mode {stat.S_IMODE(mode):04o})",
                f"chmod 600 {path}",
            )
        with file.open("rb") as opened:
            raw = opened.read(_SECRET_FILE_MAX + 1)
        text = raw.decode("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8 text"
        raise Trouble("config.unset", f"`{shown}` cannot be read: {reason}", f"looked in: {path}") from None
    if len(raw) > _SECRET_FILE_MAX:
        raise Trouble("config.secret", f"`{shown}` names a file over 64 KiB, which is no secret")
    return text.removesuffix("\n").removesuffix("\r") or None


def read_dotenv(text: str) -> dict[str, str]:
    """The names of a `.env` text: `NAME=value`, `export NAME="value"`; other lines mean nothing."""
    names: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        name, value = name.strip(), value.strip()
        if not equals or not _NAME.fullmatch(name):
            continue
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        else:
            value = re.sub(r"\s+#.*$", "", value)
        names[name] = value
    return names
