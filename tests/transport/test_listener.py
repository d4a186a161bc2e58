"""The listener: what it lets through, what it refuses, and how it ends a connection."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from anyio.lowlevel import checkpoint

from engine.errors import ConfigError
from engine.transport.incoming import Outgoing
from engine.transport.listener import Listener

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def _listening(handle, **limits):
    listener = Listener(handle, **limits)
    port = await listener.start()
    try:
        yield listener, port
    finally:
        await listener.aclose()


async def _talk(port, *pieces):
    """Send raw bytes and read until the peer closes; a reset ends with what came before it, and b'RESET'."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = bytearray()
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        while piece := await reader.read(65536):
            received += piece
    except ConnectionResetError:
        received += b"RESET"
    finally:
        writer.close()
    return bytes(received)


def _get(path, *headers):
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: a", "Connection: close", *headers, "", ""]).encode()


def _post(body, *headers):
    head = ["POST / HTTP/1.1", "Host: a", "Connection: close", *headers, "", ""]
    return "\r\n".join(head).encode() + body


async def test_a_request_arrives_as_it_was_sent():
    """Path undecoded, query decoded, header names in lower case, doubled headers joined."""
    seen = []

    async def handle(incoming):
        seen.append(incoming)
        return Outgoing(status=202, headers={"X-Word": "yes"}, body=b"fine")

    async with _listening(handle) as (listener, port):
        answer = await _talk(port, _get("/a%2Fb/c?x=1%202&y=&x=3", "X-Twice: a", "x-twice: b"))

    assert answer.startswith(b"HTTP/1.1 202 ")
    assert b"\r\nX-Word: yes\r\n" in answer
    assert answer.endswith(b"\r\n\r\nfine")
    (incoming,) = seen
    assert (incoming.method, incoming.path, incoming.query) == ("GET", "/a%2Fb/c", {"x": "3", "y": ""})
    assert incoming.headers["x-twice"] == "a,b"
    assert incoming.body == b""
    assert incoming.origin == listener.origin == f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(
    "body",
    [
        (_post(b"abc", "Content-Length: 3"),),
        (_post(b"a", "Content-Length: 3"), b"bc"),
        (_post(b"2\r\nab\r\n", "Transfer-Encoding: chunked"), b"1\r\nc\r\n0\r\n\r\n"),
    ],
    ids=["whole", "in pieces", "chunked"],
)
async def test_a_body_arrives_whole(body):
    """However it is cut, the handler sees it once and whole."""

    async def handle(incoming):
        return Outgoing(body=b"got " + incoming.body)

    async with _listening(handle) as (_, port):
        assert (await _talk(port, *body)).endswith(b"got abc")


@pytest.mark.parametrize(
    "request_bytes",
    [
        _post(b"", "Content-Length: 999999999"),
        _post(b"x" * 11, "Content-Length: 11"),
        _post(b"b\r\n" + b"x" * 11 + b"\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
    ],
    ids=["declared", "sent", "chunked"],
)
async def test_a_body_over_the_cap_never_reaches_the_handler(request_bytes):
    """413, whether the length was declared or not."""
    calls = []

    async def handle(incoming):
        calls.append(incoming)
        return Outgoing()

    async with _listening(handle, body_max=10) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request_bytes)
        answer = await reader.readuntil(b"\r\n")
        writer.close()

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert not calls


async def test_a_compressed_body_is_handed_on_as_it_is():
    """Nothing is inflated on the way in, so no bomb goes off here (F04)."""

    async def handle(incoming):
        return Outgoing(body=b"got " + incoming.body)

    async with _listening(handle) as (_, port):
        answer = await _talk(port, _post(b"\x1f\x8bxyz", "Content-Length: 5", "Content-Encoding: gzip"))

    assert answer.endswith(b"got \x1f\x8bxyz")


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HTTP/1.1\r\nHost: a\r\n", b"G"], ids=["nothing", "half a head", "one byte"]
)
async def test_a_head_that_never_ends_is_cut_off(sent):
    """A connection that does not finish its head in time is closed without an answer (faults 1, row 5)."""

    async def handle(incoming):
        return Outgoing()

    async with _listening(handle, header_timeout_s=0.05) as (_, port):
        assert await _talk(port, sent) in (b"", b"RESET")


async def test_a_second_head_has_the_same_deadline():
    """A connection that was served once cannot hang on with half a request."""

    async def handle(incoming):
        return Outgoing(body=b"one")

    async with _listening(handle, header_timeout_s=0.05) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await reader.readuntil(b"one")
        writer.write(b"GET / HT")
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await reader.readexactly(1)
        writer.close()


