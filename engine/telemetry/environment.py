"""The OTEL_* environment for traces, and `[telemetry].otlp`, as decisions: where to, which spans, how much.

Reads a mapping it is given and tells of what it cannot honour, once each; opens nothing but certificate
files. Names and defaults are those of the OpenTelemetry specification ("Environment Variable
Specification", "OTLP Exporter"); times are in seconds or milliseconds as its Python SDK reads them.
"""

from __future__ import annotations

import base64
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from engine.errors import ConfigError
from engine.settings import Secret, TelemetrySettings
from engine.telemetry.otlp import Target

# Code and message of a warning.
Tell = Callable[[str, str], None]

DEFAULT_ENDPOINT: Final = "http://localhost:4318"
# OpenTelemetry has no such limit by default; we do, because what a value holds may be foreign.
VALUE_CHARACTERS: Final = 4096
EVERYTHING: Final = 1 << 64

_SAMPLERS: Final = ("always_on", "always_off", "traceidratio")
# RFC 9110 §5.1 and §5.5: what may stand in a field without breaking out of it.
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for. A trace is sampled when the low 64 bits of its id are below `bound`."""

    target: Target | None
    has_console: bool
    bound: int
    resource: dict[str, str]
    value_characters: int
    queue_spans: int
    batch_spans: int
    delay_s: float


def read(settings: TelemetrySettings, env: Mapping[str, str], tell: Tell) -> Wanted | None:
    """What to send where; None when nothing asks for it, or something says no.

    Raises:
        ConfigError: `[telemetry].otlp` is not an http or https URL.
    """
    exporters = _exporters(settings, env, tell)
    bound = _bound(env, tell) if exporters else 0
    target = _target(settings, env, tell) if bound and "otlp" in exporters else None
    if not bound or not (target or "console" in exporters):
        return None
    limit = _first(env, "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT")
    return Wanted(
        target=target,
        has_console="console" in exporters,
        bound=bound,
        resource=_resource(env),
        value_characters=int(limit) if limit.isdecimal() else VALUE_CHARACTERS,
        queue_spans=max(1, int(_number(env, "OTEL_BSP_MAX_QUEUE_SIZE", 2048, tell))),
        batch_spans=max(1, int(_number(env, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512, tell))),
        delay_s=_number(env, "OTEL_BSP_SCHEDULE_DELAY", 5000, tell) / 1000,
    )


def _first(env: Mapping[str, str], *names: str) -> str:
    """The first that is set; an empty variable counts as unset, as the specification says."""
    return next((value for name in names if (value := env.get(name, "").strip())), "")


def _otlp(env: Mapping[str, str], name: str) -> str:
    return _first(env, f"OTEL_EXPORTER_OTLP_TRACES_{name}", f"OTEL_EXPORTER_OTLP_{name}")


def _number(env: Mapping[str, str], name: str, default: float, tell: Tell) -> float:
    text = env.get(name, "").strip()
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e9:
        tell("telemetry.environment", f"{name} is not a positive number; {default:g} is used")
        return default
    return number


def _exporters(settings: TelemetrySettings, env: Mapping[str, str], tell: Tell) -> set[str]:
    if env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return set()
    text = _first(env, "OTEL_TRACES_EXPORTER")
    if not text:
        return {"otlp"} if settings.otlp or _otlp(env, "ENDPOINT") else set()
    named = {name.strip().lower() for name in text.split(",")} - {"", "none"}
    if unknown := sorted(named - {"otlp", "console"}):
        names = ", ".join(unknown)
        tell("telemetry.environment", f"OTEL_TRACES_EXPORTER: {names} is not known; use otlp, console or none")
    return named & {"otlp", "console"}


def _bound(env: Mapping[str, str], tell: Tell) -> int:
    """The sampler as a bound on trace ids.

    A trace of ours has no parent elsewhere, and its spans share its id, so that `parentbased_` decides
    nothing: the root's rule, applied to the id, answers for every span of the trace.
    """
    text = _first(env, "OTEL_TRACES_SAMPLER").lower()
    sampler = text.removeprefix("parentbased_") or "always_on"
    if sampler not in _SAMPLERS:
        tell("telemetry.environment", f"OTEL_TRACES_SAMPLER: {text} is not known; every trace is sent")
    if sampler == "always_off":
        return 0
    if sampler != "traceidratio":
        return EVERYTHING
    try:
        ratio = float(_first(env, "OTEL_TRACES_SAMPLER_ARG") or "1")
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:
        tell("telemetry.environment", "OTEL_TRACES_SAMPLER_ARG is not between 0 and 1; every trace is sent")
        return EVERYTHING
    return round(ratio * EVERYTHING)


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    """`k=v,k2=v2` with percent-encoded values (W3C Baggage's syntax, as both lists of OTEL use it)."""
    for member in text.split(","):
        key, equals, value = member.partition("=")
        if equals and key.strip():
            yield unquote(key.strip()), unquote(value.strip())


def _resource(env: Mapping[str, str]) -> dict[str, str]:
    resource = {"service.name": "engine", **dict(_pairs(env.get("OTEL_RESOURCE_ATTRIBUTES", "")))}
    if name := _first(env, "OTEL_SERVICE_NAME"):
        resource["service.name"] = name
    return resource


# Where to --------------------------------------------------------------------------------------


def _target(settings: TelemetrySettings, env: Mapping[str, str], tell: Tell) -> Target | None:
    if (protocol := _otlp(env, "PROTOCOL").lower()) not in {"", "http/protobuf"}:
        tell("telemetry.environment", f"OTLP protocol {protocol} is not supported; http/protobuf is used")
    own = _first(env, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    shared = _first(env, "OTEL_EXPORTER_OTLP_ENDPOINT")
    if (url := _http_url(own or shared or settings.otlp or DEFAULT_ENDPOINT)) is None:
        if own or shared:
            tell("telemetry.environment", "the OTLP endpoint is not an http or https URL; no spans are sent")
            return None
        raise ConfigError(
            "[telemetry] otlp is not an http or https URL",
            hint=f'give the base URL of an OTLP/HTTP collector, such as "{DEFAULT_ENDPOINT}"',
        )
    # An endpoint of traces alone is used as it is; a shared one is the base of every signal's path.
    path = (url.path or "/") if own else f"{url.path.rstrip('/')}/v1/traces"
    is_tls = url.scheme == "https"
    try:
        tls = _tls(env) if is_tls else None
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        tell("telemetry.environment", "a certificate or key for OTLP cannot be read; no spans are sent")
        return None
    return Target(
        host=url.hostname or "",
        port=url.port or (443 if is_tls else 80),
        path=f"{path}?{url.query}" if url.query else path,
        headers=_credentials(url) | _headers(_otlp(env, "HEADERS"), tell),
        timeout_s=_timeout_s(env, tell),
        is_gzip=_otlp(env, "COMPRESSION").lower() == "gzip",
        tls=tls,
    )


def _http_url(text: str) -> SplitResult | None:
    try:
        url = urlsplit(text)
        is_usable = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        return None
    return url if is_usable and text.isascii() and text.isprintable() and " " not in text else None


def _credentials(url: SplitResult) -> dict[str, Secret]:
    if url.username is None:
        return {}
    pair = f"{unquote(url.username)}:{unquote(url.password or '')}"
    return {"authorization": Secret("Basic " + base64.b64encode(pair.encode()).decode("ascii"))}


def _headers(text: str, tell: Tell) -> dict[str, Secret]:
    headers: dict[str, Secret] = {}
    for name, value in _pairs(text):
        if _HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value):
            headers[name.lower()] = Secret(value)
        else:
            # Neither is shown: a list that was cut at the wrong comma has the secret in the name.
            tell("telemetry.environment", "one of the OTLP headers is not a valid HTTP header; it is left out")
    return headers


def _timeout_s(env: Mapping[str, str], tell: Tell) -> float:
    """Seconds. The specification says milliseconds; every Python program reads seconds, so we do."""
    for name in ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"):
        if env.get(name, "").strip():
            return _number(env, name, 10, tell)
    return 10.0


def _tls(env: Mapping[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=_otlp(env, "CERTIFICATE") or None)
    if certificate := _otlp(env, "CLIENT_CERTIFICATE"):
        context.load_cert_chain(certificate, _otlp(env, "CLIENT_KEY") or None)
    return context


def secrets(env: Mapping[str, str]) -> list[str]:
    """What must never be printed of this environment: every value of the OTLP headers, for a `Redactor`."""
    names = ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS")
    return [value for name in names for _, value in _pairs(env.get(name, ""))]
