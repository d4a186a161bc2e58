"""Check: what the options of one file mean together. Pure: a value in, faults out, nothing is opened.

Types, units and single ranges have been judged before; whether files, modules and hosts exist shows at run time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

import msgspec

from engine.codec.fields import parse_fields
from engine.codec.payload import dumps
from engine.contract.kinds import Kind
from engine.contract.profile import PROFILE, Profile
from engine.errors import RecordError
from engine.loopback import is_loopback
from engine.pipeline.callback import check_callback
from engine.pipeline.databases import check_databases
from engine.pipeline.findings import Fault, did_you_mean
from engine.pipeline.formats import check_formats
from engine.pipeline.locate import KeyPath
from engine.pipeline.memory import BASELINE, MEMORY_MIN, MIB
from engine.pipeline.objects import check_objects
from engine.pipeline.outputs import check_outputs
from engine.pipeline.plugins import check_plugins
from engine.pipeline.routes import check_routes
from engine.pipeline.scenario import ScenarioSpec, check_scenarios
from engine.pipeline.spec import (
    CallbackSpec,
    DriftSpec,
    JobSpec,
    RequestSpec,
    ResultsSpec,
    SinkSpec,
    SourceSpec,
    TransformSpec,
)
from engine.pipeline.transforms import check_transform
from engine.settings import Platform, Settings

# What a create request holds beside the payload: kind, callback, secrecy level, braces.
ENVELOPE_BYTES = 4096


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """The tables of a pipeline, each None where its types were at fault; `given` names those that are in the file."""

    given: frozenset[str] = frozenset()
    source: SourceSpec | None = None
    transform: tuple[TransformSpec | None, ...] = ()
    job: JobSpec | None = None
    request: RequestSpec | None = None
    callback: CallbackSpec | None = None
    results: ResultsSpec | None = None
    sink: SinkSpec | None = None
    test: tuple[ScenarioSpec | None, ...] = ()
    memory: int | None = None


def check_pipeline(parts: Parts, *, profile: Profile = PROFILE) -> list[Fault]:
    """Everything about a pipeline that its types cannot say."""
    kind = profile.kinds.get(parts.job.kind) if parts.job else None
    faults: list[Fault] = []
    if parts.memory is not None and parts.memory < MEMORY_MIN:
        faults.append(_too_little(parts.memory))
    if parts.source:
        faults += _source(parts.source, parts.memory)
        faults += check_formats(parts.source)
        faults += _field_types(parts.source.fields, ("source", "fields"))
    for index, transform in enumerate(parts.transform):
        if transform:
            faults += check_transform(transform, ("transform", index))
    if parts.job:
        faults += _job(parts.job, kind, profile)
    if parts.callback:
        faults += check_callback(parts.callback)
    if parts.results:
        faults += _results(parts.results, kind)
        faults += _drift(parts.results, kind, parts)
        faults += _field_types(parts.results.fields, ("results", "fields"))
    if parts.sink:
        faults += _sink(parts.sink, parts)
        faults += check_outputs(parts.sink)
    faults += _between(parts)
    faults += check_routes(parts.source, parts.request, parts.sink)
    faults += check_plugins(parts.source, parts.sink)
    faults += check_objects(parts.source, parts.sink)
    faults += check_databases(parts.source, parts.sink, parts.results)
    faults += check_scenarios(parts.test, reads_files=parts.source is None or parts.source.type != "platform")
    return faults


def check_settings(settings: Settings, *, needs_secret: bool = True) -> list[Fault]:
    """Everything about `config.toml` that its types cannot say, for the chosen profile.

    Without `needs_secret` the live one may be used by a person, who logs in.
    """
    platform = settings.platform
    return [*_credentials(platform, needs_secret=needs_secret or platform.profile != "live"), *_addresses(settings)]


def _fault(at: KeyPath, code: str, message: str, hint: str = "") -> Fault:
    return Fault(at=at, code=f"config.{code}", message=message, hint=hint)


def _too_little(memory: int) -> Fault:
    message = (
        f"`memory` is {memory / MIB:.4g} MiB, and the process itself occupies about {BASELINE // MIB} MiB "
        "before it holds a single row"
    )
    return _fault(("memory",), "range", message, f'use "{MEMORY_MIN // MIB}MiB" or more')


def _source(source: SourceSpec, memory: int | None) -> Iterator[Fault]:
    if source.paths.count("-") > 1:
        yield _fault(("source", "paths"), "conflict", "stdin (`-`) can be read only once")
    if any(not path for path in source.paths):
        yield _fault(("source", "paths"), "range", "an empty path names no file")
    if not source.paths and source.type not in ("platform", "postgres", "plugin"):
        yield _fault(("source", "paths"), "missing", "`paths` is missing in [source]", 'paths = ["in/*.ndjson"]')
    if source.type != "csv":
        if source.delimiter != ",":
            yield _fault(("source", "delimiter"), "conflict", f"a {source.type} source has no `delimiter`")
        if source.header:
            yield _fault(("source", "header"), "conflict", f"a {source.type} source has no `header`")
    elif source.delimiter in '"\r\n':
        yield _fault(("source", "delimiter"), "range", "a quote or a line end cannot delimit")
    if source.header and source.key not in source.header:
        hint = did_you_mean(source.key, source.header)
        yield _fault(("source", "key"), "conflict", f"key `{source.key}` is not in `header`", hint)
    if len(set(source.header)) != len(source.header):
        yield _fault(("source", "header"), "conflict", "a column name stands twice")
    if memory is not None and source.line_max > memory:
        hint = "lower line_max, or raise memory"
        yield _fault(("source", "line_max"), "conflict", "one record may be larger than `memory`", hint)


def _field_types(fields: dict[str, str], at: KeyPath) -> Iterator[Fault]:
    for name, text in fields.items():
        try:
            parse_fields({name: text})
        except RecordError as exc:
            yield _fault((*at, name), "choice", exc.message, exc.hint)


def _job(job: JobSpec, kind: Kind | None, profile: Profile) -> Iterator[Fault]:
    if kind is None:
        yield Fault(
            at=("job", "kind"),
            code="config.choice",
            message=f"unknown job kind `{job.kind}`",
            hint=did_you_mean(job.kind, profile.kinds),
            options=tuple(profile.kinds),
        )
    else:
        yield from _payload(job, kind)
        if job.batch.rows > profile.profile_ids_max:
            message = f"{job.batch.rows} rows are more than a job of {kind.name} may carry"
            yield _fault(("job", "batch", "rows"), "range", message, f"use 1 to {profile.profile_ids_max}")
    room = profile.body_max - ENVELOPE_BYTES - len(dumps(_plain(job.payload)))
    if job.batch.bytes > room:
        message = "a batch of this size and the rest of its request exceed what the platform accepts"
        yield _fault(("job", "batch", "bytes"), "range", message, f'use at most "{max(room, 0) // 1024}KiB"')
    if job.poll and job.poll.max < job.poll.first:
        yield _fault(("job", "poll", "max"), "conflict", "`max` is shorter than `first`")
    if job.secrecy_level is not None and job.secrecy_level not in profile.secrecy_levels:
        levels = ", ".join(profile.secrecy_levels)
        message = f"unknown secrecy level `{job.secrecy_level}`"
        yield _fault(("job", "secrecy_level"), "choice", message, f"use one of {levels}")


def _plain(value: Any) -> Any:
    """A payload as far as its size matters: TOML's dates are written as text."""
    match value:
        case dict():
            return {key: _plain(member) for key, member in value.items()}
        case list():
            return [_plain(member) for member in value]
        case str() | bool() | float() | None:
            return value
        case int():
            return value if abs(value) < 2**53 else str(value)
        case _:
            return str(value)


