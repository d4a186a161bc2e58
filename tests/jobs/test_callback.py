"""The receiver of callbacks: what it takes, what it refuses, what it remembers."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing

import anyio
import pytest

import engine
from engine.codec.canonical import canonical
from engine.codec.payload import loads
from engine.errors import ConfigError
from engine.events import CallbackReceived, SpanEnded
from engine.jobs.callback import Receiver
from engine.settings import Secret
from engine.store.notices import Notice
from tests.jobs.conftest import BODY, JOB, SECRET, TRACE, Rung, signed, webhook

pytestmark = pytest.mark.anyio
SENDER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_a_callback_is_stored_before_it_is_answered(rung: Rung) -> None:
    """The contract's own vector is answered with 204, told once, and on disk for whoever comes after."""
    async with rung.open():
        answer = await rung.call(signed(X_Argus_Trace_ID=TRACE))
        told = rung.told[0]
    async with rung.open() as again:
        stored = again.earlier()

    assert (answer.status, answer.body) == (204, b"")
    assert [(told.remote_id, told.status, told.trace_id)] == [(JOB, "succeeded", TRACE)]
    assert [(one.remote_id, one.status, one.deliveries) for one in stored] == [(JOB, "succeeded", 1)]


FORGED = {
    "no signature": ({"X-Argus-Job-ID": JOB}, BODY),
    "another secret": (signed(secret=Secret("not the secret")), BODY),
    "another body": (signed(), BODY.replace(b"succeeded", b"failed")),
    "another version": ({"X-Argus-Signature": "sha1=" + "0" * 40}, BODY),
    "odd hex": ({"X-Argus-Signature": signed()["X-Argus-Signature"][:-1]}, BODY),
    "zeroes": ({"X-Argus-Signature": "sha256=" + "0" * 64}, BODY),
    "another job in the header": ({**signed(), "X-Argus-Job-ID": "01HFXY0000000000000000000B"}, BODY),
    "no body": (signed(), None),
    "signed, but no JSON": (signed(b"succeeded"), b"succeeded"),
    "signed, but not a callback": (signed(b'{"id":"x"}'), b'{"id":"x"}'),
    "signed, but of no job": (signed(b'{"id":"","kind":"k","status":"s"}'), b'{"id":"","kind":"k","status":"s"}'),
    "signed, but deep": (signed(b"[" * 5000), b"[" * 5000),
    "half a webhook": (signed(webhook_id="dlv_1"), BODY),
}


async def test_t23_every_forgery_gets_the_same_answer(rung: Rung) -> None:
    """Whatever is wrong, the answer is one and the same, nothing is stored, and nobody is told."""
    async with rung.open() as receiver:
        answers = [await rung.call(headers, body) for headers, body in FORGED.values()]
        answers.append(await rung.call(signed(), method="PUT"))
        answers.append(await rung.call({}, None, method="GET"))
        answers.append(await rung.call(signed(), path="/elsewhere"))
        stored = receiver.earlier()

    seen = {(answer.status, answer.body, answer.headers.get("www-authenticate")) for answer in answers}
    assert seen == {(401, b"", "X-Argus-Signature")}
    assert rung.verdicts() == ["refused"] * len(answers)
    assert (stored, rung.told) == ([], [])


# One signed value in other bytes: a reader of JSON sees no difference, a signature does.
VARIANTS = {
    "space after colon": BODY.replace(b'":"', b'": "'),
    "space before comma": BODY.replace(b'","', b'" ,"'),
    "leading space": b" " + BODY,
    "trailing line end": BODY + b"\n",
    "indented": BODY.replace(b",", b",\n  "),
    "other order": BODY.replace(b"{", b'{"status":"succeeded",').replace(b',"status":"succeeded","trace', b',"trace'),
    "escaped letter": BODY.replace(b"succeeded", b"s\\u0075cceeded"),
    "escaped slash": BODY.replace(b"//", b"\\/\\/"),
    "escaped name": BODY.replace(b'"id"', b'"\\u0069d"'),
    "a name twice": BODY.replace(b"{", b'{"status":"failed",'),
    "a name twice, the same": BODY.replace(b"{", b'{"status":"succeeded",'),
    "byte order mark": b"\xef\xbb\xbf" + BODY,
}
AMBIGUOUS = ("a name twice", "a name twice, the same", "byte order mark")


async def test_t25_json_equal_is_not_equal(rung: Rung) -> None:
    """Twelve other spellings of a signed body are refused: the signature is over bytes."""
    async with rung.open():
        for body in VARIANTS.values():
            assert (await rung.call(signed(), body)).status == 401
    assert len(set(VARIANTS.values()) - {BODY}) == 12


