"""`engine call` on a route that is to be withdrawn: the answer on stdout, the warning once on stderr."""

import asyncio
import json
import sys

import pytest

from engine.contract.deprecation import Deprecated
from engine.contract.profile import Profile
from engine.emulator.server import Emulator

pytestmark = pytest.mark.anyio

ROW = Deprecated(
    method="GET", path_template="/v1/jobs", deprecated_at="2026-05-01T00:00:00Z", sunset_at="2126-06-01T00:00:00Z",
    successor="/v2/jobs",
)  # fmt: skip


async def _call(url: str, *words: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "engine", "--set", f"platform.emulator.url={url}", "call", *words,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_a_route_on_its_way_out_is_said_beside_the_answer() -> None:
    """One line with the dates and the successor; stdout stays the answer, and other routes say nothing."""
    async with Emulator(profile=Profile(deprecations=(ROW,))) as emulator:
        code, out, err = await _call(emulator.base_url, "jobs.list")
        _, _, other = await _call(emulator.base_url, "reference.index")

    assert (code, json.loads(out)["jobs"]) == (0, [])
    assert err == (
        "warning: jobs.list (GET /v1/jobs) is deprecated since 2026-05-01 and is to be withdrawn from 2126-06-01;"
        " its successor is /v2/jobs [platform.deprecated]\n"
    )
    assert other == ""
