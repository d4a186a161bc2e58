"""The fetch lane's work: a result, streamed, decoded window by window, matched against what was sent.

A job's rows reach the caller in encoded chunks while the body is still coming, so memory is bounded
whatever the result's size. Landing and committing are the caller's; what a row means is `interpret`'s.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Literal, TypeVar

import msgspec

from engine.client.client import Client
from engine.codec.array import ArraySplitter
from engine.codec.inflate import inflater
from engine.codec.lines import Lines, LineSplitter
from engine.codec.payload import decode
from engine.contract.exchange import Trace
from engine.contract.kinds import ExportFile, Kind
from engine.errors import BrokenAnswer, CapExceeded, RecordError, Unbalanced
from engine.jobs.interpret import Interpreter, Reading, Taken, difference, disagreement
from engine.jobs.key import digest_keys
from engine.jobs.lease import Encoding, read_lease
from engine.jobs.records import Ended, Recall
from engine.store.rows import JobRow
from engine.transport.patience import Patience

T = TypeVar("T")

_MANIFEST_TRIES = 6
_DOCUMENT_MAX = 16 * 1024 * 1024
_INFLATED_MAX = 64 * 1024**3
_RATIO_MAX = 100
_LINE_MAX = 64 * 1024 * 1024
_ENCODINGS: dict[str, Literal["none", "gzip", "zstd"]] = {
    "identity": "none",
    "": "none",
    "gzip": "gzip",
    "x-gzip": "gzip",
    "zstd": "zstd",
}


class Outcome(msgspec.Struct, gc=False, kw_only=True):
    """What became of a job's rows, once its whole result was read and matched."""

    accepted: int
    ended: list[Ended]
    body_bytes: int


class _Tail(msgspec.Struct, gc=False):
    """A result document without its rows."""

    summary: dict[str, Any] | None = None


class _Manifest(msgspec.Struct, gc=False):
    """A result document that lists files."""

    files: list[ExportFile]


