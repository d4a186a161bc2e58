"""The mirror of a pipeline's TOML: one Struct per table, with defaults. No logic.

Unit strings ("30s", "8MiB", "1%") are already numbers here: seconds, bytes, fractions. `parse` reads the
file into these, `check` judges them, `plan` turns them into what runs. Each field's `Meta(description=…)`
becomes the JSON Schema's hover text.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from engine.pipeline.scenario import ScenarioSpec
from engine.settings import Bytes, Fraction, Seconds, Secret

DEFAULT_MEMORY = 256 * 1024 * 1024


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A TOML table: unknown keys are errors."""


class SourceSpec(_Table, frozen=True):
    """`[source]`: where rows come from."""

    type: Annotated[
        Literal["ndjson", "csv", "json", "parquet", "platform", "postgres", "plugin"],
        Meta(description="Format of the input, or what brings the rows: a listing route, a table, a plug-in."),
    ]
    key: Annotated[str, Meta(description="Field that identifies a row in results, dead letters and replay.")]
    paths: Annotated[
        tuple[str, ...], Meta(description='Files or globs, relative to the working directory; "-" is stdin.')
    ] = ()
    route: Annotated[str | None, Meta(description="platform only: the route that lists the rows, page by page.")] = None
    members: Annotated[
        dict[str, Any], Meta(description="platform only: members of its question, filters for one.")
    ] = {}
    url: Annotated[
        Secret | None, Meta(description="postgres only: a reference, ${secret:env:…}, to postgresql://USER:PASSWORD@…")
    ] = None
    table: Annotated[str | None, Meta(description="postgres only: table or schema.table; or give `query`.")] = None
    query: Annotated[str | None, Meta(description="postgres only: a SELECT whose rows are read; or give `table`.")] = (
        None
    )
    cursor: Annotated[
        tuple[str, ...],
        Meta(description="postgres only: columns that grow and tell rows apart; reading goes on after the last."),
    ] = ()
    timeout: Annotated[Seconds, Meta(description="postgres only: longest wait for a page of rows.", gt=0)] = 300.0
    fields: Annotated[
        dict[str, str],
        Meta(description="Field types: str, int, float, bool, datetime, date, json, enum(a, b), each with `| None`."),
    ] = {}
    compression: Annotated[
        Literal["auto", "none", "gzip", "zstd"], Meta(description="auto goes by the file name's suffix.")
    ] = "auto"
    delimiter: Annotated[str, Meta(description="CSV only: one character.", min_length=1, max_length=1)] = ","
    header: Annotated[tuple[str, ...], Meta(description="CSV only: column names when the file has no header.")] = ()
    use: Annotated[str | None, Meta(description="plugin only: its name among the entry points engine.sources.")] = None
    options: Annotated[dict[str, Any], Meta(description="plugin only: what it takes.")] = {}
    rows: Annotated[
        str | None, Meta(description="JSON only: member that holds the rows; without it the document is the array.")
    ] = None
    line_max: Annotated[Bytes, Meta(description="Longest record; a longer one is a dead letter.", ge=1)] = (
        64 * 1024 * 1024
    )


