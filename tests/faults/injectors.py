"""Injectors: small disks, mounts, namespaces and processes, each undone by the block that made it.

A fault that needs root or a tool skips by name, saying what to install.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PIPELINE = """
version = 1
name    = "{name}"
[source]
type  = "ndjson"
paths = ["{inputs}/in*.ndjson"]
key   = "id"
[job]
kind  = "import.bulk"
batch = {{ rows = {batch} }}
poll  = {{ first = "50ms", max = "500ms" }}
retry = {{ attempts = 3, cooldown = "10ms" }}
[job.payload]
entity_type = "location"
mapping     = {{ id = "external_id", name = "label" }}
[results.fields]
external_id = "str"
id          = "str"
[sink]
type   = "ndjson"
path   = "{out}"
rotate = {{ rows = {part} }}
"""


def write_pipeline(directory: Path, name: str, *, out: Path | str = "out", batch: int = 10, part: int = 50) -> str:
    """A pipeline file over `in*.ndjson` of the directory; its path."""
    path = directory / f"{name}.toml"
    path.write_text(PIPELINE.format(name=name, inputs=directory, out=out, batch=batch, part=part))
    return str(path)


def write_rows(directory: Path, rows: int, *, padding: int = 0) -> None:
    """An input of so many rows, each with a label of `padding` characters and more."""
    with (directory / "in.ndjson").open("a") as file:
        for number in range(rows):
            row = {"id": f"r{number}", "name": f"Row {number}".ljust(padding, "x")}
            file.write(json.dumps(row, separators=(",", ":")) + "\n")


def needs_root() -> None:
    """Skip unless this is root."""
    if os.geteuid():
        pytest.skip("needs root: mounts, namespaces and control groups are root's")


def needs(tool: str, package: str) -> str:
    """The path of a tool; skips, naming the Debian package, where it is missing."""
    path = shutil.which(tool) or shutil.which(tool, path="/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"needs {tool}: apt-get install {package}")
    return path


def command(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a tool to its end."""
    return subprocess.run(words, check=check, capture_output=True, text=True, timeout=60)


@contextmanager
def mounted(target: Path, *options: str) -> Iterator[Path]:
    """Mount something on a folder; skips where mounting is not allowed."""
    needs_root()
    done = command("mount", *options, str(target), check=False)
    if done.returncode:
        pytest.skip(f"needs mount: {done.stderr.strip()}")
    try:
        yield target
    finally:
        command("umount", "--lazy", str(target), check=False)


@contextmanager
def small_disk(target: Path, size: str = "2m") -> Iterator[Path]:
    """A tmpfs of this size."""
    with mounted(target, "-t", "tmpfs", "-o", f"size={size}", "tmpfs") as path:
        yield path


def fill(directory: Path, *, leave: int = 0) -> Path:
    """Take all the space of a disk but `leave` bytes; the file that holds it."""
    hog = directory / "hog"
    fd = os.open(hog, os.O_WRONLY | os.O_CREAT)
    try:
        for piece in (1 << 16, 1 << 12, 1):
            while True:
                try:
                    os.write(fd, b"\0" * piece)
                except OSError:
                    break
        os.ftruncate(fd, max(0, os.fstat(fd).st_size - leave))
    finally:
        os.close(fd)
    return hog


@contextmanager
def image(directory: Path, target: Path, *, size: str = "24m", options: str = "loop,commit=300") -> Iterator[Path]:
    """An ext4 file system in a file, mounted; yields the image's path."""
    needs_root()
    mkfs = needs("mkfs.ext4", "e2fsprogs")
    path = directory / "disk.img"
    command("truncate", "-s", size, str(path))
    command(mkfs, "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(path))
    with mounted(target, "-o", options, str(path)):
        yield path
