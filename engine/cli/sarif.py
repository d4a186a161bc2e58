"""SARIF: findings as a SARIF 2.1.0 log (OASIS), which code hosts and editors show at the line they are about.

Pure: findings in, plain data out. Columns count Unicode code points from 1, as ours do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from engine.errors import Finding
from engine.pipeline.findings import FINDINGS
from engine.version import __version__

VERSION = "2.1.0"
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_RULES = {code: index for index, code in enumerate(FINDINGS)}


def sarif_log(findings: Sequence[Finding]) -> dict[str, Any]:
    """One run of `engine check`: every code as a rule, every finding as a result."""
    rules = [
        {"id": code, "shortDescription": {"text": told}, "help": {"text": f"engine explain {code}"}}
        for code, told in FINDINGS.items()
    ]
    run = {
        "tool": {"driver": {"name": "engine", "version": __version__, "rules": rules}},
        "columnKind": "unicodeCodePoints",
        "results": [_result(found) for found in findings],
    }
    return {"$schema": SCHEMA, "version": VERSION, "runs": [run]}


def _result(found: Finding) -> dict[str, Any]:
    text = found.message + (f": {found.hint}" if found.hint else "")
    result = {
        "ruleId": found.finding_code,
        "ruleIndex": _RULES[found.finding_code],
        "level": "error",
        "message": {"text": text},
        "locations": [_location(found)],
    }
    if key := found.facts.get("key"):
        result["properties"] = {"key": key}
    return result


def _location(found: Finding) -> dict[str, Any]:
    if found.facts.get("is_outside"):
        # An environment variable or a flag has no file; its name is all there is of a place.
        return {"logicalLocations": [{"fullyQualifiedName": found.path}]}
    place: dict[str, Any] = {"artifactLocation": {"uri": quote(found.path)}}
    if found.line:
        length = max(1, int(found.facts.get("length", 0)))
        place["region"] = {
            "startLine": found.line,
            "startColumn": found.column,
            "endLine": found.line,
            "endColumn": found.column + length,
        }
        if excerpt := found.facts.get("excerpt"):
            place["region"]["snippet"] = {"text": excerpt}
    return {"physicalLocation": place}