def _payload(job: JobSpec, kind: Kind) -> Iterator[Fault]:
    """The member that the batch fills cannot be written by hand; one that looks like a known one is a slip."""
    for name in job.payload:
        # A member we do not know may be right: the platform's own documents leave the list open.
        if name not in kind.members and (hint := did_you_mean(name, kind.members)):
            message = f"unknown member `{name}` of the payload of {kind.name}"
            at: KeyPath = ("job", "payload", name)
            yield Fault(at=at, code="config.unknown_key", message=message, hint=hint, about="key", options=kind.members)
    here: Any = job.payload
    for depth, name in enumerate(kind.path, start=1):
        if not isinstance(here, dict) or name not in here:
            return
        here = here[name]
        at = ("job", "payload", *kind.path[:depth])
        if depth == len(kind.path):
            yield _fault(at, "conflict", f"`{'.'.join(kind.path)}` is filled from the batch")
        elif not isinstance(here, dict):
            yield _fault(at, "conflict", f"`{name}` must be a table: the batch goes into it")


def _results(results: ResultsSpec, kind: Kind | None) -> Iterator[Fault]:
    status = results.status or (kind.status if kind else None)
    for name in ("accepted", "rejected"):
        if getattr(results, name) is not None and kind and status is None:
            message = f"`{name}` needs `status`: rows of {kind.name} have none of their own"
            yield _fault(("results", name), "conflict", message)
    both = set(results.accepted or ()) & set(results.rejected or ())
    if both:
        message = f"{', '.join(sorted(both))} cannot be accepted and rejected"
        yield _fault(("results", "rejected"), "conflict", message)


