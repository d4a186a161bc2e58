"""`engine check`: every finding of every file at once; runs nothing, opens no connection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from engine.cli.invocation import Invocation, pass_invocation
from engine.cli.output import emit, emit_json, tell
from engine.errors import ConfigError, Exit, Finding, PlanError
from engine.pipeline.callback import unmet
from engine.pipeline.findings import Document, Fault, to_findings
from engine.pipeline.locate import KeyPath
from engine.pipeline.spec import PipelineSpec

FORMS = ("text", "json", "sarif", "github")


@click.command(epilog="Example:  engine check people.toml")
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@click.option("--format", "form", type=click.Choice(FORMS), default="text", show_default=True)
@click.option("--json", "form", flag_value="json", help="The same as --format json.")
@pass_invocation
def check(invocation: Invocation, files: tuple[str, ...], form: str) -> int:
    """Find everything that is wrong with pipelines and settings.

    Exit 0 when all is well, 3 when there are findings. sarif (2.1.0) is for code hosts
    and editors, github for the log of a workflow.
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
            if bad := _bad_scripts(path, spec):
                raise PlanError(bad)
            good.append(path)
        except PlanError as exc:
            findings += [found for found in exc.findings if str(found) not in map(str, findings)]
    _report(invocation, findings, good, form)
    return Exit.CONFIGURATION if findings else Exit.DONE


def _bad_scripts(path: str, spec: PipelineSpec) -> list[Finding]:
    """Fault scripts of `[[test]]` blocks that the emulator would not take; only it knows what they may say."""
    from engine.emulator.faults import Faults

    faults: list[Fault] = []
    for index, scenario in enumerate(spec.test):
        for number, rule in enumerate(scenario.faults):
            try:
                Faults([rule])
            except ConfigError as exc:
                key, _, said = exc.message.removeprefix("faults: fault[1].").partition(" ")
                place: KeyPath = ("test", index, "faults", number, key)
                is_unknown = said.startswith("is not known")
                code = "config.unknown_key" if is_unknown else "config.choice"
                message = f"`{key}` of the fault {said}"
                faults.append(Fault(at=place, code=code, message=message, about="key" if is_unknown else "value"))
    if not faults:
        return []
    return to_findings(faults, Document(path=path, text=Path(path).read_text(encoding="utf-8-sig")))


def _report(invocation: Invocation, findings: list[Finding], good: list[str], form: str) -> None:
    if form == "json":
        emit_json({"findings": [_plain(found) for found in findings], "ok": good})
        return
    if form == "sarif":
        from engine.cli.sarif import sarif_log

        emit_json(sarif_log(findings))
        return
    if form == "github":
        from engine.cli.annotations import error_commands

        for line in error_commands(findings):
            emit(line)
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
