"""Connections: when one is used again and when never, who gets one, and what becomes of it when somebody goes away."""

import asyncio
import contextlib

import pytest

from engine.contract.exchange import Request
from engine.errors import BrokenAnswer, CapExceeded, ConnectFailed, TimedOut, TransportError
from engine.transport import connection as connections
from tests.transport.conftest import open_direct

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Peer:
    """Serves each connection by `play(number, reader, writer)`, where the number counts connections from 1."""

    def __init__(self) -> None:
        self.connections = 0
        self.open = 0
        self.asked: list[bytes] = []
        self.arrived = asyncio.Event()
        self.closed = asyncio.Event()
        self._writers: list[asyncio.StreamWriter] = []

    async def play(self, number, reader, writer) -> None:
        while True:
            await self.hear(reader)
            writer.write(OK)

    async def hear(self, reader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head.split(b" ")[1])
        self.arrived.set()
        return head

    async def _serve(self, reader, writer) -> None:
        self.connections += 1
        self.open += 1
        self._writers.append(writer)
        try:
            await self.play(self.connections, reader, writer)
            await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            self.closed.set()
            writer.close()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def aclose(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._server.close()
        await self._server.wait_closed()


@pytest.fixture
async def peer():
    peer = Peer()
    await peer.start()
    yield peer
    await peer.aclose()


@pytest.fixture
async def wire(open_wire):
    transport = open_wire(concurrency=2, body_max=100_000)
    yield transport
    await transport.aclose()


@pytest.fixture
async def direct():
    transport = open_direct(concurrency=2, body_max=100_000)
    yield transport
    await transport.aclose()


def get(url, **more):
    return Request("GET", url, {}, route="test.get", **{"timeout_s": 10.0, **more})


def post(url, body=b"{}", **more):
    return Request("POST", url, {}, body, route="test.post", **{"timeout_s": 10.0, **more})


async def drained(transport, request):
    async with transport.stream(request) as body:
        return body.status, b"".join([chunk async for chunk in body.chunks()])


def answering(*answers):
    """Plays these answers, in turn on each connection."""

    async def play(peer, number, reader, writer) -> None:
        for answer in answers:
            await peer.hear(reader)
            writer.write(answer)

    return play


def use(peer, play) -> None:
    peer.play = lambda *given: play(peer, *given)


KEPT = {
    "length": OK,
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;e=f\r\nok\r\n0\r\nT: v\r\n\r\n",
    "interim": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n" + OK,
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "not modified": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
}


@pytest.mark.parametrize("name", KEPT)
async def test_a_whole_answer_leaves_the_connection_as_it_was(peer, wire, name) -> None:
    """However its body is framed, after it the next request goes over the same connection."""
    use(peer, answering(KEPT[name], KEPT[name], OK))
    first, second = await wire.send(get(peer.url)), await drained(wire, get(peer.url))
    assert second == (first.status, first.body)
    assert (await wire.send(get(peer.url))).body == b"ok"
    assert peer.connections == 1


LEFT = {
    "close": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    "old": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "a second answer": OK + b"HTTP/1.1 201 Created\r\nContent-Length: 4\r\n\r\nevil",
    "half a second answer": OK + b"HTTP/1.1 201 Created\r\nContent-",
    "rubbish": OK + b"rubbish",
}


@pytest.mark.parametrize("name", LEFT)
async def test_t14_what_follows_an_answer_answers_nobody(peer, direct, name) -> None:
    """T14: a connection that is to be closed, or that brought more than was asked for, is not used again."""
    use(peer, answering(LEFT[name], OK))
    for _ in range(3):
        response = await direct.send(get(peer.url))
        assert (response.status, response.body) == (200, b"ok")
        assert await drained(direct, get(peer.url)) == (200, b"ok")
    assert peer.connections == 6


async def test_t14_bytes_that_come_while_nobody_asks_are_no_answer(peer, direct) -> None:
    """T14: an answer sent in advance is thrown away with its connection."""

    async def play(peer, number, reader, writer) -> None:
        await peer.hear(reader)
        writer.write(OK)
        await asyncio.wait_for(asked.wait(), 10)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        await writer.drain()

    asked = asyncio.Event()
    use(peer, play)
    assert (await direct.send(get(peer.url))).body == b"ok"
    asked.set()
    await asyncio.wait_for(peer.closed.wait(), 10)
    assert (await direct.send(post(peer.url))).body == b"ok"
    assert peer.connections == 2


@pytest.mark.parametrize("ask", ["send", "stream"])
async def test_an_answer_without_a_length_ends_with_the_connection(peer, wire, ask) -> None:
    """Also where the peer only stops sending and holds on to its end."""

    async def play(peer, number, reader, writer) -> None:
        await peer.hear(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nall there is")
        writer.write_eof()

    use(peer, play)
    request = get(peer.url)
    body = (await wire.send(request)).body if ask == "send" else (await drained(wire, request))[1]
    assert body == b"all there is"


@pytest.mark.parametrize(
    "sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok"]
)
async def test_a_peer_that_stops_sending_has_not_answered(peer, wire, sent) -> None:
    """It need not close the connection for that: what is not whole by then never will be."""

    async def play(peer, number, reader, writer) -> None:
        await peer.hear(reader)
        writer.write(sent)
        writer.write_eof()

    use(peer, play)
    with pytest.raises(BrokenAnswer):
        await wire.send(post(peer.url))
    with pytest.raises(BrokenAnswer):
        await drained(wire, post(peer.url))


async def test_head_is_answered_without_a_body(peer, wire) -> None:
    """The length that an answer to HEAD tells of is not waited for, nor is it under the cap."""
    use(peer, answering(*[b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"] * 2))
    request = Request("HEAD", peer.url, {}, timeout_s=10.0)
    response = await wire.send(request)
    assert (response.status, response.headers["content-length"], response.body) == (200, "1000000", b"")
    assert await drained(wire, request) == (200, b"")


async def test_an_answer_that_comes_before_the_request_has_left_is_the_answer(peer, direct) -> None:
    """A peer may refuse a body unread; what is left of it never becomes part of the next request."""

    async def play(peer, number, reader, writer) -> None:
        await peer.hear(reader)
        writer.transport.pause_reading()
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await writer.drain()

    use(peer, play)
    for number in (1, 2):
        response = await direct.send(post(peer.url, b"x" * 20_000_000))
        assert (response.status, response.body) == (413, b"no")
        assert peer.connections == number


TROUBLES = {
    "cut": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", BrokenAnswer),
    "no http": (b"SMTP\r\n\r\n", BrokenAnswer),
    "too large": (b"HTTP/1.1 200 OK\r\nContent-Length: 100001\r\n\r\n", CapExceeded),
    "silence": (b"HTTP/1.1 200 OK\r\n", TimedOut),
}


@pytest.mark.parametrize("name", TROUBLES)
async def test_after_an_error_there_is_another_connection(peer, wire, name) -> None:
    """Its place is free again, and nothing of it is seen by those who come after."""
    bytes_sent, error = TROUBLES[name]

    async def play(peer, number, reader, writer) -> None:
        await peer.hear(reader)
        writer.write(OK if number > 4 else bytes_sent)
        if number <= 4 and name == "cut":
            writer.close()

    use(peer, play)
    for _ in range(4):
        with pytest.raises(error):
            await wire.send(post(peer.url, timeout_s=0.05 if name == "silence" else 10.0))
    assert (await wire.send(get(peer.url))).body == b"ok"
    assert peer.connections == 5


async def one_answer_each(peer, number, reader, writer) -> None:
    """The second request on a connection finds it closed, in the moment it arrives."""
    await peer.hear(reader)
    writer.write(OK)
    await peer.hear(reader)
    writer.transport.abort()


@pytest.mark.parametrize("ask", ["send", "stream"])
async def test_a_connection_that_was_closed_as_it_lay_idle(peer, wire, ask) -> None:
    """Who asks idempotently hears nothing of it; anybody else is told, because the effect is unknown."""
    use(peer, one_answer_each)
    send = wire.send if ask == "send" else lambda request: drained(wire, request)
    await send(get(peer.url + "/1"))
    await send(get(peer.url + "/2"))
    assert peer.asked == [b"/1", b"/2", b"/2"]
    with pytest.raises(BrokenAnswer):
        await send(post(peer.url + "/3"))
    assert peer.asked[3:] == [b"/3"]


async def test_at_most_so_many_connections_and_first_come_first_served(peer, wire) -> None:
    """Who finds every place taken waits in line, and the line is served in its order."""
    held: list[asyncio.StreamWriter] = []

    async def play(peer, number, reader, writer) -> None:
        while True:
            await peer.hear(reader)
            held.append(writer)

    use(peer, play)
    tasks = []
    for number in range(6):
        tasks.append(asyncio.create_task(wire.send(get(f"{peer.url}/{number}"))))
        peer.arrived.clear()
        if number < 2:
            await asyncio.wait_for(peer.arrived.wait(), 10)
    for number in range(6):
        while len(held) <= number:
            peer.arrived.clear()
            await asyncio.wait_for(peer.arrived.wait(), 10)
        held[number].write(OK)
        await tasks[number]
    assert peer.asked == [b"/0", b"/1", b"/2", b"/3", b"/4", b"/5"]
    assert peer.connections == 2


async def test_one_line_for_all_hosts(peer, direct) -> None:
    """A request to another host waits its turn and gets a place of its own, though a connection must go for it."""
    other = Peer()
    await other.start()
    order: list[str] = []

    async def ask(name, request) -> None:
        await direct.send(request)
        order.append(name)

    try:
        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(ask(f"one {number}", get(peer.url)))
                group.create_task(ask(f"other {number}", get(other.url)))
        assert sorted(order) == sorted([f"{who} {number}" for who in ("one", "other") for number in range(4)])
        assert order.index("other 3") > order.index("one 1")
        assert peer.open + other.open <= 3
    finally:
        await other.aclose()


async def test_waiting_in_line_has_a_deadline_too(peer, wire) -> None:
    """Who is not served in time is told; the line goes on without."""
    use(peer, answering(b"", b""))
    under_way = [asyncio.create_task(wire.send(get(peer.url))) for _ in range(2)]
    with pytest.raises(TimedOut, match=r"test.get: no complete answer within 0.1 s"):
        await wire.send(get(peer.url, timeout_s=0.1))
    for task in under_way:
        task.cancel()
    await asyncio.wait(under_way)
    use(peer, answering(OK))
    assert (await wire.send(get(peer.url))).body == b"ok"


BEGUN = {
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\nConte",
    "half a body": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
}


@pytest.mark.parametrize("begun", BEGUN)
@pytest.mark.parametrize("ask", ["send", "stream"])
async def test_whoever_is_cancelled_leaves_no_answer_behind(peer, wire, ask, begun) -> None:
    """Cancelled before, in and after the head: the connection is closed, and its place is free at once."""

    async def play(peer, number, reader, writer) -> None:
        while True:
            await peer.hear(reader)
            writer.write(BEGUN[begun] if number <= 2 else OK)

    use(peer, play)
    for number in (1, 2):
        request = get(peer.url)
        task = asyncio.create_task(wire.send(request) if ask == "send" else drained(wire, request))
        peer.arrived.clear()
        await asyncio.wait_for(peer.arrived.wait(), 10)
        peer.closed.clear()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(peer.closed.wait(), 10)
        assert peer.connections == number
    responses = await asyncio.gather(wire.send(get(peer.url)), wire.send(get(peer.url)))
    assert [response.body for response in responses] == [b"ok", b"ok"]


async def test_whoever_is_cancelled_in_line_gives_the_turn_away(peer, wire) -> None:
    """Also when its turn had just come."""
    held: list[asyncio.StreamWriter] = []

    async def play(peer, number, reader, writer) -> None:
        while True:
            head = await peer.hear(reader)
            if b"/held" in head:
                held.append(writer)
            else:
                writer.write(OK)

    use(peer, play)
    first = [asyncio.create_task(wire.send(get(peer.url + "/held"))) for _ in range(2)]
    while len(held) < 2:
        peer.arrived.clear()
        await asyncio.wait_for(peer.arrived.wait(), 10)
    waiting = [asyncio.create_task(wire.send(get(f"{peer.url}/{number}"))) for number in range(3)]
    first[0].add_done_callback(lambda _: waiting[0].cancel())
    for writer in held:
        writer.write(OK)
    await asyncio.wait_for(asyncio.wait((*first, *waiting)), 10)
    assert [task.cancelled() for task in waiting[1:]] == [False, False]
    assert (await wire.send(get(peer.url))).body == b"ok"
    assert peer.connections <= 3


async def test_whoever_is_cancelled_while_names_are_looked_up_gives_the_place_back(peer, open_wire) -> None:
    """Cancelled before there is a connection, a request leaves nothing behind."""
    looked = asyncio.Event()

    async def resolve(host, port):
        looked.set()
        await asyncio.Event().wait()

    wire = open_direct(concurrency=1)
    wire._dialer._resolve = resolve
    try:
        task = asyncio.create_task(wire.send(get("http://slow.example/")))
        await asyncio.wait_for(looked.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await wire.send(get(peer.url))).body == b"ok"
    finally:
        await wire.aclose()


async def test_an_idle_connection_is_closed_in_time(peer, direct, monkeypatch) -> None:
    """What nobody uses any more is not held."""
    monkeypatch.setattr(connections, "KEEPALIVE_S", 0.05)
    await direct.send(get(peer.url, timeout_s=0.05))
    await asyncio.wait_for(peer.closed.wait(), 10)
    assert (await direct.send(get(peer.url))).body == b"ok"
    assert peer.connections == 2


async def test_closing_ends_what_is_under_way(peer, direct) -> None:
    """Requests on a connection, in line and in the middle of a body fail, and so does whoever comes after."""
    use(peer, answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"))
    tasks = [asyncio.create_task(attempt) for attempt in (direct.send(get(peer.url)), drained(direct, get(peer.url)))]
    while len(peer.asked) < 2:
        peer.arrived.clear()
        await asyncio.wait_for(peer.arrived.wait(), 10)
    tasks.append(asyncio.create_task(direct.send(get(peer.url))))
    tasks[-1].add_done_callback(lambda _: None)
    await asyncio.wait(tasks, timeout=0.05)
    await direct.aclose()
    done, pending = await asyncio.wait(tasks, timeout=10)
    assert not pending
    assert all(isinstance(task.exception(), TransportError) for task in done)


async def test_a_closed_transport_asks_nobody(peer, direct) -> None:
    """Closing twice is fine, and nothing is sent afterwards."""
    await direct.send(get(peer.url))
    await direct.aclose()
    await direct.aclose()
    with pytest.raises(ConnectFailed, match="closed"):
        await direct.send(get(peer.url))
    with pytest.raises(ConnectFailed, match="closed"):
        await drained(direct, get(peer.url))
    assert len(peer.asked) == 1


async def test_f32_a_reader_that_takes_its_time_is_felt_by_the_peer(peer, wire) -> None:
    """Nobody reads on ahead of a reader: what is sent meanwhile stays with the peer."""
    sent, total, piece = 0, 400, b"x" * 262_144
    stuck = asyncio.Event()

    async def play(peer, number, reader, writer) -> None:
        nonlocal sent
        await peer.hear(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (total * len(piece)))
        for _ in range(total):
            writer.write(piece)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.3):
                    await writer.drain()
                    sent += 1
                    continue
            stuck.set()
            await writer.drain()
            sent += 1

    use(peer, play)
    read = 0
    async with wire.stream(get(peer.url)) as body:
        chunks = body.chunks()
        read += len(await anext(chunks))
        await asyncio.wait_for(stuck.wait(), 10)
        assert sent < total / 2
        async for chunk in chunks:
            assert len(chunk) <= 65_536
            read += len(chunk)
    assert read == total * len(piece)
