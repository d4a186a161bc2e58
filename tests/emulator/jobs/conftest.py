"""Jobs against a running emulator: create, wait for the end, read the result; and a desk for work without one."""

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from engine.clock import ManualClock
from engine.emulator import effects, jobs, tracing
from engine.emulator.crafts import CRAFTS
from engine.emulator.desk import JobDesk
from engine.emulator.entities import Entities
from engine.emulator.faults import Faults
from engine.emulator.jobtable import Job
from engine.emulator.results import pieces
from engine.emulator.state import Options, State
from engine.emulator.work import Outcome, Task, run_to_end

# A minute of polling on a slow machine; a job of these tests takes a hundredth of a second.
_POLLS_MAX = 60_000


class Jobs:
    """A client of the job routes with one token."""

    def __init__(self, api: Any, token: str, *, sandbox: bool = False) -> None:
        self._api = api
        self.token = token
        self._sandbox = sandbox

    async def ask(self, method: str, path: str, **more: Any) -> Any:
        return await self._api.send(method, path, token=self.token, sandbox=self._sandbox, **more)

    async def post(self, kind: str, payload: Any, *, key: str | None = None, **members: Any) -> Any:
        headers = {} if key is None else {"Idempotency-Key": key}
        return await self.ask("POST", "/v1/jobs", json={"kind": kind, "payload": payload, **members}, headers=headers)

    async def create(self, kind: str, payload: Any, **members: Any) -> str:
        answer = await self.post(kind, payload, **members)
        assert answer.status == 201, answer.body
        return answer.json["id"]

    async def get(self, job_id: str) -> dict[str, Any]:
        answer = await self.ask("GET", f"/v1/jobs/{job_id}")
        assert answer.status == 200, answer.body
        return answer.json

    async def until(self, job_id: str, *statuses: str) -> dict[str, Any]:
        """Ask until the job is in one of these states."""
        for _ in range(_POLLS_MAX):
            job = await self.get(job_id)
            if job["status"] in statuses:
                return job
        raise AssertionError(f"still {job['status']}")

    async def end(self, job_id: str) -> dict[str, Any]:
        return await self.until(job_id, "succeeded", "failed", "cancelled")

    async def link(self, job_id: str) -> str:
        answer = await self.ask("GET", f"/v1/jobs/{job_id}/result")
        assert answer.status == 200, answer.body
        return answer.json["signed_url"]

    async def fetch(self, url: str, *, method: str = "GET", **headers: str) -> Any:
        """What a signed URL of this origin holds, asked for without a token."""
        parts = urlsplit(url)
        return await self._api.send(method, f"{parts.path}?{parts.query}", sandbox=self._sandbox, headers=headers)

    async def result(self, job_id: str) -> Any:
        answer = await self.fetch(await self.link(job_id))
        assert answer.status == 200, answer.body
        return answer.json

    async def run(self, kind: str, payload: Any, **members: Any) -> Any:
        """Create a job, wait for it, and read its result."""
        job_id = await self.create(kind, payload, **members)
        job = await self.end(job_id)
        assert job["status"] == "succeeded", job
        return await self.result(job_id)


@pytest.fixture
def options() -> Options:
    """Jobs that take about ten milliseconds."""
    return Options(latency_s=0.01)


@pytest.fixture
async def client(start: Callable[..., Any], options: Options) -> Jobs:
    """A client of a fresh emulator."""
    _, api = await start(options)
    return Jobs(api, await api.token())


@pytest.fixture
def connect() -> Callable[..., Any]:
    """What makes a client of an API caller, for another app or with `sandbox=` scenarios where named."""

    async def connected(api: Any, client_id: str = "app_local", *, sandbox: list[str] | None = None) -> Jobs:
        if sandbox is not None:
            return Jobs(api, await api.sandbox_token(*sandbox, client_id=client_id), sandbox=True)
        return Jobs(api, await api.token(client_id))

    return connected


class Bench:
    """Does the work of jobs on a state alone: no server, no waiting."""

    def __init__(self, state: State) -> None:
        self.state = state

    def job(self, kind: str, realm: str = "tnt") -> Job:
        now_ns = self.state.clock.now_ns()
        return Job(
            id=self.state.new_id(), realm=realm, tenant_id=realm, client_id="app", kind=kind, status="running",
            secrecy_level="standard", callback_url=None, trace_id="0" * 32, span_id="0" * 16, digest=b"",
            is_sandbox=False, created_ns=now_ns, updated_ns=now_ns,
        )  # fmt: skip

    def prepare(self, kind: str, payload: bytes, realm: str = "tnt") -> tuple[Job, Outcome]:
        """Do the work and leave its effects undone."""
        job = self.job(kind, realm)
        desk = JobDesk(self.state, job, Entities(self.state, realm))
        task = Task(job_id=job.id, realm=realm, kind=kind, payload=payload, now=self.state.now_text())
        return job, run_to_end(CRAFTS[kind].perform(task, desk))

    def run(self, kind: str, payload: Any, realm: str = "tnt") -> Any:
        """Do the work, apply its effects, and read the result document."""
        from engine.codec.payload import dumps, loads

        job, outcome = self.prepare(kind, dumps(payload), realm)
        with self.state.transaction():
            effects.commit(self.state, job.id, outcome.effects)
        return loads(self.file(job.id, ""))

    def file(self, job_id: str, name: str) -> bytes:
        return b"".join(pieces(self.state, job_id, name))


@pytest.fixture
def bench_with() -> Iterator[Callable[..., Bench]]:
    """A bench whose fault script has these rules."""
    opened: list[State] = []

    def begin(*rules: dict[str, Any]) -> Bench:
        state = State.open(Options(), clock=ManualClock(), faults=Faults(rules))
        state.apply_schema(tracing.SCHEMA)
        state.apply_schema(jobs.SCHEMA)
        opened.append(state)
        return Bench(state)

    yield begin
    for state in opened:
        state.close()


@pytest.fixture
def bench(bench_with: Callable[..., Bench]) -> Bench:
    """A bench without mischief."""
    return bench_with()


@pytest.fixture
def places() -> list[dict[str, Any]]:
    """Eight places in two countries."""
    return [
        {
            "external_id": f"p{number}",
            "label": f"Place {number}",
            "country": "DE" if number % 2 else "KE",
            "timezone": "Europe/Berlin" if number % 2 else "Africa/Nairobi",
            "latitude": 50.9 - number,
            "longitude": 10.3,
            "population": 10**number,
        }
        for number in range(1, 9)
    ]
