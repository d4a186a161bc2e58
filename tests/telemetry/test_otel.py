"""Spans arrive at a real collector, and a bad collector disturbs nobody."""

import subprocess
import sys
import threading
import time
from itertools import pairwise

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

from engine.errors import ConfigError
from engine.events import Waited
from engine.settings import TelemetrySettings
from engine.telemetry.otel import Telemetry, open_telemetry
from engine.telemetry.redact import Redactor

OFF = TelemetrySettings()


def opened(url: str, recorder=None, **env: str) -> Telemetry:
    telemetry = open_telemetry(OFF, {"OTEL_EXPORTER_OTLP_ENDPOINT": url, **env}, observer=recorder)
    assert telemetry is not None
    return telemetry


def test_a_span_arrives_as_it_was_told(collector, span) -> None:
    """Ids, parent, times, kind, attributes, links and the error of a span reach the collector unchanged."""
    telemetry = opened(collector.url)
    link = ("f" * 32, "e" * 16)
    attributes = {"http.request.method": "POST", "rows": 7, "ok": True, "share": 0.5, "none": None, "l": ["a"]}
    telemetry.notice(
        span(2, parent_span_id=f"{1:016x}", kind="client", attributes=attributes, error="went wrong", links=(link,))
    )
    telemetry.close()

    request = collector.next()
    (arrived,) = request.spans
    assert request.path == "/v1/traces"
    assert request.headers["content-type"] == "application/x-protobuf"
    assert arrived.trace_id.hex() == span().trace_id
    assert (arrived.span_id.hex(), arrived.parent_span_id.hex()) == (f"{2:016x}", f"{1:016x}")
    assert (arrived.start_time_unix_nano, arrived.end_time_unix_nano) == (span().start_ns, span().end_ns)
    assert (arrived.name, arrived.kind) == ("job", 3)
    assert [(at.trace_id.hex(), at.span_id.hex()) for at in arrived.links] == [link]
    assert (arrived.status.code, arrived.status.message) == (2, "went wrong")
    assert arrived.flags & 0xFF == 1
    assert {item.key for item in arrived.attributes} == set(attributes) - {"none"}
    assert (telemetry.sent, telemetry.dropped) == (1, 0)


def test_a_full_batch_leaves_before_its_time(collector, span) -> None:
    """A batch that is full is sent at once, in order, and the connection is kept for the next."""
    telemetry = opened(collector.url, OTEL_BSP_MAX_EXPORT_BATCH_SIZE="3", OTEL_BSP_SCHEDULE_DELAY="600000")
    for number in range(1, 4):
        telemetry.notice(span(number))
    first = collector.next()
    for number in range(4, 7):
        telemetry.notice(span(number))
    second = collector.next()
    telemetry.close()

    arrived = [int.from_bytes(at.span_id, "big") for at in (*first.spans, *second.spans)]
    assert arrived == [1, 2, 3, 4, 5, 6]
    assert collector.connections == 1


def test_the_environment_says_how(collector, span) -> None:
    """Endpoint, headers, compression and resource of the environment are honoured, the specific ones first."""
    telemetry = opened(
        "http://127.0.0.1:1",
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{collector.url}/own/path?a=b",
        OTEL_EXPORTER_OTLP_HEADERS="x-shared=no",
        OTEL_EXPORTER_OTLP_TRACES_HEADERS="Authorization=Bearer%20abc, x-two = 2",
        OTEL_SERVICE_NAME="intake",
        OTEL_RESOURCE_ATTRIBUTES="service.name=lost,deployment.environment.name=pre%20prod",
    )
    telemetry.notice(span())
    telemetry.close()

    request = collector.next()
    assert request.path == "/own/path?a=b"
    assert (request.headers["authorization"], request.headers["x-two"]) == ("Bearer abc", "2")
    assert "x-shared" not in request.headers
    assert request.resource["service.name"] == "intake"
    assert request.resource["deployment.environment.name"] == "pre prod"
    assert request.resource["service.version"]


