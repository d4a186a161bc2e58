"""Annotations: findings as the workflow commands by which a log of GitHub Actions shows them beside the line.

Pure: findings in, lines out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.errors import Finding


def error_commands(findings: Sequence[Finding]) -> Iterator[str]:
    """One `::error …::…` line for each finding."""
    for found in findings:
        where: dict[str, object] = {"title": found.finding_code}
        if not found.facts.get("is_outside"):
            where = {"file": found.path, **where}
        if found.line:
            end = found.column + max(1, int(found.facts.get("length", 0))) - 1
            where |= {"line": found.line, "col": found.column, "endColumn": end}
        members = ",".join(f"{name}={_escaped(str(value), also=':,')}" for name, value in where.items())
        text = found.message + (f": {found.hint}" if found.hint else "")
        yield f"::error {members}::{_escaped(text)}"


def _escaped(text: str, *, also: str = "") -> str:
    """Text in which nothing is a command: percent signs and line ends, in members separators too."""
    return "".join(f"%{ord(mark):02X}" if mark in "%\r\n" + also else mark for mark in text)