def _drift(results: ResultsSpec, kind: Kind | None, parts: Parts) -> Iterator[Fault]:
    drift, fields = results.drift, results.fields
    at = ("results", "drift")
    if drift == DriftSpec():
        return
    if parts.job is None:
        yield _fault(at, "conflict", "only the results of jobs are held to it", "leave it out, or give it a [job]")
        return
    if not fields:
        yield _fault(at, "missing", "[results.drift] needs [results.fields] to hold rows to", 'for example: id = "str"')
        return
    if drift.new_field == "widen" and parts.sink and parts.sink.type != "ndjson":
        message = f"a {parts.sink.type} sink has the columns that are declared, and no others"
        yield _fault((*at, "new_field"), "conflict", message, 'use "drop" or "reject", or an ndjson sink')
    if drift.new_field == "reject" and kind:
        named = (results.match or kind.match, results.status or kind.status)
        for name in named:
            if name is not None and name not in fields:
                message = f"`{name}` is in every row result, and would be new in each"
                yield _fault((*at, "new_field"), "conflict", message, f'declare it: {name} = "str"')
    if drift.bad_value == "null" and not any(text.rstrip().endswith("None") for text in fields.values()):
        message = "no field may be null"
        yield _fault((*at, "bad_value"), "conflict", message, 'for example: score = "int | None"')


def _sink(sink: SinkSpec, parts: Parts) -> Iterator[Fault]:
    if sink.type in ("csv", "parquet") and parts.results and not parts.results.fields:
        message = f"a {sink.type} sink needs [results.fields]: the columns and their types"
        yield _fault(("sink", "type"), "missing", message, 'for example: id = "str"')
    if sink.type == "parquet" and parts.memory is not None and sink.row_group > parts.memory:
        yield _fault(("sink", "row_group"), "conflict", "a row group does not fit into `memory`")
    if not sink.path and sink.type in ("ndjson", "csv", "parquet"):
        yield _fault(("sink", "path"), "missing", "`path` is missing in [sink]", 'path = "out/name"')
    if not sink.path:
        return
    target = os.path.normpath(sink.path)
    for index, path in enumerate(parts.source.paths if parts.source else ()):
        if path != "-" and _overlaps(os.path.normpath(path), target):
            # The next run would read what this one wrote.
            message = f"`{path}` lies in the sink's directory `{sink.path}`"
            yield _fault(("source", "paths", index), "unsafe", message, "write to a directory of its own")


