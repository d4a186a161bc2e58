"""Results: signed URLs, ranges, large files, and bodies that the fault script breaks."""

import hashlib
from typing import Any

import aiohttp
import pytest

from engine.clock import ManualClock
from engine.emulator.faults import Faults
from engine.emulator.results import PIECE
from engine.emulator.state import Options

pytestmark = pytest.mark.anyio

ENRICH = "intelligence.enrich.bulk"
PAYLOAD = {"profile_ids": ["p1", "p2"]}
QUICK = Options(latency_s=0.01)


@pytest.fixture
async def made(start, connect) -> Any:
    """What makes a finished job under fault rules, and hands out its client, a signed URL and the clock."""

    async def begin(*rules: dict[str, Any], payload: Any = PAYLOAD) -> Any:
        clock = ManualClock()
        _, api = await start(Options(latency_s=0), clock=clock, faults=Faults(rules))
        client = await connect(api)
        job_id = await client.create(ENRICH, payload)
        await client.end(job_id)
        return client, await client.link(job_id), clock

    return begin


async def test_each_ask_gives_a_fresh_lease(client) -> None:
    """The result route names a stable reference and a new signed URL each time, on the same origin."""
    job_id = await client.create(ENRICH, PAYLOAD)
    await client.end(job_id)

    answers = [(await client.ask("GET", f"/v1/jobs/{job_id}/result")).json for _ in range(2)]

    assert {answer["result_ref"] for answer in answers} == {f"r2://argus-jobs/results/{job_id}.json"}
    assert len({answer["signed_url"] for answer in answers}) == 2
    assert list(answers[0]) == ["id", "result_ref", "signed_url"]


async def test_a_lease_opens_without_a_token(made) -> None:
    """The signed URL alone serves the stored bytes, with their length and a strong tag."""
    client, link, _ = await made()

    answer = await client.fetch(link)

    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Content-Length"] == str(len(answer.body))
    assert answer.headers["ETag"] == f'"{hashlib.sha256(answer.body).hexdigest()[:32]}"'
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert list(answer.json)[:3] == ["job_id", "kind", "summary"]


@pytest.mark.parametrize(
    ("old", "new"), [("exp=1", "exp=2"), ("nonce=", "nonce=0"), ("sig=", "sig=0"), (".json", "/x")]
)
async def test_a_changed_lease_opens_nothing(made, old, new) -> None:
    """A signed URL with any part changed is refused without a word about the job."""
    client, link, _ = await made()

    answer = await client.fetch(link.replace(old, new))

    assert (answer.status, answer.json["code"]) == (403, "url_invalid")


async def test_a_lease_runs_out(made) -> None:
    """After 900 seconds a signed URL is refused as expired, and a new one works."""
    client, link, clock = await made()
    clock.advance(899)
    inside = await client.fetch(link)
    clock.advance(1)

    past = await client.fetch(link)

    assert inside.status == 200
    assert (past.status, past.json["code"]) == (403, "url_expired")


async def test_a_fault_shortens_a_lease(made) -> None:
    """The fault script can make a lease of a moment."""
    client, link, clock = await made({"at": "result.url", "ttl": 2})
    clock.advance(2)

    assert (await client.fetch(link)).status == 403


@pytest.mark.parametrize(
    ("asked", "first", "end"),
    [("bytes=0-9", 0, 10), ("bytes=5-", 5, None), ("bytes=-7", -7, None), ("bytes=3-999999", 3, None)],
)
async def test_a_range_is_served(made, asked, first, end) -> None:
    """One range is answered with 206 and exactly those bytes."""
    client, link, _ = await made()
    whole = (await client.fetch(link)).body

    answer = await client.fetch(link, Range=asked)

    at = first if first >= 0 else len(whole) + first
    assert answer.status == 206
    assert answer.body == whole[first:end]
    assert answer.headers["Content-Range"] == f"bytes {at}-{at + len(answer.body) - 1}/{len(whole)}"


@pytest.mark.parametrize("asked", ["bytes=999999-", "bytes=-0"])
async def test_a_range_outside_is_refused(made, asked) -> None:
    """A range that begins past the end is 416, with the real size."""
    client, link, _ = await made()
    size = len((await client.fetch(link)).body)

    answer = await client.fetch(link, Range=asked)

    assert (answer.status, answer.headers["Content-Range"]) == (416, f"bytes */{size}")


