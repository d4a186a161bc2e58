"""Objects as inputs: keys that a pattern names, and the bytes of one, block by block.

What a pattern means is what it means for files. A body is of one version of its object: if that is replaced while it is
read, the read fails, and nothing is mixed.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from engine.components.objects import Absent, Bucket, Replaced, split
from engine.errors import InputError, OutputError, StaleCheckpoint
from engine.pipeline.objects import SCHEME
from engine.settings import ObjectsSettings

_BLOCK_BYTES = 4 * 1024 * 1024
_MAGIC = re.compile(r"[*?\[]")


class Objects:
    """The buckets of a source, each opened once."""

    def __init__(self, settings: ObjectsSettings) -> None:
        self._settings = settings
        self._buckets: dict[str, Bucket] = {}

    def find(self, pattern: str) -> list[str]:
        """The objects a path or pattern names; `*` stays between slashes, `**` crosses them.

        Raises:
            InputError: the store cannot be asked. ConfigError: it refuses.
        """
        name, key = split(pattern)
        bucket = self._bucket(name)
        with _reading(pattern):
            try:
                return [SCHEME + name + "/" + bucket.look(key).key] if key else []
            except Absent:
                pass
            magic = _MAGIC.search(key)
            if magic is None:
                return []
            matches, prefix = _matcher(key), key[: magic.start()].rpartition("/")
            keys = [found.key for found in bucket.find(prefix[0] + prefix[1]) if matches.fullmatch(found.key)]
        return [f"{SCHEME}{name}/{found}" for found in keys]

    def open(self, url: str, stop: threading.Event) -> ObjectBody:
        """The bytes of one object."""
        name, key = split(url)
        return ObjectBody(self._bucket(name), key, url, stop)

    def _bucket(self, name: str) -> Bucket:
        if name not in self._buckets:
            self._buckets[name] = Bucket(name, self._settings)
        return self._buckets[name]


class ObjectBody:
    """A `streams.Body` over one object; what is asked for comes in blocks, so small reads are few requests."""

    is_regular = True

    def __init__(self, bucket: Bucket, key: str, url: str, stop: threading.Event) -> None:
        self._bucket = bucket
        self._url = url
        self._stop = stop
        with _reading(url):
            self._found = bucket.look(key)
        self._offset = 0
        self._block = b""

    @property
    def size(self) -> int:
        """Bytes of the object."""
        return self._found.size

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end, or once a stop was asked for."""
        if not self._block and self._offset < self.size and not self._stop.is_set():
            with _reading(self._url):
                self._block = self._bucket.read(self._found, self._offset, min(self._offset + _BLOCK_BYTES, self.size))
        piece, self._block = self._block[:size], self._block[size:]
        self._offset += len(piece)
        return piece

    def seek(self, offset: int) -> None:
        """Go on there."""
        self._offset, self._block = offset, b""

    def close(self) -> None:
        """Nothing is open between two blocks."""
        self._block = b""


@contextmanager
def _reading(url: str) -> Iterator[None]:
    try:
        yield
    except Absent as exc:
        raise InputError(str(exc), hint="check bucket and key", input=url) from exc
    except Replaced as exc:
        raise StaleCheckpoint(str(exc), hint="run again with --fresh to read the new object", input=url) from exc
    except OutputError as exc:
        raise InputError(exc.message, hint=exc.hint, input=url) from exc


def _matcher(pattern: str) -> re.Pattern[str]:
    """A pattern of keys, as `glob` reads one of files."""
    parts: list[str] = []
    index = 0
    while index < len(pattern):
        if pattern.startswith("**/", index):
            parts.append("(?:.*/)?")
            index += 3
        elif pattern[index] == "*":
            parts.append("[^/]*")
            index += 1
        elif pattern[index] == "?":
            parts.append("[^/]")
            index += 1
        elif (end := pattern.find("]", index + 2)) > 0 and pattern[index] == "[":
            inside = pattern[index + 1 : end].replace("\\", r"\\")
            parts.append(f"[^{inside[1:]}]" if inside.startswith("!") else f"[{inside}]")
            index = end + 1
        else:
            parts.append(re.escape(pattern[index]))
            index += 1
    return re.compile("".join(parts), re.DOTALL)
