"""Parse: a pipeline file or `config.toml` as types, or everything that is wrong with it, in one go.

The one place of this room that reads files: the TOML itself, and `./.env` for references. Judging types is
`judge`'s work, judging sense `check`'s.
"""

from __future__ import annotations

import codecs
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from engine.errors import Finding, PlanError
from engine.pipeline.check import Parts, check_pipeline, check_settings
from engine.pipeline.findings import Document, Fault, excerpt_of, to_findings
from engine.pipeline.judge import Judge
from engine.pipeline.layers import overlay
from engine.pipeline.locate import KeyPath
from engine.pipeline.scenario import ScenarioSpec
from engine.pipeline.spec import DEFAULT_MEMORY, PipelineSpec, TransformSpec
from engine.pipeline.substitute import Surroundings, Trouble, read_dotenv, substitute
from engine.settings import Secret, Settings

T = TypeVar("T", bound=msgspec.Struct)

# A configuration of this size is a data file given by mistake.
_TEXT_MAX = 4 * 1024 * 1024
# Arrays of tables: each entry is judged by itself.
_ENTRIES: dict[str, type[msgspec.Struct]] = {"transform": TransformSpec, "test": ScenarioSpec}
_POSITION = re.compile(r"\(at line (\d+), column (\d+)\)")


def load_pipeline(path: str, *, env: Mapping[str, str], overrides: Mapping[str, str] | None = None) -> PipelineSpec:
    """Read and check a pipeline file. `overrides` are `--set` pairs by dotted key.

    Raises:
        PlanError: everything that is wrong with the file, in order of position.
    """
    text = _read(path)
    tables = _tables(path, text)
    layered = overlay(tables, {}, overrides or {})
    document = Document(path=path, text=text, origins=layered.origins)
    judge = Judge(_around(env), overridden=set(layered.origins), is_read=lambda _: True)
    plain = judge.judge(PipelineSpec, layered.tables)
    faults = [*layered.faults, *judge.faults]
    _add(faults, check_pipeline(_parts(plain)), judge.meant)
    return _built(PipelineSpec, plain, faults, document)


def load_settings(
    path: str | None, *, env: Mapping[str, str], overrides: Mapping[str, str] | None = None, needs_secret: bool = True
) -> Settings:
    """Read and check `config.toml`; None is a file that says nothing. Flags win over environment over file.

    References that the chosen profile does not use are not followed. A person needs no secret of the app: without
    `needs_secret` it may be missing.

    Raises:
        PlanError: everything that is wrong with the file, the variables and the flags.
    """
    text = "" if path is None else _read(path)
    tables = {} if path is None else _tables(path, text)
    layered = overlay(tables, env, overrides or {})
    document = Document(path=path or "config.toml", text=text, origins=layered.origins)
    around = _around(env)
    profile = _profile(layered.tables, around)
    judge = Judge(around, overridden=set(layered.origins), is_read=_reader(profile, layered.tables, around))
    plain = judge.judge(Settings, layered.tables)
    faults = [*layered.faults, *(_with_profile(fault, profile) for fault in judge.faults)]
    # Every setting has a default, so what was at fault does not hide what else is.
    if made := _converted(Settings, plain):
        _add(faults, check_settings(made, needs_secret=needs_secret), judge.meant)
    return _built(Settings, plain, faults, document)


def _read(path: str) -> str:
    """The text of a file, without its byte order mark."""
    try:
        with Path(path).open("rb") as opened:
            raw = opened.read(_TEXT_MAX + 1)
    except OSError as exc:
        reason = (exc.strerror or "unreadable").lower()
        raise _one(path, "config.unreadable", f"cannot be read: {reason}", hint="check the path") from None
    if len(raw) > _TEXT_MAX:
        raise _one(path, "config.unreadable", "larger than 4 MiB: this is no configuration")
    raw = raw.removeprefix(codecs.BOM_UTF8)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as exc:
        before, shown = raw[: exc.start], raw.decode("utf-8", "replace")
        line = before.count(b"\n") + 1
        column = len(before.rpartition(b"\n")[2].decode("utf-8", "replace")) + 1
        raise _one(path, "config.unreadable", "not UTF-8 text", at=(line, column), text=shown) from None


