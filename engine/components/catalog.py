"""Catalog: the built-in components by name, and the functions that open them from a spec.

The one file that knows them all; none of them knows another kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from engine.components import plugins
from engine.components.sinks.csv import CsvSink
from engine.components.sinks.directory import Directory
from engine.components.sinks.http import HttpSink
from engine.components.sinks.ndjson import NdjsonSink
from engine.components.sinks.objects import ObjectDirectory
from engine.components.sinks.parquet import ParquetSink
from engine.components.sinks.parts import PartsDirectory
from engine.components.sinks.platform import PlatformSink
from engine.components.sinks.postgres import PostgresSink
from engine.components.sinks.python import PythonSink
from engine.components.sinks.stdout import StdoutSink
from engine.components.sources.csv import CsvSource
from engine.components.sources.files import VALUES_MAX, FileSource
from engine.components.sources.json import JsonSource
from engine.components.sources.letters import LetterSource
from engine.components.sources.ndjson import NdjsonSource
from engine.components.sources.objects import Objects
from engine.components.sources.pages import Gate, PagesSource
from engine.components.sources.parquet import ParquetSource
from engine.components.sources.plugin import PluginSource
from engine.components.sources.postgres import PostgresSource
from engine.components.sources.shared import open_shared
from engine.components.transforms.cleaning import Cast, Flatten, Mask
from engine.components.transforms.computing import Map, Where
from engine.components.transforms.filter import Filter
from engine.components.transforms.python import TIMEOUT_S, Python, resolve
from engine.components.transforms.shaping import Rename, Select, Set
from engine.errors import ConfigError
from engine.pipeline.databases import landed_key
from engine.pipeline.objects import is_object
from engine.pipeline.spec import PipelineSpec, SinkSpec, SourceSpec, TransformSpec
from engine.ports import Sink, Source, Transform
from engine.record import Share
from engine.settings import ObjectsSettings
from engine.store.letters import Shelf

SOURCES = {
    "ndjson": "JSON objects, one per line; files, globs or stdin, plain, gzip or zstd",
    "csv": "delimited text with a header; files, globs or stdin, plain, gzip or zstd",
    "json": "the elements of a JSON array, alone or a member of an object; files or globs, plain, gzip or zstd",
    "parquet": "rows of columns as JSON objects; files or globs; needs the extra `parquet`",
    "platform": "what a route of the platform lists, page after page",
    "postgres": "rows of a table or a query, in the order of a cursor; needs the extra `postgres`",
    "plugin": "rows that another distribution brings, by its entry point",
}
TRANSFORMS = {
    "select": "keep only these members",
    "rename": "give members new names",
    "set": "give members constant values",
    "map": "give members the values of expressions",
    "filter": "keep the records for which a comparison or an expression holds",
    "cast": "make typed values out of text",
    "mask": "make private values unreadable",
    "flatten": "make members of objects members of the row",
    "python": "call a function of your own over a batch",
    "plugin": "a transform that another distribution brings, by its entry point",
}
SINKS = {
    "ndjson": "JSON objects, one per line; plain, gzip or zstd",
    "csv": "quoted text with a header; plain, gzip or zstd",
    "parquet": "typed columns; needs the extra `parquet`",
    "platform": "a route of the platform, asked once for each row",
    "postgres": "rows of a table, merged by key or appended; needs the extra `postgres`",
    "http": "a URL of your own, given batches of rows, each with a key",
    "stdout": "JSON objects, one per line, on standard output",
    "python": "a function of your own, called with batches of rows",
    "plugin": "a sink that another distribution brings, by its entry point",
}


def open_source(
    spec: SourceSpec,
    *,
    want_values: bool,
    values_max: int = VALUES_MAX,
    gate: Gate | None = None,
    share: Share | None = None,
    store: ObjectsSettings | None = None,
) -> Source:
    """The source of a pipeline; `want_values` when transforms will read the objects, each of `values_max` at most.

    Listings are asked for through `gate`, once it is connected; `store` says how objects are reached. With `share` only
    that share of the files is read.

    Nothing is opened yet: `read` raises InputError for what is not there.

    Raises:
        RecordError: a field type is not one, or the key's cannot name a row.
    """
    if spec.type == "platform":
        return PagesSource(spec, gate or Gate(), want_values=want_values, values_max=values_max)
    if spec.type == "plugin":
        function = plugins.find(plugins.SOURCES, spec.use or "")
        return PluginSource(spec, function, want_values=want_values, values_max=values_max)
    if spec.type == "postgres":
        return PostgresSource(spec, want_values=want_values, values_max=values_max)
    objects = Objects(store or ObjectsSettings())
    if share is not None:
        return open_shared(spec, share, want_values=want_values, values_max=values_max, objects=objects)
    kinds: dict[str, type[FileSource]] = {"csv": CsvSource, "json": JsonSource, "parquet": ParquetSource}
    source = kinds.get(spec.type, NdjsonSource)(spec, want_values=want_values, values_max=values_max)
    source.objects = objects
    return source


def open_letters(spec: SourceSpec, shelf: Shelf, *, want_values: bool) -> Source:
    """The dead letters of a replay as a source, by the rules of the pipeline's own.

    Raises:
        RecordError: as `open_source`.
    """
    return LetterSource(spec, shelf, want_values=want_values)


def open_transforms(specs: Sequence[TransformSpec], *, base: Path) -> list[Transform]:
    """The transforms of a pipeline, in order; `base` is the folder of its file.

    Raises:
        ConfigError: an option is missing or wrong, or a Python function cannot be imported.
    """
    return [_transform(spec, base) for spec in specs]


def _transform(spec: TransformSpec, base: Path) -> Transform:
    match spec:
        case TransformSpec(type="select", fields=tuple(fields)):
            return Select(fields)
        case TransformSpec(type="rename", fields=dict(fields)):
            return Rename(fields)
        case TransformSpec(type="set", values=dict(values)):
            return Set(values)
        case TransformSpec(type="map", values=dict(values)):
            return Map(values)
        case TransformSpec(type="filter", where=str(where)):
            return Where(where)
        case TransformSpec(type="cast", fields=dict(fields)):
            return Cast(fields, bad=spec.bad or "reject")
        case TransformSpec(type="mask", fields=tuple(fields)):
            return Mask(fields, how=spec.how or "redact", secret=spec.secret)
        case TransformSpec(type="flatten"):
            return Flatten(spec.fields if isinstance(spec.fields, tuple) else (), separator=spec.separator or "_")
        case TransformSpec(type="filter", field=str(field), op=str(op)):
            return Filter(field, op, spec.value)
        case TransformSpec(type="python", call=str(call)):
            return Python(call, resolve(call, base), timeout_s=spec.timeout or TIMEOUT_S)
        case TransformSpec(type="plugin", use=str(use)):
            function = plugins.opened(plugins.TRANSFORMS, use, spec.options or {})
            return Python(use, function, timeout_s=spec.timeout or TIMEOUT_S)
    needs = {"select": "`fields`, a list", "rename": "`fields`, a table", "set": "`values`, a table"}
    needs |= {
        "filter": "`field` and `op`, or `where`",
        "python": "`call`",
        "plugin": "`use`",
        "map": "`values`, a table",
    }
    needs |= {"cast": "`fields`, a table", "mask": "`fields`, a list"}
    raise ConfigError(f"the transform `{spec.type}` needs {needs[spec.type]}")


def sink_of(
    spec: PipelineSpec, *, owner: Callable[[], str], store: ObjectsSettings, base: Path, share: Share | None = None
) -> Sink:
    """The sink of a pipeline; `owner` says what its ledger is known by, where several could write to one place.

    `base` is the folder of the pipeline's file, `store` how objects are reached.

    Raises:
        ConfigError, MissingExtra, OutputError, RecordError: as `open_sink`.
    """
    if spec.sink.type == "postgres":
        return PostgresSink(spec.sink, spec.results.fields, pipeline=spec.name, key=landed_key(spec), owner=owner())
    if spec.sink.type == "http":
        return HttpSink(spec.sink, pipeline=spec.name, key=landed_key(spec), owner=owner())
    if spec.sink.type == "plugin":
        opening = plugins.Opening(
            options=spec.sink.options,
            fields=spec.results.fields,
            key=landed_key(spec),
            pipeline=spec.name,
            owner=owner(),
        )
        sink: Sink = plugins.opened(plugins.SINKS, spec.sink.use or "", opening)
        return sink
    if spec.sink.type == "python":
        call = spec.sink.call or ""
        return PythonSink(call, resolve(call, base, what="sink"), pipeline=spec.name, key=landed_key(spec))
    return open_sink(spec.sink, spec.results.fields, pipeline=spec.name, store=store, share=share)


def open_sink(
    spec: SinkSpec,
    fields: Mapping[str, str],
    *,
    pipeline: str,
    store: ObjectsSettings | None = None,
    share: Share | None = None,
) -> Sink:
    """A sink of files, its directory created, of objects, or of a route; `fields` are `[results.fields]`.

    With `share` its parts and its manifest carry the share's tag, and those of other shares are left alone.

    Raises:
        ConfigError: CSV or Parquet without declared fields. MissingExtra: Parquet without its library.
        OutputError: the directory cannot be written, or belongs to another pipeline.
        RecordError: a field type is not one.
    """
    if spec.type == "platform":
        return PlatformSink()
    if spec.type == "stdout":
        return StdoutSink()
    if spec.type != "ndjson" and not fields:
        raise ConfigError(
            f'[sink] type = "{spec.type}" needs to know its columns',
            hint="declare the columns in [results.fields], or use ndjson",
        )
    # The directory belongs to the pipeline, not to one of its shares.
    owner, tag = (pipeline.removesuffix(f".{share.tag}"), share.tag) if share else (pipeline, "")
    directory: Directory
    if is_object(spec.path):
        directory = ObjectDirectory(spec.path, pipeline=pipeline, settings=store or ObjectsSettings())
    else:
        directory = PartsDirectory(spec.path, pipeline=owner, tag=tag)
    match spec.type:
        case "csv":
            return CsvSink(spec, fields, directory)
        case "parquet":
            return ParquetSink(spec, fields, directory)
    return NdjsonSink(spec, directory)
