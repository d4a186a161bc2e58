"""HTTP sink: posts the rows of a part to a URL of the user's, batch by batch, each with a key that names it.

A batch is delivered at least once. Its `Idempotency-Key` is made of the pipeline, the ledger's identity, the part, the
batch and its bytes, so a receiver that honours keys takes each batch once, however often it is asked. A receiver that
is away, or wants fewer requests, is waited for; rows it refuses are found by halving and become dead letters.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from engine.clock import SystemClock
from engine.codec.payload import loads
from engine.components.sinks.directory import PartRecord
from engine.components.sinks.ndjson import lines_of
from engine.components.sinks.spool import Spool
from engine.contract.exchange import Request, Response
from engine.contract.problem import retry_after_s
from engine.errors import ConfigError, EngineError, OutputError
from engine.pipeline.spec import SinkSpec
from engine.ports import Transport
from engine.record import RefusedRow
from engine.retry import Policy
from engine.telemetry.redact import Redactor
from engine.transport.choosing import open_transport
from engine.transport.guard import Guard
from engine.transport.retrying import RetryingTransport

_SAID_CHARS = 200
# What says that the request as such is wrong, whatever its rows: the pipeline's file is to be mended.
_WRONG_REQUEST = frozenset((401, 402, 403, 404, 405, 406, 407, 410, 411, 414, 415, 421, 426, 431, 451))
# What passes by itself.
_PASSING = frozenset((408, 425, 429))
_TYPES = {"ndjson": "application/x-ndjson", "json": "application/json"}
# A part of which more is refused is not what the receiver expects at all.
_REFUSED_MAX = 1_000
# A hiccup is answered here; whoever is away longer is waited for where a stop is heard.
_PATIENCE = Policy(attempts=3, ceiling_s=1.0, retry_after_ceiling_s=1.0)
_PAUSE_MAX_S = 300.0


class HttpSink:
    """A `ports.Sink` to one URL. `owner` is the ledger's name for itself; `key` the member that names a row."""

    def __init__(self, spec: SinkSpec, *, pipeline: str, key: str, owner: str) -> None:
        if spec.endpoint is None:
            raise ConfigError("an http sink needs `endpoint`")
        self.spec = spec
        self.endpoint = spec.endpoint
        self.pipeline = pipeline
        self.key = key
        self.owner = owner
        self.headers = {name: secret.reveal() for name, secret in spec.headers.items()}
        self.redact = Redactor(self.headers.values())

    def encode(self, rows: Sequence[Any]) -> bytes:
        """Rows as they are spooled."""
        return lines_of(rows)

    def begin(self, *, epoch: int, number: int) -> HttpPart:
        """Open a part; the receiver hears of it when it is finished."""
        return HttpPart(self, epoch=epoch, number=number)

    def sweep(self, keep: set[str]) -> int:
        """What was taken cannot be taken back."""
        return 0

    def write_manifest(self, document: Mapping[str, Any]) -> str:
        """There is no place for one."""
        return ""


class _Batch(msgspec.Struct, frozen=True):
    """Rows of a part as they lie in its spool; `first` is the index of the first."""

    first: int
    lines: list[bytes]


