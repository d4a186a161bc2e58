"""`engine explain`: what an error code means, who must act, and what to do."""

from __future__ import annotations

import inspect

import click

from engine.cli.output import emit
from engine.errors import ERRORS, EngineError, Exit, Retry
from engine.pipeline.findings import FINDINGS, did_you_mean

_RETRY = {
    Retry.NEVER: "trying again cannot help",
    Retry.SOON: "tried again at once, then with growing pauses",
    Retry.LATER: "tried again later, no sooner than the platform asks",
    Retry.HALT: "ends the run: nothing like it will succeed until somebody acts",
}


@click.command()
@click.argument("code", required=False)
def explain(code: str | None) -> None:
    """Say what an error CODE means; without one, list all codes."""
    errors = {kind.code: kind for kind in ERRORS}
    if code is None:
        for name in sorted({*errors, *FINDINGS}):
            emit(name)
    elif code in FINDINGS:
        emit(f"{code}  (exit {Exit.CONFIGURATION})\n\n{FINDINGS[code]}")
    elif code in errors:
        emit(_page(errors[code]))
    else:
        hint = did_you_mean(code, (*errors, *FINDINGS))
        raise click.UsageError(f"no such code `{code}`" + (f"; {hint}" if hint else ""))


def _page(kind: type[EngineError]) -> str:
    lines = [f"{kind.code}  (exit {kind.exit_code})", "", inspect.cleandoc(kind.__doc__ or "")]
    lines += ["", f"retry: {_RETRY[kind.retry]}"]
    if kind.default_hint:
        lines.append(f"help: {kind.default_hint}")
    return "\n".join(lines)
