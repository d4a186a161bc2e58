"""Signed URLs under fire: whatever breaks, the bytes are exactly those that lie there, or there is an error."""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Awaitable, Callable

import pytest

from engine.client.client import Client
from engine.contract.exchange import Trace
from engine.errors import AddressRefused, BrokenAnswer, ConnectFailed, Missing, OutOfPatience, Throttled
from engine.jobs.lease import Encoding, read_lease
from engine.transport.patience import Patience
from tests.jobs.conftest import Hurried
from tests.jobs.storage import Answer, Asked, Storage

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
BODY = random.Random(7).randbytes(12 * MIB + 321)
TAG = '"v1"'

Lease = Callable[[], Awaitable[str]]


class _Urls:
    """Hands out URLs, each with a number of its own."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.count = 0

    async def __call__(self) -> str:
        self.count += 1
        return f"{self.storage.url}&n={self.count}"


@pytest.fixture
def urls(storage: Storage) -> _Urls:
    return _Urls(storage)


async def _read(client: Client, lease: Lease, clock: Hurried) -> bytes:
    chunks = read_lease(client, lease, trace=Trace.new(), patience=Patience(clock), encoding=Encoding())
    return b"".join([chunk async for chunk in chunks])


async def _rest(asked: Asked, answer: Answer, *, body: bytes = BODY, tag: str = TAG, **more: object) -> bytes:
    """The head of an honest answer to a request, and the body to send."""
    start = asked.start
    if not start:
        await answer.head(200, Content_Length=len(body), ETag=tag, **more)
        return body
    span = f"bytes {start}-{len(body) - 1}/{len(body)}"
    await answer.head(206, Content_Length=len(body) - start, Content_Range=span, ETag=tag, **more)
    return body[start:]


async def test_t14_a_connection_that_resets_every_mib_delivers_the_exact_bytes(
    client: Client, storage: Storage, urls: _Urls, hurried: Hurried
) -> None:
    """More resets than patience has tries: each brought something, so reading goes on, by Range under the tag."""

    async def script(asked: Asked, answer: Answer) -> None:
        rest = await _rest(asked, answer)
        await answer.body(rest[:MIB])
        if len(rest) > MIB:
            answer.reset()

    storage.script = script
    assert await _read(client, urls, hurried) == BODY
    again = storage.asked[1:]
    assert len(again) > 8
    assert all(asked.headers["range"].startswith("bytes=") for asked in again)
    assert {asked.headers["if-range"] for asked in again} == {TAG}
    assert not [asked for asked in storage.asked if "authorization" in asked.headers]
    assert urls.count == 1


async def test_f29_a_url_that_expires_in_the_middle_is_asked_for_again(
    client: Client, storage: Storage, urls: _Urls, hurried: Hurried
) -> None:
    """Every URL is good for one request of half a MiB; the next ones go on where it ended."""
    used: set[str] = set()

    async def script(asked: Asked, answer: Answer) -> None:
        if asked.path in used:
            await answer.head(random.Random(len(storage.asked)).choice((400, 401, 403, 410)), Content_Length=0)
            return
        used.add(asked.path)
        rest = await _rest(asked, answer)
        await answer.body(rest[: MIB // 2])
        if len(rest) > MIB // 2:
            answer.reset()

    storage.script = script
    assert await _read(client, urls, hurried) == BODY
    assert urls.count == len(used) > 20


async def test_f29_a_result_that_is_gone_is_missing(
    client: Client, storage: Storage, urls: _Urls, hurried: Hurried
) -> None:
    """When every new URL is refused too, the error says that there is nothing."""
    with pytest.raises(Missing):
        await _read(client, urls, hurried)
    assert 1 < urls.count <= 8


async def test_t10_a_url_that_points_inside_is_never_followed(
    client: Client, storage: Storage, urls: _Urls, hurried: Hurried
) -> None:
    """A lease whose host has changed to one not allowed: a new one is asked for, and no byte is sent there."""
    async with Storage() as other:
        lies = [f"http://{other.host}/", "http://169.254.169.254/latest", "https://[::1]:9/", None]

        async def lease() -> str:
            return lies.pop(0) or await urls()

        storage.serves(BODY)
        assert await _read(client, lease, hurried) == BODY
        assert not lies
        always = _Urls(other)
        with pytest.raises(AddressRefused):
            await _read(client, always, hurried)
        assert other.asked == []


async def test_f18_a_store_that_is_busy_is_given_the_time_it_asks_for(
    client: Client, storage: Storage, urls: _Urls, hurried: Hurried
) -> None:
    """429 and 503 with Retry-After are waited for, also in the middle, and hostile figures are clamped."""
    refusals = [(429, 7), (503, 3), (503, 10**9)]

    async def script(asked: Asked, answer: Answer) -> None:
        if refusals and len(storage.asked) % 2:
            status, wait_s = refusals.pop(0)
            await answer.head(status, Content_Length=0, Retry_After=wait_s)
            return
        rest = await _rest(asked, answer)
        await answer.body(rest[: 4 * MIB] if refusals else rest)
        if refusals:
            answer.reset()

    storage.script = script
    assert await _read(client, urls, hurried) == BODY
    assert not refusals
    assert {7, 3, 300} <= set(hurried.slept)
    assert max(hurried.slept) == 300


async def test_a_store_that_stays_busy_ends_patience(
    client: Client, storage: Storage, urls: _Urls, hurried: Hurried
) -> None:
    """After eight refusals the store's own word is the error."""

    async def script(_: Asked, answer: Answer) -> None:
        await answer.head(429, Content_Length=0)

    storage.script = script
    with pytest.raises(Throttled):
        await _read(client, urls, hurried)
    assert len(storage.asked) == 8


