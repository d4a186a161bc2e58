"""`engine dlq edit|replay`: a dead letter gets another text, and letters are sent again through their pipeline."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click
import msgspec

from engine.cli.dlq import named
from engine.cli.invocation import Invocation, pass_invocation
from engine.cli.ledgers import bring_up_to_date, pipeline_file
from engine.cli.output import emit, emit_json, tell
from engine.cli.run import RunOptions, run_one
from engine.cli.shards import holding, share_meant, with_ledger
from engine.codec.payload import check_caps, dumps, loads
from engine.errors import InputError, RecordError, StateError
from engine.runtime.replay import Replay
from engine.runtime.sharing import spec_of
from engine.store.letters import DROPPED, EDITED, OPEN, REPLAYING, TO_BE_HAD, Letter, Letters, Selection


@click.command("edit", epilog="Example:  engine dlq edit 1 --set born=1912")
@click.argument("name", metavar="ID|KEY")
@click.option("-p", "--pipeline", help="Only in this pipeline: a name or a pipeline file.")
@click.option("--set", "pairs", metavar="FIELD=VALUE", multiple=True, help="Set a member; VALUE is JSON, or else text.")
@click.option("--unset", "gone", metavar="FIELD", multiple=True, help="Remove a member.")
@click.option("--raw", "file", metavar="FILE", help="Take the whole record from a file; - is stdin.")
@click.option("--drop", is_flag=True, help="Never send it again.")
@click.option("--reset", is_flag=True, help="Take back every edit, and a drop.")
@click.option("--json", "is_json", is_flag=True, help="One JSON object.")
@pass_invocation
def edit_letter(
    invocation: Invocation,
    *,
    name: str,
    pipeline: str | None,
    pairs: tuple[str, ...],
    gone: tuple[str, ...],
    file: str | None,
    drop: bool,
    reset: bool,
    is_json: bool,
) -> int:
    """Give a letter another text, by flags or in $EDITOR; the bytes that were read are kept beside it."""
    if bool(pairs or gone) + bool(file) + drop + reset > 1:
        raise click.UsageError("one of --set/--unset, --raw, --drop and --reset")
    directory, letter = _one(invocation, name, pipeline)
    shelf, now_ns = Letters(directory), time.time_ns()
    if drop:
        shelf.drop(letter, now_ns=now_ns)
    elif reset:
        shelf.reset(letter, now_ns=now_ns)
    else:
        text = _text(letter, pairs, gone, file)
        if text is None or text == letter.text:
            tell(f"letter {letter.id} is as it was")
            if is_json:
                emit_json({"pipeline": shelf.pipeline, "id": letter.id, "state": letter.state, "is_changed": False})
            return 0
        shelf.edit(letter, text, now_ns=now_ns)
    if is_json:
        state = DROPPED if drop else OPEN if reset else EDITED
        emit_json({"pipeline": shelf.pipeline, "id": letter.id, "state": state, "is_changed": True})
        return 0
    after = f"engine dlq replay {shelf.pipeline} --id {letter.id}"
    emit(f"letter {letter.id} of {shelf.pipeline}: {'dropped' if drop else f'next: {after}'}")
    return 0


def _one(invocation: Invocation, name: str, pipeline: str | None) -> tuple[Path, Letter]:
    found = named(invocation, name, pipeline)
    able = [pair for pair in found if pair[1].state in (*TO_BE_HAD, DROPPED)]
    if len(able) == 1:
        return able[0]
    if not able:
        states = ", ".join(f"{letter.id} is {letter.state}" for _, letter in found)
        raise StateError(f"no letter called {name!r} can be changed: {states}", hint=f"engine dlq show {name}")
    which = ", ".join(f"{letter.id} of {path.name}" for path, letter in able)
    raise StateError(f"{len(able)} letters are called {name!r}: {which}", hint="give the id, and --pipeline")


def _text(letter: Letter, pairs: tuple[str, ...], gone: tuple[str, ...], file: str | None) -> bytes | None:
    if file is not None:
        return _checked(_read(file))
    if not pairs and not gone:
        return _edited_by_hand(letter)
    members = {name: value for name, value in _members(letter).items() if name not in gone}
    for pair in pairs:
        field, equals, value = pair.partition("=")
        if not equals or not field:
            raise click.BadParameter(f"`{pair}` is not FIELD=VALUE")
        members[field] = _value(value)
    return dumps(members)


def _edited_by_hand(letter: Letter) -> bytes | None:
    text = letter.text.decode("utf-8", "replace")
    edited = click.edit(text, extension=".json")
    return None if edited is None else _checked(edited.encode("utf-8"))


def _members(letter: Letter) -> dict[str, Any]:
    try:
        check_caps(letter.text)
        members = loads(letter.text)
    except RecordError:
        members = None
    if not isinstance(members, dict):
        raise RecordError(
            f"letter {letter.id} is no JSON object, so it has no members to set",
            hint=f"engine dlq edit {letter.id} --raw FILE",
        )
    return members


def _value(text: str) -> Any:
    try:
        return loads(text.encode("utf-8"))
    except RecordError:
        return text


def _read(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as exc:
        raise InputError(f"{file} cannot be read: {exc.strerror or exc}") from exc


def _checked(text: bytes) -> bytes:
    check_caps(text)
    members = loads(text)
    if not isinstance(members, dict):
        raise RecordError("a record is a JSON object", hint="nothing was changed")
    # One line, so that it stays one record wherever it is written.
    return text.strip() if b"\n" not in text.strip() else dumps(members)


@click.command("replay", epilog="Example:  engine dlq replay people --all")
@click.argument("pipeline")
@click.option("--id", "ids", type=click.IntRange(1), multiple=True, help="This letter; may be repeated.")
@click.option("--key", "keys", multiple=True, help="Letters of the row with this key; may be repeated.")
@click.option("--reason", "codes", metavar="CODE", multiple=True, help="Letters with this code; may be repeated.")
@click.option("--bucket", type=click.Choice(("rejected", "dead")), help="Refused by the platform, or given up.")
@click.option("--where", metavar="SQL", help="Letters for which this SQL condition holds; `row` is the record.")
@click.option("--all", "is_all", is_flag=True, help="Every letter that is to be had.")
@click.option("--shard", "tag", metavar="KofN", help="Letters of this share, of a pipeline that runs with --processes.")
@click.option("--fresh", is_flag=True, help="Abandon an unfinished replay instead of continuing it.")
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object on stdout.")
@click.option("-q", "--quiet", is_flag=True, help="No live view.")
@pass_invocation
def replay_letters(
    invocation: Invocation,
    *,
    pipeline: str,
    ids: tuple[int, ...],
    keys: tuple[str, ...],
    codes: tuple[str, ...],
    bucket: str | None,
    where: str | None,
    is_all: bool,
    tag: str | None,
    fresh: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Send dead letters of PIPELINE, a name or a file, through it again; an unfinished replay is continued first.

    Their rows get new keys and land beside the pipeline's other output; its input is not touched.
    """
    states = (*TO_BE_HAD, REPLAYING) if fresh else TO_BE_HAD
    selection = Selection(ids=ids, keys=keys, codes=codes, bucket=bucket, where=where, states=states)
    is_chosen = bool(ids or keys or codes or bucket or where)
    if is_chosen and is_all:
        raise click.UsageError("--all takes every letter; leave it out to choose")
    state_dir = Path(invocation.settings().state_dir)
    path = pipeline if pipeline.endswith(".toml") else pipeline_file(with_ledger(state_dir / pipeline))
    settings, (whole,) = invocation.load((path,))
    share = share_meant(state_dir, whole, named=pipeline, tag=tag)
    spec = whole if share is None else spec_of(whole, share)
    directory = Path(settings.state_dir) / spec.name
    bring_up_to_date(directory)
    shelf = Letters(directory)
    letters: list[int] = []
    if fresh or not shelf.is_replaying():
        if not is_chosen and not is_all:
            raise click.UsageError("which letters? --id, --key, --reason, --bucket, --where or --all")
        letters = _chosen(shelf, selection)
        if not letters:
            return _nothing(spec.name, as_json=as_json)
    elif is_chosen or is_all:
        tell(f"an unfinished replay of {spec.name} is continued first; ask again for other letters")
    options = RunOptions(
        as_json=as_json,
        fresh=False,
        limit=None,
        quiet=quiet,
        replay=Replay(letters=letters, is_anew=fresh),
        share=share,
    )
    with holding(state_dir, whole, share):
        return run_one(invocation, settings, spec, path, options)


def _chosen(shelf: Letters, selection: Selection) -> list[int]:
    """The letters to send again: those of the newest epoch, for a later one has read every row anew."""
    found = shelf.ids(selection)
    chosen = shelf.ids(msgspec.structs.replace(selection, epochs=tuple(shelf.current_epochs())))
    if len(chosen) < len(found):
        tell(f"{len(found) - len(chosen)} letters are of an epoch whose rows were all read again since; left alone")
    if missing := sorted({*selection.ids} - {*found}):
        names = ", ".join(map(str, missing))
        raise StateError(f"no letter to be had has the id {names}", hint=f"engine dlq show {missing[0]}")
    return chosen


def _nothing(pipeline: str, *, as_json: bool) -> int:
    if as_json:
        emit_json({"run_id": None, "pipeline": pipeline, "outcome": "nothing_new", "exit_code": 0})
    else:
        emit(f"no open letter of {pipeline} is meant; nothing was sent")
    return 0