class TransformSpec(_Table, frozen=True):
    """One `[[transform]]`; which options count depends on `type`, and `check` refuses the others.

    select   `fields` = ["a", "b"]: keep only these       rename   `fields` = { old = "new" }
    set      `values` = { a = 1 }: constants              map      `values` = { a = "b + c" }: expressions
    filter   `field` `op` `value`, or `where`, an expression: keep rows for which it holds
    cast     `fields` = { a = "int" }: typed values out of text; `bad` says what becomes of one that is none
    mask     `fields` = ["a"] by `how`; "hash" is keyed by `secret`
    flatten  `fields` = ["a"], or all: members of objects become members of the row, named with `separator`
    python   `call` = "module:function" over a batch: list of dicts in, list of dicts (or None to filter) out;
             `timeout` = "60s": a call that takes longer ends the run
    plugin   `use` = "name" of an installed entry point, `options` = what it takes, `timeout` as for python
    """

    type: Annotated[
        Literal["select", "rename", "set", "map", "filter", "cast", "mask", "flatten", "python", "plugin"],
        Meta(description="What it does to each row."),
    ]
    fields: Annotated[
        tuple[str, ...] | dict[str, str] | None,
        Meta(description='select, mask, flatten: a list of names. rename: { old = "new" }. cast: { name = "type" }.'),
    ] = None
    values: Annotated[
        dict[str, Any] | None, Meta(description="set: constants by field name. map: expressions by field name.")
    ] = None
    field: Annotated[str | None, Meta(description="filter: the field looked at.")] = None
    op: Annotated[
        Literal["==", "!=", "<", "<=", ">", ">=", "in", "not in", "matches", "exists"] | None,
        Meta(description="filter: rows for which it holds are kept."),
    ] = None
    value: Annotated[Any, Meta(description="filter: what the field is compared with.")] = None
    where: Annotated[
        str | None, Meta(description="filter: an expression over the row, in place of the other three.")
    ] = None
    bad: Annotated[
        Literal["reject", "null"] | None, Meta(description="cast: a value of another type ends the row, or is null.")
    ] = None
    how: Annotated[
        Literal["redact", "hash", "tail"] | None, Meta(description="mask: stars, a keyed digest, or the last four.")
    ] = None
    secret: Annotated[Secret | None, Meta(description="mask: a reference to the key of `hash`.")] = None
    separator: Annotated[str, Meta(description="flatten: between the names; _", min_length=1, max_length=8)] | None = (
        None
    )
    call: Annotated[str | None, Meta(description='python: "module:function".')] = None
    timeout: Annotated[Seconds, Meta(description="python: longest call, over a batch; 60s.", gt=0)] | None = None
    use: Annotated[str | None, Meta(description="plugin: its name among the entry points engine.transforms.")] = None
    options: Annotated[dict[str, Any] | None, Meta(description="plugin: what it takes.")] = None


class BatchSpec(_Table, frozen=True):
    """`[job] batch`: a job closes at whichever comes first."""

    rows: Annotated[int, Meta(description="Most rows in a job.", ge=1)] = 1_000
    bytes: Annotated[Bytes, Meta(description="Largest payload of a job.", ge=1024)] = 768 * 1024


class RetrySpec(_Table, frozen=True):
    """`[job] retry`: new attempts of jobs that failed remotely (requests have their own policy)."""

    attempts: Annotated[int, Meta(description="Including the first.", ge=1, le=100)] = 3
    cooldown: Annotated[Seconds, Meta(description="Wait before a new attempt.", ge=0)] = 5.0


class PollSpec(_Table, frozen=True):
    """`[job] poll`: the schedule until durations have been learned; seconds."""

    first: Annotated[Seconds, Meta(description="First look after the job was created.", gt=0)] = 2.0
    max: Annotated[Seconds, Meta(description="Longest pause between looks.", gt=0)] = 30.0
    factor: Annotated[float, Meta(description="Growth of the pause.", ge=1)] = 1.5


class JobSpec(_Table, frozen=True):
    """`[job]`: what each batch becomes at the platform."""

    kind: Annotated[str, Meta(description="A job kind of the contract.")]
    batch: BatchSpec = BatchSpec()
    timeout: Annotated[Seconds, Meta(description="Longest wait for one job, from its creation.", gt=0)] = 7_200.0
    retry: RetrySpec = RetrySpec()
    poll: PollSpec | None = None
    jobs_in_flight: Annotated[int, Meta(description="A lower ceiling than the account's.", ge=1)] | None = None
    secrecy_level: Annotated[str | None, Meta(description="Of the jobs, as the platform names it.")] = None
    payload: Annotated[dict[str, Any], Meta(description="Further payload members, by their contract names.")] = {}


class RequestSpec(_Table, frozen=True):
    """`[request]`: a pipeline without jobs asks a route once for each row, and the answers land.

    The members of the question are the row's own: `select` and `rename` shape them.
    """

    route: Annotated[str, Meta(description="Asked once for each row, whose members are its question.")]
    into: Annotated[
        str | None, Meta(description="Member of the row that gets the answer; without it the answer is the row.")
    ] = None
    verify: Annotated[
        bool, Meta(description="provenance.get only: a transcript lands when it is proven with the published keys.")
    ] = False


