"""`engine check --format sarif` and `github`: findings as code hosts and editors can read them."""

import json
import shutil
from pathlib import Path

import jsonschema
import pytest

from engine.errors import Exit
from engine.pipeline.findings import FINDINGS

GOLDEN = Path(__file__).parents[1] / "pipeline" / "golden"
TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}}


def _shut(required: list[str], **properties) -> dict:
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


# The part of SARIF 2.1.0 that we write, each object with the properties that the standard gives it and we use.
REGION = _shut(
    ["startLine", "startColumn", "endLine", "endColumn"],
    **{key: {"type": "integer", "minimum": 1} for key in ("startLine", "startColumn", "endLine", "endColumn")},
    snippet=TEXT,
)
PHYSICAL = _shut(
    ["artifactLocation"],
    artifactLocation=_shut(["uri"], uri={"type": "string", "format": "uri-reference"}),
    region=REGION,
)
LOGICAL = {"type": "array", "minItems": 1, "items": _shut([], fullyQualifiedName={"type": "string"})}
RESULT = _shut(
    ["ruleId", "message"],
    ruleId={"enum": list(FINDINGS)},
    ruleIndex={"type": "integer", "minimum": -1},
    level={"enum": ["none", "note", "warning", "error"]},
    message=TEXT,
    locations={"type": "array", "items": _shut([], physicalLocation=PHYSICAL, logicalLocations=LOGICAL)},
    properties={"type": "object"},
)
RULE = _shut(["id"], id={"type": "string"}, shortDescription=TEXT, help=TEXT)
DRIVER = _shut(
    ["name"],
    name={"type": "string"},
    version={"type": "string"},
    rules={"type": "array", "items": RULE, "uniqueItems": True},
)
RUN = _shut(
    ["tool"],
    tool=_shut(["driver"], driver=DRIVER),
    columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
    results={"type": "array", "items": RESULT},
)
LOG = _shut(
    ["version", "runs"], **{"$schema": {"type": "string", "format": "uri"}}, version={"const": "2.1.0"},
    runs={"type": "array", "items": RUN},
)  # fmt: skip


def _log(answer) -> dict:
    log = json.loads(answer.stdout)
    jsonschema.Draft202012Validator(LOG, format_checker=jsonschema.FormatChecker()).validate(log)
    return log["runs"][0]


@pytest.mark.parametrize("code", FINDINGS)
def test_each_finding_is_a_result_at_its_place(engine, folder, code) -> None:
    """A finding of each code is a result whose rule, file, line and columns are those of the text."""
    shutil.copy(GOLDEN / f"{code}.toml", folder)
    place, *shown = (GOLDEN / f"{code}.txt").read_text(encoding="utf-8").splitlines()[1:]
    _, line, column = place.rpartition("┌─ ")[2].split(":")

    answer = engine("check", f"{code}.toml", "--format", "sarif")
    run = _log(answer)

    (result,) = run["results"]
    where = result["locations"][0]["physicalLocation"]
    assert answer.exit_code == Exit.CONFIGURATION
    assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"] == code
    assert where["artifactLocation"]["uri"] == f"{code}.toml"
    assert (where["region"]["startLine"], where["region"]["startColumn"]) == (int(line), int(column))
    if "^" in "".join(shown):
        assert where["region"]["endColumn"] - where["region"]["startColumn"] == shown[1].count("^")


def test_files_without_a_fault_are_a_log_without_results(engine) -> None:
    """All is well: a valid log, no result, exit 0, nothing on stderr."""
    answer = engine("check", "people.toml", "--format", "sarif")

    assert (answer.exit_code, answer.stderr, _log(answer)["results"]) == (0, "", [])


def test_names_and_flags_are_places_too(engine, folder) -> None:
    """A path is escaped as a URI; what a flag did wrong is at the flag, not in a file."""
    (folder / "müde rows.toml").write_text((folder / "people.toml").read_text().replace("rows = 10", "rows = 0"))

    (result,) = _log(engine("check", "müde rows.toml", "--format", "sarif"))["results"]
    flagged = _log(engine("--set", "job.batch.rows=0", "check", "people.toml", "--format", "sarif"))["results"]

    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "m%C3%BCde%20rows.toml"
    assert flagged[0]["locations"] == [{"logicalLocations": [{"fullyQualifiedName": "--set job.batch.rows"}]}]


def test_a_workflow_shows_findings_at_their_lines(engine, folder) -> None:
    """`--format github`: one command a finding, with file, line and columns; nothing in it can be another command."""
    (folder / "a,b.toml").write_text((folder / "people.toml").read_text().replace("rows = 10", 'rows = "50%\\n::x"'))

    answer = engine("check", "a,b.toml", "--format", "github")

    (line,) = answer.stdout.splitlines()
    assert answer.exit_code == Exit.CONFIGURATION
    assert line.startswith(
        "::error file=a%2Cb.toml,title=config.type,line=11,col=18,endColumn=27::`rows` needs an integer"
    )
    assert "50%25" in line
    flagged = engine("--set", "job.batch.rows=0", "check", "people.toml", "--format", "github").stdout
    assert flagged.startswith("::error title=config.range::")