async def test_t14_a_store_that_hands_out_a_byte_at_a_time_is_given_up(
    client: Client, storage: Storage, urls: _Urls, hurried: Hurried
) -> None:
    """A trickle is no progress: a body may not keep a worker for ever."""

    async def script(asked: Asked, answer: Answer) -> None:
        await answer.body((await _rest(asked, answer))[:1])
        answer.reset()

    storage.script = script
    with pytest.raises(BrokenAnswer):
        await _read(client, urls, hurried)
    assert len(storage.asked) == 8


async def test_a_store_without_ranges_is_read_past_what_is_known(
    client: Client, storage: Storage, urls: _Urls, hurried: Hurried
) -> None:
    """It answers 200 from the start under the same tag: the bytes read before are passed over, none comes twice."""

    async def script(asked: Asked, answer: Answer) -> None:
        await answer.head(200, Content_Length=len(BODY), ETag=TAG)
        await answer.body(BODY[: len(storage.asked) * 5 * MIB])
        if len(storage.asked) < 3:
            answer.reset()

    storage.script = script
    assert await _read(client, urls, hurried) == BODY
    assert len(storage.asked) == 3


@pytest.mark.parametrize("tag", ['"v2"', "", 'W/"v1"'])
async def test_t14_a_body_that_changed_in_between_is_never_spliced(
    client: Client, storage: Storage, urls: _Urls, hurried: Hurried, tag: str
) -> None:
    """Another tag, none, or a weak one on a whole answer: what was read may be of another body."""

    async def script(asked: Asked, answer: Answer) -> None:
        first = len(storage.asked) == 1
        await answer.head(200, Content_Length=len(BODY), ETag=TAG if first else tag)
        await answer.body(BODY[:MIB])
        answer.reset()

    storage.script = script
    with pytest.raises(BrokenAnswer, match="changed"):
        await _read(client, urls, hurried)
    assert len(storage.asked) == 2


@pytest.mark.parametrize("span", ["bytes 0-9/10", "bytes */10", "lines 1-2/3", ""])
async def test_t14_another_range_than_the_one_asked_for_is_not_taken(
    client: Client, storage: Storage, urls: _Urls, hurried: Hurried, span: str
) -> None:
    """A 206 that begins elsewhere is refused however often it comes."""

    async def script(asked: Asked, answer: Answer) -> None:
        if asked.start:
            await answer.head(206, Content_Length=10, Content_Range=span, ETag=TAG)
            await answer.body(b"x" * 10)
            return
        await answer.body((await _rest(asked, answer))[:MIB])
        answer.reset()

    storage.script = script
    with pytest.raises(BrokenAnswer, match="another range"):
        await _read(client, urls, hurried)


async def test_t14_a_chunked_body_cut_before_its_last_chunk_is_continued(
    client: Client, storage: Storage, urls: _Urls, hurried: Hurried
) -> None:
    """Cut in the middle it goes on; cut after its last byte, the 416 to the next request says that all is here."""

    async def script(asked: Asked, answer: Answer) -> None:
        if asked.start == len(BODY):
            await answer.head(416, Content_Length=0, Content_Range=f"bytes */{len(BODY)}")
            return
        span = {"Content_Range": f"bytes {asked.start}-{len(BODY) - 1}/{len(BODY)}"} if asked.start else {}
        await answer.head(206 if asked.start else 200, Transfer_Encoding="chunked", ETag=TAG, **span)
        rest = BODY[asked.start :]
        await answer.chunk(rest if asked.start else rest[: 3 * MIB])

    storage.script = script
    assert await _read(client, urls, hurried) == BODY
    assert [asked.start for asked in storage.asked] == [0, 3 * MIB, len(BODY)]


