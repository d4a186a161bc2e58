"""A real server that speaks S3, on loopback: a process of its own, with a folder in which objects are files."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from engine.settings import ObjectsSettings, Secret

KEY_ID, KEY = "an-id-of-tests", "a-key-of-tests"


class Store:
    """The server; `root` holds a folder for each bucket."""

    def __init__(self, root: Path) -> None:
        self.root = root
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def settings(self) -> ObjectsSettings:
        """How it is reached."""
        return ObjectsSettings(
            endpoint=f"http://127.0.0.1:{self.port}",
            region="us-east-1",
            access_key_id=Secret(KEY_ID),
            secret_access_key=Secret(KEY),
        )

    def bucket(self, name: str) -> Path:
        """The folder of a bucket, made if need be."""
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        return folder

    def start(self) -> None:
        """Start, and wait until it takes connections."""
        command = [sys.executable, "-m", "nanio", "serve", "--data-dir", str(self.root), "--no-access-log"]
        self._process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(self.port), "--log-level", "error"],
            env={**os.environ, "NANIO_ACCESS_KEY": KEY_ID, "NANIO_SECRET_KEY": KEY},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while True:
            assert self._process.poll() is None
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5):
                return

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=20)


@contextmanager
def serving_objects(root: Path) -> Iterator[Store]:
    """A server that runs; the test is skipped where it is not installed."""
    if importlib.util.find_spec("nanio") is None or importlib.util.find_spec("obstore") is None:
        pytest.skip("nanio, obstore: not installed")
    store = Store(root)
    store.start()
    try:
        yield store
    finally:
        store.stop()