async def test_a_body_that_never_ends_is_a_timeout():
    """408 after three times the patience for a head."""

    async def handle(incoming):
        return Outgoing()

    async with _listening(handle, header_timeout_s=0.02) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(_post(b"ab", "Content-Length: 3"))
        answer = await reader.readuntil(b"\r\n")
        writer.close()

    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_connections_over_the_cap_are_turned_away():
    """503 at once, and the ones inside are served on."""

    async def handle(incoming):
        return Outgoing(body=b"served")

    async with _listening(handle, connections_max=1) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await reader.readuntil(b"served")
        refused = await _talk(port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await reader.readuntil(b"served")
        writer.close()

    assert refused.startswith(b"HTTP/1.1 503 ")


async def test_an_abort_is_a_reset_without_an_answer():
    """The peer sees the connection break, and no byte."""

    async def handle(incoming):
        return Outgoing(abort=True)

    async with _listening(handle) as (_, port):
        assert await _talk(port, _get("/")) == b"RESET"


@pytest.mark.parametrize("cut_after", [0, 10, 200_000])
async def test_a_cut_answer_promises_more_than_it_sends(cut_after):
    """The head tells the full length; then come so many bytes and a reset."""

    async def handle(incoming):
        return Outgoing(body=b"x" * 300_000, cut_after=cut_after)

    async with _listening(handle) as (_, port):
        answer = await _talk(port, _get("/"))

    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Content-Length: 300000" in head
    assert body == b"x" * cut_after + b"RESET"


async def test_a_streamed_answer_is_sent_piece_by_piece():
    """An iterator goes out chunked, or by length where the headers promise one."""

    async def pieces():
        yield b"ab"
        yield b"c"

    async def handle(incoming):
        return Outgoing(body=pieces(), headers={"Content-Length": "3"} if incoming.path == "/length" else {})

    async with _listening(handle) as (_, port):
        chunked = await _talk(port, _get("/"))
        by_length = await _talk(port, _get("/length"))

    assert chunked.endswith(b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")
    assert by_length.endswith(b"\r\n\r\nabc")


async def test_a_client_that_waits_is_told_to_go_on():
    """`Expect: 100-continue` is answered before the body is read (RFC 9110 section 10.1.1)."""

    async def handle(incoming):
        return Outgoing(body=b"got " + incoming.body)

    async with _listening(handle) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(_post(b"", "Content-Length: 3", "Expect: 100-continue"))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(b"abc")
        assert (await reader.read()).endswith(b"got abc")
        writer.close()


async def test_a_taken_port_is_a_configuration_error():
    """It names the port."""

    async def handle(incoming):
        return Outgoing()

    async with _listening(handle) as (_, port):
        with pytest.raises(ConfigError, match=str(port)):
            await Listener(handle, port=port).start()


async def test_refusals_of_the_door_can_be_worded():
    """`refuse` writes what the handler never saw."""

    async def handle(incoming):
        return Outgoing()

    listener = Listener(handle, body_max=1)
    listener.refuse = lambda incoming, status: Outgoing(status=status, body=incoming.path.encode())
    port = await listener.start()
    answer = await _talk(port, _get("/path", "Content-Length: 2") + b"ab")
    await listener.aclose()

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.endswith(b"/path")


async def test_what_is_sent_ahead_is_answered_in_order():
    """Forty requests in one write, more than wait for their turn: each gets its answer, one after the other."""

    async def handle(incoming):
        return Outgoing(body=incoming.path.encode())

    async with _listening(handle) as (_, port):
        sent = b"".join(f"GET /{number:02} HTTP/1.1\r\nHost: a\r\n\r\n".encode() for number in range(39))
        answer = await _talk(port, sent + _get("/39"))

    assert [piece[:3] for piece in answer.split(b"\r\n\r\n")[1:]] == [f"/{n:02}".encode() for n in range(40)]


async def test_a_peer_that_sends_no_more_gets_its_answer():
    """It shut its sending side before the answer was ready; then the connection ends."""
    go_on = asyncio.Event()

    async def handle(incoming):
        await go_on.wait()
        return Outgoing(body=b"late")

    async with _listening(handle) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        writer.write_eof()
        go_on.set()
        answer = await reader.read()
        writer.close()

    assert answer.endswith(b"late")


async def test_answers_larger_than_the_peer_takes_wait_for_it():
    """A reader that pauses holds back a stream of pieces instead of filling memory."""
    made = 0

    async def pieces():
        nonlocal made
        for _ in range(400):
            made += 1
            yield b"x" * 65536

    async def handle(incoming):
        return Outgoing(body=pieces())

    async with _listening(handle) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=65536)
        writer.write(_get("/"))
        await reader.readexactly(1000)
        for _ in range(50):
            await checkpoint()
        held = made
        size = 1000
        while piece := await reader.read(65536):
            size += len(piece)
        writer.close()

    assert held < 400
    assert size > 400 * 65536


async def test_a_head_too_large_is_refused():
    """400, however it is made large: one line, many lines, or a target without end."""

    async def handle(incoming):
        return Outgoing()

    large = [_get("/", "X: " + "a" * 9000), _get("/", *(f"X-{n}: a" for n in range(200))), _get("/" + "a" * 9000)]
    async with _listening(handle) as (_, port):
        answers = [await _talk(port, sent) for sent in large]

    assert [answer.split(b" ")[1] for answer in answers] == [b"400"] * 3


async def test_a_line_break_in_an_answers_header_never_leaves(caplog):
    """It would be a second answer to somebody: 500, and none of its words."""

    async def handle(incoming):
        return Outgoing(headers={"X-Name": "a\r\nX-Other: b"})

    async with _listening(handle) as (listener, port):
        answer = await _talk(port, _get("/"))
        assert listener.connections <= 1

    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"X-Other" not in answer