def _digest(data: bytes, name: str = "sha-256") -> str:
    digest = hashlib.new(name.replace("-", ""), data).digest()
    return f"{name}=:{base64.b64encode(digest).decode()}:"


@pytest.mark.parametrize("field", ["Repr_Digest", "Content_Digest"])
@pytest.mark.parametrize("name", ["sha-256", "sha-512"])
async def test_t14_a_digest_that_does_not_fit_is_never_taken_for_complete(
    client: Client, storage: Storage, urls: _Urls, hurried: Hurried, field: str, name: str
) -> None:
    """Of RFC 9530's two fields either is enough: good bytes pass, one flipped bit does not, lengths being right."""
    said = f"unknown=:AAAA:, {_digest(BODY, name)}"
    storage.serves(BODY, **{field: said})
    assert await _read(client, urls, hurried) == BODY
    storage.serves(bytes((BODY[0] ^ 1,)) + BODY[1:], **{field: said})
    with pytest.raises(BrokenAnswer, match=field.replace("_", "-")):
        await _read(client, urls, hurried)


async def test_t14_the_digest_of_the_whole_holds_over_a_continued_body(
    client: Client, storage: Storage, urls: _Urls, hurried: Hurried
) -> None:
    """`Repr-Digest` is of all bytes, `Content-Digest` of one answer's: both are checked across a break."""
    flipped = False

    async def script(asked: Asked, answer: Answer) -> None:
        here = BODY[asked.start :]
        rest = await _rest(asked, answer, Repr_Digest=_digest(BODY), Content_Digest=_digest(here))
        if not asked.start:
            await answer.body(rest[:MIB])
            answer.reset()
        else:
            await answer.body(rest[:-1] + b"!" if flipped else rest)

    storage.script = script
    assert await _read(client, urls, hurried) == BODY
    flipped = True
    with pytest.raises(BrokenAnswer, match="Digest"):
        await _read(client, urls, hurried)
    assert len(storage.asked) == 4


@pytest.mark.parametrize("said", ["", "sha-256=:not base64:", "sha-256=:AAAA:", "md5=:AAAA:", "sha-256", "=;,=::"])
async def test_a_digest_nobody_can_read_proves_nothing(
    client: Client, storage: Storage, urls: _Urls, hurried: Hurried, said: str
) -> None:
    """A malformed or unknown digest is as none."""
    storage.serves(BODY[:1000], Repr_Digest=said, Content_Digest=said)
    assert await _read(client, urls, hurried) == BODY[:1000]


class _Lapsing(Hurried):
    """Nobody really waits, but time passes as if they had."""

    def monotonic(self) -> float:
        return sum(self.slept)


@pytest.mark.parametrize("seconds", [1.0, 20.0])
async def test_f20_an_outage_is_waited_out_for_as_long_as_patience_and_no_longer(
    client: Client, storage: Storage, urls: _Urls, seconds: float
) -> None:
    """Where nobody listens the number of tries does not matter: the naps add up to the patience, to the last one."""
    clock = _Lapsing()
    await storage.aclose()
    chunks = read_lease(client, urls, trace=Trace.new(), patience=Patience(clock, seconds), encoding=Encoding())

    with pytest.raises(OutOfPatience, match=f"did not come back within {seconds:g} s"):
        _ = [chunk async for chunk in chunks]

    assert len(clock.slept) > 3
    assert sum(clock.slept) == pytest.approx(seconds, abs=0.01)
    assert urls.count == 1


async def test_f20_an_outage_without_patience_is_a_few_tries(client: Client, storage: Storage, urls: _Urls) -> None:
    """A single question has none: eight tries, and the failure is told as it was."""
    clock = _Lapsing()
    await storage.aclose()
    chunks = read_lease(client, urls, trace=Trace.new(), patience=Patience(clock), encoding=Encoding())

    with pytest.raises(ConnectFailed):
        _ = [chunk async for chunk in chunks]

    assert len(clock.slept) == 7


async def test_a_body_that_keeps_breaking_is_tried_whatever_the_patience(
    client: Client, storage: Storage, urls: _Urls
) -> None:
    """It is an answer, so it is no outage: eight tries even where patience is short."""

    async def script(asked: Asked, answer: Answer) -> None:
        await answer.head(200, Content_Length=9)
        answer.reset()

    storage.script = script
    clock = _Lapsing()
    chunks = read_lease(client, urls, trace=Trace.new(), patience=Patience(clock, 0.2), encoding=Encoding())

    with pytest.raises(BrokenAnswer):
        _ = [chunk async for chunk in chunks]

    assert len(storage.asked) == 8