def test_gzip_is_sent_when_asked_for(collector, span) -> None:
    """With OTEL_EXPORTER_OTLP_COMPRESSION=gzip the body is gzip, and says so."""
    telemetry = opened(collector.url, OTEL_EXPORTER_OTLP_COMPRESSION="gzip")
    telemetry.notice(span())
    telemetry.close()

    request = collector.next()
    assert request.headers["content-encoding"] == "gzip"
    assert len(request.spans) == 1


def test_the_settings_name_a_collector(collector, span) -> None:
    """`[telemetry].otlp` alone is enough."""
    telemetry = open_telemetry(TelemetrySettings(otlp=collector.url + "/"), {})
    assert telemetry is not None
    telemetry.notice(span())
    telemetry.close()

    assert collector.next().path == "/v1/traces"


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "TRUE"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_SAMPLER": "parentbased_always_off"},
    ],
)
def test_nothing_opens_unless_asked(env) -> None:
    """Without a collector, or with telemetry switched off, there is no observer and no thread."""
    before = threading.active_count()

    assert open_telemetry(OFF, env) is None
    assert threading.active_count() == before


def test_the_sdk_is_not_imported_unless_asked() -> None:
    """Opening telemetry that nobody asked for imports nothing of OpenTelemetry."""
    program = (
        "import sys; from engine.settings import TelemetrySettings; from engine.telemetry.otel import open_telemetry\n"
        "assert open_telemetry(TelemetrySettings(), {}) is None\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )

    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_sampling_agrees_with_the_sdk(dead_url, span) -> None:
    """A ratio samples the same traces as the SDK's own sampler does, and spans of others never queue."""
    ratio = opened(dead_url, OTEL_TRACES_SAMPLER="parentbased_traceidratio", OTEL_TRACES_SAMPLER_ARG="0.25")
    bound = TraceIdRatioBased(0.25).bound
    for low in (0, 1, bound - 1, bound, bound + 1, 2**64 - 1):
        assert ratio.is_sampled(f"{0xABC:016x}{low:016x}") == (low < bound)
    ratio.notice(span(trace_id="f" * 32))
    ratio.close()

    assert (ratio.sent, ratio.dropped) == (0, 0)


def test_a_span_is_clean_before_it_leaves(collector, span) -> None:
    """Secrets in attributes or in an error are masked, and long values are cut."""
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "40"}
    telemetry = open_telemetry(OFF, env, redactor=Redactor(["hunter22"]))
    assert telemetry is not None
    attributes = {"url.full": "https://a.example/r?sig=hunter22", "long": "x" * 100, "list": ["hunter22"]}
    telemetry.notice(span(attributes=attributes, error="refused hunter22"))
    telemetry.close()

    request = collector.next()
    (arrived,) = request.spans
    assert b"hunter22" not in request.raw
    assert [len(item.value.string_value) for item in arrived.attributes if item.key == "long"] == [40]


def test_tls_is_verified_against_the_named_certificate(tls_collector, certificate, span) -> None:
    """Over https spans arrive where the certificate is trusted."""
    telemetry = opened(tls_collector.url, OTEL_EXPORTER_OTLP_CERTIFICATE=str(certificate))
    telemetry.notice(span())
    telemetry.close()

    assert len(tls_collector.next().spans) == 1
    assert telemetry.sent == 1


def test_an_unknown_certificate_gets_no_spans(tls_collector, span) -> None:
    """A collector whose certificate nobody vouches for receives nothing."""
    telemetry = opened(tls_collector.url)
    telemetry.notice(span())
    telemetry.close()

    assert tls_collector.received.empty()
    assert (telemetry.sent, telemetry.dropped) == (0, 1)


# A collector that is not well -----------------------------------------------------------------


def test_a_dead_collector_costs_nothing(dead_url, span, recorder) -> None:
    """With nobody listening every span is counted as lost, closing is quick, and one warning says so."""
    telemetry = opened(dead_url, recorder)
    for number in range(1, 1001):
        telemetry.notice(span(number))
    began = time.monotonic()
    telemetry.close()

    assert time.monotonic() - began < 5
    assert (telemetry.sent, telemetry.dropped) == (0, 1000)
    assert [event.code for event in recorder.warned] == ["telemetry.dropped"]


