"""`engine init`: a pipeline that works, its rows and a test of it, in a folder that has none. Never overwrites."""

from __future__ import annotations

import re
from pathlib import Path

import click

from engine.cli.output import emit, emit_json
from engine.errors import OutputError
from engine.pipeline.starting import STARTS, files_of
from engine.pipeline.template import TEMPLATES, pipeline_text

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
# These serve all pipelines of a folder: one that is there already stays, and is no reason to refuse.
_SHARED = ("config.toml", ".env.example")


def _checked(_: click.Context, __: click.Parameter, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise click.BadParameter("use lower-case letters, digits, . _ - (it names the state directory)")
    return name


@click.command(epilog="Example:  engine init people")
@click.argument("name", default="people", callback=_checked)
@click.option("--kind", type=click.Choice(list(TEMPLATES)), default="import.bulk", show_default=True, help="Its jobs.")
@click.option(
    "--profile",
    type=click.Choice(list(STARTS)),
    help="Also write config.toml for this platform, .env.example with the names it needs, and a fault script.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def init(*, name: str, kind: str, profile: str | None, as_json: bool) -> None:
    """Write a pipeline that works, the rows it reads, and a test of it.

    NAME names the files, NAME.toml and NAME.csv, and is `people` unless you say another. What is there is never
    overwritten.
    """
    template = TEMPLATES[kind]
    texts = {f"{name}.toml": pipeline_text(template, name), f"{name}.csv": template.data}
    steps = [f"engine {verb} {name}.toml" for verb in ("check", "run", "test")]
    if profile is not None:
        texts |= files_of(profile, name)
        steps = [*STARTS[profile].steps, *steps]
    there = [path for path in texts if Path(path).exists() or Path(path).is_symlink()]
    if taken := [path for path in there if path not in _SHARED]:
        raise OutputError(f"{', '.join(taken)}: already there; nothing was written", hint="choose another name")
    written = [path for path in texts if path not in there]
    for path in written:
        _write(Path(path), texts[path])
    if as_json:
        emit_json({"files": written, "kept": there, "next": steps})
        return
    for path in written:
        emit(f"wrote {path}")
    for path in there:
        emit(f"kept  {path}, which was there")
    emit(f"next  {'   '.join(steps)}")


def _write(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8", newline="\n") as opened:
            opened.write(text)
    except OSError as exc:
        raise OutputError(f"cannot write {path}: {(exc.strerror or 'refused').lower()}") from exc