def _tables(path: str, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        at = _position(str(exc), text)
        message = _POSITION.sub("", str(exc)).replace("(at end of document)", "").strip()
        hint = "" if "end of document" not in str(exc) else "the file ends too early"
    except RecursionError:
        at, message, hint = (1, 1), "nested too deeply", ""
    except ValueError:
        # A number of thousands of digits: Python refuses to read it, and says no position.
        at, message, hint = (1, 1), "holds a number that is too long", ""
    raise _one(path, "config.syntax", message, hint=hint, at=at, text=text)


def _position(said: str, text: str) -> tuple[int, int]:
    if found := _POSITION.search(said):
        return int(found[1]), int(found[2])
    lines = text.split("\n")
    return len(lines), len(lines[-1]) + 1


def _one(
    path: str, code: str, message: str, *, hint: str = "", at: tuple[int, int] = (0, 0), text: str = ""
) -> PlanError:
    line, column = at
    shown = excerpt_of(text, line)
    finding = Finding(message, code=code, path=path, line=line, column=column, hint=hint, excerpt=shown, length=1)
    return PlanError([finding])


def _around(env: Mapping[str, str]) -> Surroundings:
    try:
        text = Path(".env").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return Surroundings(environment=env)
    return Surroundings(environment=env, dotenv=read_dotenv(text), has_dotenv=True)


def _platform(tables: Mapping[str, Any]) -> dict[str, Any]:
    platform = tables.get("platform")
    return platform if isinstance(platform, dict) else {}


def _profile(tables: Mapping[str, Any], around: Surroundings) -> str:
    """The profile that will be chosen: what other references mean depends on it."""
    return _peek(_platform(tables).get("profile"), around) or "emulator"


def _reader(profile: str, tables: Mapping[str, Any], around: Surroundings) -> Callable[[KeyPath], bool]:
    """Which references the chosen profile uses: neither those of other profiles, nor needless credentials."""
    sandbox = _platform(tables).get("sandbox")
    token = sandbox.get("token") if isinstance(sandbox, dict) else None
    # A sandbox token from an administrator is enough; without one we mint it with our credentials.
    needs_client = profile == "live" or (profile == "sandbox" and not _peek(token, around))

    def is_read(at: KeyPath) -> bool:
        match at:
            case ("platform", "emulator" | "sandbox" | "live", *_):
                return at[1] == profile
            case ("platform", "client_id" | "client_secret"):
                return needs_client
        return True

    return is_read


def _with_profile(fault: Fault, profile: str) -> Fault:
    if fault.code != "config.unset" or fault.at[0] != "platform":
        return fault
    return msgspec.structs.replace(fault, hint=f'required by profile "{profile}"; {fault.hint}')


def _peek(raw: Any, around: Surroundings) -> str | None:
    """What a text will be once judged; None when it cannot be (the judge then says why)."""
    if not isinstance(raw, str):
        return None
    try:
        return substitute(raw, around, into_secret=True)
    except Trouble:
        return None


def _parts(plain: dict[str, Any]) -> Parts:
    """The tables of a pipeline that could be read, each by itself: one bad table does not hide the others."""
    known: dict[str, Any] = {"given": frozenset(plain)}
    for field in msgspec.structs.fields(Parts):
        if field.name == "given":
            continue
        if kind := _ENTRIES.get(field.name):
            known[field.name] = tuple(_converted(kind, entry) for entry in plain.get(field.name, []))
        elif field.name == "memory":
            known["memory"] = plain.get("memory", DEFAULT_MEMORY)
        elif (made := _converted(field.type, plain.get(field.name, {}))) is not None:
            known[field.name] = made
    return Parts(**known)


def _converted(kind: Any, plain: Any) -> Any:
    """`plain` as `kind`, or None when a part of it was left out as faulty."""
    try:
        return msgspec.convert(plain, kind, dec_hook=_keep_secret)
    except msgspec.ValidationError:
        return None


def _add(faults: list[Fault], more: list[Fault], meant: set[KeyPath]) -> None:
    """Add faults of sense, except where a fault around or inside the same place has been told.

    What stands under a misspelt key has no place of its own until that is put right.
    """
    known = {fault.at for fault in faults} | meant
    faults += [fault for fault in more if not _is_covered(fault.at, known)]


def _built(kind: type[T], plain: dict[str, Any], faults: list[Fault], document: Document) -> T:
    if not faults:
        try:
            return msgspec.convert(plain, kind, dec_hook=_keep_secret)
        except msgspec.ValidationError as exc:
            # The judge reads the same types, so this is the net under it.
            faults = [Fault(at=(), code="config.type", message=str(exc))]
    raise PlanError(to_findings(faults, document))


def _keep_secret(kind: type, value: Any) -> Any:
    if kind is Secret and isinstance(value, Secret):
        return value
    raise NotImplementedError(kind.__name__)


def _is_covered(at: KeyPath, known: set[KeyPath]) -> bool:
    return any(at[: len(other)] == other or other[: len(at)] == at for other in known)
