"""Results under fire: what is damaged is never taken for complete, what is a bomb never fills the memory."""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
import tracemalloc
import zlib
from collections.abc import Container, Iterator
from typing import Any

import pytest

from engine.client.client import Client
from engine.contract.kinds import EXPORT, IMPORT
from engine.contract.profile import PROFILE
from engine.errors import BrokenAnswer, CapExceeded, RecordError, Unbalanced
from engine.jobs.fetch import Fetcher, Outcome
from engine.jobs.interpret import Caps, Reading
from engine.jobs.key import digest_keys
from engine.jobs.records import Records
from engine.store.rows import JobRow
from engine.transport.patience import Patience
from tests.client.conftest import Platform, as_json
from tests.jobs.conftest import Hurried
from tests.jobs.rows import job_row
from tests.jobs.storage import Answer, Asked, Storage

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
REMOTE = "01HFXY0000000000000000000A"
KEYS = [f"r{n}" for n in range(3000)]
ROWS = [json.dumps({"external_id": key, "status": "created", "n": n}) for n, key in enumerate(KEYS)]
SUMMARY = {"received": 3000, "created": 3000, "updated": 0, "merged": 0, "skipped": 0, "failed": 0}
DOCUMENT = f'{{"summary":{json.dumps(SUMMARY)},"rows":[{",".join(ROWS)}]}}'.encode()
LINES = "".join(f'{{"id":"{key}","label":"L"}}\n' for key in KEYS).encode()


class _Rows:
    """Takes rows; remembers the most that was held back."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.rows = 0
        self.held_max = 0

    async def take(self, chunk: bytes, rows: int) -> None:
        self.chunks.append(chunk)
        self.rows += rows

    async def weigh(self, held_bytes: int) -> None:
        self.held_max = max(self.held_max, held_bytes)


class _Fetching:
    """Fetches from a platform whose result lies in the misbehaving store."""

    def __init__(self, client: Client, platform: Platform, storage: Storage, clock: Hurried) -> None:
        self._client, self._platform, self.storage, self._clock = client, platform, storage, clock
        self.rows = _Rows()
        platform.script[f"GET /v1/jobs/{REMOTE}/result"] = lambda _: as_json(
            {"id": REMOTE, "result_ref": "r", "signed_url": storage.url}
        )

    async def fetch(self, kind: str = IMPORT, *, keys: list[str] = KEYS, caps: Caps | None = None) -> Outcome:
        found = PROFILE.kinds[kind]
        reading = Reading(
            match=found.match, status=found.status, accepted=frozenset(found.accepted),
            rejected=frozenset(found.rejected), row=None, encode=lambda rows: json.dumps(rows).encode(),
            takes_raw=True, caps=caps or Caps(),
        )  # fmt: skip

        async def recall(_: JobRow, __: Container[str]) -> Records:
            return Records(items=[], raws=[], keys=keys, inputs=[], lines=[], starts=[], ends=[])

        fetcher = Fetcher(
            client=self._client,
            kind=found,
            results=found.results,
            reading=reading,
            recall=recall,
            patience=Patience(self._clock),
        )  # fmt: skip
        job = job_row(kind=kind, rows=len(keys), remote_id=REMOTE, keys_digest=digest_keys(keys))
        self.rows = _Rows()
        return await fetcher.fetch(job, self.rows)

    def serves_file(self, body: bytes, *, sha256: str = "", rows: int = len(KEYS), size: int | None = None) -> None:
        """The manifest of one file, and the file."""
        file = {
            "name": "a.jsonl", "format": "jsonl", "rows": rows, "bytes": len(body) if size is None else size,
            "sha256": sha256, "url": f"http://{self.storage.host}/file",
        }  # fmt: skip
        manifest = json.dumps({"files": [file]}).encode()

        async def script(asked: Asked, answer: Answer) -> None:
            data = body if asked.path == "/file" else manifest
            await answer.head(200, Content_Length=len(data))
            await answer.body(data)

        self.storage.script = script


@pytest.fixture
def fetching(client: Client, platform: Platform, storage: Storage, hurried: Hurried) -> _Fetching:
    return _Fetching(client, platform, storage, hurried)


@pytest.fixture
def traced() -> Iterator[None]:
    """Python's own account of its memory, from here on."""
    tracemalloc.start()
    yield
    tracemalloc.stop()


