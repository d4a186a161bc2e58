"""Failures: an error as a human reads it, and the exit code it ends the process with.

Always: what happened, where, what to do next. Never a traceback unless it was asked for.
"""

from __future__ import annotations

import errno
import traceback
from unicodedata import combining, east_asian_width

import click

from engine.cli.output import PIPE_CLOSED, Paint, PipeClosed
from engine.errors import EngineError, Exit, Finding, PlanError, RunFailed


def exit_code_of(error: BaseException) -> int:
    """The exit code an exception ends the process with."""
    match error:
        case RunFailed():
            return error.exit
        case EngineError():
            return error.exit_code
        case click.ClickException():
            return error.exit_code
        case PipeClosed():
            return PIPE_CLOSED
        case KeyboardInterrupt() | click.Abort():
            return Exit.FORCED
        case OSError(errno=errno.EMFILE | errno.ENFILE):
            return Exit.INTERRUPTED
        case _:
            return Exit.SOFTWARE


def render(error: BaseException, paint: Paint, *, debug: bool = False) -> str:
    """The text for stderr; empty when there is nothing worth saying."""
    match error:
        case PipeClosed():
            return ""
        case PlanError():
            text = _plan(error, paint)
        case Finding():
            text = _finding(error, paint)
        case RunFailed():
            text = _run(error, paint)
        case EngineError():
            text = _plain(error, paint)
        case click.ClickException():
            return _usage(error, paint)
        case KeyboardInterrupt() | click.Abort():
            text = "stopped"
        case OSError(errno=errno.EMFILE | errno.ENFILE):
            text = _head("system.files", "this process may open no more files", paint)
            text += f"\n  {paint.dim('help:')} raise `ulimit -n`, or lower platform.limits.concurrency, then run again"
        case _:
            text = _unknown(error, paint)
    return text + "\n\n" + "".join(traceback.format_exception(error)).rstrip() if debug else text


def _head(code: str, message: str, paint: Paint) -> str:
    return f"{paint.bad(f'error[{code}]')}: {paint.strong(message)}"


def _plan(error: PlanError, paint: Paint) -> str:
    blocks = [_finding(finding, paint) for finding in error.findings]
    if len(blocks) > 1:
        blocks.append(f"{len(blocks)} findings")
    return "\n\n".join(blocks)


def _finding(finding: Finding, paint: Paint) -> str:
    lines = [_head(finding.finding_code, finding.message, paint)]
    excerpt = str(finding.facts.get("excerpt", ""))
    if finding.line and finding.facts.get("length", 0) and excerpt.strip():
        lines += _block(finding, excerpt, paint)
    else:
        place = f":{finding.line}:{finding.column}" if finding.line else ""
        lines.append(f"  {paint.dim('┌─')} {finding.path}{place}")
        if finding.hint:
            lines.append(f"  {paint.dim('=')} {finding.hint}")
    if options := finding.facts.get("options"):
        lines.append(f"  {paint.dim('=')} options here: {', '.join(options)}")
    lines.append(f"  {paint.dim('=')} help: engine explain {finding.finding_code}")
    return "\n".join(lines)


def _block(finding: Finding, excerpt: str, paint: Paint) -> list[str]:
    number = str(finding.line)
    gutter = " " * len(number)
    start = finding.column - 1
    carets = "^" * max(1, _places(excerpt[start : start + int(finding.facts["length"])]))
    # A caret stands under what it means also after characters that take two places on a screen, or none.
    under = " " * _places(excerpt[:start]) + paint.bad(carets)
    return [
        f"{gutter} {paint.dim('┌─')} {finding.path}:{finding.line}:{finding.column}",
        f"{number} {paint.dim('│')} {excerpt}",
        f"{gutter} {paint.dim('│')} {under} {finding.hint}".rstrip(),
    ]


def _places(text: str) -> int:
    """How many places of a terminal's line a text takes."""
    return sum(0 if combining(mark) else 2 if east_asian_width(mark) in "FW" else 1 for mark in text)


def _plain(error: EngineError, paint: Paint) -> str:
    lines = [_head(error.code, error.message, paint)]
    lines += [f"  {name:<9} {value}" for name, value in error.facts.items() if value not in (None, "", [])]
    if error.hint:
        lines.append(f"  {paint.dim('help:')} {error.hint}")
    return "\n".join(lines)


def _run(error: RunFailed, paint: Paint) -> str:
    distinct = list({str(cause): cause for cause in error.causes}.values())
    if len(distinct) == 1:
        return _plain(distinct[0], paint)
    lines = [_head(error.code, error.message, paint)]
    for cause in distinct:
        lines += ["  " + line for line in _plain(cause, paint).split("\n")]
    return "\n".join(lines)


def _usage(error: click.ClickException, paint: Paint) -> str:
    lines = [f"{paint.bad('error[usage]')}: {paint.strong(error.format_message())}"]
    if isinstance(error, click.UsageError) and error.ctx is not None:
        lines.append(f"  {paint.dim('help:')} {error.ctx.command_path} --help")
    return "\n".join(lines)


def _unknown(error: BaseException, paint: Paint) -> str:
    # Only the type: the text of a foreign exception may hold anything, a secret or a record included.
    head = _head("engine.bug", f"something broke inside the engine: {type(error).__name__}", paint)
    return f"{head}\n  {paint.dim('help:')} run it again with --debug (or ENGINE_DEBUG=1) for the details"