def test_a_mute_collector_is_left_by_the_deadline(mute_url, span) -> None:
    """A collector that never answers holds `close` no longer than it was given."""
    telemetry = opened(mute_url)
    telemetry.notice(span())
    began = time.monotonic()
    telemetry.close(0.5)

    assert time.monotonic() - began < 2
    assert (telemetry.sent, telemetry.dropped) == (0, 1)


def test_a_hanging_exchange_is_broken_off(collector, span, answer) -> None:
    """An exchange that began before `close` is broken off at its deadline, and its spans are counted."""
    gate = threading.Event()
    collector.answers.put(answer(gate=gate))
    telemetry = opened(collector.url, OTEL_BSP_MAX_EXPORT_BATCH_SIZE="1", OTEL_EXPORTER_OTLP_TIMEOUT="60")
    telemetry.notice(span(1))
    collector.next()
    telemetry.notice(span(2))
    began = time.monotonic()
    telemetry.close(0.5)
    took_s = time.monotonic() - began
    gate.set()

    assert took_s < 2
    assert telemetry.sent + telemetry.dropped == 2
    assert telemetry.dropped >= 1


def test_a_slow_collector_fills_the_queue_and_no_more(collector, span, answer, recorder) -> None:
    """While an answer is awaited, the queue takes what it can hold; the rest is dropped without waiting."""
    gate = threading.Event()
    collector.answers.put(answer(gate=gate))
    telemetry = opened(collector.url, recorder, OTEL_BSP_MAX_QUEUE_SIZE="8", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="1")
    telemetry.notice(span(1))
    collector.next()
    for number in range(2, 102):
        telemetry.notice(span(number))
    assert telemetry.dropped == 92
    gate.set()
    telemetry.close()

    assert (telemetry.sent, telemetry.dropped) == (9, 92)
    assert [event.code for event in recorder.warned] == ["telemetry.undelivered", "telemetry.dropped"]


@pytest.mark.parametrize("status", [400, 401, 404, 413, 302, 500])
def test_a_refusal_is_not_repeated(collector, span, answer, status, recorder) -> None:
    """A status that is not for trying again loses the batch at once; the next batch is tried anew."""
    collector.answers.put(answer(status=status, body=b"no", headers={"location": "/elsewhere"}))
    telemetry = opened(collector.url, recorder, OTEL_BSP_MAX_EXPORT_BATCH_SIZE="1")
    telemetry.notice(span(1))
    collector.next()
    telemetry.notice(span(2))
    collector.next()
    telemetry.close()

    assert (telemetry.sent, telemetry.dropped) == (1, 1)
    assert collector.received.empty()
    assert f"it answered {status}" in recorder.warned[-1].message


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_push_back_is_waited_for(collector, span, answer, status) -> None:
    """Push-back with Retry-After is waited for, and the same spans arrive."""
    collector.answers.put(answer(status=status, headers={"retry-after": "0"}))
    telemetry = opened(collector.url)
    telemetry.notice(span())
    telemetry.close()

    first, second = collector.next(), collector.next()
    assert first.raw == second.raw
    assert (telemetry.sent, telemetry.dropped) == (1, 0)


def test_a_long_push_back_does_not_hold_the_end(collector, span, answer) -> None:
    """A Retry-After beyond the deadline of `close` is not waited for."""
    collector.answers.put(answer(status=429, headers={"retry-after": "3600"}))
    telemetry = opened(collector.url, OTEL_BSP_MAX_EXPORT_BATCH_SIZE="1")
    telemetry.notice(span())
    collector.next()
    began = time.monotonic()
    telemetry.close()

    assert time.monotonic() - began < 5
    assert (telemetry.sent, telemetry.dropped) == (0, 1)


def test_an_idle_connection_that_was_closed_is_opened_again(collector, span, answer) -> None:
    """A kept connection that the collector closes costs neither a span nor an attempt."""
    telemetry = opened(collector.url, OTEL_BSP_MAX_EXPORT_BATCH_SIZE="1")
    telemetry.notice(span(1))
    collector.next()
    collector.answers.put(answer(hang_up=True))
    telemetry.notice(span(2))
    collector.next()
    collector.next()
    telemetry.close()

    assert (telemetry.sent, telemetry.dropped) == (2, 0)
    assert collector.connections == 2