class FallbackSpec(_Table, frozen=True):
    """`[callback] fallback`: when polling stops relying on callbacks."""

    no_callback_for: Annotated[
        Seconds, Meta(description="After so long without one, jobs are polled as if there were none.", gt=0)
    ] = 120.0


class CallbackSpec(_Table, frozen=True):
    """`[callback]`: where the platform tells us that a job has ended; polling relaxes while it does."""

    listen: Annotated[str, Meta(description="HOST:PORT of the receiver; port 0 is any free one.")] = "127.0.0.1:0"
    public_url: (
        Annotated[str, Meta(description="https URL that leads there; sent as callback_url with every job.")] | None
    ) = None
    secrets: Annotated[
        tuple[Secret, ...], Meta(description="References to the callback secret; two while one replaces the other.")
    ] = ()
    canonical: Annotated[
        bool, Meta(description="Try the signature over the RFC 8785 form too, when the raw bytes fail.")
    ] = False
    fallback: FallbackSpec = FallbackSpec()


class DriftSpec(_Table, frozen=True):
    """`[results.drift]`: what becomes of row results that are not as `[results.fields]` declares them."""

    new_field: Annotated[
        Literal["drop", "widen", "reject"],
        Meta(
            description="A member that is not declared: left out; landed with the row as it came (ndjson); or "
            "its row is a dead letter."
        ),
    ] = "drop"
    bad_value: Annotated[
        Literal["quarantine", "null", "reject"],
        Meta(
            description="A value of another type: its row is a dead letter; it becomes null, where the type allows "
            "that; or its job does not count, and the run ends with 6."
        ),
    ] = "quarantine"


class ResultsSpec(_Table, frozen=True):
    """`[results]`: how row results are read, matched and counted; defaults come from the kind."""

    rows: Annotated[str | None, Meta(description="Member of the result that holds the row results.")] = None
    match: Annotated[str | None, Meta(description="Member of a row result that names the input row.")] = None
    status: Annotated[str | None, Meta(description="Member that says how the row ended.")] = None
    accepted: Annotated[tuple[str, ...] | None, Meta(description="Statuses that count as accepted.")] = None
    rejected: Annotated[tuple[str, ...] | None, Meta(description="Statuses that count as rejected.")] = None
    fields: Annotated[
        dict[str, str], Meta(description="Columns and their types; CSV and Parquet sinks need them.")
    ] = {}
    drift: Annotated[DriftSpec, Meta(description="What becomes of rows that are not as declared.")] = DriftSpec()


class RotateSpec(_Table, frozen=True):
    """`[sink] rotate`: a part closes at whichever comes first."""

    rows: Annotated[int, Meta(description="Most rows in a part.", ge=1)] = 1_000_000
    bytes: Annotated[Bytes, Meta(description="Largest part.", ge=1)] = 256 * 1024 * 1024
    age: Annotated[Seconds, Meta(description="Longest a part stays open.", gt=0)] = 60.0


class PostSpec(_Table, frozen=True):
    """`[sink] batch`: http only; a request holds as many rows as neither of these allows more."""

    rows: Annotated[int, Meta(description="Most rows of a request.", ge=1)] = 500
    bytes: Annotated[Bytes, Meta(description="Largest body; a row that is larger goes alone.", ge=1)] = 1024 * 1024