_GZIP = gzip.compress(DOCUMENT)
_ZSTD = zstd.compress(DOCUMENT)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("identity", DOCUMENT),
        ("gzip", _GZIP),
        ("x-gzip", gzip.compress(DOCUMENT[:5000]) + gzip.compress(b"") + gzip.compress(DOCUMENT[5000:])),
        ("zstd", _ZSTD),
        ("zstd", zstd.compress(DOCUMENT[:5000]) + zstd.compress(DOCUMENT[5000:])),
    ],
)
async def test_f27_whole_bodies_of_any_members_are_read_in_full(
    fetching: _Fetching, encoding: str, body: bytes
) -> None:
    """Plain, gzip and zstd, of one member or several: every row arrives once."""
    fetching.storage.serves(body, Content_Encoding=encoding)
    outcome = await fetching.fetch()
    assert (outcome.accepted, outcome.ended, outcome.body_bytes) == (3000, [], len(body))
    assert b"".join(fetching.rows.chunks).decode().splitlines() == ROWS


_DAMAGED = {
    "gzip cut": ("gzip", _GZIP[:-700]),
    "gzip trailer cut": ("gzip", _GZIP[:-5]),
    "gzip crc": ("gzip", _GZIP[:-8] + bytes((_GZIP[-8] ^ 1,)) + _GZIP[-7:]),
    "gzip bit": ("gzip", _GZIP[:900] + bytes((_GZIP[900] ^ 4,)) + _GZIP[901:]),
    "gzip garbage after": ("gzip", _GZIP + b"garbage"),
    "gzip second member cut": ("gzip", _GZIP + gzip.compress(b"  ")[:-3]),
    "zstd cut": ("zstd", _ZSTD[:-3]),
    "zstd garbage after": ("zstd", _ZSTD + b"garbage"),
    "not gzip": ("gzip", DOCUMENT),
    "stacked": ("gzip, gzip", gzip.compress(_GZIP)),
    "unknown encoding": ("br", DOCUMENT),
    "json cut": ("identity", DOCUMENT[:-1]),
    "json cut in a row": ("identity", DOCUMENT[:5000]),
    "json garbage after": ("identity", DOCUMENT + b"}"),
    "two documents": ("identity", DOCUMENT + DOCUMENT),
    "not utf-8": ("identity", DOCUMENT.replace(b"r17", b"r\xff7", 1)),
    "rows twice": ("identity", DOCUMENT[:-1] + b',"rows":[]}'),
    "nul": ("identity", DOCUMENT.replace(b', "n"', b'\0, "n"', 1)),
    "empty": ("identity", b""),
}


@pytest.mark.parametrize("name", _DAMAGED)
@pytest.mark.parametrize("ends", ["length", "close", "chunks"])
async def test_f27_t14_nothing_damaged_is_taken_for_complete(fetching: _Fetching, name: str, ends: str) -> None:
    """However the answer ends (by length, by closing, by a last chunk), damage is an error, and one to try again."""
    encoding, body = _DAMAGED[name]

    async def script(_: Asked, answer: Answer) -> None:
        how = {"length": {"Content_Length": len(body)}, "close": {}, "chunks": {"Transfer_Encoding": "chunked"}}[ends]
        await answer.head(200, Content_Encoding=encoding, **how)
        if ends != "chunks":
            await answer.body(body)
            return
        for start in range(0, len(body), 10_000):
            await answer.chunk(body[start : start + 10_000])
        await answer.chunk(b"")

    fetching.storage.script = script
    with pytest.raises((BrokenAnswer, RecordError)):
        await fetching.fetch()
    assert fetching.storage.asked


async def test_t14_a_length_that_promises_too_much_is_broken(fetching: _Fetching) -> None:
    """A body shorter than its length is asked for on, and never whole."""

    async def script(asked: Asked, answer: Answer) -> None:
        await answer.head(206 if asked.start else 200, Content_Length=len(DOCUMENT) + 10)
        await answer.body(DOCUMENT)

    fetching.storage.script = script
    with pytest.raises(BrokenAnswer):
        await fetching.fetch()


