"""Login: the tokens that a person was given, in one file of the state directory that only its owner may read.

Replaced as a whole or not at all. Whether the token is genuine was proved before it came here.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from engine.codec.payload import decode, encode
from engine.errors import EngineError, OutputError, StateError
from engine.settings import Secret

LOGIN_FILE = "login.json"
_BYTES_MAX = 64 * 1024


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """As whom a person is logged in where. `ends_s` is the token's `exp`, Unix seconds; `refresh` renews it once."""

    auth_url: str
    client_id: str
    token: Secret
    ends_s: float
    refresh: Secret | None = None


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    auth_url: str
    client_id: str
    token: str
    ends_s: float
    refresh: str | None = None


def keep_login(state_dir: Path, login: Login) -> Path:
    """Write the file with mode 0600, in place of an older one; its path.

    Raises:
        OutputError: the disk or the rights of the directory refuse it.
    """
    path = state_dir / LOGIN_FILE
    temporary = path.with_suffix(".tmp")
    kept = _Kept(
        auth_url=login.auth_url, client_id=login.client_id, token=login.token.reveal(), ends_s=login.ends_s,
        refresh=login.refresh.reveal() if login.refresh else None,
    )  # fmt: skip
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        # Made anew, never opened: a file that was there before could be readable by others, or be a link.
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(encode(kept))
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except OSError as exc:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise OutputError(f"{path}: {exc.strerror}", hint="free space or fix the rights of the directory") from exc
    return path


def find_login(state_dir: Path, auth_url: str) -> Login | None:
    """The login at this platform; None where there is none, or only one at another platform.

    Raises:
        StateError: the file cannot be read or is not one of ours.
    """
    path = state_dir / LOGIN_FILE
    try:
        with path.open("rb") as file:
            kept = decode(file.read(_BYTES_MAX), _Kept)
    except FileNotFoundError:
        return None
    except (OSError, EngineError) as exc:
        raise StateError(f"{path} cannot be read as a login", hint="engine login --forget, then log in again") from exc
    if kept.auth_url != auth_url:
        return None
    return Login(
        auth_url=kept.auth_url, client_id=kept.client_id, token=Secret(kept.token), ends_s=kept.ends_s,
        refresh=Secret(kept.refresh) if kept.refresh else None,
    )  # fmt: skip


def forget_login(state_dir: Path) -> bool:
    """Remove the file; whether there was one.

    Raises:
        OutputError: it cannot be removed.
    """
    path = state_dir / LOGIN_FILE
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as exc:
        raise OutputError(f"{path}: {exc.strerror}", hint="fix the rights of the directory") from exc
    return True
