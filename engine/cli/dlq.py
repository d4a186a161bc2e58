"""`engine dlq ls|show|export`: dead letters, looked at. The verbs that change something are in `dlq_repair`.

A letter holds a record of the user's: it is shown when it is asked for, and nowhere else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from engine.cli.dlq_text import document_of, letter_lines, row_of
from engine.cli.invocation import Invocation, pass_invocation
from engine.cli.ledgers import glances, table
from engine.cli.output import emit, emit_json, tell
from engine.codec.payload import encode
from engine.errors import OutputError, StateError
from engine.store.letters import EDITED, OPEN, REPLAYING, STATES, Letter, Letters, Selection
from engine.store.reading import Glance
from engine.telemetry.redact import Redactor

_WAITING = (OPEN, EDITED, REPLAYING)
_VERBS = {"edit": "edit_letter", "replay": "replay_letters"}


class _Dlq(click.Group):
    """The group whose changing verbs are imported when used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return ["ls", "show", "edit", "replay", "export"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _VERBS:
            from engine.cli import dlq_repair

            found: click.Command = getattr(dlq_repair, _VERBS[cmd_name])
            return found
        return super().get_command(ctx, cmd_name)


@click.group(cls=_Dlq)
def dlq() -> None:
    """Rows that did not make it: look at them, repair them, send them again."""


@dlq.command("ls", epilog="Example:  engine dlq ls people")
@click.argument("pipeline", required=False)
@click.option("--reason", "codes", metavar="CODE", multiple=True, help="Only with this code; may be repeated.")
@click.option("--bucket", type=click.Choice(("rejected", "dead")), help="Refused by the platform, or given up.")
@click.option("--key", "keys", multiple=True, help="Only rows with this key; may be repeated.")
@click.option(
    "--state", "states", type=click.Choice((*STATES, "all")), multiple=True,
    help="Only in this state.  [default: open, edited and replaying; with --counts all]",
)  # fmt: skip
@click.option("--where", metavar="SQL", help="A condition on the columns of a letter, in SQL; `row` is its record.")
@click.option("--counts", "is_counting", is_flag=True, help="Only how many, by bucket, code and state.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Letters per pipeline.")
@click.option("--json", "is_json", is_flag=True, help="One JSON object per letter, without its bytes.")
@pass_invocation
def list_letters(
    invocation: Invocation,
    *,
    pipeline: str | None,
    codes: tuple[str, ...],
    bucket: str | None,
    keys: tuple[str, ...],
    states: tuple[str, ...],
    where: str | None,
    is_counting: bool,
    limit: int,
    is_json: bool,
) -> int:
    """List dead letters, oldest first; PIPELINE is a name or a pipeline file."""
    if not states and not is_counting:
        states = _WAITING
    selection = Selection(codes=codes, bucket=bucket, keys=keys, states=() if "all" in states else states, where=where)
    shelves = [Letters(glance.path.parent) for glance in glances(invocation, pipeline)]
    if is_counting:
        _print_counts(shelves, selection, is_json=is_json)
        return 0
    redact = Redactor()
    found = [(shelf.pipeline, letter) for shelf in shelves for letter in shelf.find(selection, limit=limit)]
    if is_json:
        for name, letter in found:
            emit_json(document_of(name, letter, redact, with_bytes=False))
        return 0
    heads = ("PIPELINE", "ID", "STATE", "BUCKET", "CODE", "KEY", "INPUT", "LINE", "REASON")
    table(heads, [row_of(name, letter, redact) for name, letter in found])
    for shelf in shelves:
        total = sum(count for *_, count in shelf.counts(selection))
        if total > limit:
            tell(f"{shelf.pipeline}: {limit} of {total} letters; see --limit and --counts")
    return 0


def _print_counts(shelves: list[Letters], selection: Selection, *, is_json: bool) -> None:
    rows = [(shelf.pipeline, *line) for shelf in shelves for line in shelf.counts(selection)]
    names = ("pipeline", "bucket", "code", "state", "letters")
    if is_json:
        for row in rows:
            emit_json(dict(zip(names, row, strict=True)))
    else:
        table([name.upper() for name in names], rows)


@dlq.command("show", epilog="Example:  engine dlq show 1")
@click.argument("name", metavar="ID|KEY")
@click.option("-p", "--pipeline", help="Only in this pipeline: a name or a pipeline file.")
@click.option("--json", "is_json", is_flag=True, help="One JSON object per letter, with its bytes.")
@pass_invocation
def show_letter(invocation: Invocation, *, name: str, pipeline: str | None, is_json: bool) -> int:
    """Show letters by id, or by the key of their row: the bytes, where they came from, why, and every attempt."""
    found = [(glance, letter) for glance, letter in named(invocation, name, pipeline)]
    redact = Redactor()
    for position, (directory, letter) in enumerate(found):
        with Glance(directory) as glance:
            document = document_of(glance.pipeline, letter, redact, with_bytes=True)
            document["attempts"] = attempts_of(glance, letter, redact)
            document["run"] = _run_of(glance, letter)
        document["became"] = _became(directory, letter)
        if is_json:
            emit_json(document)
        else:
            emit(("\n" if position else "") + "\n".join(letter_lines(document, invocation.paint_out())))
    return 0


def named(invocation: Invocation, name: str, pipeline: str | None) -> list[tuple[Path, Letter]]:
    """Letters called so: by id where the name is a number and there is one, else by key.

    Raises:
        StateError: there is none.
    """
    shelves = [(glance.path.parent, Letters(glance.path.parent)) for glance in glances(invocation, pipeline)]
    found: list[tuple[Path, Letter]] = []
    if name.isdecimal() and len(name) < 19:
        found = [(path, one) for path, shelf in shelves for one in shelf.find(Selection(ids=(int(name),)))]
    if not found:
        found = [(path, one) for path, shelf in shelves for one in shelf.find(Selection(keys=(name,)))]
    if not found:
        raise StateError(f"no dead letter is called {name!r}", hint="engine dlq ls")
    return found


def attempts_of(glance: Glance, letter: Letter, redact: Redactor) -> list[dict[str, Any]]:
    """Every attempt of a letter's job, with the heads of its request and of its answer, as far as they are known."""
    job = None if letter.seq is None else glance.job(letter.epoch, letter.seq)
    if job is None:
        return []
    told = glance.attempts(job)
    if all(attempt["attempt"] != job.attempt for attempt in told):
        told.append(
            {
                "attempt": job.attempt, "remote_id": job.remote_id, "outcome": job.state, "error": job.error,
                "ended_ns": job.ended_ns, "key": job.key, "trace_id": job.trace_id, "code": None, "http_status": None,
            }
        )  # fmt: skip
    for attempt in told:
        attempt["error"] = redact(attempt["error"]) if attempt["error"] else None
        attempt["request"] = {
            "route": "POST /v1/jobs",
            "kind": job.kind,
            "idempotency_key": attempt["key"],
            "traceparent": f"00-{attempt['trace_id'] or job.trace_id}-{job.span_id}-01",
            "authorization": "***",
            "bytes": job.body_bytes,
        }
    return told


def _run_of(glance: Glance, letter: Letter) -> dict[str, Any]:
    line = next(iter(glance.runs(limit=1, run_id=letter.run_id)), None)
    return {} if line is None else {"run_id": line.run_id, "read": line.read, "failed": line.rejected + line.dead}


def _became(directory: Path, letter: Letter) -> list[int]:
    return Letters(directory).ids(Selection(where=f"replay_of={letter.id}"))


@dlq.command("export", epilog="Example:  engine dlq export people --format json")
@click.argument("pipeline")
@click.option("--reason", "codes", metavar="CODE", multiple=True, help="Only with this code; may be repeated.")
@click.option("--bucket", type=click.Choice(("rejected", "dead")), help="Refused by the platform, or given up.")
@click.option("--state", "states", type=click.Choice(STATES), multiple=True, help="Only in this state.")
@click.option("--where", metavar="SQL", help="A condition on the columns of a letter, in SQL; `row` is its record.")
@click.option(
    "--format", "form", type=click.Choice(("raw", "json")), default="raw", show_default=True,
    help="raw: the records as a replay would read them, a line each. json: with place, reason and state.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False), help="A file, readable by you alone.  [default: stdout]"
)
@pass_invocation
def export_letters(
    invocation: Invocation,
    *,
    pipeline: str,
    codes: tuple[str, ...],
    bucket: str | None,
    states: tuple[str, ...],
    where: str | None,
    form: str,
    output: str | None,
) -> int:
    """Write dead letters of PIPELINE to a file or to stdout."""
    selection = Selection(codes=codes, bucket=bucket, states=states, where=where)
    redact = Redactor()
    texts: list[str] = []
    for glance in glances(invocation, pipeline):
        for letter in Letters(glance.path.parent).find(selection):
            if form == "raw":
                texts.append(letter.text.replace(b"\n", b" ").decode("utf-8", "replace"))
            else:
                document = document_of(glance.pipeline, letter, redact, with_bytes=True)
                texts.append(encode(document).decode("utf-8"))
    if output is None:
        for text in texts:
            emit(text)
        return 0
    try:
        path = Path(output)
        path.touch(mode=0o600)
        path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    except OSError as exc:
        raise OutputError(f"{output} cannot be written: {exc.strerror or exc}") from exc
    tell(f"{len(texts)} letters in {output}")
    return 0