def _between(parts: Parts) -> Iterator[Fault]:
    """What stands between source and sink: jobs, or a request for each row, or nothing."""
    given = parts.given
    if {"job", "request"} <= given:
        yield _fault(("request",), "conflict", "rows travel in jobs, or each in a request of its own", "leave out one")
    if parts.sink and parts.sink.type == "platform" and (both := sorted({"job", "request"} & given)):
        message = f"a platform sink sends rows as they were read: it goes with no [{both[0]}]"
        hint = "land the results in files, and send these with a pipeline of its own"
        yield _fault(("sink", "type"), "conflict", message, hint)
    if "job" not in given and "callback" in given:
        yield _fault(("callback",), "conflict", "only jobs call back, and there is no [job]")
    if "job" not in given and parts.results:
        for name in ("rows", "match", "status", "accepted", "rejected"):
            if getattr(parts.results, name) is not None:
                yield _fault(("results", name), "conflict", f"`{name}` is about the results of jobs: there is no [job]")


def _overlaps(source: str, target: str) -> bool:
    return source == target or (target != "." and PurePath(source).is_relative_to(target))


def _credentials(platform: Platform, *, needs_secret: bool) -> Iterator[Fault]:
    has_token = platform.profile == "sandbox" and platform.sandbox.token is not None
    if platform.profile == "emulator" or has_token:
        return
    what = f'required by profile "{platform.profile}"'
    if platform.client_id is None:
        yield _fault(("platform", "client_id"), "missing", "`client_id` is missing in [platform]", what)
    if platform.client_secret is None and needs_secret:
        message = "`client_secret` is missing in [platform]"
        yield _fault(("platform", "client_secret"), "missing", message, what)


def _addresses(settings: Settings) -> Iterator[Fault]:
    platform = settings.platform
    urls: dict[KeyPath, str | None] = {("telemetry", "otlp"): settings.telemetry.otlp}
    match platform.profile:
        case "emulator":
            urls["platform", "emulator", "url"] = platform.emulator.url
            urls["platform", "emulator", "sandbox_url"] = platform.emulator.sandbox_url
        case "sandbox":
            urls["platform", "sandbox", "auth_url"] = platform.sandbox.auth_url
            urls["platform", "sandbox", "api_url"] = platform.sandbox.api_url
            urls["platform", "sandbox", "docs_url"] = platform.sandbox.docs_url
        case "live":
            urls["platform", "live", "auth_url"] = platform.live.auth_url
            urls["platform", "live", "api_url"] = platform.live.api_url
            urls["platform", "live", "docs_url"] = platform.live.docs_url
    urls["objects", "endpoint"] = settings.objects.endpoint
    for at, url in urls.items():
        if url is not None:
            yield from _address(at, url, carries_secrets=at[0] != "telemetry")
    keys = (settings.objects.access_key_id, settings.objects.secret_access_key)
    if any(keys) and not all(keys):
        message = "`access_key_id` and `secret_access_key` belong together"
        yield _fault(("objects", "access_key_id" if keys[0] else "secret_access_key"), "conflict", message)
    if platform.emulator.sandbox_url and not platform.emulator.url:
        message = "`sandbox_url` without `url`: which emulator is meant?"
        yield _fault(("platform", "emulator", "sandbox_url"), "conflict", message)


def _address(at: KeyPath, url: str, *, carries_secrets: bool) -> Iterator[Fault]:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        yield _fault(at, "range", f"`{at[-1]}` is no URL", 'write "https://host" or "http://127.0.0.1:PORT"')
    elif parts.username or parts.password:
        yield _fault(at, "secret", f"`{at[-1]}` holds credentials", "leave them out of the URL")
    elif carries_secrets and parts.scheme == "http" and not is_loopback(host):
        message = f"`{at[-1]}` would send credentials unencrypted"
        yield _fault(at, "unsafe", message, "use https; http is for loopback only")
