"""P11: how many `POST /v1/jobs` one core of the emulator answers.

    python -m benchmarks.emulator_core [--quick]

The server has a core to itself and is driven over 64 connections from the other one, each request with a key of its
own. Its CPU time is compared, so that a driver that is too slow would not matter. The emulator verifies the token,
checks the scopes, keeps the key, makes the job and runs it; the peer is FastAPI on uvicorn with httptools and uvloop,
which answers the same and does none of that.
"""

from __future__ import annotations

import json
import urllib.request
from urllib.parse import urlencode, urlsplit

from benchmarks.command import alone
from benchmarks.peers.fastapi_jobs import TOKEN
from benchmarks.rounds import Contestant, Size, absent, cpu_of, perform, serving
from benchmarks.row import OURS, Goal, Reading, Readings, Row
from engine.contract.profile import PROFILE

REQUESTS = 20_000
PEER = "FastAPI + uvicorn"
_BODY = json.dumps({"kind": "intelligence.enrich.bulk", "payload": {"profile_ids": ["r1"]}})

ROW = Row(
    id="P11",
    title="the emulator's POST /v1/jobs",
    unit="requests per second of a core",
    goals=(Goal("2 × FastAPI + uvicorn", 2.0, against=PEER, is_ceiling=False),),
    peer=PEER,
    is_rate=True,
    note="the peer verifies no token, runs no job",
)


def _drive(module: str, words: tuple[str, ...], token: str | None, size: Size) -> Reading:
    count = size.of(REQUESTS, quick=2_000)
    with serving(module, *words) as server:
        where = urlsplit(server["url"])
        arguments = {
            "host": where.hostname,
            "port": where.port,
            "token": token or _token(server),
            "connections": 64,
            "body": _BODY,
        }
        before = cpu_of(server["pid"])
        perform(Contestant("driver", "benchmarks.driver:posting", arguments | {"count": count}))
        used_s = max(cpu_of(server["pid"]) - before, 0.01)
    return Reading(count / used_s, cpu_us_per_unit=used_s * 1e6 / count)


def _token(server: dict[str, str]) -> str:
    """One for the app that the emulator knows."""
    asked = {
        "grant_type": "client_credentials",
        "client_id": server["client_id"],
        "client_secret": server["client_secret"],
        "scope": PROFILE.jobs_write_scopes[0],
    }
    url, form = f"{server['url']}/v1/oauth/token", urlencode(asked).encode()
    with urllib.request.urlopen(url, form) as answer:
        token: str = json.load(answer)["access_token"]
    return token


def measure(size: Size) -> dict[str, Readings]:
    """A fresh server each time, so that none carries the jobs of another round."""
    peer = Contestant(PEER, "", {}, ("fastapi", "uvicorn", "httptools"))
    gone = absent(peer)
    series: dict[str, Readings] = {OURS: [], PEER: gone or []}
    for _ in range(size.rounds):
        for name, readings in series.items():
            if not isinstance(readings, list):
                continue
            if name == OURS:
                words = ("emulator", "--latency", "60s")
                readings.append(_drive("engine", words, None, size))
            else:
                readings.append(_drive("benchmarks.peers.fastapi_jobs", (), TOKEN.removeprefix("Bearer "), size))
    return series


if __name__ == "__main__":
    alone(ROW, measure)
