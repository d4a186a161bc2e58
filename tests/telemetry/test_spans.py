"""Facts as OTLP bytes without a span in between: the same bytes as over OpenTelemetry's own span."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.events import SpanEnded
from engine.telemetry.otel import _described, _span_maker
from engine.telemetry.otlp import encode_span
from engine.telemetry.redact import Redactor
from engine.telemetry.spans import Cleaner, encode_usual

CLEANER = Cleaner(Redactor(), 100)
MAKE = _span_maker(_described({"service.name": "engine"}), CLEANER)
IDS = st.binary(min_size=8, max_size=8).filter(any)
TEXT = st.text(alphabet=st.characters(codec="utf-8"), max_size=80)
VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT | st.lists(TEXT, max_size=3)


@st.composite
def facts(draw: st.DrawFn) -> SpanEnded:
    return SpanEnded(
        trace_id=(draw(IDS) + draw(IDS)).hex(),
        span_id=draw(IDS).hex(),
        parent_span_id=draw(st.none() | st.just("") | IDS.map(bytes.hex)),
        name=draw(TEXT),
        kind=draw(st.sampled_from(("internal", "client", "server", "producer", "consumer", "other"))),
        start_ns=draw(st.integers(0, 2**64 - 1)),
        end_ns=draw(st.integers(0, 2**64 - 1)),
        attributes=draw(st.dictionaries(TEXT, VALUES, max_size=5)),
        error=draw(st.none() | TEXT),
        links=draw(
            st.lists(st.tuples(st.builds(lambda a, b: (a + b).hex(), IDS, IDS), IDS.map(bytes.hex)), max_size=2).map(
                tuple
            )
        ),
    )


@given(facts())
def test_both_ways_give_the_same_bytes(event: SpanEnded) -> None:
    """A usual fact is written as its span would be, error, links, redaction and cutting included."""
    assert encode_usual(event, CLEANER) == encode_span(MAKE(event))


USUAL = SpanEnded("1" * 32, "2" * 16, "3" * 16, "GET /v1/jobs", "client", 1, 2, {})


@pytest.mark.parametrize(
    "members",
    [
        {"trace_id": "0" * 32},
        {"span_id": "22"},
        {"parent_span_id": "0" * 16},
    ],
    ids=["a trace of zeros", "a short id", "a parent of zeros"],
)
def test_what_is_unusual_takes_the_other_way(members: dict) -> None:
    """Odd ids are left to OpenTelemetry's own span, and to its judgement."""
    plain = {name: getattr(USUAL, name) for name in USUAL.__struct_fields__}

    assert encode_usual(SpanEnded(**plain | members), CLEANER) is None