class Fetcher:
    """Reads results of one pipeline's jobs."""

    def __init__(
        self, *, client: Client, kind: Kind, results: str, reading: Reading, recall: Recall, patience: Patience
    ) -> None:
        self._client = client
        self._kind = kind
        self._results = results
        self._reading = reading
        self._recall = recall
        self._patience = patience

    async def fetch(self, job: JobRow, land: Callable[[bytes, int], Awaitable[None]]) -> Outcome:
        """Stream the job's result; `land(chunk, rows)` is awaited for each window's accepted rows.

        Raises:
            Unbalanced: the result does not account for exactly the rows sent, or the platform counts differently.
            BrokenAnswer, CapExceeded, RecordError: the result cannot be read as what it claims to be.
            Missing: it is past its retention.
        """
        interpreter = Interpreter(self._reading, rows_max=job.rows)
        outcome = Outcome(accepted=0, ended=[], body_bytes=0)
        try:
            if self._kind.manifest:
                await self._read_files(job, interpreter, outcome, land)
            else:
                await self._read_document(job, interpreter, outcome, land)
            await self._match(job, interpreter)
        except Unbalanced as exc:
            raise Unbalanced(
                f"job {job.remote_id} ({job.kind}): {exc.message}", hint=exc.hint, job=job.remote_id
            ) from exc
        return outcome

    async def _read_document(
        self, job: JobRow, interpreter: Interpreter, outcome: Outcome, land: Callable[[bytes, int], Awaitable[None]]
    ) -> None:
        splitter = ArraySplitter(self._results)
        async for piece in self._body(job, self._lease(job), outcome):
            for window in splitter.feed(piece):
                await _keep(interpreter.window(window), outcome, land)
        tail = _document(splitter.finish(), _Tail)
        if tail.summary is not None and (said := disagreement(tail.summary, interpreter.statuses, job.rows)):
            raise Unbalanced(said)

    async def _read_files(
        self, job: JobRow, interpreter: Interpreter, outcome: Outcome, land: Callable[[bytes, int], Awaitable[None]]
    ) -> None:
        for file in (await self._manifest(job)).files:
            await self._read_file(job, file, interpreter, outcome, land)

    async def _manifest(self, job: JobRow) -> _Manifest:
        """The file list, read again from its start where it broke: its URLs are new each time, so are its bytes."""
        for tries in range(1, _MANIFEST_TRIES):
            try:
                return await self._manifest_once(job)
            except BrokenAnswer:
                await self._patience.pause(0.05 * 2**tries)
        return await self._manifest_once(job)

    async def _manifest_once(self, job: JobRow) -> _Manifest:
        ignored = Outcome(accepted=0, ended=[], body_bytes=0)
        pieces: list[bytes] = []
        async for piece in self._body(job, self._lease(job), ignored):
            pieces.append(piece)
            if ignored.body_bytes > _DOCUMENT_MAX:
                raise BrokenAnswer(f"job {job.remote_id}: the file list is over {_DOCUMENT_MAX} bytes")
        return _document(b"".join(pieces), _Manifest)

    async def _read_file(
        self,
        job: JobRow,
        file: ExportFile,
        interpreter: Interpreter,
        outcome: Outcome,
        land: Callable[[bytes, int], Awaitable[None]],
    ) -> None:
        urls = iter((file.url,))

        async def lease() -> str:
            if (first := next(urls, None)) is not None:
                return first
            fresh = [entry.url for entry in (await self._manifest(job)).files if entry.name == file.name]
            if not fresh:
                raise BrokenAnswer(f"job {job.remote_id}: file {file.name} is no longer in the manifest")
            return fresh[0]

        before, rows = outcome.body_bytes, len(interpreter.keys)
        digest = hashlib.sha256()
        lines = LineSplitter(_LINE_MAX)
        async for piece in self._body(job, lease, outcome, digest=digest):
            if (window := _array_of(lines.feed(piece))) is not None:
                await _keep(interpreter.window(window), outcome, land)
        if (window := _array_of(lines.finish())) is not None:
            await _keep(interpreter.window(window), outcome, land)
        _check_file(job, file, outcome.body_bytes - before, len(interpreter.keys) - rows, digest.hexdigest())

    def _lease(self, job: JobRow) -> Callable[[], Awaitable[str]]:
        async def ask() -> str:
            answered = await self._client.jobs.result(job.remote_id or "", trace=Trace(job.trace_id, job.span_id))
            return answered.answer.signed_url

        return ask

    async def _body(
        self, job: JobRow, lease: Callable[[], Awaitable[str]], outcome: Outcome, *, digest: Any = None
    ) -> AsyncIterator[bytes]:
        """The body of a signed URL, inflated, in pieces; counts its wire bytes into `outcome`."""
        encoding = Encoding()
        inflate = None
        async for chunk in read_lease(
            self._client,
            lease,
            trace=Trace(job.trace_id, job.span_id),
            patience=self._patience,
            encoding=encoding,
        ):
            outcome.body_bytes += len(chunk)
            if digest is not None:
                digest.update(chunk)
            if inflate is None:
                name = _ENCODINGS.get(encoding.content_encoding)
                if name is None:
                    raise BrokenAnswer(
                        f"the result has content encoding {encoding.content_encoding!r}, not gzip or zstd"
                    )
                inflate = inflater(name, max_bytes=_INFLATED_MAX, max_ratio=_RATIO_MAX)
            for piece in inflate.feed(chunk):
                yield piece
        if inflate is not None:
            inflate.finish()

    async def _match(self, job: JobRow, interpreter: Interpreter) -> None:
        """Every row sent must have been answered exactly once."""
        if digest_keys(interpreter.keys) == job.keys_digest:
            return
        sent = (await self._recall(job)).keys
        raise Unbalanced(
            difference(sent, interpreter.keys),
            hint="nothing was committed for this job; the next run fetches its result again",
        )


async def _keep(taken: Taken, outcome: Outcome, land: Callable[[bytes, int], Awaitable[None]]) -> None:
    outcome.ended += taken.ended
    outcome.accepted += taken.accepted
    if taken.accepted:
        await land(taken.chunk, taken.accepted)


def _document(text: bytes, kind: type[T]) -> T:
    """A document of the platform's own; one that cannot be read was broken on its way, and is read again."""
    try:
        return decode(text, kind, max_bytes=_DOCUMENT_MAX)
    except RecordError as exc:
        raise BrokenAnswer(f"the result cannot be read: {exc.message}") from exc


def _array_of(lines: Lines | None) -> bytes | None:
    """NDJSON lines as one JSON array text; blank lines are no rows."""
    if lines is None:
        return None
    if lines.cut:
        raise CapExceeded(f"a line of the result is longer than {_LINE_MAX} bytes")
    texts = [text for text in lines.texts if text]
    return b"[" + b",".join(texts) + b"]" if texts else None


def _check_file(job: JobRow, file: ExportFile, body_bytes: int, rows: int, sha256: str) -> None:
    if body_bytes != file.bytes or rows != file.rows:
        raise Unbalanced(
            f"file {file.name}: the manifest says {file.rows} rows in {file.bytes} bytes, "
            f"it holds {rows} rows in {body_bytes} bytes"
        )
    if file.sha256 and sha256 != file.sha256.removeprefix("sha256:").lower():
        raise BrokenAnswer(f"job {job.remote_id}, file {file.name}: its SHA-256 is not the manifest's")