class HttpPart(Spool):
    """A part that is posted at its end. Batches that were taken are not sent again by this process."""

    def __init__(self, sink: HttpSink, *, epoch: int, number: int) -> None:
        super().__init__(epoch=epoch, number=number)
        self._sink = sink
        self._taken = 0
        self._not_before = 0.0
        self._refused: list[RefusedRow] = []

    def finish(self) -> PartRecord:
        """Post every row; see `ports.Part.finish`.

        Raises:
            OutputError: the receiver is away for now (fact `is_away`), or refuses more rows than a part may lose.
            ConfigError: it refuses the request as such.
        """
        if time.monotonic() < self._not_before:
            raise self._away("asked for a pause")
        self.pour()
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(self._deliver())
        return self.record(tuple(self._refused))

    async def _deliver(self) -> None:
        # The user's own configuration names this host, so it may lie inside.
        direct = open_transport("direct", concurrency=1, guard=Guard(allow_private=True))
        transport = RetryingTransport(direct, SystemClock(), policy=_PATIENCE)
        try:
            for number, batch in enumerate(self._batches()):
                if number >= self._taken:
                    self._refused += await self._give(transport, batch)
                    self._taken = number + 1
        finally:
            await transport.aclose()

    def _batches(self) -> Iterator[_Batch]:
        rows_max, bytes_max = self._sink.spec.batch.rows, self._sink.spec.batch.bytes
        first, held, size = 0, list[bytes](), 0
        for lines in self.lines():
            for line in lines:
                if held and (len(held) >= rows_max or size + len(line) >= bytes_max):
                    yield _Batch(first, held)
                    first, held, size = first + len(held), [], 0
                held.append(line)
                size += len(line) + 1
        if held:
            yield _Batch(first, held)

    async def _give(self, transport: Transport, batch: _Batch) -> list[RefusedRow]:
        """Send a batch, or its halves where it is refused, down to the rows that are at fault."""
        response = await self._post(transport, batch)
        if 200 <= response.status < 300:
            return []
        if len(batch.lines) > 1:
            middle = len(batch.lines) // 2
            halves = (_Batch(batch.first, batch.lines[:middle]), _Batch(batch.first + middle, batch.lines[middle:]))
            return [row for half in halves for row in await self._give(transport, half)]
        if len(self._refused) >= _REFUSED_MAX:
            raise OutputError(
                f"{self._sink.endpoint} refuses more than {_REFUSED_MAX} rows of one part; the last: {response.status}",
                hint="look at what it says of one of them: these are not the rows that it expects",
            )
        return [self._refusal(batch, response)]

    async def _post(self, transport: Transport, batch: _Batch) -> Response:
        sink, spec = self._sink, self._sink.spec
        lines = batch.lines
        body = b"".join([b"[", b",".join(lines), b"]"]) if spec.format == "json" else b"\n".join([*lines, b""])
        request = Request(
            method=spec.method,
            url=sink.endpoint,
            headers={**sink.headers, "Content-Type": _TYPES[spec.format], "Idempotency-Key": self._key(body)},
            body=body,
            route="sink.http",
            timeout_s=spec.timeout,
        )
        try:
            response = await transport.send(request)
        except EngineError as exc:
            raise self._away(f"did not take a batch: {sink.redact(exc.message)}") from exc
        if response.status >= 500 or response.status in _PASSING:
            asked_s = retry_after_s(response.headers, now_s=time.time())
            self._not_before = time.monotonic() + min(asked_s or 0.0, _PAUSE_MAX_S)
            raise self._away(f"answers {response.status}")
        if 300 <= response.status < 400 or response.status in _WRONG_REQUEST:
            raise ConfigError(
                f'[sink] type = "http": {sink.endpoint} answers {response.status}: {self._said(response)}',
                hint="check `endpoint`, `method` and `headers`; redirects are not followed",
            )
        return response

    def _key(self, body: bytes) -> str:
        """What names this batch. With its bytes in it, for a part that was not committed may come with other rows."""
        sink = self._sink
        names = "\x1f".join((sink.pipeline, sink.owner, str(self.epoch), str(self.number)))
        return hashlib.sha256(names.encode() + b"\x1f" + hashlib.sha256(body).digest()).hexdigest()[:36]

    def _refusal(self, batch: _Batch, response: Response) -> RefusedRow:
        row = loads(batch.lines[0])
        key = row.get(self._sink.key) if isinstance(row, dict) else None
        if not isinstance(key, str | int) or isinstance(key, bool):
            raise OutputError(
                f"{self._sink.endpoint} refuses row {batch.first} of {self.name}, which has no `{self._sink.key}` "
                "to be named by",
                hint="declare the key of the rows in [results.fields], so that a refused row can become a dead letter",
            )
        return RefusedRow(batch.first, str(key), f"the receiver answers {response.status}: {self._said(response)}")

    def _said(self, response: Response) -> str:
        """The first words of an answer, on one line and without secrets."""
        words = response.body[: 4 * _SAID_CHARS].decode("utf-8", "replace").split()
        return self._sink.redact(" ".join(words))[:_SAID_CHARS] or "nothing more"

    def _away(self, said: str) -> OutputError:
        hint = "the run waits for it and goes on by itself; look at what the receiver says"
        return OutputError(f'[sink] type = "http": {self._sink.endpoint} {said}', hint=hint, is_away=True)