@pytest.mark.parametrize("asked", ["bytes=9-3", "bytes=", "items=0-4", "bytes=0-1,5-9", "bytes=a-b"])
async def test_a_senseless_range_is_passed_over(made, asked) -> None:
    """A malformed range, another unit or several ranges are answered with everything."""
    client, link, _ = await made()

    answer = await client.fetch(link, Range=asked)

    assert answer.status == 200
    assert "Content-Range" not in answer.headers


async def test_if_range_guards_against_another_file(made) -> None:
    """A range holds only for the tag it was asked with; otherwise everything is sent."""
    client, link, _ = await made()
    tag = (await client.fetch(link)).headers["ETag"]

    same = await client.fetch(link, Range="bytes=0-3", **{"If-Range": tag})
    other = await client.fetch(link, Range="bytes=0-3", **{"If-Range": '"other"'})
    dated = await client.fetch(link, Range="bytes=0-3", **{"If-Range": "Wed, 21 Oct 2026 07:28:00 GMT"})

    assert [answer.status for answer in (same, other, dated)] == [206, 200, 200]


async def test_head_answers_without_a_body(made) -> None:
    """HEAD says what GET would send."""
    client, link, _ = await made()
    whole = await client.fetch(link)

    answer = await client.fetch(link, method="HEAD")

    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Content-Length"] == str(len(whole.body))


async def test_a_large_file_comes_in_pieces(start, connect) -> None:
    """A file of several pieces arrives whole, in any range, as its manifest says."""
    _, api = await start(QUICK)
    client = await connect(api)
    inline = [{"external_id": f"r{number}", "note": "x" * 600} for number in range(1500)]
    for part in (inline[:750], inline[750:]):
        await client.run("import.bulk", {"source": {"inline": part}, "entity_type": "note"})
    file = (await client.run("export.bulk", {}))["files"][0]

    whole = await client.fetch(file["url"])
    part = await client.fetch(file["url"], Range=f"bytes={PIECE - 5}-{PIECE + 4}")

    assert file["bytes"] == len(whole.body) > PIECE
    assert hashlib.sha256(whole.body).hexdigest() == file["sha256"]
    assert whole.body.count(b"\n") == file["rows"] == 1500
    assert part.body == whole.body[PIECE - 5 : PIECE + 5]


async def test_a_manifest_carries_live_urls(start, connect) -> None:
    """The file URLs of an export are signed when the manifest is read, not when it was written."""
    clock = ManualClock()
    _, api = await start(Options(latency_s=0), clock=clock)
    client = await connect(api)
    job_id = await client.create("export.bulk", {})
    await client.end(job_id)
    early = (await client.result(job_id))["files"][0]
    clock.advance(1000)

    late = (await client.result(job_id))["files"][0]

    assert early["url"] != late["url"]
    assert [(await client.fetch(file["url"])).status for file in (early, late)] == [403, 200]


async def test_a_body_is_cut(made) -> None:
    """The fault script cuts a body once, and a range continues where it ended."""
    client, link, _ = await made({"at": "result.body", "cut_after": 20, "count": 1})

    with pytest.raises(aiohttp.ClientError):
        await client.fetch(link)
    rest = await client.fetch(link, Range="bytes=20-")

    assert rest.status == 206


async def test_a_body_is_damaged_in_place(made) -> None:
    """A corrupted body has its length, and not its digest."""
    client, link, _ = await made({"at": "result.body", "corrupt": True, "count": 1})

    damaged, whole = await client.fetch(link), await client.fetch(link)

    assert len(damaged.body) == len(whole.body)
    assert damaged.body != whole.body
    assert damaged.headers["ETag"] == whole.headers["ETag"]


async def test_the_storage_may_be_down(made) -> None:
    """The fault script answers for the storage, with a wait, or closes the connection."""
    client, link, _ = await made(
        {"at": "result.body", "status": 503, "retry_after": 2, "count": 1}, {"at": "result.body", "reset": True}
    )

    answer = await client.fetch(link)
    with pytest.raises(aiohttp.ClientError):
        await client.fetch(link)

    assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