def _bomb(packed_by: str, member: bytes, repeat: int) -> bytes:
    """A document whose one row is a text of `repeat` MiB, packed; made piece by piece."""
    pieces = [b'{"rows":[{"external_id":"r0","status":"created","x":"', *[member * MIB] * repeat, b'"}]}']
    if packed_by == "zstd":
        packer = zstd.ZstdCompressor()
        return b"".join([packer.compress(piece) for piece in pieces]) + packer.flush()
    deflate = zlib.compressobj(9, wbits=31)
    return b"".join([deflate.compress(piece) for piece in pieces]) + deflate.flush()


@pytest.mark.parametrize("packed_by", ["gzip", "zstd"])
@pytest.mark.parametrize("member", [b"x", b" "])
async def test_t13_a_bomb_is_refused_before_it_is_held(
    fetching: _Fetching, packed_by: str, member: bytes, traced: None
) -> None:
    """200 MiB out of some kB: refused by the ratio, with little in memory."""
    body = _bomb(packed_by, member, 200)
    assert len(body) < MIB
    fetching.storage.serves(body, Content_Encoding=packed_by)
    tracemalloc.reset_peak()
    with pytest.raises(CapExceeded, match="ratio"):
        await fetching.fetch()
    assert tracemalloc.get_traced_memory()[1] < 32 * MIB
    assert fetching.rows.held_max < 4 * MIB


_ROW = b'{"external_id":"r0","status":"created","x":%s}'
_HOSTILE = {
    "depth 10,000": _ROW % (b"[" * 10_000 + b"]" * 10_000),
    "depth 1,000,000": _ROW % (b'{"a":' * 1_000_000 + b"1" + b"}" * 1_000_000),
    "a row over the cap": _ROW % (b'"' + b"y" * 6 * MIB + b'"'),
    "brackets without end": _ROW % (b"[" * 6 * MIB),
    "blanks without end": b" " * 6 * MIB,
}


@pytest.mark.parametrize("name", _HOSTILE)
async def test_t15_hostile_json_ends_at_a_cap_of_its_own(fetching: _Fetching, name: str, traced: None) -> None:
    """Depth and size have errors that say so; no traceback, and no more memory than the cap allows."""
    fetching.storage.serves(b'{"rows":[' + _HOSTILE[name] + b"]}")
    tracemalloc.reset_peak()
    with pytest.raises(CapExceeded):
        await fetching.fetch(keys=["r0"], caps=Caps(element=4 * MIB))
    assert tracemalloc.get_traced_memory()[1] < 64 * MIB


@pytest.mark.parametrize(
    "value",
    [b"9" * 1_000_000, b"{%s}" % b",".join(b'"k%d":1' % n for n in range(100_000)), b'{"a":1,"a":2}', b"1e400"],
)
async def test_t15_what_only_passes_through_is_not_looked_into(fetching: _Fetching, value: bytes) -> None:
    """A million digits, very many keys, names twice: a row that passes as bytes arrives as the bytes it came in."""
    row = _ROW % value
    fetching.storage.serves(b'{"rows":[' + row + b"]}")
    assert (await fetching.fetch(keys=["r0"])).accepted == 1
    assert b"".join(fetching.rows.chunks) == row + b"\n"


async def test_t15_a_document_without_end_is_left(fetching: _Fetching) -> None:
    """A server that never stops sending rows is left at the first row that was not asked for."""
    sent = 0

    async def script(_: Asked, answer: Answer) -> None:
        nonlocal sent
        await answer.head(200)
        await answer.body(b'{"rows":[{"external_id":"r0","status":"created"}')
        while True:
            await answer.body(b',{"external_id":"r0","status":"created"}' * 1000)
            sent += 1

    fetching.storage.script = script
    with pytest.raises(Unbalanced, match="more than"):
        await fetching.fetch(keys=["r0"])
    assert sent < 1000


# Files of a manifest -------------------------------------------------------------------------


def _good(number: int) -> bytes:
    return f'{{"id":"{KEYS[number]}","label":"L"}}\n'.encode()


