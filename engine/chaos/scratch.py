"""Scratch: a directory of its own for each round, with the inputs in reach and nothing of the user's to write to.

Pipelines run with it as their working directory: their relative inputs are links into the user's folder, their
relative outputs lie here. A disk of a few MiB can be put under a part of it where the system allows that.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from engine.errors import ConfigError
from engine.failpoints import FILE_STEPS, VARIABLE
from engine.pipeline.objects import is_object
from engine.pipeline.spec import PipelineSpec

STATE = ".engine"
_MAGIC = re.compile(r"[*?\[]")
_READABLE = ("ndjson", "csv", "parquet")


class Pipeline(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline under chaos: its file, absolute, and what that file says."""

    path: Path
    spec: PipelineSpec

    @property
    def name(self) -> str:
        """The name it gives itself."""
        return self.spec.name


def check(pipelines: Sequence[Pipeline]) -> None:
    """Refuse what chaos cannot run harmlessly, or cannot audit.

    Raises:
        ConfigError: two pipelines of one name, a sink elsewhere, a format the auditor cannot read, or stdin as input.
    """
    names = [pipeline.name for pipeline in pipelines]
    if len(set(names)) < len(names):
        raise ConfigError(f"two pipelines have one name: {', '.join(names)}")
    for pipeline in pipelines:
        sink, where = pipeline.spec.sink, str(pipeline.path)
        if "-" in pipeline.spec.source.paths:
            raise ConfigError(f"{where}: stdin cannot be read twice", hint="name a file: --set source.paths=…")
        if sink.type == "postgres":
            continue
        # Inside a Parquet file the library takes care of it.
        if sink.type not in _READABLE or (sink.compression == "zstd" and sink.type != "parquet"):
            raise ConfigError(
                f"{where}: the auditor reads ndjson and csv, plain or gzip, parquet, and tables, not {sink.type} "
                f"({sink.compression})",
                hint="--set sink.type=ndjson --set sink.compression=none",
            )
        path = Path(sink.path)
        if is_object(sink.path):
            continue
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise ConfigError(
                f"{where}: sink.path must be a relative directory, so that chaos writes to its scratch directory only",
                hint="--set sink.path=out",
            )


def has_files(pipeline: Pipeline) -> bool:
    """Whether a pipeline writes into a directory of the scratch."""
    return pipeline.spec.sink.type != "postgres" and not is_object(pipeline.spec.sink.path)


def steps_of(pipeline: Pipeline) -> tuple[str, ...]:
    """The failpoints that its rows pass on their way to being durable, in this order."""
    if pipeline.spec.sink.type == "postgres":
        return ("sink:commit",)
    steps = ("upload",) if is_object(pipeline.spec.sink.path) else FILE_STEPS
    return tuple(f"{file}:{step}" for file in ("sink", "manifest") for step in steps)


class Scratch:
    """One round's directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def make(cls, root: Path, pipelines: Sequence[Pipeline], *, inputs: Path) -> Scratch:
        """Make one, and link the inputs that lie under `inputs`, unless a pipeline of the chain writes them."""
        scratch = cls(root)
        root.mkdir(parents=True)
        sinks = [Path(pipeline.spec.sink.path) for pipeline in pipelines if has_files(pipeline)]
        for pipeline in pipelines:
            for pattern in pipeline.spec.source.paths:
                if is_object(pattern):
                    continue
                fixed = _fixed_part(Path(pattern))
                is_ours = any(fixed.is_relative_to(sink) or sink.is_relative_to(fixed) for sink in sinks)
                if not fixed.is_absolute() and not is_ours:
                    scratch._link(fixed, inputs)
        return scratch

    @property
    def state(self) -> Path:
        """Where the ledgers of this round are."""
        return self.root / STATE

    @property
    def platform(self) -> Path:
        """Where the emulator of this round keeps its own state, outside the engine's."""
        return self.root / "emulator"

    def sink(self, pipeline: Pipeline) -> Path:
        """Where a pipeline's parts are."""
        return self.root / pipeline.spec.sink.path

    def ledger(self, pipeline: Pipeline) -> Path:
        """A pipeline's ledger."""
        return self.state / pipeline.name / "ledger.sqlite"

    def _link(self, path: Path, inputs: Path) -> None:
        target = (inputs / path).absolute()
        link = self.root / path
        if target.exists() and not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)


def _fixed_part(pattern: Path) -> Path:
    """A pattern up to its first wildcard."""
    return Path(*itertools.takewhile(lambda part: not _MAGIC.search(part), pattern.parts))


def environment(outer: Mapping[str, str], *, failpoint: str | None = None) -> dict[str, str]:
    """The environment of a child: ours, without what would change its settings, and with its failpoint."""
    plain = {name: value for name, value in outer.items() if not name.startswith(("ENGINE_", "OTEL_"))}
    return plain if failpoint is None else {**plain, VARIABLE: failpoint}


class Disk:
    """A small file system, mounted for as long as its block lasts."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self) -> None:
        """Leave room for a few kilobytes only."""
        free = os.statvfs(self.path)
        size = max(0, free.f_bavail * free.f_frsize - 3 * free.f_frsize)
        with contextlib.suppress(OSError), (self.path / "ballast").open("wb") as file:
            file.write(b"\0" * size)

    def free(self) -> None:
        """Give the room back."""
        (self.path / "ballast").unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(path: Path, size_bytes: int) -> Iterator[Disk]:
    """Mount a tmpfs at `path`, and take it away at the end.

    Raises:
        OSError: the system does not let us; it takes root on Linux.
    """
    path.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=0700", "tmpfs", str(path)]
    answer = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - our own words
    if answer.returncode:
        raise OSError(answer.returncode, answer.stderr.decode("utf-8", "replace").strip() or "mount refused")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], capture_output=True, check=False)  # noqa: S603, S607
