"""Ageing: what an answer says of the end of its route, told once, whatever form it has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract.exchange import Request
from engine.events import Warned
from engine.transport.ageing import AgeingTransport, ageing
from engine.transport.incoming import Outgoing
from engine.transport.pooled import PooledTransport

pytestmark = pytest.mark.anyio

NOW_S = 1_800_000_000.0  # 2027-01-15
WORDS = [
    "@",
    "1688169599",
    "true",
    "Sat, 01 Jul 2023 00:00:00 GMT",
    "<",
    ">",
    ";",
    "rel=",
    '"',
    "sunset",
    ",",
    " ",
    "-",
]
TEXTS = st.lists(st.sampled_from(WORDS) | st.text(max_size=5), max_size=12).map("".join)


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({}, None),
        ({"deprecation": ""}, None),
        ({"deprecation": "false"}, None),
        ({"deprecation": "@1688169599"}, "is deprecated since 2023-06-30"),
        ({"deprecation": "@4070908800"}, "is deprecated from 2099-01-01"),
        ({"deprecation": "true"}, "is deprecated"),
        ({"deprecation": "Sun, 11 Nov 2018 23:59:59 GMT"}, "is deprecated since 2018-11-11"),
        ({"sunset": "Sun, 30 Jun 2199 23:59:59 GMT"}, "is to be withdrawn from 2199-06-30"),
        (
            {"deprecation": "@1688169599", "sunset": "Sun, 30 Jun 2024 23:59:59 GMT"},
            "is deprecated since 2023-06-30 and is to be withdrawn since 2024-06-30",
        ),
        ({"deprecation": "@1e9"}, "is deprecated (on a date that cannot be read: '@1e9')"),
        ({"sunset": "\x1b[2J"}, r"is to be withdrawn (on a date that cannot be read: '\x1b[2J')"),
        ({"sunset": "x" * 500}, f"is to be withdrawn (on a date that cannot be read: '{'x' * 60}')"),
        ({"deprecation": "@" + "9" * 30}, f"is deprecated (on a date that cannot be read: '@{'9' * 30}')"),
        ({"deprecation": "@99999999999"}, "is deprecated from 5138-11-16"),
        ({"deprecation": "@1688169599;x=1"}, "is deprecated since 2023-06-30"),
        (
            {
                "deprecation": "true",
                "link": '<https://a.example/x>; rel=deprecation; type="a", </v2>;t="b; c";rel="next successor-version"',
            },
            "is deprecated; its successor is /v2; see https://a.example/x",
        ),
    ],
)
def test_what_the_headers_say(headers, said) -> None:
    """Every form of the contract and of the RFCs' drafts is read; noise is quoted, short and harmless."""
    assert ageing(headers, now_s=NOW_S) == said


@given(TEXTS, TEXTS, TEXTS)
def test_no_header_ever_fails_anything(deprecation, sunset, link) -> None:
    """Whatever the platform writes there, it is something that can be told, or nothing."""
    said = ageing({"deprecation": deprecation, "sunset": sunset, "link": link}, now_s=NOW_S)

    assert said is None or said.isprintable()


async def test_each_route_is_told_of_once_by_answers_and_by_streams(server, clock, recorder) -> None:
    """Ten answers and a stream of one route are one warning; another route is another."""
    server.answer = lambda _: Outgoing(headers={"Sunset": "Sun, 30 Jun 2024 23:59:59 GMT"}, body=b"ok")
    transport = AgeingTransport(PooledTransport(), recorder, clock)
    try:
        for _ in range(10):
            assert (await transport.send(Request("GET", server.url, {}, route="a", template="/a"))).body == b"ok"
        async with transport.stream(Request("GET", server.url, {}, route="a", template="/a")) as body:
            assert body.status == 200
        async with transport.stream(Request("POST", server.url, {}, route="b", template="/b")):
            pass
    finally:
        await transport.aclose()
    assert [event.message.split(" is ")[0] for event in recorder.events if isinstance(event, Warned)] == [
        "a (GET /a)",
        "b (POST /b)",
    ]