@pytest.mark.parametrize(
    "body",
    [
        LINES,
        b"\xef\xbb\xbf" + LINES,
        LINES.replace(b"\n", b"\r\n"),
        LINES.replace(b"\n", b"\n\n \n"),
        LINES.removesuffix(b"\n"),
    ],
    ids=["plain", "byte order mark", "crlf", "blank lines", "no last line end"],
)
async def test_f28_lines_by_any_convention_are_rows(fetching: _Fetching, body: bytes) -> None:
    """A byte order mark, CRLF, blank lines and a missing last line end change nothing."""
    fetching.serves_file(body, sha256=hashlib.sha256(body).hexdigest())
    outcome = await fetching.fetch(EXPORT)
    assert (outcome.accepted, outcome.ended) == (3000, [])


_BAD_LINES = {
    "not utf-8": (b'{"id":"r5","label":"\xff"}\n', "UTF-8"),
    "nul": (b'{"id":"r5",\0"label":"L"}\n', "not valid JSON"),
    "cut": (b'{"id":"r5","lab\n', "not valid JSON"),
    "deep": (b'{"id":"r5","x":%s}\n' % (b"[" * 10_000 + b"]" * 10_000), "nested deeper"),
    "long": (b'{"id":"r5","x":"%s"}\n' % (b"y" * 3 * MIB), "over the cap"),
    "no object": (b'"r5"\n', "no JSON object"),
    "two in one": (b'{"id":"r5"},{"id":"r6"}\n', "more than one"),
}


@pytest.mark.parametrize("name", _BAD_LINES)
async def test_f28_a_bad_line_alone_is_a_dead_letter(fetching: _Fetching, name: str) -> None:
    """The row it stood for is known by what is missing; every other row of the file is accepted."""
    line, why = _BAD_LINES[name]
    body = LINES.replace(_good(5), line)
    fetching.serves_file(body, sha256=hashlib.sha256(body).hexdigest())
    outcome = await fetching.fetch(EXPORT, caps=Caps(element=2 * MIB))
    assert outcome.accepted == 2999
    (letter,) = outcome.ended
    assert (letter.key, letter.bucket, letter.code) == ("r5", "dead", "record.result_line")
    assert "line 6" in letter.reason
    assert why in letter.reason


async def test_f28_bad_lines_that_do_not_add_up_do_not_balance(fetching: _Fetching) -> None:
    """A bad line and two missing rows: nobody can say which, so nothing is committed."""
    body = LINES.replace(_good(5), b"{\n").replace(_good(6), b"")
    fetching.serves_file(body, rows=2999)
    with pytest.raises(Unbalanced, match="2 missing"):
        await fetching.fetch(EXPORT)


@pytest.mark.parametrize(
    ("body", "more"),
    [
        (LINES, {"sha256": "0" * 64}),
        (LINES[:-1000], {"size": len(LINES)}),
        (LINES + b"{" * 1000, {"size": len(LINES)}),
    ],
    ids=["digest", "short", "long"],
)
async def test_f27_a_file_that_is_not_the_manifest_s_is_read_again(
    fetching: _Fetching, body: bytes, more: dict[str, Any]
) -> None:
    """Another digest or another length is damage on the way, to be tried again; it is never complete."""
    fetching.serves_file(body, **more)
    with pytest.raises(BrokenAnswer):
        await fetching.fetch(EXPORT)


async def test_t15_a_line_without_end_stops_at_the_promised_length(fetching: _Fetching, traced: None) -> None:
    """Bytes without a line end are not held, and reading stops where the manifest says the file ends."""
    sent = 0
    manifest = {"name": "a", "format": "jsonl", "rows": 1, "bytes": 20 * MIB, "sha256": ""}
    manifest["url"] = f"http://{fetching.storage.host}/file"

    async def script(asked: Asked, answer: Answer) -> None:
        nonlocal sent
        await answer.head(200)
        if asked.path != "/file":
            await answer.body(json.dumps({"files": [manifest]}).encode())
            return
        while True:
            await answer.body(b"y" * MIB)
            sent += 1

    fetching.storage.script = script
    tracemalloc.reset_peak()
    with pytest.raises(BrokenAnswer, match="goes on past"):
        await fetching.fetch(EXPORT, keys=["r0"], caps=Caps(element=4 * MIB))
    assert 20 <= sent < 40
    assert tracemalloc.get_traced_memory()[1] < 32 * MIB
