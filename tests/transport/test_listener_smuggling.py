"""Requests that two servers would read differently: each is refused, and its connection is at its end."""

import asyncio

import pytest

from engine.transport.incoming import Incoming, Outgoing
from engine.transport.listener import Listener

pytestmark = pytest.mark.anyio

BODY = b'{"id":"j"}'
LENGTH = b"Content-Length: 10\r\n"
CHUNKED = b"a\r\n" + BODY + b"\r\n0\r\n\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"


def _request(
    headers: bytes, body: bytes = BODY, *, line: bytes = b"POST / HTTP/1.1", host: bytes = b"Host: a\r\n"
) -> bytes:
    return line + b"\r\n" + host + headers + b"\r\n" + body + HIDDEN


CASES = {
    "length and chunked": _request(LENGTH + b"Transfer-Encoding: chunked\r\n", CHUNKED),
    "chunked and length": _request(b"Transfer-Encoding: chunked\r\n" + LENGTH, CHUNKED),
    "two lengths": _request(LENGTH + b"Content-Length: 5\r\n"),
    "the same length twice": _request(LENGTH + LENGTH),
    "a list of lengths": _request(b"Content-Length: 10, 5\r\n"),
    "a length with a sign": _request(b"Content-Length: +10\r\n"),
    "a negative length": _request(b"Content-Length: -1\r\n"),
    "a length with an underscore": _request(b"Content-Length: 1_0\r\n"),
    "chunked and another coding": _request(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", CHUNKED),
    "a coding like chunked": _request(b"Transfer-Encoding: xchunked\r\n", CHUNKED),
    "a coding that is not chunked": _request(b"Transfer-Encoding: gzip\r\n", CHUNKED),
    "a space before the colon": _request(b"Transfer-Encoding : chunked\r\n", CHUNKED),
    "a folded line": _request(b"X-A: b\r\n Content-Length: 5\r\n" + LENGTH),
    "two hosts": _request(b"Host: b\r\n" + LENGTH),
    "no host": _request(LENGTH, host=b""),
    "a bare carriage return": _request(b"X: a\rContent-Length: 5\r\n" + LENGTH),
    "a zero byte": _request(b"X: a\0b\r\n" + LENGTH),
    "a space in a name": _request(b"X A: b\r\n" + LENGTH),
    "an empty name": _request(b": b\r\n" + LENGTH),
    "a negative chunk": _request(b"Transfer-Encoding: chunked\r\n", b"-1\r\n" + BODY),
    "a chunk size with a prefix": _request(b"Transfer-Encoding: chunked\r\n", b"0xa\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a chunk without its end": _request(b"Transfer-Encoding: chunked\r\n", b"a\r\n" + BODY + b"XX0\r\n\r\n"),
    "another protocol": _request(LENGTH, line=b"POST / HTTP/9.9"),
    "bare line feeds": b"POST / HTTP/1.1\nHost: a\nContent-Length: 10\n\n" + BODY + HIDDEN,
}


@pytest.mark.parametrize("sent", CASES.values(), ids=CASES)
async def test_t27_what_can_be_read_in_two_ways_is_refused(sent: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """400, no word of what was sent in answer or log, the end of the connection, and nothing behind it is served."""
    served: list[str] = []

    async def handle(incoming: Incoming) -> Outgoing:
        served.append(incoming.path)
        return Outgoing()

    listener = Listener(handle)
    port = await listener.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    answer = await reader.read()
    writer.close()
    await listener.aclose()

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b" ", 2)[1] == b"400"
    assert body == b""
    assert served == []
    assert capfd.readouterr().err == ""
