"""`engine explain`: what an error code means, who must act, and what to do."""

from __future__ import annotations

import inspect
from typing import Any

import click

from engine.cli.output import emit, emit_json
from engine.errors import ERRORS, EngineError, Exit, Retry
from engine.pipeline.findings import FINDINGS, did_you_mean

_RETRY = {
    Retry.NEVER: "trying again cannot help",
    Retry.SOON: "tried again at once, then with growing pauses",
    Retry.LATER: "tried again later, no sooner than the platform asks",
    Retry.HALT: "ends the run: nothing like it will succeed until somebody acts",
}


@click.command(epilog="Example:  engine explain config.unit")
@click.argument("code", required=False)
@click.option("--json", "is_json", is_flag=True, help="One JSON object per code.")
def explain(code: str | None, is_json: bool) -> None:  # noqa: FBT001
    """Say what an error CODE means; without one, list all codes."""
    errors = {kind.code: kind for kind in ERRORS}
    if is_json and (code is None or code in errors or code in FINDINGS):
        for name in sorted({*errors, *FINDINGS}) if code is None else [code]:
            emit_json(_plain(name, errors.get(name)))
    elif code is None:
        for name in sorted({*errors, *FINDINGS}):
            emit(name)
    elif code in FINDINGS:
        emit(f"{code}  (exit {Exit.CONFIGURATION})\n\n{FINDINGS[code]}")
    elif code in errors:
        emit(_page(errors[code]))
    else:
        hint = did_you_mean(code, (*errors, *FINDINGS))
        raise click.UsageError(f"no such code `{code}`" + (f"; {hint}" if hint else ""))


def _plain(code: str, kind: type[EngineError] | None) -> dict[str, Any]:
    """What the page says, as data."""
    if kind is None:
        return {"code": code, "exit": Exit.CONFIGURATION, "says": FINDINGS[code], "retry": "never", "hint": ""}
    says = inspect.cleandoc(kind.__doc__ or "")
    return {"code": code, "exit": kind.exit_code, "says": says, "retry": kind.retry.value, "hint": kind.default_hint}


def _page(kind: type[EngineError]) -> str:
    lines = [f"{kind.code}  (exit {kind.exit_code})", "", inspect.cleandoc(kind.__doc__ or "")]
    lines += ["", f"retry: {_RETRY[kind.retry]}"]
    if kind.default_hint:
        lines.append(f"help: {kind.default_hint}")
    return "\n".join(lines)