class SinkSpec(_Table, frozen=True):
    """`[sink]`: where accepted rows land: as parts in a directory with a manifest, in a table, or at a route."""

    type: Annotated[
        Literal["ndjson", "csv", "parquet", "platform", "postgres", "http", "stdout", "python", "plugin"],
        Meta(
            description="Format of the parts, or what takes the rows: a route, table, URL, stdout, function or plug-in."
        ),
    ]
    path: Annotated[str, Meta(description="A directory, relative to the working directory.")] = ""
    route: Annotated[
        str | None, Meta(description="platform only: asked once for each row, whose members are its question.")
    ] = None
    url: Annotated[
        Secret | None, Meta(description="postgres only: a reference, ${secret:env:…}, to postgresql://USER:PASSWORD@…")
    ] = None
    table: Annotated[str | None, Meta(description="postgres only: table or schema.table; it must be there.")] = None
    mode: Annotated[
        Literal["upsert", "append"],
        Meta(description="postgres only: upsert replaces the row of the same `key`, append only adds."),
    ] = "upsert"
    key: Annotated[tuple[str, ...], Meta(description="postgres only: columns that make a row unique, for upsert.")] = ()
    part_column: Annotated[
        str, Meta(description="postgres only: bigint column by which mode append finds the rows of a part again.")
    ] = "engine_part"
    endpoint: Annotated[
        str | None, Meta(description="http only: the URL that takes batches; https, or http on this machine.")
    ] = None
    method: Annotated[Literal["POST", "PUT"], Meta(description="http only.")] = "POST"
    headers: Annotated[
        dict[str, Secret], Meta(description="http only: references, ${secret:env:…}, by the names of headers.")
    ] = {}
    format: Annotated[Literal["ndjson", "json"], Meta(description="http only: a line for each row, or one array.")] = (
        "ndjson"
    )
    batch: PostSpec = PostSpec()
    timeout: Annotated[Seconds, Meta(description="http only: of one request.", gt=0)] = 30.0
    use: Annotated[str | None, Meta(description="plugin only: its name among the entry points engine.sinks.")] = None
    options: Annotated[dict[str, Any], Meta(description="plugin only: what it takes.")] = {}
    call: Annotated[
        str | None, Meta(description='python only: "module:function", called with rows and what part they are of.')
    ] = None
    rotate: RotateSpec = RotateSpec()
    row_group: Annotated[Bytes, Meta(description="Parquet only: size of a row group.", ge=1024)] = 16 * 1024 * 1024
    compression: Annotated[Literal["none", "gzip", "zstd"], Meta(description="Of the part files.")] = "none"
    formula_guard: Annotated[bool, Meta(description="CSV only: quote text cells that a spreadsheet would run.")] = True

    @property
    def takes_raw(self) -> bool:
        """Whether rows may stay the JSON text they are."""
        return self.type in ("ndjson", "http", "stdout", "python")


class DeadLettersSpec(_Table, frozen=True):
    """`[dead_letters]`: `max` is a fraction of the rows read (rejected and dead together).

    It is judged at the end, and on the way: a run in which too much fails takes no more input.
    """

    max: Annotated[Fraction, Meta(description="Share of the rows read; beyond it the run exits 5.")] | None = None
    after: Annotated[
        int, Meta(description="Rows that must have ended before `max` can stop a run in its course.", ge=1)
    ] = 1_000


class ExpectSpec(_Table, frozen=True):
    """`[expect]`: what makes a run implausible."""

    min_rows: Annotated[int, Meta(description="Fewer rows read than this is a failure.", ge=0)] = 0


class PipelineSpec(_Table, frozen=True):
    """A pipeline file."""

    version: Annotated[int, Meta(description="Of this format; 1.", ge=1, le=1)]
    name: Annotated[
        str,
        Meta(
            description="Names the state directory; lower-case letters, digits, . _ -",
            pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$",
        ),
    ]
    source: SourceSpec
    sink: SinkSpec
    job: JobSpec | None = None
    request: RequestSpec | None = None
    memory: Annotated[Bytes, Meta(description="What the process may occupy, itself included.")] = DEFAULT_MEMORY
    transform: tuple[TransformSpec, ...] = ()
    callback: CallbackSpec | None = None
    results: ResultsSpec = ResultsSpec()
    dead_letters: DeadLettersSpec = DeadLettersSpec()
    expect: ExpectSpec = ExpectSpec()
    test: tuple[ScenarioSpec, ...] = ()

    @property
    def row_route(self) -> str | None:
        """The route that is asked once for each row; None: rows travel in jobs, or pass to the sink as they are."""
        return self.sink.route or (self.request.route if self.request else None)

    @property
    def needs_platform(self) -> bool:
        """Whether anything of it is asked of the platform."""
        return self.job is not None or self.row_route is not None or self.source.type == "platform"
