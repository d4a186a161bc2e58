"""The bytes we write are those the official decoder reads back."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from engine.telemetry.otlp import any_value, encode_request, encode_span, rejected_spans, varint

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = (
    words
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.binary(max_size=20)
    | st.none()
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
maps = st.dictionaries(words, values, max_size=4)
times = st.integers(0, 2**64 - 1)
contexts = st.builds(
    SimpleNamespace,
    trace_id=st.integers(1, 2**128 - 1),
    span_id=st.integers(1, 2**64 - 1),
    trace_flags=st.integers(0, 255),
    is_remote=st.booleans(),
)
statuses = st.builds(
    SimpleNamespace,
    status_code=st.sampled_from([0, 1, 2]).map(lambda code: SimpleNamespace(value=code)),
    description=st.none() | words,
)
spans = st.builds(
    SimpleNamespace,
    name=words,
    context=contexts,
    parent=st.none() | contexts,
    kind=st.integers(0, 4).map(lambda kind: SimpleNamespace(value=kind)),
    start_time=times,
    end_time=times,
    attributes=maps,
    links=st.lists(st.builds(SimpleNamespace, context=contexts, attributes=maps), max_size=2),
    status=statuses,
)


def official_value(value: Any) -> AnyValue:
    match value:
        case str():
            return AnyValue(string_value=value)
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case bytes():
            return AnyValue(bytes_value=value)
        case list():
            return AnyValue(array_value=ArrayValue(values=map(official_value, value)))
        case dict():
            return AnyValue(kvlist_value=KeyValueList(values=official_pairs(value)))
    return AnyValue()


def official_pairs(attributes: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=official_value(value)) for key, value in attributes.items()]


def official_flags(context: Any, parent: Any) -> int:
    return context.trace_flags | 0x100 | (0x200 if parent is not None and parent.is_remote else 0)


def official_span(span: Any) -> Span:
    code = span.status.status_code.value
    return Span(
        trace_id=span.context.trace_id.to_bytes(16, "big"),
        span_id=span.context.span_id.to_bytes(8, "big"),
        parent_span_id=span.parent.span_id.to_bytes(8, "big") if span.parent else b"",
        name=span.name,
        kind=span.kind.value + 1,
        start_time_unix_nano=span.start_time,
        end_time_unix_nano=span.end_time,
        attributes=official_pairs(span.attributes),
        links=[
            Span.Link(
                trace_id=link.context.trace_id.to_bytes(16, "big"),
                span_id=link.context.span_id.to_bytes(8, "big"),
                attributes=official_pairs(link.attributes),
                flags=official_flags(link.context, link.context),
            )
            for link in span.links
        ],
        status=Status(code=code, message=span.status.description or "") if code else None,
        flags=official_flags(span.context, span.parent),
    )


@given(st.lists(spans, max_size=3), maps)
@settings(max_examples=60)
def test_the_official_decoder_reads_what_was_meant(made, resource) -> None:
    """A request decodes, with the official package, to the message built with the official package."""
    body = encode_request(map(encode_span, made), resource, scope="engine", version="1")

    expected = ResourceSpans(scope_spans=[ScopeSpans(spans=map(official_span, made))])
    expected.resource.attributes.extend(official_pairs(resource))
    expected.scope_spans[0].scope.name, expected.scope_spans[0].scope.version = "engine", "1"
    assert ExportTraceServiceRequest.FromString(body) == ExportTraceServiceRequest(resource_spans=[expected])


@given(st.integers(0, 2**64 - 1))
def test_a_varint_is_read_back(number: int) -> None:
    """Every 64-bit number survives as a varint of at most ten bytes."""
    assert len(varint(number)) <= 10
    assert Span.FromString(b"\x50" + varint(number)).dropped_attributes_count == number & 0xFFFF_FFFF


@pytest.mark.parametrize(("value", "read"), [(2**63, str(2**63)), ("\ud800", "?"), (1 + 2j, "(1+2j)")])
def test_what_the_format_cannot_hold_goes_as_text(value, read) -> None:
    """Integers over 64 bits and foreign types go as their text; a lone surrogate becomes a question mark."""
    assert AnyValue.FromString(any_value(value)).string_value == read


@given(st.integers(0, 2**63 - 1), words)
def test_rejected_spans_are_read(count: int, message: str) -> None:
    """The count of a partial success is found, whatever message stands beside it."""
    partial = ExportTracePartialSuccess(rejected_spans=count, error_message=message)

    assert rejected_spans(ExportTraceServiceResponse(partial_success=partial).SerializeToString()) == count


@given(st.binary(max_size=60))
def test_an_answer_of_noise_rejects_nothing_it_does_not_say(noise: bytes) -> None:
    """Any bytes at all can be an answer; reading them never raises."""
    assert rejected_spans(noise) >= 0
