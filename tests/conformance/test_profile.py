"""Learning a fact changes one row of the contract profile, and client and emulator change together.

For real: the package is copied, the row is rewritten in the copy's `contract/profile.py`, and another process runs
the copy's client against the copy's emulator (`observing`).
"""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60


@pytest.fixture
def port():
    """A port that was free a moment ago."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture
def observe(tmp_path, port):
    """Run a copy of the engine in which these rows are others, given as text; what it did."""

    def run(**rows):
        shutil.copytree(ROOT / "engine", tmp_path / "engine", ignore=shutil.ignore_patterns("__pycache__"))
        profile = tmp_path / "engine" / "contract" / "profile.py"
        lines = profile.read_text(encoding="utf-8").splitlines(keepends=True)
        for name, value in rows.items():
            [at] = [number for number, line in enumerate(lines) if line.startswith(f"    {name}: ")]
            head, equals, _ = lines[at].partition(" = ")
            assert equals
            lines[at] = f"{head} = {value!r}\n"
        profile.write_text("".join(lines), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, Path(__file__).with_name("observing.py"), str(port)],
            capture_output=True, text=True, timeout=DEADLINE_S, check=False, cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        seen = json.loads(done.stdout)
        assert Path(seen.pop("where")).is_relative_to(tmp_path)
        return seen

    return run


def test_as_it_stands(observe) -> None:
    """The rows of today, so that each test below is seen to change something."""
    seen = observe()

    assert seen["client_route"] == ["argus:jobs:read"]
    assert "argus:jobs:read" in seen["catalogued"]
    assert (seen["with_settings"], seen["expected_aud"], seen["old_aud"], seen["sandbox"]) == ("ok",) * 4
    assert (seen["aud"], seen["sandbox_aud"]) == ("https://api.knogin.com", "sandbox")
    assert seen["expected_iss"].startswith("trust.")
    assert (seen["page"], seen["walked"], seen["long_s"], seen["short_s"]) == (5, 5, 50_000, 60)


def test_the_scope_of_routes(observe) -> None:
    """Another scope is named by the client's route, asked for by default, described, on offer, and wanted."""
    seen = observe(jobs_read_scopes=("argus:jobs:look",))

    assert seen["client_route"] == ["argus:jobs:look"]
    assert "argus:jobs:look" in seen["client_asks"]
    assert "argus:jobs:look" in json.dumps(seen["described"])
    assert "argus:jobs:look" in seen["catalogued"]
    assert "argus:jobs:read" not in seen["catalogued"]
    assert seen["with_settings"] == "ok"
    assert "lacks the scope argus:jobs:look" in seen["with_others"]


def test_the_scope_of_administrators(observe) -> None:
    """All of a client's own minting goes on: its token for the sandbox is asked for with the other scope."""
    seen = observe(admin_scopes=("argus:platform:root",))

    assert "argus:platform:root" in seen["catalogued"]
    assert "argus:platform:admin" not in seen["catalogued"]
    assert (seen["sandbox"], seen["long_s"]) == ("ok", 50_000)


def test_audiences(observe) -> None:
    """Tokens carry the other audiences, and a client takes these and no longer the old one."""
    seen = observe(audience="https://api.example", sandbox_audience="playground")

    assert (seen["aud"], seen["sandbox_aud"]) == ("https://api.example", "playground")
    assert (seen["expected_aud"], seen["sandbox"]) == ("ok", "ok")
    assert seen["old_aud"].startswith("trust.")


def test_the_issuer(observe, port) -> None:
    """A client that is told nothing expects the row's issuer. The emulator always signs with its own address."""
    seen = observe(issuer=f"http://127.0.0.1:{port}")

    assert seen["expected_iss"] == "ok"


def test_clamps(observe) -> None:
    """Pages and lives of tokens end at the other bounds, and the client walks the shorter pages to the end."""
    seen = observe(page_limit=2, page_limit_max=3, token_ttl_min_s=90, token_ttl_max_s=120)

    assert (seen["page"], seen["walked"]) == (3, 5)
    assert (seen["long_s"], seen["short_s"]) == (120, 90)