def test_a_partial_success_is_counted(collector, span, answer) -> None:
    """Spans that the collector says it rejected count as dropped."""
    partial = ExportTraceServiceResponse(partial_success=ExportTracePartialSuccess(rejected_spans=2))
    collector.answers.put(answer(body=partial.SerializeToString()))
    telemetry = opened(collector.url)
    for number in range(1, 4):
        telemetry.notice(span(number))
    telemetry.close()

    assert (telemetry.sent, telemetry.dropped) == (1, 2)


def test_a_malformed_span_loses_itself_alone(collector, span) -> None:
    """A fact with an impossible id or time is dropped; the others of its batch arrive."""
    telemetry = opened(collector.url)
    bad = [span(trace_id="x" * 32), span(span_id="0" * 16), span(start_ns=-1), span(links=(("1", "x"),))]
    for fact in (span(1), *bad, span(2)):
        telemetry.notice(fact)
    telemetry.close()

    assert len(collector.next().spans) == 2
    assert (telemetry.sent, telemetry.dropped) == (2, 4)


def test_closing_twice_and_late_facts_are_harmless(collector, span, recorder) -> None:
    """After `close` a fact is dropped and counted, and a second `close` does nothing."""
    telemetry = opened(collector.url, recorder)
    telemetry.notice(Waited("source", 0.1))
    telemetry.close()
    telemetry.notice(span())
    telemetry.close()

    assert (telemetry.sent, telemetry.dropped) == (0, 1)


# What cannot be honoured ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "grpc is not supported; http/protobuf is used"),
        ({"OTEL_TRACES_EXPORTER": "otlp,zipkin"}, "zipkin is not known"),
        ({"OTEL_TRACES_SAMPLER": "jaeger_remote"}, "jaeger_remote is not known"),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "2"}, "between 0 and 1"),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}, "OTEL_EXPORTER_OTLP_TIMEOUT is not a positive number"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "-1"}, "OTEL_BSP_MAX_QUEUE_SIZE is not a positive number"),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "x=hunter22%0D%0Ay: z"}, "not a valid HTTP header"),
    ],
)
def test_what_cannot_be_honoured_is_said_once(collector, span, recorder, env, says) -> None:
    """A variable that cannot be honoured is one warning without its secret, and spans still flow."""
    telemetry = opened(collector.url, recorder, **env)
    telemetry.notice(span())
    telemetry.close()

    (warning,) = recorder.warned
    assert says in warning.message
    assert "hunter22" not in warning.message
    assert telemetry.sent == 1


@pytest.mark.parametrize("url", ["collector:4317", "http://", "ftp://a", "http://a:99999", "http://a b"])
def test_a_useless_endpoint_fails_only_its_own_file(url, recorder) -> None:
    """A wrong URL is an error in config.toml, and a warning in the environment, which others share."""
    assert open_telemetry(OFF, {"OTEL_EXPORTER_OTLP_ENDPOINT": url}, observer=recorder) is None
    assert len(recorder.warned) == 1
    with pytest.raises(ConfigError, match=r"otlp is not an http"):
        open_telemetry(TelemetrySettings(otlp=url), {})


def test_a_missing_certificate_is_said(recorder) -> None:
    """A certificate file that cannot be read is a warning, and nothing is sent without it."""
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://127.0.0.1:1", "OTEL_EXPORTER_OTLP_CERTIFICATE": "absent.pem"}

    assert open_telemetry(OFF, env, observer=recorder) is None
    assert "certificate" in recorder.warned[0].message


def test_the_console_shows_spans_on_stderr(span, capsys) -> None:
    """OTEL_TRACES_EXPORTER=console writes one JSON line a span to stderr and nothing to stdout."""
    telemetry = open_telemetry(OFF, {"OTEL_TRACES_EXPORTER": "console"})
    assert telemetry is not None
    telemetry.notice(span())
    telemetry.close()

    shown = capsys.readouterr()
    assert shown.out == ""
    assert span().trace_id in shown.err
    assert telemetry.sent == 1
    assert all(a != b for a, b in pairwise(shown.err.splitlines()))
