"""`engine check`: every finding of every file at once; runs nothing, opens no connection."""

from __future__ import annotations

from typing import Any

import click

from engine.cli.invocation import Invocation, pass_invocation
from engine.cli.output import emit, emit_json, tell
from engine.errors import Exit, Finding, PlanError
from engine.pipeline.callback import unmet

FORMS = ("text", "json", "sarif")


@click.command(epilog="Example:  engine check people.toml")
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@click.option("--format", "form", type=click.Choice(FORMS), default="text", show_default=True)
@click.option("--json", "form", flag_value="json", help="The same as --format json.")
@pass_invocation
def check(invocation: Invocation, files: tuple[str, ...], form: str) -> int:
    """Find everything that is wrong with pipelines and settings.

    Exit 0 when all is well, 3 when there are findings. SARIF 2.1.0 is for code hosts and editors.
    """
    findings: list[Finding] = []
    good = []
    profile = "emulator"
    try:
        profile = invocation.settings().platform.profile
        good.append(invocation.config_path or "settings (no config.toml: defaults)")
    except PlanError as exc:
        findings += exc.findings
    for path in files:
        try:
            spec = invocation.pipeline(path)
            if spec.callback and (lack := unmet(spec.callback, profile=profile, path=path)):
                raise PlanError([lack])
            good.append(path)
        except PlanError as exc:
            findings += [found for found in exc.findings if str(found) not in map(str, findings)]
    _report(invocation, findings, good, form)
    return Exit.CONFIGURATION if findings else Exit.DONE


def _report(invocation: Invocation, findings: list[Finding], good: list[str], form: str) -> None:
    if form == "json":
        emit_json({"findings": [_plain(found) for found in findings], "ok": good})
        return
    if form == "sarif":
        from engine.cli.sarif import sarif_log

        emit_json(sarif_log(findings))
        return
    for name in good:
        emit(f"{name}: ok")
    if findings:
        from engine.cli.failures import render

        tell(render(PlanError(findings), invocation.paint()))


def _plain(found: Finding) -> dict[str, Any]:
    return {
        "path": found.path,
        "line": found.line,
        "column": found.column,
        "code": found.finding_code,
        "key": found.facts.get("key", ""),
        "message": found.message,
        "hint": found.hint,
        "options": found.facts.get("options", []),
    }
