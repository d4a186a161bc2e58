"""Targets: where a pipeline under chaos lands its rows, apart for each round, and what the auditor reads there.

A directory, a prefix of an object store, or a copy of a table. Each is read by library calls of its own, never by the
engine's sinks or their accounting. What is made here is removed again; what a pipeline names itself is never touched.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec

from engine.chaos.rows import MANIFEST, Part, count_input, count_rows, part_of, parts_in
from engine.chaos.scratch import Pipeline, Scratch
from engine.codec.payload import loads
from engine.components.objects import Absent, Bucket, split
from engine.components.postgres import Server, quoted, table_of
from engine.errors import EngineError
from engine.pipeline.objects import is_object
from engine.pipeline.spec import SourceSpec
from engine.settings import ObjectsSettings, Secret

# PostgreSQL cuts longer names (its limit is 63).
_NAME_MAX = 40


class Target(Protocol):
    """One round's place for one pipeline's rows."""

    @property
    def overrides(self) -> dict[str, str]:
        """What the pipeline is told instead of what its file says."""

    @property
    def directory(self) -> Path | None:
        """Where files of it lie, for a disk that can be filled."""

    @property
    def has_parts(self) -> bool:
        """Whether rows lie in files that a manifest lists."""

    def prepare(self) -> None:
        """Make it."""

    def parts(self) -> list[Part]:
        """What is there; all rows as one part where there are no files."""

    def manifest(self) -> Any:
        """The manifest's document; None where there is none that can be read."""

    def remove(self) -> None:
        """Take it away again."""


class _Directory(msgspec.Struct, frozen=True):
    path: Path
    has_parts: bool = True

    @property
    def overrides(self) -> dict[str, str]:
        return {}

    @property
    def directory(self) -> Path | None:
        return self.path

    def prepare(self) -> None:
        """The sink makes it."""

    def parts(self) -> list[Part]:
        return parts_in(self.path)

    def manifest(self) -> Any:
        try:
            return loads((self.path / MANIFEST).read_bytes())
        except (OSError, EngineError):
            return None

    def remove(self) -> None:
        """It goes with the scratch directory."""


class _Prefix(msgspec.Struct, frozen=True):
    bucket: Bucket
    prefix: str
    has_parts: bool = True

    @property
    def overrides(self) -> dict[str, str]:
        return {"sink.path": f"s3://{self.bucket.name}/{self.prefix}"}

    @property
    def directory(self) -> Path | None:
        return None

    def prepare(self) -> None:
        """A prefix is there once something has it."""

    def parts(self) -> list[Part]:
        names = sorted(found.key.removeprefix(self.prefix) for found in self.bucket.find(self.prefix))
        return [part_of(name, self.bucket.whole(self.prefix + name)) for name in names if name != MANIFEST]

    def manifest(self) -> Any:
        try:
            return loads(self.bucket.whole(self.prefix + MANIFEST))
        except (Absent, EngineError):
            return None

    def remove(self) -> None:
        for found in list(self.bucket.find(self.prefix)):
            self.bucket.remove(found.key)


class _Table(msgspec.Struct, frozen=True):
    server: Server
    model: str
    name: str
    has_parts: bool = False

    @property
    def overrides(self) -> dict[str, str]:
        return {"sink.table": self.name}

    @property
    def directory(self) -> Path | None:
        return None

    def prepare(self) -> None:
        self._run(f"CREATE TABLE {table_of(self.name)} (LIKE {table_of(self.model)} INCLUDING ALL)")

    def parts(self) -> list[Part]:
        async def rows(connection: Any) -> list[Any]:
            # Of a row of the engine's own column only the number differs from run to run.
            found = await connection.fetch(f"SELECT to_jsonb(t) - 'engine_part' AS row FROM {table_of(self.name)} t")  # noqa: S608
            return [loads(one["row"].encode()) for one in found]

        return [Part(name=self.name, body_bytes=0, sha256="", rows=self.server.do(rows))]

    def manifest(self) -> Any:
        return None

    def remove(self) -> None:
        # The schema's own name where the file gives none: the one that the server would look in first.
        schema = quoted(self.name.partition(".")[0]) + "." if "." in self.name else ""
        plain = self.name.rpartition(".")[2].replace("'", "''")
        self._run(
            f"DELETE FROM {schema}engine_parts WHERE strpos(relation, '{plain}') > 0; "  # noqa: S608 - our own name
            f"DROP TABLE IF EXISTS {table_of(self.name)}"
        )

    def _run(self, sql: str) -> None:
        async def work(connection: Any) -> None:
            await connection.execute(sql)

        self.server.do(work)


def target_of(pipeline: Pipeline, scratch: Scratch, objects: ObjectsSettings) -> Target:
    """Where this round lands the rows of a pipeline."""
    sink = pipeline.spec.sink
    if sink.type == "postgres":
        model = sink.table or ""
        tag = f"{scratch.root.parent.name[-8:]}_{scratch.root.name}".lower().replace("-", "_")
        name = f"{model[:_NAME_MAX]}_{tag}"
        return _Table(Server(sink.url or Secret(""), "chaos", f"engine chaos {pipeline.name}"), model, name)
    if is_object(sink.path):
        bucket, key = split(sink.path)
        base = f"{key.strip('/')}/" if key.strip("/") else ""
        return _Prefix(
            Bucket(bucket, objects), f"{base}{scratch.root.parent.name}/{scratch.root.name}/{pipeline.name}/"
        )
    return _Directory(scratch.sink(pipeline))


def told(objects: ObjectsSettings) -> dict[str, str]:
    """The environment that tells a child of our store: its config file is another one, and arguments can be read."""
    members = {name: getattr(objects, name) for name in objects.__struct_fields__}
    return {
        f"ENGINE__OBJECTS__{name.upper()}": value.reveal() if isinstance(value, Secret) else str(value)
        for name, value in members.items()
        if value is not None
    }


def count_source(source: SourceSpec, cwd: Path, objects: ObjectsSettings) -> int | None:
    """Rows in a pipeline's input, counted without its source; None where that cannot be told simply."""
    if source.type == "postgres":
        return None if source.url is None else _count_table(source)
    if any(is_object(path) for path in source.paths):
        return _count_objects(source.paths, objects)
    return count_input(source.paths, cwd)


def _count_table(source: SourceSpec) -> int:
    rows = table_of(source.table) if source.table else f"({source.query}) AS rows"

    async def count(connection: Any) -> int:
        return int(await connection.fetchval(f"SELECT count(*) FROM {rows}"))  # noqa: S608 - the user's own words

    return Server(source.url or Secret(""), "chaos", "engine chaos").do(count)


def _count_objects(patterns: tuple[str, ...], objects: ObjectsSettings) -> int | None:
    counts = [count_rows(name, body) for name, body in _objects(patterns, objects)]
    return None if None in counts else sum(count for count in counts if count is not None)


def _objects(patterns: tuple[str, ...], objects: ObjectsSettings) -> Iterator[tuple[str, bytes]]:
    for pattern in patterns:
        name, key = split(pattern)
        bucket = Bucket(name, objects)
        fixed = key[: min((key.find(sign) for sign in "*?[" if sign in key), default=len(key))]
        folder = fixed[: fixed.rfind("/") + 1]
        for found in bucket.find(folder):
            if fnmatch.fnmatchcase(found.key, key):
                yield found.key, bucket.whole(found.key)
