"""Fixtures that every room of tests may use: the event loop, the outside vectors, hypothesis' manners.

What belongs to one room (an emulator, a ledger, a fake clock) lives in that room's own conftest.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.runtime.database import Server, serving

ROOT = Path(__file__).resolve().parents[1]

# A deadline per example would measure how busy the machine is, not how the code behaves.
settings.register_profile("engine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("engine")


def pytest_configure(config: pytest.Config) -> None:
    """Let the processes that tests start share compiled code where the environment forbids to write it.

    Hundreds of them start `engine`, and each would compile it again, which is a third of its start. The code lies in
    a folder of this run that goes with it, so what the environment asks of the tree itself is kept.
    """
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", "") and "PYTHONPYCACHEPREFIX" not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="bytecode-", ignore_cleanup_errors=True)
        config.add_cleanup(folder.cleanup)
        os.environ["PYTHONPYCACHEPREFIX"] = folder.name


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """The loop production runs on: asyncio with uvloop.

    Session scope, so that an async fixture of any scope may be built on it.
    """
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
def vectors() -> Callable[[str], Path]:
    """Find one folder of outside test data by name, as in `vectors("jcs")`.

    The data lies beside the repository, never in it. Where it is absent the test skips by name, so
    the suite passes without it.
    """

    def folder(name: str) -> Path:
        path = ROOT.parent / "shared" / "vectors" / name
        if not path.is_dir():
            pytest.skip(f"vectors: {name} not found")
        return path

    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL of ours, on loopback; skips by name where it is not installed."""
    with serving() as server:
        yield server