async def test_t25_the_second_try_takes_one_meaning_only(rung: Rung) -> None:
    """Where the canonical form may be signed, spellings of it are taken as that form, ambiguous texts never."""
    async with rung.open(canonical=True):
        answers = {name: (await rung.call(signed(), body)).status for name, body in VARIANTS.items()}
        plain = canonical(loads(BODY))
        await rung.call(signed(plain), plain)

    assert {name for name, status in answers.items() if status != 204} == set(AMBIGUOUS)
    assert (
        len({event.body_sha256 for event in rung.events if isinstance(event, CallbackReceived) and event.status}) == 1
    )
    assert len(rung.told) == 1


async def test_t25_numbers_beyond_json_have_no_second_try(rung: Rung) -> None:
    """`1.0` may stand for a signed `1`; an integer that readers round differently stands for nothing."""
    whole = canonical({**loads(BODY), "error": {"n": 1}})
    async with rung.open(canonical=True):
        same = await rung.call(signed(whole), whole.replace(b'"n":1', b'"n":1.0'))
        rounded = await rung.call(signed(whole), whole.replace(b'"n":1', b'"n":100000000000000000001'))
        endless = await rung.call(signed(whole), whole.replace(b'"n":1', b'"n":NaN'))
    assert (same.status, rounded.status, endless.status) == (204, 401, 401)


async def test_f21_t24_the_same_again_is_taken_and_means_nothing(rung: Rung) -> None:
    """At once, ten minutes later, after a restart and after a month: 2xx each time, told once, counted each time."""
    async with rung.open():
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(rung.call, signed())
        rung.clock.advance(600)
        assert (await rung.call(signed())).status == 204
    rung.clock.advance(30 * 86_400)
    async with rung.open() as receiver:
        assert (await rung.call(signed())).status == 204
        stored = receiver.earlier()

    assert len(rung.told) == 1
    assert sorted(rung.verdicts()) == ["duplicate"] * 21 + ["news"]
    assert [one.deliveries for one in stored] == [22]


async def test_f22_each_status_is_news_once(rung: Rung) -> None:
    """`running` that arrives after `succeeded` is one more hint; both are remembered."""
    running = BODY.replace(b"succeeded", b"running")
    async with rung.open():
        for body in (BODY, running, BODY, running):
            assert (await rung.call(signed(body), body)).status == 204
    assert [notice.status for notice in rung.told] == ["succeeded", "running"]


@pytest.mark.parametrize("family", ["webhook", "svix"])
async def test_t24_where_a_time_is_signed_it_is_held_to(rung: Rung, family: str) -> None:
    """Five minutes either way; a later attempt of the same delivery signs a fresh time and is a duplicate."""
    async with rung.open():
        now_s = rung.clock.now_ns() // 1_000_000_000
        cases = {-301: 401, 301: 401, -299: 204, 299: 204}
        for apart_s, status in cases.items():
            headers = {**signed(), **webhook("dlv_1", now_s + apart_s, family=family)}
            assert (await rung.call(headers)).status == status, apart_s
        rung.clock.advance(86_400)
        assert (await rung.call(headers)).status == 401
        fresh = {**signed(), **webhook("dlv_1", now_s + 86_400, family=family)}
        assert (await rung.call(fresh)).status == 204

    assert rung.verdicts() == ["refused", "refused", "news", "duplicate", "refused", "duplicate"]
    assert rung.told[0].delivery_id == "dlv_1"


