"""`engine init`: a pipeline that works, its rows and a test of it, in a folder that has none. Never overwrites."""

from __future__ import annotations

import re
from pathlib import Path

import click

from engine.cli.output import emit, emit_json
from engine.errors import OutputError
from engine.pipeline.template import TEMPLATES, pipeline_text

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def _checked(_: click.Context, __: click.Parameter, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise click.BadParameter("use lower-case letters, digits, . _ - (it names the state directory)")
    return name


@click.command(epilog="Example:  engine init people")
@click.argument("name", default="people", callback=_checked)
@click.option("--kind", type=click.Choice(list(TEMPLATES)), default="import.bulk", show_default=True, help="Its jobs.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def init(name: str, kind: str, as_json: bool) -> None:  # noqa: FBT001
    """Write a pipeline that works, the rows it reads, and a test of it.

    NAME names the files, NAME.toml and NAME.csv, and is `people` unless you say another. What is there is never
    overwritten.
    """
    template = TEMPLATES[kind]
    texts = {Path(f"{name}.toml"): pipeline_text(template, name), Path(f"{name}.csv"): template.data}
    if taken := [str(path) for path in texts if path.exists() or path.is_symlink()]:
        raise OutputError(f"{', '.join(taken)}: already there; nothing was written", hint="choose another name")
    for path, text in texts.items():
        _write(path, text)
    steps = [f"engine {verb} {name}.toml" for verb in ("check", "run", "test")]
    if as_json:
        emit_json({"files": [str(path) for path in texts], "next": steps})
        return
    for path in texts:
        emit(f"wrote {path}")
    emit(f"next  {'   '.join(steps)}")


def _write(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8", newline="\n") as opened:
            opened.write(text)
    except OSError as exc:
        raise OutputError(f"cannot write {path}: {(exc.strerror or 'refused').lower()}") from exc
