"""The fetch lane's work: a result, streamed, decoded window by window, matched against what was sent.

A job's rows reach the caller in encoded chunks while the body is still coming, so memory is bounded
whatever the result's size. Landing and committing are the caller's; what a row means is `interpret`'s.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Literal, Protocol, TypeVar

import msgspec

from engine.client.client import Client
from engine.codec.array import ArraySplitter
from engine.codec.inflate import Inflater, inflater
from engine.codec.payload import decode, encode
from engine.codec.rows import decode_small, stands_once
from engine.contract.exchange import Trace
from engine.contract.kinds import Kind
from engine.contract.profile import PROFILE
from engine.contract.results import ExportFile
from engine.errors import BrokenAnswer, RecordError, Unbalanced
from engine.jobs.interpret import Interpreter, Reading, Taken, difference, disagreement
from engine.jobs.key import digest_keys
from engine.jobs.lease import Encoding, read_lease
from engine.jobs.records import Ended, Recall
from engine.jobs.result_lines import BadLine, RowLines
from engine.jobs.tap import Sighting, Tap
from engine.store.rows import JobRow
from engine.transport.patience import Patience

T = TypeVar("T")

_MANIFEST_TRIES = 6
# A document up to this size is one window; finding the ends of its rows would cost more than decoding it.
_SMALL_BYTES = 256 * 1024
_REASON_MAX = 500
_DOCUMENT_MAX = 16 * 1024 * 1024
_ENCODINGS: dict[str, Literal["none", "gzip", "zstd"]] = {
    "identity": "none",
    "": "none",
    "gzip": "gzip",
    "x-gzip": "gzip",
    "zstd": "zstd",
}


class Taker(Protocol):
    """Who takes the rows of one result."""

    async def take(self, chunk: bytes, rows: int) -> None:
        """Accepted rows of a window, encoded."""

    async def weigh(self, held_bytes: int) -> None:
        """How much of the body is held back just now; may wait before more is read."""


class Outcome(msgspec.Struct, gc=False, kw_only=True):
    """What became of a job's rows, once its whole result was read and matched.

    `decode_s` is what decoding took; `nulled` how many values of which field did not fit and became null.
    """

    accepted: int
    ended: list[Ended]
    body_bytes: int
    decode_s: float = 0.0
    nulled: dict[str, int] = {}


class _Whole(msgspec.Struct, gc=False):
    """A small result document at once: its rows are one window."""

    rows: msgspec.Raw
    summary: dict[str, Any] | None = None


class _Tail(msgspec.Struct, gc=False, rename={"summary": PROFILE.result_summary}):
    """A result document without its rows."""

    summary: dict[str, Any] | None = None


class _Manifest(msgspec.Struct, gc=False, rename={"files": PROFILE.export_bulk.results}):
    """A result document that lists files."""

    files: list[ExportFile]


class _Fetch(msgspec.Struct, gc=False):
    """One result being read."""

    job: JobRow
    interpreter: Interpreter
    taker: Taker
    outcome: Outcome
    bad: list[BadLine]
    tap: Tap

    async def keep(self, window: Taken | bytes) -> None:
        """Hand on what a window brought; one that was not taken yet is taken now."""
        taken = self.timed(self.interpreter.window)(window) if isinstance(window, bytes) else window
        self.outcome.ended += taken.ended
        self.outcome.accepted += taken.accepted
        if taken.accepted:
            await self.taker.take(taken.chunk, taken.accepted)

    def timed(self, read: Callable[[bytes], T]) -> Callable[[bytes], T]:
        """A reader of windows whose time is counted."""

        def run(window: bytes) -> T:
            started = time.perf_counter()
            try:
                taken = read(window)
            finally:
                self.outcome.decode_s += time.perf_counter() - started
            # What could not be taken at once comes here again.
            if "results" in self.tap.wanted and taken is not None:
                name = f"{self.job.epoch}/{self.job.seq}"
                self.tap.offer(Sighting(stage="results", texts=(window,), is_window=True, job=name))
            return taken

        return run


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
        self._caps = reading.caps
        self._member = encode(results)
        self._small = _small_document(results)
        self._patience = patience
        self.tap = Tap()  # Of the run, where it has one.

    async def fetch(self, job: JobRow, taker: Taker) -> Outcome:
        """Stream the job's result to `taker`, window by window.

        Raises:
            Unbalanced: the result does not account for exactly the rows sent, or the platform counts differently.
            BrokenAnswer, CapExceeded, RecordError: the result cannot be read as what it claims to be.
            Missing: it is past its retention.
        """
        under_way = _Fetch(
            job,
            Interpreter(self._reading, rows_max=job.rows),
            taker,
            Outcome(accepted=0, ended=[], body_bytes=0),
            [],
            self.tap,
        )
        try:
            if self._kind.manifest:
                for file in (await self._manifest(job)).files:
                    await self._read_file(under_way, file)
            else:
                await self._read_document(under_way)
            await self._match(under_way)
            under_way.outcome.nulled = dict(under_way.interpreter.nulled)
        except Unbalanced as exc:
            raise Unbalanced(
                f"job {job.remote_id} ({job.kind}): {exc.message}", hint=exc.hint, job=job.remote_id
            ) from exc
        return under_way.outcome

    async def _read_document(self, under_way: _Fetch) -> None:
        job, interpreter = under_way.job, under_way.interpreter
        splitter = ArraySplitter(
            self._results, take=under_way.timed(interpreter.elements), max_element=self._caps.element
        )
        first: list[bytes] | None = []
        async with aclosing(self._body(job, self._lease(job), under_way.outcome)) as pieces:
            async for piece in pieces:
                if first is not None:
                    first.append(piece)
                    if sum(map(len, first)) <= _SMALL_BYTES:
                        continue
                    piece, first = b"".join(first), None
                for window in splitter.feed(piece):
                    await under_way.keep(window)
                await under_way.taker.weigh(splitter.held_bytes)
        tail = None if first is None else await self._read_small(b"".join(first), under_way, splitter)
        tail = tail or _document(splitter.finish(), _Tail)
        if tail.summary is not None and (said := disagreement(tail.summary, interpreter.statuses, job.rows)):
            raise Unbalanced(said)

    async def _read_small(self, text: bytes, under_way: _Fetch, splitter: ArraySplitter[Taken]) -> _Tail | None:
        """A small document at once. Where anything is odd about it, the splitter says what, and None is answered."""
        summary, rows = None, b""
        with contextlib.suppress(RecordError):
            whole = decode_small(text, self._small)
            summary, rows = whole.summary, bytes(whole.rows)
        # An element begins soon, and the array is the only one of that name.
        if rows[:1] == b"[" and rows[1:64].strip(b" \t\r\n]") and stands_once(text, self._member, rows):
            await under_way.keep(rows)
            return _Tail(summary)
        for window in splitter.feed(text):
            await under_way.keep(window)
        return None

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
        size = 0
        async with aclosing(self._body(job, self._lease(job), ignored)) as body:
            async for piece in body:
                pieces.append(piece)
                size += len(piece)
                if size > _DOCUMENT_MAX:
                    raise BrokenAnswer(f"job {job.remote_id}: the file list is over {_DOCUMENT_MAX} bytes")
        return _document(b"".join(pieces), _Manifest)

    async def _read_file(self, under_way: _Fetch, file: ExportFile) -> None:
        interpreter, outcome = under_way.interpreter, under_way.outcome
        before, digest = outcome.body_bytes, hashlib.sha256()
        lines = RowLines(self._caps.element, under_way.timed(interpreter.lines))
        lease = self._file_lease(under_way.job, file)
        async with aclosing(self._body(under_way.job, lease, outcome, digest=digest)) as pieces:
            async for piece in pieces:
                if outcome.body_bytes - before > file.bytes:
                    raise BrokenAnswer(f"file {file.name} goes on past the {file.bytes} bytes its manifest promises")
                if (window := lines.feed(piece)) is not None:
                    await under_way.keep(window)
                await under_way.taker.weigh(lines.held_bytes)
        if (window := lines.finish()) is not None:
            await under_way.keep(window)
        under_way.bad += lines.bad
        _check_file(file, outcome.body_bytes - before, lines.rows + len(lines.bad), digest.hexdigest())

    def _file_lease(self, job: JobRow, file: ExportFile) -> Callable[[], Awaitable[str]]:
        """The URL the manifest came with, then fresh ones of later manifests."""
        urls = iter((file.url,))

        async def lease() -> str:
            if (first := next(urls, None)) is not None:
                return first
            fresh = [entry.url for entry in (await self._manifest(job)).files if entry.name == file.name]
            if not fresh:
                raise BrokenAnswer(f"job {job.remote_id}: file {file.name} is no longer in the manifest")
            return fresh[0]

        return lease

    def _lease(self, job: JobRow) -> Callable[[], Awaitable[str]]:
        async def ask() -> str:
            answered = await self._client.jobs.result(job.remote_id or "", trace=Trace(job.trace_id, job.span_id))
            return answered.answer.signed_url

        return ask

    async def _body(
        self, job: JobRow, lease: Callable[[], Awaitable[str]], outcome: Outcome, *, digest: Any = None
    ) -> AsyncGenerator[bytes, None]:
        """The body of a signed URL, inflated, in pieces; counts its wire bytes into `outcome`."""
        encoding = Encoding()
        inflate: Inflater | None = None
        chunks = read_lease(
            self._client, lease, trace=Trace(job.trace_id, job.span_id), patience=self._patience, encoding=encoding
        )
        async with aclosing(chunks):
            async for chunk in chunks:
                outcome.body_bytes += len(chunk)
                if digest is not None:
                    digest.update(chunk)
                inflate = inflate or self._inflater(encoding.content_encoding)
                for piece in inflate.feed(chunk):
                    yield piece
        if inflate is not None:
            inflate.finish()

    def _inflater(self, name: str) -> Inflater:
        encoding = _ENCODINGS.get(name)
        if encoding is None:
            raise BrokenAnswer(f"the result has content encoding {name[:40]!a}; one of gzip or zstd is read")
        return inflater(encoding, max_bytes=self._caps.inflated, max_ratio=self._caps.ratio)

    async def _match(self, under_way: _Fetch) -> None:
        """Every row sent must have been answered exactly once; bad lines stand for the rows that are missing."""
        job, answered = under_way.job, under_way.interpreter.keys
        if digest_keys(answered) == job.keys_digest:
            return
        sent = (await self._recall(job, ())).keys
        missing, extra = Counter(sent) - Counter(answered), Counter(answered) - Counter(sent)
        if under_way.bad and not extra and missing.total() == len(under_way.bad):
            reason = _why(under_way.bad)
            under_way.outcome.ended += [
                Ended(key, "dead", "result", "record.result_line", reason) for key in missing.elements()
            ]
            return
        raise Unbalanced(
            difference(sent, answered),
            hint="nothing was committed for this job; the next run fetches its result again",
        )


def _why(bad: list[BadLine]) -> str:
    if len(bad) == 1:
        return f"line {bad[0].number} of the result stands for this row, and {bad[0].reason}"
    told = "; ".join(f"line {line.number}: {line.reason}" for line in bad[:5])
    return f"one of {len(bad)} lines of the result that cannot be read stands for this row: {told}"[:_REASON_MAX]


def _small_document(results: str) -> type[_Whole]:
    fields: list[Any] = [("rows", msgspec.Raw), ("summary", dict[str, Any] | None, None)]
    return msgspec.defstruct("Whole", fields, rename={"rows": results, "summary": PROFILE.result_summary}, gc=False)  # type: ignore[return-value]


def _document(text: bytes, kind: type[T]) -> T:
    """A document of the platform's own; one that cannot be read was broken on its way, and is read again."""
    try:
        return decode(text, kind, max_bytes=_DOCUMENT_MAX)
    except RecordError as exc:
        raise BrokenAnswer(f"the result cannot be read: {exc.message}") from exc


def _check_file(file: ExportFile, body_bytes: int, rows: int, sha256: str) -> None:
    """Damage on the way is read again; a file that is what was stored, but not what the manifest says, is not."""
    if file.sha256 and sha256 != file.sha256.removeprefix("sha256:").lower():
        raise BrokenAnswer(f"file {file.name}: its SHA-256 is not the manifest's; it holds {body_bytes} bytes")
    if body_bytes < file.bytes and not file.sha256:
        raise BrokenAnswer(f"file {file.name} ends after {body_bytes} of {file.bytes} bytes")
    if body_bytes != file.bytes or rows != file.rows:
        raise Unbalanced(
            f"file {file.name}: the manifest says {file.rows} rows in {file.bytes} bytes, "
            f"it holds {rows} rows in {body_bytes} bytes"
        )
