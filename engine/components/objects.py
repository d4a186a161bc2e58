"""Objects: a bucket of an S3-compatible store as few blocking calls; the door of obstore.

An upload is visible as a whole or not at all, and a read is of one version of an object. Nothing here knows parts or
records. Keys go in as they are; credentials come from `[objects]`, or else from where AWS' own tools look.
"""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from engine.errors import ConfigError, EngineError, MissingExtra, OutputError
from engine.pipeline.objects import SCHEME
from engine.settings import ObjectsSettings

_REQUEST_S = 60
_CONNECT_S = 5
# The library's own tries; whoever waits longer does so where a stop is heard.
_RETRY = {"max_retries": 4, "retry_timeout": dt.timedelta(seconds=15)}
# From here on an upload goes in pieces of this size, two of them at a time.
_PIECE_BYTES = 8 * 1024 * 1024
_PIECES_AT_ONCE = 2
_SAID_MAX = 500
_REFUSAL = re.compile(
    r"40[13] (?:Unauthorized|Forbidden)|InvalidAccessKeyId|SignatureDoesNotMatch|AccessDenied|ExpiredToken"
)


class Found(NamedTuple):
    """An object of a bucket: its key, its size in bytes, and what names this version of it."""

    key: str
    size: int
    version: str | None


class Bucket:
    """One bucket. Safe to use from any thread.

    Every call raises OutputError where the store cannot do it now (fact `is_away`), ConfigError where it refuses, and
    `Absent` where there is no such object.
    """

    def __init__(self, name: str, settings: ObjectsSettings) -> None:
        self.name = name
        self._api = _obstore()
        endpoint = settings.endpoint
        options: dict[str, Any] = {
            "endpoint": endpoint,
            "region": settings.region,
            "access_key_id": settings.access_key_id and settings.access_key_id.reveal(),
            "secret_access_key": settings.secret_access_key and settings.secret_access_key.reveal(),
            "session_token": settings.session_token and settings.session_token.reveal(),
            # Whoever names an endpoint of their own seldom has a name for each bucket.
            "virtual_hosted_style_request": None if endpoint is None else False,
        }
        client = {"timeout": f"{_REQUEST_S}s", "connect_timeout": f"{_CONNECT_S}s"}
        if endpoint is not None and urlsplit(endpoint).scheme == "http":
            client["allow_http"] = "true"
        given = {option: value for option, value in options.items() if value is not None}
        with self._translated(""):
            self._store = self._api.store.S3Store(name, client_options=client, retry_config=_RETRY, **given)

    def find(self, prefix: str) -> Iterator[Found]:
        """Every object under a prefix that ends with a slash or is empty, in no order."""
        with self._translated(prefix):
            for some in self._api.list(self._store, prefix or None):
                for item in some:
                    yield Found(item["path"], item["size"], item["e_tag"])

    def look(self, key: str) -> Found:
        """One object."""
        with self._translated(key):
            item = self._api.head(self._store, key)
            return Found(key, item["size"], item["e_tag"])

    def read(self, found: Found, start: int, end: int) -> bytes:
        """The bytes from `start` to before `end` of this very version.

        Raises:
            Replaced: the key has another version by now.
        """
        options: dict[str, Any] = {"range": (start, end)}
        if found.version is not None:
            options["if_match"] = found.version
        with self._translated(found.key):
            answer = self._api.get(self._store, found.key, options=options)
            # Not every store heeds a condition on reading.
            if answer.meta["e_tag"] != found.version:
                raise Replaced(f"{SCHEME}{self.name}/{found.key} was replaced while it was read")
            return bytes(answer.bytes())

    def whole(self, key: str) -> bytes:
        """All of a small object."""
        with self._translated(key):
            return bytes(self._api.get(self._store, key).bytes())

    def put(self, key: str, data: bytes) -> None:
        """Write a small object, or put it in the place of another."""
        with self._translated(key):
            self._api.put(self._store, key, data, use_multipart=False)

    def upload(self, key: str, fd: int) -> None:
        """Write an open file as an object. Of one that was cut off in the middle nothing is seen."""
        with self._translated(key), os.fdopen(os.dup(fd), "rb") as file:
            file.seek(0)
            is_large = os.fstat(fd).st_size > _PIECE_BYTES
            content: Any = file if is_large else file.read()
            self._api.put(
                self._store,
                key,
                content,
                use_multipart=is_large,
                chunk_size=_PIECE_BYTES,
                max_concurrency=_PIECES_AT_ONCE,
            )

    def remove(self, key: str) -> None:
        """Remove an object; one that is not there is as good."""
        with self._translated(key):
            self._api.delete(self._store, key)

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        errors = self._api.exceptions
        where = f"{SCHEME}{self.name}/{key}"
        try:
            yield
        except (EngineError, Replaced):
            raise
        except (FileNotFoundError, errors.NotFoundError) as exc:
            raise Absent(f"there is no {where}") from exc
        except errors.PreconditionError as exc:
            raise Replaced(f"{where} was replaced while it was read") from exc
        except (PermissionError, errors.PermissionDeniedError, errors.UnauthenticatedError) as exc:
            raise _refused(where) from exc
        except (errors.UnknownConfigurationKeyError, errors.NotSupportedError, errors.InvalidPathError) as exc:
            raise ConfigError(f"{where} cannot be used: {_said(exc)}") from exc
        except errors.BaseError as exc:
            # Listing wraps every answer in one error, so the store's own word is looked for.
            said = _said(exc)
            if _REFUSAL.search(said):
                raise _refused(where) from exc
            if "NoSuchBucket" in said:
                raise Absent(f"there is no bucket {self.name}") from exc
            hint = "check `endpoint` in [objects] of config.toml, and that it can be reached from here"
            raise OutputError(f"{where} cannot be used now: {said}", hint=hint, is_away=True) from exc
        except OSError as exc:
            # Multipart uploads fail with the same words, but as the library's own error of the system.
            raise OutputError(f"{where} cannot be written now: {_said(exc)}", is_away=True) from exc


class Absent(Exception):
    """There is no object of this name, or no such bucket; who asked knows what that means."""


class Replaced(Exception):
    """The object is not the one that was looked at any more."""


def split(url: str) -> tuple[str, str]:
    """`s3://bucket/key` as bucket and key."""
    bucket, _, key = url.removeprefix(SCHEME).partition("/")
    return bucket, key


def _refused(where: str) -> ConfigError:
    hint = "check the credentials in [objects] of config.toml, and what they may do"
    return ConfigError(f"{where} is refused to these credentials", hint=hint)


def _said(exc: BaseException) -> str:
    """The library's first words, without the request's whole history."""
    text = re.sub(r"\s+", " ", str(exc).partition("\n\nDebug source:")[0]).strip()
    return text[:_SAID_MAX] or type(exc).__name__


def _obstore() -> Any:
    try:
        import obstore
        import obstore.exceptions
        import obstore.store
    except ImportError as exc:
        raise MissingExtra(need=f"a path that begins with {SCHEME}", extra="objects") from exc
    return obstore
