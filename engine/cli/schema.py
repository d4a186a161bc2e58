"""`engine schema`: the JSON Schemas of pipeline files and of config.toml, for editors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from engine.cli.invocation import Invocation, pass_invocation
from engine.cli.output import emit, tell
from engine.errors import OutputError
from engine.pipeline.schema import SCHEMAS


@click.command(epilog="Example:  engine schema --write")
@click.argument("which", type=click.Choice(list(SCHEMAS)), default="pipeline")
@click.option("-o", "--output", metavar="FILE", default="-", help="Write there; - is stdout.")
@click.option("--write", is_flag=True, help="Write all of them under the state directory.")
@pass_invocation
def schema(invocation: Invocation, which: str, output: str, write: bool) -> None:  # noqa: FBT001
    """Print the JSON Schema of pipeline files (the default) or of config.toml.

    Editors find it by the first line of a file: #:schema ../.engine/schema/pipeline.v1.json
    """
    if write:
        folder = Path(invocation.settings().state_dir) / "schema"
        for name, make in SCHEMAS.items():
            _save(folder / f"{name}.v1.json", make())
        return
    document = SCHEMAS[which]()
    if output == "-":
        emit(_text(document))
    else:
        _save(Path(output), document)


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False)


def _save(path: Path, document: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_text(document) + "\n", encoding="utf-8")
    except OSError as exc:
        raise OutputError(f"cannot write {path}: {(exc.strerror or 'refused').lower()}") from exc
    tell(f"wrote {path}")
