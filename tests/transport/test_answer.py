"""The reader of answers: what it makes of bytes, however they are cut, and what it refuses to read in two ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.transport.answer import HEAD_MAX, INTERIM_MAX, AnswerReader, BadAnswer, Oversized

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def read(*pieces, is_head=False, body_max=100_000, ends=False):
    """The reader after these pieces, and the end of the connection."""
    reader = AnswerReader(body_max)
    reader.expect(is_head=is_head)
    for piece in pieces:
        reader.feed(piece)
    if ends:
        reader.end()
    return reader


def said(reader):
    return reader.status, dict(reader.headers), b"".join(reader.pieces), reader.is_whole, reader.keeps


WHOLE = {
    "length": (OK + b"Content-Length: 5\r\nX-A: 1\r\nx-a:\t 2 \r\nEmpty:\r\n\r\nhello", False),
    "nothing": (b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n", False),
    "not modified": (b'HTTP/1.1 304 Not Modified\r\nETag: "1"\r\nContent-Length: 999999999\r\n\r\n', False),
    "chunks": (CHUNKED + b'5;name=value;q="a b"\r\nhello\r\n3\r\n, w\r\nA\r\norld012345\r\n0\r\n\r\n', False),
    "trailers": (CHUNKED + b"1\r\nx\r\n0\r\nContent-Type: a/b\r\nX-Sum: 1\r\n\r\n", False),
    "interim": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        + OK
        + b"Content-Length: 2\r\n\r\nok",
        False,
    ),
    "closing": (OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nok", False),
    "until the end": (OK + b"X: y\r\n\r\nwhatever comes", True),
    "old": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", False),
}
EXPECTED = {
    "length": (200, {"content-length": "5", "x-a": "1, 2", "empty": ""}, b"hello", True, True),
    "nothing": (204, {"x": "y"}, b"", True, True),
    "not modified": (304, {"etag": '"1"', "content-length": "999999999"}, b"", True, True),
    "chunks": (200, {"transfer-encoding": "chunked"}, b"hello, world012345", True, True),
    "trailers": (200, {"transfer-encoding": "chunked"}, b"x", True, True),
    "interim": (200, {"content-length": "2"}, b"ok", True, True),
    "closing": (200, {"connection": "close", "content-length": "2"}, b"ok", True, False),
    "until the end": (200, {"x": "y"}, b"whatever comes", True, False),
    "old": (200, {"content-length": "2"}, b"ok", True, False),
}


@pytest.mark.parametrize("name", WHOLE)
def test_an_answer_is_the_same_however_it_is_cut(name) -> None:
    """At once, byte by byte, and in two pieces cut at every place: the answer is one and the same."""
    data, ends = WHOLE[name]
    assert said(read(data, ends=ends)) == EXPECTED[name]
    assert said(read(*(data[at : at + 1] for at in range(len(data))), ends=ends)) == EXPECTED[name]
    for at in range(1, len(data)):
        assert said(read(data[:at], data[at:], ends=ends)) == EXPECTED[name], at


@pytest.mark.parametrize("name", WHOLE)
def test_nothing_short_of_the_whole_is_whole(name) -> None:
    """Whatever is missing at the end, if only one byte, the answer is not whole; nor by the end of the connection."""
    data, ends = WHOLE[name]
    for at in range(len(data)):
        reader = read(data[:at])
        assert not reader.is_whole
        assert ends or not reader.end()


TOKENS = st.text("abcXYZ019-_!#", min_size=1, max_size=12).map(str.encode)
VALUES = st.text(st.characters(codec="latin-1", exclude_categories=("Cc",)), max_size=30).map(
    lambda text: text.encode("latin-1")
)
OURS = (b"content-length", b"transfer-encoding", b"connection")


@st.composite
def answers(draw):
    """Any answer we may get, as bytes, and what is to be read from it."""
    status = draw(st.sampled_from((200, 201, 202, 206, 400, 404, 429, 500, 503)))
    fields = draw(st.lists(st.tuples(TOKENS, VALUES), max_size=8))
    fields = [(name, value) for name, value in fields if name.lower() not in OURS]
    body = draw(st.binary(max_size=300))
    head = b"HTTP/1.1 %d %s\r\n" % (status, draw(st.sampled_from((b"", b"OK", b"Not at all: well"))))
    for name, value in fields:
        head += name + b":" + draw(st.sampled_from((b"", b" ", b"\t "))) + value + b"\r\n"
    if draw(st.booleans()):
        data = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    else:
        data, left = head + b"Transfer-Encoding: chunked\r\n\r\n", body
        while left:
            size = draw(st.integers(1, len(left)))
            data += b"%x%s\r\n" % (size, draw(st.sampled_from((b"", b";a", b";a=b"))))
            data, left = data + left[:size] + b"\r\n", left[size:]
        data += b"0\r\n" + draw(st.sampled_from((b"", b"T: 1\r\n", b"X-Sum: 3\r\nT:\r\n"))) + b"\r\n"
    expected: dict[str, str] = {}
    for name, value in fields:
        key, text = name.decode().lower(), value.decode("utf-8", "surrogateescape").strip(" \t")
        expected[key] = f"{expected[key]}, {text}" if key in expected else text
    return data, (status, expected, body)


@given(st.lists(answers(), min_size=1, max_size=3), st.data())
def test_any_answers_are_read_as_they_were_meant(meant, data) -> None:
    """Answers in turn on one connection, each cut anywhere, are what was sent, and none touches the next."""
    reader = AnswerReader(100_000)
    for wire, (status, fields, body) in meant:
        reader.expect()
        while wire:
            assert not reader.is_whole
            size = data.draw(st.integers(1, len(wire)))
            reader.feed(wire[:size])
            wire = wire[size:]
        read_fields = {name: text for name, text in reader.headers.items() if name.encode() not in OURS}
        assert (reader.status, read_fields, b"".join(reader.pieces)) == (status, fields, body)
        assert reader.is_whole
        assert reader.keeps


@given(st.binary(max_size=400), st.booleans())
def test_no_bytes_bring_it_down(data, is_started) -> None:
    """Whatever comes, it is an answer, half of one, or refused."""
    try:
        read(OK + data if is_started else data)
    except (BadAnswer, Oversized):
        return


AMBIGUOUS = {
    "two framings": OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two framings, the other way round": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
    "the same length twice": OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nab",
    "a list of lengths": OK + b"Content-Length: 2, 2\r\n\r\nab",
    "a sign": OK + b"Content-Length: +2\r\n\r\nab",
    "a negative length": OK + b"Content-Length: -2\r\n\r\nab",
    "a hexadecimal length": OK + b"Content-Length: 0x2\r\n\r\nab",
    "an empty length": OK + b"Content-Length:\r\n\r\n",
    "a length beyond counting": OK + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "a length of many zeros": OK + b"Content-Length: " + b"0" * 5000 + b"2\r\n\r\nab",
    "a coding before chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "a coding in two fields": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
    "an unknown coding": OK + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "no coding": OK + b"Transfer-Encoding: identity\r\n\r\n",
    "a folded line": OK + b"A: b\r\n c: d\r\nContent-Length: 0\r\n\r\n",
    "a space before the colon": OK + b"Content-Length : 0\r\n\r\n",
    "a bare line feed": OK + b"A: b\nContent-Length: 0\r\n\r\n",
    "a bare carriage return": OK + b"A: b\rContent-Length: 0\r\n\r\n",
    "a NUL": OK + b"A: b\0c\r\nContent-Length: 0\r\n\r\n",
    "a name that is no token": OK + b"A(b): c\r\nContent-Length: 0\r\n\r\n",
    "a line without a colon": OK + b"Content-Length\r\n\r\n",
    "a length among the trailers": CHUNKED + b"0\r\nContent-Length: 7\r\n\r\n",
    "chunk size with a sign": CHUNKED + b"+2\r\nab\r\n0\r\n\r\n",
    "chunk size with a prefix": CHUNKED + b"0x2\r\nab\r\n0\r\n\r\n",
    "chunk size with a space": CHUNKED + b"2 \r\nab\r\n0\r\n\r\n",
    "chunk size with a bare line feed": CHUNKED + b"2\nab\r\n0\r\n\r\n",
    "a chunk longer than it says": CHUNKED + b"2\r\nabc\r\n0\r\n\r\n",
    "a chunk size beyond counting": CHUNKED + b"fffffffffffffffff\r\nab",
    "a switch of protocols": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "another protocol": b"ICY 200 OK\r\n\r\n",
    "a request": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_t14_what_could_be_read_in_two_ways_is_not_read(name) -> None:
    """T14: an answer that hides another is refused, however its bytes come."""
    data = AMBIGUOUS[name]
    with pytest.raises(BadAnswer):
        read(data)
    with pytest.raises(BadAnswer):
        read(*(data[at : at + 1] for at in range(len(data))))


@pytest.mark.parametrize(
    "more", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"H", b"junk", b"\0"]
)
@pytest.mark.parametrize("name", ["length", "nothing", "chunks", "trailers", "interim"])
def test_t14_what_follows_an_answer_ends_the_connection(name, more) -> None:
    """T14: bytes after a whole answer do not change it, and nobody gets them as the next one."""
    data, _ = WHOLE[name]
    for pieces in ((data + more,), (data[:-1], data[-1:] + more)):
        reader = read(*pieces)
        assert said(reader)[:4] == EXPECTED[name][:4]
        assert not reader.keeps


def test_an_answer_to_head_has_no_body() -> None:
    """The length an answer to HEAD tells of is never waited for; its connection is not used again."""
    reader = read(OK + b"Content-Length: 5\r\n\r\n", is_head=True)
    assert said(reader) == (200, {"content-length": "5"}, b"", True, False)


ENDLESS = {
    "a status line": b"HTTP/1.1 200 " + b"O" * HEAD_MAX,
    "a name": OK + b"X" * HEAD_MAX,
    "a value": OK + b"X: " + b"y" * HEAD_MAX,
    "many fields": OK + b"".join(b"X-%d: y\r\n" % number for number in range(HEAD_MAX // 9)),
    "one field many times": OK + b"X: y\r\n" * (HEAD_MAX // 2),
    "an extension": CHUNKED + b"1;" + b"e" * 3 * HEAD_MAX,
    "a trailer": CHUNKED + b"0\r\nX: " + b"y" * 3 * HEAD_MAX,
    "many trailers": CHUNKED + b"0\r\n" + b"X: y\r\n" * (HEAD_MAX // 2),
}


@pytest.mark.parametrize("size", [100, 5000, 1 << 20])
@pytest.mark.parametrize("name", ENDLESS)
def test_what_has_no_end_is_given_up(name, size) -> None:
    """Heads, extensions and trailers are read under a bound, however they come."""
    data = ENDLESS[name] + b"\r\n"
    with pytest.raises(BadAnswer):
        read(*(data[at : at + size] for at in range(0, len(data), size)))


def test_a_head_has_so_many_fields_at_most() -> None:
    """128 fields are read, one more is too many, all in one piece."""
    fields = b"".join(b"X-%d: y\r\n" % number for number in range(127))
    assert read(OK + fields + b"Content-Length: 0\r\n\r\n").is_whole
    with pytest.raises(BadAnswer):
        read(OK + fields + b"Y: y\r\nContent-Length: 0\r\n\r\n")


def test_interim_answers_have_a_bound() -> None:
    """A few are passed over; a peer that sends nothing else is given up."""
    interim = b"HTTP/1.1 102 Processing\r\n\r\n"
    assert read(interim * INTERIM_MAX + OK + b"Content-Length: 0\r\n\r\n").is_whole
    with pytest.raises(BadAnswer):
        read(interim * (INTERIM_MAX + 1))


def test_many_small_chunks_are_an_answer_like_any_other() -> None:
    """The bound on framing grows with the chunks."""
    reader = read(CHUNKED, *[b"1\r\nx\r\n"] * 50_000, b"0\r\n\r\n")
    assert b"".join(reader.pieces) == b"x" * 50_000


def test_a_body_is_read_under_its_cap() -> None:
    """A declared length over the cap is refused before the body, another as it grows; the cap itself is fine."""
    assert read(OK + b"Content-Length: 9\r\n\r\n123456789", body_max=9).is_whole
    with pytest.raises(Oversized) as caught:
        read(OK + b"Content-Length: 10\r\n\r\n", body_max=9)
    assert caught.value.declared == 10
    with pytest.raises(Oversized) as caught:
        read(CHUNKED + b"5\r\n12345\r\n", b"5\r\n12345\r\n", body_max=9)
    assert caught.value.declared is None
