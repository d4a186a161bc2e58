"""Heads of requests: what a URL and headers become on the wire, and what is never written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract.exchange import Request
from engine.transport.heads import Heads, NoUrl


def written(url, headers=None, *, method="GET", body=None, heads=None):
    heads = heads or Heads()
    return heads.write(Request(method, url, headers or {}, body))[1]


@pytest.mark.parametrize(
    ("url", "host", "target"),
    [
        ("http://a.example/x?y=1", "a.example", "/x?y=1"),
        ("HTTP://A.Example/x", "a.example", "/x"),
        ("https://a.example:443/", "a.example", "/"),
        ("http://a.example:8080", "a.example:8080", "/"),
        ("http://a.example?sig=a/b", "a.example", "/?sig=a/b"),
        ("http://a.example:/x#here", "a.example", "/x"),
        ("http://a.example/x#a/b?c", "a.example", "/x"),
        ("https://[::1]:4380/%7Ex//y/../z", "[::1]:4380", "/%7Ex//y/../z"),
        ("http://127.0.0.1:80/?", "127.0.0.1", "/?"),
    ],
)
def test_a_url_becomes_a_host_and_a_target(url, host, target) -> None:
    """The target is as it was written, the fragment stays here, and the port is named where it is not the scheme's."""
    heads = Heads()
    for _ in range(2):
        head = written(url, heads=heads)
        assert head == f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


@pytest.mark.parametrize(
    "url",
    [
        "", "nonsense", "http:/a", "ftp://a/", "http://", "http:///x", "http://u:p@a/", "http://a@b/", "http://a:x/",
        "http://a:65536/", "http://a b/", "http://a\r\nb/", "http://[::1/", "http://::1/", "http://[::1%25lo]/",
        "http://[x]/", "http://.a/", "http://a\\b/", "http://ä.example/", " http://a/", "http://a:80:80/",
    ],
)  # fmt: skip
def test_what_has_no_host_is_no_url(url) -> None:
    """Nothing is guessed: no host, no scheme of ours, a name and password, or an impossible port is no URL."""
    with pytest.raises(NoUrl):
        Heads().locate(url)


def test_one_origin_is_one_object() -> None:
    """However it is written, an origin is always the same, so its connections are found again."""
    heads = Heads()
    urls = (
        "http://a.example/x",
        "http://A.example/y?z",
        "http://a.example:80?q",
        "HTTP://a.example#f",
        "http://a.example/x",
    )
    assert len({heads.locate(url)[0] for url in urls}) == 1
    assert heads.locate("https://a.example/")[0] is not heads.locate(urls[0])[0]
    assert heads.locate("http://a.example:81/")[0] is not heads.locate(urls[0])[0]


@pytest.mark.parametrize(
    ("method", "body", "end"),
    [
        ("POST", b"{}", "\r\nContent-Length: 2\r\n\r\n"),
        ("POST", None, "\r\nContent-Length: 0\r\n\r\n"),
        ("PUT", b"", "\r\nContent-Length: 0\r\n\r\n"),
        ("GET", None, "\r\n\r\n"),
        ("GET", b"x", "\r\nContent-Length: 1\r\n\r\n"),
    ],
)
def test_a_head_says_how_long_its_body_is(method, body, end) -> None:
    """The length is always ours to say; where none is expected, none is said."""
    head = written("http://a/", {"X": "y"}, method=method, body=body)
    assert head == f"{method} / HTTP/1.1\r\nHost: a\r\nX: y{end}".encode()


BAD_HEADERS = [
    {"X": "a\r\nY: b"}, {"X": "a\nY: b"}, {"X": "a\rb"}, {"X": "a\0b"}, {"X": "\r\n\r\nGET /"}, {"X": "\ud800"},
    {"X\r\nY": "a"}, {"X:": "a"}, {"X Y": "a"}, {"": "a"}, {"Ä": "a"}, {"X\n": "a"}, {"X\0": "a"},
    {"Content-Length": "5"}, {"content-length": "0"}, {"Transfer-Encoding": "chunked"}, {"HOST": "b"},
    {"Expect": "100-continue"},
]  # fmt: skip


@pytest.mark.parametrize("headers", BAD_HEADERS, ids=repr)
def test_t14_nothing_becomes_a_second_header(headers) -> None:
    """T14: a name or value that would be more than one field, or frame the body otherwise, is not written."""
    heads = Heads()
    for _ in range(2):
        with pytest.raises(ValueError):
            written("http://a/", {"A": "b", **headers}, heads=heads)


@pytest.mark.parametrize("target", ["/a b", "/a\r\nX: y", "/a\n", "/ä", "/\x00", "/\x7f", "/a\tb", "/?q=a HTTP/1.1"])
def test_t14_a_target_is_one_word(target) -> None:
    """T14: a target with a space, a line end or anything but printable ASCII in it is not written."""
    with pytest.raises(ValueError):
        written(f"http://a{target}")


@pytest.mark.parametrize("method", ["", "GET /x", "GET\r\nX: y", "GÄT", "G T"])
def test_t14_a_method_is_one_word(method) -> None:
    """T14: so is the method."""
    heads = Heads()
    for _ in range(2):
        with pytest.raises(ValueError):
            written("http://a/", method=method, heads=heads)


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=5), st.text(max_size=20))
def test_a_head_is_written_as_it_was_meant_or_not_at_all(headers, target) -> None:
    """Whatever is in them: what a strict reader finds on the wire is what was asked for, or nothing was written."""
    try:
        head = written(f"http://a/{target}", headers)
    except (ValueError, NoUrl):
        return
    line, *fields = head.removesuffix(b"\r\n\r\n").decode().split("\r\n")
    assert line == f"GET /{target.partition('#')[0]} HTTP/1.1"
    assert fields == ["Host: a", *(f"{name}: {value}" for name, value in headers.items())]


def test_names_beyond_counting_are_not_all_remembered() -> None:
    """Thousands of different origins, names and methods are written like the first, in bounded memory."""
    heads = Heads()
    for number in range(3000):
        head = written(f"http://h{number}/", {f"X-{number}": "y"}, method=f"M{number}", heads=heads)
        assert head == f"M{number} / HTTP/1.1\r\nHost: h{number}\r\nX-{number}: y\r\nContent-Length: 0\r\n\r\n".encode()
    assert max(len(part) for part in (heads._by_text, heads._origins, heads._names, heads._openings)) <= 1024