async def test_t24_a_delivery_id_is_remembered_by_itself(rung: Rung) -> None:
    """An id that was used is not news again, whatever else it is about, also after a restart."""
    failed = BODY.replace(b"succeeded", b"failed")
    async with rung.open():
        await rung.call({**signed(), **webhook("dlv_1", rung.clock.now_ns() // 10**9)})
    async with rung.open():
        answer = await rung.call({**signed(failed), **webhook("dlv_1", rung.clock.now_ns() // 10**9, failed)}, failed)
    assert (answer.status, rung.verdicts(), len(rung.told)) == (204, ["news", "duplicate"], 1)


@pytest.mark.parametrize("id", ["dlv.1", "dlv_1.1700000000", "", "d" * 257, "dlv 1", "dlv\u00e9"])
async def test_t28_an_id_holds_no_dot(rung: Rung, id: str) -> None:
    """Otherwise bytes could move between id, time and body of the signed text."""
    async with rung.open():
        headers = {**signed(), **webhook(id, rung.clock.now_ns() // 10**9)}
        assert (await rung.call(headers)).status == 401


async def test_both_secrets_prove_while_one_replaces_the_other(rung: Rung) -> None:
    """Old and new are taken, also for webhook headers; what was retired is not."""
    old, new = Secret("old"), Secret("whsec_bmV3IGtleQ==")
    at_s = rung.clock.now_ns() // 10**9
    async with rung.open(new, old):
        first = await rung.call({**signed(secret=old), **webhook("a", at_s, key=b"old")})
        second = await rung.call({**signed(secret=new), **webhook("b", at_s, key=b"new key")})
    async with rung.open(new):
        third = await rung.call(signed(secret=old))
    assert (first.status, second.status, third.status) == (204, 204, 401)


@pytest.mark.parametrize("secrets", [(), (Secret(""),), (SECRET, Secret("")), (Secret("whsec_no base64"),)])
def test_a_receiver_without_a_good_secret_is_never_built(rung: Rung, secrets: tuple[Secret, ...]) -> None:
    """What could prove nothing is said before anything listens."""
    with pytest.raises(ConfigError):
        Receiver(secrets, rung.path)


async def test_a_receiver_stands_on_its_own(rung: Rung) -> None:
    """The public class alone: an address, a file, a function to call; what cannot be listened on is said at once."""
    told: list[Notice] = []
    async with engine.Receiver([SECRET], rung.path, told.append, door="localhost:0") as receiver:
        rung.receiver = receiver
        assert (await rung.call(signed())).status == 204
        assert receiver.url.startswith("http://127.0.0.1:")
        with pytest.raises(ConfigError, match="cannot listen"):
            await Receiver([SECRET], rung.path, door=receiver.url.split("/")[2]).start()
    assert [notice.remote_id for notice in told] == [JOB]
    with pytest.raises(ConfigError, match="no HOST:PORT"):
        Receiver([SECRET], rung.path, door="8443")


async def test_t26_two_hundred_slow_connections_hold_nobody_up(rung: Rung) -> None:
    """Heads that never end are cut off at their deadline, and a good callback is answered within a second meanwhile."""
    async with rung.open(header_timeout_s=1.0) as receiver:
        port = int(receiver.url.split(":")[2].partition("/")[0])
        slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(200)]
        for number, (_, writer) in enumerate(slow):
            writer.write(b"POST /callbacks HTTP/1.1\r\nHost: a\r\nX-Slow: " if number % 2 else b"P")
        while receiver.connections < 200:
            await anyio.lowlevel.checkpoint()
        began = time.monotonic()
        answer = await rung.call(signed())
        took_s = time.monotonic() - began
        for reader, _ in slow:
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
        for _, writer in slow:
            writer.close()

    assert answer.status == 204
    assert took_s < 1


async def test_t26_a_body_over_the_cap_is_refused_unread(rung: Rung) -> None:
    """A callback is a few hundred bytes; 64 KiB is none, signed or not."""
    body = BODY + b" " * (64 * 1024)
    async with rung.open():
        assert (await rung.call(signed(body), body)).status == 413
    assert rung.told == []


async def test_what_cannot_be_stored_is_not_taken(rung: Rung) -> None:
    """A disk that refuses makes the answer 503, so the sender comes again; then it is news."""
    async with rung.open():
        with closing(sqlite3.connect(rung.path)) as db:
            db.execute("ALTER TABLE webhook_ids RENAME TO away")
        headers = {**signed(), **webhook("dlv_1", rung.clock.now_ns() // 10**9)}
        refused = await rung.call(headers)
        with closing(sqlite3.connect(rung.path)) as db:
            db.execute("ALTER TABLE away RENAME TO webhook_ids")
        taken = await rung.call(headers)
    assert (refused.status, taken.status) == (503, 204)
    assert rung.verdicts() == ["unsaved", "news"]
    assert len(rung.told) == 1


async def test_t29_every_delivery_can_be_looked_up(rung: Rung) -> None:
    """Id, time, verdict and the hash of the body: in the facts for each, on disk for each that was taken."""
    at_s = rung.clock.now_ns() // 10**9
    async with rung.open():
        await rung.call({**signed(), **webhook("dlv_7", at_s)})
        await rung.call(signed(), BODY + b" ")
    facts = [event for event in rung.events if isinstance(event, CallbackReceived)]
    with closing(sqlite3.connect(rung.path)) as db:
        kept = db.execute(
            "SELECT n.body_sha256, w.received_ns FROM notices n JOIN webhook_ids w USING (remote_id, status)"
            " WHERE w.id = 'dlv_7'"
        ).fetchall()

    assert [(fact.verdict, fact.delivery_id, fact.reason) for fact in facts] == [
        ("news", "dlv_7", None),
        ("refused", None, "trust.signature"),
    ]
    assert kept == [(facts[0].body_sha256, rung.clock.now_ns())]


async def test_the_span_joins_the_jobs_trace_by_a_link(rung: Rung) -> None:
    """Our side of a delivery is a span of its own, linked to the sender's; a refusal makes none."""
    async with rung.open():
        await rung.call(signed(traceparent=SENDER))
        await rung.call({}, BODY)
    spans = [event for event in rung.events if isinstance(event, SpanEnded)]
    assert [(span.name, span.kind, span.links) for span in spans] == [
        ("job.callback", "server", ((TRACE, "b7ad6b7169203331"),))
    ]
    assert spans[0].trace_id != TRACE
