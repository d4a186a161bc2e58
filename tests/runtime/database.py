"""A real PostgreSQL for tests: a cluster of its own in a temporary directory, on a loopback port, with a password."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

USER, PASSWORD = "engine", "pässwörd of t3sts"
_NOBODY = 65534


@cache
def _program(name: str) -> str | None:
    """Where a program of the server is; Debian keeps them by version, out of the path."""
    if found := shutil.which(name):
        return found
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return str(versions[-1]) if versions else None


class Server:
    """One cluster. It refuses to run as root, so root starts it as nobody."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = _free_port()
        self._created = 0
        self._who: dict[str, Any] = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.getuid() == 0 else {}
        self._process: subprocess.Popen[str] | None = None
        secret = directory / "password"
        secret.write_text(PASSWORD, encoding="utf-8")
        if self._who:
            for path in (directory, secret):
                os.chown(path, _NOBODY, _NOBODY)
        asked = ["-D", str(directory / "data"), "-U", USER, "--auth=scram-sha-256", f"--pwfile={secret}"]
        made = subprocess.run(
            [str(_program("initdb")), *asked, "--no-sync", "--encoding=UTF8", "--locale=C"],
            capture_output=True, text=True, check=False, cwd=directory, **self._who,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr

    def start(self, **options: str) -> None:
        """Start, and wait until it takes connections."""
        settings = {
            "port": str(self.port), "listen_addresses": "127.0.0.1", "unix_socket_directories": "",
            "fsync": "off", "max_connections": "20", "log_min_messages": "warning", **options,
        }  # fmt: skip
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        log = (self.directory / "log").open("a")
        self._process = subprocess.Popen(
            [str(_program("postgres")), "-D", str(self.directory / "data"), *arguments],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.directory, text=True, **self._who,
        )  # fmt: skip
        log.close()
        self._wait()

    def _wait(self) -> None:
        said = self.directory / "data" / "postmaster.pid"
        while True:
            assert self._process is not None
            assert self._process.poll() is None, (self.directory / "log").read_text()
            # The last line of its file says when connections are taken.
            if said.exists() and said.read_text().splitlines()[-1:] and "ready" in said.read_text().splitlines()[-1]:
                return

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """Stop; SIGQUIT is a crash, after which it recovers; SIGINT cuts connections in order."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(how)
            self._process.wait(timeout=30)

    def url(self, database: str = "postgres", *, password: str = PASSWORD) -> str:
        """A connection URL."""
        return f"postgresql://{USER}:{quote(password)}@127.0.0.1:{self.port}/{database}"

    def create(self) -> str:
        """An empty database."""
        self._created += 1
        name = f"d{self._created}"
        self.ask(f"CREATE DATABASE {name}")
        return name

    def ask(self, sql: str, *values: Any, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run statements in a connection of our own; rows of the last as tuples."""
        import asyncpg

        async def run() -> list[tuple[Any, ...]]:
            connection = await asyncpg.connect(self.url(database))
            try:
                if not values and ";" in sql:
                    await connection.execute(sql)
                    return []
                return [tuple(row) for row in await connection.fetch(sql, *values)]
            finally:
                await connection.close()

        # On a thread of its own: who asks may stand on a loop.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, run()).result()


@contextmanager
def serving() -> Iterator[Server]:
    """A server that runs, and goes with everything it wrote; the test is skipped where PostgreSQL is not installed."""
    if not _program("postgres") or not _program("initdb"):
        pytest.skip("postgresql: not installed")
    directory = Path(tempfile.mkdtemp(prefix="engine-postgres-"))
    server: Server | None = None
    try:
        server = Server(directory)
        server.start()
        yield server
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(directory, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
